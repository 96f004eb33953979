//! Pages of locks that this client decides about alone: they outlive the process like staged writes.
//!
//! ```text
//! page: two halves; the valid one with the higher number counts
//! half: number (0: none), session, epoch, volume, ino, count, checksum; then owner, start, end, pid and kind of each lock
//! ```

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use proto::locks::WRITE;
use proto::mrc::HeldLock;

use super::{LOCKS_AT, Stage, sum};

/// Pages of a mount.
pub(super) const PAGES: u32 = 64;
/// Bytes of one, and of a half of it.
pub(super) const PAGE_BYTES: usize = 4096;
const HALF_BYTES: usize = PAGE_BYTES / 2;
const HEAD_WORDS: usize = 7;
const LOCK_WORDS: usize = 4;
/// Most locks of one page.
pub(crate) const LOCKS_MAX: usize = (HALF_BYTES / 8 - HEAD_WORDS) / LOCK_WORDS;
/// In the last word of a lock, above the process: for writing, and `flock`.
const WRITES: u64 = 1 << 32;
const FLOCK: u64 = 1 << 33;

/// Whose locks they are, and of which file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) session: u64,
    pub(crate) epoch: u64,
    pub(crate) volume: u64,
    pub(crate) ino: u64,
}

/// Locks about which a process decided and of which it did not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeftLocks {
    pub(crate) of: Decided,
    pub(crate) locks: Vec<HeldLock>,
    place: u32,
}

impl LeftLocks {
    pub(super) fn place(&self) -> u32 {
        self.place
    }
}

/// A page of one file.
pub(crate) struct Page {
    stage: Arc<Stage>,
    place: u32,
    /// Of the half that counts; 0: none does.
    number: u64,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "page {} of locks", self.place)
    }
}

impl Stage {
    /// A page; `None`: all are taken.
    pub(crate) fn take_page(self: &Arc<Self>) -> Option<Page> {
        let place = self.pages.lock().pop_first()?;
        Some(Page { stage: self.clone(), place, number: 0 })
    }

    /// Pages that are free.
    pub(crate) fn free_pages(&self) -> usize {
        self.pages.lock().len()
    }

    /// What the last process left. To be read before a page is taken.
    pub(crate) fn left_locks(&self) -> io::Result<Vec<LeftLocks>> {
        let mut bytes = vec![0; PAGES as usize * PAGE_BYTES];
        self.file.read_exact_at(&mut bytes, LOCKS_AT)?;
        let pages = (0..PAGES).zip(bytes.chunks_exact(PAGE_BYTES));
        Ok(pages
            .filter_map(|(place, page)| {
                let halves = page.chunks_exact(HALF_BYTES).filter_map(parse);
                let (_, of, locks) = halves.max_by_key(|(number, ..)| *number)?;
                Some(LeftLocks { of, locks, place })
            })
            .collect())
    }

    /// They are told, or lost.
    pub(crate) fn clear_locks(&self, left: &LeftLocks) -> io::Result<()> {
        self.cross_out_page(left.place)?;
        self.pages.lock().insert(left.place);
        Ok(())
    }

    /// Each half at once: of one alone nobody knows whether it was the last.
    fn cross_out_page(&self, place: u32) -> io::Result<()> {
        self.file.write_all_at(&[0; PAGE_BYTES], page_at(place))
    }
}

impl Page {
    /// From now on a successor of this process tells these. On an error what was there before still counts.
    pub(crate) fn write(&mut self, of: &Decided, locks: &[HeldLock]) -> io::Result<()> {
        if locks.len() > LOCKS_MAX {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "more locks than a page has room for"));
        }
        let number = self.number + 1;
        let at = page_at(self.place) + number % 2 * HALF_BYTES as u64;
        self.stage.file.write_all_at(&encode(number, of, locks), at)?;
        self.number = number;
        Ok(())
    }

    /// The MRC knows, or they are lost.
    pub(crate) fn cross_out(mut self) {
        if let Err(error) = self.stage.cross_out_page(self.place) {
            // Better lose the place than have a successor tell of it again later.
            tracing::error!(%error, "a page of locks could not be crossed out");
            self.number = self.number.max(1);
            return;
        }
        self.number = 0;
    }
}

/// What is dropped without being crossed out is the successor's.
impl Drop for Page {
    fn drop(&mut self) {
        if self.number == 0 {
            self.stage.pages.lock().insert(self.place);
        }
    }
}

fn page_at(place: u32) -> u64 {
    LOCKS_AT + u64::from(place) * PAGE_BYTES as u64
}

fn encode(number: u64, of: &Decided, locks: &[HeldLock]) -> Vec<u8> {
    let mut words = vec![number, of.session, of.epoch, of.volume, of.ino, locks.len() as u64, 0];
    for held in locks {
        let kind = if held.kind == WRITE { WRITES } else { 0 } | if held.flock { FLOCK } else { 0 };
        words.extend([held.owner, held.start, held.end, u64::from(held.pid) | kind]);
    }
    words[HEAD_WORDS - 1] = sum(&words);
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn parse(half: &[u8]) -> Option<(u64, Decided, Vec<HeldLock>)> {
    let words: Vec<u64> =
        half.chunks_exact(8).filter_map(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?))).collect();
    let [number, session, epoch, volume, ino, count, check, rest @ ..] = &words[..] else { return None };
    let count = usize::try_from(*count).ok().filter(|count| *number != 0 && *count <= LOCKS_MAX)?;
    let mut summed = words[..HEAD_WORDS + count * LOCK_WORDS].to_vec();
    summed[HEAD_WORDS - 1] = 0;
    if sum(&summed) != *check {
        return None;
    }
    let locks = rest[..count * LOCK_WORDS].chunks_exact(LOCK_WORDS).map(|lock| HeldLock {
        session: *session,
        owner: lock[0],
        start: lock[1],
        end: lock[2],
        kind: u32::from(lock[3] & WRITES != 0),
        pid: u32::try_from(lock[3] & u64::from(u32::MAX)).unwrap_or(0),
        flock: lock[3] & FLOCK != 0,
    });
    let of = Decided { session: *session, epoch: *epoch, volume: *volume, ino: *ino };
    Some((*number, of, locks.collect()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OF: Decided = Decided { session: 9, epoch: 4, volume: 1, ino: 77 };

    fn locks(count: u64) -> Vec<HeldLock> {
        let lock = |n| HeldLock {
            session: 9,
            owner: u64::MAX - n,
            start: n,
            end: u64::MAX,
            kind: u32::from(n % 2 == 1),
            pid: u32::MAX,
            flock: n % 3 == 1,
        };
        (0..count).map(lock).collect()
    }

    #[test]
    fn the_last_list_of_each_page_is_found_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stage");
        let stage = Stage::open(&path).unwrap();
        let mut pages: Vec<Page> = (0..4).map(|_| stage.take_page().unwrap()).collect();
        for count in [5, LOCKS_MAX as u64, 1] {
            pages[0].write(&OF, &locks(count)).unwrap();
        }
        assert!(pages[0].write(&OF, &locks(LOCKS_MAX as u64 + 1)).is_err());
        let other = Decided { ino: 78, ..OF };
        pages[1].write(&other, &[]).unwrap();
        pages[2].write(&OF, &locks(2)).unwrap();
        pages.remove(2).cross_out();
        assert_eq!(stage.free_pages(), PAGES as usize - 3);
        drop(pages);
        assert_eq!(stage.free_pages(), PAGES as usize - 2, "what was written is the successor's");
        drop(stage);
        let stage = Stage::open(&path).unwrap();
        let left = stage.left_locks().unwrap();
        let found: Vec<_> = left.iter().map(|left| (left.of, left.locks.clone())).collect();
        assert_eq!(found, [(OF, locks(1)), (other, Vec::new())]);
        assert_eq!(stage.free_pages(), PAGES as usize - 2, "nor is it given out");
        left.iter().for_each(|left| stage.clear_locks(left).unwrap());
        assert_eq!((stage.left_locks().unwrap(), stage.free_pages()), (Vec::new(), PAGES as usize));
    }

    proptest! {
        #[test]
        fn a_half_that_is_not_whole_does_not_count(count in 0..20u64, at in 0..HALF_BYTES, flip in 1..=255u8) {
            let mut bytes = encode(3, &OF, &locks(count));
            let used = bytes.len();
            bytes.resize(HALF_BYTES, 0);
            prop_assert_eq!(parse(&bytes), Some((3, OF, locks(count))));
            bytes[at] ^= flip;
            prop_assert_eq!(parse(&bytes).is_none(), at < used);
        }
    }
}
