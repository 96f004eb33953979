//! Drives the leases of the leader: waits, wakes, expels. Decisions are in `engine/leases`.

mod change;
pub(crate) mod claims;
mod expel;
pub(crate) mod metrics;
pub(crate) mod read;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use proto::error::{Code, WireError};
use proto::limits::{LEASE_COOL_MS, LEASE_MARGIN_MS, LEASE_TTL_MS, LEASES_PER_SESSION, RECALLS_PER_ANSWER};
use proto::mrc::{LeaseGrant, Recall};
use rt::clock::Clock;
use tokio::sync::Notify;

pub(crate) use change::Change;

use crate::engine::fences::Fences;
use crate::engine::leases::{Acquired, Counts, Effect, Leases, Pass, Standing, Times};
use crate::engine::sessions::FileId;
use crate::service::Mrc;

/// The answer has to arrive before the caller gives up.
const ANSWER_TIME: Duration = Duration::from_millis(200);
/// A tick that comes this much too late means that the process stood still.
const STALL: Duration = Duration::from_millis(LEASE_TTL_MS / 3);
/// How long the task sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(60);

/// A session to be expelled.
#[derive(Clone, Copy)]
pub(crate) struct Expulsion {
    pub(crate) session: u64,
    pub(crate) number: u64,
    /// It held the right to write.
    pub(crate) wrote: bool,
}

struct State {
    engine: Leases,
    /// Requests that wait, by ticket.
    wakers: BTreeMap<u64, Arc<Notify>>,
    /// Sessions that wait for recalls.
    polls: BTreeMap<u64, Arc<Notify>>,
    /// Sessions to be expelled.
    expels: VecDeque<Expulsion>,
    /// Changes whose caller left before the answer: they may still be applied.
    lingering: Vec<Pass>,
    /// Likewise snapshots: volume and generation.
    hushes: Vec<(u64, u64)>,
}

/// See the module.
pub(crate) struct Leasing {
    clock: Arc<dyn Clock>,
    /// order: never held while another lock is taken.
    state: Mutex<State>,
    /// order: never held while another lock is taken.
    pub(crate) fences: Mutex<Fences>,
    work: Notify,
}

impl Leasing {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let times = Times {
            ttl: Duration::from_millis(LEASE_TTL_MS),
            margin: Duration::from_millis(LEASE_MARGIN_MS),
            cool: Duration::from_millis(LEASE_COOL_MS),
            per_session: LEASES_PER_SESSION,
        };
        let state = State {
            engine: Leases::new(times),
            wakers: BTreeMap::new(),
            polls: BTreeMap::new(),
            expels: VecDeque::new(),
            lingering: Vec::new(),
            hushes: Vec::new(),
        };
        Arc::new(Self { clock, state: Mutex::new(state), fences: Mutex::default(), work: Notify::new() })
    }

    /// Runs the engine and does what it asks for.
    pub(crate) fn with<R>(&self, run: impl FnOnce(&mut Leases, Duration) -> R) -> R {
        let now = self.clock.monotonic();
        let mut state = self.state.lock();
        let result = run(&mut state.engine, now);
        let mut work = false;
        for effect in state.engine.take_effects() {
            match effect {
                Effect::Wake(ticket) => {
                    if let Some(wake) = state.wakers.get(&ticket) {
                        wake.notify_one();
                    }
                }
                Effect::Recall(session) => {
                    if let Some(poll) = state.polls.get(&session) {
                        poll.notify_waiters();
                    }
                    // There may be a nearer deadline.
                    work = true;
                }
                Effect::Expel { session, number, wrote } => {
                    state.expels.push_back(Expulsion { session, number, wrote });
                    work = true;
                }
            }
        }
        drop(state);
        if work {
            self.work.notify_one();
        }
        result
    }

    /// The task looks for the next deadline: one may have come that no effect tells of.
    pub(crate) fn wake(&self) {
        self.work.notify_one();
    }

    /// Sums, for metrics.
    pub(crate) fn counts(&self) -> Counts {
        self.state.lock().engine.counts()
    }

    /// This member leads no more.
    pub(crate) fn follow(&self) {
        self.with(|engine, _| engine.follow());
        let mut state = self.state.lock();
        state.expels.clear();
        state.lingering.clear();
        state.hushes.clear();
        drop(state);
        self.fences.lock().clear();
        self.work.notify_one();
    }

    /// Asks for bits; waits for others at most until `deadline`.
    pub(crate) async fn acquire(
        &self,
        session: u64,
        file: FileId,
        bits: u32,
        deadline: Duration,
    ) -> Result<Option<LeaseGrant>, WireError> {
        let ticket = match self.with(|engine, now| engine.acquire(now, session, file, bits)) {
            Acquired::Given(given) => return Ok(given),
            Acquired::Full => {
                return Err(WireError::new(
                    Code::Busy,
                    format!("no further lease on ino-{}: too many wait or are held; give some back", file.1),
                ));
            }
            Acquired::Waits(ticket) => ticket,
        };
        let _leave = CancelOnDrop { leasing: self, ticket };
        match self.wait(ticket, deadline).await {
            Some(Standing::Given(given)) => Ok(given),
            Some(_) => Err(leadership_lost()),
            None => Err(not_in_time(file.1)),
        }
    }

    /// Until a waiting request is over; `None`: not within `deadline`.
    async fn wait(&self, ticket: u64, deadline: Duration) -> Option<Standing> {
        let wake = Arc::new(Notify::new());
        self.state.lock().wakers.insert(ticket, wake.clone());
        let _leave = ForgetOnDrop { leasing: self, ticket };
        let until = tokio::time::Instant::now() + deadline.saturating_sub(ANSWER_TIME);
        loop {
            match self.with(|engine, _| engine.standing(ticket)) {
                Standing::Waits => {}
                over => return Some(over),
            }
            if tokio::time::timeout_at(until, wake.notified()).await.is_err() {
                return match self.with(|engine, _| engine.standing(ticket)) {
                    Standing::Waits => None,
                    over => Some(over),
                };
            }
        }
    }

    /// Recalls for a session above `after`; waits for the first at most `patience`.
    pub(crate) async fn recalls(
        &self,
        session: u64,
        after: u64,
        patience: Duration,
    ) -> Result<Vec<Recall>, WireError> {
        let poll = self.state.lock().polls.entry(session).or_default().clone();
        let until = tokio::time::Instant::now() + patience;
        loop {
            let news = poll.notified();
            tokio::pin!(news);
            // Before looking: what comes after the look wakes us.
            news.as_mut().enable();
            let (known, recalls) = self.with(|engine, _| {
                (engine.takes_part(session), engine.recalls(session, after, RECALLS_PER_ANSWER))
            });
            if !known || self.with(|engine, _| engine.is_expelled(session)) {
                return Err(unknown_session(session));
            }
            if !recalls.is_empty() || tokio::time::timeout_at(until, news).await.is_err() {
                return Ok(recalls);
            }
        }
    }

    /// The session is over.
    pub(crate) fn close_session(&self, session: u64) {
        self.with(|engine, now| engine.close_session(now, session));
        self.state.lock().polls.remove(&session);
    }

    fn linger_hush(&self, volume: u64, generation: u64) {
        self.state.lock().hushes.push((volume, generation));
        self.work.notify_one();
    }

    fn linger(&self, pass: Pass) {
        self.state.lock().lingering.push(pass);
        self.work.notify_one();
    }
}

struct ForgetOnDrop<'a> {
    leasing: &'a Leasing,
    ticket: u64,
}

impl Drop for ForgetOnDrop<'_> {
    fn drop(&mut self) {
        self.leasing.state.lock().wakers.remove(&self.ticket);
    }
}

struct CancelOnDrop<'a> {
    leasing: &'a Leasing,
    ticket: u64,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        self.leasing.with(|engine, now| engine.cancel(now, self.ticket));
    }
}

pub(crate) fn unknown_session(session: u64) -> WireError {
    WireError::new(
        Code::SessionUnknown,
        format!("session {session:016x} holds no leases here or was expelled; open it again"),
    )
}

fn leadership_lost() -> WireError {
    WireError::new(Code::NotLeader, "leadership changed while the request waited for leases; ask again")
}

fn in_grace() -> WireError {
    WireError::new(
        Code::Busy,
        "this MRC leads since a moment ago, and clients of the leader before have not all come back; try again",
    )
}

fn not_in_time(ino: u64) -> WireError {
    WireError::new(
        Code::Busy,
        format!("ino-{ino}: another client still has to give back its lease; try again"),
    )
}

/// The background task: expels, and frees what callers left behind. Runs until the service is gone.
pub(crate) async fn run(mrc: Weak<Mrc>, leasing: Arc<Leasing>) {
    loop {
        let planned = leasing.with(|engine, now| engine.next_deadline().map(|due| due.saturating_sub(now)));
        let planned = planned.unwrap_or(IDLE).min(IDLE);
        let before = leasing.clock.monotonic();
        // Whether woken or not, there is a round.
        let _ = tokio::time::timeout(planned, leasing.work.notified()).await;
        let Some(mrc) = mrc.upgrade().filter(|mrc| !mrc.stopping()) else { return };
        let slept = leasing.clock.monotonic().saturating_sub(before);
        if slept > planned + STALL {
            tracing::warn!("this MRC stood still for a while; holders of leases get their full time");
            leasing.with(|engine, now| engine.forgive(now));
        }
        leasing.with(|engine, now| engine.tick(now));
        round(&mrc, &leasing).await;
    }
}

async fn round(mrc: &Mrc, leasing: &Leasing) {
    let (expels, lingering, hushes) = {
        let mut state = leasing.state.lock();
        let state = &mut *state;
        (
            std::mem::take(&mut state.expels),
            std::mem::take(&mut state.lingering),
            std::mem::take(&mut state.hushes),
        )
    };
    let expelling = expels.iter().map(|expulsion| mrc.expel(*expulsion));
    let results = futures::future::join_all(expelling).await;
    let mut again = false;
    for (expulsion, result) in expels.into_iter().zip(results) {
        if let Err(error) = result
            && leasing.with(|engine, _| engine.leads())
        {
            let session = expulsion.session;
            tracing::warn!(session = format!("{session:016x}"), %error, "expelling is tried again");
            leasing.state.lock().expels.push_back(expulsion);
            again = true;
        }
    }
    if !lingering.is_empty() || !hushes.is_empty() {
        match mrc.barrier().await {
            Ok(()) => leasing.with(|engine, now| {
                for pass in &lingering {
                    engine.finish(now, pass, true);
                }
                for (volume, generation) in &hushes {
                    engine.unhush(now, *volume, *generation);
                }
            }),
            // Without leadership the passes are void anyway.
            Err(_) => {
                let mut state = leasing.state.lock();
                state.lingering.extend(lingering);
                state.hushes.extend(hushes);
                drop(state);
                again = leasing.with(|engine, _| engine.leads());
            }
        }
    }
    if again {
        tokio::time::sleep(ANSWER_TIME).await;
        leasing.work.notify_one();
    }
}
