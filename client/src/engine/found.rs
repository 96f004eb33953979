//! By which name a kernel found an inode last. It resolves the names of link(2) and rename(2) one after the other, before it asks for
//! anything: with this can be told whether one of them was moved by another client in between.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::HashMap;
use std::time::Duration;

use proto::mrc::{Attr, FoundAs, kind};

/// Names kept at most; then all are forgotten, which costs nothing but the check.
const NAMES_MAX: usize = 65_536;
/// Threads kept at most.
const THREADS_MAX: usize = 1024;
/// A kernel looks again once: a thread that was told to is not told again so soon.
const ONCE: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug, Default)]
pub struct Found {
    names: HashMap<u64, FoundAs>,
    told: HashMap<u32, Duration>,
}

impl Found {
    /// A name led to an inode.
    pub fn learn(&mut self, ino: u64, parent: u64, name: &[u8]) {
        if self.names.len() >= NAMES_MAX && !self.names.contains_key(&ino) {
            self.names.clear();
        }
        self.names.insert(ino, FoundAs { parent, name: name.to_vec() });
    }

    /// A thread looked a name up. True: it has to begin anew (`ESTALE`), for the inode was found by another name before and has only
    /// one, so that it was moved since; the same call may have resolved the former name a moment ago.
    pub fn looks_again(&mut self, attr: &Attr, parent: u64, name: &[u8], thread: u32, now: Duration) -> bool {
        let has_one_name = attr.nlink == 1 || attr.mode >> 12 == kind::DIR;
        let before = self.names.get(&attr.ino);
        let moved = has_one_name && before.is_some_and(|found| found.parent != parent || found.name != name);
        self.learn(attr.ino, parent, name);
        if !moved || !self.may_tell(thread, now) {
            return false;
        }
        self.tell(thread, now);
        true
    }

    /// The name by which a thread that links an inode found it, if it may be told that this leads elsewhere.
    #[must_use]
    pub fn name_of(&self, ino: u64, thread: u32, now: Duration) -> Option<FoundAs> {
        self.names.get(&ino).filter(|_| self.may_tell(thread, now)).cloned()
    }

    /// It does, and the thread was told: its kernel looks again, or has the inode open and needs no name.
    pub fn leads_elsewhere(&mut self, ino: u64, thread: u32, now: Duration) {
        self.names.remove(&ino);
        self.tell(thread, now);
    }

    /// A second time the call would fail.
    fn may_tell(&self, thread: u32, now: Duration) -> bool {
        thread != 0 && self.told.get(&thread).is_none_or(|at| now.saturating_sub(*at) >= ONCE)
    }

    fn tell(&mut self, thread: u32, now: Duration) {
        if self.told.len() >= THREADS_MAX {
            self.told.clear();
        }
        self.told.insert(thread, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_name_counts_and_the_table_has_an_end() {
        let mut found = Found::default();
        found.learn(7, 1, b"a");
        found.learn(7, 2, b"b");
        let at = Duration::from_millis;
        assert_eq!(found.name_of(7, 3, at(0)), Some(FoundAs { parent: 2, name: b"b".to_vec() }));
        found.leads_elsewhere(7, 3, at(0));
        found.learn(7, 2, b"c");
        assert_eq!(found.name_of(7, 3, at(10)), None, "told once");
        assert!(found.name_of(7, 4, at(10)).is_some() && found.name_of(7, 3, at(500)).is_some());
        for ino in 0..=NAMES_MAX as u64 {
            found.learn(ino, 1, b"x");
        }
        assert_eq!((found.names.len(), found.name_of(0, 9, at(0))), (1, None));
    }

    #[test]
    fn what_was_moved_by_others_is_looked_up_again_once() {
        let (file, at) = (Attr { ino: 7, nlink: 1, ..Attr::default() }, Duration::from_millis);
        let mut found = Found::default();
        assert!(!found.looks_again(&file, 1, b"a", 3, at(0)), "never seen");
        assert!(!found.looks_again(&file, 1, b"a", 3, at(1)), "as before");
        assert!(found.looks_again(&file, 1, b"b", 3, at(2)));
        assert!(!found.looks_again(&file, 1, b"b", 3, at(3)), "that is its name now");
        assert!(!found.looks_again(&file, 1, b"c", 3, at(4)), "a kernel does it once");
        assert!(found.looks_again(&file, 1, b"d", 4, at(5)), "another thread");
        assert!(found.looks_again(&file, 1, b"e", 3, at(600)));
        let linked = Attr { nlink: 2, ..file };
        assert!(!found.looks_again(&linked, 1, b"f", 3, at(2000)), "both names are its");
        for thread in 0..=THREADS_MAX as u32 {
            found.learn(7, 9, b"x");
            found.looks_again(&linked, 1, b"y", thread, at(3000));
        }
        assert!(found.told.len() <= THREADS_MAX);
    }
}
