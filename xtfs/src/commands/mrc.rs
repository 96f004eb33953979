//! `xtfs mrc`: the metadata services; with --config the daemon itself.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use proto::dir::GroupStatus;
use proto::error::WireError;
use serde_json::{Value, json};

use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::output;

/// Metadata services; with --config run one
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Mrc {
    /// Run a metadata service with this configuration.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the members of the metadata groups, their roles and how far each is
    Members,
}

impl Mrc {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        match (self.config, self.what) {
            (Some(file), None) => crate::roles::daemon::mrc(&file, global),
            (None, Some(What::Members)) => members(global),
            _ => Err(Failure::usage("xtfs mrc", "neither a command nor --config FILE was given")
                .next("`xtfs mrc members`, or `xtfs mrc --config FILE` to run the service")),
        }
    }
}

fn members(global: &Global) -> Outcome {
    let cluster = super::cluster(global, &[])?;
    super::run_async(async {
        let mut services = cluster.services().await?.services;
        services.retain(|service| service.role == "mrc");
        let asked = services.iter().map(|service| cluster.group(&service.addr));
        let states = futures::future::join_all(asked).await;
        let rows: Vec<Value> = services
            .iter()
            .zip(&states)
            .map(|(service, state)| member_json(&service.name, &service.addr, state))
            .collect();
        if global.json {
            output::json(&Value::Array(rows));
            return Ok(0);
        }
        let text = |row: &Value, key: &str| match &row[key] {
            Value::String(text) => text.clone(),
            Value::Null => "-".to_owned(),
            other => other.to_string(),
        };
        let keys = ["name", "group", "member", "role", "term", "committed", "applied", "addr"];
        let lines: Vec<Vec<String>> =
            rows.iter().map(|row| keys.iter().map(|key| text(row, key)).collect()).collect();
        let header = ["NAME", "GROUP", "MEMBER", "ROLE", "TERM", "COMMITTED", "APPLIED", "ADDR"];
        output::table(&header, &lines, "no MRC registered");
        Ok(0)
    })
}

/// A member of a Raft group as JSON.
pub(super) fn member_json(name: &str, addr: &str, state: &Result<GroupStatus, WireError>) -> Value {
    match state {
        Ok(state) => json!({
            "name": name, "addr": addr, "group": state.group, "member": state.member, "role": state.role,
            "leader": state.leader == state.member && state.leader != 0, "term": state.term,
            "committed": state.committed, "applied": state.applied, "voters": state.voters,
            "learners": state.learners, "error": null,
        }),
        Err(error) => json!({
            "name": name, "addr": addr, "group": null, "member": null, "role": "unreachable", "leader": false,
            "term": null, "committed": null, "applied": null, "voters": [], "learners": [], "error": error.text,
        }),
    }
}
