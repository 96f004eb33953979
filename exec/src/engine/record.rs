//! The event log of a job: what it holds, and how it is read back.

use serde::{Deserialize, Serialize};

/// One line of `eventlog`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When, milliseconds since 1970.
    pub t_ms: u64,
    /// Its number, from 1 without gaps.
    pub seq: u64,
    /// Lease epoch of the manager that wrote it; never falls.
    pub epoch: u64,
    /// Who wrote it.
    pub by: String,
    /// What happened.
    #[serde(flatten)]
    pub change: Change,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "e", content = "ctx", rename_all = "snake_case")]
pub enum Change {
    /// The descriptor was claimed.
    Submit {
        /// Whose spool.
        user: String,
        /// The descriptor's name.
        file: String,
        /// Its hash.
        sha256: String,
    },
    /// It waits for a time.
    Depend {
        /// Milliseconds since 1970.
        begin_unix_ms: u64,
    },
    /// What it waited for has come.
    Ready {},
    /// It must not start.
    Hold {
        /// `USER`, `POLICY` or `ERROR`.
        code: String,
        /// Why.
        text: String,
    },
    /// The hold is gone.
    Release {},
    /// Slots are taken and the attempt may be launched.
    Alloc {
        /// From 1.
        attempt: u32,
        /// Where.
        node: String,
        /// Slots.
        cpus: u32,
    },
    /// The unit runs.
    Start {
        /// Which attempt.
        attempt: u32,
        /// Supervisor's pid on that node.
        pid: u32,
        /// When it was seen, milliseconds since 1970.
        at_ms: u64,
    },
    /// Its processes are stopped.
    Suspend {},
    /// They go on.
    Resume {},
    /// The end is wished; from here on no start.
    Cancel {
        /// Why.
        text: String,
        /// Between TERM and KILL, milliseconds.
        grace_ms: u64,
    },
    /// The attempt did not start and another may be made.
    Retry {
        /// The attempt that failed.
        attempt: u32,
        /// Why.
        why: String,
    },
    /// The outcome stands.
    Finish {
        /// The exit record it rests on; none when nothing was started.
        exit: Option<ExitRecord>,
        /// Terminal state in words, see `JobState::word`.
        state: String,
        /// Why, one line.
        text: String,
    },
    /// Slots are free, results can be published; the last record.
    Clean {},
}

impl Change {
    /// Whether its effect must wait until it is on the medium. A `submit` need not: the claim's rename is the
    /// commit. A `start` need not: the manifest is.
    pub fn must_be_durable(&self) -> bool {
        match self {
            Change::Submit { .. }
            | Change::Start { .. }
            | Change::Ready {}
            | Change::Suspend {}
            | Change::Resume {} => false,
            Change::Depend { .. }
            | Change::Hold { .. }
            | Change::Release {}
            | Change::Alloc { .. }
            | Change::Cancel { .. }
            | Change::Retry { .. }
            | Change::Finish { .. }
            | Change::Clean {} => true,
        }
    }
}

/// What a supervisor, or recovery in its place, says of a unit's end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Version of this form, 1.
    pub schema: u32,
    /// How it ended.
    pub status: ExitStatus,
    /// Exit code, when it exited.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// One line for people.
    pub text: String,
    /// When the program started, milliseconds since 1970; 0 if it did not.
    pub started_ms: u64,
    /// When it ended.
    pub ended_ms: u64,
    /// Processor time in user mode, milliseconds.
    pub user_ms: u64,
    /// Processor time in the kernel, milliseconds.
    pub system_ms: u64,
    /// Largest resident set, bytes.
    pub max_rss: u64,
    /// Which attempt.
    pub attempt: u32,
    /// Epoch of the manager that ordered the start.
    pub epoch: u64,
    /// Who wrote the record.
    pub by: String,
}

/// How a unit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// The program exited by itself.
    Exited,
    /// A signal that nobody of us sent.
    Signaled,
    /// Ended because it was cancelled.
    Canceled,
    /// Ended at its time limit.
    Timeout,
    /// Killed for its memory limit.
    Oom,
    /// The program could not be executed.
    StartFailed,
    /// The supervisor vanished before it executed anything.
    LostBeforeExec,
    /// The supervisor vanished while the program ran.
    SupervisorLost,
    /// The node restarted.
    NodeReboot,
}

/// Reads a log back. Records of competing writers are told apart by number and epoch: the first with the next number
/// and an epoch that does not fall counts, others are dropped; a torn last line is no record.
pub fn replay(bytes: &[u8]) -> Vec<Record> {
    let mut out: Vec<Record> = Vec::new();
    for line in bytes.split(|b| *b == b'\n') {
        let Ok(record) = serde_json::from_slice::<Record>(line) else { continue };
        let (seq, epoch) = out.last().map_or((0, 0), |r| (r.seq, r.epoch));
        if record.seq == seq + 1 && record.epoch >= epoch {
            out.push(record);
        }
    }
    out
}
