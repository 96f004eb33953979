//! Which locks this client's programs have, file by file, and of which files it decides alone. See `docs/protocols/locks.md`.
//!
//! ```text
//!   There ──take_over()──> Here ──leave()──> Leaving ──left()──> There
//!                            ^───────────────stay()──┘
//! ```
//!
//! A file that is `There` is the MRC's: its list here is what the MRC answered. `P` is where the list of a file that is `Here`
//! outlives this process.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::time::Duration;

use proto::locks;
use proto::mrc::HeldLock;

/// Volume and inode.
pub type Key = (u64, u64);

/// How long the right to decide is not asked for after it was given up because somebody else wanted a lock.
pub const LOCKS_PAUSE: Duration = Duration::from_secs(1);
/// Files remembered at most for the sake of their pause.
const PAUSES_MAX: usize = 1024;

/// What is decided about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Not here: the MRC is asked.
    There,
    /// This lock of another program stands in the way.
    Stopped(HeldLock),
    /// Nothing does, and nothing was to be changed, or would change.
    Free,
    /// The list becomes this, once it is where it outlives the process: [`Locks::commit`].
    Becomes(Vec<HeldLock>),
}

#[derive(Debug)]
enum State<P> {
    There,
    Here(Right<P>),
    Leaving(Right<P>),
}

/// The right to decide.
#[derive(Debug)]
struct Right<P> {
    page: P,
    /// The session's epoch when it was given.
    epoch: u64,
    /// What the MRC has.
    told: Vec<HeldLock>,
    used: Duration,
}

/// What has to be told of a file before it may be given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untold {
    /// Its locks.
    pub locks: Vec<HeldLock>,
    /// The session's epoch when they were decided.
    pub epoch: u64,
    /// The MRC has just these.
    pub same: bool,
}

#[derive(Debug)]
struct File<P> {
    locks: Vec<HeldLock>,
    state: State<P>,
    /// Requests that wait at the MRC.
    waiting: usize,
    pause_until: Duration,
}

impl<P> Default for File<P> {
    fn default() -> Self {
        Self { locks: Vec::new(), state: State::There, waiting: 0, pause_until: Duration::ZERO }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Locks<P> {
    files: BTreeMap<Key, File<P>>,
}

impl<P> Default for Locks<P> {
    fn default() -> Self {
        Self { files: BTreeMap::new() }
    }
}

impl<P> Locks<P> {
    /// Decides about a request if that is for this client to do. `may`: the right to decide holds at this moment.
    pub fn decide(&mut self, key: Key, wanted: &HeldLock, test: bool, may: bool, now: Duration) -> Decision {
        let Some(file) = self.files.get_mut(&key).filter(|_| may) else { return Decision::There };
        let State::Here(right) = &mut file.state else { return Decision::There };
        right.used = now;
        if let Some(held) = locks::conflicts(&file.locks, wanted).first() {
            return Decision::Stopped(*held);
        }
        let mut locks = file.locks.clone();
        locks::apply(&mut locks, wanted);
        if test || locks == file.locks { Decision::Free } else { Decision::Becomes(locks) }
    }

    /// The place of a file's list, to be written before [`Locks::commit`], and the epoch under which it is decided.
    pub fn page(&mut self, key: Key) -> Option<(&mut P, u64)> {
        match &mut self.files.get_mut(&key)?.state {
            State::Here(right) => Some((&mut right.page, right.epoch)),
            _ => None,
        }
    }

    /// What was decided holds.
    pub fn commit(&mut self, key: Key, locks: Vec<HeldLock>) {
        if let Some(file) = self.files.get_mut(&key) {
            file.locks = locks;
        }
    }

    /// The MRC did what was asked.
    pub fn done(&mut self, key: Key, change: &HeldLock) {
        let file = self.files.entry(key).or_default();
        locks::apply(&mut file.locks, change);
        self.tidy(key);
    }

    /// Whether it would be good to be given the right to decide.
    #[must_use]
    pub fn is_wanted(&self, key: Key, now: Duration) -> bool {
        self.files.get(&key).is_none_or(|file| {
            matches!(file.state, State::There) && file.waiting == 0 && now >= file.pause_until
        })
    }

    /// It was given, with what the MRC has of this client.
    pub fn take_over(&mut self, key: Key, told: Vec<HeldLock>, page: P, epoch: u64, now: Duration) {
        let file = self.files.entry(key).or_default();
        file.locks.clone_from(&told);
        file.state = State::Here(Right { page, epoch, told, used: now });
    }

    /// Nothing is decided here any more; `None`: nothing was. To be followed by [`Locks::left`] or [`Locks::stay`].
    pub fn leave(&mut self, key: Key) -> Option<Untold> {
        let file = self.files.get_mut(&key)?;
        let right = match std::mem::replace(&mut file.state, State::There) {
            State::Here(right) | State::Leaving(right) => right,
            State::There => return None,
        };
        let untold = Untold { locks: file.locks.clone(), epoch: right.epoch, same: right.told == file.locks };
        file.state = State::Leaving(right);
        Some(untold)
    }

    /// The MRC could not be told.
    pub fn stay(&mut self, key: Key) {
        if let Some(file) = self.files.get_mut(&key) {
            file.state = match std::mem::replace(&mut file.state, State::There) {
                State::Leaving(right) => State::Here(right),
                other => other,
            };
        }
    }

    /// The MRC knows that these are the locks: what kept them is given back.
    pub fn left(&mut self, key: Key, locks: Vec<HeldLock>) -> Option<P> {
        let file = self.files.get_mut(&key)?;
        let page = match std::mem::replace(&mut file.state, State::There) {
            State::Here(right) | State::Leaving(right) => Some(right.page),
            State::There => None,
        };
        file.locks = locks;
        self.tidy(key);
        page
    }

    /// The right is not asked for until then.
    pub fn pause(&mut self, key: Key, until: Duration) {
        if self.files.len() >= PAUSES_MAX {
            self.files.retain(|_, file| !file.is_idle());
        }
        self.files.entry(key).or_default().pause_until = until;
    }

    /// Somebody waits at the MRC: what is freed meanwhile is freed there.
    pub fn wait_begin(&mut self, key: Key) {
        self.files.entry(key).or_default().waiting += 1;
    }

    /// It does not wait any more.
    pub fn wait_end(&mut self, key: Key) {
        if let Some(file) = self.files.get_mut(&key) {
            file.waiting = file.waiting.saturating_sub(1);
        }
    }

    /// Whether an owner of this client has a lock there.
    #[must_use]
    pub fn holds(&self, key: Key, owner: u64, flock: bool) -> bool {
        let of = |held: &HeldLock| held.owner == owner && held.flock == flock;
        self.files.get(&key).is_some_and(|file| file.locks.iter().any(of))
    }

    /// The file that is here without any lock for the longest time.
    #[must_use]
    pub fn idlest(&self) -> Option<Key> {
        let idle = self.files.iter().filter(|(_, file)| file.locks.is_empty());
        idle.filter_map(|(key, file)| match &file.state {
            State::Here(right) => Some((right.used, *key)),
            _ => None,
        })
        .min()
        .map(|(_, key)| key)
    }

    /// Files with locks, and whether their locks are decided here.
    pub fn all(&self) -> impl Iterator<Item = (Key, bool)> {
        let is_here = |file: &File<P>| !matches!(file.state, State::There);
        self.files
            .iter()
            .filter(move |(_, file)| !file.locks.is_empty() || is_here(file))
            .map(move |(key, file)| (*key, is_here(file)))
    }

    /// A file's locks.
    #[must_use]
    pub fn of(&self, key: Key) -> Vec<HeldLock> {
        self.files.get(&key).map_or_else(Vec::new, |file| file.locks.clone())
    }

    /// Files without a lock, a right or a pause are forgotten.
    fn tidy(&mut self, key: Key) {
        if self.files.get(&key).is_some_and(|file| file.is_idle() && file.pause_until == Duration::ZERO) {
            self.files.remove(&key);
        }
    }
}

impl<P> File<P> {
    fn is_idle(&self) -> bool {
        self.locks.is_empty() && self.waiting == 0 && matches!(self.state, State::There)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::locks::{READ, UNLOCK, WRITE};

    use super::*;

    const KEY: Key = (1, 7);
    const NOW: Duration = Duration::from_secs(5);

    fn lock(owner: u64, start: u64, end: u64, kind: u32) -> HeldLock {
        HeldLock { session: 9, owner, start, end, kind, pid: 40, flock: false }
    }

    /// What frees everything that an owner has.
    fn nothing(owner: u64) -> HeldLock {
        lock(owner, 0, u64::MAX, UNLOCK)
    }

    /// Here, with these locks.
    fn here(told: &[HeldLock]) -> Locks<u32> {
        let mut locks = Locks::default();
        locks.take_over(KEY, told.to_vec(), 3, 17, NOW);
        locks
    }

    fn becomes(locks: &mut Locks<u32>, wanted: &HeldLock) {
        match locks.decide(KEY, wanted, false, true, NOW) {
            Decision::Becomes(list) => locks.commit(KEY, list),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_who_has_the_right_decides() {
        let mut locks = Locks::<u32>::default();
        let one = lock(1, 0, 9, WRITE);
        assert_eq!(locks.decide(KEY, &one, false, true, NOW), Decision::There);
        locks.done(KEY, &one);
        assert_eq!(locks.decide(KEY, &one, false, true, NOW), Decision::There);
        assert!(locks.holds(KEY, 1, false) && !locks.holds(KEY, 1, true) && !locks.holds(KEY, 2, false));
        locks.take_over(KEY, vec![one], 3, 17, NOW);
        assert_eq!(locks.decide(KEY, &one, false, false, NOW), Decision::There, "its time is over");
        assert_eq!(locks.decide(KEY, &one, false, true, NOW), Decision::Free);
        assert_eq!(locks.decide(KEY, &lock(2, 5, 5, READ), true, true, NOW), Decision::Stopped(one));
        becomes(&mut locks, &lock(2, 10, 19, WRITE));
        becomes(&mut locks, &nothing(1));
        assert_eq!(locks.of(KEY), [lock(2, 10, 19, WRITE)]);
    }

    #[test]
    fn what_was_decided_is_told_before_anything_else_is_asked() {
        let told = lock(1, 0, 9, WRITE);
        let mut locks = here(&[told]);
        let untold = Untold { locks: vec![told], epoch: 17, same: true };
        assert_eq!(locks.leave(KEY), Some(untold), "as the MRC has it");
        locks.stay(KEY);
        becomes(&mut locks, &nothing(1));
        let untold = Untold { locks: Vec::new(), epoch: 17, same: false };
        assert_eq!(locks.leave(KEY), Some(untold.clone()));
        assert_eq!(locks.decide(KEY, &told, false, true, NOW), Decision::There);
        assert_eq!(locks.leave(KEY), Some(untold), "whoever gave it up half-way is followed by another one");
        assert_eq!(locks.left(KEY, Vec::new()), Some(3));
        assert_eq!((locks.leave(KEY), locks.left(KEY, Vec::new())), (None, None));
        assert!(locks.files.is_empty(), "nothing is left of it");
    }

    #[test]
    fn the_right_is_not_wanted_while_somebody_waits_or_soon_after_it_was_given_up() {
        let mut locks = Locks::<u32>::default();
        assert!(locks.is_wanted(KEY, NOW));
        locks.wait_begin(KEY);
        assert!(!locks.is_wanted(KEY, NOW));
        locks.wait_end(KEY);
        locks.pause(KEY, NOW + LOCKS_PAUSE);
        assert!(!locks.is_wanted(KEY, NOW) && locks.is_wanted(KEY, NOW + LOCKS_PAUSE));
        assert!(!here(&[]).is_wanted(KEY, NOW));
    }

    #[test]
    fn the_idlest_file_is_one_without_locks() {
        let mut locks = here(&[lock(1, 0, 0, READ)]);
        assert_eq!(locks.idlest(), None);
        locks.take_over((1, 8), Vec::new(), 4, 17, NOW);
        locks.take_over((1, 9), Vec::new(), 5, 17, NOW - Duration::from_secs(1));
        assert_eq!(locks.idlest(), Some((1, 9)));
        let all: Vec<_> = locks.all().collect();
        assert_eq!(all, [(KEY, true), ((1, 8), true), ((1, 9), true)]);
        for number in 0..2 * PAUSES_MAX as u64 {
            locks.pause((2, number), NOW);
        }
        assert!(locks.files.len() <= PAUSES_MAX + 3);
    }

    proptest! {
        /// However often the right changes hands, programs are answered as if one had decided all the time.
        #[test]
        fn who_decides_makes_no_difference(
            steps in prop::collection::vec((0..6u8, 1..4u64, 0..8u64, 0..8u64, 0..3u32), 1..200)
        ) {
            let (mut there, mut model): (Vec<HeldLock>, Vec<HeldLock>) = (Vec::new(), Vec::new());
            let mut locks = Locks::<u32>::default();
            for (step, owner, a, b, kind) in steps {
                match step {
                    0 if locks.is_wanted(KEY, NOW) => locks.take_over(KEY, there.clone(), 0, 1, NOW),
                    1 => {
                        if let Some(untold) = locks.leave(KEY) {
                            prop_assert_eq!(untold.same, untold.locks == there);
                            there.clone_from(&untold.locks);
                            locks.left(KEY, untold.locks);
                        }
                    }
                    _ => {
                        let wanted = lock(owner, a.min(b), a.max(b), kind);
                        let free = locks::conflicts(&model, &wanted).is_empty();
                        match locks.decide(KEY, &wanted, false, true, NOW) {
                            Decision::There => {
                                prop_assert_eq!(locks::conflicts(&there, &wanted).is_empty(), free);
                                if free {
                                    locks::apply(&mut there, &wanted);
                                    locks.done(KEY, &wanted);
                                }
                            }
                            Decision::Stopped(_) => prop_assert!(!free),
                            Decision::Free => prop_assert!(free),
                            Decision::Becomes(list) => {
                                prop_assert!(free);
                                locks.commit(KEY, list);
                            }
                        }
                        if free {
                            locks::apply(&mut model, &wanted);
                        }
                    }
                }
                prop_assert_eq!(&locks.of(KEY), &model);
            }
        }
    }
}
