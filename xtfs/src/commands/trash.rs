//! `xtfs trash`: what was removed and is kept for a while.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand};
use proto::trash::Trashed;
use serde_json::{Value, json};

use super::gc::duration;
use super::watch::{time, word};
use crate::address::VolumeUrl;
use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::place::{Opened, Place, creds, place, run_with_tasks};
use crate::{mounts, output};

/// Keep what is removed for some days; list it, restore it, remove it for good
#[derive(Debug, Args)]
pub(crate) struct Trash {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Set how long a volume keeps what is removed
    Keep(Keep),
    /// List what was removed and can come back
    Ls(Ls),
    /// Give something its name back; never overwrites
    Restore(Restore),
    /// Remove what is in the trash for good
    Empty(Empty),
}

#[derive(Debug, Args)]
struct Keep {
    /// A mounted volume, or xtfs://HOST/VOLUME.
    url: String,
    /// 7d, 12h, or off: then what is in the trash goes too.
    #[arg(value_parser = kept)]
    time: Duration,
    /// Say what would be set, and set nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long, short = 'y')]
    yes: bool,
}

fn kept(text: &str) -> Result<Duration, String> {
    if text == "off" { Ok(Duration::ZERO) } else { duration(text) }
}

#[derive(Debug, Args)]
struct Ls {
    /// A path on a mounted volume, or xtfs://HOST/VOLUME/PATH: what was there or below.
    path: String,
}

#[derive(Debug, Args)]
struct Restore {
    /// The path that it had; of a directory everything that was below comes too.
    path: String,
    /// This one of several that had the path (`xtfs trash ls` shows the numbers).
    #[arg(long, value_name = "N")]
    ino: Option<u64>,
    /// Say what would come back, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct Empty {
    /// A path on a mounted volume, or xtfs://HOST/VOLUME/PATH: what was there or below.
    path: String,
    /// Only what was removed longer ago than this: 15m, 2h, 7d.
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = duration)]
    older_than: Duration,
    /// Say what would be removed, and remove nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long, short = 'y')]
    yes: bool,
}

/// A path that need not exist any more: its volume, and where in it, without a leading slash.
fn removed_place(text: &str) -> Result<(Place, String), Failure> {
    if text.contains("://") {
        let place = place(text)?;
        let path = place.path.clone();
        return Ok((Place { path: String::new(), ..place }, path));
    }
    let failed = |why: &dyn std::fmt::Display| Failure::new(format!("trash of {text}"), why);
    let path = std::path::absolute(text).map_err(|error| failed(&error))?;
    let mounted = mounts::holding(&path)
        .or_else(|| mounts::holding(&existing(&path)?))
        .filter(mounts::is_ours)
        .ok_or_else(|| {
            failed(&"it does not lie on a mounted xtfs volume").next("`findmnt -t fuse.xtfs` lists them")
        })?;
    let url = VolumeUrl::parse(&mounted.source)?;
    let inside = path.strip_prefix(&mounted.at).unwrap_or(&path).to_string_lossy().into_owned();
    Ok((Place { dirs: url.dirs, volume: url.volume, ino: None, path: String::new() }, inside))
}

/// The path with its longest existing part resolved.
fn existing(path: &Path) -> Option<std::path::PathBuf> {
    let there = path.ancestors().find_map(|above| above.canonicalize().ok().map(|found| (above, found)))?;
    Some(there.1.join(path.strip_prefix(there.0).ok()?))
}

/// Whether something was at a path or below it.
fn is_below(path: &[u8], above: &str) -> bool {
    let above = above.trim_matches('/').as_bytes();
    above.is_empty()
        || path == above
        || path.strip_prefix(above).is_some_and(|rest| rest.first() == Some(&b'/'))
}

impl Trash {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let json = global.json;
        let text = match &self.what {
            What::Keep(keep) => &keep.url,
            What::Ls(ls) => &ls.path,
            What::Restore(restore) => &restore.path,
            What::Empty(empty) => &empty.path,
        };
        let what = format!("trash of {text}");
        let (place, path) = removed_place(text)?;
        run_with_tasks(async {
            let opened = place.open(global, &what).await?;
            let done = match &self.what {
                What::Keep(keep) => keep.run(&opened, &what, json).await,
                What::Ls(_) => ls(&opened, &what, &path, json).await,
                What::Restore(restore) => restore.run(&opened, &what, &path, json).await,
                What::Empty(empty) => empty.run(&opened, &what, &path, json).await,
            };
            opened.close().await;
            done
        })
    }
}

/// What was at a path or below and can come back, and how long it is kept.
async fn found(opened: &Opened, what: &str, path: &str) -> Result<(Vec<Trashed>, Duration), Failure> {
    let all = opened.volume.trash(&creds()).await.map_err(|error| Failure::wire(what, &error))?;
    Ok((all.0.into_iter().filter(|trashed| is_below(&trashed.path, path)).collect(), all.1))
}

impl Keep {
    async fn run(&self, opened: &Opened, what: &str, json: bool) -> Outcome {
        let (there, before) = found(opened, what, "").await?;
        if self.time.is_zero() && !there.is_empty() && !self.dry_run {
            output::confirm(&format!("remove {} thing(s) in the trash for good?", there.len()), self.yes)?;
        }
        if !self.dry_run {
            let kept = opened.volume.keep_trash(&creds(), self.time).await;
            kept.map_err(|error| Failure::wire(what, &error))?;
        }
        if json {
            output::json(&json!({
                "keep_seconds": self.time.as_secs(), "was_seconds": before.as_secs(), "dry_run": self.dry_run,
            }));
        } else if self.time.is_zero() {
            output::line("what is removed from now on is gone");
        } else {
            output::line(&format!("what is removed is kept for {} s", self.time.as_secs()));
        }
        Ok(0)
    }
}

async fn ls(opened: &Opened, what: &str, path: &str, json: bool) -> Outcome {
    let (there, keep) = found(opened, what, path).await?;
    if json {
        output::json(&Value::Array(there.iter().map(|trashed| to_json(trashed, keep)).collect()));
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = there
        .iter()
        .map(|trashed| {
            vec![
                output::time_ms(trashed.removed_ms),
                word(trashed.mode >> 12).to_owned(),
                output::bytes(trashed.size),
                trashed.removed_by.to_string(),
                trashed.ino.to_string(),
                shown(trashed),
            ]
        })
        .collect();
    let empty =
        if keep.is_zero() { "nothing is kept (`xtfs trash keep URL 7d`)" } else { "the trash is empty" };
    output::table(&["REMOVED", "TYPE", "SIZE", "BY", "INO", "PATH"], &rows, empty);
    Ok(0)
}

impl Restore {
    async fn run(&self, opened: &Opened, what: &str, path: &str, json: bool) -> Outcome {
        let (all, _) = found(opened, what, "").await?;
        let chosen = chosen(&all, path, self.ino);
        if chosen.is_empty() {
            return Err(
                Failure::new(what, "nothing of that path is in the trash").next("`xtfs trash ls` lists it")
            );
        }
        for trashed in &chosen {
            if !self.dry_run {
                let back = opened.volume.restore_trash(&creds(), trashed).await;
                back.map_err(|error| Failure::wire(format!("restoring {}", shown(trashed)), &error))?;
            }
            if json {
                output::json(&json!({"path": shown(trashed), "ino": trashed.ino, "dry_run": self.dry_run}));
            } else {
                let verb = if self.dry_run { "would restore" } else { "restored" };
                output::line(&format!("{verb} {}", shown(trashed)));
            }
        }
        Ok(0)
    }
}

/// What comes back for a path: of each path the newest, directories before what was in them, and with it directories above
/// that are in the trash (the tool leaves those that exist to the MRC, which says so).
fn chosen(all: &[Trashed], path: &str, ino: Option<u64>) -> Vec<Trashed> {
    if let Some(ino) = ino {
        return all
            .iter()
            .filter(|trashed| trashed.ino == ino && is_below(&trashed.path, path))
            .cloned()
            .collect();
    }
    // The list is in the order of removal: later ones replace earlier ones.
    let below = all.iter().filter(|trashed| is_below(&trashed.path, path));
    let newest: BTreeMap<&[u8], &Trashed> = below.map(|trashed| (trashed.path.as_slice(), trashed)).collect();
    newest.into_values().cloned().collect()
}

impl Empty {
    async fn run(&self, opened: &Opened, what: &str, path: &str, json: bool) -> Outcome {
        let (mut there, _) = found(opened, what, path).await?;
        let now_ms = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
        let limit = now_ms.saturating_sub(u64::try_from(self.older_than.as_millis()).unwrap_or(u64::MAX));
        there.retain(|trashed| trashed.removed_ms <= limit);
        let bytes: u64 = there.iter().map(|trashed| trashed.size).sum();
        if !self.dry_run && !there.is_empty() {
            let question = format!("remove {} thing(s), {}, for good?", there.len(), output::bytes(bytes));
            output::confirm(&question, self.yes)?;
            for trashed in &there {
                let gone = opened.volume.remove_trash(&creds(), trashed).await;
                gone.map_err(|error| Failure::wire(format!("removing {}", shown(trashed)), &error))?;
            }
        }
        if json {
            output::json(&json!({"removed": there.len(), "bytes": bytes, "dry_run": self.dry_run}));
        } else {
            let verb = if self.dry_run { "would remove" } else { "removed" };
            output::line(&format!("{verb} {} thing(s), {}", there.len(), output::bytes(bytes)));
        }
        Ok(0)
    }
}

fn shown(trashed: &Trashed) -> String {
    format!("/{}", String::from_utf8_lossy(&trashed.path))
}

fn to_json(trashed: &Trashed, keep: Duration) -> Value {
    let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
    json!({
        "path": shown(trashed),
        "ino": trashed.ino,
        "type": word(trashed.mode >> 12),
        "removed": output::time_ms(trashed.removed_ms),
        "expires": output::time_ms(trashed.removed_ms.saturating_add(keep_ms)),
        "removed_by": trashed.removed_by,
        "mode": format!("{:04o}", trashed.mode & 0o7777),
        "uid": trashed.uid,
        "gid": trashed.gid,
        "size": trashed.size,
        "mtime": time(trashed.mtime),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trashed(path: &str, ino: u64) -> Trashed {
        Trashed { path: path.into(), ino, ..Trashed::default() }
    }

    #[test]
    fn the_newest_of_each_path_comes_back_directories_first() {
        let all = [
            trashed("d/f", 1),
            trashed("d", 2),
            trashed("d/f", 3),
            trashed("d/e/g", 4),
            trashed("d/e", 5),
            trashed("dx", 6),
        ];
        let inos =
            |path: &str, ino| chosen(&all, path, ino).iter().map(|trashed| trashed.ino).collect::<Vec<_>>();
        assert_eq!(inos("d", None), [2, 5, 4, 3]);
        assert_eq!(inos("/d/f/", None), [3]);
        assert_eq!(inos("d/f", Some(1)), [1]);
        assert_eq!(inos("dx", None), [6]);
        assert_eq!(inos("x", None), [] as [u64; 0]);
        assert_eq!(inos("", None).len(), 5);
    }
}
