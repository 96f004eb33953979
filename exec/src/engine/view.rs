//! What people are shown of a job: derived from its state, never the truth itself.

use serde_json::{Value, json};

use super::Engine;
use super::job::{Job, JobState};
use super::record::ExitRecord;
use crate::id::JobId;
use crate::spec::JobSpec;
use crate::text::rfc3339;

/// `status.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusView {
    /// The job.
    pub id: String,
    /// What the user calls it.
    pub name: String,
    /// Whose it is.
    pub user: String,
    /// Name of the descriptor.
    pub file: String,
    /// Its state in words.
    pub state: &'static str,
    /// Why it is in that state.
    pub reason: Reason,
    /// Slots.
    pub cpus: u32,
    /// Attempt, 0 before the first.
    pub attempt: u32,
    /// Where it runs or ran.
    pub node: Option<String>,
    /// The supervisor's pid there.
    pub pid: Option<u32>,
    /// Milliseconds since 1970.
    pub submitted_ms: u64,
    /// Milliseconds since 1970.
    pub started_ms: Option<u64>,
    /// Milliseconds since 1970.
    pub ended_ms: Option<u64>,
    /// How it ended.
    pub exit: Option<ExitRecord>,
    /// Number of the last record of its log.
    pub seq: u64,
    /// Epoch of the manager that wrote this.
    pub epoch: u64,
}

/// Why a job is where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    /// One word for programs.
    pub code: &'static str,
    /// One line for people.
    pub text: String,
    /// Since when, milliseconds since 1970.
    pub since_ms: u64,
    /// What to do about it, if anything.
    pub hint: Option<String>,
}

impl Engine {
    /// What people are shown of a live job.
    pub fn view(&self, id: &JobId) -> Option<StatusView> {
        let job = self.jobs.get(id)?;
        let (exit, ended_ms) = match (&job.outcome, job.state) {
            (Some((exit, _)), JobState::Over(_)) => {
                let ended = exit.as_ref().map_or(job.since_ms, |e| e.ended_ms);
                (exit.clone(), Some(ended))
            }
            _ => (None, None),
        };
        Some(StatusView {
            id: id.to_string(),
            name: job.facts.spec.name.clone(),
            user: job.facts.user.clone(),
            file: job.facts.file.clone(),
            state: job.state.word(),
            reason: self.reason(job),
            cpus: job.facts.spec.resources.cpus,
            attempt: job.attempt,
            node: (job.attempt > 0).then(|| self.node.clone()),
            pid: job.pid.filter(|_| job.state.holds_slots()),
            submitted_ms: job.facts.submitted_ms,
            started_ms: exit.as_ref().map(|e| e.started_ms).filter(|t| *t > 0).or(job.started_ms),
            ended_ms,
            exit,
            seq: job.seq,
            epoch: self.epoch,
        })
    }

    /// The reason comes from the same predicates that decide.
    fn reason(&self, job: &Job) -> Reason {
        let id = &job.facts.id;
        let reason =
            |code, text: String, hint: Option<String>| Reason { code, text, since_ms: job.since_ms, hint };
        match job.state {
            JobState::New => reason("NEW", "being recorded".into(), None),
            JobState::Held => {
                let (_, text) = job.hold.clone().unwrap_or_default();
                reason("HELD", text, Some(format!("xtfs job release {id}")))
            }
            JobState::Depend => {
                let begin = job.facts.spec.begin_unix_ms.unwrap_or_default();
                reason("BEGIN_TIME", format!("waits until {}", rfc3339(begin)), None)
            }
            JobState::Sched => {
                let (want, free) = (job.facts.spec.resources.cpus, self.cores.saturating_sub(self.used));
                let before = self.queue.before(&job.facts.user, id);
                let text = format!(
                    "needs {want} of {} cpus on {}, {free} free; {before} of your jobs before it, {} waiting in all",
                    self.cores,
                    self.node,
                    self.queue.len()
                );
                reason("RESOURCES", text, None)
            }
            JobState::Alloc if job.launch_tries > 0 => {
                let text = format!(
                    "its supervisor could not be started on {} ({} tries)",
                    self.node, job.launch_tries
                );
                reason("LAUNCH", text, Some("see the log of exec".into()))
            }
            JobState::Alloc if !job.started => {
                reason("STARTING", format!("being started on {}", self.node), None)
            }
            JobState::Alloc | JobState::Run if job.cancel.is_some() => {
                reason("ENDING", "was asked to end".into(), None)
            }
            JobState::Alloc | JobState::Run => reason("RUNNING", format!("runs on {}", self.node), None),
            JobState::Susp => {
                reason("SUSPENDED", "its processes are stopped".into(), Some(format!("xtfs job resume {id}")))
            }
            JobState::Cleanup(_) | JobState::Over(_) => {
                let text = job.outcome.as_ref().map(|(_, text)| text.clone()).unwrap_or_default();
                reason("ENDED", text, None)
            }
        }
    }
}

impl StatusView {
    /// `status.json`: times in RFC 3339.
    pub fn to_json(&self) -> Value {
        json!({
            "schema": 1,
            "id": self.id,
            "name": self.name,
            "user": self.user,
            "file": self.file,
            "state": self.state,
            "reason": {
                "code": self.reason.code,
                "text": self.reason.text,
                "since": rfc3339(self.reason.since_ms),
                "hint": self.reason.hint,
            },
            "cpus": self.cpus,
            "attempt": self.attempt,
            "node": self.node,
            "pid": self.pid,
            "submitted": rfc3339(self.submitted_ms),
            "started": self.started_ms.map(rfc3339),
            "ended": self.ended_ms.map(rfc3339),
            "exit_code": self.exit.as_ref().and_then(|e| e.exit_code),
            "signal": self.exit.as_ref().and_then(|e| e.signal),
            "seq": self.seq,
            "epoch": self.epoch,
        })
    }

    /// `.result.json`: the same, with what the job used and where its output is.
    pub fn result_json(&self, spec: &JobSpec) -> Value {
        let mut out = self.to_json();
        let seconds = |ms: u64| ms as f64 / 1e3;
        let exit = self.exit.as_ref();
        let wall =
            exit.filter(|e| e.started_ms > 0).map(|e| seconds(e.ended_ms.saturating_sub(e.started_ms)));
        let job_dir = format!("jobs/{}", self.id);
        let path = |named: &Option<String>, default: &str| {
            named.clone().unwrap_or_else(|| format!("{job_dir}/{default}"))
        };
        out["job_dir"] = json!(job_dir);
        out["stdout"] = json!(path(&spec.stdout, "stdout.txt"));
        out["stderr"] =
            json!(path(spec.stderr.as_ref().map_or(&spec.stdout, |_| &spec.stderr), "stderr.txt"));
        out["used"] = json!({
            "wall_seconds": wall,
            "user_seconds": exit.map(|e| seconds(e.user_ms)),
            "system_seconds": exit.map(|e| seconds(e.system_ms)),
            "max_rss_bytes": exit.map(|e| e.max_rss),
        });
        out["warnings"] = json!(spec.warnings);
        out
    }

    /// The same in a few lines.
    pub fn lines(&self) -> String {
        let mut out =
            format!("{} {} ({} of {})\n{}\n", self.id, self.state, self.name, self.user, self.reason.text);
        let time = |label: &str, ms: Option<u64>| {
            ms.map(|ms| format!("{label} {}\n", rfc3339(ms))).unwrap_or_default()
        };
        out.push_str(&time("submitted", Some(self.submitted_ms)));
        out.push_str(&time("started  ", self.started_ms));
        out.push_str(&time("ended    ", self.ended_ms));
        out
    }
}
