//! Free space of a shard: runs of blocks, by place and by length. Kept in memory only; rebuilt at start.
//!
//! Invariant: free runs are disjoint, not adjacent, and inside `0..total`.

use std::collections::{BTreeMap, BTreeSet};

/// Consecutive blocks of the shard's data area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// First block.
    pub start: u64,
    /// How many.
    pub count: u64,
}

/// A block was given back or taken twice: two objects claim it.
#[derive(Debug, thiserror::Error)]
#[error("blocks {start}..{end} are claimed twice")]
pub struct ClaimedTwice {
    /// First block of the run.
    pub start: u64,
    /// One past its last.
    pub end: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Allocator {
    by_start: BTreeMap<u64, u64>,
    by_count: BTreeSet<(u64, u64)>,
    free: u64,
    total: u64,
}

impl Allocator {
    /// Everything below `total` is free.
    #[must_use]
    pub fn new(total: u64) -> Self {
        let mut allocator = Self { total, ..Self::default() };
        if total > 0 {
            allocator.insert(0, total);
            allocator.free = total;
        }
        allocator
    }

    /// Free blocks.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.free
    }

    /// Blocks of the data area, free or not.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The data area grew to `total` blocks.
    pub fn grow(&mut self, total: u64) {
        assert!(total >= self.total, "a data area does not shrink");
        let (start, count) = (self.total, total - self.total);
        self.total = total;
        if count > 0 {
            self.merge_in(start, count);
        }
    }

    /// Takes `count` blocks, in one run if any run is long enough (the shortest such, then the lowest), else in
    /// the longest runs there are. `None`, and nothing taken, when there are not that many.
    pub fn take(&mut self, count: u64) -> Option<Vec<Run>> {
        if count > self.free {
            return None;
        }
        let mut runs = Vec::new();
        let mut missing = count;
        while missing > 0 {
            let fit = self.by_count.range((missing, 0)..).next().or_else(|| self.by_count.last());
            let &(length, start) = fit.expect("`free` counts what the sets hold");
            let used = length.min(missing);
            self.remove(start, length);
            if length > used {
                self.insert(start + used, length - used);
            }
            runs.push(Run { start, count: used });
            missing -= used;
        }
        self.free -= count;
        Some(runs)
    }

    /// Takes exactly this run: for rebuilding.
    pub fn claim(&mut self, run: Run) -> Result<(), ClaimedTwice> {
        let end = run.start + run.count;
        let twice = ClaimedTwice { start: run.start, end };
        let Some((&start, &length)) = self.by_start.range(..=run.start).next_back() else {
            return Err(twice);
        };
        if start + length < end {
            return Err(twice);
        }
        self.remove(start, length);
        if start < run.start {
            self.insert(start, run.start - start);
        }
        if end < start + length {
            self.insert(end, start + length - end);
        }
        self.free -= run.count;
        Ok(())
    }

    /// Gives a run back.
    pub fn release(&mut self, run: Run) {
        assert!(run.start + run.count <= self.total, "{run:?} lies outside the data area");
        self.merge_in(run.start, run.count);
    }

    fn merge_in(&mut self, mut start: u64, mut count: u64) {
        self.free += count;
        if let Some((&before, &length)) = self.by_start.range(..start).next_back() {
            assert!(before + length <= start, "block {start} was free already");
            if before + length == start {
                self.remove(before, length);
                start = before;
                count += length;
            }
        }
        if let Some((&after, &length)) = self.by_start.range(start..).next() {
            assert!(start + count <= after, "block {after} was free already");
            if start + count == after {
                self.remove(after, length);
                count += length;
            }
        }
        self.insert(start, count);
    }

    fn insert(&mut self, start: u64, count: u64) {
        self.by_start.insert(start, count);
        self.by_count.insert((count, start));
    }

    fn remove(&mut self, start: u64, count: u64) {
        self.by_start.remove(&start);
        self.by_count.remove(&(count, start));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a bitmap: never the same block twice, all or nothing, one run where one fits.
        #[test]
        fn behaves_like_a_bitmap(steps in proptest::collection::vec((0u8..3, 1u64..20, any::<prop::sample::Index>()), 1..80)) {
            let mut allocator = Allocator::new(64);
            let mut used = vec![false; 64];
            let mut held: Vec<Run> = Vec::new();
            for (what, count, pick) in steps {
                match what {
                    0 if !held.is_empty() => {
                        let run = held.swap_remove(pick.index(held.len()));
                        used[run.start as usize..(run.start + run.count) as usize].fill(false);
                        allocator.release(run);
                    }
                    1 if used.len() < 200 => {
                        used.resize(used.len() + count as usize, false);
                        allocator.grow(used.len() as u64);
                    }
                    _ => {
                        let free = used.iter().filter(|used| !**used).count() as u64;
                        let longest = used.split(|used| *used).map(<[bool]>::len).max().unwrap_or(0) as u64;
                        let taken = allocator.take(count);
                        prop_assert_eq!(taken.is_some(), count <= free);
                        for run in taken.clone().into_iter().flatten() {
                            for block in run.start..run.start + run.count {
                                prop_assert!(!std::mem::replace(&mut used[block as usize], true));
                            }
                            held.push(run);
                        }
                        if count <= longest {
                            prop_assert_eq!(taken.map(|runs| runs.len()), Some(1));
                        }
                    }
                }
                prop_assert_eq!(allocator.free(), used.iter().filter(|used| !**used).count() as u64);
            }
            // Rebuilding from what is held gives the same free space, and a double claim is seen.
            let mut rebuilt = Allocator::new(used.len() as u64);
            for run in &held {
                rebuilt.claim(*run).unwrap();
            }
            prop_assert_eq!(&rebuilt.by_start, &allocator.by_start);
            if let Some(run) = held.first() {
                prop_assert!(rebuilt.claim(*run).is_err());
            }
        }
    }
}
