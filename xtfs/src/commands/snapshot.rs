//! `xtfs snapshot`: what a directory was at a moment.

mod diff;
mod restore;

use clap::{Args, Subcommand};
use client::volume::snapshots::names_in;
use proto::snapshot::SnapshotInfo;
use serde_json::{Value, json};

use super::watch::time;
use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::place::{Opened, creds, place, run_with_tasks};
use diff::walk;
use restore::Restore;

/// Keep what a directory is at this moment: make, list, compare, bring back, remove
///
/// A snapshot costs the same however much it shows. On a mount it is below `.snap` of the directory: `ls DIR/.snap`,
/// `mkdir DIR/.snap/NAME`, `rmdir DIR/.snap/NAME`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: xtfs snapshot create /mnt/home before-upgrade; xtfs snapshot diff /mnt/home before-upgrade"
)]
pub(crate) struct Snapshot {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make one of a directory, under a new name
    Create(Create),
    /// List those that show a directory; of a volume's root all of the volume
    Ls(Ls),
    /// Remove one
    Rm(Rm),
    /// Tell how a directory differs from a snapshot: + added, - removed, M content, m only attributes
    Diff(Diff),
    /// Make a directory what a snapshot shows
    Restore(Restore),
}

#[derive(Debug, Args)]
struct Create {
    /// A directory of a mounted volume, or xtfs://HOST/VOLUME/PATH.
    path: String,
    /// What to call it.
    name: String,
    /// Say what would be made, and make nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct Ls {
    /// A directory of a mounted volume, or xtfs://HOST/VOLUME/PATH.
    #[arg(default_value = ".")]
    path: String,
}

#[derive(Debug, Args)]
struct Rm {
    /// The directory that it was made of; with --id anything on the volume.
    path: String,
    /// Its name.
    #[arg(required_unless_present = "id")]
    name: Option<String>,
    /// Its number instead (`xtfs snapshot ls` shows it), also when its directory is gone.
    #[arg(long, value_name = "N", conflicts_with = "name")]
    id: Option<u64>,
    /// Say what would be removed, and remove nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long, short = 'y')]
    yes: bool,
}

#[derive(Debug, Args)]
struct Diff {
    /// A directory of a mounted volume, or xtfs://HOST/VOLUME/PATH; it may lie below the snapshot's.
    path: String,
    /// The older one.
    name: String,
    /// The newer one [default: what the directory is now].
    newer: Option<String>,
}

impl Snapshot {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let json = global.json;
        let (verb, path) = match &self.what {
            What::Create(create) => ("making a snapshot of", &create.path),
            What::Ls(ls) => ("snapshots of", &ls.path),
            What::Rm(rm) => ("removing a snapshot of", &rm.path),
            What::Diff(diff) => ("comparing", &diff.path),
            What::Restore(restore) => ("restoring", &restore.path),
        };
        let what = format!("{verb} {path}");
        let place = place(path)?;
        run_with_tasks(async {
            let opened = place.open(global, &what).await?;
            let done = match &self.what {
                What::Create(create) => create.run(&opened, &what, json).await,
                What::Ls(_) => ls(&opened, &what, json).await,
                What::Rm(rm) => rm.run(&opened, &what, json).await,
                What::Diff(diff) => diff.run(&opened, &what, json).await,
                What::Restore(restore) => restore.run(&opened, &place, &what, json).await,
            };
            opened.close().await;
            done
        })
    }
}

/// The snapshots that show the directory, with the paths of theirs; of a root all of the volume.
async fn all(opened: &Opened, what: &str) -> Result<Vec<SnapshotInfo>, Failure> {
    let failed = |error: client::Error| Failure::wire(what, &error);
    let every = opened.present.snapshots(&creds(), 0).await.map_err(failed)?;
    if opened.ino == proto::id::Ino::ROOT.0 {
        return Ok(every);
    }
    let shown = opened.present.snapshots(&creds(), opened.ino).await.map_err(failed)?;
    Ok(every.into_iter().filter(|info| shown.iter().any(|other| other.id == info.id)).collect())
}

/// The snapshot that is called so there.
async fn named(opened: &Opened, what: &str, path: &str, name: &str) -> Result<SnapshotInfo, Failure> {
    let shown = opened.present.snapshots(&creds(), opened.ino).await;
    let shown = names_in(opened.ino, shown.map_err(|error| Failure::wire(what, &error))?);
    shown.into_iter().find(|(called, _)| called == name.as_bytes()).map(|(_, info)| info).ok_or_else(|| {
        Failure::new(what, format!("no snapshot {name:?} shows it"))
            .next(format!("`xtfs snapshot ls {path}` lists those that do"))
    })
}

fn directory(info: &SnapshotInfo) -> String {
    if info.detached {
        return format!("(ino-{}, gone)", info.directory);
    }
    format!("/{}", String::from_utf8_lossy(&info.path))
}

fn name(info: &SnapshotInfo) -> String {
    String::from_utf8_lossy(&info.name).into_owned()
}

fn to_json(info: &SnapshotInfo) -> Value {
    json!({
        "name": name(info),
        "id": info.id,
        "directory": (!info.detached).then(|| directory(info)),
        "directory_ino": info.directory,
        "created": time(info.created),
        "created_by": info.uid,
    })
}

impl Create {
    async fn run(&self, opened: &Opened, what: &str, json: bool) -> Outcome {
        let failed = |error: client::Error| Failure::wire(what, &error);
        if self.dry_run {
            let shown = opened.present.snapshots(&creds(), opened.ino).await.map_err(failed)?;
            if shown.iter().any(|info| info.directory == opened.ino && info.name == self.name.as_bytes()) {
                return Err(Failure::new(what, format!("a snapshot {:?} of it exists", self.name))
                    .next("choose another name"));
            }
            if json {
                output::json(&json!({"name": self.name, "directory_ino": opened.ino, "dry_run": true}));
            } else {
                output::line(&format!("would make snapshot {} of {}", self.name, self.path));
            }
            return Ok(0);
        }
        let made = opened.volume.snapshot(&creds(), opened.ino, self.name.as_bytes()).await;
        let info = made.map_err(failed)?;
        if json {
            output::json(&json!({
                "name": name(&info), "id": info.id, "directory_ino": info.directory, "created": time(info.created),
                "dry_run": false,
            }));
        } else {
            output::line(&format!("made snapshot {} (id {}) of {}", self.name, info.id, self.path));
        }
        Ok(0)
    }
}

async fn ls(opened: &Opened, what: &str, json: bool) -> Outcome {
    let all = all(opened, what).await?;
    if json {
        output::json(&Value::Array(all.iter().map(to_json).collect()));
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|info| vec![name(info), directory(info), time(info.created), info.id.to_string()])
        .collect();
    output::table(
        &["NAME", "DIRECTORY", "CREATED", "ID"],
        &rows,
        "no snapshots; `xtfs snapshot create` makes one",
    );
    Ok(0)
}

impl Rm {
    async fn run(&self, opened: &Opened, what: &str, json: bool) -> Outcome {
        let failed = |error: client::Error| Failure::wire(what, &error);
        let every = opened.present.snapshots(&creds(), 0).await.map_err(failed)?;
        let wanted = self.name.clone().unwrap_or_default();
        let found = every.into_iter().find(|info| match self.id {
            Some(id) => info.id == id,
            None => info.directory == opened.ino && info.name == wanted.as_bytes(),
        });
        let Some(info) = found else {
            let which =
                self.id.map_or_else(|| format!("{wanted:?} was made of it"), |id| format!("has number {id}"));
            return Err(Failure::new(what, format!("no snapshot {which}"))
                .next(format!("`xtfs snapshot ls {}` lists them with their directories", self.path)));
        };
        let which = format!("snapshot {} (id {}) of {}", name(&info), info.id, directory(&info));
        if !self.dry_run {
            output::confirm(&format!("remove {which} for good?"), self.yes)?;
            opened.volume.remove_snapshot(&creds(), info.directory, &info.name).await.map_err(failed)?;
        }
        if json {
            let mut value = to_json(&info);
            value["dry_run"] = self.dry_run.into();
            output::json(&value);
        } else {
            output::line(&format!("{} {which}", if self.dry_run { "would remove" } else { "removed" }));
        }
        Ok(0)
    }
}

impl Diff {
    async fn run(&self, opened: &Opened, what: &str, json: bool) -> Outcome {
        let old = named(opened, what, &self.path, &self.name).await?;
        let old = opened.present.past(old.id);
        let new = match &self.newer {
            Some(name) => opened.present.past(named(opened, what, &self.path, name).await?.id),
            None => opened.present.clone(),
        };
        let walked = walk((&old, &new), &creds(), opened.ino, |found| found.print(json)).await;
        walked.map_err(|error| Failure::wire(what, &error))?;
        Ok(0)
    }
}
