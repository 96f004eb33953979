//! Checks that run at this leader: each on a thread of its own, over a snapshot, asked by number how it goes. A check ends
//! as soon as nobody asks any more or this member leads no longer.

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
/// Checks remembered, those at their end included.
const KNOWN_MAX: usize = 8;
/// Nobody asked for this long: the check ends and is forgotten. A tool always has a question open; when the leader
/// changes it does not come back here.
const ASKED_WITHIN: Duration = Duration::from_secs(10);
/// The same when somebody else wants to check the volume.
const WANTED_WITHIN: Duration = Duration::from_secs(2);
/// Findings in one answer: their texts stay far below the size of a message.
const PER_ANSWER: usize = 512;

/// Whether this member leads.
type Leads = Arc<dyn Fn() -> bool + Send + Sync>;

/// See the module.
pub(crate) struct Checks {
    clock: Arc<dyn Clock>,
    leads: Leads,
    next: AtomicU64,
    /// order: before the state of one.
    running: Mutex<BTreeMap<u64, Arc<Running>>>,
}

struct Running {
    volume: u64,
    inodes: u64,
    clock: Arc<dyn Clock>,
    leads: Leads,
    stop: AtomicBool,
    /// order: a leaf.
    state: Mutex<State>,
    news: Notify,
}

#[derive(Default)]
struct State {
    findings: Vec<Finding>,
    rows: u64,
    phase: &'static str,
    ended: Option<Outcome<Ended>>,
    /// Questions that wait for an answer.
    waiting: usize,
    /// When the last one was answered.
    asked: Duration,
}

impl State {
    fn is_abandoned(&self, now: Duration, patience: Duration) -> bool {
        self.waiting == 0 && now.saturating_sub(self.asked) > patience
    }
}

/// The thread's side.
struct Teller(Arc<Running>);

impl Told for Teller {
    fn found(&mut self, finding: Finding) {
        self.0.state.lock().findings.push(finding);
        self.0.news.notify_one();
    }

    fn phase(&mut self, phase: &'static str) {
        self.0.state.lock().phase = phase;
    }

    fn looked_at(&mut self, rows: u64) -> bool {
        self.0.state.lock().rows += rows;
        self.0.is_wanted()
    }
}

/// A question that waits.
struct Question<'a>(&'a Running);

impl<'a> Question<'a> {
    fn new(check: &'a Running) -> Self {
        check.state.lock().waiting += 1;
        Self(check)
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.waiting -= 1;
        state.asked = self.0.clock.monotonic();
    }
}

impl Checks {
    /// None runs. `seed` makes the numbers differ from those of other leaders.
    pub(crate) fn new(clock: Arc<dyn Clock>, leads: Leads, seed: u64) -> Self {
        Self { clock, leads, next: AtomicU64::new(seed | 1), running: Mutex::default() }
    }

    /// Starts a check of a volume with so many inodes and gives its number. `number` is the asker's own; 0: any. One that
    /// is known already is not started again.
    pub(crate) fn start(
        &self,
        table: Arc<dyn Table>,
        (volume, inodes): (u64, u64),
        number: u64,
    ) -> Result<u64, WireError> {
        let mut running = self.running.lock();
        if let Some(known) = running.get(&number) {
            return if known.volume == volume { Ok(number) } else { Err(unknown()) };
        }
        self.forget_abandoned(&mut running, volume);
        refuse_if_busy(&running, volume)?;
        let number = if number == 0 { self.next.fetch_add(1, Ordering::Relaxed) } else { number };
        let state = State { asked: self.clock.monotonic(), ..State::default() };
        let check = Arc::new(Running {
            volume,
            inodes,
            clock: self.clock.clone(),
            leads: self.leads.clone(),
            stop: AtomicBool::new(false),
            state: Mutex::new(state),
            news: Notify::new(),
        });
        running.insert(number, check.clone());
        drop(running);
        tokio::task::spawn_blocking(move || run(&*table, &check));
        Ok(number)
    }

    fn forget_abandoned(&self, running: &mut BTreeMap<u64, Arc<Running>>, wanted: u64) {
        let now = self.clock.monotonic();
        running.retain(|_, check| {
            let patience = if check.volume == wanted { WANTED_WITHIN } else { ASKED_WITHIN };
            let abandoned = check.state.lock().is_abandoned(now, patience);
            if abandoned {
                check.stop.store(true, Ordering::Relaxed);
            }
            !abandoned
        });
        while running.len() >= KNOWN_MAX {
            let over = running.iter().filter(|(_, check)| check.state.lock().ended.is_some());
            let Some(oldest) =
                over.min_by_key(|(_, check)| check.state.lock().asked).map(|(number, _)| *number)
            else {
                return;
            };
            running.remove(&oldest);
        }
    }

    /// How a check goes: findings after the first `after`; waits for news at most `wait`. Known for a while after its end,
    /// so that a question whose answer was lost can be asked again.
    pub(crate) async fn ask(
        &self,
        number: u64,
        after: u64,
        wait: Duration,
    ) -> Result<FsckProgress, WireError> {
        let check = self.running.lock().get(&number).cloned().ok_or_else(unknown)?;
        let _question = Question::new(&check);
        let until = self.clock.monotonic() + wait;
        loop {
            let now = self.clock.monotonic();
            match check.progress(number, after, now >= until) {
                Ok(None) => {}
                Ok(Some(progress)) => return Ok(progress),
                Err(error) => {
                    self.running.lock().remove(&number);
                    return Err(error);
                }
            }
            // Out of patience is an answer too.
            let _ = tokio::time::timeout(until.saturating_sub(now), check.news.notified()).await;
        }
    }

    /// The service ends: whatever runs ends too.
    pub(crate) fn stop_all(&self) {
        for check in self.running.lock().values() {
            check.stop.store(true, Ordering::Relaxed);
        }
    }
}

fn unknown() -> WireError {
    let text = format!(
        "this member knows no such check (the leader changed, or nobody asked for {} s); start anew",
        ASKED_WITHIN.as_secs()
    );
    WireError::new(Code::Stale, text)
}

fn refuse_if_busy(running: &BTreeMap<u64, Arc<Running>>, volume: u64) -> Result<(), WireError> {
    let busy = || running.values().filter(|check| check.state.lock().ended.is_none());
    let refuse = |text: String| {
        let until = WANTED_WITHIN.as_secs();
        Err(WireError::new(Code::Busy, format!("{text}; one that nobody asks for ends within {until} s")))
    };
    if let Some(other) = busy().find(|check| check.volume == volume) {
        let (rows, phase) = {
            let state = other.state.lock();
            (state.rows, state.phase)
        };
        return refuse(format!("another check of this volume runs (at its {phase}, {rows} rows so far)"));
    }
    if busy().count() >= RUNNING_MAX {
        return refuse(format!("{RUNNING_MAX} checks of other volumes run at this MRC"));
    }
    Ok(())
}

fn run(table: &dyn Table, running: &Arc<Running>) {
    let mut ended = None;
    table.at_one_moment(&mut |moment| {
        ended = Some(check(moment, running.volume, &mut Teller(running.clone())));
    });
    if let Some(Ok(Ended { stopped: true, .. })) = ended {
        tracing::info!(volume = running.volume, "a check of metadata ended early: nobody wants it any more");
    }
    running.state.lock().ended = ended;
    running.news.notify_one();
}

impl Running {
    fn is_wanted(&self) -> bool {
        let abandoned = self.state.lock().is_abandoned(self.clock.monotonic(), ASKED_WITHIN);
        !abandoned && !self.stop.load(Ordering::Relaxed) && (self.leads)()
    }

    /// `None`: nothing new, wait on.
    fn progress(&self, number: u64, after: u64, at_once: bool) -> Result<Option<FsckProgress>, WireError> {
        let state = self.state.lock();
        let after = usize::try_from(after).unwrap_or(usize::MAX).min(state.findings.len());
        let findings: Vec<Finding> = state.findings[after..].iter().take(PER_ANSWER).cloned().collect();
        let told_all = after + findings.len() == state.findings.len();
        let ended = match &state.ended {
            Some(ended) => Some(ended.clone()?),
            None => None,
        };
        if ended.is_some_and(|ended| ended.stopped) {
            // What it found is not all.
            return Err(unknown());
        }
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
            phase: state.phase.to_owned(),
            inodes: self.inodes,
        }))
    }
}

#[cfg(test)]
mod tests;
