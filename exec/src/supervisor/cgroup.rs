//! Control groups, where they can be written: v2 with its own group per unit, else the v1 memory controller.
//! Without either, rlimits must do (`program::limits`).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Order;

/// Groups of one unit.
#[derive(Debug, Default)]
pub(super) struct Cgroup {
    /// The unified group, if it can be made.
    unified: Option<PathBuf>,
    /// The v1 memory group, if memory is limited and v2 has no memory controller here.
    memory: Option<PathBuf>,
    /// The memory limit is enforced by a group.
    pub(super) limits_memory: bool,
}

impl Cgroup {
    pub(super) fn create(order: &Order) -> Self {
        let mut out = Self::default();
        let name = group_name(&order.job, order.unit, order.attempt);
        if let Some(base) = unified_base() {
            let controllers = fs::read_to_string(base.join("cgroup.controllers")).unwrap_or_default();
            let parent = base.join("xtfs");
            for controller in ["memory", "cpu", "pids"] {
                if controllers.split_whitespace().any(|c| c == controller) {
                    let _ = fs::create_dir_all(&parent);
                    for dir in [&base, &parent] {
                        let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
                    }
                }
            }
            let group = parent.join(&name);
            if fs::create_dir_all(&group).is_ok() {
                if let Some(bytes) = order.memory {
                    out.limits_memory = fs::write(group.join("memory.max"), bytes.to_string()).is_ok();
                    let _ = fs::write(group.join("memory.swap.max"), "0");
                }
                let weight = (100 * order.cpus).min(10_000);
                let _ = fs::write(group.join("cpu.weight"), weight.to_string());
                out.unified = Some(group);
            }
        }
        if let Some(bytes) = order.memory.filter(|_| !out.limits_memory) {
            let group = Path::new(V1_MEMORY).join(&name);
            if Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists()
                && fs::create_dir_all(&group).is_ok()
                && fs::write(group.join("memory.limit_in_bytes"), bytes.to_string()).is_ok()
            {
                out.limits_memory = true;
                out.memory = Some(group);
            }
        }
        out
    }

    /// The unified group's path, for the manifest.
    pub(super) fn path(&self) -> &str {
        self.unified.as_deref().and_then(Path::to_str).unwrap_or("")
    }

    /// Puts a process into the groups.
    pub(super) fn enter(&self, pid: i32) {
        for group in [&self.unified, &self.memory].into_iter().flatten() {
            let _ = fs::write(group.join("cgroup.procs"), pid.to_string());
        }
    }

    /// Whether the kernel killed somebody for memory.
    pub(super) fn oom_killed(&self) -> bool {
        let counts = |path: PathBuf| {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.lines().any(|l| l.strip_prefix("oom_kill ").is_some_and(|n| n.trim() != "0"))
        };
        self.unified.as_ref().is_some_and(|g| counts(g.join("memory.events")))
            || self.memory.as_ref().is_some_and(|g| counts(g.join("memory.oom_control")))
    }

    /// Kills whatever is left in the unified group.
    pub(super) fn kill(&self) {
        if let Some(group) = &self.unified {
            let _ = fs::write(group.join("cgroup.kill"), "1");
        }
    }

    /// Removes the groups; dying processes may hold them for a moment.
    pub(super) fn remove(&self) {
        for group in [&self.unified, &self.memory].into_iter().flatten() {
            for _ in 0..50 {
                if fs::remove_dir(group).is_ok() || !group.exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Where units' groups are in the v1 memory hierarchy.
const V1_MEMORY: &str = "/sys/fs/cgroup/memory/xtfs";

fn group_name(job: &str, unit: u32, attempt: u32) -> String {
    format!("{job}-{unit}-{attempt}")
}

/// Ends and removes what a dead supervisor left of its groups.
pub(crate) fn sweep(job: &str, unit: u32, attempt: u32) {
    let name = group_name(job, unit, attempt);
    let existing = |group: PathBuf| group.exists().then_some(group);
    let left = Cgroup {
        unified: unified_base().and_then(|base| existing(base.join("xtfs").join(&name))),
        memory: existing(Path::new(V1_MEMORY).join(&name)),
        limits_memory: false,
    };
    left.kill();
    left.remove();
}

/// Where the unified hierarchy is mounted and writable.
fn unified_base() -> Option<PathBuf> {
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .map(PathBuf::from)
        .into_iter()
        .find(|base| base.join("cgroup.controllers").exists() && base.join("cgroup.procs").exists())
}
