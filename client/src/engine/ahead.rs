//! When to ask for more than the one thing that a program wants: whoever looks up one name of a directory after the other is
//! better served by a listing, and whoever removes or moves one file after the other by the right to do so unheard.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::time::Duration;

use super::leases::Key;

/// Calls that are further apart than this have nothing to do with one another.
const APART: Duration = Duration::from_secs(1);
/// Directories that are looked at, of each kind; the one that was quiet for longest is forgotten.
const DIRECTORIES: usize = 64;
/// Lookups before a directory is listed: this many, and one for so many entries.
const LOOKUPS: u64 = 8;
const ENTRIES_PER_LOOKUP: u64 = 64;
/// Changes of names asked of the MRC, in whatever directories, before more is asked for than one needs.
const CHANGES: u32 = 3;
/// Files asked for at first, and at most.
const FIRST: usize = 32;
const MOST: usize = 256;
/// What was of no use, or was not given, is not asked for again for so long; twice as long each time, so many times. Often it is the last
/// process of a mount that has not given everything back yet.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSES: u32 = 6;

#[derive(Debug, Default, Clone, Copy)]
struct Lookups {
    count: u64,
    last: Duration,
    /// How often it was listed without an end to the lookups.
    vain: u32,
}

#[derive(Debug, Default, Clone, Copy)]
struct Holds {
    last: Duration,
    /// Files that were held by the last answer, and names that changed unheard since.
    held: usize,
    used: usize,
    not_before: Duration,
    /// How often in a row it was of no use.
    vain: u32,
}

impl Holds {
    fn in_vain(self, now: Duration) -> Self {
        let vain = (self.vain + 1).min(PAUSES);
        Self { last: now, not_before: now + PAUSE * (1 << vain) / 2, vain, ..Self::default() }
    }
}

/// What to ask the right for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ask {
    /// Files of the directory itself; 0: nothing is asked for.
    pub files: usize,
    /// Files of it and of the directories that may be next, when it looks as if a whole tree were gone through.
    pub of_tree: usize,
}

/// What a mount has been asking of late.
#[derive(Debug, Default)]
pub struct Ahead {
    lookups: BTreeMap<Key, Lookups>,
    holds: BTreeMap<Key, Holds>,
    changes: u32,
    changed: Duration,
    /// Files of all directories that were held by the last answer, and names that changed unheard since.
    held: usize,
    used: usize,
    /// How many answers in a row were of use.
    useful: u32,
}

fn bound<T: Copy>(all: &mut BTreeMap<Key, T>, last: impl Fn(&T) -> Duration) {
    if all.len() > DIRECTORIES
        && let Some(key) = all.iter().min_by_key(|(_, one)| last(one)).map(|(key, _)| *key)
    {
        all.remove(&key);
    }
}

impl Ahead {
    /// The MRC was asked for a name of a directory with so many entries, and found it. True when the directory should be listed.
    pub fn looked_up(&mut self, dir: Key, entries: u64, now: Duration) -> bool {
        let one = self.lookups.entry(dir).or_default();
        if now.saturating_sub(one.last) > APART {
            *one = Lookups::default();
        }
        one.last = now;
        one.count += 1;
        let enough =
            one.count >= LOOKUPS && one.count.saturating_mul(ENTRIES_PER_LOOKUP) >> one.vain >= entries;
        if enough {
            (one.count, one.vain) = (0, (one.vain + 1).min(16));
        }
        bound(&mut self.lookups, |one| one.last);
        enough
    }

    /// The MRC is about to be asked to change a name in a directory. Gives of what it should be asked for the right to go on alone.
    pub fn changes(&mut self, dir: Key, now: Duration) -> Ask {
        if now.saturating_sub(self.changed) > APART {
            (self.changes, self.held, self.useful) = (0, 0, 0);
        }
        self.changed = now;
        self.changes = self.changes.saturating_add(1);
        let one = self.holds.entry(dir).or_default();
        one.last = now;
        // Of what was held by the last answer most was of no use.
        if one.used * 4 < one.held {
            *one = one.in_vain(now);
        }
        let asks = self.changes >= CHANGES && now >= one.not_before;
        let most = if one.held == 0 { FIRST } else { (4 * one.held).clamp(FIRST, MOST) };
        bound(&mut self.holds, |one| one.last);
        let useful = self.useful_by_now();
        let of_tree = if useful == 0 { 0 } else { (FIRST << useful.min(8)).min(MOST) };
        if asks { Ask { files: most, of_tree } } else { Ask::default() }
    }

    /// How many answers in a row were of use, with the last one.
    fn useful_by_now(&self) -> u32 {
        match self.held {
            0 => self.useful,
            held if self.used * 2 >= held => self.useful + 1,
            _ => 0,
        }
    }

    /// So many files of a directory are held, and so many of all that were asked for; none: nothing was given that is of use.
    pub fn held(&mut self, dir: Key, held: usize, of_tree: usize, now: Duration) {
        self.useful = self.useful_by_now();
        (self.held, self.used) = (of_tree, 0);
        if let Some(one) = self.holds.get_mut(&dir) {
            *one = match held {
                0 => one.in_vain(now),
                held => Holds { last: now, held, used: 0, ..*one },
            };
        }
    }

    /// A name of a directory was changed unheard.
    pub fn changed_unheard(&mut self, dir: Key, now: Duration) {
        self.used += 1;
        if self.held > 0 && now.saturating_sub(self.changed) <= APART {
            self.changed = now;
        }
        if let Some(one) = self.holds.get_mut(&dir) {
            (one.last, one.used) = (now, one.used + 1);
            if one.used * 4 >= one.held {
                one.vain = 0;
            }
            self.changed = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIR: Key = (1, 2);

    fn at(ms: u64) -> Duration {
        Duration::from_secs(10) + Duration::from_millis(ms)
    }

    #[test]
    fn a_directory_is_listed_when_that_costs_no_more_than_what_was_asked_before() {
        let listed = |entries: u64, apart: u64| {
            let mut ahead = Ahead::default();
            (1..2_000).find(|count| ahead.looked_up(DIR, entries, at(count * apart)))
        };
        assert_eq!(listed(10, 1), Some(8));
        assert_eq!(listed(6_400, 1), Some(100));
        assert_eq!(listed(10_000_000, 1), None);
        assert_eq!(listed(10, 1_001), None, "now and then somebody looks");
    }

    #[test]
    fn what_a_listing_does_not_end_is_listed_ever_less_often() {
        let mut ahead = Ahead::default();
        let listed: Vec<u64> = (1..500).filter(|count| ahead.looked_up(DIR, 640, at(*count))).collect();
        assert_eq!(listed, [10, 30, 70, 150, 310]);
    }

    #[test]
    fn who_changes_names_one_after_the_other_asks_for_more() {
        let mut ahead = Ahead::default();
        assert_eq!([1, 2, 3].map(|ms| ahead.changes(DIR, at(ms)).files), [0, 0, FIRST]);
        // In the next directory at once.
        assert_eq!(ahead.changes((1, 3), at(4)).files, FIRST);
        // Ever more.
        ahead.held((1, 3), FIRST, FIRST, at(5));
        (0..FIRST).for_each(|_| ahead.changed_unheard((1, 3), at(6)));
        assert_eq!(ahead.changes((1, 3), at(7)).files, 4 * FIRST);
        // Later, it begins anew.
        assert_eq!(ahead.changes((1, 4), at(2_000)), Ask::default());
    }

    #[test]
    fn who_goes_through_a_tree_asks_for_what_is_next_in_it_too() {
        let mut ahead = Ahead::default();
        let mut ms = 0;
        let mut trees = Vec::new();
        for dir in 0..12 {
            let key = (1, 100 + dir);
            let ask = (0..3)
                .map(|_| {
                    ms += 1;
                    ahead.changes(key, at(ms))
                })
                .find(|ask| ask.files > 0)
                .unwrap();
            trees.push(ask.of_tree);
            ahead.held(key, 5, 5.max(ask.of_tree), at(ms));
            // Those of the eighth are left alone.
            let used = if dir == 8 { 0 } else { 5.max(ask.of_tree) };
            (0..used).for_each(|of| ahead.changed_unheard((1, 200 + of as u64), at(ms)));
        }
        assert_eq!(trees, [0, 64, 128, 256, 256, 256, 256, 256, 256, 0, 64, 128]);
        assert_eq!(ahead.changes((1, 300), at(5_000)).of_tree, 0, "much later");
    }

    #[test]
    fn what_was_of_no_use_is_not_asked_for_again_at_once() {
        for (held, used, asks) in [(100, 10, false), (100, 25, true), (0, 0, false)] {
            let mut ahead = Ahead::default();
            (0..3).for_each(|ms| assert_eq!(ahead.changes(DIR, at(ms)).files > 0, ms == 2));
            ahead.held(DIR, held, held, at(3));
            (0..used).for_each(|_| ahead.changed_unheard(DIR, at(4)));
            assert_eq!(ahead.changes(DIR, at(5)).files > 0, asks, "{used} of {held}");
            assert!(ahead.changes(DIR, at(105)).files > 0, "after a while");
        }
    }

    #[test]
    fn what_is_refused_again_and_again_is_asked_for_ever_less_often() {
        let mut ahead = Ahead::default();
        let asked: Vec<u64> = (0..20_000)
            .filter(|ms| {
                let asks = ahead.changes(DIR, at(*ms)).files > 0;
                if asks {
                    ahead.held(DIR, 0, 0, at(*ms));
                }
                asks
            })
            .collect();
        assert_eq!(asked, [2, 102, 302, 702, 1_502, 3_102, 6_302, 9_502, 12_702, 15_902, 19_102]);
    }

    #[test]
    fn few_directories_are_looked_at() {
        let mut ahead = Ahead::default();
        for ino in 0..1_000 {
            ahead.looked_up((1, ino), 10, at(ino));
            ahead.changes((1, ino), at(ino));
        }
        assert_eq!((ahead.lookups.len(), ahead.holds.len()), (DIRECTORIES, DIRECTORIES));
        assert!(ahead.lookups.contains_key(&(1, 999)), "those that were used last");
    }
}
