//! `xtfs snapshot restore`.

use clap::Args;
use proto::snapshot::SnapshotInfo;
use serde_json::json;

use super::diff::{Change, walk};
use super::named;
use crate::copy::Copy;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::place::{NewPlace, Opened, Place, creds};

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// A directory of a mounted volume, or xtfs://HOST/VOLUME/PATH; it may lie below the snapshot's.
    pub(super) path: String,
    /// The snapshot.
    name: String,
    /// Leave the directory as it is, and make this new one on the same volume instead.
    #[arg(long, value_name = "DIR")]
    to: Option<String>,
    /// Say what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long, short = 'y')]
    yes: bool,
}

impl Restore {
    pub(super) async fn run(&self, opened: &Opened, place: &Place, what: &str, json: bool) -> Outcome {
        let info = named(opened, what, &self.path, &self.name).await?;
        match &self.to {
            Some(to) => self.make_new(opened, place, (what, to), &info, json).await,
            None => self.in_place(opened, what, &info, json).await,
        }
    }

    async fn make_new(
        &self,
        opened: &Opened,
        place: &Place,
        (what, to): (&str, &str),
        info: &SnapshotInfo,
        json: bool,
    ) -> Outcome {
        let failed = |error: client::Error| Failure::wire(what, &error);
        let new = NewPlace::parse(to)?.on(opened, place, what).await?;
        new.must_be_free(what, to)?;
        if self.dry_run {
            if json {
                output::json(&json!({"to": to, "snapshot": info.id, "dry_run": true}));
            } else {
                output::line(&format!("would make {to} what {} shows", self.name));
            }
            return Ok(0);
        }
        let made = opened.present.mkdir(&creds(), new.parent, &new.name, 0o700).await.map_err(failed)?;
        self.copy(opened, what, info, made.ino, json).await
    }

    async fn in_place(&self, opened: &Opened, what: &str, info: &SnapshotInfo, json: bool) -> Outcome {
        let (past, creds) = (opened.present.past(info.id), creds());
        let (mut gone, mut back, mut changed) = (0u64, 0u64, 0u64);
        let mut all = Vec::new();
        // In the direction of what is about to happen: from now to then.
        let walked = walk((&opened.present, &past), &creds, opened.ino, |found| {
            *match found.change {
                Change::Added => &mut back,
                Change::Removed => &mut gone,
                Change::Modified | Change::Attributes => &mut changed,
            } += 1;
            if self.dry_run {
                all.push(found);
            }
        });
        walked.await.map_err(|error| Failure::wire(what, &error))?;
        if self.dry_run {
            all.iter().for_each(|found| found.print(json));
            return Ok(0);
        }
        if gone + changed > 0 {
            let question = format!(
                "make {} what snapshot {} shows: {gone} thing(s) go, {back} come back, {changed} change?",
                self.path, self.name
            );
            output::confirm(&question, self.yes)?;
        }
        self.copy(opened, what, info, opened.ino, json).await
    }

    async fn copy(
        &self,
        opened: &Opened,
        what: &str,
        info: &SnapshotInfo,
        target: u64,
        json: bool,
    ) -> Outcome {
        let past = opened.present.past(info.id);
        let mut copy = Copy::new((past, info.id), opened.present.clone(), creds(), !json, None);
        copy.tree(what, opened.ino, target).await?;
        if json {
            let mut value = copy.totals.to_json();
            value["snapshot"] = info.id.into();
            value["dry_run"] = false.into();
            output::json(&value);
        } else {
            let where_to = self.to.as_ref().unwrap_or(&self.path);
            output::line(&format!("{where_to} is what {} shows: {}", self.name, copy.totals));
        }
        Ok(0)
    }
}
