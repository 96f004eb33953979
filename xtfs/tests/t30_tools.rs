//! Tools against a running instance, and their exit statuses.

#[path = "harness/instance.rs"]
mod instance;

use instance::{Instance, can_mount, text, xtfs};

#[test]
fn t30_a_volume_is_made_mounted_shown_and_removed() {
    if !can_mount() {
        return;
    }
    let this = Instance::new();
    this.up(&["--osds", "2", "--no-exec"]);
    let made =
        this.json(&["mkfs", "xtfs:///work", "--stripe-size", "64K", "--stripe-width", "2", "--mode", "750"]);
    assert_eq!((&made["stripe_size"], &made["mode"]), (&65536.into(), &"750".into()));
    assert_eq!(this.tool(&["mkfs", "xtfs:///work"]).status.code(), Some(1), "it exists");
    let names = |list: serde_json::Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|volume| volume["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(this.json(&["ls"])), ["default", "work"]);

    let at = this.data.join("second");
    std::fs::create_dir(&at).unwrap();
    let url = format!("xtfs://{}/work", this.dirs());
    this.json(&["mount", &url, at.to_str().unwrap(), "-o", "nosuid,nodev"]);
    std::fs::write(at.join("f"), vec![1u8; 300_000]).unwrap();
    let info = this.json(&["info", at.join("f").to_str().unwrap()]);
    assert_eq!((&info["size"], &info["layout"]["stripe_width"]), (&300_000.into(), &2.into()));
    let objects: u64 =
        info["osds"].as_array().unwrap().iter().map(|osd| osd["objects"].as_u64().unwrap()).sum();
    assert_eq!(objects, 5);
    assert_eq!(this.json(&["info", &format!("{url}/f")])["ino"], info["ino"]);
    let space = this.json(&["df", &url]);
    assert_eq!(space[0]["used_bytes"], 300_000);

    let busy = std::fs::File::open(at.join("f")).unwrap();
    assert_eq!(this.tool(&["umount", at.to_str().unwrap()]).status.code(), Some(1), "it is in use");
    drop(busy);
    this.json(&["umount", at.to_str().unwrap()]);
    assert_eq!(this.tool(&["rmfs", &url]).status.code(), Some(2), "nobody confirmed");
    this.json(&["rmfs", &url, "--yes"]);
    assert_eq!(names(this.json(&["ls"])), ["default"]);
    assert_eq!(this.tool(&["df", &url]).status.code(), Some(1), "it is gone");
}

#[test]
fn t31_status_and_osd_states() {
    if !can_mount() {
        return;
    }
    let this = Instance::new();
    this.up(&["--osds", "2", "--no-exec", "--no-mount"]);
    let status = this.json(&["status"]);
    assert_eq!(status["health"], "ok", "{status}");
    assert_eq!(status["osds"].as_array().unwrap().len(), 2);
    assert_eq!(status["mrcs"][0]["leader"], true);
    assert_eq!(this.json(&["osd", "drain", "1"])["state"], "draining");
    assert_eq!(this.json(&["osd", "ls"])[0]["state"], "draining");
    assert_eq!(this.json(&["osd", "undrain", "1"])["state"], "up");
    assert_eq!(this.tool(&["osd", "drain", "9"]).status.code(), Some(1));
    assert_eq!(this.tool(&["osd", "remove", "1"]).status.code(), Some(2), "nobody confirmed");
    assert!(text(&this.tool(&["mrc", "members"]).stdout).contains("leader"));
    assert!(text(&this.tool(&["service", "ls"]).stdout).contains("mrc-0"));
}

#[test]
fn t32_exit_statuses_and_messages() {
    let run = |args: &[&str]| xtfs(args).current_dir("/").output().unwrap();
    let nobody = run(&["ls", "127.0.0.1:1", "--timeout", "0.5"]);
    assert_eq!(nobody.status.code(), Some(3), "{nobody:?}");
    assert!(text(&nobody.stderr).contains("127.0.0.1:1"));
    for wrong in
        [&["ls", "http://x"][..], &["nonsense"], &["ls"], &["vo", "--config", "x"], &["config", "pizza"]]
    {
        assert_eq!(run(wrong).status.code(), Some(2), "{wrong:?}");
    }
    assert_eq!(run(&["ps", "--data", "/nowhere"]).status.code(), Some(1));
    let help = run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(!text(&help.stdout).contains("virtual organisation"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("osd.toml");
    std::fs::write(&file, "uuid = \"u\"\ndomian = \"r\"\n").unwrap();
    let refused = run(&["osd", "--config", file.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("did you mean `domain`?"), "{refused:?}");
}

#[test]
fn t33_completions_pages_and_links() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = xtfs(&["completion", shell]).output().unwrap();
        assert!(script.status.success() && text(&script.stdout).contains("xtfs"), "{shell}");
    }
    let pages = dir.path().join("man");
    assert!(xtfs(&["man", pages.to_str().unwrap()]).output().unwrap().status.success());
    assert!(std::fs::read_to_string(pages.join("xtfs-mkfs.1")).unwrap().contains("stripe"));
    let links = dir.path().join("bin");
    assert!(xtfs(&["install-links", links.to_str().unwrap()]).output().unwrap().status.success());
    let version = std::process::Command::new(links.join("lsfs.xtreemfs")).arg("--version").output().unwrap();
    assert!(version.status.success());
    assert!(text(&version.stdout).contains(env!("CARGO_PKG_VERSION")));
}
