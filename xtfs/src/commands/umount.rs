//! `xtfs umount`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::{mounts, output};

/// Unmount a volume
#[derive(Debug, Args)]
pub(crate) struct Umount {
    /// Where it is mounted.
    at: PathBuf,
    /// Take it out of the tree now, whatever still uses it.
    #[arg(long, short = 'l')]
    lazy: bool,
}

impl Umount {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        // Not canonicalize: that asks the file system behind it, which may be the broken one.
        let at = std::path::absolute(&self.at).map_err(|error| Failure::usage("the mount point", error))?;
        let what = || format!("unmounting {}", at.display());
        match mounts::exactly(&at) {
            None => {
                return Err(Failure::new(what(), "nothing is mounted there")
                    .next("`xtfs umount` wants the mount point"));
            }
            Some(mounted) if !mounts::is_ours(&mounted) => {
                return Err(Failure::new(
                    what(),
                    format!("{} ({}) is not ours", mounted.source, mounted.fstype),
                )
                .next(format!("umount {}", at.display())));
            }
            Some(_) if self.lazy => mounts::detach(&at)?,
            Some(_) => mounts::unmount_if_idle(&at)?,
        }
        if global.json {
            output::json(&json!({"unmounted": at}));
        } else {
            output::line(&format!("unmounted {}", at.display()));
        }
        Ok(0)
    }
}
