//! An instance in a temporary directory, driven through the binary as a user would.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part; a test may unwrap")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The binary under test, without a cluster of the caller's in its environment.
pub(crate) fn xtfs(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtfs"));
    command.args(args).env_remove("XTFS_DIR").env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// Whether this machine lets us mount; a test that needs it says so and is skipped.
pub(crate) fn can_mount() -> bool {
    let can = nix::unistd::geteuid().is_root() && Path::new("/dev/fuse").exists();
    if !can {
        eprintln!("skipped: needs root and /dev/fuse");
    }
    can
}

/// See the module. Stopped and unmounted when dropped.
pub(crate) struct Instance {
    _dir: tempfile::TempDir,
    pub(crate) data: PathBuf,
}

impl Instance {
    /// A directory for an instance that is not started yet.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("xtfs-test-").tempdir().unwrap();
        let data = dir.path().canonicalize().unwrap().join("data");
        Self { _dir: dir, data }
    }

    /// `xtfs up --detach --json`; gives the object that it prints.
    pub(crate) fn up(&self, more: &[&str]) -> Value {
        let output = self.try_up(more);
        assert!(output.status.success(), "up: {}{}", text(&output.stderr), self.logs());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub(crate) fn try_up(&self, more: &[&str]) -> Output {
        self.run("up", &[&["--detach", "--json"], more].concat())
    }

    /// A command with `--data`.
    pub(crate) fn run(&self, command: &str, more: &[&str]) -> Output {
        xtfs(&[command, "--data", self.data.to_str().unwrap()]).args(more).output().unwrap()
    }

    /// A command that must work; gives its standard output.
    pub(crate) fn ok(&self, command: &str, more: &[&str]) -> String {
        let output = self.run(command, more);
        assert!(output.status.success(), "{command} {more:?}: {}{}", text(&output.stderr), self.logs());
        text(&output.stdout)
    }

    pub(crate) fn mnt(&self) -> PathBuf {
        self.data.join("mnt")
    }

    pub(crate) fn ps(&self) -> Vec<Value> {
        serde_json::from_str::<Value>(&self.ok("ps", &["--json"])).unwrap().as_array().unwrap().clone()
    }

    /// The row of one service.
    pub(crate) fn service(&self, name: &str) -> Value {
        self.ps().into_iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("ps shows {name}"))
    }

    /// The name of the leader of a role.
    pub(crate) fn leader(&self, role: &str) -> String {
        let found = eventually(Duration::from_secs(10), || {
            let leads = |row: &Value| row["role"] == role && row["leader"] == true;
            self.ps().into_iter().find(leads).map(|row| row["name"].as_str().unwrap().to_owned())
        });
        found.unwrap_or_else(|| panic!("no {role} leads: {:?}", self.ps()))
    }

    /// kill -9.
    pub(crate) fn kill(&self, name: &str) {
        let pid = self.service(name)["pid"].as_i64().unwrap_or_else(|| panic!("{name} runs"));
        kill_hard(i32::try_from(pid).unwrap());
        let dead = eventually(Duration::from_secs(5), || self.service(name)["pid"].is_null().then_some(()));
        assert!(dead.is_some(), "{name} is dead");
    }

    /// The DIR addresses as `XTFS_DIR` wants them.
    pub(crate) fn dirs(&self) -> String {
        let rows = self.ps();
        let dirs = rows.iter().filter(|row| row["role"] == "dir");
        let hosts: Vec<&str> =
            dirs.map(|row| row["addr"].as_str().unwrap().trim_start_matches("tcp://")).collect();
        hosts.join(",")
    }

    /// A tool that talks to this instance.
    pub(crate) fn tool(&self, args: &[&str]) -> Output {
        xtfs(args).env("XTFS_DIR", self.dirs()).output().unwrap()
    }

    /// A tool that must work and prints JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let output = self.tool(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub(crate) fn is_mounted(&self) -> bool {
        let at = format!(" {} ", self.mnt().display());
        std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&at)
    }

    /// What the services said, for the messages of failed tests.
    pub(crate) fn logs(&self) -> String {
        let Ok(logs) = std::fs::read_dir(self.data.join("log")) else { return String::new() };
        logs.flatten()
            .map(|log| {
                format!(
                    "\n--- {:?}\n{}",
                    log.file_name(),
                    std::fs::read_to_string(log.path()).unwrap_or_default()
                )
            })
            .collect()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.data.join("instance.json").exists() {
            let _ = self.run("down", &[]);
        }
    }
}

pub(crate) fn kill_hard(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// Tries until there is an answer or the time is over.
pub(crate) fn eventually<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
