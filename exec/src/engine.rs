//! Decides what becomes of jobs; does nothing. No clock, no files, no processes.
//!
//! A job's state is a fold over its event log ([`Record`]s); what the engine wants changed it first asks to be
//! logged ([`Effect::Append`]) and acts upon only when that is done ([`Event::Logged`]). One append is under way for
//! a job at a time; what arrives meanwhile waits in the job.
//!
//! ```text
//! (claim) -> NEW -> DEPEND -> SCHED -> ALLOC -> RUN <-> SUSP -> CLEANUP -> DONE | FAILED | CANCELED | TIMEOUT | ...
//!             \------^\--> HELD --^       \--(cancel, lost before start)--^
//! ```
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod effect;
mod event;
mod job;
mod queue;
mod record;
mod schedule;
mod view;

#[cfg(test)]
mod handle_test;

use std::collections::{BTreeMap, BTreeSet};

pub use effect::{Effect, Told};
pub(crate) use event::GRACE_MS;
pub use event::{Control, Event, Evidence, Facts, Verb};
pub use job::{Ending, Job, JobState};
pub use record::{Change, ExitRecord, ExitStatus, Record, replay};
pub use view::{Reason, StatusView};

use crate::id::JobId;
use queue::Queue;

/// Time as the engine knows it: milliseconds since 1970.
pub type UnixMs = u64;

/// A run is logged as `start` when it lasted this long; shorter runs log it together with their end.
const START_LOG_AFTER_MS: u64 = 300;
/// Attempts to get a supervisor going before the job fails.
const LAUNCH_TRIES_MAX: u32 = 5;

/// All live jobs of one manager.
#[derive(Debug)]
pub struct Engine {
    /// Name in the records.
    by: String,
    node: String,
    /// The manager's lease epoch, written into each record.
    epoch: u64,
    cores: u32,
    /// Invariant: sum of the slots of all jobs that hold some; `<= cores` except for adopted jobs.
    used: u32,
    jobs: BTreeMap<JobId, Job>,
    queue: Queue,
    /// Jobs whose status files are out of date.
    dirty: BTreeSet<JobId>,
}

impl Engine {
    /// An engine without jobs for a node with `cores` slots.
    pub fn new(node: &str, epoch: u64, cores: u32) -> Self {
        assert!(cores > 0, "a node has at least one slot");
        Self {
            by: format!("exec@{node}"),
            node: node.to_string(),
            epoch,
            cores,
            used: 0,
            jobs: BTreeMap::new(),
            queue: Queue::default(),
            dirty: BTreeSet::new(),
        }
    }

    /// Takes one event and says what must be done about it.
    pub fn handle(&mut self, event: Event, now: UnixMs) -> Vec<Effect> {
        let mut out = Vec::new();
        match event {
            Event::Claimed { facts } => self.on_claimed(facts, now, &mut out),
            Event::Recovered { facts, records, evidence } => {
                self.on_recovered(facts, records, evidence, now, &mut out);
            }
            Event::Logged { job, records } => self.on_logged(&job, &records, now, &mut out),
            Event::Gone { job } => self.forget(&job),
            Event::Started { job, attempt, pid } => self.on_started(&job, attempt, pid, now, &mut out),
            Event::LaunchFailed { job, attempt, why } => {
                self.on_launch_failed(&job, attempt, why, now, &mut out)
            }
            Event::Revoked { job, attempt } => self.on_revoked(&job, attempt, now, &mut out),
            Event::Exited { job, attempt, exit } => self.on_exited(&job, attempt, exit, now, &mut out),
            Event::Published { job } => self.forget(&job),
            Event::Control { job, control } => self.on_control(&job, control, now, &mut out),
            Event::DescriptorGone { job } => {
                let control = Control::cancel("its file was removed from run/");
                self.on_control(&job, control, now, &mut out);
            }
            Event::MovedToRun { job } => {
                self.on_control(&job, Control::bare(Verb::Release), now, &mut out);
            }
            Event::Tick => self.on_tick(now, &mut out),
        }
        self.fill_slots(now, &mut out);
        out
    }

    /// A live job.
    pub fn job(&self, id: &JobId) -> Option<&Job> {
        self.jobs.get(id)
    }

    /// All live jobs.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values()
    }

    /// How many jobs are live.
    pub fn live(&self) -> usize {
        self.jobs.len()
    }

    /// Slots in use and in all.
    pub fn slots(&self) -> (u32, u32) {
        (self.used, self.cores)
    }

    /// Jobs whose status files are out of date; the caller writes them.
    pub fn take_dirty(&mut self, most: usize) -> Vec<JobId> {
        let some: Vec<JobId> = self.dirty.iter().take(most).cloned().collect();
        for id in &some {
            self.dirty.remove(id);
        }
        some
    }

    /// What must hold between any two events; called by every test after each of them.
    pub fn invariants(&self) {
        let held: u32 =
            self.jobs.values().filter(|j| j.holds_slots).map(|j| j.facts.spec.resources.cpus).sum();
        assert_eq!(held, self.used, "slots in use are those that jobs hold");
        for job in self.jobs.values() {
            let queued = self.queue.contains(&job.facts.user, &job.facts.id);
            assert!(!queued || !job.holds_slots, "{} waits and holds slots", job.facts.id);
            assert!(!queued || job.state == JobState::Sched, "{} waits in {:?}", job.facts.id, job.state);
            assert!(job.attempt > 0 || !job.started, "{} started without an attempt", job.facts.id);
        }
    }

    /// Has a job's status files written again.
    pub fn mark_dirty(&mut self, id: &JobId) {
        if self.jobs.contains_key(id) {
            self.dirty.insert(id.clone());
        }
    }

    fn on_claimed(&mut self, facts: Facts, now: UnixMs, out: &mut Vec<Effect>) {
        if self.jobs.contains_key(&facts.id) {
            return;
        }
        let id = facts.id.clone();
        let mut job = Job::new(facts, now);
        let submit = Change::Submit {
            user: job.facts.user.clone(),
            file: job.facts.file.clone(),
            sha256: job.facts.sha256.clone(),
        };
        let mut changes = vec![submit];
        changes.extend(entry_change(&job, now));
        if changes.len() == 1 && self.queue.is_empty() && self.fits(&job) {
            // A free slot: one log write says both that the job exists and that it starts.
            self.take_slots(&mut job);
            changes.push(Change::Alloc {
                attempt: 1,
                node: self.node.clone(),
                cpus: job.facts.spec.resources.cpus,
            });
        }
        self.jobs.insert(id.clone(), job);
        self.append(&id, changes, now, out);
    }

    fn on_recovered(
        &mut self,
        facts: Facts,
        records: Vec<Record>,
        evidence: Evidence,
        now: UnixMs,
        out: &mut Vec<Effect>,
    ) {
        if self.jobs.contains_key(&facts.id) {
            return;
        }
        if records.is_empty() {
            return self.on_claimed(facts, now, out);
        }
        let id = facts.id.clone();
        let mut job = Job::new(facts, now);
        for record in &records {
            job.apply(record);
        }
        if evidence.started && job.attempt == 0 {
            // The log was cut (power failure) but the manifest is there: the start did happen.
            job.attempt = 1;
            job.state = JobState::Alloc;
        }
        job.evidence = evidence;
        if job.state.holds_slots() && !job.holds_slots {
            self.take_slots(&mut job);
        }
        self.jobs.insert(id.clone(), job);
        self.dirty.insert(id.clone());
        self.proceed(&id, now, out);
    }

    fn on_logged(&mut self, id: &JobId, records: &[Record], now: UnixMs, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        for record in records {
            job.apply(record);
        }
        job.appending = false;
        self.dirty.insert(id.clone());
        self.proceed(id, now, out);
    }

    fn forget(&mut self, id: &JobId) {
        if let Some(mut job) = self.jobs.remove(id) {
            self.give_slots(&mut job);
            self.queue.remove(&job.facts.user, id);
        }
        self.dirty.remove(id);
    }

    /// Numbers the changes and asks for them to be logged.
    fn append(&mut self, id: &JobId, changes: Vec<Change>, now: UnixMs, out: &mut Vec<Effect>) {
        let job = self.jobs.get_mut(id).expect("only called for live jobs");
        assert!(!job.appending, "one append at a time for {id}");
        assert!(!changes.is_empty());
        let durable = changes.iter().any(Change::must_be_durable);
        let first = job.seq + 1;
        let records = (first..)
            .zip(changes)
            .map(|(seq, change)| Record { t_ms: now, seq, epoch: self.epoch, by: self.by.clone(), change })
            .collect();
        job.appending = true;
        out.push(Effect::Append { job: id.clone(), records, durable });
    }
}

/// The state in which a job begins its wait, if it is not simply the queue.
fn entry_change(job: &Job, now: UnixMs) -> Option<Change> {
    let begin_unix_ms = job.facts.spec.begin_unix_ms.filter(|begin| *begin > now)?;
    Some(Change::Depend { begin_unix_ms })
}
