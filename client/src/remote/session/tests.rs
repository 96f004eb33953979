//! A leader that does not know the session, and many callers at once.

use std::sync::atomic::AtomicU32;

use proto::mrc::{Head, ReturnLeases, ReturnLeasesRequest, ReturnedLease};
use proto::rpc::Empty;
use rt::clock::SystemClock;
use rt::rpc::{BoxFuture, Connector, Peer, Request, Response, Service, parse};
use tokio::sync::{Barrier, Semaphore};

use super::*;

/// Callers at the same time.
const CALLERS: usize = 40;
const EPOCH: u64 = 7;

/// A leader that knows no session until it is opened, and hears of it only when all callers have called.
struct NewLeader {
    opened: AtomicBool,
    openings: AtomicU32,
    all_here: Barrier,
}

impl Service for NewLeader {
    fn call(
        self: Arc<Self>,
        _peer: Peer,
        request: Request,
    ) -> BoxFuture<'static, std::result::Result<Response, WireError>> {
        Box::pin(async move {
            if request.method == SessionOpen::NUMBER {
                let ask = parse::<SessionOpen>(&request)?;
                assert!(ask.opening > 0);
                self.openings.fetch_add(1, Ordering::SeqCst);
                self.opened.store(true, Ordering::SeqCst);
                return Ok(Response::of(&SessionReply {
                    ttl_ms: 15_000,
                    incarnation: 5,
                    lease_ttl_ms: 6_000,
                    session_epoch: EPOCH,
                    members: Vec::new(),
                    number: 9,
                }));
            }
            if !self.opened.load(Ordering::SeqCst) {
                self.all_here.wait().await;
                return Err(WireError::new(Code::SessionUnknown, "not known here"));
            }
            Ok(Response::of(&Empty {}))
        })
    }
}

/// A leader that takes its time for leases that come back.
struct SlowLeader {
    /// What it was asked and what it answered, by method.
    heard: Mutex<Vec<(u16, bool)>>,
    returning: Semaphore,
    goes_on: Semaphore,
}

impl Service for SlowLeader {
    fn call(
        self: Arc<Self>,
        _peer: Peer,
        request: Request,
    ) -> BoxFuture<'static, std::result::Result<Response, WireError>> {
        Box::pin(async move {
            self.heard.lock().push((request.method, false));
            if request.method == ReturnLeases::NUMBER {
                let ask = parse::<ReturnLeases>(&request)?;
                assert_eq!(ask.returned[0].untold_writers, 1);
                self.returning.add_permits(1);
                self.goes_on.acquire().await.unwrap().forget();
            }
            self.heard.lock().push((request.method, true));
            Ok(Response::of(&Empty {}))
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_is_closed_at_the_leader_after_the_leader_was_told_of_it() {
    let (heard, returning, goes_on) = (Mutex::default(), Semaphore::new(0), Semaphore::new(0));
    let leader = Arc::new(SlowLeader { heard, returning, goes_on });
    let session = session(leader.clone());
    session.open_untold(1, 5, true);
    let (lease, tells) = (ReturnedLease { volume: 1, ino: 5, ..ReturnedLease::default() }, true);
    let returned = {
        let session = session.clone();
        tokio::spawn(async move { session.return_leases(0, &[crate::lease::Return { lease, tells }]).await })
    };
    leader.returning.acquire().await.unwrap().forget();
    let head = Head { volume: 1, session: 77, ..Head::default() };
    session.close(&CloseRequest { head, ino: 5, write: true }).await.unwrap();
    session.tell_closes().await.unwrap();
    leader.goes_on.add_permits(1);
    returned.await.unwrap().unwrap();
    session.tell_closes().await.unwrap();
    let (leases, closes) = (ReturnLeases::NUMBER, CloseMany::NUMBER);
    assert_eq!(*leader.heard.lock(), [(leases, false), (leases, true), (closes, false), (closes, true)]);
    assert_eq!(session.writers(1, 5), 0);
}

fn session(leader: Arc<dyn Service>) -> Arc<Session> {
    let connector = Connector::new();
    connector.register_local("leader", leader);
    let (clock, patience) = (SystemClock::new(), Patience::For(Duration::from_secs(20)));
    let group = Group::new("MRC", vec!["local://leader".into()], connector, clock.clone(), patience);
    Session::new(77, 78, "test".into(), group, clock, patience)
}

fn leader() -> Arc<NewLeader> {
    Arc::new(NewLeader {
        opened: AtomicBool::new(false),
        openings: AtomicU32::new(0),
        all_here: Barrier::new(CALLERS),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn one_opening_is_enough_for_all_that_was_under_way() {
    let leader = leader();
    let session = session(leader.clone());
    let calls = (0..CALLERS).map(|_| {
        let session = session.clone();
        async move { session.call::<ReturnLeases>(&ReturnLeasesRequest::default()).await }
    });
    for done in futures::future::join_all(calls).await {
        done.unwrap();
    }
    assert_eq!(leader.openings.load(Ordering::SeqCst), 1);
    // Who asks for what is so now gets an opening that begins now.
    session.reopen().await.unwrap();
    session.reopen().await.unwrap();
    assert_eq!(leader.openings.load(Ordering::SeqCst), 3);
    // A leader that forgot it since is told again.
    leader.opened.store(false, Ordering::SeqCst);
    let request = ReturnLeasesRequest { session: 77, ..ReturnLeasesRequest::default() };
    let calls = (0..CALLERS).map(|_| session.call::<ReturnLeases>(&request));
    for done in futures::future::join_all(calls).await {
        done.unwrap();
    }
    assert_eq!(leader.openings.load(Ordering::SeqCst), 4);
}
