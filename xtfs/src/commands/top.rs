//! `xtfs top` and `xtfs stats`: what services and volumes do, from their `/metrics`.

mod show;

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::scrape::flow::Report;
use crate::scrape::{Look, look, targets};

/// Show what services and volumes are doing, again and again
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  xtfs top
  xtfs top --once --json | jq '.services[] | {name, calls_per_second}'
  xtfs top --interval 10 --json > load.jsonl     a line every 10 s

CALLS of dir, mrc and osd are calls over the network; within one process (`xtfs up` without --separate) none are counted. CALLS \
of a mount, and of a volume, are file system calls; mounts that `xtfs mount` made are not seen. P99 is the upper bound of the bucket that it falls in.")]
pub(crate) struct Top {
    /// Seconds between two looks.
    #[arg(long, short = 'i', value_name = "SECONDS", default_value = "2")]
    interval: f64,
    /// Show one interval and end.
    #[arg(long, conflicts_with = "count")]
    once: bool,
    /// End after so many.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Show what services and volumes have done since they started
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  xtfs stats
  xtfs stats osd#1              every kind of call of one service
  xtfs stats --json | jq .calls

For rates see `xtfs top`.")]
pub(crate) struct Stats {
    /// Only this service, as `xtfs service ls` names it, with all its kinds of calls.
    name: Option<String>,
}

/// Kinds of calls in a table that shows the busiest.
const BUSIEST: usize = 12;

impl Top {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let interval = Duration::try_from_secs_f64(self.interval).ok().filter(|time| *time >= MIN_INTERVAL);
        let interval = interval.ok_or_else(|| {
            Failure::usage(format!("--interval {}", self.interval), "it has to be 0.1 seconds or longer")
        })?;
        let cluster = super::cluster(global, &[])?;
        let left = if self.once { 1 } else { self.count.unwrap_or(u64::MAX) };
        let clears = left > 1 && std::io::stdout().is_terminal() && !global.json;
        super::run_async(async {
            let mut known = targets(&cluster).await?;
            let mut before = look(&known).await;
            for round in 0..left {
                if clears && round == 0 {
                    output::line(&format!("looking for {} s ...", interval.as_secs_f64()));
                }
                tokio::time::sleep(interval).await;
                // Without the DIR those that were there are shown on.
                match targets(&cluster).await {
                    Ok(now) => known = now,
                    Err(failure) if self.once => return Err(failure),
                    Err(failure) => eprintln!("xtfs: {failure}"),
                }
                let after = look(&known).await;
                show(&Report::of(Some(&before), &after), global.json, clears);
                before = after;
            }
            Ok(0)
        })
    }
}

/// Shorter ones would measure the asking.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

fn show(report: &Report, json: bool, clears: bool) {
    if json {
        let mut value = show::to_json(report);
        if let Some(fields) = value.as_object_mut() {
            fields.shift_insert(0, "time".to_owned(), json!(jiff::Timestamp::now().to_string()));
        }
        return output::json(&value);
    }
    let mut lines = show::text(report, BUSIEST);
    if clears {
        // From the top of the screen, and nothing of before below it.
        lines.insert(0, format!("\x1b[H\x1b[2J{}", jiff::Timestamp::now()));
    }
    output::line(&lines.join("\n"));
}

impl Stats {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let cluster = super::cluster(global, &[])?;
        super::run_async(async {
            let mut known = targets(&cluster).await?;
            if let Some(name) = &self.name {
                let names: Vec<String> = known.iter().map(|target| target.name.clone()).collect();
                known.retain(|target| target.name == *name || target.uuid == *name);
                if known.is_empty() {
                    return Err(Failure::new(
                        format!("service {name:?}"),
                        "no service of that name has metrics",
                    )
                    .next(format!("one of: {}", names.join(" "))));
                }
            }
            let after: Look = look(&known).await;
            let report = Report::of(None, &after);
            if let (Some(_), Some(Err(why))) = (&self.name, report.services.first().map(|one| &one.flow)) {
                return Err(Failure::unreachable(format!("metrics of {}", known[0].name), why)
                    .next("see who answers with `xtfs status`"));
            }
            if global.json {
                output::json(&show::to_json(&report));
            } else {
                let calls = if self.name.is_some() { usize::MAX } else { BUSIEST };
                output::line(&show::text(&report, calls).join("\n"));
            }
            Ok(0)
        })
    }
}
