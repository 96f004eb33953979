//! `xtfs replica`: where the replicas of a file are, and moving them.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use client::engine::replicas::choose;
use client::volume::replicas::ReplicaStates;
use proto::dir::{OsdEntry, OsdMap};
use proto::stripe::{Column, Layout};
use serde_json::{Value, json};

use super::service::state_name;
use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::place::{Opened, creds, place, run_with_tasks};

/// Replicas of a file: list, add, remove, move
#[derive(Debug, Args)]
pub(crate) struct Replica {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show the OSDs of each column and whether they are in sync
    Ls {
        /// A path on a mounted volume, or xtfs://HOST/VOLUME/PATH.
        path: String,
    },
    /// Give each column one replica more
    Add(Change),
    /// Take an OSD out of the lists
    Rm(Change),
    /// Replace an OSD by another one
    Move(Change),
}

#[derive(Debug, Args)]
struct Change {
    /// A path on a mounted volume, or xtfs://HOST/VOLUME/PATH.
    path: String,
    /// The OSD (number or UUID) to add, take out or replace; `add` chooses one without it.
    #[arg(long, value_name = "OSD")]
    osd: Option<String>,
    /// Where `move` moves it; chosen without it.
    #[arg(long, value_name = "OSD")]
    to: Option<String>,
    /// Say what would be changed, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not wait until the new replicas have everything.
    #[arg(long)]
    no_wait: bool,
}

impl Replica {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        match self.what {
            What::Ls { path } => run_with_tasks(async {
                let what = format!("replicas of {path}");
                let place = place(&path)?;
                let cluster = super::cluster(global, &place.dirs)?;
                let map = cluster.map().await?;
                let opened = place.open(global, &what).await?;
                let states = async {
                    let data = opened.volume.data_of(&creds(), opened.ino).await?;
                    opened.volume.replica_states(&creds(), data).await
                };
                let states = states.await;
                opened.close().await;
                show(&states.map_err(|error| Failure::wire(&what, &error))?, &map, global.json);
                Ok(0)
            }),
            What::Add(change) => change.run(global, Kind::Add),
            What::Rm(change) => change.run(global, Kind::Rm),
            What::Move(change) => change.run(global, Kind::Move),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Add,
    Rm,
    Move,
}

impl Change {
    fn run(self, global: &Global, kind: Kind) -> Outcome {
        run_with_tasks(async {
            let what = format!("changing the replicas of {}", self.path);
            let place = place(&self.path)?;
            let map = super::cluster(global, &place.dirs)?.map().await?;
            let opened = place.open(global, &what).await?;
            let done = self.change(global, kind, &map, &opened, &what).await;
            opened.close().await;
            done
        })
    }

    async fn change(
        &self,
        global: &Global,
        kind: Kind,
        map: &OsdMap,
        opened: &Opened,
        what: &str,
    ) -> Outcome {
        let wire = |error: client::Error| Failure::wire(what, &error);
        let volume = &opened.volume;
        let ino = volume.data_of(&creds(), opened.ino).await.map_err(wire)?;
        let layout = volume.layout(&creds(), ino).await.map_err(wire)?.layout;
        let columns = self.columns(kind, map, &layout, what)?;
        let lists = |columns: &[Column]| columns.iter().map(|column| column.osds.clone()).collect::<Vec<_>>();
        if kind == Kind::Rm && !volume.replica_states(&creds(), ino).await.map_err(wire)?.is_complete() {
            return Err(Failure::new(what, "the others do not have everything yet, and would be one fewer")
                .next("`xtfs replica ls` shows how far they are; then try again"));
        }
        if !self.dry_run {
            volume
                .set_replicas(&creds(), ino, layout.view, columns.clone(), layout.learners.clone())
                .await
                .map_err(wire)?;
            if !self.no_wait {
                volume.finish_replicas(&creds(), ino, global.timeout).await.map_err(wire)?;
            }
        }
        let (was, now) = (lists(&layout.columns), lists(&columns));
        if global.json {
            output::json(&json!({"ino": ino, "was": was, "columns": now, "dry_run": self.dry_run}));
        } else {
            let verb = if self.dry_run { "would become" } else { "is now" };
            for (index, (was, now)) in was.iter().zip(&now).enumerate() {
                output::line(&format!("column {index}: {was:?} {verb} {now:?}"));
            }
        }
        Ok(0)
    }

    /// The new lists.
    fn columns(&self, kind: Kind, map: &OsdMap, layout: &Layout, what: &str) -> Result<Vec<Column>, Failure> {
        let named = |osd: &Option<String>| osd.as_deref().map(|osd| super::osd::find(map, osd)).transpose();
        let (osd, to) = (named(&self.osd)?.map(|osd| osd.osd), named(&self.to)?.map(|osd| osd.osd));
        let none = || Failure::new(what, "no OSD that is up and has room is left").next("`xtfs osd ls`");
        let mut columns = layout.columns.clone();
        for column in &mut columns {
            let list = &mut column.osds;
            if kind != Kind::Add {
                let gone = osd.ok_or_else(|| {
                    Failure::usage(what, "which replica? --osd was not given")
                        .next("`xtfs replica ls` shows them")
                })?;
                let Some(at) = list.iter().position(|osd| *osd == gone) else { continue };
                list.remove(at);
            }
            let new = match kind {
                Kind::Add => osd.or_else(|| choose(map, list, &BTreeSet::new())).ok_or_else(none)?,
                Kind::Move => {
                    let never = osd.into_iter().collect();
                    to.or_else(|| choose(map, list, &never)).ok_or_else(none)?
                }
                Kind::Rm => continue,
            };
            if !list.contains(&new) {
                list.push(new);
            }
        }
        if columns == layout.columns {
            return Err(
                Failure::new(what, "the lists are like that already").next("`xtfs replica ls` shows them")
            );
        }
        Ok(columns)
    }
}

fn show(states: &ReplicaStates, map: &OsdMap, json: bool) {
    let entry = |osd: u64| map.osds.iter().find(|entry| entry.osd == osd);
    let mut values = Vec::new();
    for (index, (column, status)) in states.layout.columns.iter().zip(&states.columns).enumerate() {
        for osd in &column.osds {
            let member = status
                .as_ref()
                .ok()
                .and_then(|status| status.members.iter().find(|member| member.osd == *osd).copied());
            let known = entry(*osd);
            values.push(json!({
                "column": index,
                "osd": osd,
                "uuid": known.map(|entry| entry.uuid.clone()),
                "addr": known.map(|entry| entry.addr.clone()),
                "state": known.map_or("unknown", |entry| state_name(OsdEntry::state(entry))),
                "votes": !states.layout.learners.contains(osd),
                "in_sync": member.map(|member| member.in_sync),
                "behind": member.map(|member| member.behind),
                "error": status.as_ref().err().map(|error| error.text.clone()),
            }));
        }
    }
    let changing = !states.layout.previous.is_empty();
    if json {
        return output::json(&json!({
            "view": states.layout.view, "changing": changing, "replicas": values,
            "previous": states.layout.previous.iter().map(|column| column.osds.clone()).collect::<Vec<_>>(),
        }));
    }
    let text = |value: &Value, key: &str| match &value[key] {
        Value::Null => String::new(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut keys = vec!["column", "osd", "state", "in_sync", "behind", "addr", "error"];
    let mut titles = vec!["COLUMN", "OSD", "STATE", "IN SYNC", "BEHIND", "ADDR", ""];
    if states.layout.is_all() {
        keys.insert(3, "votes");
        titles.insert(3, "COUNTS");
    }
    let rows: Vec<Vec<String>> =
        values.iter().map(|value| keys.iter().map(|key| text(value, key)).collect()).collect();
    output::table(&titles, &rows, "the file has no replicas");
    if changing {
        output::line(&format!("view {}: the lists are being changed", states.layout.view));
    }
}
