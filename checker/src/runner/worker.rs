//! One worker: rounds of calls, each noted with its times.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use super::barrier::Barrier;
use super::system::{self, Files};
use crate::dice::Dice;
use crate::history::{Call, Object, Operation, Outcome, text};
use crate::workload::{Actor, Class, Round};

/// Longest time that a worker waits for the others.
const PATIENCE: Duration = Duration::from_secs(170);

/// What a worker is told.
#[derive(Debug)]
pub struct Work {
    /// The directory, as its client sees it.
    pub mount: PathBuf,
    /// The workers' meeting place.
    pub meeting: PathBuf,
    /// Where its history goes.
    pub out: PathBuf,
    /// Number of its mount.
    pub client: u16,
    /// Mounts.
    pub clients: u16,
    /// Its own number.
    pub process: u16,
    /// Workers on all mounts.
    pub workers: u16,
    /// Rounds to do.
    pub rounds: u32,
    /// Seed of its calls.
    pub seed: u64,
    /// Kinds of calls.
    pub classes: Vec<Class>,
    /// Bytes of a cell.
    pub cell: usize,
    /// `fsync` is called too.
    pub syncs: bool,
}

struct Worker<'a> {
    work: &'a Work,
    out: BufWriter<File>,
    files: Files,
}

/// Does the work.
pub fn work(work: &Work) -> io::Result<()> {
    system::prepare()?;
    let barrier = Barrier::open(&work.meeting)?;
    let mut out = BufWriter::new(File::create(&work.out)?);
    writeln!(out, "{}", text::HEADER)?;
    let mut actor = Actor::new(work.process, work.seed, &work.classes, work.syncs);
    let mut dice = Dice::new(work.seed ^ u64::from(work.process));
    let mut worker = Worker { work, out, files: Files::new(work.cell) };
    let meet = || barrier.meet(u32::from(work.workers), PATIENCE);
    for number in 0..work.rounds {
        let (round, place) = (Round(number), work.mount.join(format!("round-{number}")));
        let stops = barrier.is_stopped();
        meet()?;
        // All have read the same: it is set between rounds only by the parent, and read again by the first.
        if work.process == 0 {
            if stops {
                std::fs::write(work.meeting.with_extension("end"), b"")?;
            } else {
                system::make(&place)?;
            }
        }
        meet()?;
        if work.meeting.with_extension("end").exists() {
            break;
        }
        worker.files.open(&place, round)?;
        if work.process == 0 {
            worker.alone(&round.prepare(&work.classes))?;
        }
        meet()?;
        for _ in 0..super::CALLS_IN_ROUND {
            let (object, operation) = actor.next(round);
            let outcome = worker.call(object, operation.clone())?;
            actor.learn(&operation, &outcome);
            if dice.one_in(8) {
                std::thread::yield_now();
            }
        }
        for (object, operation) in actor.finish(round) {
            let outcome = worker.call(object, operation.clone())?;
            actor.learn(&operation, &outcome);
        }
        actor.crashed();
        meet()?;
        if work.process < work.clients {
            worker.alone(&round.look(&work.classes))?;
        }
        worker.files.close();
        meet()?;
        if work.process == 0 {
            std::fs::remove_dir_all(&place)?;
        }
    }
    worker.out.flush()
}

impl Worker<'_> {
    fn alone(&mut self, calls: &[(Object, Operation)]) -> io::Result<()> {
        for (object, operation) in calls {
            self.call(*object, operation.clone())?;
        }
        Ok(())
    }

    fn call(&mut self, object: Object, operation: Operation) -> io::Result<Outcome> {
        let (client, process) = (self.work.client, self.work.process);
        let invoked = system::now();
        let outcome = self.files.perform(object, &operation);
        let returned = Some(system::now());
        let call = Call { client, process, invoked, returned, object, operation, outcome };
        writeln!(self.out, "{}", text::call_line(&call))?;
        Ok(call.outcome)
    }
}
