//! `xtfs job`: jobs of a mounted volume's spool, with plain file operations.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use exec::cli::{Action, JobCommand, Submit};

use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::instance::Home;
use crate::mounts;

/// Jobs: submit, look at, wait for, cancel
#[derive(Debug, Args)]
pub(crate) struct Job {
    /// The spool, MOUNT/spool [default: of the volume around this directory, else of the instance here, else of the
    /// only mounted volume].
    #[arg(long, global = true, env = "XTFS_SPOOL", value_name = "DIR")]
    spool: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Submit a descriptor, or a command after `--`; prints the job id
    Submit {
        /// A descriptor: TOML, JSON or a #! script; `-` reads standard input.
        #[arg(required_unless_present = "command", conflicts_with = "command")]
        file: Option<PathBuf>,
        /// The job's name.
        #[arg(long, short = 'n')]
        name: Option<String>,
        /// Do not wait until the job service has taken it: print the dropped file's path.
        #[arg(long)]
        no_wait: bool,
        /// A command and its arguments instead of a file.
        #[arg(last = true, value_name = "CMD")]
        command: Vec<String>,
    },
    /// List live jobs
    Ls {
        /// Ended ones too.
        #[arg(long, short = 'a')]
        all: bool,
        /// Only this user's.
        #[arg(long, short = 'u')]
        user: Option<String>,
    },
    /// Show a job's status and what happened to it
    Show {
        /// The job.
        id: String,
    },
    /// Say why a job is in its state
    Why {
        /// The job.
        id: String,
    },
    /// Print a job's output
    Log {
        /// The job.
        id: String,
        /// Standard error instead of standard output.
        #[arg(long, short = 'e')]
        stderr: bool,
        /// Go on until the job ends.
        #[arg(long, short = 'f')]
        follow: bool,
    },
    /// Wait until a job has ended; exits with the job's exit status
    Wait {
        /// The job.
        id: String,
        /// Give up after so many seconds.
        #[arg(long, value_name = "SECONDS")]
        at_most: Option<u64>,
    },
    /// End a job
    Cancel {
        /// The job.
        id: String,
        /// Why, for the job's log.
        #[arg(long)]
        reason: Option<String>,
        /// Seconds between SIGTERM and SIGKILL.
        #[arg(long, value_name = "SECONDS")]
        grace: Option<u64>,
    },
    /// Send a signal to a job's processes
    Signal {
        /// The job.
        id: String,
        /// Name or number: USR1, 10.
        signal: String,
    },
    /// Stop a job's processes for now
    Suspend {
        /// The job.
        id: String,
    },
    /// Let a suspended job go on
    Resume {
        /// The job.
        id: String,
    },
    /// Do not start a waiting job
    Hold {
        /// The job.
        id: String,
    },
    /// Take a hold away
    Release {
        /// The job.
        id: String,
    },
}

impl Job {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let spool = match self.spool {
            Some(spool) => spool,
            None => find_spool()?,
        };
        let command = command(self.what, global);
        let mut out = std::io::stdout().lock();
        let status = exec::cli::run(&spool, &command, global.json, &mut out).map_err(|error| {
            Failure::new("xtfs job", &error).status(u8::try_from(error.exit_status()).unwrap_or(1))
        })?;
        // A reader that went away is no failure of the job.
        let _ = out.flush();
        Ok(u8::try_from(status).unwrap_or(1))
    }
}

fn command(what: What, global: &Global) -> JobCommand {
    let control = |id, action| JobCommand::Control { id, action };
    match what {
        What::Submit { file, name, no_wait, command } => {
            JobCommand::Submit(Submit { file, command, name, no_wait, timeout: Some(global.timeout) })
        }
        What::Ls { all, user } => JobCommand::Ls { all, user },
        What::Show { id } => JobCommand::Show { id },
        What::Why { id } => JobCommand::Why { id },
        What::Log { id, stderr, follow } => JobCommand::Log { id, stderr, follow },
        What::Wait { id, at_most } => JobCommand::Wait { id, timeout: at_most.map(Duration::from_secs) },
        What::Cancel { id, reason, grace } => {
            control(id, Action::Cancel { reason, grace: grace.map(Duration::from_secs) })
        }
        What::Signal { id, signal } => control(id, Action::Signal(signal)),
        What::Suspend { id } => control(id, Action::Suspend),
        What::Resume { id } => control(id, Action::Resume),
        What::Hold { id } => control(id, Action::Hold),
        What::Release { id } => control(id, Action::Release),
    }
}

/// The spool that is meant when none is named.
fn find_spool() -> Result<PathBuf, Failure> {
    let here = std::env::current_dir().ok().and_then(|here| mounts::holding(&here)).filter(mounts::is_ours);
    if let Some(mounted) = here {
        return Ok(mounted.at.join("spool"));
    }
    if let Some(instance) = Home::at(Path::new("xtfs-data"))?.read()? {
        return Ok(instance.mount.join("spool"));
    }
    let ours: Vec<PathBuf> =
        mounts::all().into_iter().filter(mounts::is_ours).map(|mounted| mounted.at).collect();
    match &ours[..] {
        [only] => Ok(only.join("spool")),
        [] => Err(Failure::new("finding the spool", "no volume is mounted on this host")
            .next("`xtfs up`, or `xtfs mount`, or name it with --spool MOUNT/spool")),
        several => {
            Err(Failure::usage("which spool?", format!("{} volumes are mounted on this host", several.len()))
                .next(format!("--spool {}", several[0].join("spool").display())))
        }
    }
}
