//! One job: its states, and how records move it between them.

use super::event::{Control, Evidence, Facts};
use super::record::{Change, ExitRecord, ExitStatus, Record};

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Claimed.
    New,
    /// Must not start.
    Held,
    /// Waits for a time.
    Depend,
    /// Wants slots.
    Sched,
    /// Has slots, is being started.
    Alloc,
    /// Runs.
    Run,
    /// Its processes are stopped.
    Susp,
    /// The outcome stands, slots are being freed.
    Cleanup(Ending),
    /// Over.
    Over(Ending),
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Exit status 0.
    Done,
    /// Any other exit, or it could not be started.
    Failed,
    /// As wished.
    Canceled,
    /// At its time limit.
    Timeout,
    /// At its memory limit.
    Oom,
    /// The node or the supervisor was lost.
    NodeFail,
}

impl Ending {
    /// All of them.
    pub const ALL: [Ending; 6] =
        [Ending::Done, Ending::Failed, Ending::Canceled, Ending::Timeout, Ending::Oom, Ending::NodeFail];

    /// As written in files.
    pub fn word(self) -> &'static str {
        match self {
            Ending::Done => "DONE",
            Ending::Failed => "FAILED",
            Ending::Canceled => "CANCELED",
            Ending::Timeout => "TIMEOUT",
            Ending::Oom => "OOM",
            Ending::NodeFail => "NODE_FAIL",
        }
    }

    fn from_word(word: &str) -> Self {
        Self::ALL.into_iter().find(|e| e.word() == word).unwrap_or(Ending::Failed)
    }

    /// What an exit record means for the job. A wished end counts as such only when the job did not beat it to
    /// a good end by itself.
    pub fn of(exit: &ExitRecord) -> Self {
        match exit.status {
            ExitStatus::Exited if exit.exit_code == Some(0) => Ending::Done,
            ExitStatus::Exited | ExitStatus::Signaled | ExitStatus::StartFailed => Ending::Failed,
            ExitStatus::Canceled => Ending::Canceled,
            ExitStatus::Timeout => Ending::Timeout,
            ExitStatus::Oom => Ending::Oom,
            ExitStatus::LostBeforeExec | ExitStatus::SupervisorLost | ExitStatus::NodeReboot => {
                Ending::NodeFail
            }
        }
    }
}

impl JobState {
    /// As written in files.
    pub fn word(self) -> &'static str {
        match self {
            JobState::New => "NEW",
            JobState::Held => "HELD",
            JobState::Depend => "DEPEND",
            JobState::Sched => "SCHED",
            JobState::Alloc => "ALLOC",
            JobState::Run => "RUN",
            JobState::Susp => "SUSP",
            JobState::Cleanup(_) => "CLEANUP",
            JobState::Over(ending) => ending.word(),
        }
    }

    /// Whether a job in this state occupies slots.
    pub fn holds_slots(self) -> bool {
        matches!(self, JobState::Alloc | JobState::Run | JobState::Susp)
    }

    /// Whether nothing was started yet.
    pub fn is_waiting(self) -> bool {
        matches!(self, JobState::New | JobState::Held | JobState::Depend | JobState::Sched)
    }

    /// The state after a change; `None` when the change cannot happen in this state.
    pub fn after(self, change: &Change) -> Option<JobState> {
        use JobState as S;
        Some(match (self, change) {
            (S::New, Change::Submit { .. }) => S::Sched,
            (S::Sched, Change::Depend { .. }) => S::Depend,
            (S::Depend, Change::Ready {}) => S::Sched,
            (S::Sched | S::Depend, Change::Hold { .. }) => S::Held,
            (S::Held, Change::Release {}) => S::Sched,
            (S::Sched, Change::Alloc { .. }) => S::Alloc,
            (S::Alloc, Change::Retry { .. }) => S::Sched,
            (S::Alloc, Change::Start { .. }) => S::Run,
            (S::Run, Change::Suspend {}) => S::Susp,
            (S::Susp, Change::Resume {}) => S::Run,
            (S::Sched | S::Depend | S::Held | S::Alloc | S::Run | S::Susp, Change::Cancel { .. }) => self,
            (S::Sched | S::Depend | S::Held | S::Alloc | S::Run | S::Susp, Change::Finish { state, .. }) => {
                S::Cleanup(Ending::from_word(state))
            }
            (S::Cleanup(ending), Change::Clean {}) => S::Over(ending),
            _ => return None,
        })
    }
}

/// One live job.
#[derive(Debug)]
pub struct Job {
    /// What is known of it from its claim on.
    pub facts: Facts,
    /// Where it stands by its log.
    pub state: JobState,
    /// When it came there, milliseconds since 1970.
    pub since_ms: u64,
    /// Last record's number.
    pub seq: u64,
    /// Current attempt, from 1; 0 before the first.
    pub attempt: u32,
    /// Supervisor's pid.
    pub pid: Option<u32>,
    /// When the unit was seen running.
    pub started_ms: Option<u64>,
    /// The recorded wish to end it.
    pub cancel: Option<(String, u64)>,
    /// Code and text of the hold.
    pub hold: Option<(String, String)>,
    /// The exit record and the line that says why it ended.
    pub outcome: Option<(Option<ExitRecord>, String)>,
    /// An append is under way.
    pub(super) appending: bool,
    /// Slots are taken for it.
    pub(super) holds_slots: bool,
    /// A launch, revocation or publication is under way.
    pub(super) acting: bool,
    /// The current attempt's supervisor is known to be there.
    pub(super) started: bool,
    /// The supervisor was told to end it.
    pub(super) told_cancel: bool,
    /// Launches of this attempt that failed.
    pub(super) launch_tries: u32,
    /// The exit record that came in while the log was busy.
    pub(super) exit: Option<ExitRecord>,
    /// The attempt was revoked.
    pub(super) revoked: bool,
    /// No supervisor could be started, and that is given up.
    pub(super) launch_error: Option<String>,
    /// Wishes that wait for the log.
    pub(super) wishes: Vec<Control>,
    /// What recovery found; emptied as it is used.
    pub(super) evidence: Evidence,
}

impl Job {
    pub(super) fn new(facts: Facts, now: u64) -> Self {
        Self {
            facts,
            state: JobState::New,
            since_ms: now,
            seq: 0,
            attempt: 0,
            pid: None,
            started_ms: None,
            cancel: None,
            hold: None,
            outcome: None,
            appending: false,
            holds_slots: false,
            acting: false,
            started: false,
            told_cancel: false,
            launch_tries: 0,
            exit: None,
            revoked: false,
            launch_error: None,
            wishes: Vec::new(),
            evidence: Evidence::default(),
        }
    }

    /// Applies one record of the log. A record that cannot follow (a log edited by hand) moves nothing but counts.
    pub(super) fn apply(&mut self, record: &Record) {
        assert_eq!(record.seq, self.seq + 1, "{}: records come in order", self.facts.id);
        self.seq = record.seq;
        let Some(next) = self.state.after(&record.change) else { return };
        if next != self.state {
            self.since_ms = record.t_ms;
        }
        self.state = next;
        match &record.change {
            Change::Alloc { attempt, .. } => {
                self.attempt = *attempt;
                self.launch_tries = 0;
                self.started = false;
                self.exit = None;
            }
            Change::Start { pid, at_ms, .. } => {
                self.pid = Some(*pid);
                self.started_ms = Some(*at_ms);
            }
            Change::Cancel { text, grace_ms } => self.cancel = Some((text.clone(), *grace_ms)),
            Change::Hold { code, text } => self.hold = Some((code.clone(), text.clone())),
            Change::Release {} => self.hold = None,
            Change::Finish { exit, text, .. } => self.outcome = Some((exit.clone(), text.clone())),
            Change::Submit { .. }
            | Change::Depend { .. }
            | Change::Ready {}
            | Change::Suspend {}
            | Change::Resume {}
            | Change::Retry { .. }
            | Change::Clean {} => {}
        }
    }
}
