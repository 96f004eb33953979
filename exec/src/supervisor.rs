//! The process that runs one unit of a job. It depends on nobody: exec, and every other service, may be killed and
//! started again while it goes on; in the end it leaves the exit record.
//!
//! It gets its [`Order`] on standard input, reports on standard output (a pipe that may break), and works on the mount
//! path of the job's directory. Steps: win `manifest.json` (of several supervisors one), write the `exec` mark into
//! the unit's log, let the program go, wait, write `exit.json` with retries for ever.
//!
//! ```text
//! exec --spawn--> first process --fork, setsid--> supervisor --fork (new pid namespace)--> init --fork--> program
//! ```

mod cgroup;
mod init;
mod manifest;
mod program;
mod pump;
mod unitdir;
mod watch;

use std::io::{Read, Write};

use serde::{Deserialize, Serialize};

pub(crate) use cgroup::sweep as sweep_groups;
pub(crate) use manifest::{Manifest, boot_id, is_alive, mark_started, process_start};
pub(crate) use program::DEFAULT_PATH;
pub(crate) use unitdir::local_copy;
pub(crate) use watch::tell;

use crate::engine::{ExitRecord, ExitStatus};

/// What a supervisor is to do; everything resolved, nothing to look up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// The job.
    pub job: String,
    /// Which unit.
    pub unit: u32,
    /// Which attempt.
    pub attempt: u32,
    /// Epoch of the manager that ordered it.
    pub epoch: u64,
    /// Name of the node.
    pub node: String,
    /// Where the volume is mounted.
    pub mount: String,
    /// The job's directory below it.
    pub job_dir: String,
    /// The attempt's directory below the job's.
    pub unit_dir: String,
    /// Where exit records are kept while the file system is away.
    pub data_dir: String,
    /// Who runs it.
    pub identity: Option<Identity>,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub cwd: String,
    /// Standard input.
    pub stdin: String,
    /// Standard output.
    pub stdout: Sink,
    /// Standard error.
    pub stderr: Sink,
    /// Slots, as a weight for the processor.
    pub cpus: u32,
    /// Memory limit, bytes.
    pub memory: Option<u64>,
    /// Time limit, milliseconds.
    pub time_ms: Option<u64>,
    /// A signal so long before the time limit: number, milliseconds.
    pub early_signal: Option<(i32, u64)>,
    /// Between TERM and KILL at the time limit, milliseconds.
    pub grace_ms: u64,
}

/// The user that a program runs as; set when the supervisor is privileged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// All groups.
    pub groups: Vec<u32>,
}

/// Where output goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Sink {
    /// A file in the job's directory, made for the user.
    JobFile(String),
    /// A path of the user, opened with the user's rights.
    UserPath {
        /// Relative to the working directory.
        path: String,
        /// Append to it.
        append: bool,
    },
}

/// One line of the report pipe.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub enum Report {
    /// The manifest is won.
    Started {
        /// The supervisor.
        pid: u32,
    },
    /// Another supervisor has the manifest.
    Taken {},
    /// The manifest could not be written.
    Failed {
        /// Why.
        why: String,
    },
    /// The exit record is in place.
    Exited {
        /// It.
        exit: ExitRecord,
    },
}

/// Sizes of an order at most, bytes.
const ORDER_BYTES_MAX: u64 = 4 << 20;

/// The whole life of a supervisor. Call it in a process without threads. The result is the exit status.
pub fn main() -> i32 {
    let mut text = String::new();
    if let Err(error) = std::io::stdin().take(ORDER_BYTES_MAX).read_to_string(&mut text) {
        report(&Report::Failed { why: format!("reading the order: {error}") });
        return 2;
    }
    let order: Order = match serde_json::from_str(&text) {
        Ok(order) => order,
        Err(error) => {
            report(&Report::Failed { why: format!("the order is not understood: {error}") });
            return 2;
        }
    };
    // SAFETY: the process has one thread; the parent leaves at once.
    match unsafe { nix::unistd::fork() } {
        Ok(nix::unistd::ForkResult::Parent { .. }) => 0,
        Ok(nix::unistd::ForkResult::Child) => supervise(&order),
        Err(error) => {
            report(&Report::Failed { why: format!("fork: {error}") });
            1
        }
    }
}

fn supervise(order: &Order) -> i32 {
    let _ = nix::unistd::setsid();
    let _ = std::env::set_current_dir("/");
    watch::block_signals();
    crate::failpoint::reach("supervisor.before_manifest");
    let cgroup = cgroup::Cgroup::create(order);
    match manifest::win(order, cgroup.path()) {
        Ok(true) => report(&Report::Started { pid: std::process::id() }),
        Ok(false) => {
            report(&Report::Taken {});
            return 0;
        }
        Err(why) => {
            cgroup.remove();
            report(&Report::Failed { why });
            return 1;
        }
    }
    crate::failpoint::reach("supervisor.after_manifest");
    let exit = watch::run(order, &cgroup);
    crate::failpoint::reach("supervisor.before_exit_record");
    unitdir::leave_exit_record(order, &exit);
    report(&Report::Exited { exit });
    cgroup.remove();
    0
}

/// Tells the manager, if it is still there.
fn report(report: &Report) {
    let mut line = serde_json::to_vec(report).expect("reports are plain data");
    line.push(b'\n');
    // A manager that is gone learns from the files.
    let _ = std::io::stdout().write_all(&line).and_then(|()| std::io::stdout().flush());
}

pub(crate) fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// An exit record without measurements.
pub(crate) fn bare_exit(status: ExitStatus, text: String, attempt: u32, epoch: u64, by: &str) -> ExitRecord {
    ExitRecord {
        schema: 1,
        status,
        exit_code: None,
        signal: None,
        text,
        started_ms: 0,
        ended_ms: now_ms(),
        user_ms: 0,
        system_ms: 0,
        max_rss: 0,
        attempt,
        epoch,
        by: by.to_string(),
    }
}
