//! `models`: searches through everything that a protocol can come to.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use models::check::{Limits, Report, search};
use models::leases::{self, LeaseModel};
use models::replication::{self, Replication};
use models::sessions::{self, Sessions};
use models::staging::{self, Staging};

#[derive(Parser)]
#[command(
    about = "Exhausts small models of the protocols of xtfs: three nodes, two clients, up to two faults"
)]
struct Args {
    /// Which protocol
    #[arg(value_enum)]
    model: Which,
    /// Faults at most: kills, cuts, lost and repeated messages, clocks
    #[arg(long, default_value_t = 2)]
    faults: u8,
    /// A part of the protocol to leave out, to see the shortest way to what must not be; `list` names them
    #[arg(long)]
    broken: Option<String>,
    /// Threads that search; one finds the shortest traces
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Gives up after so many minutes
    #[arg(long)]
    minutes: Option<u64>,
    /// Deep first: needs less memory, finds long traces
    #[arg(long)]
    deep: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    /// Columns: epochs, primaries, commits, reads (the OSD's engine)
    Replication,
    /// Attributes that two clients keep and change (the MRC's engine)
    LeasesAttributes,
    /// Data that one client writes and the other one reads, expelling and fences (the MRC's engine)
    LeasesData,
    /// Mutations done exactly once (the client's numbers, the group's records of answers)
    Sessions,
    /// What a mount staged is committed or worth nothing
    Staging,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let names = match args.model {
        Which::Replication => names(&replication::Fault::ALL),
        Which::LeasesAttributes | Which::LeasesData => names(&leases::Fault::ALL),
        Which::Sessions => names(&sessions::Fault::ALL),
        Which::Staging => names(&staging::Fault::ALL),
    };
    if let Some(name) = args.broken.as_deref().filter(|name| !names.contains(name)) {
        eprintln!("models: `{name}` is no part that can be left out here; there are: {}", names.join(", "));
        return ExitCode::from(2);
    }
    let report = run(&args);
    print!("{report}");
    if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn names<F: Copy>(all: &[(&'static str, F)]) -> Vec<&'static str> {
    all.iter().map(|(name, _)| *name).collect()
}

fn named<F: Copy>(all: &[(&'static str, F)], wanted: Option<&str>) -> Option<F> {
    all.iter().find(|(name, _)| Some(*name) == wanted).map(|(_, fault)| *fault)
}

fn run(args: &Args) -> Report {
    let Args { faults, threads, deep, .. } = *args;
    let time = args.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let limits = Limits { threads, time, deep, ..Limits::default() };
    let wanted = args.broken.as_deref();
    match args.model {
        Which::Replication => {
            let fault = named(&replication::Fault::ALL, wanted);
            search(Replication { fault, ..Replication::new(faults) }, limits)
        }
        Which::LeasesAttributes => {
            let fault = named(&leases::Fault::ALL, wanted);
            search(LeaseModel { fault, ..LeaseModel::attributes(faults) }, limits)
        }
        Which::LeasesData => {
            let fault = named(&leases::Fault::ALL, wanted);
            search(LeaseModel { fault, ..LeaseModel::data(faults) }, limits)
        }
        Which::Sessions => {
            let fault = named(&sessions::Fault::ALL, wanted);
            search(Sessions { fault, ..Sessions::new(faults) }, limits)
        }
        Which::Staging => {
            let fault = named(&staging::Fault::ALL, wanted);
            search(Staging { fault, ..Staging::new(faults) }, limits)
        }
    }
}
