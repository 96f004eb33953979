//! All that can happen to the engine.

use crate::engine::record::{ExitRecord, Record};
use crate::id::JobId;
use crate::spec::JobSpec;

/// What is known of a job from its claim on.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its id.
    pub id: JobId,
    /// Whose spool it came from.
    pub user: String,
    /// Name of the descriptor without `~id`.
    pub file: String,
    /// Hash of the descriptor.
    pub sha256: String,
    /// When it was claimed, milliseconds since 1970.
    pub submitted_ms: u64,
    /// What to run.
    pub spec: JobSpec,
}

/// What recovery found beside the log.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The current attempt's `decision` file exists and says so.
    pub decision: Option<bool>,
    /// The manifest exists: a start happened or was about to.
    pub started: bool,
    /// The supervisor lives, with this pid.
    pub supervisor: Option<u32>,
    /// The exit record exists.
    pub exit: Option<ExitRecord>,
    /// The descriptor stands in `hold/`.
    pub in_hold: bool,
    /// The descriptor is neither in `run/` nor in `hold/`.
    pub gone: bool,
}

/// A wish of the user.
#[derive(Clone, Debug, PartialEq)]
pub struct Control {
    /// Name of the control file that gets the answer; none for wishes made by moving or removing the descriptor.
    pub file: Option<String>,
    /// What is wished.
    pub verb: Verb,
    /// Who or why, for the log.
    pub text: String,
}

/// What can be wished.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// End it; kill after the grace.
    Cancel {
        /// Time between TERM and KILL, milliseconds.
        grace_ms: u64,
    },
    /// Send a signal to its processes.
    Signal(i32),
    /// Stop its processes.
    Suspend,
    /// Let them go on.
    Resume,
    /// Do not start it.
    Hold,
    /// Take the hold away.
    Release,
}

/// Default time between TERM and KILL, milliseconds.
pub(crate) const GRACE_MS: u64 = 10_000;

impl Control {
    /// A cancel without a control file.
    pub fn cancel(text: &str) -> Self {
        Self { file: None, verb: Verb::Cancel { grace_ms: GRACE_MS }, text: text.to_string() }
    }

    /// A wish without a control file.
    pub fn bare(verb: Verb) -> Self {
        Self { file: None, verb, text: String::new() }
    }
}

/// All that can happen.
#[derive(Clone, Debug)]
pub enum Event {
    /// A descriptor was claimed; its job directory stands.
    Claimed {
        /// The job.
        facts: Facts,
    },
    /// A live job was found on disk.
    Recovered {
        /// The job.
        facts: Facts,
        /// Its log, already checked by `replay`.
        records: Vec<Record>,
        /// What else is there.
        evidence: Evidence,
    },
    /// An append is durable.
    Logged {
        /// The job.
        job: JobId,
        /// What was appended.
        records: Vec<Record>,
    },
    /// Another manager wrote to the job, or its directory vanished: it is not ours any more.
    Gone {
        /// The job.
        job: JobId,
    },
    /// The supervisor has written its manifest.
    Started {
        /// The job.
        job: JobId,
        /// Which attempt.
        attempt: u32,
        /// The supervisor.
        pid: u32,
    },
    /// No supervisor could be started; nothing ran.
    LaunchFailed {
        /// The job.
        job: JobId,
        /// Which attempt.
        attempt: u32,
        /// Why.
        why: String,
    },
    /// The attempt's decision is "revoked"; it will never run.
    Revoked {
        /// The job.
        job: JobId,
        /// Which attempt.
        attempt: u32,
    },
    /// The exit record is there.
    Exited {
        /// The job.
        job: JobId,
        /// Which attempt.
        attempt: u32,
        /// The record.
        exit: ExitRecord,
    },
    /// Results are in place and the descriptor is in `done/` or `failed/`.
    Published {
        /// The job.
        job: JobId,
    },
    /// The user wishes something.
    Control {
        /// The job.
        job: JobId,
        /// The wish.
        control: Control,
    },
    /// The descriptor vanished from `run/` or `hold/`: a cancel.
    DescriptorGone {
        /// The job.
        job: JobId,
    },
    /// The descriptor of a held job was moved to `run/`: a release.
    MovedToRun {
        /// The job.
        job: JobId,
    },
    /// Time passed.
    Tick,
}
