//! A spool in a temporary directory, served by a real manager with real supervisors.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use exec::store::LocalStore;
use exec::{Exec, ExecConfig};

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) exec: Option<Exec>,
    pub(crate) cores: u32,
}

pub(crate) const USER: &str = "root";

pub(crate) fn temp_dir() -> tempfile::TempDir {
    let base = Path::new("/tmp/exec");
    std::fs::create_dir_all(base).unwrap();
    tempfile::Builder::new().prefix("spool-").tempdir_in(base).unwrap()
}

pub(crate) fn config(root: &Path, cores: u32) -> ExecConfig {
    let store = Arc::new(LocalStore::open(root, 1).unwrap());
    let supervise = vec![env!("CARGO_BIN_EXE_xtfs-supervise").to_string()];
    ExecConfig {
        node: "n1".into(),
        cores,
        poll_busy: Duration::from_millis(50),
        poll_idle: Duration::from_millis(100),
        data_dir: root.join("data"),
        make_user_dirs: false,
        lease_ttl: Duration::from_secs(2),
        ..ExecConfig::new(store, root.to_path_buf(), supervise)
    }
}

impl World {
    pub(crate) async fn start(cores: u32) -> Self {
        let mut world = Self { dir: temp_dir(), exec: None, cores };
        world.boot().await;
        world
    }

    pub(crate) async fn boot(&mut self) {
        self.exec = Some(Exec::start(config(self.dir.path(), self.cores)).await.unwrap());
        let new = self.user("new");
        until("the spool stands", || new.is_dir() && self.exec.as_ref().unwrap().status().active).await;
    }

    pub(crate) async fn stop(&mut self) {
        self.exec.take().unwrap().shutdown().await;
    }

    pub(crate) fn user(&self, part: &str) -> PathBuf {
        self.dir.path().join("spool").join(USER).join(part)
    }

    /// Drops a descriptor the proper way.
    pub(crate) fn drop_file(&self, name: &str, text: &str) {
        std::fs::write(self.user("tmp").join(name), text).unwrap();
        std::fs::rename(self.user("tmp").join(name), self.user("new").join(name)).unwrap();
    }

    /// Names in a directory of the user that begin with `prefix`, sorted.
    pub(crate) fn names(&self, dir: &str, prefix: &str) -> Vec<String> {
        names(&self.user(dir), prefix)
    }

    /// Waits until the job of descriptor `name` ended; gives directory, id and result.
    pub(crate) async fn result(&self, name: &str) -> (String, String, serde_json::Value) {
        let found = || {
            ["done", "failed"].iter().find_map(|dir| {
                let names = self.names(dir, &format!("{name}~"));
                let full = names.iter().find(|n| !n.ends_with(".result.json") && !n.ends_with(".why"))?;
                Some((dir.to_string(), full.rsplit_once('~').unwrap().1.to_string()))
            })
        };
        until(&format!("{name} ends"), || found().is_some()).await;
        let (dir, id) = found().unwrap();
        let text = std::fs::read_to_string(self.user(&dir).join(format!("{name}~{id}.result.json"))).unwrap();
        (dir, id, serde_json::from_str(&text).unwrap())
    }

    pub(crate) fn job_file(&self, id: &str, part: &str) -> String {
        std::fs::read_to_string(self.user("jobs").join(id).join(part)).unwrap_or_default()
    }

    /// Waits until the job of descriptor `name` is claimed and runs; gives its id.
    pub(crate) async fn running(&self, name: &str) -> String {
        until(&format!("{name} is claimed"), || !self.names("run", &format!("{name}~")).is_empty()).await;
        let id = self.names("run", &format!("{name}~"))[0].rsplit_once('~').unwrap().1.to_string();
        until(&format!("{name} runs"), || self.job_file(&id, "eventlog").contains("\"e\":\"start\"")).await;
        id
    }
}

pub(crate) fn names(dir: &Path, prefix: &str) -> Vec<String> {
    let mut out: Vec<String> = std::fs::read_dir(dir)
        .map(|d| d.filter_map(|e| e.ok()).map(|e| e.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    out.retain(|n| n.starts_with(prefix));
    out.sort();
    out
}

pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
