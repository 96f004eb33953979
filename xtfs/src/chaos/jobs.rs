//! The load of jobs: descriptors are dropped into the spool, and each leaves a line in a file outside of the mount. In the end each
//! has one record, and was started once, or not at all where its record says that it failed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::track::Recorder;

/// Between two of them; longer by a little with each: every job leaves files for good, which have to move when an OSD makes place.
const PAUSE: Duration = Duration::from_millis(400);
const PAUSE_MORE: Duration = Duration::from_millis(10);
/// Until the last of them must have its record.
const LAST: Duration = Duration::from_secs(45);
/// Until the spool has the user's folders.
const FIRST: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct Jobs {
    /// The user's part of the spool.
    spool: PathBuf,
    /// Where they leave their lines.
    witness: PathBuf,
    /// What the names begin with: other runs may have used this spool.
    prefix: String,
}

/// What became of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    pub(super) done: usize,
    pub(super) failed: usize,
    pub(super) wrong: Vec<String>,
}

impl Jobs {
    /// Waits for the spool.
    pub(super) fn new(mount: &Path, out: &Path, prefix: String) -> io::Result<Self> {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid())?;
        let user = user.ok_or_else(|| io::Error::other("who runs this has no name"))?.name;
        let jobs = Self { spool: mount.join("spool").join(user), witness: out.join("jobs"), prefix };
        fs::create_dir_all(&jobs.witness)?;
        let began = Instant::now();
        while !jobs.spool.join("new").is_dir() {
            if began.elapsed() > FIRST {
                return Err(io::Error::other(format!(
                    "no {} after {} s",
                    jobs.spool.display(),
                    FIRST.as_secs()
                )));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(jobs)
    }

    pub(super) fn run(&self, stop: &AtomicBool, seen: &Recorder) -> Told {
        let mut dropped = Vec::new();
        for number in 0u32.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let name = format!("{}-{number}", self.prefix);
            let (beside, new) =
                (self.spool.join("tmp").join(&name), self.spool.join(format!("new/{name}.toml")));
            let text = format!(
                "exec = \"/bin/sh\"\nargs = [\"-c\", \"echo started >>{}\"]\n",
                self.witness.join(&name).display()
            );
            // Synced: exec is another client, and what waits for room at a full disk is given up when another client wants it
            // (`write-behind.md`), whatever close said.
            let written = seen.attempt("write", &name, || {
                let mut file = fs::File::create(&beside)?;
                file.write_all(text.as_bytes())?;
                file.sync_all()?;
                Ok(nix::unistd::close(file)?)
            });
            if written.is_ok() && seen.timed("drop", &name, || fs::rename(&beside, &new)).is_some() {
                dropped.push(name);
            }
            std::thread::sleep(PAUSE + PAUSE_MORE * number);
        }
        self.judge(&dropped, seen)
    }

    /// Waits until all that were dropped have ended, and looks at what they left.
    fn judge(&self, dropped: &[String], seen: &Recorder) -> Told {
        let began = Instant::now();
        loop {
            let records = seen.timed("list", "records", || self.records());
            let Some(records) = records else {
                return Told { wrong: vec!["not looked at".to_owned()], ..Told::default() };
            };
            let late = began.elapsed() > LAST;
            if late || dropped.iter().all(|name| records.contains_key(name)) {
                let started = |name: &str| {
                    fs::read_to_string(self.witness.join(name)).map_or(0, |text| text.lines().count())
                };
                return told(dropped, &records, started);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Of each name the folders with a record of it.
    fn records(&self) -> io::Result<BTreeMap<String, Vec<&'static str>>> {
        let mut records: BTreeMap<String, Vec<&'static str>> = BTreeMap::new();
        for (folder, end) in [("done", ".result.json"), ("failed", ".result.json"), ("rejected", ".error")] {
            for entry in fs::read_dir(self.spool.join(folder))? {
                let entry = entry?.file_name().to_string_lossy().into_owned();
                if let Some((name, _)) = entry.strip_suffix(end).and_then(|entry| entry.split_once(".toml~"))
                    && name.starts_with(&self.prefix)
                {
                    records.entry(name.to_owned()).or_default().push(folder);
                }
            }
        }
        Ok(records)
    }
}

/// From what was found to what became of them: pure.
fn told(
    dropped: &[String],
    records: &BTreeMap<String, Vec<&'static str>>,
    started: impl Fn(&str) -> usize,
) -> Told {
    let mut told = Told::default();
    for name in dropped {
        let starts = started(name);
        match records.get(name).map(Vec::as_slice).unwrap_or_default() {
            ["done"] if starts == 1 => told.done += 1,
            // Its process was killed before it began, or while it ran: that is told, and it is not tried again.
            ["failed"] if starts <= 1 => told.failed += 1,
            [] => told.wrong.push(format!("{name} has no record, and was started {starts} times")),
            found => {
                told.wrong.push(format!("{name} was started {starts} times; records in {}", found.join(", ")))
            }
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_job_has_one_record_and_one_start() {
        let names: Vec<String> = ["a", "b", "c", "d", "e", "f"].map(str::to_owned).to_vec();
        let found = [
            ("a", vec!["done"]),
            ("b", vec!["failed"]),
            ("c", vec!["done"]),
            ("d", vec!["done", "failed"]),
            ("f", vec!["rejected"]),
        ];
        let records = found.into_iter().map(|(name, folders)| (name.to_owned(), folders)).collect();
        let starts = |name: &str| match name {
            "b" | "f" => 0,
            "c" => 2,
            _ => 1,
        };
        let told = told(&names, &records, starts);
        assert_eq!((told.done, told.failed, told.wrong.len()), (1, 1, 4), "{told:?}");
        assert!(
            told.wrong[0].starts_with("c was started 2 times")
                && told.wrong[2].starts_with("e has no record")
        );
    }
}
