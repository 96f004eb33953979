//! The same on a volume: the manager through the client library, supervisors and jobs through a mount. Needs root and
//! /dev/fuse; says so and passes without.
#![cfg(test)]

#[path = "local/bed.rs"]
mod bed;
#[path = "local/world.rs"]
mod world;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bed::Bed;
use client::fuse::MountOptions;
use exec::store::VolumeStore;
use exec::{Exec, ExecConfig};

struct Mounted {
    at: PathBuf,
    inner: Option<client::fuse::Mounted>,
    _place: tempfile::TempDir,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.inner.is_some() {
            let _ = client::fuse::mount::detach(&self.at, true);
        }
    }
}

async fn mount(bed: &Bed) -> Mounted {
    let place = world::temp_dir();
    let at = place.path().join("mnt");
    std::fs::create_dir(&at).unwrap();
    Mounted { inner: Some(mount_at(bed, &at).await), at, _place: place }
}

async fn mount_at(bed: &Bed, at: &Path) -> client::fuse::Mounted {
    let volume = bed.volume("mount").await;
    let (runtime, to) = (tokio::runtime::Handle::current(), at.to_path_buf());
    let inner = tokio::task::spawn_blocking(move || {
        let _inside = runtime.enter();
        client::fuse::mount(volume, to, &MountOptions::default()).unwrap()
    });
    inner.await.unwrap()
}

async fn manager(bed: &Bed, at: &Path) -> Exec {
    let store = Arc::new(VolumeStore::new(bed.volume("exec").await));
    let supervise = vec![env!("CARGO_BIN_EXE_xtfs-supervise").to_string()];
    let config = ExecConfig {
        cores: 2,
        make_user_dirs: false,
        data_dir: at.parent().unwrap().join("data"),
        ..ExecConfig::new(store, at.to_path_buf(), supervise)
    };
    Exec::start(config).await.unwrap()
}

/// Waits for something in the mount, off the runtime's threads.
async fn until(what: &str, limit: Duration, done: impl Fn() -> bool + Send + Sync + 'static) {
    let (start, done) = (Instant::now(), Arc::new(done));
    loop {
        let check = done.clone();
        if tokio::task::spawn_blocking(move || check()).await.unwrap() {
            return;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn drop_file(home: &Path, name: &str, text: &str) {
    let (home, name, text) = (home.to_path_buf(), name.to_string(), text.to_string());
    tokio::task::spawn_blocking(move || {
        std::fs::write(home.join("tmp").join(&name), text).unwrap();
        std::fs::rename(home.join("tmp").join(&name), home.join("new").join(&name)).unwrap();
    })
    .await
    .unwrap();
}

fn results(home: &Path, dir: &str) -> Vec<String> {
    let mut names = world::names(&home.join(dir), "");
    names.retain(|n| n.ends_with(".result.json"));
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn jobs_on_a_volume() {
    if !nix::unistd::geteuid().is_root() || std::fs::File::open("/dev/fuse").is_err() {
        eprintln!("skipped: mounting needs root and /dev/fuse");
        return;
    }
    let bed = Bed::start(1).await;
    let mut mounted = mount(&bed).await;
    let exec = manager(&bed, &mounted.at).await;
    let home = mounted.at.join("spool").join(world::USER);
    let new = home.join("new");
    until("the spool", Duration::from_secs(20), move || new.is_dir()).await;

    drop_file(
        &home,
        "hello.toml",
        "script = '''#!/bin/sh\necho hello; echo $XTFS_JOB_ID > $XTFS_JOB_DIR/control/note.tmp'''\n",
    )
    .await;
    let h = home.clone();
    until("hello ends", Duration::from_secs(20), move || results(&h, "done").len() == 1).await;
    let h = home.clone();
    let output = tokio::task::spawn_blocking(move || {
        let job = world::names(&h.join("jobs"), "j-").remove(0);
        std::fs::read_to_string(h.join("jobs").join(job).join("stdout.txt")).unwrap()
    });
    assert_eq!(output.await.unwrap(), "hello\n");

    // A plain copy that is still open is not claimed.
    let h = home.clone();
    let (told, open) = std::sync::mpsc::channel::<()>();
    let writer = tokio::task::spawn_blocking(move || {
        use std::io::Write;
        let mut file = std::fs::File::create(h.join("new/slow.toml")).unwrap();
        file.write_all(b"exec = 'true'\n").unwrap();
        open.recv().unwrap();
        assert!(h.join("new/slow.toml").exists(), "claimed while it was open");
    });
    tokio::time::sleep(Duration::from_millis(1500)).await;
    told.send(()).unwrap();
    writer.await.unwrap();
    let h = home.clone();
    until("slow ends", Duration::from_secs(20), move || results(&h, "done").len() == 2).await;

    // The mount goes away under a running job and comes back: nothing that it printed is missing.
    let text = "exec = 'sh'\nargs = ['-c', 'for i in 1 2 3 4 5 6 7 8 9; do echo $i; sleep 0.2; done']\n";
    drop_file(&home, "long.toml", text).await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    let old = mounted.inner.take().unwrap();
    tokio::task::spawn_blocking(move || old.unmount(true).unwrap()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    mounted.inner = Some(mount_at(&bed, &mounted.at).await);
    let h = home.clone();
    until("long ends", Duration::from_secs(20), move || results(&h, "done").len() == 3).await;
    let h = home.clone();
    let output = tokio::task::spawn_blocking(move || {
        let id = results(&h, "done").into_iter().find(|n| n.starts_with("long")).unwrap();
        let id = id.split('~').nth(1).unwrap().strip_suffix(".result.json").unwrap().to_string();
        std::fs::read_to_string(h.join("jobs").join(id).join("stdout.txt")).unwrap()
    });
    assert_eq!(output.await.unwrap(), "1\n2\n3\n4\n5\n6\n7\n8\n9\n");

    // Many at once, and a change of the manager in the middle.
    let count = 60;
    let start = Instant::now();
    for n in 0..count {
        drop_file(&home, &format!("m{n}.toml"), "exec = 'true'\n").await;
    }
    let h = home.clone();
    until("some end", Duration::from_secs(60), move || results(&h, "done").len() > 13).await;
    exec.shutdown().await;
    let exec = manager(&bed, &mounted.at).await;
    let h = home.clone();
    until("all end", Duration::from_secs(90), move || results(&h, "done").len() == 3 + count).await;
    println!("{:.0} jobs/s on a volume", count as f64 / start.elapsed().as_secs_f64());
    assert_eq!(exec.status().trouble, None);
    exec.shutdown().await;
    let inner = mounted.inner.take().unwrap();
    tokio::task::spawn_blocking(move || inner.unmount(false).unwrap()).await.unwrap();
    bed.stop().await;
}
