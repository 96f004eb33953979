//! Files that were made here and of which the MRC has yet to hear, in the order in which they were made. See
//! `docs/protocols/async-create.md`.
//!
//! ```text
//!   add ──> waiting ──begin()──> under way ──answered()──> over
//!                                  │    ^
//!                                  └────┘ not answered: the same batch goes again
//! ```
//!
//! One batch is under way at a time, so what is under way is always older than what waits, and "all up to a number are over" is one
//! comparison.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, VecDeque};

use proto::mrc::{CREATES_MAX, EarlyContent, EarlyFile, RESERVE_MAX};

/// A pool with fewer numbers than this is filled up.
const LOW: u64 = RESERVE_MAX as u64 / 2;

/// A file that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// In the order of making, from 1.
    pub number: u64,
    /// Its volume.
    pub volume: u64,
    /// What the MRC is told.
    pub file: EarlyFile,
}

/// What goes in one call.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The volume of all of them.
    pub volume: u64,
    /// In their order; may be none.
    pub files: Vec<EarlyFile>,
    /// Numbers to ask for.
    pub reserve: u32,
}

/// Inode numbers that this session may give to files, of one volume.
#[derive(Clone, Copy, Debug, Default)]
struct Pool {
    next: u64,
    left: u64,
    wanted: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Creates {
    last: u64,
    waiting: VecDeque<Made>,
    under_way: Vec<Made>,
    pools: BTreeMap<u64, Pool>,
    /// Asked for by the batch that is under way.
    reserving: Option<(u64, u32)>,
}

impl Creates {
    /// A number for a new file; `None`: there is none, and some will be asked for.
    pub fn take_number(&mut self, volume: u64) -> Option<u64> {
        let pool = self.pools.entry(volume).or_default();
        pool.wanted |= pool.left <= LOW;
        if pool.left == 0 {
            return None;
        }
        let ino = pool.next;
        (pool.next, pool.left) = (pool.next + 1, pool.left - 1);
        Some(ino)
    }

    /// What is left is not used: it is from before something that a number must be younger than.
    pub fn drop_numbers(&mut self) {
        self.pools.clear();
        // Also what is being asked for at this moment.
        self.reserving = None;
    }

    /// A file was made.
    pub fn add(&mut self, volume: u64, file: EarlyFile) -> u64 {
        self.last += 1;
        self.waiting.push_back(Made { number: self.last, volume, file });
        self.last
    }

    /// How many were not answered for.
    #[must_use]
    pub fn count(&self) -> usize {
        self.waiting.len() + self.under_way.len()
    }

    /// The number of the file that was made last.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Whether the MRC has answered for all files up to a number.
    #[must_use]
    pub fn are_over(&self, upto: u64) -> bool {
        let oldest = self.under_way.first().or(self.waiting.front());
        oldest.is_none_or(|made| made.number > upto)
    }

    /// Whether there is something to send.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.waiting.is_empty() || !self.under_way.is_empty() || self.pools.values().any(|pool| pool.wanted)
    }

    /// The numbers of those that go next; none while some are under way.
    #[must_use]
    pub fn next(&self) -> Vec<u64> {
        if !self.under_way.is_empty() {
            return Vec::new();
        }
        let volume = self.waiting.front().map(|made| made.volume);
        let of_volume = self.waiting.iter().take_while(|made| Some(made.volume) == volume);
        of_volume.take(CREATES_MAX).map(|made| made.number).collect()
    }

    /// The first `count` of them go under way, of which nothing was told yet.
    pub fn begin(&mut self, count: usize) {
        let next = self.next().len().min(count);
        self.under_way.extend(self.waiting.drain(..next));
    }

    /// What is in a file that has just gone under way is told with it, also when it is told again.
    pub fn fill(&mut self, number: u64, content: EarlyContent) {
        if let Some(made) = self.under_way.iter_mut().find(|made| made.number == number) {
            made.file.content = Some(content);
        }
    }

    /// What goes now, or once more: what is under way, and numbers.
    pub fn batch(&mut self) -> Option<Batch> {
        let wanting = || self.pools.iter().find(|(_, pool)| pool.wanted).map(|(volume, _)| *volume);
        let volume = self.under_way.first().map(|made| made.volume).or_else(wanting)?;
        let is_wanted = self.pools.get(&volume).is_some_and(|pool| pool.wanted);
        let reserve = if is_wanted { RESERVE_MAX } else { 0 };
        self.reserving = (reserve > 0).then_some((volume, reserve));
        let files = self.under_way.iter().map(|made| made.file.clone()).collect();
        Some(Batch { volume, files, reserve })
    }

    /// What is under way.
    #[must_use]
    pub fn under_way(&self) -> Vec<Made> {
        self.under_way.clone()
    }

    /// The batch was answered; `first`: the first of the numbers that it asked for. Gives the files of it.
    pub fn answered(&mut self, first: u64) -> Vec<Made> {
        if let Some((volume, count)) = self.reserving.take()
            && first != 0
        {
            // What was left of the pool is lost, which is nothing: it is asked for when little is left.
            self.pools.insert(volume, Pool { next: first, left: u64::from(count), wanted: false });
        }
        std::mem::take(&mut self.under_way)
    }

    /// No number will come: nobody asks again until one is missed.
    pub fn gave_up_numbers(&mut self) {
        self.reserving = None;
        self.pools.clear();
    }

    /// The session was expelled: none of them is made. Gives them.
    pub fn lost(&mut self) -> Vec<Made> {
        self.drop_numbers();
        let mut lost = std::mem::take(&mut self.under_way);
        lost.extend(std::mem::take(&mut self.waiting));
        lost
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All that may go.
    fn all(creates: &mut Creates) -> Option<Batch> {
        creates.begin(usize::MAX);
        creates.batch()
    }

    fn file(ino: u64) -> EarlyFile {
        EarlyFile { ino, ..EarlyFile::default() }
    }

    #[test]
    fn files_go_in_order_in_batches_of_one_volume_and_go_again_until_answered() {
        let mut creates = Creates::default();
        for ino in 0..CREATES_MAX as u64 + 1 {
            creates.add(1, file(ino));
        }
        creates.add(2, file(900));
        let first = all(&mut creates).unwrap();
        assert_eq!((first.volume, first.files.len(), first.reserve), (1, CREATES_MAX, 0));
        creates.add(1, file(901));
        assert_eq!(all(&mut creates).unwrap(), first, "not answered: the same again");
        assert!(!creates.are_over(1) && creates.are_over(0));
        assert_eq!(creates.answered(0).len(), CREATES_MAX);
        assert!(creates.are_over(CREATES_MAX as u64) && !creates.are_over(CREATES_MAX as u64 + 1));
        let inos = |batch: Batch| batch.files.iter().map(|file| file.ino).collect::<Vec<_>>();
        assert_eq!(inos(all(&mut creates).unwrap()), [CREATES_MAX as u64]);
        creates.answered(0);
        assert_eq!(inos(all(&mut creates).unwrap()), [900]);
        creates.answered(0);
        assert_eq!(inos(all(&mut creates).unwrap()), [901]);
        creates.answered(0);
        assert!(all(&mut creates).is_none() && !creates.has_work() && creates.are_over(creates.last()));
    }

    #[test]
    fn what_is_in_a_file_goes_with_it_each_time() {
        let mut creates = Creates::default();
        assert!(creates.next().is_empty());
        creates.add(1, file(5));
        assert_eq!(creates.next(), [1]);
        creates.begin(9);
        creates.add(1, file(6));
        assert!(creates.next().is_empty(), "one batch at a time");
        creates.begin(9);
        let content = EarlyContent { crc: 7, ..EarlyContent::default() };
        creates.fill(1, content.clone());
        creates.fill(2, content.clone());
        for _ in 0..2 {
            let batch = all(&mut creates).unwrap();
            let told: Vec<_> = batch.files.iter().map(|file| (file.ino, file.content.clone())).collect();
            assert_eq!(told, [(5, Some(content.clone()))]);
        }
        creates.answered(0);
        assert_eq!(all(&mut creates).unwrap().files[0].content, None, "it was not under way");
    }

    #[test]
    fn some_may_be_left_for_the_next_batch() {
        let mut creates = Creates::default();
        for ino in 5..9 {
            creates.add(1, file(ino));
        }
        creates.begin(0);
        assert_eq!(creates.batch(), None);
        creates.begin(3);
        assert_eq!(creates.batch().unwrap().files.len(), 3);
        creates.answered(0);
        assert_eq!((creates.next(), creates.has_work()), (vec![4], true));
    }

    #[test]
    fn numbers_are_asked_for_when_few_are_left_and_each_is_given_once() {
        let mut creates = Creates::default();
        assert_eq!(creates.take_number(1), None);
        let batch = all(&mut creates).unwrap();
        assert_eq!((batch.volume, batch.files.len(), batch.reserve), (1, 0, RESERVE_MAX));
        creates.answered(500);
        assert!(all(&mut creates).is_none(), "enough are there");
        let mut given: Vec<u64> = Vec::new();
        for _ in 0..RESERVE_MAX {
            given.extend(creates.take_number(1));
        }
        assert_eq!(given, (500..500 + u64::from(RESERVE_MAX)).collect::<Vec<_>>());
        assert_eq!(creates.take_number(1), None);
        assert_eq!(all(&mut creates).unwrap().reserve, RESERVE_MAX);
        // Dropped while they are asked for: what comes is from before.
        creates.drop_numbers();
        creates.answered(5000);
        assert_eq!(creates.take_number(1), None);
    }

    #[test]
    fn what_was_lost_is_over() {
        let mut creates = Creates::default();
        creates.add(1, file(5));
        all(&mut creates);
        creates.add(1, file(6));
        assert_eq!(creates.lost().iter().map(|made| made.file.ino).collect::<Vec<_>>(), [5, 6]);
        assert!(creates.are_over(2) && all(&mut creates).is_none());
        assert_eq!(creates.answered(0), []);
    }

    proptest! {
        #[test]
        fn every_file_is_told_once_in_order(steps in prop::collection::vec((0..4u8, 1..3u64), 1..200)) {
            let mut creates = Creates::default();
            let (mut told, mut made) = (Vec::new(), 0);
            for (step, volume) in steps {
                match step {
                    0 | 1 => {
                        made += 1;
                        prop_assert_eq!(creates.add(volume, file(made)), made);
                    }
                    2 => drop(all(&mut creates)),
                    _ => told.extend(creates.answered(0).iter().map(|made| made.number)),
                }
                for number in 1..=made {
                    prop_assert_eq!(creates.are_over(number), (1..=number).all(|one| told.contains(&one)));
                }
            }
            while all(&mut creates).is_some() {
                told.extend(creates.answered(0).iter().map(|made| made.number));
            }
            prop_assert_eq!(told, (1..=made).collect::<Vec<_>>());
        }
    }
}
