//! Locks about which a session decides alone, and what others get of them.

use std::sync::Arc;
use std::time::Duration;

use proto::error::Code;
use proto::locks::{READ, UNLOCK, WRITE};
use proto::mrc::{
    AcquireLease, AcquireLeaseRequest, HeldLease, HeldLock, LEASE_LOCKS as L, Lock, LockReply, LockRequest,
    OpenSession, TellLocks, TellLocksRequest,
};
use proto::rpc::Origin;

use crate::harness::code;
use crate::service::{SESSION, VOLUME, World, head};

const OTHER: u64 = 78;

fn held(session: u64, owner: u64, start: u64, end: u64, kind: u32) -> HeldLock {
    HeldLock { session, owner, start, end, kind, pid: 5, flock: false }
}

impl World {
    /// Takes bytes 0 to 9 for writing and wants to decide alone; gives the bits that it got and the locks of the session.
    async fn locks(&self, session: u64, ino: u64) -> (u32, Vec<HeldLock>) {
        let reply = self.try_lock(session, ino, 0).await.unwrap();
        (reply.leases.iter().fold(0, |bits, grant| bits | grant.bits) & L, reply.held)
    }

    async fn try_lock(
        &self,
        session: u64,
        ino: u64,
        wait_ms: u64,
    ) -> Result<LockReply, proto::error::WireError> {
        let ask = LockRequest { want: true, ..self.lock_request(session, ino, WRITE, wait_ms) };
        self.ask::<Lock>(&ask).await
    }

    async fn tells(
        &self,
        ino: u64,
        origin: Origin,
        epoch: u64,
        locks: Vec<HeldLock>,
    ) -> Result<(), proto::error::WireError> {
        let request = TellLocksRequest { head: head(SESSION), origin, ino, epoch, locks };
        self.ask::<TellLocks>(&request).await.map(drop)
    }

    async fn test_lock(&self, session: u64, ino: u64) -> LockReply {
        let test = LockRequest { test: true, ..self.lock_request(session, ino, WRITE, 0) };
        self.ask::<Lock>(&test).await.unwrap()
    }

    /// Until the session is asked for `L` of a file; gives it back after `first`.
    async fn gives_locks_up(&self, ino: u64, first: impl Future<Output = ()>) {
        let wanted = self.wanted(SESSION, 5000).await;
        assert_eq!(wanted.iter().map(|(of, bits, _)| (*of, *bits)).collect::<Vec<_>>(), [(ino, L)]);
        first.await;
        self.gives_back(SESSION, &wanted).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_else_wants_a_lock_waits_until_what_was_decided_is_told() {
    let world = Arc::new(World::new(1).await);
    let epoch = world.takes_part(SESSION).await;
    world.takes_part(OTHER).await;
    let f = world.create("f").await.attr.ino;
    let own = held(SESSION, 1, 0, 9, WRITE);
    assert_eq!(world.locks(SESSION, f).await, (L, vec![own]));
    // It frees that lock, and another one of its programs has other bytes now.
    let others = tokio::spawn({
        let world = world.clone();
        async move { (world.locks(OTHER, f).await, world.test_lock(OTHER, f).await) }
    });
    let decided = held(SESSION, 2, 20, 29, READ);
    let origin = world.origin();
    world
        .gives_locks_up(f, async {
            assert!(!others.is_finished());
            world.tells(f, origin, epoch, vec![decided]).await.unwrap();
        })
        .await;
    let ((bits, _), free) = others.await.unwrap();
    assert_eq!((bits, free.kind), (0, UNLOCK), "somebody else has a lock there");
    // A late attempt of what was told changes nothing.
    world.tells(f, origin, epoch, vec![own]).await.unwrap();
    let wide = LockRequest { end: 40, ..world.lock_request(OTHER, f, WRITE, 0) };
    let test = world.ask::<Lock>(&LockRequest { test: true, ..wide.clone() }).await.unwrap();
    assert_eq!((test.start, test.end, test.kind), (20, 29, READ));
    assert_eq!(code(world.ask::<Lock>(&wide).await), Some(Code::WouldBlock));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_tests_or_waits_wants_the_right_gone_too_and_is_woken() {
    let world = Arc::new(World::new(1).await);
    let epoch = world.takes_part(SESSION).await;
    world.takes_part(OTHER).await;
    let f = world.create("f").await.attr.ino;
    assert_eq!(world.locks(SESSION, f).await.0, L);
    let asked = tokio::spawn({
        let world = world.clone();
        async move { world.test_lock(OTHER, f).await }
    });
    world.gives_locks_up(f, async {}).await;
    assert_eq!(asked.await.unwrap().kind, WRITE);
    assert_eq!(world.locks(SESSION, f).await.0, L, "nobody else wants it any more");
    let waits = tokio::spawn({
        let world = world.clone();
        async move { world.try_lock(OTHER, f, 20_000).await }
    });
    world.gives_locks_up(f, async {}).await;
    world.until("the other one waits", || world.mrc.leader().waiting_requests() == 1).await;
    assert_eq!(world.locks(SESSION, f).await.0, 0, "while somebody waits nobody decides alone");
    assert!(!waits.is_finished());
    world.tells(f, world.origin(), epoch, Vec::new()).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), waits).await.expect("woken").unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_waits_gives_up_its_own_right() {
    let world = Arc::new(World::new(1).await);
    let epoch = world.takes_part(SESSION).await;
    let f = world.create("f").await.attr.ino;
    assert_eq!(world.locks(SESSION, f).await.0, L);
    let waits = tokio::spawn({
        let world = world.clone();
        let ask = LockRequest { owner: 2, ..world.lock_request(SESSION, f, WRITE, 20_000) };
        async move { world.ask::<Lock>(&ask).await }
    });
    world.gives_locks_up(f, async {}).await;
    world.until("its second program waits", || world.mrc.leader().waiting_requests() == 1).await;
    world.tells(f, world.origin(), epoch, Vec::new()).await.unwrap();
    waits.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_expelled_session_decided_is_refused() {
    let world = World::new(1).await;
    let epoch = world.takes_part(SESSION).await;
    let f = world.create("f").await.attr.ino;
    assert_eq!(world.locks(SESSION, f).await.0, L);
    let lock = || vec![held(SESSION, 1, 0, 9, WRITE)];
    assert_eq!(code(world.tells(f, world.origin(), epoch - 1, lock()).await), Some(Code::CapabilityExpired));
    let upside_down = vec![held(SESSION, 1, 9, 0, WRITE)];
    assert_eq!(code(world.tells(f, world.origin(), epoch, upside_down).await), Some(Code::InvalidArgument));
    assert_eq!(code(world.tells(f + 1000, world.origin(), epoch, lock()).await), Some(Code::Stale));
    let bare = AcquireLeaseRequest { head: head(SESSION), ino: f, bits: L };
    assert_eq!(
        code(world.ask::<AcquireLease>(&bare).await),
        Some(Code::InvalidArgument),
        "it would not know what is locked"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_is_told_who_decides() {
    let mut world = World::new(1).await;
    let epoch = world.takes_part(SESSION).await;
    world.takes_part(OTHER).await;
    let f = world.create("f").await.attr.ino;
    assert_eq!(world.locks(SESSION, f).await.0, L);
    world.restart().await;
    let leases = vec![HeldLease { volume: VOLUME, ino: f, bits: L }];
    let open = |session, leases| OpenSession {
        session,
        client: "test".into(),
        leases,
        session_epoch: epoch,
        ..OpenSession::default()
    };
    world.open(open(SESSION, leases)).await;
    world.open(OpenSession { session_epoch: 0, ..open(OTHER, Vec::new()) }).await;
    let world = Arc::new(world);
    let others = tokio::spawn({
        let world = world.clone();
        async move { world.try_lock(OTHER, f, 0).await }
    });
    let origin = world.origin();
    world
        .gives_locks_up(f, async {
            world.tells(f, origin, epoch, Vec::new()).await.unwrap();
        })
        .await;
    others.await.unwrap().unwrap();
}
