//! Files that were made a moment ago: the answer that says so may still be on its way into the kernel, which then knows
//! nothing yet of an inode that it is told to forget, and would believe the answer afterwards.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use crate::engine::leases::Key;

/// An answer has reached the kernel by then.
const ON_THE_WAY: Duration = Duration::from_secs(1);
/// Files remembered. With more than that the oldest are forgotten: they were made long before.
const MADE_MAX: usize = 16_384;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Made {
    order: VecDeque<(Duration, Key)>,
    files: HashSet<Key>,
}

impl Made {
    /// Inode numbers are never used again, so that each comes once.
    pub(super) fn add(&mut self, key: Key, now: Duration) {
        self.prune(now);
        if self.order.len() >= MADE_MAX
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.files.remove(&oldest);
        }
        self.order.push_back((now, key));
        self.files.insert(key);
    }

    pub(super) fn has(&mut self, key: Key, now: Duration) -> bool {
        self.prune(now);
        self.files.contains(&key)
    }

    fn prune(&mut self, now: Duration) {
        while let Some((at, key)) = self.order.front().copied() {
            if now.saturating_sub(at) < ON_THE_WAY {
                return;
            }
            self.order.pop_front();
            self.files.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_remembered_for_a_second_and_the_oldest_go_first() {
        let mut made = Made::default();
        let at = Duration::from_millis;
        made.add((1, 2), at(0));
        made.add((1, 3), at(500));
        assert!(made.has((1, 2), at(999)) && !made.has((2, 2), at(999)));
        assert!(!made.has((1, 2), at(1000)) && made.has((1, 3), at(1000)));
        for ino in 0..=MADE_MAX as u64 {
            made.add((9, ino), at(1200));
        }
        assert!(!made.has((9, 0), at(1200)) && made.has((9, 1), at(1200)));
        assert_eq!((made.order.len(), made.files.len()), (MADE_MAX, MADE_MAX));
    }
}
