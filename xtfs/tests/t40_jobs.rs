//! Jobs through the binary: a file dropped into the spool, and the job commands.

#[path = "harness/instance.rs"]
mod instance;

use std::time::Duration;

use instance::{Instance, can_mount, eventually, text};

#[test]
fn t40_a_dropped_file_becomes_a_job_and_its_result_a_file() {
    if !can_mount() {
        return;
    }
    let this = Instance::new();
    this.up(&[]);
    let home = this.mnt().join("spool/root");
    let made = eventually(Duration::from_secs(10), || home.join("new").is_dir().then_some(()));
    assert!(made.is_some(), "exec makes the user's spool{}", this.logs());
    std::fs::write(home.join("tmp/hello.toml"), "exec = \"/bin/echo\"\nargs = [\"hello\"]\n").unwrap();
    std::fs::rename(home.join("tmp/hello.toml"), home.join("new/hello.toml")).unwrap();
    let result = eventually(Duration::from_secs(20), || {
        let done = std::fs::read_dir(home.join("done")).ok()?;
        done.flatten().map(|entry| entry.path()).find(|path| path.to_string_lossy().ends_with(".result.json"))
    });
    let result = result.unwrap_or_else(|| panic!("the job is done{}", this.logs()));
    let result: serde_json::Value = serde_json::from_slice(&std::fs::read(result).unwrap()).unwrap();
    assert_eq!(result["exit_code"], 0, "{result}");

    let spool = this.mnt().join("spool");
    let job = |args: &[&str]| this.tool(&[&["job", "--spool", spool.to_str().unwrap()], args].concat());
    let submitted = job(&["submit", "--", "/bin/sh", "-c", "echo out; exit 7"]);
    assert!(submitted.status.success(), "{}{}", text(&submitted.stderr), this.logs());
    let id = text(&submitted.stdout).trim().to_owned();
    assert_eq!(job(&["wait", &id]).status.code(), Some(7));
    assert_eq!(text(&job(&["log", &id]).stdout), "out\n");
    assert!(text(&job(&["ls", "--all"]).stdout).contains(&id));
    assert_eq!(job(&["wait", "no-such-job"]).status.code(), Some(1));
    assert_eq!(this.service("exec-0")["state"], "running");
}

#[test]
fn t41_a_job_survives_its_job_service() {
    if !can_mount() {
        return;
    }
    let this = Instance::new();
    this.up(&["--separate"]);
    let spool = this.mnt().join("spool");
    let job = |args: &[&str]| this.tool(&[&["job", "--spool", spool.to_str().unwrap()], args].concat());
    let submitted = job(&["submit", "--", "/bin/sh", "-c", "sleep 2; exit 5"]);
    assert!(submitted.status.success(), "{}{}", text(&submitted.stderr), this.logs());
    let id = text(&submitted.stdout).trim().to_owned();
    this.kill("exec-0");
    this.ok("start", &["exec-0"]);
    let waited = job(&["wait", &id]);
    let shown = text(&job(&["show", &id]).stdout);
    assert_eq!(waited.status.code(), Some(5), "{}{shown}{}", text(&waited.stderr), this.logs());
}
