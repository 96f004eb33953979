//! `xtfs job ...` on a mounted spool, with plain file operations: no daemon is needed to read.
//!
//! The face for the `xtfs` binary:
//!
//! ```text
//! let spool = Path::new("/mnt/spool");                      // MOUNT/spool
//! let command = JobCommand::Submit(Submit { file: Some("a.toml".into()), ..Submit::default() });
//! let status: i32 = exec::cli::run(spool, &command, json, &mut std::io::stdout())?;   // the exit status
//! ```
//!
//! `CliError` displays what failed and what to do; `error.exit_status()` is 1, or 3 when a wait timed out.
//! The supervisor is `xtfs __supervise`: call `exec::supervisor::main() -> i32` *before* any thread is started (no tokio
//! runtime), and give `vec![current_exe, "__supervise"]` as `ExecConfig::supervise`.

mod control;
mod find;
mod output;
mod show;
mod submit;
mod wait;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One `xtfs job` command.
#[derive(Clone, Debug)]
pub enum JobCommand {
    /// `submit FILE` or `submit -- CMD ARGS...`; prints the job id once it is claimed.
    Submit(Submit),
    /// `ls`: live jobs, with `all` ended ones as well.
    Ls {
        /// Ended jobs too.
        all: bool,
        /// Only this user's; default is every user whose spool the caller may read.
        user: Option<String>,
    },
    /// `show ID`: the status, with the log's events.
    Show {
        /// The job.
        id: String,
    },
    /// `why ID`: the reason of its state.
    Why {
        /// The job.
        id: String,
    },
    /// `log ID`: its standard output, or with `stderr` its standard error.
    Log {
        /// The job.
        id: String,
        /// Standard error.
        stderr: bool,
        /// Go on until the job ends.
        follow: bool,
    },
    /// `wait ID`: returns the job's exit status (128 + signal; 1 for other endings).
    Wait {
        /// The job.
        id: String,
        /// Give up after so long.
        timeout: Option<Duration>,
    },
    /// `requeue ID`: submits the descriptor of an ended job again; prints the new job's id.
    Requeue {
        /// The ended job.
        id: String,
    },
    /// `cancel|signal|suspend|resume|hold|release ID`.
    Control {
        /// The job.
        id: String,
        /// What to do.
        action: Action,
    },
}

/// What `JobCommand::Control` does.
#[derive(Clone, Debug)]
pub enum Action {
    /// End it; `grace` is the time between TERM and KILL (default 10 s).
    Cancel {
        /// For the log.
        reason: Option<String>,
        /// Between TERM and KILL.
        grace: Option<Duration>,
    },
    /// Send a signal, by name or number.
    Signal(String),
    /// Stop its processes.
    Suspend,
    /// Let them go on.
    Resume,
    /// Do not start it.
    Hold,
    /// Take the hold away.
    Release,
}

/// What to submit: a file, or a command.
#[derive(Clone, Debug, Default)]
pub struct Submit {
    /// The descriptor; `-` is standard input.
    pub file: Option<PathBuf>,
    /// A command and its arguments, instead of a file. It runs in the caller's directory when that is on a path the
    /// node has, with the caller's `PATH`.
    pub command: Vec<String>,
    /// The job's name.
    pub name: Option<String>,
    /// Do not wait for the claim: print the path that was dropped instead of a job id.
    pub no_wait: bool,
    /// How long to wait for the claim (default 30 s).
    pub timeout: Option<Duration>,
}

/// What a command could not do, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct CliError {
    text: String,
    status: i32,
}

impl CliError {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), status: 1 }
    }

    fn late(text: impl Into<String>) -> Self {
        Self { text: text.into(), status: 3 }
    }

    fn io(what: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::new(format!("{what} {}: {error}", path.display()))
    }

    /// 1: it failed; 3: nothing answered in time.
    pub fn exit_status(&self) -> i32 {
        self.status
    }
}

/// Runs a command on a mounted spool (`MOUNT/spool`); the result is the exit status.
pub fn run(spool: &Path, command: &JobCommand, json: bool, out: &mut dyn Write) -> Result<i32, CliError> {
    if !spool.is_dir() {
        let text = format!(
            "{} is not a directory: is the volume mounted and exec running? (xtfs ps)",
            spool.display()
        );
        return Err(CliError::new(text));
    }
    match command {
        JobCommand::Submit(what) => submit::submit(spool, what, json, out),
        JobCommand::Ls { all, user } => show::list(spool, *all, user.as_deref(), json, out),
        JobCommand::Show { id } => show::show(&find::find(spool, id)?, json, out),
        JobCommand::Why { id } => show::why(&find::find(spool, id)?, json, out),
        JobCommand::Log { id, stderr, follow } => {
            output::print(&find::find(spool, id)?, *stderr, *follow, out)
        }
        JobCommand::Wait { id, timeout } => wait::wait(&find::find(spool, id)?, *timeout, json, out),
        JobCommand::Requeue { id } => submit::requeue(spool, id, json, out),
        JobCommand::Control { id, action } => control::control(&find::find(spool, id)?, action, json, out),
    }
}

/// Writes to the caller's output; a reader that went away ends the command quietly.
fn put(out: &mut dyn Write, text: &str) -> Result<(), CliError> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CliError::new(format!("writing the output: {error}")))
        }
        _ => Ok(()),
    }
}
