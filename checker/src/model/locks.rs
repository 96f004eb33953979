//! Locks on one file: who holds which cell in which mode. `fcntl` and `flock` know nothing of one another.

use std::collections::BTreeMap;

use super::Part;
use crate::history::{LockKind, LockOp, Operation, Outcome};
use crate::search::{Model, Step};

/// Holders of each cell, and whether they exclude others.
pub type Held = BTreeMap<(LockKind, u32, u16), bool>;

/// The model of one file's locks.
#[derive(Debug)]
pub struct Locks {
    calls: Vec<Option<Ask>>,
}

#[derive(Debug)]
struct Ask {
    owner: u16,
    op: LockOp,
    outcome: Outcome,
}

impl Locks {
    /// A model of these calls.
    #[must_use]
    pub fn new(parts: &[Part<'_>]) -> Self {
        let ask = |part: &Part<'_>| {
            let call = part.call?;
            let Operation::Lock(op) = &call.operation else { return None };
            Some(Ask { owner: call.process, op: op.clone(), outcome: call.outcome.clone() })
        };
        Self { calls: parts.iter().map(ask).collect() }
    }
}

/// The cells of a lock: a `flock` is always about the whole file.
fn cells(kind: LockKind, at: u32, count: u32) -> std::ops::Range<u32> {
    match kind {
        LockKind::Flock => 0..1,
        LockKind::Fcntl => at..at + count,
    }
}

/// Whether somebody else's lock is in the way.
#[must_use]
pub fn blocked(held: &Held, kind: LockKind, owner: u16, exclusive: bool, at: u32, count: u32) -> bool {
    let range = cells(kind, at, count);
    held.iter().any(|((other_kind, cell, other), other_exclusive)| {
        *other_kind == kind && *other != owner && range.contains(cell) && (exclusive || *other_exclusive)
    })
}

/// Takes or changes a lock.
pub fn take(held: &mut Held, kind: LockKind, owner: u16, exclusive: bool, at: u32, count: u32) {
    for cell in cells(kind, at, count) {
        held.insert((kind, cell, owner), exclusive);
    }
}

/// Gives cells back.
pub fn release(held: &mut Held, kind: LockKind, owner: u16, at: u32, count: u32) {
    for cell in cells(kind, at, count) {
        held.remove(&(kind, cell, owner));
    }
}

impl Model for Locks {
    type State = Held;
    type Stage = ();

    fn start(&self) -> Held {
        Held::new()
    }

    fn steps(&self, held: &Held, call: usize, (): &(), out: &mut Vec<Step<Held, ()>>) {
        // Power went: with the processes their locks are gone.
        let Some(ask) = &self.calls[call] else { return out.push(Step::Changed(Held::new())) };
        match ask.op {
            LockOp::Unlock { kind, at, count } => match ask.outcome {
                Outcome::Failed(_) => {}
                Outcome::Ok(_) | Outcome::Unknown => {
                    let mut next = held.clone();
                    release(&mut next, kind, ask.owner, at, count);
                    out.push(Step::Changed(next));
                }
            },
            LockOp::Lock { kind, exclusive, at, count, wait } => {
                let blocked = blocked(held, kind, ask.owner, exclusive, at, count);
                match &ask.outcome {
                    Outcome::Failed(libc::EAGAIN | libc::EACCES) if !wait && blocked => out.push(Step::Seen),
                    Outcome::Failed(libc::EDEADLK) if wait && blocked => out.push(Step::Seen),
                    Outcome::Failed(_) => {}
                    Outcome::Ok(_) | Outcome::Unknown if !blocked => {
                        let mut next = held.clone();
                        take(&mut next, kind, ask.owner, exclusive, at, count);
                        out.push(Step::Changed(next));
                    }
                    Outcome::Ok(_) | Outcome::Unknown => {}
                }
            }
        }
    }
}

/// The state in words.
#[must_use]
pub fn describe(held: &Held) -> String {
    if held.is_empty() {
        return "no lock is held".into();
    }
    let one = |((kind, cell, owner), exclusive): (&(LockKind, u32, u16), &bool)| {
        let kind = if *kind == LockKind::Fcntl { "fcntl" } else { "flock" };
        format!("process {owner} holds {kind} {} on {cell}", if *exclusive { "exclusive" } else { "shared" })
    };
    held.iter().map(one).collect::<Vec<_>>().join(", ")
}
