//! Processes of an instance: pid files that survive pid reuse, signals, waiting.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::failure::Failure;

/// A process, told from a later one with the same pid by its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    /// Process id.
    pub(crate) pid: i32,
    /// Start in clock ticks since boot (`/proc/PID/stat` field 22).
    start: u64,
}

impl Process {
    /// The process that has this pid now; `None` when there is none or it is a zombie.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold anything, so fields are counted from the last parenthesis: state is the first.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        if matches!(fields.next()?, "Z" | "X") {
            return None;
        }
        let start = fields.nth(18)?.parse().ok()?;
        Some(Self { pid, start })
    }

    /// Whether it still runs.
    pub(crate) fn alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Writes a pid file.
    pub(crate) fn record(self, path: &Path) -> Result<(), Failure> {
        std::fs::write(path, format!("{} {}\n", self.pid, self.start))
            .map_err(|error| Failure::new(format!("writing {}", path.display()), error))
    }

    /// The live process of a pid file.
    pub(crate) fn recorded(path: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(path).ok()?;
        let (pid, start) = text.trim().split_once(' ')?;
        let process = Self { pid: pid.parse().ok()?, start: start.parse().ok()? };
        process.alive().then_some(process)
    }

    /// Sends a signal; a process that is gone is no error.
    pub(crate) fn signal(self, signal: Signal) {
        if self.alive() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Waits for its end; `false` when it still runs after `limit`.
    pub(crate) fn wait(self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while self.alive() {
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }

    /// SIGTERM, after `patience` SIGKILL; says so when it comes to that.
    pub(crate) fn end(self, name: &str, patience: Duration) {
        self.signal(Signal::SIGTERM);
        if self.wait(patience) {
            return;
        }
        eprintln!("xtfs: {name} (pid {}) did not stop within {} s; killing it", self.pid, patience.as_secs());
        self.signal(Signal::SIGKILL);
        self.wait(Duration::from_secs(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_of_another_start_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pid");
        let me = Process::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        me.record(&path).unwrap();
        assert_eq!(Process::recorded(&path), Some(me));
        Process { start: me.start + 1, ..me }.record(&path).unwrap();
        assert_eq!(Process::recorded(&path), None);
    }

    #[test]
    fn a_zombie_counts_as_dead() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        while Process::of(pid).is_some() {
            assert!(Instant::now() < end, "true(1) ends");
            std::thread::sleep(Duration::from_millis(5));
        }
        child.wait().unwrap();
    }
}
