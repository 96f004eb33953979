//! `manifest.json`: the one start of an attempt. Whoever makes it may execute the program, nobody else ever.

use serde::{Deserialize, Serialize};

use super::{Order, Sink, now_ms, unitdir};

/// Who started an attempt, so that anyone can tell later whether it is still there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Version of this form, 1.
    pub(crate) schema: u32,
    /// The job.
    pub(crate) job: String,
    /// Which unit.
    pub(crate) unit: u32,
    /// Which attempt.
    pub(crate) attempt: u32,
    /// Epoch of the manager that ordered it.
    pub(crate) epoch: u64,
    /// The node.
    pub(crate) node: String,
    /// Its boot.
    pub(crate) boot_id: String,
    /// The supervisor; 0 when a manager took the manifest to revoke the attempt.
    pub(crate) pid: u32,
    /// When that process started, clock ticks since boot: tells it from a later process with the same pid.
    pub(crate) start_ticks: u64,
    /// Its control group, empty without one.
    pub(crate) cgroup: String,
    /// When, milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// Why, if the attempt is revoked by this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revoked: Option<String>,
}

/// Takes the manifest for this process; `false` when the attempt was started or revoked before.
pub(super) fn win(order: &Order, cgroup: &str) -> Result<bool, String> {
    let pid = std::process::id();
    let manifest = Manifest {
        schema: 1,
        job: order.job.clone(),
        unit: order.unit,
        attempt: order.attempt,
        epoch: order.epoch,
        node: order.node.clone(),
        boot_id: boot_id(),
        pid,
        start_ticks: process_start(pid).unwrap_or(0),
        cgroup: cgroup.to_string(),
        at_ms: now_ms(),
        revoked: None,
    };
    let bytes = serde_json::to_vec(&manifest).expect("manifests are plain data");
    let dir = unitdir::open_dir(order, &order.unit_dir)
        .map_err(|e| format!("opening {}/{}/{}: {e}", order.mount, order.job_dir, order.unit_dir))?;
    unitdir::create_once(&dir, "manifest.json", &bytes)
        .map_err(|e| format!("writing manifest.json in {}/{}: {e}", order.mount, order.job_dir))
}

/// The mark in the unit's log that stands before the program is let go.
const EXEC_MARK: &str = "\"e\":\"exec\"";

/// The log line with the mark.
pub(super) fn exec_line(order: &Order, init: i32) -> String {
    // Absolute, or relative to the job's directory.
    let place = |sink: &Sink| match sink {
        Sink::JobFile(name) => name.clone(),
        Sink::UserPath { path, .. } if path.starts_with('/') => path.clone(),
        Sink::UserPath { path, .. } => format!("{}/{path}", order.cwd),
    };
    let context = serde_json::json!({
        "init": init,
        "argv": order.argv,
        "stdout": place(&order.stdout),
        "stderr": place(&order.stderr),
    });
    format!("{{\"t_ms\":{},{EXEC_MARK},\"ctx\":{context}}}\n", now_ms())
}

/// Whether a unit's log says that the program was let go, and when.
pub(crate) fn mark_started(log: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(log);
    let line = text.lines().find(|l| l.contains(EXEC_MARK))?;
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    value["t_ms"].as_u64()
}

/// Identity of this boot of the host.
pub(crate) fn boot_id() -> String {
    unitdir::read_small("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_string()
}

/// When a process started, clock ticks since boot.
pub(crate) fn process_start(pid: u32) -> Option<u64> {
    let stat = unitdir::read_small(&format!("/proc/{pid}/stat"))?;
    // The name in parentheses may contain anything; fields count from the last one.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Whether the supervisor of a manifest lives on this host.
pub(crate) fn is_alive(manifest: &Manifest) -> bool {
    manifest.pid > 0
        && manifest.boot_id == boot_id()
        && process_start(manifest.pid).is_some_and(|start| start == manifest.start_ticks)
}
