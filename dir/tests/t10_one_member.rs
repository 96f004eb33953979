//! A DIR of one member, with its real log, table and clock; OSDs are TCP listeners that answer `Status`.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dir::{Dir, DirConfig};
use proto::dir::*;
use proto::error::{Code, WireError};
use proto::id::{GroupId, MemberId};
use proto::rpc::{Empty, Method, Origin};
use proto::stripe::Striping;
use quorum::{Durability, GroupConfig, Member};
use rt::clock::SystemClock;
use rt::disk::os::OsDisk;
use rt::rpc::{BoxFuture, Connector, Peer, Request, Response, Service, call, unknown_method};
use rt::table::rocks::{RocksTable, Sizes};

struct Bed {
    /// Accepts and never answers: an OSD there is hung, not dead.
    _hung: tokio::net::TcpListener,
    hung: String,
    dir: Arc<Dir>,
    connector: Arc<Connector>,
}

impl Bed {
    async fn start(path: &Path) -> Self {
        let connector = Connector::new();
        let quorum = GroupConfig {
            group: GroupId(1),
            me: MemberId(1),
            members: vec![Member { id: MemberId(1), addr: "local://dir".into() }],
            durability: Durability::Quorum,
            boot_id: "boot".into(),
            tick: Duration::from_millis(10),
            log: OsDisk::open(path.join("log")).unwrap(),
            reserve_bytes: 0,
            table: RocksTable::open(path.join("table"), Sizes::default()).unwrap(),
            // Not the one that knows the DIR: each would keep the other, and the table its lock, for ever.
            connector: Connector::new(),
            clock: SystemClock::new(),
        };
        let dir = Dir::start(DirConfig::new(quorum)).await.unwrap();
        connector.register_local("dir", dir.clone());
        let _hung = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hung = format!("tcp://{}", _hung.local_addr().unwrap());
        Self { _hung, hung, dir, connector }
    }

    async fn call<M: Method>(&self, message: &M::Request) -> Result<M::Reply, WireError> {
        call::<M>(&*self.connector.channel("local://dir").unwrap(), message).await
    }

    async fn beat(&self, uuid: &str, addr: &str, free_bytes: u64) -> OsdHeartbeatReply {
        let entry = OsdEntry { uuid: uuid.into(), addr: addr.into(), free_bytes, ..OsdEntry::default() };
        self.call::<HeartbeatOsd>(&OsdHeartbeat { entry, known_epoch: 0, leaving: false }).await.unwrap()
    }

    async fn map(&self, known_epoch: u64, wait_ms: u64) -> OsdMap {
        self.call::<Map>(&GetMap { known_epoch, wait_ms, dirs: 0, full: 0 }).await.unwrap()
    }

    async fn mrc(&self) -> ServiceHeartbeatReply {
        let entry = ServiceEntry {
            uuid: "m".into(),
            role: "mrc".into(),
            name: "mrc-0".into(),
            addr: "tcp://127.0.0.1:9".into(),
            group: 2,
            member: 1,
            ..ServiceEntry::default()
        };
        self.call::<HeartbeatService>(&entry).await.unwrap()
    }

    fn committed(&self) -> u64 {
        self.dir.group().status().committed
    }
}

fn state(map: &OsdMap, osd: u64) -> OsdState {
    OsdState::try_from(map.osds.iter().find(|entry| entry.osd == osd).unwrap().state).unwrap()
}

/// An OSD as a probe sees it.
struct Living;

impl Service for Living {
    fn call(self: Arc<Self>, _: Peer, request: Request) -> BoxFuture<'static, Result<Response, WireError>> {
        Box::pin(async move {
            match request.method {
                proto::osd::Status::NUMBER => Ok(Response::of(&proto::osd::OsdStatus::default())),
                other => Err(unknown_method("this OSD", other)),
            }
        })
    }
}

/// An address that refuses connections.
async fn refusing() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("tcp://{}", listener.local_addr().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_register_once_and_then_leave_the_log_alone() {
    let home = tempfile::tempdir().unwrap();
    let bed = Bed::start(home.path()).await;
    let first = bed.beat("a", &bed.hung, 1).await;
    assert_eq!((first.osd, first.lease_ms), (1, proto::limits::OSD_LEASE_MS));
    assert_eq!(first.map.unwrap().epoch, 1);
    assert_eq!((first.keys.len(), first.keys[0].secret.len()), (1, 32));
    assert_eq!(bed.beat("b", &bed.hung, 1).await.osd, 2);
    let service = bed.mrc().await;
    assert_eq!(service.keys, first.keys);
    assert_eq!(service.cluster.len(), 36);
    let committed = bed.committed();
    for free in 0..50 {
        assert_eq!(bed.beat("a", &bed.hung, free).await.osd, 1);
        bed.mrc().await;
    }
    assert_eq!(bed.committed(), committed, "nothing changed that must be remembered");
    let map = bed.map(0, 0).await;
    assert_eq!((map.epoch, map.osds[0].free_bytes), (2, 49));
    assert_eq!(bed.call::<Services>(&Empty {}).await.unwrap().services[0].name, "mrc-0");
    bed.dir.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_takes_down_and_a_heartbeat_brings_back() {
    let home = tempfile::tempdir().unwrap();
    let bed = Bed::start(home.path()).await;
    bed.beat("a", &bed.hung, 1).await;
    let start = Instant::now();
    let map = bed.map(1, 10_000).await;
    assert_eq!((map.epoch, state(&map, 1)), (2, OsdState::Down));
    let took = start.elapsed();
    assert!(
        (u128::from(proto::limits::OSD_LEASE_MS) - 100..4000).contains(&took.as_millis()),
        "the long poll woke after {took:?}"
    );
    bed.beat("a", &bed.hung, 1).await;
    let map = bed.map(0, 0).await;
    assert_eq!((map.epoch, state(&map, 1)), (3, OsdState::Up));
    let set = |state: OsdState| SetOsdState { origin: Origin::default(), osd: 1, state: state as i32 };
    bed.call::<OsdSetState>(&set(OsdState::Draining)).await.unwrap();
    bed.beat("a", &bed.hung, 1).await;
    let map = bed.map(0, 0).await;
    assert_eq!((map.epoch, state(&map, 1)), (4, OsdState::Draining));
    bed.dir.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_osd_that_nobody_uses_is_found_by_its_late_heartbeat() {
    let home = tempfile::tempdir().unwrap();
    let bed = Bed::start(home.path()).await;
    bed.beat("dead", &refusing().await, 1).await;
    let start = Instant::now();
    let map = bed.map(1, 10_000).await;
    assert_eq!((map.epoch, state(&map, 1)), (2, OsdState::Down));
    let took = start.elapsed();
    assert!(
        (u128::from(proto::limits::OSD_HEARTBEAT_MS) * 4 / 3 - 50..1200).contains(&took.as_millis()),
        "known after {took:?}"
    );
    bed.dir.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_report_takes_down_at_once_and_a_false_one_does_not() {
    let home = tempfile::tempdir().unwrap();
    let bed = Bed::start(home.path()).await;
    let dead = refusing().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let living = format!("tcp://{}", listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    tokio::spawn(rt::rpc::tcp::serve(listener, Arc::new(Living), None, stopped));
    bed.beat("dead", &dead, 1).await;
    bed.beat("living", &living, 1).await;
    let report = |osd, addr: &str, reporter: &str| ReportDown {
        osd,
        addr: addr.into(),
        reporter: reporter.into(),
        refused: true,
    };
    bed.call::<Report>(&report(2, &living, "client-1")).await.unwrap();
    assert_eq!(state(&bed.map(0, 0).await, 2), OsdState::Up, "it answers the DIR: it lives");
    let start = Instant::now();
    bed.call::<Report>(&report(1, &dead, "client-1")).await.unwrap();
    let map = bed.map(0, 0).await;
    assert!(start.elapsed() < Duration::from_millis(700), "known after {:?}", start.elapsed());
    assert_eq!((state(&map, 1), state(&map, 2)), (OsdState::Down, OsdState::Up));
    stop.send(true).unwrap();
    bed.dir.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_made_once_found_and_removed() {
    let home = tempfile::tempdir().unwrap();
    let bed = Bed::start(home.path()).await;
    let striping = Striping { stripe_bytes: 1 << 20, width: 1, replicas: 1, replication: 0, coding: None };
    let make = |sequence, name: &str| CreateVolume {
        origin: Origin { session: 7, sequence, acked_below: 0 },
        entry: VolumeEntry { name: name.into(), striping, mode: 0o755, ..VolumeEntry::default() },
    };
    let refused = bed.call::<VolumeCreate>(&make(1, "v")).await.unwrap_err();
    assert_eq!(refused.code, Code::Unavailable, "no metadata service yet");
    bed.mrc().await;
    let made = bed.call::<VolumeCreate>(&make(1, "v")).await.unwrap();
    assert_eq!((made.volume, made.mrc.group), (1, 2));
    assert_eq!(made.mrc.addrs, ["tcp://127.0.0.1:9"]);
    assert_eq!(
        bed.call::<VolumeCreate>(&make(1, "v")).await.unwrap(),
        made,
        "a repeat gets the recorded answer"
    );
    assert_eq!(bed.call::<VolumeCreate>(&make(2, "v")).await.unwrap_err().code, Code::Exists);
    let list = |name: &str| ListVolumes { name: name.into() };
    assert_eq!(bed.call::<Volumes>(&list("")).await.unwrap().volumes, std::slice::from_ref(&made));
    let remove =
        RemoveVolume { origin: Origin { session: 7, sequence: 3, acked_below: 0 }, name: "v".into() };
    bed.call::<VolumeRemove>(&remove).await.unwrap();
    assert!(bed.call::<Volumes>(&list("v")).await.unwrap().volumes.is_empty());
    assert_eq!(bed.call::<VolumeCreate>(&make(4, "v")).await.unwrap().volume, 2);
    bed.dir.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_identity_numbers_and_keys() {
    let home = tempfile::tempdir().unwrap();
    // The same place before and after.
    let hung = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = format!("tcp://{}", hung.local_addr().unwrap());
    let (before, cluster) = {
        let bed = Bed::start(home.path()).await;
        bed.beat("a", &addr, 1).await;
        bed.mrc().await;
        bed.dir.rotate_key().await.unwrap();
        let before = bed.beat("b", &addr, 1).await;
        assert_eq!(before.keys.len(), 2);
        assert_eq!(bed.mrc().await.keys, before.keys[1..], "too young to sign with");
        let cluster = bed.dir.view().cluster.clone();
        bed.dir.shutdown().await.unwrap();
        (before, cluster)
    };
    let bed = Bed::start(home.path()).await;
    let after = bed.beat("b", &addr, 1).await;
    assert_eq!((after.osd, &after.keys), (2, &before.keys));
    assert_eq!(after.map.unwrap().epoch, before.map.unwrap().epoch);
    assert_eq!(bed.dir.view().cluster, cluster);
    let services = bed.call::<Services>(&Empty {}).await.unwrap().services;
    assert_eq!(services[0].addr, "tcp://127.0.0.1:9", "last known address");
    bed.dir.shutdown().await.unwrap();
}

/// A poll that knows which OSDs are full is answered as soon as others are; also when that was so before it came.
#[tokio::test(flavor = "multi_thread")]
async fn a_poll_hears_at_once_that_an_osd_is_full() {
    let home = tempfile::tempdir().unwrap();
    let bed = Bed::start(home.path()).await;
    let beat = async |free_bytes| {
        let entry = OsdEntry {
            uuid: "a".into(),
            addr: bed.hung.clone(),
            total_bytes: 1 << 40,
            free_bytes,
            ..OsdEntry::default()
        };
        let beat = OsdHeartbeat { entry, known_epoch: 0, leaving: false };
        bed.call::<HeartbeatOsd>(&beat).await.unwrap();
    };
    let poll = async |known: &OsdMap, full| {
        let message = GetMap { known_epoch: known.epoch, wait_ms: 700, dirs: 0, full };
        let start = Instant::now();
        (bed.call::<Map>(&message).await.unwrap(), start.elapsed())
    };
    beat(1 << 39).await;
    let roomy = bed.map(0, 0).await;
    let digest = digest_of_full(&roomy.osds);
    let ((same, waited), ()) = tokio::join!(poll(&roomy, digest), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        beat(1 << 38).await;
    });
    assert_eq!((same.epoch, same.osds[0].free_bytes), (roomy.epoch, 1 << 38));
    assert!(waited >= Duration::from_millis(600), "less room is no news: {waited:?}");
    // How soon depends on the machine; what is certain is that the poll did not wait to its end.
    let ((full, waited), ()) = tokio::join!(poll(&roomy, digest), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        beat(1 << 20).await;
    });
    assert_eq!((full.epoch, full.osds[0].free_bytes), (roomy.epoch, 1 << 20));
    assert!(waited < Duration::from_millis(600), "told after {waited:?}");
    let (_, waited) = poll(&roomy, digest).await;
    assert!(waited < Duration::from_millis(600), "it had missed it: told after {waited:?}");
    // Whoever does not care waits for the map alone.
    let (_, waited) = poll(&roomy, 0).await;
    assert!(waited >= Duration::from_millis(600), "waited {waited:?}");
    bed.dir.shutdown().await.unwrap();
}
