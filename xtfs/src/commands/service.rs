//! `xtfs service ls`: who registered at the DIR.

use clap::{Args, Subcommand};
use proto::dir::{OsdEntry, OsdState, ServiceEntry};
use serde_json::{Value, json};

use crate::args::Global;
use crate::failure::Outcome;
use crate::output;

/// Services of a cluster
#[derive(Debug, Args)]
pub(crate) struct Service {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List all services
    Ls,
}

/// A service silent for so long is not shown as up, milliseconds.
const SILENT_MS: u64 = 10_000;

impl Service {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let What::Ls = self.what;
        let cluster = super::cluster(global, &[])?;
        super::run_async(async {
            let services = cluster.services().await?.services;
            let osds = cluster.map().await?.osds;
            let groups = futures::future::join_all(cluster.dirs.iter().map(|addr| cluster.group(addr))).await;
            let dirs = cluster.dirs.iter().zip(&groups).enumerate();
            let mut rows: Vec<Value> =
                dirs.map(|(index, (addr, group))| dir_json(index, addr, group.is_ok())).collect();
            let registered =
                services.iter().filter(|service| !matches!(service.role.as_str(), "osd" | "dir"));
            rows.extend(registered.map(service_json));
            rows.extend(osds.iter().map(osd_json));
            if global.json {
                output::json(&Value::Array(rows));
                return Ok(0);
            }
            let text = |row: &Value, key: &str| row[key].as_str().unwrap_or("").to_owned();
            let keys = ["name", "role", "state", "addr", "http", "uuid"];
            let lines: Vec<Vec<String>> =
                rows.iter().map(|row| keys.iter().map(|key| text(row, key)).collect()).collect();
            output::table(
                &["NAME", "ROLE", "STATE", "ADDR", "HTTP", "UUID"],
                &lines,
                "no services registered",
            );
            Ok(0)
        })
    }
}

/// Whether a service gave a sign of life recently.
pub(super) fn is_up(service: &ServiceEntry) -> bool {
    service.silent_ms < SILENT_MS
}

/// A DIR member; it keeps the list and is not in it.
fn dir_json(index: usize, addr: &str, answers: bool) -> Value {
    json!({
        "name": format!("dir-{index}"), "role": "dir", "state": if answers { "up" } else { "down" }, "addr": addr,
        "http": null, "host": null, "uuid": null, "silent": null,
    })
}

/// A service as JSON.
pub(super) fn service_json(service: &ServiceEntry) -> Value {
    json!({
        "name": service.name,
        "role": service.role,
        "state": if is_up(service) { "up" } else { "down" },
        "addr": service.addr,
        "http": service.http,
        "host": service.host,
        "uuid": service.uuid,
        "silent": service.silent_ms as f64 / 1000.0,
    })
}

/// An OSD as JSON.
pub(super) fn osd_json(osd: &OsdEntry) -> Value {
    json!({
        "name": format!("osd#{}", osd.osd),
        "role": "osd",
        "state": state_name(osd.state()),
        "addr": osd.addr,
        "http": osd.http,
        "uuid": osd.uuid,
        "osd": osd.osd,
        "slow": osd.slow,
        "weight": osd.weight(),
        "domain": osd.domain,
        "total_bytes": osd.total_bytes,
        "free_bytes": osd.free_bytes,
    })
}

/// As people and JSON see it.
pub(super) fn state_name(state: OsdState) -> &'static str {
    match state {
        OsdState::Up => "up",
        OsdState::Down => "down",
        OsdState::Draining => "draining",
        OsdState::Out => "out",
    }
}
