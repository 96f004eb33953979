//! Which blocks of an object have changed since an earlier version of it: what a replica that has that version lacks.
//! The argument is in `docs/protocols/replication.md`, "Resync".
//!
//! Invariant: what an object holds at a version on its trail, and what it holds now, differ at most in the trail's
//! blocks. Everything that is forgotten or merged here only makes that set larger, or the trail shorter.

use std::collections::BTreeMap;

/// (epoch, number) of a version.
pub type Version = (u64, u64);

/// Ranges of blocks remembered per leg; more are merged with their nearest neighbour.
const RANGES_MAX: usize = 16;
/// Legs remembered per object; more are merged, or the oldest is dropped.
const LEGS_MAX: usize = 8;

/// Blocks (first, one past the last), ascending, apart from one another.
type Ranges = Vec<(u32, u32)>;

/// Versions of one epoch that an object went through: all between these two.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Leg {
    epoch: u64,
    first: u64,
    last: u64,
    /// What changed from any of them to the first version of the next leg (of the last leg: to what is here).
    blocks: Ranges,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Trail {
    /// Never empty; the last one ends with the version that the object has.
    legs: Vec<Leg>,
}

fn add(ranges: &mut Ranges, (from, to): (u32, u32)) {
    if from >= to {
        return;
    }
    // Those that touch it become one with it.
    let start = ranges.partition_point(|(_, end)| *end < from);
    let end = ranges.partition_point(|(first, _)| *first <= to);
    let merged = ranges[start..end].iter().fold((from, to), |(a, b), (c, d)| (a.min(*c), b.max(*d)));
    ranges.splice(start..end, [merged]);
}

fn limit(ranges: &mut Ranges) {
    while ranges.len() > RANGES_MAX {
        let gap = |at: &usize| ranges[at + 1].0 - ranges[*at].1;
        let nearest = (0..ranges.len() - 1).min_by_key(gap).unwrap_or(0);
        ranges[nearest].1 = ranges[nearest + 1].1;
        ranges.remove(nearest + 1);
    }
}

fn count(ranges: &Ranges) -> u32 {
    ranges.iter().map(|(from, to)| to - from).sum()
}

impl Trail {
    fn new((epoch, number): Version) -> Self {
        Self { legs: vec![Leg { epoch, first: number, last: number, blocks: Ranges::new() }] }
    }

    fn head(&self) -> Version {
        self.legs.last().map_or((0, 0), |leg| (leg.epoch, leg.last))
    }

    fn step(&mut self, (epoch, number): Version, ranges: impl Iterator<Item = (u32, u32)>) {
        if let Some(leg) = self.legs.last_mut() {
            ranges.for_each(|range| add(&mut leg.blocks, range));
            limit(&mut leg.blocks);
        }
        self.legs.push(Leg { epoch, first: number, last: number, blocks: Ranges::new() });
        if rt::site!("trail.shortened", self.legs.len() > LEGS_MAX) {
            self.shorten();
        }
    }

    /// Makes one leg of two where that costs a replica on the way the fewest blocks.
    fn shorten(&mut self) {
        let mut later = Ranges::new();
        let mut best: Option<(u32, usize)> = None;
        for at in (0..self.legs.len() - 1).rev() {
            let (leg, next) = (&self.legs[at], &self.legs[at + 1]);
            next.blocks.iter().for_each(|range| add(&mut later, *range));
            if leg.epoch == next.epoch && leg.last <= next.first {
                let mut all = later.clone();
                leg.blocks.iter().for_each(|range| add(&mut all, *range));
                let cost = count(&all) - count(&later);
                if best.is_none_or(|(least, _)| cost <= least) {
                    best = Some((cost, at));
                }
            }
        }
        let Some((_, at)) = best else { return drop(self.legs.remove(0)) };
        let next = self.legs.remove(at + 1);
        let leg = &mut self.legs[at];
        leg.last = next.last;
        next.blocks.into_iter().for_each(|range| add(&mut leg.blocks, range));
        limit(&mut leg.blocks);
    }

    /// What changed since a version; `None`: it was not passed, as far as is known.
    fn since(&self, (epoch, number): Version) -> Option<Ranges> {
        let on = |leg: &Leg| leg.epoch == epoch && (leg.first..=leg.last).contains(&number);
        // The last one: what is passed twice was the same both times.
        let at = self.legs.iter().rposition(on);
        rt::site!("trail.version_not_on_it", at.is_none());
        let at = at?;
        let mut blocks = Ranges::new();
        self.legs[at..].iter().flat_map(|leg| &leg.blocks).for_each(|range| add(&mut blocks, *range));
        Some(blocks)
    }
}

/// The trails of the objects that were changed last.
#[derive(Debug)]
pub struct Trails<K> {
    /// Touched since the last turn, and before it: what is in neither was not touched for long.
    young: BTreeMap<K, Trail>,
    old: BTreeMap<K, Trail>,
    most: usize,
}

impl<K: Ord> Trails<K> {
    /// Remembers at least the last `most` objects, at most twice as many.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { young: BTreeMap::new(), old: BTreeMap::new(), most: most.max(1) }
    }

    /// An object went from one version to another, and these blocks (first, one past the last) are all that may have
    /// changed by it.
    pub fn step(&mut self, key: K, from: Version, to: Version, ranges: impl Iterator<Item = (u32, u32)>) {
        let known = self.young.remove(&key).or_else(|| self.old.remove(&key));
        let mut trail = known.filter(|trail| trail.head() == from).unwrap_or_else(|| Trail::new(from));
        trail.step(to, ranges);
        if rt::site!("trail.old_forgotten", self.young.len() >= self.most) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, trail);
    }

    /// Nothing is known of what an object was before.
    pub fn forget(&mut self, key: &K) {
        if !self.young.is_empty() {
            self.young.remove(key);
        }
        if !self.old.is_empty() {
            self.old.remove(key);
        }
    }

    /// Blocks (first, one past the last) outside of which an object that has the version `head` is what it was at `since`;
    /// `None`: that is not known.
    #[must_use]
    pub fn since(&self, key: &K, head: Version, since: Version) -> Option<Vec<(u32, u32)>> {
        let trail = self.young.get(key).or_else(|| self.old.get(key))?;
        // (0, 0) is no object at all, and may be so more than once.
        if since == (0, 0) || trail.head() != head { None } else { trail.since(since) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BLOCKS: usize = 64;

    #[test]
    fn what_was_passed_is_on_the_trail_and_what_was_not_is_not() {
        let mut trails = Trails::new(8);
        trails.step(1, (3, 5), (3, 6), [(0, 1)].into_iter());
        trails.step(1, (3, 6), (3, 9), [(4, 6)].into_iter());
        trails.step(1, (3, 9), (7, 10), [(6, 7)].into_iter());
        let since = |version| trails.since(&1, (7, 10), version);
        assert_eq!(since((3, 6)), Some(vec![(4, 7)]));
        assert_eq!(since((3, 7)), None, "perhaps it was never passed");
        assert_eq!(since((3, 5)), Some(vec![(0, 1), (4, 7)]));
        assert_eq!((since((3, 9)), since((7, 10))), (Some(vec![(6, 7)]), Some(vec![])));
        for never in [(3, 4), (3, 10), (4, 6), (7, 9), (7, 11), (0, 0)] {
            assert_eq!(since(never), None, "{never:?} was never passed");
        }
        assert_eq!(trails.since(&1, (7, 11), (3, 6)), None, "another head");
        assert_eq!(trails.since(&2, (7, 10), (3, 6)), None, "another object");
        // Many steps of one epoch are few legs: what lies between was passed.
        for number in 11..40 {
            trails.step(1, (7, number - 1), (7, number), [(50, 51)].into_iter());
        }
        assert_eq!(trails.since(&1, (7, 39), (7, 20)), Some(vec![(50, 51)]));
        assert_eq!(trails.since(&1, (7, 39), (3, 9)), Some(vec![(6, 7), (50, 51)]));
        // A step from elsewhere: what is known ends.
        trails.step(1, (8, 1), (8, 2), [(1, 2)].into_iter());
        assert_eq!(trails.since(&1, (8, 2), (3, 6)), None);
        assert_eq!(trails.since(&1, (8, 2), (8, 1)), Some(vec![(1, 2)]));
        trails.forget(&1);
        assert_eq!(trails.since(&1, (8, 2), (8, 1)), None);
    }

    #[test]
    fn what_was_written_at_first_does_not_go_again() {
        let mut trails = Trails::new(8);
        trails.step(1, (0, 0), (3, 1), [(0, 256)].into_iter());
        // Somebody has (3, 1) and misses what comes now.
        for number in 2..60u32 {
            let block = number * 37 % 256;
            let (from, to) = ((3, u64::from(number) - 1), (3, u64::from(number)));
            trails.step(1, from, to, [(block, block + 1)].into_iter());
        }
        let missed = trails.since(&1, (3, 59), (3, 1)).unwrap();
        assert!(missed.iter().map(|(from, to)| to - from).sum::<u32>() < 256, "{missed:?}");
        let all = trails.since(&1, (3, 59), (3, 57)).unwrap();
        assert!(count(&all) <= 20, "{all:?}");
    }

    #[test]
    fn the_last_objects_are_remembered() {
        let mut trails = Trails::new(4);
        for key in 0..40 {
            trails.step(key, (1, 1), (1, 2), [(0, 1)].into_iter());
        }
        let known = |key: &u64| trails.since(key, (1, 2), (1, 1)).is_some();
        assert!((36..40).all(|key| known(&key)));
        assert!((0..40).filter(known).count() <= 8);
    }

    proptest! {
        /// Whoever has any earlier version and puts the blocks over it has what is here.
        #[test]
        fn a_patch_makes_it_equal(
            steps in proptest::collection::vec((0u32..64, 1u32..9, any::<bool>(), any::<bool>()), 1..60)
        ) {
            let mut trails = Trails::new(2);
            let (mut now, mut head) = ([0u64; BLOCKS], (1, 1));
            let mut history = vec![(head, now)];
            for (value, (first, count, new_epoch, forget)) in (1..).zip(steps) {
                let end = (first + count).min(BLOCKS as u32);
                now[first as usize..end as usize].fill(value);
                let next = if new_epoch { (head.0 + 1, head.1 + 1) } else { (head.0, head.1 + 2) };
                if forget && value % 7 == 0 {
                    trails.forget(&0);
                }
                trails.step(0, head, next, [(first, end)].into_iter());
                head = next;
                history.push((head, now));
            }
            let mut known = 0;
            for (version, mut content) in history {
                let Some(blocks) = trails.since(&0, head, version) else { continue };
                known += 1;
                prop_assert!(blocks.len() <= RANGES_MAX * LEGS_MAX);
                for (from, to) in blocks {
                    let range = from as usize..to as usize;
                    content[range.clone()].copy_from_slice(&now[range]);
                }
                prop_assert_eq!(content, now);
            }
            prop_assert!(known >= 2, "at least the last step is known");
        }
    }
}
