//! Three members: a change of leader as a client sees it.

use std::sync::Arc;
use std::time::Duration;

use mrc::{Mrc, MrcConfig};
use proto::changes::{Changes, ChangesRequest};
use proto::dir::ServiceEntry;
use proto::error::{Code, WireError};
use proto::id::{GroupId, MemberId};
use proto::mrc::{
    Close, CloseRequest, Create, CreateRequest, GetAttr, Head, InitVolume, InoRequest, MakeRequest, MkDir,
    OpenFile, OpenSession, RemoveEntry, SessionOpen, Unlink, VolumeInit,
};
use proto::rpc::{Method, Origin};
use proto::stripe::Striping;
use quorum::{Durability, GroupConfig, Member};
use rt::clock::SystemClock;
use rt::disk::os::OsDisk;
use rt::rpc::{Connector, call};
use rt::table::memory::MemoryTable;

use crate::service::{DirPart, OsdPart, osd_map};

const VOLUME: u64 = 3;
const SESSION: u64 = 77;

/// Three members in one process, and a client that goes where it is told.
struct Cluster {
    connector: Arc<Connector>,
    members: Vec<Arc<Mrc>>,
    tables: Vec<MemoryTable>,
    _dirs: Vec<tempfile::TempDir>,
}

fn addr(member: u64) -> String {
    format!("local://mrc-{member}")
}

impl Cluster {
    async fn new() -> Self {
        let connector = Connector::new();
        connector.register_local("osd", Arc::new(OsdPart::default()));
        connector.register_local("dir", Arc::new(DirPart { map: osd_map(1) }));
        let mut cluster = Self { connector, members: Vec::new(), tables: Vec::new(), _dirs: Vec::new() };
        for me in 1..=3 {
            let (table, dir) = (MemoryTable::new(), tempfile::tempdir().unwrap());
            let group = GroupConfig {
                group: GroupId(2),
                me: MemberId(me),
                members: (1..=3).map(|id| Member { id: MemberId(id), addr: addr(id) }).collect(),
                durability: Durability::Quorum,
                boot_id: "boot".into(),
                tick: quorum::group::TICK,
                log: OsDisk::open(dir.path()).unwrap(),
                reserve_bytes: 0,
                table: Arc::new(table.clone()),
                connector: cluster.connector.clone(),
                clock: SystemClock::new(),
            };
            let config = MrcConfig { group, dir: vec!["local://dir".into()], entry: ServiceEntry::default() };
            let mrc = Mrc::start(config).await.unwrap();
            cluster.connector.register_local(&format!("mrc-{me}"), mrc.clone());
            cluster.members.push(mrc);
            cluster.tables.push(table);
            cluster._dirs.push(dir);
        }
        cluster
    }

    /// Asks whoever leads, and again while that is not settled.
    async fn ask<M: Method>(&self, request: &M::Request) -> Result<M::Reply, WireError> {
        let mut at = addr(1);
        for attempt in 0..600u64 {
            match call::<M>(&*self.connector.channel(&at)?, request).await {
                Err(error) if error.code == Code::NotLeader && !error.hint.is_empty() && error.hint != at => {
                    at = error.hint
                }
                Err(error) if error.code != Code::SessionUnknown && error.code.is_retryable() => {
                    at = addr(attempt % 3 + 1);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                other => return other,
            }
        }
        panic!("{}: no leader within 12 s", M::NAME);
    }

    fn leader(&self) -> usize {
        self.members.iter().position(|member| member.group().is_leader()).unwrap()
    }
}

fn head() -> Head {
    Head {
        volume: VOLUME,
        session: SESSION,
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        permission_checked: true,
        snapshot: 0,
    }
}

fn create(name: &str, sequence: u64) -> CreateRequest {
    let origin = Origin { session: SESSION, sequence, acked_below: 1 };
    let make = MakeRequest {
        head: head(),
        origin,
        parent: 1,
        name: name.into(),
        mode: 0o644,
        ..MakeRequest::default()
    };
    CreateRequest { make, exclusive: true, write: true, append: false }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_leader_loses_neither_answers_nor_open_files() {
    let cluster = Cluster::new().await;
    let striping = Striping { stripe_bytes: 1 << 20, width: 1, replicas: 1, replication: 0, coding: None };
    let init =
        InitVolume { volume: VOLUME, name: "v".into(), striping, mode: 0o777, ..InitVolume::default() };
    cluster.ask::<VolumeInit>(&init).await.unwrap();
    let session = |open_files| OpenSession {
        session: SESSION,
        client: "test".into(),
        open_files,
        ..OpenSession::default()
    };
    let first = cluster.ask::<SessionOpen>(&session(Vec::new())).await.unwrap();
    let made = cluster.ask::<Create>(&create("f", 1)).await.unwrap();
    let ino = made.attr.ino;

    let old = cluster.leader();
    cluster.members[old].shutdown().await.unwrap();
    // The repeat of what was answered before gets the same answer, exclusive or not.
    let error = cluster.ask::<Create>(&create("f", 1)).await.unwrap_err();
    assert_eq!(error.code, Code::SessionUnknown, "{error}");
    let open = OpenFile { volume: VOLUME, ino, writing: true, count: 1 };
    // Meant for whoever leads: it may have been on its way since before the session was opened.
    let late = cluster.ask::<SessionOpen>(&session(vec![open])).await.unwrap_err();
    assert_eq!(late.code, Code::SessionUnknown, "{late}");
    let incarnation = late.hint.split(' ').next().unwrap().parse().unwrap();
    let named = OpenSession { incarnation, ..session(vec![open]) };
    let second = cluster.ask::<SessionOpen>(&named).await.unwrap();
    assert_ne!(first.incarnation, second.incarnation);
    let again = cluster.ask::<Create>(&create("f", 1)).await.unwrap();
    assert_eq!((&again.attr, again.created), (&made.attr, true));
    assert_ne!(cluster.leader(), old);

    let origin = Origin { session: SESSION, sequence: 2, acked_below: 1 };
    cluster
        .ask::<Unlink>(&RemoveEntry {
            head: head(),
            origin,
            parent: 1,
            name: b"f".to_vec(),
            ..RemoveEntry::default()
        })
        .await
        .unwrap();
    let attr = cluster.ask::<GetAttr>(&InoRequest { head: head(), ino }).await.unwrap().attr;
    assert_eq!(attr.nlink, 0, "open, so alive");
    // The re-opening told of one handle and the repeated create counted another one.
    for _ in 0..2 {
        cluster.ask::<Close>(&CloseRequest { head: head(), ino, write: true }).await.unwrap();
    }
    for _ in 0..500 {
        if cluster.ask::<GetAttr>(&InoRequest { head: head(), ino }).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let gone = cluster.ask::<GetAttr>(&InoRequest { head: head(), ino }).await.unwrap_err();
    assert_eq!(gone.code, Code::Stale);
    // The two that are left agree.
    let rows = |member: usize| -> Vec<_> {
        cluster.tables[member].dump().into_iter().filter(|(key, _)| key[0] != 0).collect()
    };
    let left: Vec<usize> = (0..3).filter(|member| *member != old).collect();
    for _ in 0..500 {
        if rows(left[0]) == rows(left[1]) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(rows(left[0]), rows(left[1]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stops_hands_over_and_names_its_successor() {
    let cluster = Cluster::new().await;
    let striping = Striping { stripe_bytes: 1 << 20, width: 1, replicas: 1, replication: 0, coding: None };
    let init =
        InitVolume { volume: VOLUME, name: "v".into(), striping, mode: 0o777, ..InitVolume::default() };
    cluster.ask::<VolumeInit>(&init).await.unwrap();
    let root = InoRequest { head: Head { session: 0, ..head() }, ino: 1 };
    cluster.ask::<GetAttr>(&root).await.unwrap();
    let old = cluster.leader();
    let mkdir = |n: u64| MakeRequest {
        head: Head { session: 0, ..head() },
        origin: Origin { session: SESSION, sequence: n, acked_below: n },
        parent: 1,
        name: format!("d{n}").into(),
        mode: 0o755,
        ..MakeRequest::default()
    };
    let stopped = std::sync::atomic::AtomicBool::new(false);
    // Somebody works on: what is in flight must not keep the successor from catching up.
    let work = async {
        let mut made = 0;
        while !stopped.load(std::sync::atomic::Ordering::Acquire) {
            made += 1;
            cluster.ask::<MkDir>(&mkdir(made)).await.unwrap();
        }
        made
    };
    let stop = async {
        cluster.members[old].shutdown().await.unwrap();
        let next = cluster.members.iter().position(|member| member.group().is_leader());
        // The term of a leader that was elected without a hand-over would begin half a second later.
        let status = cluster.members[old].group().status();
        stopped.store(true, std::sync::atomic::Ordering::Release);
        (next, status)
    };
    let ((next, status), made) = tokio::join!(stop, work);
    assert_ne!(status.leader, cluster.members[old].group().status().member, "it gave leadership away");
    if let Some(next) = next {
        assert_eq!(next as u64 + 1, status.leader);
    }
    // On a busy machine a third one may be elected meanwhile: what counts is whom it believes in around the call.
    let believes = || cluster.members[old].group().status().leader;
    let channel = cluster.connector.channel(&addr(old as u64 + 1)).unwrap();
    let (refused, leader) = loop {
        let before = believes();
        let refused = call::<GetAttr>(&*channel, &root).await.unwrap_err();
        if before != 0 && before == believes() {
            break (refused, before);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!((refused.code, refused.hint), (Code::NotLeader, addr(leader)));
    assert!(made > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_changes_goes_on_at_the_next_leader() {
    let cluster = Cluster::new().await;
    let striping = Striping { stripe_bytes: 1 << 20, width: 1, replicas: 1, replication: 0, coding: None };
    let init =
        InitVolume { volume: VOLUME, name: "v".into(), striping, mode: 0o777, ..InitVolume::default() };
    cluster.ask::<VolumeInit>(&init).await.unwrap();
    let mkdir = |n: u64| MakeRequest {
        head: head(),
        origin: Origin { session: SESSION, sequence: n, acked_below: 1 },
        parent: 1,
        name: format!("d{n}").into(),
        mode: 0o755,
        ..MakeRequest::default()
    };
    let ask = ChangesRequest { head: head(), subtree: 1, from: None, wait_ms: 0, limit: 0 };
    let start = cluster.ask::<Changes>(&ask).await.unwrap();
    assert!(start.changes.is_empty(), "from now on");
    cluster.ask::<MkDir>(&mkdir(1)).await.unwrap();
    let ask = ChangesRequest { from: Some(start.next), wait_ms: 2000, ..ask };
    let first = cluster.ask::<Changes>(&ask).await.unwrap();
    assert_eq!(first.changes.len(), 1);
    // A reader waits while the leader goes and the next one does something.
    let waiting = ChangesRequest { from: Some(first.next), ..ask.clone() };
    let (told, ()) = tokio::join!(
        async {
            let (mut told, mut ask) = (Vec::new(), waiting);
            while told.is_empty() {
                let reply = cluster.ask::<Changes>(&ask).await.unwrap();
                assert!(reply.next >= ask.from.unwrap(), "a cursor never falls");
                ask.from = Some(reply.next);
                told.extend(reply.changes);
            }
            told
        },
        async {
            cluster.members[cluster.leader()].shutdown().await.unwrap();
            cluster.ask::<MkDir>(&mkdir(2)).await.unwrap();
        }
    );
    assert_eq!(told[0].name, b"d2");
    // Both, from the old cursor, at the new leader.
    let again = cluster.ask::<Changes>(&ask).await.unwrap();
    assert_eq!(again.changes.iter().map(|change| change.name.clone()).collect::<Vec<_>>(), [b"d1", b"d2"]);
}
