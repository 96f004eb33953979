//! `xtfs up` in one process: start, write, stop, kill, resume.

#[path = "harness/instance.rs"]
mod instance;

use std::time::{Duration, Instant};

use instance::{Instance, can_mount, eventually, kill_hard, text};

#[test]
fn t10_what_was_written_is_there_after_down_and_after_kill() {
    if !can_mount() {
        return;
    }
    let this = Instance::new();
    let started = Instant::now();
    let up = this.up(&["--no-exec"]);
    std::fs::write(this.mnt().join("first"), b"hello").unwrap();
    assert!(started.elapsed() < Duration::from_secs(3), "first write after {:?}", started.elapsed());
    assert_eq!(up["mount"].as_str(), this.mnt().to_str());
    assert_eq!(up["volume"], "default");
    assert_eq!(up["spool"].as_str().map(std::path::Path::new), Some(this.mnt().join("spool").as_path()));
    assert!(this.mnt().join("spool").is_dir());

    let names: Vec<String> = this.ps().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, ["dir-0", "mrc-0", "osd-0", "mount-0"]);
    assert!(this.ps().iter().all(|row| row["pid"] == up["pid"] && row["state"] == "running"));
    assert_eq!(this.service("mrc-0")["leader"], true);

    let second = this.try_up(&[]);
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains(&format!("process {} runs it already", up["pid"])), "{second:?}");

    this.ok("down", &[]);
    assert!(!this.is_mounted());
    assert!(this.ps().iter().all(|row| row["pid"].is_null() && row["state"] == "stopped"));
    this.ok("down", &[]);

    let up = this.up(&["--no-exec"]);
    assert_eq!(std::fs::read(this.mnt().join("first")).unwrap(), b"hello");
    std::fs::write(this.mnt().join("second"), vec![7u8; 3_000_000]).unwrap();
    kill_hard(i32::try_from(up["pid"].as_i64().unwrap()).unwrap());
    eventually(Duration::from_secs(5), || this.service("mrc-0")["pid"].is_null().then_some(())).unwrap();

    this.up(&["--no-exec"]);
    assert_eq!(std::fs::read(this.mnt().join("first")).unwrap(), b"hello");
    assert_eq!(std::fs::read(this.mnt().join("second")).unwrap(), vec![7u8; 3_000_000]);
}

#[test]
fn t11_up_says_what_is_in_its_way() {
    if !can_mount() {
        return;
    }
    let this = Instance::new();
    std::fs::create_dir_all(this.mnt()).unwrap();
    std::fs::write(this.mnt().join("mine"), b"").unwrap();
    let refused = this.try_up(&[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("not empty"), "{refused:?}");
    assert!(this.mnt().join("mine").exists());

    for (more, word) in
        [(["--stripe-width", "3"], "OSDs"), (["--osds", "0"], "--osds"), (["--replicas", "2"], "OSDs")]
    {
        let refused = this.try_up(&more);
        assert_eq!(refused.status.code(), Some(2), "{more:?}");
        assert!(text(&refused.stderr).contains(word), "{refused:?}");
    }
}

#[test]
fn t12_status_needs_only_http() {
    if !can_mount() {
        return;
    }
    let this = Instance::new();
    let up = this.up(&["--no-exec", "--no-mount"]);
    assert!(up["mount"].is_null());
    for row in this.ps() {
        let at = row["http"].as_str().unwrap();
        assert!(get(at, "/healthz").starts_with("HTTP/1.1 200"), "{row}");
        let status = get(at, "/api/v1/status");
        assert!(status.contains(row["uuid"].as_str().unwrap()), "{status}");
        assert!(get(at, "/metrics").starts_with("HTTP/1.1 200"));
    }
}

fn get(at: &str, path: &str) -> String {
    use std::io::{Read, Write};
    let asked = || -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect(at)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    asked().expect("the HTTP door is open")
}
