//! What a manager finds: jobs that an earlier one left, and what became of their supervisors.

use super::claim::Claim;
use super::users::Account;
use super::{Hands, LogEnd, OWN, job_path, unit_dir, user_path};
use crate::engine::{Change, Evidence, ExitRecord, ExitStatus, Facts, Record, replay};
use crate::id::JobId;
use crate::spec;
use crate::store::{Put, StoreError};
use crate::supervisor::{self, Manifest};

/// Largest event log, bytes.
const LOG_BYTES_MAX: usize = 16 << 20;
/// Largest small file of a job, bytes.
const FILE_BYTES_MAX: usize = 1 << 20;

/// A live job as found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) facts: Facts,
    pub(crate) records: Vec<Record>,
    pub(crate) evidence: Evidence,
}

/// What is known of an attempt whose report pipe is gone.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// Nobody won the manifest.
    NotStarted,
    /// The manifest was taken to revoke it.
    Revoked,
    /// Its supervisor lives.
    Alive(u32),
    /// It ended.
    Ended(ExitRecord),
    /// It runs or ran on another node, which alone can tell.
    Elsewhere,
}

impl Hands {
    /// Users and names of all jobs that were live: by the index, and by what stands in `run/` and `hold/`.
    pub(crate) async fn live_names(
        &self,
        users: &[Account],
    ) -> Result<Vec<(String, String, JobId)>, StoreError> {
        let mut out = std::collections::BTreeMap::new();
        for user in users {
            for dir in ["run", "hold"] {
                for entry in self.store.list(&user_path(&user.name, dir), 1_000_000).await? {
                    if let Some((file, id)) = super::split_name(&entry.name) {
                        out.insert(id, (user.name.clone(), file.to_string()));
                    }
                }
            }
        }
        for entry in self.store.list(&format!("{OWN}/active"), 1_000_000).await? {
            let Ok(id) = entry.name.parse::<JobId>() else { continue };
            if out.contains_key(&id) {
                continue;
            }
            let bytes = self.store.read(&format!("{OWN}/active/{id}"), FILE_BYTES_MAX).await?;
            let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
            if let (Some(user), Some(file)) = (value["user"].as_str(), value["file"].as_str()) {
                out.insert(id, (user.to_string(), file.to_string()));
            }
        }
        Ok(out.into_iter().map(|(id, (user, file))| (user, file, id)).collect())
    }

    /// Reads a live job back; none if there is nothing to do for that name.
    pub(crate) async fn recover(
        &self,
        user: &str,
        file: &str,
        id: &JobId,
    ) -> Result<Option<Found>, StoreError> {
        let Some(account) = self.account(user) else { return Ok(None) };
        let in_place = |dir: &str| user_path(user, &format!("{dir}/{file}~{id}"));
        let in_run = self.store.stat(&in_place("run")).await.is_ok();
        let in_hold = !in_run && self.store.stat(&in_place("hold")).await.is_ok();
        let log = self.read_or_nothing(&job_path(user, id, "eventlog"), LOG_BYTES_MAX).await?;
        let records = replay(&log);
        let torn = log.last().is_some_and(|b| *b != b'\n');
        self.log_ends.lock().insert(id.clone(), LogEnd { length: log.len() as u64, torn });
        if records.is_empty() && in_run {
            // Claimed, but its directory may not be complete.
            return Ok(match self.establish_claimed(&account, file, id).await? {
                Claim::Job(facts) => Some(Found { facts: *facts, records, evidence: Evidence::default() }),
                Claim::Rejected | Claim::Later => None,
            });
        }
        let Some(facts) = self.read_facts(user, file, id, &records).await? else {
            // Removed before it became a job: nothing was started.
            let _ = self.store.remove(&format!("{OWN}/active/{id}")).await;
            return Ok(None);
        };
        let attempt = records.iter().rev().find_map(|r| match &r.change {
            Change::Alloc { attempt, .. } => Some(*attempt),
            _ => None,
        });
        let mut evidence = Evidence { in_hold, gone: !in_run && !in_hold, ..Evidence::default() };
        self.gather(user, id, attempt.unwrap_or(1), &mut evidence).await?;
        Ok(Some(Found { facts, records, evidence }))
    }

    async fn gather(
        &self,
        user: &str,
        id: &JobId,
        attempt: u32,
        evidence: &mut Evidence,
    ) -> Result<(), StoreError> {
        let decision =
            self.read_or_nothing(&job_path(user, id, &format!("decision-{attempt}")), FILE_BYTES_MAX).await?;
        if !decision.is_empty() {
            evidence.decision = Some(is_go(&decision));
        }
        match self.read_manifest(user, id, attempt).await? {
            Some(manifest) if manifest.revoked.is_some() => evidence.decision = Some(false),
            Some(_) => evidence.started = true,
            None => {}
        }
        Ok(())
    }

    async fn read_facts(
        &self,
        user: &str,
        file: &str,
        id: &JobId,
        records: &[Record],
    ) -> Result<Option<Facts>, StoreError> {
        let normalised = self.read_or_nothing(&job_path(user, id, "spec.json"), FILE_BYTES_MAX).await?;
        let mut spec = serde_json::from_slice::<spec::JobSpec>(&normalised).ok();
        if spec.is_none() {
            let source = self.read_or_nothing(&job_path(user, id, "spec.src"), FILE_BYTES_MAX).await?;
            spec = spec::parse(&source, file).ok();
        }
        let Some(spec) = spec else { return Ok(None) };
        let (mut sha256, mut submitted_ms) = (String::new(), self.now_ms());
        if let Some(first) = records.first() {
            submitted_ms = first.t_ms;
            if let Change::Submit { sha256: hash, .. } = &first.change {
                sha256.clone_from(hash);
            }
        }
        Ok(Some(Facts { id: id.clone(), user: user.into(), file: file.into(), sha256, submitted_ms, spec }))
    }

    pub(crate) async fn read_or_nothing(&self, path: &str, most: usize) -> Result<Vec<u8>, StoreError> {
        match self.store.read(path, most).await {
            Err(error) if error.is_missing() => Ok(Vec::new()),
            other => other,
        }
    }

    /// The manifest of an attempt. One that belongs to somebody else than exec is not believed: it names a process
    /// that exec would signal.
    async fn read_manifest(
        &self,
        user: &str,
        id: &JobId,
        attempt: u32,
    ) -> Result<Option<Manifest>, StoreError> {
        let path = job_path(user, id, &format!("{}/manifest.json", unit_dir(attempt)));
        let bytes = self.read_or_nothing(&path, FILE_BYTES_MAX).await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let stat = self.store.stat(&path).await?;
        if stat.uid != nix::unistd::geteuid().as_raw() && stat.uid != 0 {
            tracing::warn!(job = %id, uid = stat.uid, "manifest.json belongs to another user and is not believed");
            return Ok(None);
        }
        Ok(serde_json::from_slice(&bytes).ok())
    }

    pub(crate) async fn read_exit(
        &self,
        user: &str,
        id: &JobId,
        attempt: u32,
    ) -> Result<Option<ExitRecord>, StoreError> {
        let path = job_path(user, id, &format!("{}/exit.json", unit_dir(attempt)));
        Ok(serde_json::from_slice(&self.read_or_nothing(&path, FILE_BYTES_MAX).await?).ok())
    }

    /// What became of an attempt; when its supervisor is dead without a record, the record is written here.
    pub(crate) async fn inspect(&self, user: &str, id: &JobId, attempt: u32) -> Result<Attempt, StoreError> {
        if let Some(exit) = self.read_exit(user, id, attempt).await? {
            return Ok(Attempt::Ended(exit));
        }
        let Some(manifest) = self.read_manifest(user, id, attempt).await? else {
            return Ok(Attempt::NotStarted);
        };
        if manifest.revoked.is_some() {
            return Ok(Attempt::Revoked);
        }
        if manifest.node != self.set.node {
            return Ok(Attempt::Elsewhere);
        }
        if supervisor::is_alive(&manifest) {
            return Ok(Attempt::Alive(manifest.pid));
        }
        // It may have written its record just before it went.
        if let Some(exit) = self.read_exit(user, id, attempt).await? {
            return Ok(Attempt::Ended(exit));
        }
        let exit = self.lost_record(user, id, attempt, &manifest).await?;
        self.assert_lease().await.map_err(|e| StoreError::new("lease", &e.to_string(), libc::ESTALE))?;
        let bytes = serde_json::to_vec_pretty(&exit).expect("exit records are plain data");
        let path = job_path(user, id, &format!("{}/exit.json", unit_dir(attempt)));
        self.store.create_once(&path, &bytes, Put::DURABLE).await?;
        let written = self.read_exit(user, id, attempt).await?;
        Ok(Attempt::Ended(written.unwrap_or(exit)))
    }

    async fn lost_record(
        &self,
        user: &str,
        id: &JobId,
        attempt: u32,
        manifest: &Manifest,
    ) -> Result<ExitRecord, StoreError> {
        if let Some(copy) = supervisor::local_copy(&self.set.data_dir, id.as_str(), 0, attempt) {
            return Ok(copy);
        }
        // Its pid namespace died with it; this is for hosts where there was none, and for the empty groups.
        let name = id.to_string();
        let _ = tokio::task::spawn_blocking(move || supervisor::sweep_groups(&name, 0, attempt)).await;
        let log = self
            .read_or_nothing(&job_path(user, id, &format!("{}/log", unit_dir(attempt))), FILE_BYTES_MAX)
            .await?;
        let started = supervisor::mark_started(&log);
        let rebooted = manifest.boot_id != supervisor::boot_id();
        let (status, text) = match (rebooted, started) {
            (true, Some(_)) => (ExitStatus::NodeReboot, "the node restarted while it ran"),
            (true, None) => (ExitStatus::NodeReboot, "the node restarted before it started"),
            (false, Some(_)) => {
                (ExitStatus::SupervisorLost, "its supervisor was killed, and the job with it")
            }
            (false, None) => {
                (ExitStatus::LostBeforeExec, "its supervisor was killed before it started the program")
            }
        };
        let by = format!("exec@{}", self.set.node);
        let mut exit = supervisor::bare_exit(status, text.into(), attempt, manifest.epoch, &by);
        exit.started_ms = started.unwrap_or(0);
        Ok(exit)
    }

    /// Takes the manifest itself, so that no supervisor ever can.
    pub(crate) async fn bar_manifest(
        &self,
        user: &str,
        id: &JobId,
        attempt: u32,
        why: &str,
    ) -> Result<bool, StoreError> {
        let manifest = Manifest {
            schema: 1,
            job: id.to_string(),
            unit: 0,
            attempt,
            epoch: self.lease.epoch(),
            node: self.set.node.clone(),
            boot_id: supervisor::boot_id(),
            pid: 0,
            start_ticks: 0,
            cgroup: String::new(),
            at_ms: self.now_ms(),
            revoked: Some(why.to_string()),
        };
        let bytes = serde_json::to_vec(&manifest).expect("manifests are plain data");
        self.store.mkdir(&job_path(user, id, &unit_dir(attempt)), 0o755, None).await?;
        let path = job_path(user, id, &format!("{}/manifest.json", unit_dir(attempt)));
        self.store.create_once(&path, &bytes, Put::DURABLE).await
    }
}

/// What a decision file says.
pub(crate) fn is_go(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(bytes).is_ok_and(|v| v["decision"] == "go")
}
