//! `xtfs gc`: removes objects at OSDs whose files do not exist.

use std::time::Duration;

use clap::Args;
use proto::dir::OsdState;
use proto::fsck::LostFile;
use serde_json::json;

use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::place::{Opened, creds, place, run_with_tasks};

/// Remove objects whose files do not exist (written by clients that did not know yet that the file was gone)
#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// A mounted volume, or xtfs://HOST/VOLUME.
    url: String,
    /// Leave objects of files that were removed within this time: 90, 15m, 2h.
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = duration)]
    older_than: Duration,
    /// Say what would be removed, and remove nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long, short = 'y')]
    yes: bool,
}

/// Parses `90`, `90s`, `15m`, `2h`, `1d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        other => return Err(format!("unknown unit {other:?}; use s, m, h or d")),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is no time; write e.g. 15m"))?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(|| format!("{text:?} is too long"))
}

/// What was seen at all OSDs.
#[derive(Default)]
struct Sum {
    files: u64,
    lost: u64,
    objects: u64,
    bytes: u64,
    young: u64,
    unknown: u64,
}

impl Sum {
    fn add(&mut self, lost: &LostFile) {
        if lost.unknown {
            self.unknown += 1;
        } else if lost.young {
            self.young += 1;
        } else {
            self.lost += 1;
            self.objects += lost.objects;
            self.bytes += lost.bytes;
        }
    }
}

impl Gc {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let what = format!("collecting lost objects of {}", self.url);
        let place = place(&self.url)?;
        let cluster = super::cluster(global, &place.dirs)?;
        run_with_tasks(async {
            let map = cluster.map().await?;
            let opened = place.open(global, &what).await?;
            let (up, away): (Vec<_>, Vec<_>) = map
                .osds
                .iter()
                .filter(|osd| osd.state() != OsdState::Out)
                .partition(|osd| osd.state() != OsdState::Down);
            let osds: Vec<u64> = up.iter().map(|osd| osd.osd).collect();
            let done = self.collect(&opened, &what, &osds, global.json).await;
            opened.close().await;
            done?;
            if let Some(osd) = away.first() {
                let why = format!(
                    "{} OSD(s) are down, first osd#{} at {}; what is there stays",
                    away.len(),
                    osd.osd,
                    osd.addr
                );
                return Err(Failure::new(what.clone(), why).next("start them and collect again"));
            }
            Ok(0)
        })
    }

    async fn collect(&self, opened: &Opened, what: &str, osds: &[u64], json: bool) -> Result<(), Failure> {
        let seen = self.round(opened, what, osds, true, json && self.dry_run).await?;
        if self.dry_run || seen.lost == 0 {
            tell(&seen, !self.dry_run, json);
            return Ok(());
        }
        let question = format!(
            "remove {} object(s) of {} file(s) that do not exist, {}?",
            seen.objects,
            seen.lost,
            output::bytes(seen.bytes)
        );
        output::confirm(&question, self.yes)?;
        let removed = self.round(opened, what, osds, false, json).await?;
        tell(&removed, true, json);
        Ok(())
    }

    async fn round(
        &self,
        opened: &Opened,
        what: &str,
        osds: &[u64],
        dry_run: bool,
        show: bool,
    ) -> Result<Sum, Failure> {
        let mut sum = Sum::default();
        for osd in osds {
            let mut after = 0;
            loop {
                let page = opened.volume.collect_lost(&creds(), *osd, after, self.older_than, dry_run).await;
                let page = page.map_err(|error| Failure::wire(format!("{what} at osd#{osd}"), &error))?;
                sum.files += page.files;
                for lost in &page.lost {
                    sum.add(lost);
                    if show {
                        output::json(&to_json(*osd, lost, dry_run));
                    }
                }
                if page.end || page.after <= after {
                    break;
                }
                after = page.after;
            }
        }
        Ok(sum)
    }
}

fn to_json(osd: u64, lost: &LostFile, dry_run: bool) -> serde_json::Value {
    json!({
        "osd": osd,
        "ino": lost.ino,
        "objects": lost.objects,
        "bytes": lost.bytes,
        "young": lost.young,
        "unknown": lost.unknown,
        "removed": !(lost.young || lost.unknown || dry_run),
    })
}

fn tell(sum: &Sum, removed: bool, json: bool) {
    if json {
        return output::json(&json!({
            "files": sum.files, "lost_files": sum.lost, "objects": sum.objects, "bytes": sum.bytes,
            "young_files": sum.young, "unknown_files": sum.unknown, "removed": removed,
        }));
    }
    let verb = if removed { "removed" } else { "would remove" };
    output::line(&format!(
        "{} file(s) looked at; {verb} {} object(s) of {} that do not exist, {}",
        sum.files,
        sum.objects,
        sum.lost,
        output::bytes(sum.bytes)
    ));
    if sum.young > 0 {
        output::line(&format!("{} removed too recently are left for later (--older-than)", sum.young));
    }
    if sum.unknown > 0 {
        output::line(&format!(
            "{} have numbers that the MRC never gave out: is its table older than its OSDs? They are left alone",
            sum.unknown
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(duration("90").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("15m").unwrap(), Duration::from_secs(900));
        assert_eq!(duration("2d").unwrap(), Duration::from_secs(172_800));
        for text in ["", "m", "1w", "-1", "99999999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
