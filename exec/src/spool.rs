//! The spool: a directory that is the queue. Layout and names here; the steps in the modules below.

pub(crate) mod claim;
pub(crate) mod control;
pub(crate) mod layout;
pub(crate) mod lease;
pub(crate) mod news;
pub(crate) mod order;
pub(crate) mod publish;
pub(crate) mod recover;
pub(crate) mod scan;
pub(crate) mod users;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rt::clock::Clock;

use crate::id::JobId;
use crate::store::SpoolStore;
use users::Account;

/// Directory of the spool at the volume's root.
pub const SPOOL: &str = "spool";
/// exec's own directory in it.
pub(crate) const OWN: &str = "spool/.exec";

/// Longest accepted name of a descriptor, bytes.
pub const NAME_BYTES_MAX: usize = 121;

/// What a name in `new/` is to exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameClass {
    /// A descriptor.
    Accepted,
    /// Never touched: temporary names of editors and copiers.
    Temporary,
    /// Not accepted; listed in `.ignored` after a while.
    Refused,
}

/// Judges a name: `[A-Za-z0-9][A-Za-z0-9._+-]{0,120}`, and not one of the usual temporary names.
pub fn classify(name: &str) -> NameClass {
    let temporary = name.starts_with('.')
        || name.ends_with('~')
        || [".tmp", ".part", ".swp", ".lock"].iter().any(|end| name.ends_with(end));
    if temporary {
        return NameClass::Temporary;
    }
    let sound = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'+' | b'-');
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first && name.len() <= NAME_BYTES_MAX && name.bytes().all(sound) {
        NameClass::Accepted
    } else {
        NameClass::Refused
    }
}

/// Splits `NAME~JOBID`.
pub fn split_name(name: &str) -> Option<(&str, JobId)> {
    let (file, id) = name.rsplit_once('~')?;
    Some((file, id.parse().ok()?))
}

/// `spool/USER/PART`.
pub(crate) fn user_path(user: &str, part: &str) -> String {
    format!("{SPOOL}/{user}/{part}")
}

/// `spool/USER/jobs/ID/PART`.
pub(crate) fn job_path(user: &str, id: &JobId, part: &str) -> String {
    let slash = if part.is_empty() { "" } else { "/" };
    format!("{SPOOL}/{user}/jobs/{id}{slash}{part}")
}

/// Directory of an attempt below the job's: the first is `units/0`, so that later ones never meet its files.
pub(crate) fn unit_dir(attempt: u32) -> String {
    if attempt <= 1 { "units/0".into() } else { format!("units/0~{attempt}") }
}

/// What the hands of exec need to know; fixed for the life of a manager.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) mount: PathBuf,
    pub(crate) node: String,
    pub(crate) cores: u32,
    pub(crate) supervise: Vec<String>,
    pub(crate) data_dir: PathBuf,
    pub(crate) make_user_dirs: bool,
    pub(crate) live_max: usize,
    pub(crate) lease_ttl: Duration,
}

/// Where a job's log ends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LogEnd {
    pub(crate) length: u64,
    /// The last line has no end; the next append begins with one.
    pub(crate) torn: bool,
}

/// Does what the engine asks: everything that touches files and processes.
pub(crate) struct Hands {
    pub(crate) store: Arc<dyn SpoolStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) set: Settings,
    pub(crate) lease: lease::Lease,
    /// order: leaf; never held over an await.
    pub(crate) log_ends: Mutex<BTreeMap<JobId, LogEnd>>,
    /// order: leaf.
    pub(crate) accounts: Mutex<BTreeMap<String, Option<Account>>>,
    /// Users whose `new/.waiting` stands; order: leaf.
    pub(crate) told_waiting: Mutex<std::collections::BTreeSet<String>>,
    /// The manager may act for all users.
    pub(crate) privileged: bool,
}

impl Hands {
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.unix().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_the_readme_says() {
        for name in ["a", "a.toml", "Job_1+2-3.sh", "x.job", "0"] {
            assert_eq!(classify(name), NameClass::Accepted, "{name}");
        }
        for name in [".a", "a~", "a.tmp", "a.part", ".a.toml.swp", "a.lock", ".rsync.Xy12"] {
            assert_eq!(classify(name), NameClass::Temporary, "{name}");
        }
        for name in ["", "-a", "a b", "ä.toml", "a/b", "a\n", "_a", &"a".repeat(122)] {
            assert_eq!(classify(name), NameClass::Refused, "{name}");
        }
        let id = JobId::derive(1, 2, 3);
        assert_eq!(split_name(&format!("a~b~{id}")), Some(("a~b", id)));
        assert_eq!(split_name("a~1"), None);
    }
}
