//! Memory that outlives the process: writes that were acknowledged and are not at the OSDs yet.
//!
//! A file in memory (tmpfs) with one **slot** per piece that is being gathered or is on its way. A killed mount process
//! leaves them there, and its successor writes them out before anybody else may see the files. See
//! `docs/protocols/write-behind.md`.

pub(crate) mod locks;
mod places;
pub(crate) mod records;
pub(crate) mod replay;

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use proto::limits::FILE_BYTES_MAX;
use proto::mrc::KeptAttributes;
use rt::held::{Held, hold};

use crate::engine::kept;

/// Bytes of a large slot: the most that one piece has.
pub(crate) const SLOT_BYTES: usize = 1 << 20;
/// Bytes of a small slot: many small files are on their way at the same time.
const SMALL_BYTES: usize = 64 << 10;
/// Bytes of a tiny slot: what goes to the MRC with the file that it is in.
const TINY_BYTES: usize = proto::limits::INLINE_BYTES_MAX;
/// Large slots of a mount, the first ones, small ones, and tiny ones: at most so much is acknowledged and not at the OSDs.
const LARGE: u32 = 48;
const SMALL: u32 = 256;
const TINY: u32 = 1024;
const SLOTS: u32 = LARGE + SMALL + TINY;
/// How long a process that is being killed may hold the file.
const PREDECESSOR: Duration = Duration::from_secs(3);
/// First bytes of the file: what it is, and the version of its format.
const MAGIC: [u8; 8] = *b"XTFSSTG2";
/// Where the session of the process that uses it stands.
const SESSION_AT: u64 = 8;
/// Where the large slots' labels begin, and the length of one.
const LABELS_AT: u64 = 4096;
const LABEL_WORDS: usize = 14;
const LABEL_BYTES: usize = LABEL_WORDS * 8;
/// Where the large slots' data begins.
const DATA_AT: u64 = LABELS_AT + 8192;
/// Where the records of files that were made begin.
const RECORDS_AT: u64 = DATA_AT + LARGE as u64 * SLOT_BYTES as u64;
const RECORDS_BYTES: u64 = records::RECORDS as u64 * records::RECORD_BYTES as u64;
const _: () = assert!(LABELS_AT as usize + LARGE as usize * LABEL_BYTES <= DATA_AT as usize);
/// Where the small slots' labels and data begin (behind what files of earlier builds have).
const SMALL_LABELS_AT: u64 = RECORDS_AT + RECORDS_BYTES;
const SMALL_DATA_AT: u64 = (SMALL_LABELS_AT + SMALL as u64 * LABEL_BYTES as u64).next_multiple_of(4096);
const SMALL_END: u64 = SMALL_DATA_AT + SMALL as u64 * SMALL_BYTES as u64;
/// Likewise pages of locks.
const LOCKS_AT: u64 = SMALL_END;
const LOCKS_END: u64 = LOCKS_AT + locks::PAGES as u64 * locks::PAGE_BYTES as u64;
/// Likewise the tiny slots.
const TINY_LABELS_AT: u64 = LOCKS_END;
const TINY_DATA_AT: u64 = (TINY_LABELS_AT + TINY as u64 * LABEL_BYTES as u64).next_multiple_of(4096);
const END: u64 = TINY_DATA_AT + TINY as u64 * TINY_BYTES as u64;

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label {
    /// Whose: session, and the epoch that it had.
    pub(crate) session: u64,
    pub(crate) epoch: u64,
    pub(crate) volume: u64,
    pub(crate) ino: u64,
    pub(crate) offset: u64,
    /// Attributes that were set, and of which nobody was told; then it is no piece and no mark.
    pub(crate) kept: Option<KeptAttributes>,
}

/// A piece that a process left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) label: Label,
    pub(crate) data: Vec<u8>,
    slot: u32,
    order: u64,
}

/// Slots that are free. The lowest is given first, so that few pages of the file are ever used.
#[derive(Debug)]
struct Free {
    large: BTreeSet<u32>,
    small: BTreeSet<u32>,
    tiny: BTreeSet<u32>,
}

impl Free {
    fn all() -> Self {
        let (small, tiny) = (LARGE..LARGE + SMALL, LARGE + SMALL..SLOTS);
        Self { large: (0..LARGE).collect(), small: small.collect(), tiny: tiny.collect() }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.large.len() + self.small.len() + self.tiny.len()
    }

    fn of(&mut self, slot: u32) -> &mut BTreeSet<u32> {
        match bytes_of(slot) {
            TINY_BYTES => &mut self.tiny,
            SMALL_BYTES => &mut self.small,
            _ => &mut self.large,
        }
    }

    /// For so many bytes, as far as is known.
    fn take(&mut self, bytes: usize) -> Option<u32> {
        let tiny = if bytes <= TINY_BYTES { self.tiny.pop_first() } else { None };
        let small = || if bytes <= SMALL_BYTES { self.small.pop_first() } else { None };
        tiny.or_else(small).or_else(|| self.large.pop_first())
    }
}

/// See the module.
pub struct Stage {
    file: Held,
    path: PathBuf,
    /// order: a leaf.
    free: Mutex<Free>,
    /// order: a leaf. Places for records of files that were made.
    records: Mutex<BTreeSet<u32>>,
    /// order: a leaf. Pages for locks.
    pages: Mutex<BTreeSet<u32>>,
    /// Numbers pieces in the order in which they were begun; 0: none.
    next: AtomicU64,
}

impl Stage {
    #[cfg(test)]
    pub(crate) fn open(path: &Path) -> io::Result<Arc<Self>> {
        Self::open_within(path, PREDECESSOR)
    }

    /// Opens or makes a file. Fails when another process uses it; one that is being killed holds it until the kernel has
    /// taken it apart: so long is waited, at most.
    fn open_within(path: &Path, patience: Duration) -> io::Result<Arc<Self>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        if file.metadata()?.uid() != nix::unistd::geteuid().as_raw() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user"));
        }
        let file = hold(file, patience)?;
        let mut magic = [0; 8];
        let whole = file.metadata()?.len() >= DATA_AT;
        if whole {
            file.read_exact_at(&mut magic, 0)?;
        }
        if magic != MAGIC {
            // New, or of another version, which is not to be understood.
            file.set_len(0)?;
            file.set_len(RECORDS_AT)?;
            file.write_all_at(&MAGIC, 0)?;
        }
        if file.metadata()?.len() < END {
            file.set_len(END)?;
        }
        let free = Mutex::new(Free::all());
        let stage = Self {
            file,
            path: path.to_path_buf(),
            free,
            records: Mutex::default(),
            pages: Mutex::default(),
            next: AtomicU64::new(1),
        };
        stage.make_room_for_records();
        stage.make_room_for_locks();
        Ok(Arc::new(stage))
    }

    /// A record must not find out that there is no room: a name is shown before it is known whether it was written.
    fn make_room_for_records(&self) {
        let allocated = nix::fcntl::fallocate(
            &*self.file,
            nix::fcntl::FallocateFlags::empty(),
            RECORDS_AT.cast_signed(),
            RECORDS_BYTES.cast_signed(),
        );
        match (allocated, self.left_files()) {
            (Ok(()), Ok(left)) => {
                let taken: BTreeSet<u32> = left.iter().map(records::LeftFile::place).collect();
                *self.records.lock() = (0..records::RECORDS).filter(|place| !taken.contains(place)).collect();
            }
            (Err(error), _) => {
                tracing::warn!(%error, "no room to record files that are made; the MRC makes each")
            }
            (_, Err(error)) => {
                tracing::warn!(%error, "records of files that were made cannot be read; the MRC makes each")
            }
        }
    }

    /// Likewise a page: its first list may come when the MRC has given a right already.
    fn make_room_for_locks(&self) {
        let (at, len) = (LOCKS_AT.cast_signed(), (LOCKS_END - LOCKS_AT).cast_signed());
        let allocated = nix::fcntl::fallocate(&*self.file, nix::fcntl::FallocateFlags::empty(), at, len);
        match (allocated, self.left_locks()) {
            (Ok(()), Ok(left)) => {
                let taken: BTreeSet<u32> = left.iter().map(locks::LeftLocks::place).collect();
                *self.pages.lock() = (0..locks::PAGES).filter(|place| !taken.contains(place)).collect();
            }
            (Err(error), _) => tracing::warn!(%error, "no room for locks; the MRC decides about each"),
            (_, Err(error)) => {
                tracing::warn!(%error, "locks that an earlier process had cannot be read; the MRC decides about each")
            }
        }
    }

    /// What the last process left, in the order in which it was begun. To be read before anything is taken.
    pub(crate) fn left(&self) -> io::Result<Vec<Left>> {
        let mut left = Vec::new();
        for slot in 0..SLOTS {
            let mut label = [0; LABEL_BYTES];
            self.file.read_exact_at(&mut label, label_at(slot))?;
            if let Some((number, label, len)) = parse(&label)
                && len <= bytes_of(slot)
            {
                let mut data = vec![0; len];
                self.file.read_exact_at(&mut data, data_at(slot))?;
                left.push(Left { label, data, slot, order: number });
            }
        }
        left.sort_by_key(|left| left.order);
        Ok(left)
    }

    /// The session of the last process; 0: there was none. To be read before [`Stage::used_by`].
    pub(crate) fn last_session(&self) -> io::Result<u64> {
        let mut id = [0; 8];
        self.file.read_exact_at(&mut id, SESSION_AT)?;
        Ok(u64::from_le_bytes(id))
    }

    /// From now on this session's.
    pub(crate) fn used_by(&self, session: u64) -> io::Result<()> {
        self.file.write_all_at(&session.to_le_bytes(), SESSION_AT)
    }

    /// A piece that was left stays where it is, as if this process had staged it.
    pub(crate) fn keep(self: &Arc<Self>, left: &Left) -> Slot {
        self.free.lock().of(left.slot).remove(&left.slot);
        self.next.fetch_max(left.order + 1, Ordering::Relaxed);
        let (label, len) = (left.label, left.data.len());
        Slot { stage: self.clone(), number: left.slot, order: left.order, label, len, labelled: true }
    }

    /// What was left and not kept is dealt with.
    pub(crate) fn clear(&self) -> io::Result<()> {
        let free: Vec<u32> = {
            let free = self.free.lock();
            free.large.iter().chain(&free.small).chain(&free.tiny).copied().collect()
        };
        free.into_iter().try_for_each(|slot| self.file.write_all_at(&[0; LABEL_BYTES], label_at(slot)))
    }

    /// A place for a piece that begins with `label` and with so many bytes; `None`: all are taken.
    pub(crate) fn take(self: &Arc<Self>, label: Label, bytes: usize) -> Option<Slot> {
        let number = self.free.lock().take(bytes)?;
        let order = self.next.fetch_add(1, Ordering::Relaxed);
        Some(Slot { stage: self.clone(), number, order, label, len: 0, labelled: false })
    }

    /// Whether so many places are taken that nobody should keep one for the sake of an earlier answer.
    pub(crate) fn is_scarce(&self) -> bool {
        let free = self.free.lock();
        // What finds no tiny one takes a small one.
        free.large.len() < LARGE as usize / 2 || free.small.len() < SMALL as usize / 2
    }

    /// Nothing is left and nobody comes after this process.
    pub fn remove(&self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the file of staged writes stays");
        }
    }
}

/// A piece: what is written to it survives this process until it is crossed out.
pub(crate) struct Slot {
    stage: Arc<Stage>,
    number: u32,
    order: u64,
    label: Label,
    len: usize,
    labelled: bool,
}

impl Slot {
    /// Adds bytes at the end. They count when this has answered; on an error nothing was added. What a slot is too
    /// small for moves to a larger one: [`io::ErrorKind::WouldBlock`] when there is none.
    pub(crate) fn append(&mut self, data: &[u8]) -> io::Result<()> {
        let len = self.len + data.len();
        if len > SLOT_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a piece longer than a slot"));
        }
        if len > bytes_of(self.number) {
            self.move_to_larger(len)?;
        }
        self.stage.file.write_all_at(data, data_at(self.number) + self.len as u64)?;
        self.labelled = true;
        // The label last: a process that is killed in between has not acknowledged these bytes.
        self.stage.file.write_all_at(&label(self.order, &self.label, len), label_at(self.number))?;
        self.len = len;
        Ok(())
    }

    /// A process that is killed half-way leaves the same bytes twice, which is harmless.
    fn move_to_larger(&mut self, len: usize) -> io::Result<()> {
        let taken = self.stage.free.lock().take(len);
        let number = taken.ok_or(io::Error::from(io::ErrorKind::WouldBlock))?;
        let mut larger = Self { stage: self.stage.clone(), number, len: 0, labelled: false, ..*self };
        if self.len > 0 {
            let mut data = vec![0; self.len];
            self.stage.file.read_exact_at(&mut data, data_at(self.number))?;
            larger.append(&data)?;
        }
        std::mem::replace(self, larger).cross_out();
        Ok(())
    }
}

impl Slot {
    /// What it held is at the OSDs. It becomes a mark: the file reaches to its end, which nobody has reported.
    pub(crate) fn landed(&mut self) -> io::Result<()> {
        self.marks(Label { offset: self.end(), ..self.label })
    }

    /// Becomes the mark of `label.offset`, whatever it was.
    pub(crate) fn marks(&mut self, mark: Label) -> io::Result<()> {
        self.labelled = true;
        self.stage.file.write_all_at(&label(self.order, &mark, 0), label_at(self.number))?;
        (self.label, self.len) = (mark, 0);
        Ok(())
    }

    /// Where the file ends at least.
    pub(crate) fn end(&self) -> u64 {
        self.label.offset + self.len as u64
    }
}

impl Slot {
    /// What it holds is not needed by a successor of this process any more.
    pub(crate) fn cross_out(mut self) {
        // A label stands there from the first bytes on, also when it has become a mark.
        if self.labelled
            && let Err(error) = self.stage.file.write_all_at(&[0; 8], label_at(self.number))
        {
            // It would be written again over what comes later: rather lose the slot than give it out again.
            tracing::error!(%error, "a staged write could not be crossed out");
            return;
        }
        self.labelled = false;
    }
}

/// Not the same as crossing out: work that is dropped half-way, as at the end of the process, leaves what it had for the
/// successor.
impl Drop for Slot {
    fn drop(&mut self) {
        if !self.labelled {
            self.stage.free.lock().of(self.number).insert(self.number);
        }
    }
}

/// Slots of one size: the first one, bytes of each, and where their labels and their data are.
struct Class {
    first: u32,
    bytes: usize,
    labels_at: u64,
    data_at: u64,
}

fn class_of(slot: u32) -> Class {
    const SMALL_FIRST: u32 = LARGE;
    const TINY_FIRST: u32 = LARGE + SMALL;
    match slot {
        0..SMALL_FIRST => Class { first: 0, bytes: SLOT_BYTES, labels_at: LABELS_AT, data_at: DATA_AT },
        SMALL_FIRST..TINY_FIRST => {
            Class { first: LARGE, bytes: SMALL_BYTES, labels_at: SMALL_LABELS_AT, data_at: SMALL_DATA_AT }
        }
        TINY_FIRST.. => {
            Class { first: TINY_FIRST, bytes: TINY_BYTES, labels_at: TINY_LABELS_AT, data_at: TINY_DATA_AT }
        }
    }
}

fn bytes_of(slot: u32) -> usize {
    class_of(slot).bytes
}

fn label_at(slot: u32) -> u64 {
    let class = class_of(slot);
    class.labels_at + u64::from(slot - class.first) * LABEL_BYTES as u64
}

fn data_at(slot: u32) -> u64 {
    let class = class_of(slot);
    class.data_at + u64::from(slot - class.first) * class.bytes as u64
}

fn label(order: u64, label: &Label, len: usize) -> [u8; LABEL_BYTES] {
    let Label { session, epoch, volume, ino, offset, kept } = *label;
    let mut words = [0; LABEL_WORDS];
    words[..7].copy_from_slice(&[order, session, epoch, volume, ino, offset, len as u64]);
    words[7..LABEL_WORDS - 1].copy_from_slice(&kept::encode(kept.as_ref()));
    words[LABEL_WORDS - 1] = sum(&words[..LABEL_WORDS - 1]);
    let mut out = [0; LABEL_BYTES];
    for (at, word) in words.into_iter().enumerate() {
        out[at * 8..at * 8 + 8].copy_from_slice(&word.to_le_bytes());
    }
    out
}

/// The order, the label and the length of the data (0: a mark); `None`: the slot is free.
fn parse(bytes: &[u8; LABEL_BYTES]) -> Option<(u64, Label, usize)> {
    let mut words = [0; LABEL_WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().ok()?);
    }
    let [order, session, epoch, volume, ino, offset, len, kept @ .., check] = words;
    let whole = sum(&words[..LABEL_WORDS - 1]) == check;
    let kept = kept::decode(kept, epoch);
    let len = usize::try_from(len).ok().filter(|len| *len <= SLOT_BYTES)?;
    let fits = offset.checked_add(len as u64).is_some_and(|end| end <= FILE_BYTES_MAX);
    (order != 0 && whole && fits).then_some((order, Label { session, epoch, volume, ino, offset, kept }, len))
}

fn sum(words: &[u64]) -> u64 {
    words.iter().fold(0x9e37_79b9_7f4a_7c15, |sum: u64, word| {
        (sum ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(29)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(ino: u64, offset: u64) -> Label {
        Label { session: 7, epoch: 3, volume: 1, ino, offset, kept: None }
    }

    #[test]
    fn what_was_not_crossed_out_is_found_in_order_and_the_rest_is_not() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("stage");
        let stage = Stage::open(&path).unwrap();
        let second = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        assert!(hold(second, Duration::ZERO).is_err(), "one process at a time");
        let mut first = stage.take(of(5, 0), 100).unwrap();
        let mut second = stage.take(of(6, 4096), SLOT_BYTES).unwrap();
        first.append(&[1; 100]).unwrap();
        second.append(&[2; SLOT_BYTES]).unwrap();
        assert!(second.append(&[2]).is_err(), "a slot has an end");
        first.append(&[3; 50]).unwrap();
        let _empty = stage.take(of(8, 0), 1).unwrap();
        let mut gone = stage.take(of(7, 0), 1).unwrap();
        gone.append(b"at the OSDs").unwrap();
        gone.cross_out();
        let mut third = stage.take(of(5, 90), 1).unwrap();
        third.append(&[4; 20]).unwrap();
        // What a killed process leaves.
        let killed = place.path().join("killed");
        std::fs::copy(&path, &killed).unwrap();
        let stage = Stage::open(&killed).unwrap();
        let left = stage.left().unwrap();
        let told: Vec<_> =
            left.iter().map(|left| (left.label.ino, left.label.offset, left.data.len())).collect();
        assert_eq!(told, [(5, 0, 150), (6, 4096, SLOT_BYTES), (5, 90, 20)]);
        assert_eq!((left[0].data[99], left[0].data[100]), (1, 3));
        // One of them finds no room: it stays, and what is staged now comes after it.
        let kept = stage.keep(&left[1]);
        stage.clear().unwrap();
        assert_eq!(stage.left().unwrap(), [left[1].clone()]);
        let mut later = stage.take(of(6, 4100), 1).unwrap();
        later.append(b"later").unwrap();
        let left = stage.left().unwrap();
        assert_eq!(left.iter().map(|left| left.label.offset).collect::<Vec<_>>(), [4096, 4100]);
        kept.cross_out();
        later.cross_out();
        assert_eq!(stage.left().unwrap(), []);
        assert_eq!(stage.free.lock().len(), SLOTS as usize);
    }

    #[test]
    fn what_landed_stays_as_a_mark_of_where_the_file_ends() {
        let dir = tempfile::tempdir().unwrap();
        let stage = Stage::open(&dir.path().join("s")).unwrap();
        let mut slot = stage.take(of(3, 100), 1).unwrap();
        slot.append(b"hello").unwrap();
        assert_eq!(slot.end(), 105);
        slot.landed().unwrap();
        let mut mark = slot;
        let left = stage.left().unwrap();
        assert_eq!((mark.end(), left.len()), (105, 1));
        assert_eq!((left[0].label.ino, left[0].label.offset, left[0].data.len()), (3, 105, 0));
        mark.marks(of(3, 900)).unwrap();
        assert_eq!(stage.left().unwrap()[0].label.offset, 900);
        mark.cross_out();
        assert!(stage.left().unwrap().is_empty());
        assert_eq!(stage.free.lock().len(), SLOTS as usize);
    }

    #[test]
    fn what_is_dropped_half_way_is_left_for_a_successor() {
        let place = tempfile::tempdir().unwrap();
        let stage = Stage::open(&place.path().join("stage")).unwrap();
        let mut slot = stage.take(of(5, 0), 100).unwrap();
        slot.append(b"acknowledged").unwrap();
        drop(slot);
        drop(stage.take(of(6, 0), 1).unwrap());
        let left = stage.left().unwrap();
        assert_eq!(left.iter().map(|left| left.data.as_slice()).collect::<Vec<_>>(), [b"acknowledged"]);
        assert_eq!(stage.free.lock().len(), SLOTS as usize - 1, "and is not given out again");
    }

    #[test]
    fn a_successor_knows_whose_it_was() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("stage");
        let stage = Stage::open(&path).unwrap();
        assert_eq!(stage.last_session().unwrap(), 0);
        stage.used_by(77).unwrap();
        drop(stage);
        assert_eq!(Stage::open(&path).unwrap().last_session().unwrap(), 77);
    }

    #[test]
    fn a_successor_waits_until_the_file_is_free() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("stage");
        let dying = Stage::open(&path).unwrap();
        let successor = std::thread::spawn(move || Stage::open(&path).map(drop));
        drop(dying);
        successor.join().unwrap().unwrap();
    }

    #[test]
    fn all_slots_can_be_taken_once() {
        let place = tempfile::tempdir().unwrap();
        let stage = Stage::open(&place.path().join("stage")).unwrap();
        let mut all: Vec<Slot> = (0..SLOTS).map(|n| stage.take(of(u64::from(n), 0), 1).unwrap()).collect();
        assert!(stage.take(of(99, 0), 1).is_none());
        all.pop();
        assert!(stage.take(of(99, 0), 1).is_some());
    }

    #[test]
    fn a_piece_that_grows_moves_to_a_large_slot_and_is_found_once() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("stage");
        let stage = Stage::open(&path).unwrap();
        let mut grows = stage.take(of(5, 0), 1).unwrap();
        let mut stays = stage.take(of(6, 0), 1).unwrap();
        grows.append(&[1; TINY_BYTES]).unwrap();
        assert_eq!(stage.free.lock().small.len(), SMALL as usize, "tiny pieces leave the others alone");
        grows.append(&[1; SMALL_BYTES - TINY_BYTES]).unwrap();
        stays.append(&[2; SMALL_BYTES]).unwrap();
        assert_eq!(stage.free.lock().tiny.len(), TINY as usize);
        assert_eq!(stage.free.lock().large.len(), LARGE as usize, "small pieces leave the large slots alone");
        grows.append(&[3; 10]).unwrap();
        let told = |stage: &Stage| -> Vec<_> {
            stage.left().unwrap().iter().map(|left| (left.label.ino, left.data.len(), left.data[0])).collect()
        };
        assert_eq!(told(&stage), [(5, SMALL_BYTES + 10, 1), (6, SMALL_BYTES, 2)]);
        // No large slot is left: nothing is added, and what is there stays.
        let all: Vec<Slot> = (1..LARGE).map(|_| stage.take(of(7, 0), SLOT_BYTES).unwrap()).collect();
        assert_eq!(stays.append(&[9]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(told(&stage), [(5, SMALL_BYTES + 10, 1), (6, SMALL_BYTES, 2)]);
        drop(all);
        stays.append(&[9]).unwrap();
        assert_eq!(told(&stage), [(5, SMALL_BYTES + 10, 1), (6, SMALL_BYTES + 1, 2)]);
        grows.cross_out();
        stays.cross_out();
        assert_eq!(stage.free.lock().len(), SLOTS as usize);
    }

    #[test]
    fn what_an_earlier_build_left_is_found() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("stage");
        let stage = Stage::open(&path).unwrap();
        let mut slot = stage.take(of(5, 0), SLOT_BYTES).unwrap();
        slot.append(b"acknowledged").unwrap();
        // Its file had no small slots.
        stage.file.set_len(SMALL_LABELS_AT).unwrap();
        drop((slot, stage));
        let stage = Stage::open(&path).unwrap();
        assert_eq!(stage.left().unwrap()[0].data, b"acknowledged");
        assert!(stage.take(of(6, 0), 1).is_some());
    }

    proptest! {
        #[test]
        fn damaged_labels_are_no_pieces(at in 0..LABEL_BYTES, bit in 0..8u8, len in 1..=SLOT_BYTES) {
            let kept = KeptAttributes { mode: Some(0o640), epoch: 3, ..KeptAttributes::default() };
            let told = Label { kept: Some(kept).filter(|_| len % 2 == 0), ..of(5, 77) };
            let good = label(9, &told, len);
            prop_assert_eq!(parse(&good), Some((9, told, len)));
            let mut bad = good;
            bad[at] ^= 1 << bit;
            prop_assert_eq!(parse(&bad), None);
        }
    }
}
