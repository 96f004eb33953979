//! `xtfs man DIR`: manual pages made from the definitions of the commands.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use serde_json::json;

use crate::args::{Cli, Global};
use crate::failure::{Failure, Outcome};
use crate::output;

/// Write manual pages into a directory
#[derive(Debug, Args)]
pub(crate) struct Man {
    #[arg(value_name = "DIR")]
    to: PathBuf,
}

impl Man {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let mut written = Vec::new();
        std::fs::create_dir_all(&self.to)
            .map_err(|error| Failure::new(format!("creating {}", self.to.display()), error))?;
        let mut command = Cli::command();
        command.build();
        pages(&self.to, &command, "xtfs", &mut written)?;
        if global.json {
            output::json(&json!({"pages": written}));
        } else {
            output::line(&format!("wrote {} pages to {}", written.len(), self.to.display()));
        }
        Ok(0)
    }
}

fn pages(dir: &Path, command: &clap::Command, name: &str, written: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let path = dir.join(format!("{name}.1"));
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .render(&mut page)
        .and_then(|()| std::fs::write(&path, page))
        .map_err(|error| Failure::new(format!("writing {}", path.display()), error))?;
    written.push(path);
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        pages(dir, sub, &format!("{name}-{}", sub.get_name()), written)?;
    }
    Ok(())
}
