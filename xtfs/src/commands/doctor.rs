//! `xtfs doctor`: what is wrong, why, and the command that mends it.

use clap::Args;
use serde_json::{Value, json};

use super::status;
use crate::args::Global;
use crate::failure::Outcome;
use crate::output;

/// Say what is wrong with the cluster, why, and what to type
#[derive(Debug, Args)]
pub(crate) struct Doctor {}

/// One thing that is wrong.
#[derive(Debug, PartialEq)]
struct Finding {
    what: String,
    cause: String,
    command: String,
}

impl Doctor {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let cluster = super::cluster(global, &[])?;
        super::run_async(async {
            let found = examine(&status::gather(&cluster).await?);
            if global.json {
                output::json(&listed(&found));
            } else if found.is_empty() {
                output::line("nothing is wrong");
            } else {
                for finding in &found {
                    output::line(&finding.what);
                    output::line(&format!("  cause  {}", finding.cause));
                    output::line(&format!("  type   {}", finding.command));
                }
            }
            Ok(u8::from(!found.is_empty()))
        })
    }
}

/// What is wrong by this status, as JSON.
pub(super) fn to_json(status: &Value) -> Value {
    listed(&examine(status))
}

fn listed(found: &[Finding]) -> Value {
    let list = found
        .iter()
        .map(|finding| json!({"what": finding.what, "cause": finding.cause, "command": finding.command}));
    json!({"healthy": found.is_empty(), "findings": list.collect::<Vec<Value>>()})
}

fn finding(what: impl Into<String>, cause: impl Into<String>, command: impl Into<String>) -> Finding {
    Finding { what: what.into(), cause: cause.into(), command: command.into() }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("-")
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

/// Everything that `xtfs status` shows and that should not be so.
fn examine(status: &Value) -> Vec<Finding> {
    let mut found = Vec::new();
    groups(status, &mut found);
    osds(status, &mut found);
    replicas(status, &mut found);
    if let Some(why) = status["ec"]["trouble"].as_str() {
        found.push(finding(
            "files stay replicated (or damaged) that are to be erasure-coded",
            why,
            "xtfs osd ls   (start OSDs, or add some; the rms goes on by itself)",
        ));
    }
    for service in list(status, "services").filter(|service| text(service, "state") == "down") {
        found.push(finding(
            format!("{} is down", text(service, "name")),
            "it has not been heard of for 10 s",
            format!("xtfs start {}   (on another host: start its service there)", text(service, "name")),
        ));
    }
    found
}

fn groups(status: &Value, found: &mut Vec<Finding>) {
    for (role, key) in [("DIR", "dirs"), ("MRC", "mrcs")] {
        let members: Vec<&Value> = list(status, key).collect();
        for member in members.iter().filter(|member| !member["error"].is_null()) {
            found.push(finding(
                format!("{} does not answer", text(member, "name")),
                text(member, "error"),
                format!("xtfs start {}   (on another host: start its service there)", text(member, "name")),
            ));
        }
        let leads = |member: &&Value| member["leader"] == Value::Bool(true);
        if !members.is_empty() && !members.iter().any(leads) {
            let answer = members.iter().filter(|member| member["error"].is_null()).count();
            found.push(finding(
                format!("no {role} member leads"),
                format!("{answer} of {} members answer; a majority is needed", members.len()),
                "start the members named above; with a majority up one leads within a second",
            ));
        }
    }
}

fn osds(status: &Value, found: &mut Vec<Finding>) {
    for osd in list(status, "osds") {
        let (name, addr, number) = (text(osd, "name"), text(osd, "addr"), &osd["osd"]);
        let (free, total) =
            (osd["free_bytes"].as_u64().unwrap_or(0), osd["total_bytes"].as_u64().unwrap_or(0));
        match text(osd, "state") {
            "down" => found.push(finding(
                format!("{name} at {addr} is down: its replicas miss what changes meanwhile"),
                "it refuses connections or has been silent for 1.5 s",
                format!(
                    "xtfs start osd-N   (`xtfs ps` names the process at {addr}); if it never comes back: \
                     xtfs osd remove {number} --yes"
                ),
            )),
            "up" if free < total / 20 => found.push(finding(
                format!("{name} is nearly full: {} left", output::bytes(free)),
                "less than 5 % of its space is free; writes to it fail when there is none",
                format!("xtfs osd drain {number}   (no new files there), then add an OSD or remove files"),
            )),
            _ => {}
        }
    }
}

fn replicas(status: &Value, found: &mut Vec<Finding>) {
    let replication = &status["replication"];
    for behind in list(replication, "behind") {
        let (name, objects, columns) = (text(behind, "name"), &behind["objects"], &behind["columns"]);
        match text(behind, "state") {
            "up" | "draining" => found.push(finding(
                format!("{objects} objects in {columns} columns are behind on {name}"),
                "it was away while they changed, or is slower than the others; they are being copied",
                "xtfs status --watch   (wait until it says: replication: all in sync)",
            )),
            "out" => found.push(finding(
                format!("{columns} columns have a replica too few"),
                format!("{name} was removed and the files' lists still name it"),
                "xtfs status --watch   (needs a running rms to give them another OSD)",
            )),
            _ => {}
        }
    }
    let damaged = replication["damaged_blocks"].as_u64().unwrap_or(0);
    if damaged > 0 {
        found.push(finding(
            format!("{damaged} blocks do not match their checksums"),
            "a disk gave other bytes than were written, and no other OSD that is up has this version of them",
            "start the OSDs that are down, then: xtfs scrub",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> Value {
        json!({
            "dirs": [{"name": "dir-0", "error": null, "leader": true}],
            "mrcs": [{"name": "mrc-0", "error": null, "leader": true}],
            "osds": [{"name": "osd#1", "osd": 1, "state": "up", "addr": "tcp://a:1", "free_bytes": 50, "total_bytes": 100}],
            "services": [],
            "replication": {"in_sync": true, "behind": [], "damaged_blocks": 0},
        })
    }

    #[test]
    fn a_healthy_cluster_has_no_findings() {
        assert_eq!(examine(&healthy()), []);
    }

    #[test]
    fn too_few_osds_for_a_code_are_told() {
        let mut sick = healthy();
        sick["ec"] = json!({"trouble": "erasure coding 4+2 needs 6 OSDs, 3 of 3 are up"});
        assert!(examine(&sick)[0].cause.contains("needs 6 OSDs"));
    }

    #[test]
    fn each_trouble_names_a_cause_and_a_command() {
        let mut sick = healthy();
        sick["osds"][0]["state"] = "down".into();
        sick["mrcs"][0] = json!({"name": "mrc-0", "error": "refused", "leader": null});
        sick["replication"] = json!({
            "behind": [{"osd": 2, "name": "osd#2", "state": "up", "columns": 3, "objects": 9}], "damaged_blocks": 4,
        });
        let found = examine(&sick);
        let whats: Vec<&str> = found.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(
            whats,
            [
                "mrc-0 does not answer",
                "no MRC member leads",
                "osd#1 at tcp://a:1 is down: its replicas miss what changes meanwhile",
                "9 objects in 3 columns are behind on osd#2",
                "4 blocks do not match their checksums",
            ]
        );
        assert!(found.iter().all(|finding| !finding.cause.is_empty() && !finding.command.is_empty()));
        assert!(found[2].command.contains("xtfs osd remove 1"));
    }
}
