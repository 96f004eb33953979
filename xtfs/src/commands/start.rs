//! `xtfs start`: one process of a `--separate` instance.

use clap::Args;
use serde_json::json;

use crate::args::{DataDir, Global};
use crate::failure::{Failure, Outcome};
use crate::instance::Home;
use crate::launcher::control::{Request, ask};
use crate::output;

/// Start one process of an `up --separate` instance again
#[derive(Debug, Args)]
pub(crate) struct Start {
    /// Its name, as `xtfs ps` shows it: osd-0.
    name: String,
    #[command(flatten)]
    data: DataDir,
}

impl Start {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let home = Home::at(&self.data.data)?;
        let answer = asked(&home, &self.name, Request::Start { name: self.name.clone() })?;
        if global.json {
            output::json(&answer);
        } else {
            output::line(&format!("{} runs (pid {})", self.name, answer["pid"]));
        }
        Ok(0)
    }
}

/// Asks the launcher of a `--separate` instance for a start or stop.
pub(crate) fn asked(home: &Home, name: &str, request: Request) -> Result<serde_json::Value, Failure> {
    let instance = home.instance()?;
    instance.service(name)?;
    if !instance.separate {
        return Err(Failure::usage(format!("service {name}"), "this instance runs in one process")
            .next("`xtfs down`, then `xtfs up --separate`, makes it separate processes"));
    }
    match ask(&home.launcher(), &request) {
        Some(answer) => answer.map(|(value, _)| value),
        None => Err(Failure::unreachable(
            format!("service {name}"),
            format!("no `xtfs up --separate` runs in {}", home.data.display()),
        )
        .next(format!("xtfs up --detach --data {}", home.data.display()))),
    }
    .map(|value| if value.is_null() { json!({}) } else { value })
}
