//! Daemon roles that are nothing but daemons.

use std::path::PathBuf;

use clap::Args;

use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::roles::daemon;

/// Run a job service
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Its configuration; `xtfs config exec` prints a default one.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl Exec {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        daemon::exec(&self.config, global)
    }
}

/// Run a replica management service
#[derive(Debug, Args)]
pub(crate) struct Rms {
    /// Its configuration; `xtfs config rms` prints a default one.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl Rms {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        daemon::rms(&self.config, global)
    }
}

/// The virtual organisation service (this version has none)
#[derive(Debug, Args)]
#[command(hide = true)]
pub(crate) struct Vo {
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Vo {
    pub(crate) fn run(self, _global: &Global) -> Outcome {
        drop(self.config);
        Err(Failure::usage(
            "xtfs vo",
            "this version has no virtual organisation service: nothing was started",
        )
        .next("remove the service from your start-up scripts; a later version brings it"))
    }
}
