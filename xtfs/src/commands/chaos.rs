//! `xtfs chaos`: faults on real processes under load.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::args::Global;
use crate::chaos::{self, More, Nemesis, Plan, Sabotage};
use crate::failure::{Failure, Outcome};

/// Kill, pause, cut off, replace and damage real processes under load, and prove that nothing is lost
///
/// Starts an instance of its own (3 DIRs, 3 MRCs, 4 OSDs, 3 replicas, every service a process), works on its mount and lets faults
/// happen, chosen by a seed: the same seed gives the same faults at the same times. Loads: `names` creates, renames,
/// unlinks and lists; `data` writes 4 KiB at random places, reads back and syncs; `still` reads what nobody changes, which is
/// where damage is done; by --load also coded (files that are erasure-coded when they rest), jobs, fsx and fio, which check themselves. At the end: no operation failed, nothing acknowledged is lost, no byte is wrong, every process runs, all
/// objects are in sync, two scrubs leave no damage, fsck is clean. Exit status 0 only when all of that holds.
///
/// Partitions (partition, one-way, host) need root, `ip` and `tc`: every DIR, MRC and OSD gets a network namespace, server number N of each
/// role stands on host N, packets are dropped so that nobody is told. Without root, or with --data, they are left out of the default.
///
/// Membership changes (members) need root. A member of the DIR or MRC group makes place by `xtfs mrc replace` or `xtfs dir replace`; for an
/// OSD another one is started, the old one drained until no file names it, taken out and stopped. They take as long as they take: what
/// comes later comes later then. Slow and full disks and clocks that jump (slow, full, clock) are injected by hooks of the services, which
/// are off unless `XTFS_FAULT_DISK` and `XTFS_FAULT_CLOCK` are in their environment: so not with --data. While a disk is full, and up to 30 s
/// after it, creating, writing, syncing and closing may fail with ENOSPC; what was acknowledged must be there all the same.
///
/// Writes OUT/report.html (a picture of stalls and faults), OUT/report.json and OUT/acked.log.
#[derive(Debug, Args)]
pub(crate) struct Chaos {
    /// Chooses the faults and the loads' operations [default: a new one, printed].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Seconds under load.
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    duration: u64,
    /// Which faults, separated by commas [default: all that are possible].
    #[arg(long, value_name = "KIND,...", value_delimiter = ',', value_enum)]
    nemesis: Vec<Nemesis>,
    /// Which loads beside names, data and still, separated by commas [default: those that are there; with --data none].
    #[arg(long, value_name = "LOAD,...", value_delimiter = ',', value_enum, num_args = 0..)]
    load: Option<Vec<More>>,
    /// Directory of the run: its instance (removed when all is well), logs and report.
    #[arg(long, value_name = "DIR", default_value = chaos::default_out().as_os_str())]
    out: PathBuf,
    /// Use the instance that runs in this directory (separate processes, 3 replicas, mounted), and leave it running.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Keep the instance's directory also when all is well.
    #[arg(long)]
    keep: bool,
    /// Spoil something behind the checkers' back, which they must notice: for tests of this command.
    #[arg(long, hide = true, value_enum)]
    sabotage: Option<Sabotage>,
}

/// Less leaves no time for a fault.
const SHORTEST: u64 = 8;

impl Chaos {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        if self.duration < SHORTEST {
            return Err(Failure::usage(format!("--duration {}", self.duration), "no fault fits into that")
                .next(format!("give at least {SHORTEST} seconds")));
        }
        let seed = self.seed.unwrap_or_else(chaos::any_seed);
        let mut nemeses = self.nemesis;
        if nemeses.is_empty() {
            // Only what is possible; who asks for more is told why not.
            let (fresh, root) = (self.data.is_none(), nix::unistd::geteuid().is_root());
            nemeses = Nemesis::value_variants().to_vec();
            nemeses.retain(|nemesis| (fresh || !nemesis.hooks()) && (fresh && root || !nemesis.cuts()));
            nemeses.retain(|nemesis| root || *nemesis != Nemesis::Members);
        }
        nemeses.sort();
        nemeses.dedup();
        let names: Vec<String> = nemeses
            .iter()
            .filter_map(|nemesis| Some(nemesis.to_possible_value()?.get_name().to_owned()))
            .collect();
        let more = loads(self.load, self.data.is_some())?;
        let also: Vec<String> =
            more.iter().filter_map(|more| Some(more.to_possible_value()?.get_name().to_owned())).collect();
        let repeat = format!(
            "xtfs chaos --seed {seed} --duration {} --nemesis {} --load{}{}",
            self.duration,
            names.join(","),
            if also.is_empty() { "" } else { " " },
            also.join(",")
        );
        let absolute = |path: PathBuf| {
            std::path::absolute(&path).map_err(|error| Failure::usage(path.display().to_string(), error))
        };
        let plan = Plan {
            seed,
            duration: Duration::from_secs(self.duration),
            nemeses,
            more,
            out: absolute(self.out)?,
            data: self.data.map(absolute).transpose()?,
            keep: self.keep,
            sabotage: self.sabotage,
            quiet: global.json,
            repeat,
        };
        chaos::run(&plan, global.json)
    }
}

/// Those that were asked for, or all that are possible.
fn loads(asked: Option<Vec<More>>, given: bool) -> Result<Vec<More>, Failure> {
    let mut more = match asked {
        Some(more) => more,
        None if given => Vec::new(),
        None => More::value_variants().iter().copied().filter(|more| more.is_here()).collect(),
    };
    more.sort();
    more.dedup();
    if let Some(unfit) = more.iter().find(|more| given && !more.fits_any()) {
        return Err(Failure::usage(
            format!("--load {unfit:?}").to_lowercase(),
            "it needs an instance that codes files soon after they were closed, which one of its own does",
        )
        .next("leave --data out, or choose other loads"));
    }
    if let Some(missing) = more.iter().find(|more| !more.is_here()) {
        return Err(Failure::usage(
            format!("--load {missing:?}").to_lowercase(),
            "there is no such program on this machine",
        )
        .next("tools/setup test"));
    }
    Ok(more)
}
