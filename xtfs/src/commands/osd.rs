//! `xtfs osd`: the storage services.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use proto::dir::{OsdEntry, OsdMap, OsdSetState, OsdSetWeight, OsdState, SetOsdState, SetOsdWeight};
use proto::limits::OSD_WEIGHT_MAX;
use serde_json::{Value, json};

use super::service::{osd_json, state_name};
use crate::args::Global;
use crate::cluster::{Cluster, once};
use crate::failure::{Failure, Outcome};
use crate::output;

/// Storage services: list, drain, weigh, remove; with --config run one
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Osd {
    /// Run a storage service with this configuration.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List OSDs with their state and space
    Ls,
    /// Place no new files on an OSD
    Drain(Change),
    /// Undo a drain
    Undrain(Change),
    /// Take an OSD out for good; what only it holds is lost with it
    Remove(Change),
    /// Set an OSD's share of new files: 200 gets twice as many as 100, 0 none; what it has stays
    Weight(Weight),
}

#[derive(Debug, Args)]
struct Weight {
    /// Its number or UUID, as `xtfs osd ls` shows it.
    osd: String,
    /// From 0 to 1000; 100 is ordinary.
    #[arg(value_parser = clap::value_parser!(u32).range(0..=i64::from(OSD_WEIGHT_MAX)))]
    weight: u32,
    /// Say what would be changed, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct Change {
    /// Its number or UUID, as `xtfs osd ls` shows it.
    osd: String,
    /// Say what would be changed, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long, short = 'y')]
    yes: bool,
}

impl Osd {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let what = match (self.config, self.what) {
            (Some(file), None) => return crate::roles::daemon::osd(&file, global),
            (None, Some(what)) => what,
            _ => {
                return Err(Failure::usage("xtfs osd", "neither a command nor --config FILE was given")
                    .next("`xtfs osd ls`, or `xtfs osd --config FILE` to run the service"));
            }
        };
        let cluster = super::cluster(global, &[])?;
        super::run_async(async {
            let map = cluster.map().await?;
            match what {
                What::Ls => list(&map, global.json),
                What::Drain(change) => set(&cluster, &map, &change, OsdState::Draining, global.json).await?,
                What::Undrain(change) => set(&cluster, &map, &change, OsdState::Up, global.json).await?,
                What::Remove(change) => set(&cluster, &map, &change, OsdState::Out, global.json).await?,
                What::Weight(weight) => weigh(&cluster, &map, &weight, global.json).await?,
            }
            Ok(0)
        })
    }
}

fn list(map: &OsdMap, json: bool) {
    if json {
        return output::json(&Value::Array(map.osds.iter().map(osd_json).collect()));
    }
    let rows: Vec<Vec<String>> = map
        .osds
        .iter()
        .map(|osd| {
            vec![
                osd.osd.to_string(),
                state_name(osd.state()).to_owned(),
                output::bytes(osd.free_bytes),
                output::bytes(osd.total_bytes),
                osd.weight().to_string(),
                osd.domain.clone(),
                osd.addr.clone(),
                osd.uuid.clone(),
            ]
        })
        .collect();
    let header = ["OSD", "STATE", "FREE", "SIZE", "WEIGHT", "DOMAIN", "ADDR", "UUID"];
    output::table(&header, &rows, "no OSDs registered");
}

pub(super) fn find<'a>(map: &'a OsdMap, wanted: &str) -> Result<&'a OsdEntry, Failure> {
    let number = wanted.strip_prefix("osd#").unwrap_or(wanted).parse::<u64>().ok();
    map.osds.iter().find(|osd| Some(osd.osd) == number || osd.uuid == wanted).ok_or_else(|| {
        Failure::new(format!("OSD {wanted:?}"), "no OSD of that number or UUID is registered")
            .next("`xtfs osd ls` lists them")
    })
}

async fn weigh(cluster: &Cluster, map: &OsdMap, change: &Weight, json: bool) -> Result<(), Failure> {
    let osd = find(map, &change.osd)?;
    let what = format!("setting the weight of osd#{} ({}) to {}", osd.osd, osd.uuid, change.weight);
    if !change.dry_run {
        let request = SetOsdWeight { origin: once(), osd: osd.osd, weight: change.weight };
        cluster.dir::<OsdSetWeight>(&what, &request).await?;
    }
    if json {
        output::json(&json!({
            "osd": osd.osd, "uuid": osd.uuid, "was": osd.weight(), "weight": change.weight, "dry_run": change.dry_run,
        }));
        return Ok(());
    }
    let verb = if change.dry_run { "would weigh" } else { "weighs" };
    output::line(&format!("osd#{} {verb} {}, it weighed {}", osd.osd, change.weight, osd.weight()));
    let heavy =
        |other: &&OsdEntry| other.osd != osd.osd && other.state() == OsdState::Up && other.weight() > 0;
    if change.weight == 0 && !map.osds.iter().any(|other| heavy(&other)) {
        output::line("  nobody else is up and weighs anything: no file can be made");
    }
    Ok(())
}

async fn set(
    cluster: &Cluster,
    map: &OsdMap,
    change: &Change,
    state: OsdState,
    json: bool,
) -> Result<(), Failure> {
    let osd = find(map, &change.osd)?;
    let what = format!("setting osd#{} ({}) to {}", osd.osd, osd.uuid, state_name(state));
    if !change.dry_run {
        if state == OsdState::Out {
            let question =
                format!("remove osd#{} ({}) for good, with what only it holds?", osd.osd, osd.uuid);
            output::confirm(&question, change.yes)?;
        }
        let request = SetOsdState { origin: once(), osd: osd.osd, state: state as i32 };
        cluster.dir::<OsdSetState>(&what, &request).await?;
    }
    if json {
        output::json(&json!({
            "osd": osd.osd, "uuid": osd.uuid, "was": state_name(osd.state()), "state": state_name(state),
            "dry_run": change.dry_run,
        }));
    } else {
        let verb = if change.dry_run { "would become" } else { "is now" };
        output::line(&format!("osd#{} {verb} {}", osd.osd, state_name(state)));
    }
    Ok(())
}
