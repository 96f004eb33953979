//! `xtfs dir`: the members of the DIR; with --config the daemon itself.

use std::path::PathBuf;

use clap::Args;

use super::members::{Role, What};
use crate::args::Global;
use crate::failure::{Failure, Outcome};

/// Directory services: list, add, remove, replace members; with --config run one
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Dir {
    /// Run a directory service with this configuration.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    what: Option<What>,
}

impl Dir {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        match (self.config, self.what) {
            (Some(file), None) => crate::roles::daemon::dir(&file, global),
            (None, Some(what)) => what.run(Role::Dir, global),
            _ => Err(Failure::usage("xtfs dir", "neither a command nor --config FILE was given")
                .next("`xtfs dir members`, or `xtfs dir --config FILE` to run the service")),
        }
    }
}
