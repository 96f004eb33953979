//! All that the engine can ask for.

use crate::engine::record::Record;
use crate::id::JobId;

/// What a supervisor is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Told {
    /// TERM, then KILL after the grace, milliseconds.
    Cancel(u64),
    /// A signal for the job's processes.
    Signal(i32),
    /// Stop them.
    Suspend,
    /// Let them go on.
    Resume,
}

/// All that can be asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Append to the job's log; then `Logged`, or `Gone` when another writer was there.
    Append {
        /// The job.
        job: JobId,
        /// Consecutive records.
        records: Vec<Record>,
        /// Wait for the disk.
        durable: bool,
    },
    /// Win the decision file with "go", then start the supervisor; then `Started`, `LaunchFailed` or `Revoked`.
    Launch {
        /// The job.
        job: JobId,
        /// Which attempt.
        attempt: u32,
        /// Wait so long first, milliseconds.
        delay_ms: u64,
    },
    /// Win the decision file with "revoked"; then `Revoked`, or `LaunchFailed`/`Started` when it says "go".
    Revoke {
        /// The job.
        job: JobId,
        /// Which attempt.
        attempt: u32,
        /// Why.
        why: String,
    },
    /// Watch a supervisor that was started by an earlier manager; then `Exited`.
    Adopt {
        /// The job.
        job: JobId,
        /// Which attempt.
        attempt: u32,
    },
    /// Tell the supervisor.
    Tell {
        /// The job.
        job: JobId,
        /// Which attempt.
        attempt: u32,
        /// What.
        told: Told,
    },
    /// Move the descriptor between `run/` and `hold/`.
    Move {
        /// The job.
        job: JobId,
        /// To `hold/` (with a `.why`), else to `run/`.
        hold: bool,
        /// Text of the `.why`.
        why: String,
    },
    /// Write the result, move the descriptor to `done/` or `failed/`; then `Published`.
    Publish {
        /// The job; its state is terminal.
        job: JobId,
    },
    /// Put the answer beside a consumed control file.
    Answer {
        /// The job.
        job: JobId,
        /// The control file.
        file: String,
        /// Whether the wish was granted.
        ok: bool,
        /// What came of it.
        text: String,
    },
}
