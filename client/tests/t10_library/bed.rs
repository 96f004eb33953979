//! DIR, MRC and OSDs of this process, a volume, and clients.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, ClientConfig, Patience, Volume};
use dir::{Dir, DirConfig};
use mrc::{Mrc, MrcConfig};
use osd::agent::{Agent, AgentConfig};
use osd::{Osd, OsdConfig};
use proto::dir::{CreateVolume, ServiceEntry, VolumeCreate, VolumeEntry};
use proto::id::{GroupId, MemberId};
use proto::mrc::{Head, InitVolume, InoRequest, StatFs, VolumeInit};
use proto::rpc::{Method, Origin};
use proto::stripe::Striping;
use quorum::{Durability, GroupConfig, Member};
use rt::clock::SystemClock;
use rt::disk::os::OsDisk;
use rt::rpc::tcp::serve;
use rt::rpc::{Connector, Service, call};
use rt::table::rocks::{RocksTable, Sizes};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Stripe size of the test volume, bytes.
pub(crate) const STRIPE: u32 = 64 << 10;

/// A whole instance.
pub(crate) struct Bed {
    pub(crate) connector: Arc<Connector>,
    clock: Arc<SystemClock>,
    pub(crate) osds: Vec<Arc<Osd>>,
    agents: Vec<Agent>,
    pub(crate) mrc: Arc<Mrc>,
    dir: Arc<Dir>,
    place: TempDir,
    /// Services listen on TCP too, for other processes.
    tcp: bool,
    addrs: BTreeMap<String, String>,
    shutdown: watch::Sender<bool>,
}

impl Bed {
    /// Starts everything, with a volume `v` striped over all OSDs.
    pub(crate) async fn start(osds: u32) -> Self {
        Self::start_with(osds, false).await
    }

    /// Like [`Bed::start`]; with `tcp` other processes can reach it.
    pub(crate) async fn start_with(osds: u32, tcp: bool) -> Self {
        let place = tempfile::tempdir_in("/tmp").expect("a place for the test");
        let (connector, clock) = (Connector::new(), SystemClock::new());
        let shutdown = watch::Sender::new(false);
        let mut addrs = BTreeMap::new();
        let (dir_at, mrc_at) = (Door::new(tcp, "dir").await, Door::new(tcp, "mrc").await);
        let config = DirConfig::new(group(place.path(), "dir", 1, &dir_at.addr, &connector, &clock));
        let dir = Dir::start(config).await.expect("the DIR starts");
        addrs.insert("dir".to_owned(), dir_at.open(&connector, dir.clone(), &shutdown));
        let entry = ServiceEntry {
            uuid: "mrc-uuid".into(),
            name: "mrc-0".into(),
            addr: mrc_at.addr.clone(),
            ..ServiceEntry::default()
        };
        let group = group(place.path(), "mrc", 2, &mrc_at.addr, &connector, &clock);
        let config = MrcConfig { group, dir: vec![addrs["dir"].clone()], entry };
        let mrc = Mrc::start(config).await.expect("the MRC starts");
        addrs.insert("mrc".to_owned(), mrc_at.open(&connector, mrc.clone(), &shutdown));
        let (osd_list, agents) = (Vec::new(), Vec::new());
        let mut bed =
            Self { connector, clock, osds: osd_list, agents, mrc, dir, place, tcp, addrs, shutdown };
        for number in 0..osds {
            bed.start_osd(number).await;
        }
        bed.make_volume(osds).await;
        bed
    }

    /// Address of a service.
    pub(crate) fn addr(&self, name: &str) -> &str {
        &self.addrs[name]
    }

    /// DIR and OSDs by name, for clients with ways of their own to them.
    pub(crate) fn services(&self) -> Vec<(String, Arc<dyn Service>)> {
        let dir: Arc<dyn Service> = self.dir.clone();
        let osds = self.osds.iter().map(|osd| {
            let service: Arc<dyn Service> = osd.clone();
            (osd.uuid().replace("uuid", "osd"), service)
        });
        std::iter::once(("dir".to_owned(), dir)).chain(osds).collect()
    }

    async fn start_osd(&mut self, number: u32) {
        let name = format!("osd-{number}");
        let path = self.place.path().join(&name);
        std::fs::create_dir_all(&path).expect("a directory for the OSD");
        let mut config = OsdConfig::new(path, format!("uuid-{number}"), self.clock.clone());
        (config.shards, config.capacity_bytes) = (1, 1 << 30);
        let osd = Osd::open(config).expect("the OSD starts");
        let addr = Door::new(self.tcp, &name).await.open(&self.connector, osd.clone(), &self.shutdown);
        self.addrs.insert(name.clone(), addr.clone());
        let dirs = vec![self.addr("dir").to_owned()];
        let config = AgentConfig { dirs, addr, domain: name, http: String::new() };
        let agent = Agent::start(osd.clone(), self.connector.clone(), config);
        agent.registered().await;
        self.osds.push(osd);
        self.agents.push(agent);
    }

    pub(crate) async fn call<M: Method>(&self, name: &str, message: &M::Request) -> M::Reply {
        let mut last = None;
        for _ in 0..200 {
            let channel = self.connector.channel(self.addr(name)).expect("a known address");
            match call::<M>(&*channel, message).await {
                Ok(reply) => return reply,
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{}: {last:?}", M::NAME);
    }

    async fn make_volume(&self, width: u32) {
        let striping = Striping { stripe_bytes: STRIPE, width, replicas: 1, replication: 0, coding: None };
        let origin = Origin { session: 77, sequence: 1, acked_below: 1 };
        let entry = VolumeEntry { name: "v".into(), striping, mode: 0o777, ..VolumeEntry::default() };
        let made = self.call::<VolumeCreate>("dir", &CreateVolume { origin, entry }).await;
        let (volume, name) = (made.volume, made.name);
        let init = InitVolume { origin, volume, name, striping, mode: 0o777, uid: 0, gid: 0 };
        self.call::<VolumeInit>("mrc", &init).await;
        self.all_osds_known(volume, width).await;
    }

    /// The MRC hears of the map by push: until then it places files on the OSDs it knows.
    async fn all_osds_known(&self, volume: u64, osds: u32) {
        let head = Head { volume, ..Head::default() };
        for _ in 0..200 {
            let totals = self.call::<StatFs>("mrc", &InoRequest { head: head.clone(), ino: 1 }).await;
            if totals.total_bytes >= u64::from(osds) << 30 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the MRC never heard of all {osds} OSDs");
    }

    async fn client(&self, name: &str, patience: Patience) -> Arc<Client> {
        let config = ClientConfig {
            connector: self.connector.clone(),
            patience,
            ..ClientConfig::new(vec![self.addr("dir").to_owned()], name)
        };
        Client::connect(config).await.expect("the DIR is there")
    }

    pub(crate) async fn volume(&self, name: &str) -> Arc<Volume> {
        let patience = Patience::For(Duration::from_secs(10));
        self.client(name, patience).await.volume("v").await.expect("the volume is there")
    }

    /// A client that tries for ever, as a mount does.
    pub(crate) async fn patient_volume(&self, name: &str) -> Arc<Volume> {
        self.client(name, Patience::Forever).await.volume("v").await.expect("the volume is there")
    }

    pub(crate) async fn stop(self) {
        self.shutdown.send_replace(true);
        drop(self.agents);
        self.mrc.shutdown().await.expect("the MRC stops");
        self.dir.shutdown().await.expect("the DIR stops");
        for osd in self.osds {
            osd.shutdown().await.expect("the OSD stops");
        }
    }
}

/// Where a service is reached.
struct Door {
    addr: String,
    name: String,
    listener: Option<TcpListener>,
}

impl Door {
    async fn new(tcp: bool, name: &str) -> Self {
        let name = name.to_owned();
        if !tcp {
            return Self { addr: format!("local://{name}"), name, listener: None };
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = format!("tcp://{}", listener.local_addr().expect("it is bound"));
        Self { addr, name, listener: Some(listener) }
    }

    fn open(
        self,
        connector: &Connector,
        service: Arc<dyn Service>,
        shutdown: &watch::Sender<bool>,
    ) -> String {
        match self.listener {
            None => connector.register_local(&self.name, service),
            Some(listener) => {
                connector.register_at(&self.addr, service.clone());
                tokio::spawn(serve(listener, service, None, shutdown.subscribe()));
            }
        }
        self.addr
    }
}

fn group(
    place: &Path,
    name: &str,
    number: u64,
    addr: &str,
    connector: &Arc<Connector>,
    clock: &Arc<SystemClock>,
) -> GroupConfig {
    let table = RocksTable::open(place.join(name).join("table"), Sizes::default());
    GroupConfig {
        group: GroupId(number),
        me: MemberId(1),
        members: vec![Member { id: MemberId(1), addr: addr.to_owned() }],
        durability: Durability::Quorum,
        boot_id: "boot".into(),
        tick: Duration::from_millis(10),
        log: OsDisk::open(place.join(name).join("log")).expect("a directory for the log"),
        reserve_bytes: 0,
        table: table.expect("a directory for the table"),
        connector: connector.clone(),
        clock: clock.clone(),
    }
}

/// Bytes that tell where they belong.
pub(crate) fn pattern(offset: u64, len: usize) -> Vec<u8> {
    (offset..offset + len as u64).map(|at| (at.wrapping_mul(31) ^ (at >> 9)) as u8).collect()
}
