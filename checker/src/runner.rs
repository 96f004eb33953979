//! Real processes on real mounts: each worker is a process of its own that makes system calls and writes down what came
//! of them. Times are `CLOCK_MONOTONIC`, so all workers run on one machine.

mod barrier;
mod bytes;
mod system;
mod worker;

use std::fs::File;
use std::io::{self, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::history::{Event, Happening, History, text};
use crate::workload::Class;

pub use worker::{Work, work};

use barrier::Barrier;

/// Longest time that workers wait for one another beyond the run itself.
const PATIENCE: Duration = Duration::from_secs(180);

/// Calls of a worker in a round.
pub(crate) const CALLS_IN_ROUND: u32 = 24;

/// What to run.
#[derive(Debug, Clone)]
pub struct Run {
    /// This program, started again for each worker with the hidden command `worker`.
    pub program: PathBuf,
    /// One directory of one file system, as seen through each mount.
    pub mounts: Vec<PathBuf>,
    /// Workers on each mount.
    pub processes: u16,
    /// Seed of the calls; their timing is the machine's.
    pub seed: u64,
    /// The run ends after this time, ...
    pub time: Duration,
    /// ... or after this many calls.
    pub calls: usize,
    /// Kinds of calls.
    pub classes: Vec<Class>,
    /// Bytes of a cell, a multiple of 8.
    pub cell: usize,
    /// `fsync` is called too.
    pub syncs: bool,
    /// A shell command that harms the file system, and how often: everything acknowledged must survive it.
    pub disturb: Option<(String, Duration)>,
}

/// Why a run gave no history.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The machine refused something.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// What came of it.
        error: io::Error,
    },
    /// A worker gave up.
    #[error("worker {process} ended with {status}: {text}")]
    Worker {
        /// Which.
        process: u16,
        /// Its exit status.
        status: String,
        /// What it said.
        text: String,
    },
    /// What a worker wrote cannot be read.
    #[error("the history of worker {process}: {error}")]
    History {
        /// Which.
        process: u16,
        /// Why.
        error: text::TextError,
    },
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> RunError {
    let what = what.into();
    move |error| RunError::Io { what, error }
}

/// Runs workers on all mounts and gathers their histories.
pub fn run(run: &Run) -> Result<History, RunError> {
    let place = std::env::temp_dir().join(format!("posix-checker.{}", std::process::id()));
    std::fs::create_dir_all(&place).map_err(failed(format!("make {}", place.display())))?;
    let gathered = in_place(run, &place);
    // What cannot be removed is in the system's folder for such things.
    let _ = std::fs::remove_dir_all(&place);
    gathered
}

fn in_place(run: &Run, place: &std::path::Path) -> Result<History, RunError> {
    let meeting = place.join("barrier");
    let barrier = Barrier::create(&meeting).map_err(failed("make the workers' meeting place"))?;
    let workers = run.mounts.len() as u16 * run.processes;
    let per_round = usize::from(workers) * CALLS_IN_ROUND as usize;
    let rounds = (run.calls / per_round.max(1)).max(1);
    let mut children = Vec::new();
    for process in 0..workers {
        let client = process % run.mounts.len() as u16;
        let started = start(run, place, &meeting, process, client, workers, rounds);
        match started {
            Ok(child) => children.push(child),
            Err(error) => {
                end(&mut children);
                return Err(failed("start a worker")(error));
            }
        }
    }
    let mut history = History::default();
    let waited = wait(run, &barrier, &mut children, &mut history, place);
    end(&mut children);
    waited?;
    for process in 0..workers {
        let path = place.join(format!("history.{process}"));
        let file = File::open(&path).map_err(failed(format!("open {}", path.display())))?;
        let read = text::load(&mut BufReader::new(file));
        history.calls.extend(read.map_err(|error| RunError::History { process, error })?.calls);
    }
    history.calls.sort_by_key(|call| call.invoked);
    Ok(history)
}

fn start(
    run: &Run,
    place: &std::path::Path,
    meeting: &std::path::Path,
    process: u16,
    client: u16,
    workers: u16,
    rounds: usize,
) -> io::Result<Child> {
    let names = crate::workload::CLASSES.iter().filter(|(class, _)| run.classes.contains(class));
    let classes: Vec<&str> = names.map(|(_, name)| *name).collect();
    let mut command = Command::new(&run.program);
    command.arg("worker").arg("--mount").arg(&run.mounts[usize::from(client)]);
    command.arg("--meeting").arg(meeting).arg("--out").arg(place.join(format!("history.{process}")));
    for (name, value) in [
        ("--client", u64::from(client)),
        ("--process", u64::from(process)),
        ("--workers", u64::from(workers)),
        ("--clients", run.mounts.len() as u64),
        ("--rounds", rounds as u64),
        ("--seed", run.seed),
        ("--cell", run.cell as u64),
    ] {
        command.arg(name).arg(value.to_string());
    }
    command.arg("--classes").arg(classes.join(","));
    if run.syncs {
        command.arg("--syncs");
    }
    let errors = File::create(place.join(format!("errors.{process}")))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn()
}

/// Waits until all workers are done, and disturbs them meanwhile.
fn wait(
    run: &Run,
    barrier: &Barrier,
    children: &mut [Child],
    history: &mut History,
    place: &std::path::Path,
) -> Result<(), RunError> {
    let began = Instant::now();
    let mut disturbed = Instant::now();
    loop {
        let mut running = false;
        for (process, child) in (0..).zip(children.iter_mut()) {
            match child.try_wait().map_err(failed("wait for a worker"))? {
                None => running = true,
                Some(status) if status.success() => {}
                Some(status) => {
                    let text = std::fs::read_to_string(place.join(format!("errors.{process}")));
                    let text = text.unwrap_or_default().trim().to_owned();
                    return Err(RunError::Worker { process, status: status.to_string(), text });
                }
            }
        }
        if !running {
            return Ok(());
        }
        if began.elapsed() > run.time {
            barrier.stop();
        }
        if began.elapsed() > run.time + PATIENCE {
            let error = io::Error::from(io::ErrorKind::TimedOut);
            return Err(RunError::Io { what: "the workers did not end: a call hangs".into(), error });
        }
        if let Some((command, every)) = &run.disturb
            && disturbed.elapsed() > *every
            && began.elapsed() < run.time
        {
            disturbed = Instant::now();
            history.events.push(Event { at: system::now(), what: Happening::Killed });
            let status = Command::new("sh").arg("-c").arg(command).status();
            status.map_err(failed(format!("run `{command}`")))?;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn end(children: &mut [Child]) {
    for child in children {
        // Those that ended are not killed by this.
        let _ = child.kill();
        let _ = child.try_wait();
    }
}
