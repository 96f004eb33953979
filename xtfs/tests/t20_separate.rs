//! `xtfs up --separate`: kill -9 of each service while files are written; nothing acknowledged is lost.

#[path = "harness/instance.rs"]
mod instance;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use instance::{Instance, can_mount, eventually, kill_hard};

/// A process that writes files one after the other until it is told to stop. Not a thread of the test: a child of
/// this process would inherit its open file and wait for the dead mount with it.
struct Writer {
    child: std::process::Child,
    /// Beside the mount: `progress` and `stop`.
    desk: PathBuf,
}

const SCRIPT: &str = r#"
i=0
while [ ! -e "$2/stop" ]; do
    yes "file $i" | head -n 500 > "$1/$i" || exit 1
    i=$((i + 1))
    echo $i > "$2/progress.tmp" && mv "$2/progress.tmp" "$2/progress"
done
"#;

fn content(number: u64) -> Vec<u8> {
    format!("file {number}\n").repeat(500).into_bytes()
}

impl Writer {
    fn start(dir: &Path, desk: &Path) -> Self {
        let child = Command::new("sh").args(["-c", SCRIPT, "writer"]).arg(dir).arg(desk).spawn();
        Self { child: child.expect("there is a shell"), desk: desk.to_owned() }
    }

    fn done(&self) -> u64 {
        let text = std::fs::read_to_string(self.desk.join("progress")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// Waits until some more files were written.
    fn advance(&self, by: u64) {
        let from = self.done();
        let went = eventually(Duration::from_secs(20), || (self.done() >= from + by).then_some(()));
        assert!(went.is_some(), "writing goes on");
    }

    /// Stops, and reads back everything that was acknowledged.
    fn finish(mut self, dir: &Path) {
        std::fs::write(self.desk.join("stop"), b"").expect("the desk is writable");
        assert!(self.child.wait().expect("it is our child").success(), "a mount stalls, it does not fail");
        for number in 0..self.done() {
            let read = std::fs::read(dir.join(number.to_string())).expect("it was acknowledged");
            assert_eq!(read, content(number), "file {number}");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = std::fs::write(self.desk.join("stop"), b"");
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that has ended counts as gone also while the container's init has not yet asked for its exit status.
fn runs(pid: i64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[test]
fn t20_each_service_may_be_killed_during_writes() {
    if !can_mount() {
        return;
    }
    let this = Instance::new();
    this.up(&["--separate", "--dirs", "3", "--mrcs", "3", "--osds", "2", "--no-exec"]);
    let pids: Vec<i64> = this.ps().iter().filter_map(|row| row["pid"].as_i64()).collect();
    assert_eq!(pids.len(), 10);
    assert_eq!(pids.iter().collect::<std::collections::BTreeSet<_>>().len(), 10, "each its own process");
    let dir = this.mnt().join("work");
    std::fs::create_dir(&dir).unwrap();
    let writer = Writer::start(&dir, this.data.parent().unwrap());
    writer.advance(5);
    for victim in [this.leader("dir"), this.leader("mrc"), "osd-0".into(), "osd-1".into(), "mount-0".into()] {
        this.kill(&victim);
        this.ok("start", &[&victim]);
        writer.advance(10);
    }
    // A member that does not come back is not missed.
    let leader = this.leader("mrc");
    this.kill(&leader);
    writer.advance(10);
    writer.finish(&dir);
    this.ok("down", &[]);
    assert!(!this.is_mounted());
    for pid in pids {
        assert!(!runs(pid), "process {pid} is gone");
    }
    this.up(&[]);
    assert_eq!(std::fs::read(dir.join("3")).unwrap(), content(3));
}

#[test]
fn t21_a_service_is_stopped_and_started_by_name() {
    if !can_mount() {
        return;
    }
    let this = Instance::new();
    this.up(&["--separate", "--no-exec"]);
    std::fs::write(this.mnt().join("x"), b"x").unwrap();
    this.ok("stop", &["osd-0"]);
    assert_eq!(this.service("osd-0")["state"], "stopped");
    this.ok("start", &["osd-0"]);
    assert_eq!(this.run("start", &["osd-0"]).status.code(), Some(1), "it runs already");
    assert_eq!(this.run("stop", &["osd-7"]).status.code(), Some(2), "no such service");
    this.ok("stop", &["mount-0"]);
    assert!(!this.is_mounted());
    this.ok("start", &["mount-0"]);
    assert_eq!(std::fs::read(this.mnt().join("x")).unwrap(), b"x");
}

#[test]
fn t22_down_and_up_mend_what_a_killed_launcher_left() {
    if !can_mount() {
        return;
    }
    let this = Instance::new();
    let up = this.up(&["--separate", "--no-exec"]);
    std::fs::write(this.mnt().join("x"), b"x").unwrap();
    kill_hard(i32::try_from(up["pid"].as_i64().unwrap()).unwrap());
    // The services live on, the mount works.
    assert_eq!(std::fs::read(this.mnt().join("x")).unwrap(), b"x");
    assert_eq!(this.run("stop", &["osd-0"]).status.code(), Some(3), "nobody can be asked");
    let up = this.up(&[]);
    assert_eq!(std::fs::read(this.mnt().join("x")).unwrap(), b"x");
    kill_hard(i32::try_from(up["pid"].as_i64().unwrap()).unwrap());
    this.ok("down", &[]);
    assert!(!this.is_mounted());
    assert!(this.ps().iter().all(|row| row["pid"].is_null()));
}
