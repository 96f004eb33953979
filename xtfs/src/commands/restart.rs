//! `xtfs restart`: one process of a `--separate` instance, ended properly and started again.

use clap::Args;

use super::start::asked;
use crate::args::{DataDir, Global};
use crate::failure::Outcome;
use crate::instance::Home;
use crate::launcher::control::Request;
use crate::output;

/// Restart one process of an `up --separate` instance; a mount stays mounted
#[derive(Debug, Args)]
pub(crate) struct Restart {
    /// Its name, as `xtfs ps` shows it: osd-0.
    name: String,
    #[command(flatten)]
    data: DataDir,
}

impl Restart {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let home = Home::at(&self.data.data)?;
        let answer = asked(&home, &self.name, Request::Restart { name: self.name.clone() })?;
        if global.json {
            output::json(&answer);
        } else {
            output::line(&format!("{} runs again (pid {})", self.name, answer["pid"]));
        }
        Ok(0)
    }
}
