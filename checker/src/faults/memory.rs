//! The file system in memory: each call is done at one instant, unless the bug that is switched on says otherwise.

mod cells;
mod records;
mod tree;

use std::collections::BTreeMap;

use super::bugs::Bug;
use crate::dice::Dice;
use crate::history::{Call, LockKind, LockOp, Object, Operation, Outcome, Value};
use crate::model::locks::{self, Held};
use crate::model::tree::{Inode, Names, ROOT, Tree};

/// How long after its acknowledgement a late effect comes, nanoseconds of virtual time.
const LATE: u64 = 40_000;

/// What an object holds.
#[derive(Debug, Clone)]
enum Thing {
    Tree(Box<Tree>),
    File(cells::Cells),
    Log(Vec<crate::history::Cell>),
    Locks(Held),
}

/// A late effect.
type Later = Box<dyn FnOnce(&mut Memory)>;

/// The file system.
pub(super) struct Memory {
    bug: Option<Bug>,
    dice: Dice,
    now: u64,
    /// Calls done, for numbers of inodes.
    done: u32,
    things: BTreeMap<Object, Thing>,
    /// What each client saw last of an object.
    views: BTreeMap<(u16, Object), Thing>,
    names: Names,
    later: Vec<(u64, Later)>,
    mtimes: BTreeMap<u32, u64>,
}

impl Memory {
    pub(super) fn new(bug: Option<Bug>, seed: u64) -> Self {
        Self {
            bug,
            dice: Dice::new(seed ^ 0xfa),
            now: 0,
            done: 0,
            things: BTreeMap::new(),
            views: BTreeMap::new(),
            names: Names::default(),
            later: Vec::new(),
            mtimes: BTreeMap::new(),
        }
    }

    /// Moves the clock: late effects come.
    pub(super) fn advance(&mut self, now: u64) {
        self.now = now;
        while let Some(place) = self.later.iter().position(|(due, _)| *due <= now) {
            let (_, effect) = self.later.remove(place);
            effect(self);
        }
    }

    /// Does a call; `None` if it waits for a lock.
    pub(super) fn perform(&mut self, call: &Call) -> Option<Outcome> {
        self.done += 1;
        let object = call.object;
        let thing = self.things.entry(object).or_insert_with(|| empty(object)).clone();
        let outcome = match &call.operation {
            Operation::Tree(op) => Some(self.tree_call(call, op)),
            Operation::File(op) => Some(self.file_call(call, op)),
            Operation::Log(op) => Some(self.log_call(call, op)),
            Operation::Lock(op) => self.lock_call(call, op),
        };
        // A client's cache is as old as its last look.
        if self.dice.one_in(3) || !self.views.contains_key(&(call.client, object)) {
            self.views.insert((call.client, object), thing);
        }
        outcome
    }

    /// What was not synced may be gone.
    pub(super) fn lose_power(&mut self) {
        self.later.clear();
        self.views.clear();
        let (dice, bug) = (&mut self.dice, self.bug);
        for thing in self.things.values_mut() {
            match thing {
                Thing::Tree(tree) => **tree = tree.lose_power(&mut |bound| dice.below(bound as u64) as usize),
                Thing::File(cells) => cells.lose_power(dice, bug),
                Thing::Locks(held) => held.clear(),
                Thing::Log(_) => {}
            }
        }
    }

    /// A call of a client that was shut out lands all the same.
    pub(super) fn after_fence(&mut self, call: Call) {
        self.late(move |memory| drop(memory.perform(&call)));
    }

    /// Forgets the objects of earlier rounds.
    pub(super) fn clear(&mut self) {
        self.things.clear();
        self.views.clear();
        self.later.clear();
        self.mtimes.clear();
    }

    /// Whether the bug strikes now: it is switched on, and one time in three.
    fn strikes(&mut self, bug: Bug) -> bool {
        self.bug == Some(bug) && self.dice.one_in(3)
    }

    fn late(&mut self, effect: impl FnOnce(&mut Self) + 'static) {
        self.later.push((self.now + LATE, Box::new(effect)));
    }

    fn lock_call(&mut self, call: &Call, op: &LockOp) -> Option<Outcome> {
        let owner = call.process;
        let Some(Thing::Locks(held)) = self.things.get(&call.object) else { return None };
        let mut held = held.clone();
        let done = Some(Outcome::Ok(Value::Nothing));
        match *op {
            LockOp::Unlock { kind, at, count } => {
                if self.strikes(Bug::UnlockIgnored) {
                    return done;
                }
                locks::release(&mut held, kind, owner, at, count);
                if self.strikes(Bug::UnlockTakesAll) {
                    held.retain(|(_, _, other), _| *other != owner);
                }
                if self.strikes(Bug::UnlockTakesOthers) {
                    held.retain(|(other_kind, ..), _| *other_kind != kind);
                }
            }
            LockOp::Lock { kind, exclusive, at, count, wait } => {
                if self.is_blocked(&held, kind, call, exclusive, at, count) {
                    return if wait { None } else { Some(Outcome::Failed(libc::EAGAIN)) };
                }
                let short = self.bug == Some(Bug::LockRangeShort) && count > 1;
                locks::take(&mut held, kind, owner, exclusive, at, if short { count - 1 } else { count });
                if self.strikes(Bug::LockLost) {
                    let object = call.object;
                    self.late(move |memory| {
                        if let Some(Thing::Locks(held)) = memory.things.get_mut(&object) {
                            locks::release(held, kind, owner, at, count);
                        }
                    });
                }
            }
        }
        self.things.insert(call.object, Thing::Locks(held));
        done
    }

    fn is_blocked(
        &mut self,
        held: &Held,
        kind: LockKind,
        call: &Call,
        exclusive: bool,
        at: u32,
        count: u32,
    ) -> bool {
        let owner = call.process;
        let mut seen = held.clone();
        match self.bug {
            // Processes with even numbers are of client 0, the others of client 1.
            Some(Bug::LockPerClient) => seen.retain(|(.., other), _| other % 2 == owner % 2),
            Some(Bug::LockSharedBesideExclusive) if !exclusive => seen.clear(),
            Some(Bug::LockExclusiveBesideShared) => seen.retain(|_, exclusive| *exclusive),
            Some(Bug::LockTwice) if exclusive && self.dice.one_in(3) => seen.clear(),
            Some(Bug::LockKindsMixed) => {
                seen = held.iter().map(|((_, cell, owner), mode)| ((kind, *cell, *owner), *mode)).collect();
            }
            Some(Bug::LockRangeLong) if kind == LockKind::Fcntl => {
                return locks::blocked(held, kind, owner, exclusive, at, count + 1);
            }
            _ => {}
        }
        locks::blocked(&seen, kind, owner, exclusive, at, count)
    }
}

fn empty(object: Object) -> Thing {
    match object {
        Object::Tree(_) => {
            let mut tree = Tree::default();
            tree.inodes.insert(ROOT, Inode::new(crate::history::Kind::Directory, 0o755));
            Thing::Tree(Box::new(tree))
        }
        Object::File(_) => Thing::File(cells::Cells::default()),
        Object::Log(_) => Thing::Log(Vec::new()),
        Object::Locks(_) => Thing::Locks(Held::new()),
    }
}
