//! `xtfs mrc`: the members of the metadata group; with --config the daemon itself.

use std::path::PathBuf;

use clap::Args;

use super::members::{Role, What};
use crate::args::Global;
use crate::failure::{Failure, Outcome};

/// Metadata services: list, add, remove, replace members; with --config run one
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Mrc {
    /// Run a metadata service with this configuration.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    what: Option<What>,
}

impl Mrc {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        match (self.config, self.what) {
            (Some(file), None) => crate::roles::daemon::mrc(&file, global),
            (None, Some(what)) => what.run(Role::Mrc, global),
            _ => Err(Failure::usage("xtfs mrc", "neither a command nor --config FILE was given")
                .next("`xtfs mrc members`, or `xtfs mrc --config FILE` to run the service")),
        }
    }
}
