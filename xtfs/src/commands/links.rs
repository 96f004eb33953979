//! `xtfs install-links DIR`: the classic names as links to this program.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::args::Global;
use crate::classic::NAMES;
use crate::failure::{Failure, Outcome};
use crate::output;

/// Make links with the names of the original XtreemFS tools
#[derive(Debug, Args)]
#[command(name = "install-links")]
pub(crate) struct InstallLinks {
    /// Where: /sbin for mount(8) and fstab to find mount.xtreemfs.
    #[arg(value_name = "DIR")]
    to: PathBuf,
}

impl InstallLinks {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let program = std::env::current_exe().map_err(|error| Failure::new("finding this program", error))?;
        std::fs::create_dir_all(&self.to)
            .map_err(|error| Failure::new(format!("creating {}", self.to.display()), error))?;
        let mut made = Vec::new();
        for (name, _) in NAMES {
            let path = self.to.join(name);
            let what = || format!("linking {}", path.display());
            match std::fs::symlink_metadata(&path) {
                // A link is replaced, a program of the same name is somebody else's.
                Ok(found) if found.is_symlink() => {
                    std::fs::remove_file(&path).map_err(|error| Failure::new(what(), error))?;
                }
                Ok(_) => {
                    return Err(Failure::new(what(), "a file of that name exists").next("remove it first"));
                }
                Err(_) => {}
            }
            std::os::unix::fs::symlink(&program, &path).map_err(|error| Failure::new(what(), error))?;
            made.push(path);
        }
        if global.json {
            output::json(&json!({"links": made}));
        } else {
            output::line(&format!("made {} links in {}", made.len(), self.to.display()));
        }
        Ok(0)
    }
}
