//! kill -9 at every step, of the manager and of supervisors: at most one start, always one terminal report.
#![cfg(test)]

#[path = "local/world.rs"]
mod world;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A spool served by a manager in a process of its own.
struct Crash {
    dir: tempfile::TempDir,
    manager: Option<Child>,
}

impl Crash {
    fn new() -> Self {
        let crash = Self { dir: world::temp_dir(), manager: None };
        for part in ["tmp", "new", "run", "hold", "done", "failed", "rejected"] {
            std::fs::create_dir_all(crash.home().join(part)).unwrap();
        }
        crash
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("spool").join(world::USER)
    }

    fn start(&mut self, failpoint: Option<&str>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtfs-spool"));
        command
            .arg(self.dir.path())
            .arg("2")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(name) = failpoint {
            command.env("XTFS_FAILPOINT", name).env("XTFS_FAILPOINT_ONCE", self.once());
        }
        self.manager = Some(command.spawn().unwrap());
    }

    fn once(&self) -> PathBuf {
        self.dir.path().join("failpoint-reached")
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.manager.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn drop_job(&self, name: &str, seconds: &str) {
        let witness = self.dir.path().join(format!("witness-{name}"));
        let text = format!("#!/bin/sh\necho started >> {}\nsleep {seconds}\n", witness.display());
        std::fs::write(self.home().join("tmp").join(name), text).unwrap();
        std::fs::rename(self.home().join("tmp").join(name), self.home().join("new").join(name)).unwrap();
    }

    fn starts(&self, name: &str) -> usize {
        std::fs::read_to_string(self.dir.path().join(format!("witness-{name}")))
            .unwrap_or_default()
            .lines()
            .count()
    }

    /// Descriptors of that name in `done/` and `failed/`.
    fn ended(&self, name: &str) -> Vec<PathBuf> {
        let mut out = Vec::new();
        for dir in ["done", "failed"] {
            let dir = self.home().join(dir);
            let names = world::names(&dir, &format!("{name}~"));
            out.extend(
                names.iter().filter(|n| !n.ends_with(".json") && !n.ends_with(".why")).map(|n| dir.join(n)),
            );
        }
        out
    }

    /// The job of that name ended once, was started once at most; gives its state.
    fn check(&self, name: &str, at: &str) -> String {
        let ended = self.ended(name);
        assert_eq!(ended.len(), 1, "{at}: {name} ended as {ended:?}");
        let id = ended[0].file_name().unwrap().to_string_lossy().rsplit_once('~').unwrap().1.to_string();
        let log = std::fs::read(self.home().join("jobs").join(&id).join("eventlog")).unwrap();
        let records = exec::engine::replay(&log);
        let finishes =
            records.iter().filter(|r| matches!(r.change, exec::engine::Change::Finish { .. })).count();
        let text = String::from_utf8_lossy(&log).into_owned();
        assert_eq!(finishes, 1, "{at}: {name} has {finishes} terminal records\n{text}");
        assert!(self.starts(name) <= 1, "{at}: {name} was started {} times\n{text}", self.starts(name));
        let result = format!("{}.result.json", ended[0].display());
        let result: serde_json::Value = serde_json::from_slice(&std::fs::read(result).unwrap()).unwrap();
        let state = result["state"].as_str().unwrap().to_string();
        assert!(state != "DONE" || self.starts(name) == 1, "{at}: {name} is done and never ran");
        state
    }
}

impl Drop for Crash {
    fn drop(&mut self) {
        self.kill();
    }
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn active(dir: &Path) -> Vec<String> {
    world::names(&dir.join("spool/.exec/active"), "")
}

/// Kills the manager at the point, starts another, and waits for the end.
fn crash_manager_at(point: &str, seconds: &str) -> String {
    let mut crash = Crash::new();
    crash.start(Some(point));
    crash.drop_job("a.sh", seconds);
    let mut child = crash.manager.take().unwrap();
    wait(&format!("{point}: the manager dies"), || child.try_wait().unwrap().is_some());
    assert!(crash.once().exists(), "{point} was not reached");
    crash.start(None);
    wait(&format!("{point}: the job ends"), || {
        !crash.ended("a.sh").is_empty() && active(crash.dir.path()).is_empty()
    });
    crash.check("a.sh", point)
}

#[test]
fn manager_killed_while_claiming() {
    for point in [
        "claim.before_rename",
        "claim.after_rename",
        "claim.after_active",
        "claim.after_mkdir",
        "claim.after_files",
        "log.before_alloc",
        "log.after_alloc",
    ] {
        assert_eq!(crash_manager_at(point, "0"), "DONE", "{point}");
    }
}

#[test]
fn manager_killed_while_starting_and_ending() {
    for (point, seconds) in [
        ("launch.before_decision", "0"),
        ("launch.after_decision", "0"),
        ("launch.after_spawn", "0.2"),
        ("log.before_start", "1"),
        ("log.after_start", "1"),
        ("log.before_clean", "0"),
        ("log.after_clean", "0"),
        ("publish.before_rename", "0"),
        ("publish.after_rename", "0"),
    ] {
        assert_eq!(crash_manager_at(point, seconds), "DONE", "{point}");
    }
}

#[test]
fn supervisor_killed_at_every_step() {
    for (point, state) in [
        ("supervisor.before_manifest", "DONE"),
        ("supervisor.after_manifest", "NODE_FAIL"),
        ("supervisor.after_mark", "NODE_FAIL"),
        ("supervisor.running", "NODE_FAIL"),
        ("supervisor.before_exit_record", "NODE_FAIL"),
    ] {
        let mut crash = Crash::new();
        crash.start(Some(point));
        crash.drop_job("a.sh", "0.3");
        wait(&format!("{point}: the job ends"), || {
            !crash.ended("a.sh").is_empty() && active(crash.dir.path()).is_empty()
        });
        assert!(crash.once().exists(), "{point} was not reached");
        assert_eq!(crash.check("a.sh", point), state, "{point}");
        let id = crash.ended("a.sh")[0].to_string_lossy().rsplit_once('~').unwrap().1.to_string();
        for base in ["/sys/fs/cgroup/xtfs", "/sys/fs/cgroup/unified/xtfs"] {
            assert_eq!(world::names(Path::new(base), &id), Vec::<String>::new(), "{point}: a group is left");
        }
        // Nothing of it lives on: the witness stays as it is.
        let before = crash.starts("a.sh");
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(crash.starts("a.sh"), before);
    }
}

#[test]
fn reject_is_redone() {
    let mut crash = Crash::new();
    crash.start(Some("reject.before_rename"));
    std::fs::write(crash.home().join("tmp/bad.toml"), "nonsense = 1\n").unwrap();
    std::fs::rename(crash.home().join("tmp/bad.toml"), crash.home().join("new/bad.toml")).unwrap();
    let mut child = crash.manager.take().unwrap();
    wait("the manager dies", || child.try_wait().unwrap().is_some());
    crash.start(None);
    wait("it is rejected", || crash.home().join("rejected/bad.toml~1").exists());
    assert_eq!(std::fs::read_to_string(crash.home().join("rejected/bad.toml~1")).unwrap(), "nonsense = 1\n");
    let names = std::fs::read_dir(crash.home().join("rejected")).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["bad.toml~1", "bad.toml~1.error", "bad.toml~1.error.json"], "and told once");
}

#[test]
fn manager_killed_again_and_again() {
    let mut crash = Crash::new();
    let count = 24;
    let name = |n: usize| format!("j{n}.sh");
    // The moments differ from run to run; what is checked holds for all of them.
    let mut moment = u64::from(std::process::id());
    for round in 0..8 {
        crash.start(None);
        for n in round * 3..round * 3 + 3 {
            crash.drop_job(&name(n), "0.1");
        }
        moment = moment.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis(60 + (moment >> 33) % 300));
        crash.kill();
    }
    crash.start(None);
    wait("all jobs end", || {
        (0..count).all(|n| !crash.ended(&name(n)).is_empty()) && active(crash.dir.path()).is_empty()
    });
    for n in 0..count {
        assert_eq!(crash.check(&name(n), "random kills"), "DONE");
    }
}

#[test]
fn two_managers_never_start_a_job_twice() {
    let mut crash = Crash::new();
    crash.start(None);
    let first = crash.manager.take().unwrap();
    crash.start(None);
    let count = 10;
    for n in 0..count {
        crash.drop_job(&format!("j{n}.sh"), "0.05");
    }
    wait("some end", || !crash.ended("j3.sh").is_empty());
    // The first (it has the lease) stands still for a while, then goes on.
    let pid = nix::unistd::Pid::from_raw(i32::try_from(first.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::SIGSTOP).unwrap();
    crash.drop_job("late.sh", "0.05");
    wait("the second takes over", || !crash.ended("late.sh").is_empty());
    nix::sys::signal::kill(pid, nix::sys::signal::SIGCONT).unwrap();
    crash.drop_job("last.sh", "0.05");
    wait("all end", || {
        !crash.ended("last.sh").is_empty()
            && (0..count).all(|n| !crash.ended(&format!("j{n}.sh")).is_empty())
            && active(crash.dir.path()).is_empty()
    });
    for n in 0..count {
        crash.check(&format!("j{n}.sh"), "two managers");
    }
    crash.check("late.sh", "two managers");
    crash.check("last.sh", "two managers");
    let mut first = first;
    let _ = first.kill();
    let _ = first.wait();
}
