//! `xtfs stop`: one process of a `--separate` instance.

use clap::Args;

use super::start::asked;
use crate::args::{DataDir, Global};
use crate::failure::Outcome;
use crate::instance::Home;
use crate::launcher::control::Request;
use crate::output;

/// Stop one process of an `up --separate` instance
#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// Its name, as `xtfs ps` shows it: osd-0.
    name: String,
    #[command(flatten)]
    data: DataDir,
}

impl Stop {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let home = Home::at(&self.data.data)?;
        let answer = asked(&home, &self.name, Request::Stop { name: self.name.clone() })?;
        if global.json {
            output::json(&answer);
        } else {
            output::line(&format!("{} is stopped; `xtfs start {}` starts it again", self.name, self.name));
        }
        Ok(0)
    }
}
