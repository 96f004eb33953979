//! `xtfs profile PATH`: what programs ask of a mount, and how long that takes, from its access log.

mod log;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::json;

use self::log::{Key, Profile};
use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::{mounts, output};

/// Time between two looks: the log holds the last 512 calls.
const LOOK: Duration = Duration::from_millis(20);
/// Rows of the table.
const ROWS: usize = 20;

/// Show which file system calls a mount answers, and how long they take
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  xtfs profile /mnt/vol                       5 seconds of what happens now, by kind of call
  xtfs profile /mnt/vol --by uid --seconds 30
  cp /mnt/vol/.xtfs/accesslog a.log; xtfs profile a.log
  xtfs profile /mnt/vol --json | jq '.rows[0]'

The mount keeps the last 512 calls; of a busier one some are missed, and it is said how many were seen. Calls that the kernel \
answers from its caches do not reach the mount.")]
pub(crate) struct ProfileCommand {
    /// A path on a mounted volume, or a saved access log.
    path: PathBuf,
    /// How long to look.
    #[arg(long, short = 's', value_name = "SECONDS", default_value = "5")]
    seconds: f64,
    /// What to add up.
    #[arg(long, value_enum, default_value = "op")]
    by: By,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum By {
    /// Kinds of calls.
    Op,
    /// Users.
    Uid,
    /// Inodes.
    Ino,
}

impl ProfileCommand {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let key = match self.by {
            By::Op => Key::Op,
            By::Uid => Key::Uid,
            By::Ino => Key::Ino,
        };
        let what = || format!("profiling {}", self.path.display());
        let path = self.path.canonicalize().map_err(|error| Failure::new(what(), error))?;
        let mut profile = Profile::new(key);
        let mount = mounts::holding(&path).filter(mounts::is_ours);
        let is_log = path.is_file() && !mount.as_ref().is_some_and(|mount| is_live(&path, &mount.at));
        let (took, calls) = match mount {
            _ if is_log => {
                profile.add(&read(&path)?);
                (profile.span(), None)
            }
            Some(mount) => self.watch(&mount.at, &mut profile)?,
            None => {
                return Err(Failure::new(what(), "it is on no mounted volume, and no access log")
                    .next("xtfs profile MOUNTPOINT; see what is mounted with `xtfs df`"));
            }
        };
        if profile.is_empty() && profile.unreadable() > 0 {
            return Err(Failure::new(
                what(),
                format!("none of its {} lines is one of an access log", profile.unreadable()),
            )
            .next("save one with: cp MOUNTPOINT/.xtfs/accesslog FILE"));
        }
        self.tell(global, &profile, took, calls);
        Ok(0)
    }

    /// Looks again and again; gives how long, and how many calls the mount counted meanwhile.
    fn watch(&self, mount: &Path, profile: &mut Profile) -> Result<(Duration, Option<u64>), Failure> {
        let time = Duration::try_from_secs_f64(self.seconds).ok().filter(|time| *time >= LOOK);
        let time = time.ok_or_else(|| {
            Failure::usage(format!("--seconds {}", self.seconds), "it has to be 0.02 seconds or longer")
        })?;
        let (log, stats) = (mount.join(".xtfs/accesslog"), mount.join(".xtfs/stats"));
        // What was there before is not looked at.
        profile.skip(&read(&log)?);
        let before = log::calls(&read(&stats)?);
        let begin = Instant::now();
        while begin.elapsed() < time {
            std::thread::sleep(LOOK.min(time.saturating_sub(begin.elapsed())));
            profile.add(&read(&log)?);
        }
        let took = begin.elapsed();
        let own = profile.own();
        let calls = log::calls(&read(&stats)?).saturating_sub(before).saturating_sub(own);
        Ok((took, Some(calls.max(profile.calls()))))
    }

    fn tell(&self, global: &Global, profile: &Profile, took: Duration, calls: Option<u64>) {
        let rows = profile.rows();
        let seconds = took.as_secs_f64();
        if global.json {
            let rows: Vec<_> = rows
                .iter()
                .map(|row| {
                    json!({
                        "key": row.key, "calls": row.calls, "errors": row.errors, "seconds": row.micros as f64 / 1e6,
                        "mean_us": row.mean(), "p99_us": row.p99, "max_us": row.max,
                    })
                })
                .collect();
            output::json(&json!({
                "by": profile.key().name(), "seconds": seconds, "calls_seen": profile.calls(), "calls": calls,
                "rows": rows,
            }));
            return;
        }
        let total: u64 = rows.iter().map(|row| row.micros).sum::<u64>().max(1);
        let lines: Vec<Vec<String>> = rows
            .iter()
            .take(ROWS)
            .map(|row| {
                vec![
                    row.key.clone(),
                    row.calls.to_string(),
                    row.errors.to_string(),
                    format!("{:.1}", row.micros as f64 / 1e3),
                    format!("{:.1}", row.micros as f64 * 100.0 / total as f64),
                    row.mean().to_string(),
                    row.p99.to_string(),
                    row.max.to_string(),
                ]
            })
            .collect();
        let name = profile.key().name().to_uppercase();
        output::table(
            &[&name, "CALLS", "ERRORS", "TOTAL MS", "%", "MEAN US", "P99 US", "MAX US"],
            &lines,
            "nothing was asked of this mount meanwhile",
        );
        let seen = profile.calls();
        match calls {
            Some(calls) if calls > seen => {
                output::line(&format!(
                    "{seen} of about {calls} calls seen in {seconds:.1} s; the log holds the last 512"
                ));
            }
            _ => output::line(&format!("{seen} calls in {seconds:.1} s")),
        }
        if rows.len() > ROWS {
            output::line(&format!("{} more: --json shows all", rows.len() - ROWS));
        }
    }
}

/// The access log of the mount itself.
fn is_live(path: &Path, mount: &Path) -> bool {
    path.parent() == Some(&mount.join(".xtfs")) || path == mount
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::new(format!("reading {}", path.display()), error))
}
