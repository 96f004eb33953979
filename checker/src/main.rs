//! `posix-checker`: runs a workload, checks a history, proves itself.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use posix_checker::check::{Options, Report, check};
use posix_checker::explain;
use posix_checker::faults::{CASES, hunt};
use posix_checker::history::{History, text};
use posix_checker::model::Atomicity;
use posix_checker::runner::{Run, Work, run, work};
use posix_checker::search::Budget;
use posix_checker::workload::{CLASSES, Class};

/// Two ticks of the slowest kernel clock in use (100 Hz), nanoseconds.
const TICK: u64 = 20_000_000;

type Failure = Box<dyn std::error::Error>;

#[derive(Parser)]
#[command(about = "Checks what several clients of one file system saw against POSIX")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs processes on mounts of one file system and checks what they saw
    Run(RunArgs),
    /// Checks a history
    Check {
        /// Its file
        history: PathBuf,
        #[command(flatten)]
        strict: Strict,
    },
    /// Proves that each seeded fault is found
    Faults {
        /// Seed of the workloads
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Calls within which each fault must be found
        #[arg(long, default_value_t = 30_000)]
        ops: usize,
    },
    #[command(hide = true)]
    Worker(WorkArgs),
}

#[derive(Args)]
struct Strict {
    /// How much of a read or write takes effect at once
    #[arg(long, value_enum, default_value_t = Unit::Byte)]
    atomic: Unit,
    /// Modification times are checked too
    #[arg(long)]
    times: bool,
    /// Worlds that the search may look at for one call
    #[arg(long, default_value_t = 60_000)]
    worlds: usize,
    /// Violations that are explained
    #[arg(long, default_value_t = 5)]
    show: usize,
    /// Folder for the proofs of violations, each a history of its own
    #[arg(long)]
    proofs: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Unit {
    /// Nothing: as Linux's page cache
    Byte,
    /// A cell
    Cell,
    /// The whole call
    Call,
}

#[derive(Args)]
struct RunArgs {
    /// One directory of the file system as each mount shows it, separated by commas
    #[arg(long, value_delimiter = ',', required = true)]
    mounts: Vec<PathBuf>,
    /// Seed of the calls
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Longest time
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Most calls
    #[arg(long, default_value_t = 20_000)]
    ops: usize,
    /// Processes on each mount
    #[arg(long, default_value_t = 3)]
    processes: u16,
    /// Kinds of calls, all at once: names, cells, sizes, grow, append, locks
    #[arg(long, value_delimiter = ',', default_value = "names,cells,sizes,grow,append,locks")]
    classes: Vec<String>,
    /// Bytes of a cell, a multiple of 8
    #[arg(long, default_value_t = 512)]
    cell: usize,
    /// fsync is called too
    #[arg(long)]
    syncs: bool,
    /// A shell command that harms the file system while the processes run
    #[arg(long, requires = "every")]
    disturb: Option<String>,
    /// Seconds between two runs of that command
    #[arg(long)]
    every: Option<u64>,
    /// Where the history goes
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    strict: Strict,
}

#[derive(Args)]
struct WorkArgs {
    #[arg(long)]
    mount: PathBuf,
    #[arg(long)]
    meeting: PathBuf,
    #[arg(long)]
    out: PathBuf,
    #[arg(long)]
    client: u16,
    #[arg(long)]
    clients: u16,
    #[arg(long)]
    process: u16,
    #[arg(long)]
    workers: u16,
    #[arg(long)]
    rounds: u32,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    cell: usize,
    #[arg(long)]
    syncs: bool,
    #[arg(long, value_delimiter = ',')]
    classes: Vec<String>,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run_and_check(args),
        Command::Check { history, strict } => load(&history).and_then(|history| judge(&history, &strict)),
        Command::Faults { seed, ops } => Ok(faults(seed, ops)),
        Command::Worker(args) => worker(args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("posix-checker: {error}");
            ExitCode::from(2)
        }
    }
}

fn classes(names: &[String]) -> Result<Vec<Class>, Failure> {
    let class = |name: &String| {
        let found = CLASSES.iter().find(|(_, one)| one == name).map(|(class, _)| *class);
        found.ok_or_else(|| {
            let all: Vec<&str> = CLASSES.iter().map(|(_, name)| *name).collect();
            Failure::from(format!("no class `{name}`; there are {}", all.join(", ")))
        })
    };
    names.iter().map(class).collect()
}

fn worker(args: WorkArgs) -> Result<bool, Failure> {
    let WorkArgs {
        mount, meeting, out, client, clients, process, workers, rounds, seed, cell, syncs, ..
    } = args;
    let classes = classes(&args.classes)?;
    work(&Work {
        mount,
        meeting,
        out,
        client,
        clients,
        process,
        workers,
        rounds,
        seed,
        classes,
        cell,
        syncs,
    })?;
    Ok(true)
}

fn run_and_check(args: RunArgs) -> Result<bool, Failure> {
    if args.cell == 0 || !args.cell.is_multiple_of(8) {
        return Err(format!("--cell {}: give a multiple of 8", args.cell).into());
    }
    let place = format!("posix-checker.{}", std::process::id());
    let first = args.mounts[0].join(&place);
    std::fs::create_dir(&first).map_err(|error| format!("make {}: {error}", first.display()))?;
    let history = run(&Run {
        program: std::env::current_exe()?,
        mounts: args.mounts.iter().map(|mount| mount.join(&place)).collect(),
        processes: args.processes.clamp(1, 64),
        seed: args.seed,
        time: Duration::from_secs(args.seconds),
        calls: args.ops,
        classes: classes(&args.classes)?,
        cell: args.cell,
        syncs: args.syncs,
        disturb: args.disturb.zip(args.every.map(Duration::from_secs)),
    });
    // Left behind by workers that did not end; what cannot be removed is named by the next run.
    let _ = std::fs::remove_dir_all(&first);
    let history = history?;
    if let Some(out) = &args.out {
        text::save(&history, &mut BufWriter::new(File::create(out)?))?;
    }
    judge(&history, &args.strict)
}

fn load(path: &Path) -> Result<History, Failure> {
    let file = File::open(path).map_err(|error| format!("open {}: {error}", path.display()))?;
    Ok(text::load(&mut BufReader::new(file))?)
}

fn judge(history: &History, strict: &Strict) -> Result<bool, Failure> {
    let atomicity = match strict.atomic {
        Unit::Byte => Atomicity::Byte,
        Unit::Cell => Atomicity::Cell,
        Unit::Call => Atomicity::Call,
    };
    let budget = Budget { worlds: strict.worlds, ..Budget::default() };
    let report = check(
        history,
        &Options { atomicity, budget, times: strict.times.then_some(TICK), ..Options::default() },
    );
    for violation in report.violations.iter().take(strict.show) {
        println!("{}", explain::text(history, violation));
    }
    if let Some(folder) = &strict.proofs {
        std::fs::create_dir_all(folder)?;
        for (number, violation) in report.violations.iter().enumerate() {
            let file = File::create(folder.join(format!("violation-{number}.history")))?;
            text::save(&explain::extract(history, violation), &mut BufWriter::new(file))?;
        }
    }
    summary(history, &report);
    Ok(report.violations.is_empty())
}

fn summary(history: &History, report: &Report) {
    let mut rules: Vec<&str> = report.violations.iter().map(|violation| violation.rule).collect();
    rules.sort_unstable();
    for group in rules.chunk_by(|one, other| one == other) {
        println!("{:6} x {}", group.len(), group[0]);
    }
    let unknown = history.calls.iter().filter(|call| call.end() == u64::MAX).count();
    println!(
        "{} calls ({unknown} with unknown outcome) on {} objects, {} objects undecided, {} violations",
        report.calls,
        report.objects,
        report.undecided.len(),
        report.violations.len()
    );
}

fn faults(seed: u64, ops: usize) -> bool {
    let mut missed = 0;
    for case in CASES {
        let hunt = hunt(case, seed, ops);
        let found = hunt.rule.map_or_else(
            || format!("MISSED after {} calls", hunt.calls),
            |rule| format!("found after {:6} calls: {rule}", hunt.calls),
        );
        missed += usize::from(hunt.rule.is_none());
        println!("{:26} {} - {found}", format!("{:?}", case.bug), case.what);
    }
    println!("{} faults, {missed} missed", CASES.len());
    missed == 0
}
