//! `xtfs clone SRC DST`: a copy that shares its content with what it was made of.

use clap::Args;
use proto::id::Ino;
use proto::mrc::kind;
use serde_json::json;

use crate::args::Global;
use crate::copy::Copy;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::place::{NewPlace, Opened, creds, place, run_with_tasks};

/// Copy a file or directory at once: both share their content until one of them is written
///
/// SRC may lie in a snapshot (DIR/.snap/NAME/...). Owner, mode, times, attributes and hard links are copied too.
#[derive(Debug, Args)]
#[command(after_help = "Example: xtfs clone /mnt/vm/disk.img /mnt/vm/disk-2.img")]
pub(crate) struct Clone {
    /// A path on a mounted volume, or xtfs://HOST/VOLUME/PATH.
    #[arg(value_name = "SRC")]
    source: String,
    /// The new path, on the same volume.
    #[arg(value_name = "DST")]
    target: String,
    /// Replace what is there: a file's content, or all of a directory.
    #[arg(long)]
    force: bool,
    /// Say what would be made, and make nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Clone {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let what = format!("cloning {} to {}", self.source, self.target);
        let place = place(&self.source)?;
        let new = NewPlace::parse(&self.target)?;
        run_with_tasks(async {
            let opened = place.open_any(global, &what).await?;
            let done = async {
                let new = new.on(&opened, &place, &what).await?;
                self.clone(&opened, &new, &what, global.json).await
            };
            let done = done.await;
            opened.close().await;
            done
        })
    }

    async fn clone(&self, opened: &Opened, new: &crate::place::New, what: &str, json: bool) -> Outcome {
        let failed = |error: client::Error| Failure::wire(what, &error);
        let source = opened.volume.getattr(&creds(), opened.ino).await.map_err(failed)?;
        let is_directory = source.mode >> 12 == kind::DIR;
        match &new.there {
            Some(_) if !self.force => new.must_be_free(what, &self.target)?,
            Some(there)
                if there.mode >> 12 != source.mode >> 12
                    || !is_directory && source.mode >> 12 != kind::FILE =>
            {
                return Err(Failure::new(what, "what is there is of another type, or no file or directory")
                    .next("remove it, or choose another name"));
            }
            _ => {}
        }
        if is_directory {
            apart(opened, new, what).await?;
        }
        if self.dry_run {
            if json {
                output::json(&json!({"source": self.source, "target": self.target, "dry_run": true}));
            } else {
                output::line(&format!("would clone {} to {}", self.source, self.target));
            }
            return Ok(0);
        }
        let total = match is_directory && opened.snapshot == 0 {
            true => {
                opened.present.usage(&creds(), opened.ino).await.ok().map(|sum| sum.files + sum.directories)
            }
            false => None,
        };
        let from = (opened.volume.clone(), opened.snapshot);
        let mut copy = Copy::new(from, opened.present.clone(), creds(), !json, total);
        match (&new.there, is_directory) {
            (Some(there), true) => copy.tree(what, source.ino, there.ino).await?,
            (None, true) => {
                let made =
                    opened.present.mkdir(&creds(), new.parent, &new.name, 0o700).await.map_err(failed)?;
                copy.tree(what, source.ino, made.ino).await?;
            }
            (Some(there), false) => {
                let from = (source.ino, opened.snapshot);
                opened.present.clone_data(&creds(), from, there.ino).await.map_err(failed)?;
                copy.totals.one(source.size);
            }
            (None, false) => {
                copy.file(&source, new.parent, &new.name).await.map_err(failed)?;
                copy.totals.one(source.size);
            }
        }
        if json {
            let mut value = copy.totals.to_json();
            value["dry_run"] = false.into();
            output::json(&value);
        } else {
            output::line(&format!("{} is a clone of {}: {}", self.target, self.source, copy.totals));
        }
        Ok(0)
    }
}

/// Refuses to make a directory within itself, or over one that it lies in.
async fn apart(opened: &Opened, new: &crate::place::New, what: &str) -> Result<(), Failure> {
    let refused = |why: &str| Err(Failure::new(what, why).next("choose a place outside"));
    let failed = |error: client::Error| Failure::wire(what, &error);
    let above = async |mut ino: u64| {
        let mut passed = vec![ino];
        while ino != Ino::ROOT.0 {
            ino = opened.present.lookup(&creds(), ino, b"..").await?.ino;
            passed.push(ino);
        }
        Ok(passed)
    };
    // What a snapshot shows does not grow.
    if opened.snapshot == 0 && above(new.parent).await.map_err(failed)?.contains(&opened.ino) {
        return refused("a directory cannot be cloned into itself");
    }
    if let Some(there) = &new.there
        && opened.snapshot == 0
        && above(opened.ino).await.map_err(failed)?.contains(&there.ino)
    {
        return refused("what is to be replaced holds the directory that is to be cloned");
    }
    Ok(())
}
