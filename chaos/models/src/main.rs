//! `models`: searches through everything that a protocol can come to.

use std::process::ExitCode;

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
    /// Gives up after so many steps
    #[arg(long)]
    steps: Option<usize>,
    /// Deep first: needs less memory, finds long traces
    #[arg(long)]
    deep: bool,
    /// Each client does less: what the unit tests search
    #[arg(long)]
    small: bool,
    /// Replication: one client reads what a majority says, without the primary
    #[arg(long)]
    clean: bool,
    /// Leases: the faults are those of clocks
    #[arg(long)]
    clocks_only: bool,
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
    let Args { faults, threads, deep, steps, small, clocks_only, .. } = *args;
    let limits = Limits { threads, steps, deep, until: None };
    let wanted = args.broken.as_deref();
    match args.model {
        Which::Replication => {
            let fault = named(&replication::Fault::ALL, wanted);
            let model = match (args.clean, small) {
                (true, _) => Replication::clean(faults),
                (_, true) => Replication::small(faults),
                _ => Replication::new(faults),
            };
            search(Replication { fault, ..model }, limits)
        }
        Which::LeasesAttributes => {
            let fault = named(&leases::Fault::ALL, wanted);
            let model = if small { LeaseModel::small(faults) } else { LeaseModel::attributes(faults) };
            search(LeaseModel { fault, clocks_only, ..model }, limits)
        }
        Which::LeasesData => {
            let fault = named(&leases::Fault::ALL, wanted);
            search(LeaseModel { fault, clocks_only, ..LeaseModel::data(faults) }, limits)
        }
        Which::Sessions => {
            let fault = named(&sessions::Fault::ALL, wanted);
            let model = if small { Sessions::small(faults) } else { Sessions::new(faults) };
            search(Sessions { fault, ..model }, limits)
        }
        Which::Staging => {
            let fault = named(&staging::Fault::ALL, wanted);
            let model = if small { Staging::small(faults) } else { Staging::new(faults) };
            search(Staging { fault, ..model }, limits)
        }
    }
}
