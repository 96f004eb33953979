//! Leases as two clients see them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mrc::command::{Body, MOVED_HINT, Remove};
use proto::error::{Code, WireError};
use proto::limits::LEASE_TTL_MS;
use proto::mrc::{
    AcquireLease, AcquireLeaseRequest, AttrReply, AwaitRecalls, AwaitRecallsRequest, Close, CloseRequest,
    Create, CreateRequest, EntryRequest, GetAttr, HeldLease, InoRequest, LEASE_ATTR as A, LEASE_NAMES as N,
    LEASE_READ as R, LEASE_WRITE as W, Link, LinkRequest, Lookup, MakeRequest, MkDir, Open, OpenReply,
    OpenRequest, OpenSession, Recall, RemoveEntry, RenewSession, ReportWrite, ReturnLeases,
    ReturnLeasesRequest, ReturnedLease, SessionOpen, SessionRenew, SessionReply, SetAttr, SetAttrRequest,
    Unlink, WriteDone,
};
use proto::rpc::Origin;
use tokio::task::JoinHandle;

use crate::harness::Replica;
use crate::service::{SESSION, VOLUME, World, head};

const OTHER: u64 = 78;

impl World {
    async fn reopen(&self, session: u64, epoch: u64, leases: &[(u64, u32)]) -> SessionReply {
        let leases = leases.iter().map(|(ino, bits)| HeldLease { volume: VOLUME, ino: *ino, bits: *bits });
        let open = OpenSession {
            session,
            client: "test".into(),
            leases: leases.collect(),
            session_epoch: epoch,
            ..OpenSession::default()
        };
        self.open(open).await
    }

    async fn recalls(&self, session: u64, wait_ms: u32) -> Result<Vec<Recall>, WireError> {
        let request = AwaitRecallsRequest { session, after: 0, wait_ms };
        Ok(self.ask::<AwaitRecalls>(&request).await?.recalls)
    }

    /// A second session; both take part.
    async fn pair(osds: u64) -> Arc<Self> {
        let world = Arc::new(Self::new(osds).await);
        world.reopen(OTHER, 0, &[]).await;
        for session in [SESSION, OTHER] {
            assert_eq!(world.recalls(session, 0).await.unwrap(), []);
        }
        world
    }

    async fn attr(&self, session: u64, ino: u64) -> AttrReply {
        self.ask::<GetAttr>(&InoRequest { head: head(session), ino }).await.unwrap()
    }

    async fn acquire(&self, session: u64, ino: u64, bits: u32) -> Result<AttrReply, WireError> {
        self.ask::<AcquireLease>(&AcquireLeaseRequest { head: head(session), ino, bits }).await
    }

    /// Gives back exactly what is recalled; the handles are told with the first.
    async fn give_back(&self, session: u64, recalls: &[Recall], readers: u32) {
        let returned = recalls.iter().enumerate().map(|(at, recall)| ReturnedLease {
            volume: recall.volume,
            ino: recall.ino,
            bits: recall.bits,
            number: recall.number,
            untold_readers: if at == 0 { readers } else { 0 },
            untold_writers: 0,
        });
        let request = ReturnLeasesRequest { session, returned: returned.collect(), opening: 0 };
        self.ask::<ReturnLeases>(&request).await.unwrap();
    }

    /// Waits for the one recall of a session.
    async fn recalled(&self, session: u64) -> Recall {
        let recalls = self.recalls(session, 10_000).await.unwrap();
        assert_eq!(recalls.len(), 1, "{recalls:?}");
        recalls[0]
    }

    fn chmod(self: &Arc<Self>, ino: u64, mode: u32) -> JoinHandle<Result<AttrReply, WireError>> {
        let request = SetAttrRequest {
            head: head(SESSION),
            origin: self.origin(),
            ino,
            mode: Some(mode),
            ..SetAttrRequest::default()
        };
        let world = self.clone();
        tokio::spawn(async move { world.ask::<SetAttr>(&request).await })
    }

    fn remove(self: &Arc<Self>, name: &str, victim: u64, untold: u32) -> JoinHandle<Result<(), WireError>> {
        let request = RemoveEntry {
            head: head(SESSION),
            origin: self.origin(),
            parent: 1,
            name: name.into(),
            victim,
            untold_handles: untold,
        };
        let world = self.clone();
        tokio::spawn(async move { world.ask::<Unlink>(&request).await.map(drop) })
    }

    async fn create_as(&self, session: u64, name: &str) -> OpenReply {
        let make = MakeRequest {
            head: head(session),
            origin: Origin::default(),
            parent: 1,
            name: name.into(),
            mode: 0o644,
            ..MakeRequest::default()
        };
        self.ask::<Create>(&CreateRequest { make, exclusive: false, write: true, append: false })
            .await
            .unwrap()
    }

    /// Lets the time pass in which names and attributes are not given after a change.
    fn cool(&self) {
        self.clock.ahead_ms.fetch_add(150, Ordering::SeqCst);
    }
}

async fn within<T>(task: JoinHandle<Result<T, WireError>>) -> T {
    tokio::time::timeout(Duration::from_secs(20), task).await.expect("still waiting").unwrap().unwrap()
}

fn bits(reply: &AttrReply, ino: u64) -> u32 {
    reply.leases.iter().find(|lease| lease.ino == ino).map_or(0, |lease| lease.bits)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_awaits_recalls_is_given_nothing() {
    let world = Arc::new(World::new(1).await);
    let made = world.create("f").await;
    assert!(made.leases.is_empty());
    assert!(world.attr(SESSION, made.attr.ino).await.leases.is_empty());
    let asked = world.acquire(SESSION, made.attr.ino, R).await.unwrap();
    assert!(asked.leases.is_empty() && asked.attr == world.attr(SESSION, made.attr.ino).await.attr);
    world.recalls(SESSION, 0).await.unwrap();
    assert_eq!(bits(&world.attr(SESSION, made.attr.ino).await, made.attr.ino), A);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chmod_waits_until_the_other_has_dropped_the_attributes() {
    let world = World::pair(1).await;
    let ino = world.create("f").await.attr.ino;
    world.give_up_all(SESSION, ino).await;
    world.cool();
    assert_eq!(bits(&world.attr(OTHER, ino).await, ino), A);
    let chmod = world.chmod(ino, 0o600);
    let recall = world.recalled(OTHER).await;
    assert_eq!((recall.ino, recall.bits, recall.tell_handles), (ino, A, false));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!chmod.is_finished());
    world.give_back(OTHER, &[recall], 0).await;
    let done = within(chmod).await;
    assert_eq!((done.attr.mode & 0o777, bits(&done, ino) & A), (0o600, A));
    assert_eq!(bits(&world.attr(OTHER, ino).await, ino), 0, "changed a moment ago");
}

impl World {
    async fn give_up_all(&self, session: u64, ino: u64) {
        let returned = ReturnedLease {
            volume: VOLUME,
            ino,
            bits: A | N | R | W,
            number: u64::MAX,
            untold_readers: 0,
            untold_writers: 0,
        };
        let request = ReturnLeasesRequest { session, returned: vec![returned], opening: 0 };
        self.ask::<ReturnLeases>(&request).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn making_a_name_recalls_the_directory_and_opening_an_existing_one_does_not() {
    let world = World::pair(1).await;
    world.create("f").await;
    world.cool();
    let lookup = EntryRequest { head: head(OTHER), parent: 1, name: b"f".to_vec() };
    // The creator holds W of the file, and may make names: it reports first.
    let looking = tokio::spawn({
        let world = world.clone();
        async move { world.ask::<Lookup>(&lookup).await }
    });
    let recalls = world.recalls(SESSION, 10_000).await.unwrap();
    let mut what: Vec<(u64, u32)> = recalls.iter().map(|recall| (recall.ino, recall.bits)).collect();
    what.sort_unstable();
    assert_eq!(what, [(1, W), (2, W)]);
    world.give_back(SESSION, &recalls, 0).await;
    let found = within(looking).await;
    assert_eq!(bits(&found, 1), A | N, "the directory of a lookup too");
    let again = world.create("f").await;
    assert!(!again.created, "existing names are opened without a recall");
    let make = MakeRequest {
        head: head(SESSION),
        origin: world.origin(),
        parent: 1,
        name: b"d".to_vec(),
        ..MakeRequest::default()
    };
    let making = tokio::spawn({
        let world = world.clone();
        async move { world.ask::<MkDir>(&make).await }
    });
    let recall = world.recalled(OTHER).await;
    assert_eq!((recall.ino, recall.bits), (1, A | N));
    assert!(!making.is_finished());
    world.give_back(OTHER, &[recall], 0).await;
    let made = within(making).await;
    assert_eq!(bits(&made, made.attr.ino), A | N | W, "nobody else knows it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_attributes_sees_what_the_writer_had_not_reported_yet() {
    let world = World::pair(1).await;
    let made = world.create("f").await;
    let ino = made.attr.ino;
    assert_eq!(made.leases.iter().find(|lease| lease.ino == ino).map(|lease| lease.bits), Some(A | R | W));
    let reading = tokio::spawn({
        let world = world.clone();
        async move { Ok(world.attr(OTHER, ino).await) }
    });
    let recall = world.recalled(SESSION).await;
    assert_eq!((recall.ino, recall.bits), (ino, W));
    let report =
        ReportWrite { head: head(SESSION), origin: world.origin(), ino, size: 10, ..ReportWrite::default() };
    world.ask::<WriteDone>(&report).await.unwrap();
    assert!(!reading.is_finished());
    world.give_back(SESSION, &[recall], 0).await;
    assert_eq!(within(reading).await.attr.size, 10);
    // The writer asks again while another reads: it waits for that one's R.
    world.acquire(OTHER, ino, R).await.unwrap();
    let writing = tokio::spawn({
        let world = world.clone();
        async move { world.acquire(SESSION, ino, W).await }
    });
    let recall = world.recalled(OTHER).await;
    assert_eq!(recall.bits & R, R);
    world.give_back(OTHER, &[recall], 0).await;
    assert_eq!(bits(&within(writing).await, ino) & W, W);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handles_that_a_client_opened_by_itself_keep_an_unlinked_file() {
    let world = World::pair(1).await;
    let (theirs, mine) = (world.create("theirs").await.attr.ino, world.create("mine").await.attr.ino);
    for ino in [theirs, mine] {
        world.close(ino, true).await;
        world.give_up_all(SESSION, ino).await;
    }
    world.cool();
    world.attr(OTHER, theirs).await;
    let removing = world.remove("theirs", theirs, 0);
    let recall = world.recalled(OTHER).await;
    assert!(recall.tell_handles && recall.ino == theirs);
    world.give_back(OTHER, &[recall], 1).await;
    within(removing).await;
    assert!(world.exists(theirs).await, "the other has it open");
    world.ask::<Close>(&CloseRequest { head: head(OTHER), ino: theirs, write: false }).await.unwrap();
    world.until("the other's is freed", || world.osd.removed.lock().contains(&theirs)).await;
    // Told with the removal itself.
    world.attr(SESSION, mine).await;
    within(world.remove("mine", mine, 1)).await;
    assert!(world.exists(mine).await, "the remover has it open");
    world.close(mine, false).await;
    world.until("mine is freed", || world.osd.removed.lock().contains(&mine)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_of_a_file_that_lost_one_of_two_names_stand() {
    let world = World::pair(1).await;
    let ino = world.create("f").await.attr.ino;
    let (head, origin) = (head(SESSION), world.origin());
    let link = LinkRequest { head, origin, ino, parent: 1, name: "g".into() };
    world.ask::<Link>(&link).await.unwrap();
    world.close(ino, true).await;
    world.acquire(SESSION, ino, W).await.unwrap();
    within(world.remove("f", ino, 0)).await;
    // Nobody has it open, so the removal could have freed it: it did not.
    assert!(world.exists(ino).await);
    let asking = {
        let world = world.clone();
        tokio::spawn(async move { world.acquire(OTHER, ino, W).await })
    };
    let recall = world.recalled(SESSION).await;
    assert_eq!((recall.ino, recall.bits & W), (ino, W));
    world.give_back(SESSION, &[recall], 0).await;
    within(asking).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remover_that_does_not_know_the_inode_is_asked_for_its_own_handles() {
    let world = World::pair(1).await;
    let ino = world.create("f").await.attr.ino;
    world.close(ino, true).await;
    let removing = world.remove("f", 0, 0);
    let recall = world.recalled(SESSION).await;
    assert!(recall.tell_handles && recall.ino == ino);
    world.give_back(SESSION, &[recall], 1).await;
    within(removing).await;
    assert!(world.exists(ino).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_stays_silent_is_expelled_and_fenced() {
    let world = World::pair(2).await;
    let made = world.create_as(OTHER, "f").await;
    let ino = made.attr.ino;
    let old = made.credentials.capability.session_epoch;
    assert!(old > 0);
    let chmod = world.chmod(ino, 0o600);
    world.recalled(OTHER).await;
    let started = std::time::Instant::now();
    within(chmod).await;
    assert!(started.elapsed() >= Duration::from_millis(LEASE_TTL_MS - 500), "{:?}", started.elapsed());
    let fenced = world.osd.fenced.lock().clone();
    assert_eq!(fenced.len(), 2, "once per OSD that is up: {fenced:?}");
    assert!(fenced.iter().all(|(session, epoch)| *session == OTHER && *epoch > old));
    let renew = world.ask::<SessionRenew>(&RenewSession { session: OTHER }).await;
    assert_eq!(renew.unwrap_err().code, Code::SessionUnknown);
    let open = OpenRequest { head: head(OTHER), ino, write: true, renew: true, append: false, exact: false };
    assert_eq!(world.ask::<Open>(&open).await.unwrap_err().code, Code::SessionUnknown);
    assert_eq!(world.recalls(OTHER, 0).await.unwrap_err().code, Code::SessionUnknown);
    let back = world.reopen(OTHER, old, &[(ino, W)]).await;
    assert_eq!(back.session_epoch, fenced[0].1);
    assert_eq!(bits(&world.attr(OTHER, ino).await, ino) & W, 0, "leases of an old epoch are not taken up");
    let opened = world.ask::<Open>(&open).await.unwrap();
    assert_eq!(opened.credentials.capability.session_epoch, back.session_epoch);
}

/// A file of which `OTHER` holds the attributes, at a leader that has started anew and has not heard of that.
async fn restarted_while_held(mut world: World) -> (Arc<World>, u64) {
    let ino = world.create("f").await.attr.ino;
    world.cool();
    assert_eq!(bits(&world.attr(OTHER, ino).await, ino), A);
    world.restart().await;
    world.reopen(SESSION, 0, &[]).await;
    (Arc::new(world), ino)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_changes_wait_for_holders_to_come_back() {
    let world = World::new(1).await;
    let epoch = world.reopen(OTHER, 0, &[]).await.session_epoch;
    world.recalls(OTHER, 0).await.unwrap();
    let (world, ino) = restarted_while_held(world).await;
    let chmod = world.chmod(ino, 0o600);
    assert!(world.attr(SESSION, ino).await.leases.is_empty(), "reads are answered");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!chmod.is_finished());
    let back = world.reopen(OTHER, epoch, &[(ino, A)]).await;
    assert_eq!(back.session_epoch, epoch);
    let recall = world.recalled(OTHER).await;
    assert_eq!((recall.ino, recall.bits), (ino, A));
    assert!(!chmod.is_finished());
    world.give_back(OTHER, &[recall], 0).await;
    within(chmod).await;
}

/// A first attempt to open that lay somewhere until another leader was there tells that nothing is held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_opening_that_comes_late_takes_nothing_away() {
    let world = World::new(1).await;
    let first = OpenSession { session: OTHER, client: "test".into(), opening: 1, ..OpenSession::default() };
    let second = OpenSession { opening: 2, ..first.clone() };
    let epoch = world.ask::<SessionOpen>(&second).await.unwrap().session_epoch;
    world.recalls(OTHER, 0).await.unwrap();
    let (world, ino) = restarted_while_held(world).await;
    let late = world.ask::<SessionOpen>(&first).await.unwrap_err();
    assert_eq!(late.code, Code::SessionUnknown, "{late}");
    let chmod = world.chmod(ino, 0o600);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!chmod.is_finished(), "who may hold something is waited for");
    world.reopen(OTHER, epoch, &[(ino, A)]).await;
    let recall = world.recalled(OTHER).await;
    world.give_back(OTHER, &[recall], 0).await;
    within(chmod).await;
}

#[test]
fn a_name_that_leads_elsewhere_meanwhile_is_decided_anew() {
    let mut replica = Replica::new();
    let ino = replica.create(1, "f", true).unwrap().attr.ino;
    let request =
        RemoveEntry { head: replica.head.clone(), parent: 1, name: b"f".to_vec(), ..RemoveEntry::default() };
    let remove = |expected| Body::Unlink(Remove { request: request.clone(), closed: 0, expected });
    for wrong in [0, ino + 1] {
        let refused = replica.run(remove(Some(wrong))).unwrap_err();
        assert_eq!((refused.code, refused.hint.as_str()), (Code::Busy, MOVED_HINT));
    }
    assert!(!mrc::command::is_recorded(&mrc::command::moved()));
    replica.run(remove(Some(ino))).unwrap();
    replica.run(remove(Some(0))).map(drop).unwrap_err();
}

/// What a mount that walked through a large tree holds.
const MANY: u64 = 60_000;

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_leases_are_told_to_a_new_leader_and_told_again() {
    let mut world = World::new(1).await;
    assert_eq!(world.recalls(SESSION, 0).await.unwrap(), []);
    let epoch = world.reopen(SESSION, 0, &[]).await.session_epoch;
    world.restart().await;
    let leases: Vec<(u64, u32)> = (0..MANY).map(|ino| (1_000 + ino, A | R)).collect();
    for (what, count) in [("told", MANY), ("told again", MANY), ("half of them told", MANY / 2)] {
        let began = std::time::Instant::now();
        let reply = world.reopen(SESSION, epoch, &leases[..usize::try_from(count).unwrap()]).await;
        println!("{what}: {:.1} ms", began.elapsed().as_secs_f64() * 1000.0);
        assert_eq!((reply.session_epoch, reply.lease_ttl_ms), (epoch, LEASE_TTL_MS), "{what}");
        assert_eq!(world.mrc.leader().lease_counts().held as u64, count, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_removal_names_what_ceased_to_exist() {
    let world = World::pair(1).await;
    let open = world.create_as(SESSION, "f").await;
    let ino = open.attr.ino;
    let request = |name: &str, victim| RemoveEntry {
        head: head(SESSION),
        origin: world.origin(),
        parent: 1,
        name: name.into(),
        victim,
        untold_handles: 0,
    };
    let link =
        LinkRequest { head: head(SESSION), origin: world.origin(), ino, parent: 1, name: b"g".to_vec() };
    world.ask::<Link>(&link).await.unwrap();
    assert_eq!(world.ask::<Unlink>(&request("f", ino)).await.unwrap().freed, 0, "it has another name");
    let last = request("g", ino);
    assert_eq!(world.ask::<Unlink>(&last).await.unwrap().freed, 0, "it is open");
    let closed = world.create_as(SESSION, "h").await.attr.ino;
    world.close(closed, true).await;
    let reply = world.ask::<Unlink>(&request("h", closed)).await.unwrap();
    assert_eq!(reply.freed, closed);
    assert_eq!(
        reply.changed.iter().map(|attr| attr.ino).collect::<Vec<_>>(),
        [1],
        "the rest of the answer stays"
    );
    let make = MakeRequest {
        head: head(SESSION),
        origin: world.origin(),
        parent: 1,
        name: b"d".to_vec(),
        mode: 0o755,
        ..MakeRequest::default()
    };
    let made = world.ask::<MkDir>(&make).await.unwrap().attr.ino;
    let reply = world.ask::<proto::mrc::RmDir>(&request("d", made)).await.unwrap();
    assert_eq!(reply.freed, made);
}
