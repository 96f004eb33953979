//! Processes in virtual time on the file system in memory.

use super::bugs::Bug;
use super::memory::Memory;
use crate::dice::Dice;
use crate::history::{Call, Event, FileOp, Happening, History, Operation, Outcome};
use crate::workload::{Actor, Class, Round};

/// Processes; those with even numbers are of client 0, the others of client 1.
const PROCESSES: u16 = 6;

/// Calls of a process in a round.
const CALLS_IN_ROUND: u32 = 24;

/// Longest time that a process waits for a lock, nanoseconds of virtual time: longer than a round of a file system
/// that gives locks back.
const LOCK_PATIENCE: u64 = 2_000_000;

/// What to simulate.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The bug, if any.
    pub bug: Option<Bug>,
    /// The same seed gives the same history.
    pub seed: u64,
    /// Calls, about.
    pub calls: usize,
    /// Kinds of calls.
    pub classes: Vec<Class>,
    /// Power is lost once in each round.
    pub power_losses: bool,
    /// A client is shut out once in each round.
    pub fences: bool,
}

/// How far a process has come with its call.
enum Doing {
    Idle,
    /// Invoked; takes effect at the process's time.
    Called(Call),
    /// Took effect; returns at the process's time.
    Returning(Call),
    Finished,
}

struct Process {
    actor: Actor,
    at: u64,
    doing: Doing,
    left: u32,
}

struct Simulator<'a> {
    setting: &'a Setting,
    memory: Memory,
    dice: Dice,
    history: History,
    processes: Vec<Process>,
    now: u64,
}

/// The history of one run.
#[must_use]
pub fn simulate(setting: &Setting) -> History {
    let actor = |process| Actor::new(process, setting.seed, &setting.classes, setting.power_losses);
    let process = |number| Process { actor: actor(number), at: 0, doing: Doing::Finished, left: 0 };
    let mut simulator = Simulator {
        setting,
        memory: Memory::new(setting.bug, setting.seed),
        dice: Dice::new(setting.seed),
        history: History::default(),
        processes: (0..PROCESSES).map(process).collect(),
        now: 0,
    };
    let mut number = 0;
    while simulator.history.calls.len() < setting.calls {
        simulator.round(Round(number));
        number += 1;
    }
    simulator.history
}

impl Simulator<'_> {
    fn round(&mut self, round: Round) {
        self.memory.clear();
        self.now += 1_000;
        self.alone(0, round.prepare(&self.setting.classes));
        // What may be left after a loss of power is searched for in all orders: fewer calls.
        let (busy, calls) = if self.setting.power_losses { (3, 12) } else { (PROCESSES, CALLS_IN_ROUND) };
        for process in &mut self.processes[..usize::from(busy)] {
            (process.at, process.doing, process.left) = (self.now, Doing::Idle, calls);
        }
        let mut trouble = self.setting.power_losses || self.setting.fences;
        let trouble_at = self.now + 15_000 + self.dice.below(40_000);
        while let Some(next) = self.next_process() {
            if trouble && self.processes[next].at > trouble_at {
                trouble = false;
                self.trouble(trouble_at);
                continue;
            }
            self.step(next, round);
        }
        self.now += 200_000;
        for process in [0, 1] {
            self.alone(process, round.look(&self.setting.classes));
        }
    }

    fn next_process(&self) -> Option<usize> {
        let busy = self.processes.iter().enumerate().filter(|(_, one)| !matches!(one.doing, Doing::Finished));
        busy.min_by_key(|(_, one)| one.at).map(|(number, _)| number)
    }

    /// Calls of one process while no other makes any.
    fn alone(&mut self, process: u16, calls: Vec<(crate::history::Object, Operation)>) {
        for (object, operation) in calls {
            self.memory.advance(self.now);
            let mut call = begun(process, self.now, object, operation);
            let outcome = self.memory.perform(&call).unwrap_or(Outcome::Unknown);
            self.now += 1_000;
            (call.outcome, call.returned) = (outcome, Some(self.now));
            self.now += 1_000;
            self.history.calls.push(call);
        }
    }

    fn step(&mut self, number: usize, round: Round) {
        let wait = 200 + self.dice.below(3_000);
        let process = &mut self.processes[number];
        self.now = self.now.max(process.at);
        let now = process.at;
        match std::mem::replace(&mut process.doing, Doing::Finished) {
            Doing::Finished => {}
            Doing::Idle => {
                let asked = if process.left > 0 {
                    process.left -= 1;
                    Some(process.actor.next(round))
                } else {
                    process.actor.finish(round).into_iter().next()
                };
                let Some((object, operation)) = asked else { return };
                process.doing = Doing::Called(begun(number as u16, now, object, operation));
                process.at = now + wait;
            }
            Doing::Called(mut call) => {
                self.memory.advance(now);
                let outcome = self.memory.perform(&call);
                let process = &mut self.processes[number];
                process.at = now + wait;
                process.doing = match outcome {
                    Some(outcome) => {
                        call.outcome = outcome;
                        Doing::Returning(call)
                    }
                    // A lock that nobody gives back: the caller is interrupted.
                    None if now > call.invoked + LOCK_PATIENCE => Doing::Returning(call),
                    None => Doing::Called(call),
                };
            }
            Doing::Returning(mut call) => {
                call.returned = Some(now);
                process.actor.learn(&call.operation, &call.outcome);
                self.history.calls.push(call);
                (process.doing, process.at) = (Doing::Idle, now + wait);
            }
        }
    }

    /// Power is lost, or client 1 is shut out.
    fn trouble(&mut self, at: u64) {
        self.memory.advance(at);
        let what = if self.setting.power_losses { Happening::PowerLost } else { Happening::Fenced(1) };
        for number in 0..self.processes.len() {
            if what == Happening::PowerLost || number % 2 == 1 {
                self.interrupt(number, at);
            }
        }
        if what == Happening::PowerLost {
            self.memory.lose_power();
            for client in [0, 1] {
                self.history.events.push(Event { at, what: Happening::Fenced(client) });
            }
        }
        self.history.events.push(Event { at, what });
    }

    /// The process never learns what came of its call.
    fn interrupt(&mut self, number: usize, at: u64) {
        let process = &mut self.processes[number];
        if self.setting.power_losses {
            process.actor.crashed();
        }
        let doing = std::mem::replace(&mut process.doing, Doing::Idle);
        process.at = at + 1_000;
        match doing {
            Doing::Called(mut call) | Doing::Returning(mut call) if call.invoked < at => {
                let late = matches!(call.operation, Operation::File(FileOp::Write { .. }))
                    && !call.outcome.is_ok()
                    && self.setting.bug == Some(Bug::WriteAfterFence);
                if late {
                    self.memory.after_fence(call.clone());
                }
                (call.outcome, call.returned) = (Outcome::Unknown, Some(at));
                self.history.calls.push(call);
            }
            Doing::Finished => self.processes[number].doing = Doing::Finished,
            _ => {}
        }
    }
}

fn begun(process: u16, now: u64, object: crate::history::Object, operation: Operation) -> Call {
    let (client, outcome) = (process % 2, Outcome::Unknown);
    Call { client, process, invoked: now, returned: None, object, operation, outcome }
}
