//! Which changes of a file are too late: an attempt that its client has given up must not come over what the client, or a
//! later holder of the right to write, has done since. See `docs/protocols/leases.md`, "Late attempts".
//!
//! Per file the latest turn that was seen counts. What is older is refused; what is newer waits until all that is older and
//! was let in before has ended. Nothing of this outlives the process: neither do requests.

use std::collections::{BTreeMap, VecDeque};

use proto::osd::Turn;

/// Volume and the number under which data is stored.
pub(crate) type FileKey = (u64, u64);

/// Files remembered at most; those that came first and are not being changed are forgotten then.
const FILES_MAX: usize = 65_536;

/// May a change be made?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Yes; [`Turns::leave`] follows.
    In,
    /// Not before older ones have ended: [`Turns::may_go`].
    Waits,
    /// It is too late, this was seen.
    TooLate(Turn),
}

#[derive(Debug, Default)]
struct File {
    latest: Turn,
    /// Being made, with how many of each turn: few, and nearly always one.
    inside: Vec<(Turn, u32)>,
}

impl File {
    fn has_older(&self, turn: Turn) -> bool {
        self.inside.iter().any(|(other, _)| *other < turn)
    }
}

/// The turns of all files that were changed under leases.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    files: BTreeMap<FileKey, File>,
    /// In the order in which they were first seen.
    order: VecDeque<FileKey>,
}

impl Turns {
    /// A change arrives. Unless it is too late it counts as inside from here on, also while it waits.
    pub(crate) fn enter(&mut self, key: FileKey, turn: Turn) -> Entry {
        if !self.files.contains_key(&key) {
            self.forget_some();
            self.order.push_back(key);
        }
        let file = self.files.entry(key).or_default();
        if turn < file.latest {
            return Entry::TooLate(file.latest);
        }
        file.latest = turn;
        match file.inside.iter_mut().find(|(other, _)| *other == turn) {
            Some((_, count)) => *count += 1,
            None => file.inside.push((turn, 1)),
        }
        if file.has_older(turn) { Entry::Waits } else { Entry::In }
    }

    /// Whether one that waits may go on, or has become too late meanwhile. [`Turns::leave`] follows then too.
    pub(crate) fn may_go(&self, key: FileKey, turn: Turn) -> Entry {
        let Some(file) = self.files.get(&key) else { return Entry::In };
        if turn < file.latest {
            return Entry::TooLate(file.latest);
        }
        if file.has_older(turn) { Entry::Waits } else { Entry::In }
    }

    /// It has ended: what it changed is ordered before all that comes later, or it was not made.
    pub(crate) fn leave(&mut self, key: FileKey, turn: Turn) {
        let Some(file) = self.files.get_mut(&key) else { return };
        if let Some(at) = file.inside.iter().position(|(other, _)| *other == turn) {
            file.inside[at].1 -= 1;
            if file.inside[at].1 == 0 {
                file.inside.swap_remove(at);
            }
        }
    }

    fn forget_some(&mut self) {
        for _ in 0..self.order.len() {
            if self.files.len() < FILES_MAX {
                return;
            }
            let Some(key) = self.order.pop_front() else { return };
            if self.files.get(&key).is_some_and(|file| !file.inside.is_empty()) {
                self.order.push_back(key);
            } else {
                self.files.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
