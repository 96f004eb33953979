//! `chaos`: runs simulations and repeats failures.

use std::path::PathBuf;
use std::process::ExitCode;

use chaos::raft::{self, Outcome, Plan};
use clap::{Parser, Subcommand};

/// Events in the phase with faults.
const STEPS: u64 = 6000;

#[derive(Parser)]
#[command(about = "Deterministic simulation of xtfs: the same seed gives the same run")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one seed
    Run {
        /// The seed
        #[arg(long)]
        seed: u64,
        /// Events in the phase with faults
        #[arg(long, default_value_t = STEPS)]
        steps: u64,
        /// Where to write what happened
        #[arg(long)]
        log: Option<PathBuf>,
        /// All machines lose power at the end of the faults
        #[arg(long)]
        blackout: bool,
    },
    /// Runs many seeds and stops at the first that fails
    Soak {
        /// First..last seed, the last one not included
        #[arg(long, value_parser = parse_range)]
        seeds: std::ops::Range<u64>,
        /// Events in the phase with faults
        #[arg(long, default_value_t = STEPS)]
        steps: u64,
        /// Goes on after failures
        #[arg(long)]
        all: bool,
        /// All machines lose power at the end of the faults
        #[arg(long)]
        blackout: bool,
    },
    /// Runs one seed twice and compares the logs byte for byte
    Meta {
        /// The seed
        #[arg(long)]
        seed: u64,
        /// Events in the phase with faults
        #[arg(long, default_value_t = STEPS)]
        steps: u64,
    },
}

fn parse_range(text: &str) -> Result<std::ops::Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("expected FROM..TO, for example 0..1000")?;
    let number = |part: &str| part.parse::<u64>().map_err(|error| format!("{part:?}: {error}"));
    Ok(number(from)?..number(to)?)
}

fn main() -> ExitCode {
    let ok = match Args::parse().command {
        Command::Run { seed, steps, log, blackout } => {
            run(Plan { seed, steps, keep_log: log.is_some(), blackout }, log)
        }
        Command::Soak { seeds, steps, all, blackout } => soak(seeds, steps, all, blackout),
        Command::Meta { seed, steps } => meta(seed, steps),
    };
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a plan; a panic in the code under test is a failure like any other.
fn attempt(plan: Plan) -> Result<Outcome, String> {
    match std::panic::catch_unwind(|| raft::run(plan)) {
        Ok(Outcome { violation: Some(violation), .. }) => Err(violation.to_string()),
        Ok(outcome) => Ok(outcome),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            Err(format!("panic: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no text")))
        }
    }
}

fn run(plan: Plan, log: Option<PathBuf>) -> bool {
    let outcome = raft::run(plan);
    let seed = plan.seed;
    if let Some(path) = log
        && let Err(error) = std::fs::write(&path, &outcome.log)
    {
        eprintln!("cannot write the log to {}: {error}", path.display());
    }
    match outcome.violation {
        None => {
            let Outcome { events, operations, faults, .. } = outcome;
            println!("seed {seed}: {events} events, {operations} operations, faults {faults:?}");
            true
        }
        Some(violation) => {
            report(plan, &violation.to_string());
            false
        }
    }
}

fn report(plan: Plan, what: &str) {
    let Plan { seed, steps, .. } = plan;
    let blackout = if plan.blackout { " --blackout" } else { "" };
    println!("seed {seed} FAILED: {what}");
    println!(
        "repeat it with: cargo run --release -p xtfs-chaos -- run --seed {seed} --steps {steps}{blackout} --log /tmp/chaos.log"
    );
}

fn soak(seeds: std::ops::Range<u64>, steps: u64, all: bool, blackout: bool) -> bool {
    let (mut runs, mut failed, mut events, mut operations) = (0u64, 0u64, 0, 0);
    let mut faults = std::collections::BTreeMap::<&str, u64>::new();
    for seed in seeds {
        runs += 1;
        let plan = Plan { seed, steps, keep_log: false, blackout };
        match attempt(plan) {
            Ok(outcome) => {
                events += outcome.events;
                operations += outcome.operations;
                for (name, count) in outcome.faults {
                    *faults.entry(name).or_default() += count;
                }
            }
            Err(what) => {
                failed += 1;
                report(plan, &what);
                if !all {
                    return false;
                }
            }
        }
    }
    println!("{runs} seeds, {failed} failed, {events} events, {operations} operations, faults {faults:?}");
    failed == 0
}

fn meta(seed: u64, steps: u64) -> bool {
    let once = || raft::run(Plan { seed, steps, keep_log: true, blackout: false }).log;
    let (first, second) = (once(), once());
    if first == second {
        println!("seed {seed}: two runs, {} bytes of log each, equal", first.len());
        return true;
    }
    let line = first.lines().zip(second.lines()).position(|(a, b)| a != b).unwrap_or(0);
    println!("seed {seed}: the runs differ from line {} on:", line + 1);
    for log in [&first, &second] {
        println!("  {}", log.lines().nth(line).unwrap_or("(end)"));
    }
    false
}
