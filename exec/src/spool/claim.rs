//! From `new/NAME` to a job: checks, the claim's rename, the job's directory; or to `rejected/`.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::users::Account;
use super::{Hands, OWN, job_path, user_path};
use crate::engine::Facts;
use crate::id::{GENERATIONS_MAX, JobId};
use crate::spec::{self, DESCRIPTOR_BYTES_MAX, JobSpec, Program, SpecError};
use crate::store::{Kind, Put, RenameMode, Stat, StoreError};

/// A faulty file that may still be being written is left alone for so long, nanoseconds.
const UNFINISHED_NS: u64 = 30_000_000_000;

/// What became of a name in `new/`.
#[derive(Debug)]
pub(crate) enum Claim {
    /// A job.
    Job(Box<Facts>),
    /// It is in `rejected/`.
    Rejected,
    /// Not now: still being written, or gone, or taken by another manager.
    Later,
}

/// A descriptor that was read.
struct Source {
    bytes: Vec<u8>,
    /// Of the descriptor in `new/` (of the directory, for a bundle).
    stat: Stat,
    spec: Result<JobSpec, Vec<SpecError>>,
}

impl Hands {
    /// Claims one name.
    pub(crate) async fn claim(&self, account: &Account, name: &str) -> Result<Claim, StoreError> {
        let path = user_path(&account.name, &format!("new/{name}"));
        let source = match self.read_source(account, &path, name).await {
            Ok(source) => source,
            Err(error) if error.is_missing() => return Ok(Claim::Later),
            Err(error) => return Err(error),
        };
        let spec = match source.spec {
            Ok(spec) => spec,
            Err(errors) => {
                let age = u64::try_from(self.clock.unix().as_nanos()).unwrap_or(u64::MAX);
                let young = age.saturating_sub(source.stat.mtime_ns) < UNFINISHED_NS;
                if young && spec::looks_cut_off(&source.bytes, &errors) {
                    return Ok(Claim::Later);
                }
                return self.reject(account, &path, name, &errors).await;
            }
        };
        let Some(id) = self.choose_id(account, &source.stat).await? else {
            let fix = "copy it to a new file";
            let text = format!("this file was submitted {GENERATIONS_MAX} times");
            return self.reject(account, &path, name, &[SpecError::whole("E0305", text, fix)]).await;
        };
        if let Some(key) = &spec.idempotency_key
            && let Some(first) = self.key_holder(account, key, &id).await?
        {
            let text =
                format!("idempotency_key was used before: this job is {first}; nothing was started again");
            let fix = format!("see xtfs job show {first}, or choose another key");
            return self.reject(account, &path, name, &[SpecError::whole("E0310", text, &fix)]).await;
        }
        crate::failpoint::reach("claim.before_rename");
        let run = user_path(&account.name, &format!("run/{name}~{id}"));
        match self.store.rename(&path, &run, RenameMode::NoReplaceIfNoWriter).await {
            Ok(()) => {}
            Err(error) if error.is_busy() || error.is_missing() || error.is_taken() => {
                return Ok(Claim::Later);
            }
            Err(error) => return Err(error),
        }
        crate::failpoint::reach("claim.after_rename");
        // What was checked must be what was claimed.
        let after = self.store.stat(&run).await;
        let same = after.is_ok_and(|s| {
            s.file_id == source.stat.file_id
                && s.mtime_ns == source.stat.mtime_ns
                && s.size == source.stat.size
        });
        if same {
            let facts = self.establish(account, name, &id, &source.bytes, spec).await?;
            return Ok(Claim::Job(Box::new(facts)));
        }
        self.establish_claimed(account, name, &id).await
    }

    /// Reads a claimed descriptor again and makes its job directory: after a change at the last moment, and in
    /// recovery.
    pub(crate) async fn establish_claimed(
        &self,
        account: &Account,
        name: &str,
        id: &JobId,
    ) -> Result<Claim, StoreError> {
        let run = user_path(&account.name, &format!("run/{name}~{id}"));
        let source = match self.read_source(account, &run, name).await {
            Ok(source) => source,
            Err(error) if error.is_missing() => return Ok(Claim::Later),
            Err(error) => return Err(error),
        };
        match source.spec {
            Ok(spec) => {
                let facts = self.establish(account, name, id, &source.bytes, spec).await?;
                Ok(Claim::Job(Box::new(facts)))
            }
            Err(errors) => self.reject(account, &run, name, &errors).await,
        }
    }

    async fn read_source(&self, account: &Account, path: &str, name: &str) -> Result<Source, StoreError> {
        let stat = self.store.stat(path).await?;
        let refused =
            |errors: Vec<SpecError>, stat| Source { bytes: b"\n".to_vec(), stat, spec: Err(errors) };
        let mut file = path.to_string();
        let mut inner = stat.clone();
        if stat.kind == Kind::Directory {
            match self.bundle_file(path).await? {
                Ok(found) => file = found,
                Err(error) => return Ok(refused(vec![error], stat)),
            }
            inner = self.store.stat(&file).await?;
        }
        if let Some(error) = refuse_kind(account, &stat, &inner) {
            return Ok(refused(vec![error], stat));
        }
        let bytes = match self.store.read(&file, DESCRIPTOR_BYTES_MAX).await {
            Ok(bytes) => bytes,
            Err(error) if error.errno == libc::EFBIG => {
                let text =
                    format!("the descriptor has {} bytes; the limit is {DESCRIPTOR_BYTES_MAX}", inner.size);
                let fix = "put large scripts into a file on the volume and name it with `exec`";
                return Ok(refused(vec![SpecError::whole("E0301", text, fix)], stat));
            }
            Err(error) => return Err(error),
        };
        let spec = spec::parse(&bytes, name).and_then(|spec| self.satisfiable(spec));
        Ok(Source { bytes, stat, spec })
    }

    /// The descriptor in a bundle.
    async fn bundle_file(&self, dir: &str) -> Result<Result<String, SpecError>, StoreError> {
        let names = ["job.toml", "job.json", "job.sh"];
        let found: Vec<String> = (self.store.list(dir, 10_000).await?.into_iter())
            .filter(|e| names.contains(&e.name.as_str()))
            .map(|e| format!("{dir}/{}", e.name))
            .collect();
        Ok(match found.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(SpecError::whole(
                "E0204",
                "the bundle holds no job.toml, job.json or job.sh".into(),
                "put the description into the directory under one of these names",
            )),
            _ => Err(SpecError::whole(
                "E0205",
                "the bundle holds more than one of job.toml, job.json, job.sh".into(),
                "keep one",
            )),
        })
    }

    fn satisfiable(&self, spec: JobSpec) -> Result<JobSpec, Vec<SpecError>> {
        let (want, have) = (spec.resources.cpus, self.set.cores);
        if want > have {
            let text = format!("needs {want} cpus; the largest node, {}, has {have}", self.set.node);
            return Err(vec![SpecError::whole("E0304", text, "ask for fewer under [resources]")]);
        }
        Ok(spec)
    }

    /// The id of the job that this file becomes now: the first generation without a directory.
    async fn choose_id(&self, account: &Account, stat: &Stat) -> Result<Option<JobId>, StoreError> {
        for generation in 0..GENERATIONS_MAX {
            let id = JobId::derive(self.store.volume(), stat.file_id, generation);
            match self.store.stat(&job_path(&account.name, &id, "")).await {
                Err(error) if error.is_missing() => return Ok(Some(id)),
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        Ok(None)
    }

    /// The other job that holds this key; takes the key if none does.
    async fn key_holder(
        &self,
        account: &Account,
        key: &str,
        id: &JobId,
    ) -> Result<Option<String>, StoreError> {
        let dir = user_path(&account.name, "jobs/.keys");
        self.store.mkdir(&dir, 0o755, None).await?;
        let path = format!("{dir}/{}", &sha256_hex(key.as_bytes())[..32]);
        if self.store.create_once(&path, id.as_str().as_bytes(), Put::DURABLE).await? {
            return Ok(None);
        }
        let holder = String::from_utf8_lossy(&self.store.read(&path, 256).await?).into_owned();
        Ok((holder != id.as_str()).then_some(holder))
    }

    /// Makes the job's directory. Every step may be done again.
    async fn establish(
        &self,
        account: &Account,
        name: &str,
        id: &JobId,
        bytes: &[u8],
        spec: JobSpec,
    ) -> Result<Facts, StoreError> {
        let user = account.name.as_str();
        let active = serde_json::json!({ "user": user, "file": name }).to_string();
        self.store.write(&format!("{OWN}/active/{id}"), active.as_bytes(), Put::DERIVED).await?;
        crate::failpoint::reach("claim.after_active");
        for (dir, owner) in
            [("", None), ("control", Some(account.owner())), ("units", None), ("units/0", None)]
        {
            let mode = if dir == "control" { 0o700 } else { 0o755 };
            self.store.mkdir(&job_path(user, id, dir), mode, owner).await?;
        }
        crate::failpoint::reach("claim.after_mkdir");
        let facts = Facts {
            id: id.clone(),
            user: user.to_string(),
            file: name.to_string(),
            sha256: sha256_hex(bytes),
            submitted_ms: self.now_ms(),
            spec,
        };
        let submit = serde_json::json!({
            "schema": 1,
            "user": user,
            "uid": account.uid,
            "file": name,
            "sha256": facts.sha256,
            "submitted_ms": facts.submitted_ms,
            "epoch": self.lease.epoch(),
        });
        let parts: [(&str, Vec<u8>); 3] = [
            ("spec.src", bytes.to_vec()),
            ("spec.json", serde_json::to_vec(&facts.spec).expect("specs are plain data")),
            ("submit.json", submit.to_string().into_bytes()),
        ];
        for (part, bytes) in parts {
            self.store.write(&job_path(user, id, part), &bytes, Put::DERIVED).await?;
        }
        if let Program::Script(text) = &facts.spec.program {
            self.store.write(&job_path(user, id, "script"), text.as_bytes(), Put::DERIVED).await?;
        }
        crate::failpoint::reach("claim.after_files");
        Ok(facts)
    }

    /// Moves a faulty descriptor to `rejected/`, with the reasons beside it.
    async fn reject(
        &self,
        account: &Account,
        path: &str,
        name: &str,
        errors: &[SpecError],
    ) -> Result<Claim, StoreError> {
        let put = Put { mode: 0o644, owner: Some(account.owner()), sync: false };
        let file = match self.store.stat(path).await {
            Ok(stat) => stat.file_id,
            Err(error) if error.is_missing() => return Ok(Claim::Later),
            Err(error) => return Err(error),
        };
        let at = crate::text::rfc3339(self.now_ms());
        let json = serde_json::json!({ "schema": 1, "at": at, "file_id": file, "errors": errors });
        let json = format!("{json:#}\n");
        for n in (1..=64).chain([self.now_ms()]) {
            let target = user_path(&account.name, &format!("rejected/{name}~{n}"));
            // The record reserves the number. A crash leaves one without its descriptor, which takes it up again: each is
            // rejected once.
            let reserved = format!("{target}.error.json");
            if !self.store.create_once(&reserved, json.as_bytes(), put).await? {
                if !self.awaits_descriptor(&reserved, &target, file).await? {
                    continue;
                }
                self.store.replace(&reserved, json.as_bytes(), put).await?;
            }
            let resubmit = format!("mv rejected/{name}~{n} new/{name}");
            let text = spec::render_errors(name, errors, &resubmit);
            self.store.replace(&format!("{target}.error"), text.as_bytes(), put).await?;
            crate::failpoint::reach("reject.before_rename");
            return match self.store.rename(path, &target, RenameMode::NoReplaceIfNoWriter).await {
                Ok(()) => Ok(Claim::Rejected),
                Err(error) => {
                    let _ = self.store.remove(&format!("{target}.error")).await;
                    let _ = self.store.remove(&reserved).await;
                    if error.is_busy() || error.is_missing() { Ok(Claim::Later) } else { Err(error) }
                }
            };
        }
        Ok(Claim::Later)
    }
}

/// Most bytes of a record of a rejection that are looked at.
const RECORD_MAX: usize = 1 << 20;

impl Hands {
    /// Whether a record was made for the descriptor `file`, which is not beside it.
    async fn awaits_descriptor(&self, record: &str, target: &str, file: u64) -> Result<bool, StoreError> {
        match self.store.stat(target).await {
            Ok(_) => return Ok(false),
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(error),
        }
        let bytes = match self.store.read(record, RECORD_MAX).await {
            Ok(bytes) => bytes,
            Err(error) if error.is_missing() => return Ok(false),
            Err(error) => return Err(error),
        };
        // One that a crash left empty tells nothing: another number is taken.
        let record = serde_json::from_slice::<serde_json::Value>(&bytes).unwrap_or_default();
        Ok(record.get("file_id").and_then(serde_json::Value::as_u64) == Some(file))
    }
}

/// Errors of the thing itself: only the owner's own regular files are read.
fn refuse_kind(account: &Account, outer: &Stat, file: &Stat) -> Option<SpecError> {
    let whole = |code, text: String, fix: &str| Some(SpecError::whole(code, text, fix));
    match file.kind {
        Kind::File => {}
        Kind::Symlink => {
            return whole("E0202", "a symbolic link; links are not followed".into(), "copy the file itself");
        }
        Kind::Directory | Kind::Other => {
            return whole("E0201", "not a regular file".into(), "write the description to a regular file");
        }
    }
    if outer.kind == Kind::File && file.links > 1 {
        let text = format!("the file has {} names (hard links)", file.links);
        return whole("E0203", text, "copy it: cp --no-preserve=links");
    }
    // root may put a file into anybody's spool; it runs as the spool's owner.
    for stat in [outer, file] {
        if stat.uid != account.uid && stat.uid != 0 {
            let text = format!("the file belongs to uid {}, the spool to {}", stat.uid, account.name);
            return whole("E0302", text, "every user submits to the own spool");
        }
    }
    None
}

fn sha256_hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in Sha256::digest(bytes) {
        let _ = write!(out, "{byte:02x}");
    }
    out
}
