//! Jobs by their ids, and what their files say.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::CliError;
use crate::engine::{Change, JobState, Record, replay};
use crate::id::JobId;

/// A job's place in a mounted spool.
pub(super) struct Place {
    pub(super) id: JobId,
    pub(super) user: String,
    /// `spool/USER`.
    pub(super) home: PathBuf,
    /// `spool/USER/jobs/ID`.
    pub(super) dir: PathBuf,
}

/// Users whose spools the caller may look into.
pub(super) fn users(spool: &Path) -> Vec<String> {
    let mut out: Vec<String> = std::fs::read_dir(spool)
        .map(|entries| entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    out.retain(|name| !name.starts_with('.') && spool.join(name).join("jobs").is_dir());
    out.sort();
    out
}

/// The job of that id.
pub(super) fn find(spool: &Path, id: &str) -> Result<Place, CliError> {
    let id: JobId = id.parse().map_err(|e: crate::id::NotAJobId| CliError::new(e.to_string()))?;
    for user in users(spool) {
        let home = spool.join(&user);
        let dir = home.join("jobs").join(id.as_str());
        if dir.is_dir() {
            return Ok(Place { id, user, home, dir });
        }
    }
    Err(CliError::new(format!(
        "no job {id} in {} that you may see; xtfs job ls --all lists yours",
        spool.display()
    )))
}

impl Place {
    /// A job that stands in a directory of the spool.
    pub(super) fn of(spool: &Path, user: &str, id: JobId) -> Self {
        let home = spool.join(user);
        let dir = home.join("jobs").join(id.as_str());
        Self { id, user: user.to_string(), home, dir }
    }

    pub(super) fn records(&self) -> Vec<Record> {
        replay(&std::fs::read(self.dir.join("eventlog")).unwrap_or_default())
    }

    /// The state by the log, which is the truth.
    pub(super) fn state(&self, records: &[Record]) -> JobState {
        records.iter().fold(JobState::New, |state, record| state.after(&record.change).unwrap_or(state))
    }

    pub(super) fn json(&self, part: &str) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(self.dir.join(part)).ok()?).ok()
    }

    /// Name of its descriptor.
    pub(super) fn file(&self, records: &[Record]) -> String {
        let logged = records.iter().find_map(|r| match &r.change {
            Change::Submit { file, .. } => Some(file.clone()),
            _ => None,
        });
        logged.or_else(|| self.json("submit.json")?["file"].as_str().map(str::to_string)).unwrap_or_default()
    }

    /// Its result, once the descriptor has left `run/` (it may have been submitted again since).
    pub(super) fn result(&self, file: &str) -> Option<Value> {
        let full = format!("{file}~{}", self.id);
        if ["run", "hold"].iter().any(|dir| self.home.join(dir).join(&full).symlink_metadata().is_ok()) {
            return None;
        }
        ["done", "failed"].iter().find_map(|dir| {
            let bytes = std::fs::read(self.home.join(dir).join(format!("{full}.result.json"))).ok()?;
            serde_json::from_slice(&bytes).ok()
        })
    }

    /// `status.json`, brought up to date from the log when that is further.
    pub(super) fn status(&self) -> Value {
        let records = self.records();
        let file = self.file(&records);
        if let Some(result) = self.result(&file) {
            return result;
        }
        let state = self.state(&records);
        let last = records.last();
        let cached = self.json("status.json").filter(|s| s["state"] == state.word());
        cached.unwrap_or_else(|| {
            let name = self.json("spec.json").map(|s| s["name"].clone()).unwrap_or_default();
            let (code, text) = match state {
                JobState::New | JobState::Sched | JobState::Depend => ("WAITING", "waits to be started"),
                JobState::Alloc => ("STARTING", "being started"),
                JobState::Run => ("RUNNING", "runs"),
                JobState::Held => ("HELD", "is held"),
                JobState::Susp => ("SUSPENDED", "its processes are stopped"),
                JobState::Cleanup(_) | JobState::Over(_) => ("ENDED", "its result is being written"),
            };
            serde_json::json!({
                "schema": 1,
                "id": self.id.as_str(),
                "name": name,
                "user": self.user,
                "file": file,
                "state": state.word(),
                "reason": { "code": code, "text": text, "since": last.map(|r| crate::text::rfc3339(r.t_ms)) },
                "submitted": records.first().map(|r| crate::text::rfc3339(r.t_ms)),
                "seq": last.map(|r| r.seq),
            })
        })
    }
}
