//! `xtfs status`: the cluster on one screen.

use std::time::Duration;

use clap::Args;
use proto::dir::{OsdEntry, OsdState, ServiceEntry};
use serde_json::{Value, json};

use super::coding;
use super::members::Role;
use super::members::view::look;
use super::mkfs;
use super::redundancy;
use super::service::{is_up, osd_json, service_json, state_name};
use crate::args::Global;
use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::output;

/// Show the cluster on one screen: services, leaders, OSDs, space, volumes
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Show it again every so many seconds.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
    watch: Option<u64>,
}

impl Status {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let cluster = super::cluster(global, &[])?;
        super::run_async(async {
            loop {
                let screen = gather(&cluster).await;
                match (screen, self.watch) {
                    (Err(failure), None) => return Err(failure),
                    (Err(failure), Some(_)) => eprintln!("xtfs: {failure}"),
                    (Ok(value), watch) => show(&value, global.json, watch.is_some()),
                }
                let Some(seconds) = self.watch else { return Ok(0) };
                tokio::time::sleep(Duration::from_secs(seconds.max(1))).await;
            }
        })
    }
}

/// Everything as JSON; the text is made from it.
pub(super) async fn gather(cluster: &Cluster) -> Result<Value, Failure> {
    let services = cluster.services().await?.services;
    let map = cluster.map().await?;
    let volumes = cluster.volumes().await?;
    let (dirs, mrcs) =
        futures::join!(look(cluster, Role::Dir, &services), look(cluster, Role::Mrc, &services));
    let (dirs, mrcs) = (dirs.to_json(), mrcs.to_json());
    let others: Vec<Value> = services
        .iter()
        .filter(|service| !matches!(service.role.as_str(), "dir" | "mrc" | "osd"))
        .map(service_json)
        .collect();
    let replication = redundancy::gather(cluster, &map.osds).await;
    let coding = coding::gather(&services, &volumes).await;
    let mut troubles = troubles(&services, &map.osds, &dirs, &mrcs);
    if let Some(damaged) = replication["damaged_blocks"].as_u64().filter(|damaged| *damaged > 0) {
        troubles.push(format!(
            "{damaged} blocks are damaged and could not be repaired yet; `xtfs doctor` says more"
        ));
    }
    troubles.extend(coding["trouble"].as_str().map(|why| format!("files are not erasure-coded: {why}")));
    let serving = map.osds.iter().filter(|osd| osd.state() != OsdState::Out);
    let (total, free) =
        serving.fold((0u64, 0u64), |(total, free), osd| (total + osd.total_bytes, free + osd.free_bytes));
    Ok(json!({
        "health": if troubles.is_empty() { "ok" } else { "warn" },
        "troubles": troubles,
        "dirs": dirs,
        "mrcs": mrcs,
        "osds": map.osds.iter().map(osd_json).collect::<Vec<Value>>(),
        "map_epoch": map.epoch,
        "replication": replication,
        "ec": coding,
        "services": others,
        "volumes": volumes.iter().map(mkfs::to_json).collect::<Vec<Value>>(),
        "total_bytes": total,
        "free_bytes": free,
    }))
}

/// What is not as it should be, in words.
fn troubles(services: &[ServiceEntry], osds: &[OsdEntry], dirs: &[Value], mrcs: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    for member in dirs.iter().chain(mrcs).filter(|member| !member["error"].is_null()) {
        found.push(format!("{} does not answer: {}", text(member, "name"), text(member, "error")));
    }
    for (role, members) in [("DIR", dirs), ("MRC", mrcs)] {
        if !members.is_empty() && !members.iter().any(|member| member["leader"] == Value::Bool(true)) {
            found.push(format!("no {role} member leads"));
        }
    }
    if mrcs.is_empty() {
        found.push("no MRC has registered: nothing can be looked up".to_owned());
    }
    if !osds.iter().any(|osd| osd.state() == OsdState::Up) {
        found.push("no OSD is up: file data can neither be read nor written".to_owned());
    }
    for osd in osds.iter().filter(|osd| osd.state() == OsdState::Down) {
        found.push(format!("osd#{} ({}) is {}", osd.osd, osd.addr, state_name(osd.state())));
    }
    for osd in osds.iter().filter(|osd| osd.state() == OsdState::Up && osd.slow) {
        found.push(format!("osd#{} ({}) is slow: others lead its columns", osd.osd, osd.addr));
    }
    for osd in osds.iter().filter(|osd| osd.state() == OsdState::Up && osd.free_bytes < osd.total_bytes / 20)
    {
        found.push(format!("osd#{} is nearly full: {} left", osd.osd, output::bytes(osd.free_bytes)));
    }
    for service in services.iter().filter(|service| service.role == "exec" && !is_up(service)) {
        found.push(format!("{} was last heard of {} s ago", service.name, service.silent_ms / 1000));
    }
    found
}

fn text(value: &Value, key: &str) -> String {
    match &value[key] {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn show(value: &Value, json: bool, clear: bool) {
    if json {
        return output::json(value);
    }
    if clear {
        output::line("\x1b[2J\x1b[H");
    }
    let empty = Vec::new();
    let list = |key: &str| value[key].as_array().unwrap_or(&empty).clone();
    output::line(&format!("health   {}", text(value, "health")));
    for trouble in list("troubles") {
        output::line(&format!("  ! {}", trouble.as_str().unwrap_or_default()));
    }
    for text in value["replication"]["text"].as_array().into_iter().flatten() {
        output::line(&format!("replication: {}", text.as_str().unwrap_or_default()));
    }
    if let Some(text) = value["ec"]["text"].as_str() {
        output::line(&format!("erasure coding: {text}"));
    }
    let size = |key: &str| output::bytes(value[key].as_u64().unwrap_or(0));
    output::line(&format!("space    {} free of {}", size("free_bytes"), size("total_bytes")));
    output::line("");
    let mut rows = Vec::new();
    for member in list("dirs").into_iter().chain(list("mrcs")) {
        rows.push(vec![
            text(&member, "name"),
            text(&member, "role"),
            text(&member, "addr"),
            applied(&member),
        ]);
    }
    for osd in list("osds") {
        let free = osd["free_bytes"].as_u64().unwrap_or(0);
        let total = osd["total_bytes"].as_u64().unwrap_or(0);
        let space = format!("{} free of {}", output::bytes(free), output::bytes(total));
        rows.push(vec![text(&osd, "name"), text(&osd, "state"), text(&osd, "addr"), space]);
    }
    for service in list("services") {
        rows.push(vec![
            text(&service, "name"),
            text(&service, "state"),
            text(&service, "addr"),
            String::new(),
        ]);
    }
    output::table(&["SERVICE", "STATE", "ADDR", ""], &rows, "no services");
    output::line("");
    let rows: Vec<Vec<String>> = list("volumes")
        .iter()
        .map(|volume| {
            ["name", "stripe_size", "stripe_width", "replicas"].iter().map(|key| text(volume, key)).collect()
        })
        .collect();
    output::table(&["VOLUME", "STRIPE", "WIDTH", "REPLICAS"], &rows, "no volumes");
}

fn applied(member: &Value) -> String {
    if member["catching_up"] == Value::Bool(true) {
        format!("catches up: {} entries to go", text(member, "behind"))
    } else if member["applied"].is_null() {
        String::new()
    } else {
        format!("term {}, applied {}", member["term"], member["applied"])
    }
}
