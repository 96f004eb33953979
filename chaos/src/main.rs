//! `chaos`: runs simulations and repeats failures.

use std::path::PathBuf;
use std::process::ExitCode;

use chaos::leases;
use chaos::raft::{self, Outcome, Plan};
use chaos::replicas;
use chaos::sites::Census;
use clap::{Parser, Subcommand, ValueEnum};

/// Events in the phase with faults.
const STEPS: u64 = 6000;
/// In a soak every so many seeds end with a loss of power everywhere.
const BLACKOUTS: u64 = 8;
/// Events of the world of leases for each of those.
const LEASE_STEPS: u64 = 4;

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
        /// What is simulated
        #[arg(long, value_enum, default_value = "raft")]
        scenario: Scenario,
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
        /// What is simulated [default: everything, one after the other]
        #[arg(long, value_enum)]
        scenario: Option<Scenario>,
        /// First..last seed, the last one not included
        #[arg(long, value_parser = parse_range)]
        seeds: std::ops::Range<u64>,
        /// Events in the phase with faults
        #[arg(long, default_value_t = STEPS)]
        steps: u64,
        /// Goes on after failures
        #[arg(long)]
        all: bool,
        /// Fails when a fault site is never hit; for the gate's seeds, or more
        #[arg(long, conflicts_with = "scenario")]
        require_sites: bool,
        /// Lists all fault sites with their hits
        #[arg(long)]
        list_sites: bool,
        /// All machines lose power at the end of the faults
        #[arg(long)]
        blackout: bool,
    },
    /// Runs one seed twice and compares the logs byte for byte
    Meta {
        /// What is simulated [default: everything, one after the other]
        #[arg(long, value_enum)]
        scenario: Option<Scenario>,
        /// The seed
        #[arg(long)]
        seed: u64,
        /// Events in the phase with faults
        #[arg(long, default_value_t = STEPS)]
        steps: u64,
    },
}

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// A Raft group
    Raft,
    /// Leases of clients
    Leases,
    /// Replicated columns at OSDs
    Replicas,
}

impl Scenario {
    const ALL: [Self; 3] = [Self::Raft, Self::Leases, Self::Replicas];

    fn run(self, plan: Plan) -> Outcome {
        match self {
            Self::Raft => raft::run(plan),
            Self::Leases => leases_of(plan),
            Self::Replicas => replicas::run(plan),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Raft => "raft",
            Self::Leases => "leases",
            Self::Replicas => "replicas",
        }
    }
}

fn parse_range(text: &str) -> Result<std::ops::Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("expected FROM..TO, for example 0..1000")?;
    let number = |part: &str| part.parse::<u64>().map_err(|error| format!("{part:?}: {error}"));
    Ok(number(from)?..number(to)?)
}

fn main() -> ExitCode {
    let each = |chosen: Option<Scenario>| chosen.map_or_else(|| Scenario::ALL.to_vec(), |one| vec![one]);
    let ok = match Args::parse().command {
        Command::Run { scenario, seed, steps, log, blackout } => {
            run(scenario, Plan { seed, steps, keep_log: log.is_some(), blackout }, log)
        }
        Command::Soak { scenario, seeds, steps, all, blackout, require_sites, list_sites } => {
            let soak = |scenario| soak(scenario, seeds.clone(), steps, all, blackout);
            let held = each(scenario).into_iter().all(soak);
            tell_sites(require_sites, list_sites) && held
        }
        Command::Meta { scenario, seed, steps } => {
            each(scenario).into_iter().all(|scenario| meta(scenario, seed, steps))
        }
    };
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The world of leases.
fn leases_of(plan: Plan) -> Outcome {
    let leases::Outcome { violation, log, events, operations, faults, .. } = leases::run(lease_plan(plan));
    Outcome { violation, log, events, operations, faults }
}

fn lease_plan(Plan { seed, steps, keep_log, .. }: Plan) -> leases::Plan {
    leases::Plan { seed, steps: steps * LEASE_STEPS, keep_log, broken: None }
}

/// Runs a plan; a panic in the code under test is a failure like any other.
fn attempt(scenario: Scenario, plan: Plan) -> Result<Outcome, String> {
    match std::panic::catch_unwind(|| scenario.run(plan)) {
        Ok(Outcome { violation: Some(violation), .. }) => Err(violation.to_string()),
        Ok(outcome) => Ok(outcome),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            Err(format!("panic: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no text")))
        }
    }
}

fn run(scenario: Scenario, plan: Plan, log: Option<PathBuf>) -> bool {
    let outcome = scenario.run(plan);
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
            report(scenario, plan, &violation.to_string());
            false
        }
    }
}

fn report(scenario: Scenario, plan: Plan, what: &str) {
    let Plan { seed, steps, .. } = plan;
    let blackout = if plan.blackout { " --blackout" } else { "" };
    println!("seed {seed} FAILED: {what}");
    println!(
        "repeat it with: cargo run --release -p xtfs-chaos -- run --scenario {} --seed {seed} --steps {steps}{blackout} --log /tmp/chaos.log",
        scenario.name()
    );
}

fn soak(scenario: Scenario, seeds: std::ops::Range<u64>, steps: u64, all: bool, blackout: bool) -> bool {
    let (mut runs, mut failed, mut events, mut operations) = (0u64, 0u64, 0, 0);
    let mut faults = std::collections::BTreeMap::<&str, u64>::new();
    for seed in seeds {
        runs += 1;
        let blackout = blackout || seed % BLACKOUTS == BLACKOUTS - 1;
        let plan = Plan { seed, steps, keep_log: false, blackout };
        match attempt(scenario, plan) {
            Ok(outcome) => {
                events += outcome.events;
                operations += outcome.operations;
                for (name, count) in outcome.faults {
                    *faults.entry(name).or_default() += count;
                }
            }
            Err(what) => {
                failed += 1;
                report(scenario, plan, &what);
                if !all {
                    return false;
                }
            }
        }
    }
    let name = scenario.name();
    println!(
        "{name}: {runs} seeds, {failed} failed, {events} events, {operations} operations, faults {faults:?}"
    );
    failed == 0
}

/// What the runs came by. False: it is required that they come by everything, and they did not.
fn tell_sites(required: bool, list: bool) -> bool {
    let census = Census::take();
    if list {
        print!("{}", census.list());
    }
    println!("{census}");
    let holds = !required || census.missed().is_empty();
    if !holds {
        eprintln!(
            "fault sites that no seed reaches: let the world's nemeses reach them, or take those away that nothing can reach (chaos/README.md)"
        );
    }
    holds
}

fn meta(scenario: Scenario, seed: u64, steps: u64) -> bool {
    let once = || scenario.run(Plan { seed, steps, keep_log: true, blackout: false }).log;
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
