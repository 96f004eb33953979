//! A member of a group of one, with its DIR and OSD played by the test, as clients see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use mrc::namespace::keys::table;
use mrc::{Mrc, MrcConfig};
use parking_lot::Mutex;
use proto::capability::{Capability, CapabilityKey, READ, REMOVE, WRITE};
use proto::dir::{HeartbeatService, Map, OsdEntry, OsdMap, ServiceEntry, ServiceHeartbeatReply};
use proto::error::{Code, WireError};
use proto::id::{GroupId, MemberId};
use proto::mrc::{
    Close, CloseRequest, Create, CreateRequest, DropVolume, EntryRequest, GetAttr, GetLayout, Head,
    InitVolume, InoRequest, Lock, LockRequest, Lookup, MakeRequest, MetadataSync, MkDir, Open, OpenFile,
    OpenReply, OpenRequest, OpenSession, RemoveEntry, Rename, RenameRequest, RenewSession, SessionOpen,
    SessionRenew, SessionReply, StatFs, SyncMetadata, Unlink, VolumeDrop, VolumeInit, kind,
};
use proto::osd::{Fence, RemoveMany, RemovedMany};
use proto::rpc::{Empty, Method, Origin};
use proto::stripe::Striping;
use quorum::{Durability, GroupConfig, Member};
use rt::clock::{Clock, SystemClock};
use rt::disk::Disk;
use rt::disk::os::OsDisk;
use rt::rpc::local::LocalChannel;
use rt::rpc::{
    BoxFuture, CallOptions, Channel, Connector, Peer, Request, Response, Service, call, call_with, parse,
};
use rt::table::memory::MemoryTable;

pub(crate) const VOLUME: u64 = 3;
pub(crate) const SESSION: u64 = 77;

/// The machine's clock, some seconds ahead.
pub(crate) struct AheadClock {
    base: Arc<SystemClock>,
    pub(crate) ahead_ms: AtomicU64,
}

impl Clock for AheadClock {
    fn monotonic(&self) -> Duration {
        self.base.monotonic() + Duration::from_millis(self.ahead_ms.load(Ordering::SeqCst))
    }

    fn unix(&self) -> Duration {
        self.base.unix() + Duration::from_millis(self.ahead_ms.load(Ordering::SeqCst))
    }
}

fn key() -> CapabilityKey {
    CapabilityKey { number: 4, secret: vec![9; 32] }
}

/// The DIR's part: one key, one map.
pub(crate) struct DirPart {
    pub(crate) map: OsdMap,
}

impl Service for DirPart {
    fn call(
        self: Arc<Self>,
        _peer: Peer,
        request: Request,
    ) -> BoxFuture<'static, Result<Response, WireError>> {
        Box::pin(async move {
            match request.method {
                HeartbeatService::NUMBER => {
                    let entry = parse::<HeartbeatService>(&request)?;
                    assert_eq!((entry.role.as_str(), entry.group), ("mrc", 2));
                    assert!((1..=3).contains(&entry.member));
                    Ok(Response::of(&ServiceHeartbeatReply {
                        keys: vec![key()],
                        cluster: "c".into(),
                        ..ServiceHeartbeatReply::default()
                    }))
                }
                Map::NUMBER => Ok(Response::of(&self.map)),
                other => Err(rt::rpc::unknown_method("the DIR", other)),
            }
        })
    }
}

/// The OSD's part: remembers what it was told to remove, and whom to refuse.
#[derive(Default)]
pub(crate) struct OsdPart {
    pub(crate) removed: Mutex<Vec<u64>>,
    /// So many removals do not work.
    refuse: AtomicU64,
    /// (session, epoch).
    pub(crate) fenced: Mutex<Vec<(u64, u64)>>,
}

impl Service for OsdPart {
    fn call(
        self: Arc<Self>,
        _peer: Peer,
        request: Request,
    ) -> BoxFuture<'static, Result<Response, WireError>> {
        Box::pin(async move {
            if request.method == Fence::NUMBER {
                let fence = parse::<Fence>(&request)?;
                fence.capability.check(&[key()], 0, 0, REMOVE)?;
                assert_eq!(fence.capability.ino, 0);
                self.fenced.lock().push((fence.session, fence.epoch));
                return Ok(Response::of(&Empty {}));
            }
            let removals = parse::<RemoveMany>(&request)?.removals;
            let mut done = Vec::new();
            for capability in removals.into_iter().map(|removal| removal.capability) {
                capability.check(&[key()], 0, 0, REMOVE)?;
                let refuses = self.refuse.load(Ordering::SeqCst) > 0;
                if refuses {
                    self.refuse.fetch_sub(1, Ordering::SeqCst);
                } else {
                    self.removed.lock().push(capability.ino);
                }
                done.push(!refuses);
            }
            Ok(Response::of(&RemovedMany { done }))
        })
    }
}

/// A member and what it stands on.
pub(crate) struct World {
    pub(crate) mrc: Arc<Mrc>,
    channel: Arc<LocalChannel>,
    pub(crate) osd: Arc<OsdPart>,
    pub(crate) clock: Arc<AheadClock>,
    pub(crate) table: MemoryTable,
    dir: tempfile::TempDir,
    sequence: AtomicU64,
}

pub(crate) fn osd_map(osds: u64) -> OsdMap {
    let osds = (1..=osds).map(|osd| OsdEntry {
        osd,
        addr: "local://osd".into(),
        total_bytes: 1 << 40,
        free_bytes: 1 << 39,
        ..OsdEntry::default()
    });
    OsdMap { epoch: 1, osds: osds.collect(), dirs: Vec::new() }
}

async fn start(
    connector: &Arc<Connector>,
    clock: &Arc<AheadClock>,
    table: &MemoryTable,
    log: Arc<dyn Disk>,
) -> Arc<Mrc> {
    let group = GroupConfig {
        group: GroupId(2),
        me: MemberId(1),
        members: vec![Member { id: MemberId(1), addr: "local://mrc".into() }],
        durability: Durability::Quorum,
        boot_id: "boot".into(),
        tick: quorum::group::TICK,
        log,
        reserve_bytes: 0,
        table: Arc::new(table.clone()),
        connector: connector.clone(),
        clock: clock.clone(),
    };
    Mrc::start(MrcConfig { group, dir: vec!["local://dir".into()], entry: ServiceEntry::default() })
        .await
        .unwrap()
}

fn disk(dir: &tempfile::TempDir) -> Arc<dyn Disk> {
    OsDisk::open(dir.path()).unwrap()
}

impl World {
    /// A member that leads and knows keys and map, a volume and a session.
    pub(crate) async fn new(osds: u64) -> Self {
        let connector = Connector::new();
        let osd = Arc::new(OsdPart::default());
        connector.register_local("osd", osd.clone());
        connector.register_local("dir", Arc::new(DirPart { map: osd_map(osds) }));
        let clock = Arc::new(AheadClock { base: SystemClock::new(), ahead_ms: AtomicU64::new(0) });
        let (table, dir) = (MemoryTable::new(), tempfile::tempdir().unwrap());
        let mrc = start(&connector, &clock, &table, disk(&dir)).await;
        let channel = LocalChannel::new(mrc.clone(), "local://mrc");
        let world = Self { mrc, channel, osd, clock, table, dir, sequence: AtomicU64::new(1) };
        world
            .until("keys and map", || world.mrc.cluster().key().is_ok() && world.mrc.cluster().map().is_ok())
            .await;
        let striping =
            Striping { stripe_bytes: 1 << 20, width: 2, replicas: 1, replication: 0, coding: None };
        let init =
            InitVolume { volume: VOLUME, name: "v".into(), striping, mode: 0o777, ..InitVolume::default() };
        world.ask::<VolumeInit>(&init).await.unwrap();
        world.ask::<VolumeInit>(&init).await.unwrap();
        world.open_session(SESSION, Vec::new()).await;
        world
    }

    pub(crate) async fn restart(&mut self) {
        self.mrc.shutdown().await.unwrap();
        let connector = Connector::new();
        connector.register_local("osd", self.osd.clone());
        connector.register_local("dir", Arc::new(DirPart { map: osd_map(1) }));
        self.mrc = start(&connector, &self.clock, &self.table, disk(&self.dir)).await;
        self.channel = LocalChannel::new(self.mrc.clone(), "local://mrc");
        self.until("keys", || self.mrc.cluster().key().is_ok() && self.mrc.cluster().map().is_ok()).await;
    }

    pub(crate) async fn until(&self, what: &str, done: impl Fn() -> bool) {
        for _ in 0..1000 {
            if done() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what}: not within 10 s");
    }

    pub(crate) async fn ask<M: Method>(&self, request: &M::Request) -> Result<M::Reply, WireError> {
        call::<M>(&*self.channel, request).await
    }

    pub(crate) fn origin(&self) -> Origin {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        Origin { session: SESSION, sequence, acked_below: sequence }
    }

    async fn open_session(&self, session: u64, open_files: Vec<OpenFile>) -> u64 {
        let open = OpenSession { session, client: "test".into(), open_files, ..OpenSession::default() };
        self.open(open).await.incarnation
    }

    /// As clients do: a leader that did not open the session so far says which one it is, and is told again.
    pub(crate) async fn open(&self, mut open: OpenSession) -> SessionReply {
        match self.ask::<SessionOpen>(&open).await {
            Err(error) if error.code == Code::SessionUnknown => {
                open.incarnation = error.hint.split(' ').next().unwrap().parse().unwrap();
                self.ask::<SessionOpen>(&open).await.unwrap()
            }
            done => done.unwrap(),
        }
    }

    fn create_request(&self, name: &str, write: bool) -> CreateRequest {
        let make = MakeRequest {
            head: head(SESSION),
            origin: self.origin(),
            parent: 1,
            name: name.into(),
            mode: 0o644,
            ..MakeRequest::default()
        };
        CreateRequest { make, exclusive: false, write, append: false }
    }

    pub(crate) async fn create(&self, name: &str) -> OpenReply {
        self.ask::<Create>(&self.create_request(name, true)).await.unwrap()
    }

    async fn unlink(&self, name: &str) -> Result<(), WireError> {
        let request = RemoveEntry {
            head: head(SESSION),
            origin: self.origin(),
            parent: 1,
            name: name.into(),
            ..RemoveEntry::default()
        };
        self.ask::<Unlink>(&request).await.map(drop)
    }

    pub(crate) async fn close(&self, ino: u64, write: bool) {
        self.ask::<Close>(&CloseRequest { head: head(SESSION), ino, write }).await.unwrap();
    }

    pub(crate) async fn exists(&self, ino: u64) -> bool {
        match self.ask::<GetAttr>(&InoRequest { head: head(SESSION), ino }).await {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.code, Code::Stale);
                false
            }
        }
    }

    async fn claim(&self, name: &str) -> Result<(), WireError> {
        let request = RenameRequest {
            head: head(SESSION),
            origin: self.origin(),
            parent: 1,
            name: name.into(),
            new_parent: 1,
            new_name: format!("{name}.claimed").into(),
            flags: 0,
            only_if_no_writer: true,
            ..RenameRequest::default()
        };
        self.ask::<Rename>(&request).await.map(drop)
    }

    pub(crate) fn lock_request(&self, session: u64, ino: u64, kind: u32, wait_ms: u64) -> LockRequest {
        LockRequest {
            head: head(session),
            ino,
            owner: 1,
            start: 0,
            end: 9,
            kind,
            pid: 5,
            wait_ms,
            ..LockRequest::default()
        }
    }

    fn rows(&self, which: u8) -> usize {
        self.table.dump().iter().filter(|(key, _)| key[0] == which).count()
    }
}

pub(crate) fn head(session: u64) -> Head {
    Head {
        volume: VOLUME,
        session,
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        permission_checked: true,
        snapshot: 0,
    }
}

fn valid(capability: &Capability, rights: u32) {
    let now_ms = u64::try_from(SystemClock::new().unix().as_millis()).unwrap();
    capability.check(&[key()], now_ms, 0, rights).unwrap();
    assert_eq!((capability.volume, capability.session), (VOLUME, SESSION));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_from_create_to_the_removal_of_its_objects() {
    let world = World::new(3).await;
    let made = world.create("f").await;
    assert!(made.created);
    valid(&made.credentials.capability, READ | WRITE);
    assert_eq!(made.credentials.layout.columns.len(), 2);
    let lookup = EntryRequest { head: head(SESSION), parent: 1, name: b"f".to_vec() };
    assert_eq!(world.ask::<Lookup>(&lookup).await.unwrap().attr, made.attr);
    let again = world.ask::<Create>(&world.create_request("f", false)).await.unwrap();
    assert!(!again.created);
    assert!(again.credentials.capability.check(&[key()], 0, 0, WRITE).is_err());
    assert_eq!(again.credentials.layout, made.credentials.layout);
    let users =
        world.ask::<GetLayout>(&InoRequest { head: head(SESSION), ino: made.attr.ino }).await.unwrap();
    assert_eq!((users.open_handles, users.open_writers), (2, 1));
    world.close(made.attr.ino, true).await;
    world.close(made.attr.ino, false).await;
    world.unlink("f").await.unwrap();
    assert!(!world.exists(made.attr.ino).await);
    world.until("the garbage row is gone", || world.rows(table::GARBAGE) == 0).await;
    assert_eq!(*world.osd.removed.lock(), [made.attr.ino; 2], "once per OSD of the layout");
    world.ask::<MetadataSync>(&SyncMetadata { head: head(SESSION) }).await.unwrap();
    let totals = world.ask::<StatFs>(&InoRequest { head: head(SESSION), ino: 1 }).await.unwrap();
    assert_eq!((totals.inodes, totals.total_bytes), (1, 3 << 40));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_osd_did_not_remove_is_asked_for_again() {
    let world = World::new(1).await;
    let inos = [world.create("a").await.attr.ino, world.create("b").await.attr.ino];
    world.osd.refuse.store(3, Ordering::SeqCst);
    for (name, ino) in ["a", "b"].into_iter().zip(inos) {
        world.close(ino, true).await;
        world.unlink(name).await.unwrap();
    }
    world.until("both are removed", || inos.iter().all(|ino| world.osd.removed.lock().contains(ino))).await;
    world.until("nothing is left to do", || world.rows(table::GARBAGE) == 0).await;
    assert_eq!(world.osd.refuse.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_calls_end_on_the_callers_thread() {
    let world = World::new(1).await;
    world.create("warm").await;
    let create = world.create_request("f", true);
    let reply = world.ask::<Create>(&create).now_or_never().expect("Create waited").unwrap();
    let mkdir = MakeRequest {
        head: head(SESSION),
        origin: world.origin(),
        parent: 1,
        name: b"d".to_vec(),
        ..MakeRequest::default()
    };
    let made = world.ask::<MkDir>(&mkdir).now_or_never().expect("MkDir waited").unwrap();
    assert_eq!(made.attr.mode >> 12, kind::DIR);
    let open = OpenRequest {
        head: head(SESSION),
        ino: reply.attr.ino,
        write: false,
        renew: false,
        append: false,
        exact: false,
    };
    world.ask::<Open>(&open).now_or_never().expect("Open waited").unwrap();
    world.unlink("f").now_or_never().expect("Unlink waited").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unlinked_open_file_lives_until_its_last_close() {
    let world = World::new(1).await;
    let (closed, dead) = (world.create("closed").await.attr.ino, world.create("dead").await.attr.ino);
    for name in ["closed", "dead"] {
        world.unlink(name).await.unwrap();
    }
    let open = OpenRequest {
        head: head(SESSION),
        ino: closed,
        write: false,
        renew: true,
        append: false,
        exact: false,
    };
    valid(&world.ask::<Open>(&open).await.unwrap().credentials.capability, READ);
    assert!(world.exists(closed).await && world.exists(dead).await);
    world.close(closed, true).await;
    world.until("the closed one is freed", || world.osd.removed.lock().contains(&closed)).await;
    assert!(!world.exists(closed).await && world.exists(dead).await);
    // The client of the other one dies.
    world.ask::<Lock>(&world.lock_request(SESSION, 1, 1, 0)).await.unwrap();
    // In steps: a leader that finds itself far in the future at once has slept and gives everybody time.
    for _ in 0..3 {
        world.clock.ahead_ms.fetch_add(6_000, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(1300)).await;
    }
    world.until("the dead one is freed", || world.osd.removed.lock().contains(&dead)).await;
    assert_eq!((world.rows(table::LOCK), world.rows(table::SESSION)), (0, 0));
    let renew = world.ask::<SessionRenew>(&RenewSession { session: SESSION }).await;
    assert_eq!(renew.unwrap_err().code, Code::SessionUnknown);
    let create = world.ask::<Create>(&world.create_request("x", true)).await;
    assert_eq!(create.unwrap_err().code, Code::SessionUnknown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_create_gets_the_recorded_answer_and_one_handle() {
    let world = World::new(1).await;
    let request = world.create_request("f", true);
    let first = world.ask::<Create>(&request).await.unwrap();
    let second = world.ask::<Create>(&request).await.unwrap();
    assert_eq!((&first.attr, first.created), (&second.attr, second.created));
    assert_eq!(world.claim("f").await.unwrap_err().code, Code::WouldBlock);
    world.close(first.attr.ino, true).await;
    world.claim("f").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_locks() {
    let world = Arc::new(World::new(1).await);
    world.open_session(78, Vec::new()).await;
    let (f, g) = (world.create("f").await.attr.ino, world.create("g").await.attr.ino);
    world.ask::<Lock>(&world.lock_request(SESSION, f, 1, 0)).await.unwrap();
    world.ask::<Lock>(&world.lock_request(78, g, 1, 0)).await.unwrap();
    let refused = world.ask::<Lock>(&world.lock_request(78, f, 1, 0)).await.unwrap_err();
    assert_eq!(refused.code, Code::WouldBlock);
    let refused = world.ask::<Lock>(&world.lock_request(78, f, 1, 50)).await.unwrap_err();
    assert_eq!(refused.code, Code::WouldBlock, "out of patience");
    let waiting = tokio::spawn({
        let world = world.clone();
        async move { world.ask::<Lock>(&world.lock_request(78, f, 1, 20_000)).await }
    });
    world.until("session 78 waits", || world.mrc.leader().waiting_requests() == 1).await;
    let circle = world.ask::<Lock>(&world.lock_request(SESSION, g, 1, 1000)).await.unwrap_err();
    assert_eq!(circle.code, Code::Deadlock);
    assert!(!waiting.is_finished());
    world.ask::<Lock>(&world.lock_request(SESSION, f, 2, 0)).await.unwrap();
    let granted =
        tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("woken").unwrap().unwrap();
    assert_eq!(granted.kind, 1);
    let test = LockRequest { test: true, ..world.lock_request(SESSION, f, 1, 0) };
    assert_eq!(world.ask::<Lock>(&test).await.unwrap().pid, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_clients_are_waited_for() {
    let mut world = World::new(1).await;
    let ino = world.create("f").await.attr.ino;
    let before =
        world.open_session(SESSION, vec![OpenFile { volume: VOLUME, ino, writing: true, count: 1 }]).await;
    world.unlink("f").await.unwrap();
    world.create("g").await;
    world.restart().await;
    assert_eq!(world.claim("g").await.unwrap_err().code, Code::WouldBlock, "who writes g is not known yet");
    let renew = world.ask::<SessionRenew>(&RenewSession { session: SESSION }).await;
    assert_eq!(renew.unwrap_err().code, Code::SessionUnknown);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(world.exists(ino).await, "reaped although its session may come back");
    let after =
        world.open_session(SESSION, vec![OpenFile { volume: VOLUME, ino, writing: true, count: 1 }]).await;
    assert_ne!(before, after);
    world.claim("g").await.unwrap();
    world.close(ino, true).await;
    world.until("the orphan is freed", || world.osd.removed.lock().contains(&ino)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_name_what_is_missing() {
    let world = World::new(0).await;
    let error = world.ask::<Create>(&world.create_request("f", true)).await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
    assert!(error.text.contains("needs 1 OSD"), "{}", error.text);
    let options = CallOptions::default();
    let raw = Request {
        method: 0x02ff,
        message: Bytes::new(),
        payload: Bytes::new(),
        deadline: options.deadline,
        trace: 0,
    };
    assert_eq!(world.channel.call(raw).await.unwrap_err().code, Code::UnknownMethod);
    let status =
        call_with::<proto::dir::Group>(&*world.channel, &Empty {}, Bytes::new(), &options).await.unwrap().0;
    assert_eq!((status.group, status.leader), (2, 1));
    let nowhere = EntryRequest { head: Head { volume: 99, ..head(SESSION) }, parent: 1, name: b"f".to_vec() };
    assert_eq!(world.ask::<Lookup>(&nowhere).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_volume_goes_with_its_objects() {
    let world = World::new(1).await;
    let ino = world.create("f").await.attr.ino;
    world.ask::<VolumeDrop>(&DropVolume { origin: world.origin(), volume: VOLUME }).await.unwrap();
    world
        .until("all rows are gone", || {
            [table::VOLUME, table::INODE, table::DENTRY, table::ORDER, table::GARBAGE]
                .iter()
                .all(|which| world.rows(*which) == 0)
        })
        .await;
    assert_eq!(*world.osd.removed.lock(), [ino]);
}
