//! Who waits for a lock, and whether that could ever end.

use std::collections::{BTreeMap, BTreeSet};

use proto::locks::Owner;

use super::sessions::FileId;

/// Most requests that wait for locks.
const WAITING_MAX: usize = 16_384;

/// What a request waits for.
#[derive(Debug)]
struct Waiter<W> {
    file: FileId,
    owner: Owner,
    blockers: BTreeSet<Owner>,
    /// `flock` waiters take no part in deadlock detection (POSIX asks it of `fcntl` only).
    fcntl: bool,
    wake: W,
}

/// Why a request may not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It would wait for someone who waits for it.
    Deadlock,
    /// Too many wait already.
    Full,
}

/// Waiting requests, oldest first. `W` wakes one.
#[derive(Debug)]
pub struct Waiting<W> {
    next: u64,
    waiters: BTreeMap<u64, Waiter<W>>,
}

impl<W> Default for Waiting<W> {
    fn default() -> Self {
        Self { next: 1, waiters: BTreeMap::new() }
    }
}

impl<W> Waiting<W> {
    /// Starts to wait for `blockers`; the number is for [`Waiting::leave`].
    pub fn enter(
        &mut self,
        file: FileId,
        owner: Owner,
        fcntl: bool,
        blockers: BTreeSet<Owner>,
        wake: W,
    ) -> Result<u64, Refused> {
        if fcntl && self.leads_back(owner, &blockers) {
            return Err(Refused::Deadlock);
        }
        if self.waiters.len() >= WAITING_MAX {
            return Err(Refused::Full);
        }
        let number = self.next;
        self.next += 1;
        self.waiters.insert(number, Waiter { file, owner, blockers, fcntl, wake });
        Ok(number)
    }

    /// Stops waiting.
    pub fn leave(&mut self, number: u64) {
        self.waiters.remove(&number);
    }

    /// The waiters of a file, oldest first: its locks changed, they try again.
    pub fn of_file(&self, file: FileId) -> impl Iterator<Item = &W> {
        self.waiters.values().filter(move |waiter| waiter.file == file).map(|waiter| &waiter.wake)
    }

    /// All waiters.
    pub fn all(&self) -> impl Iterator<Item = &W> {
        self.waiters.values().map(|waiter| &waiter.wake)
    }

    /// Whether one of `blockers` waits, directly or through others, for `owner`.
    fn leads_back(&self, owner: Owner, blockers: &BTreeSet<Owner>) -> bool {
        let mut seen = BTreeSet::new();
        let mut open: Vec<Owner> = blockers.iter().copied().collect();
        while let Some(at) = open.pop() {
            if at == owner {
                return true;
            }
            if seen.insert(at) {
                let waits = self.waiters.values().filter(|waiter| waiter.fcntl && waiter.owner == at);
                open.extend(waits.flat_map(|waiter| waiter.blockers.iter().copied()));
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_of_waiters_is_refused_and_a_chain_is_not() {
        let mut waiting = Waiting::default();
        let [a, b, c] = [(1, 1), (1, 2), (2, 1)];
        let first = waiting.enter((1, 7), a, true, BTreeSet::from([b]), ()).unwrap();
        waiting.enter((1, 8), b, true, BTreeSet::from([c]), ()).unwrap();
        assert_eq!(waiting.enter((1, 9), c, true, BTreeSet::from([a]), ()), Err(Refused::Deadlock));
        waiting.enter((1, 9), c, false, BTreeSet::from([a]), ()).unwrap();
        waiting.leave(first);
        waiting.enter((1, 9), c, true, BTreeSet::from([a]), ()).unwrap();
        assert_eq!(waiting.of_file((1, 9)).count(), 2);
        assert_eq!(waiting.all().count(), 3);
    }
}
