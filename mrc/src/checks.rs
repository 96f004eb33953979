//! Checks that run at this leader: each on a thread of its own, over a snapshot, asked by number how it goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use proto::error::{Code, WireError};
use proto::fsck::{Finding, FsckProgress};
use rt::clock::Clock;
use rt::table::Table;
use tokio::sync::Notify;

use crate::fsck::{Ended, Told, check};
use crate::namespace::Outcome;

/// Checks at the same time.
const RUNNING_MAX: usize = 2;
/// Nobody asked for this long: the check ends and is forgotten.
const ASKED_WITHIN: Duration = Duration::from_secs(60);
/// Findings in one answer: their texts stay far below the size of a message.
const PER_ANSWER: usize = 512;

/// See the module.
pub(crate) struct Checks {
    clock: Arc<dyn Clock>,
    next: AtomicU64,
    /// order: before the state of one.
    running: Mutex<BTreeMap<u64, Arc<Running>>>,
}

struct Running {
    volume: u64,
    stop: AtomicBool,
    /// order: a leaf.
    state: Mutex<State>,
    news: Notify,
}

#[derive(Default)]
struct State {
    findings: Vec<Finding>,
    rows: u64,
    ended: Option<Outcome<Ended>>,
    asked: Duration,
}

/// The thread's side.
struct Teller(Arc<Running>);

impl Told for Teller {
    fn found(&mut self, finding: Finding) {
        self.0.state.lock().findings.push(finding);
        self.0.news.notify_one();
    }

    fn looked_at(&mut self, rows: u64) -> bool {
        self.0.state.lock().rows += rows;
        !self.0.stop.load(Ordering::Relaxed)
    }
}

impl Checks {
    /// None runs. `seed` makes the numbers differ from those of other leaders.
    pub(crate) fn new(clock: Arc<dyn Clock>, seed: u64) -> Self {
        Self { clock, next: AtomicU64::new(seed | 1), running: Mutex::default() }
    }

    /// Starts a check and gives its number.
    pub(crate) fn start(&self, table: Arc<dyn Table>, volume: u64) -> Result<u64, WireError> {
        let now = self.clock.monotonic();
        let mut running = self.running.lock();
        running.retain(|_, check| {
            let forgotten = now.saturating_sub(check.state.lock().asked) > ASKED_WITHIN;
            if forgotten {
                check.stop.store(true, Ordering::Relaxed);
            }
            !forgotten
        });
        let busy = running.values().filter(|check| check.state.lock().ended.is_none());
        if running.values().any(|check| check.volume == volume && check.state.lock().ended.is_none())
            || busy.count() >= RUNNING_MAX
        {
            let text = format!(
                "a check of this volume runs already, or {RUNNING_MAX} others; try again in a minute"
            );
            return Err(WireError::new(Code::Busy, text));
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let check = Arc::new(Running {
            volume,
            stop: AtomicBool::new(false),
            state: Mutex::new(State { asked: now, ..State::default() }),
            news: Notify::new(),
        });
        running.insert(number, check.clone());
        drop(running);
        tokio::task::spawn_blocking(move || run(&*table, &check));
        Ok(number)
    }

    /// How a check goes: findings after the first `after`; waits for news at most `wait`. At its end it is forgotten.
    pub(crate) async fn ask(
        &self,
        number: u64,
        after: u64,
        wait: Duration,
    ) -> Result<FsckProgress, WireError> {
        let check = self.running.lock().get(&number).cloned();
        let Some(check) = check else {
            let text = "this member knows no such check (the leader changed, or nobody asked for a minute); start anew";
            return Err(WireError::new(Code::Stale, text));
        };
        let until = self.clock.monotonic() + wait;
        loop {
            let now = self.clock.monotonic();
            if let Some(progress) = check.progress(number, after, now, now >= until)? {
                if progress.done {
                    self.running.lock().remove(&number);
                }
                return Ok(progress);
            }
            // Out of patience is an answer too.
            let _ = tokio::time::timeout(until.saturating_sub(now), check.news.notified()).await;
        }
    }
}

fn run(table: &dyn Table, running: &Arc<Running>) {
    let mut ended = None;
    table.at_one_moment(&mut |moment| {
        ended = Some(check(moment, running.volume, &mut Teller(running.clone())));
    });
    running.state.lock().ended = ended;
    running.news.notify_one();
}

impl Running {
    /// `None`: nothing new, wait on.
    fn progress(
        &self,
        number: u64,
        after: u64,
        now: Duration,
        at_once: bool,
    ) -> Result<Option<FsckProgress>, WireError> {
        let mut state = self.state.lock();
        state.asked = now;
        let after = usize::try_from(after).unwrap_or(usize::MAX).min(state.findings.len());
        let findings: Vec<Finding> = state.findings[after..].iter().take(PER_ANSWER).cloned().collect();
        let told_all = after + findings.len() == state.findings.len();
        let ended = match &state.ended {
            Some(ended) => Some(ended.clone()?),
            None => None,
        };
        if findings.is_empty() && ended.is_none() && !at_once {
            return Ok(None);
        }
        Ok(Some(FsckProgress {
            check: number,
            findings,
            rows: state.rows,
            done: ended.is_some() && told_all,
            cut: ended.is_some_and(|ended| ended.cut),
            seen: ended.map_or(0, |ended| ended.seen),
        }))
    }
}
