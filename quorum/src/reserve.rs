//! Room that is kept on the disk of a log for what must go on when somebody has filled it: a file whose blocks are allocated, so
//! that nobody else can take them. It is given up in steps, by whatever write of the log finds no room, and taken back when there
//! is some. See `docs/protocols/raft.md`, "A full disk".

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rt::disk::{Disk, DiskFile, is_full};

/// The file.
const NAME: &str = "reserve";
/// It is given up in so many steps: whoever fills the disk may take each of them away from us.
const STEPS: u64 = 8;
/// With less than this free there is none for changes that take room: votes, heads of terms and the table's flushes need some.
pub(crate) const FLOOR: u64 = 4 << 20;
/// It is looked so often at most.
const LOOK: Duration = Duration::from_millis(20);

struct Inner {
    /// `None`: it could not be made yet, or there is to be none.
    file: Option<Arc<dyn DiskFile>>,
    /// Bytes that it has.
    held: u64,
}

/// See the module.
pub struct Reserve {
    disk: Arc<dyn Disk>,
    size: u64,
    /// order: a leaf.
    inner: Mutex<Inner>,
    /// When it is looked again, nanoseconds of the monotonic clock, and what was seen.
    look_at: AtomicU64,
    tight: AtomicBool,
}

/// Before anything else is opened on a disk that is full: the reserve is given up, so that it can be.
pub fn give_up_for_opening(disk: &dyn Disk, needed: u64) {
    if disk.free_bytes().is_ok_and(|free| free < needed)
        && let Ok(file) = disk.open(NAME, false)
        && let Err(error) = file.set_len(0)
    {
        tracing::warn!(%error, "the reserve of a log cannot be given up");
    }
}

impl Reserve {
    /// Takes what there is room for. `size` 0: none is kept.
    pub fn open(disk: Arc<dyn Disk>, size: u64) -> Arc<Self> {
        let file = if size > 0 { disk.open(NAME, true).ok() } else { None };
        let held = file.as_ref().and_then(|file| file.len().ok()).unwrap_or(0);
        let reserve = Self {
            disk,
            size,
            inner: Mutex::new(Inner { file, held: held.min(size) }),
            look_at: AtomicU64::new(0),
            tight: AtomicBool::new(false),
        };
        reserve.restore();
        Arc::new(reserve)
    }

    /// The disk, for writes that may take of the reserve.
    pub fn disk(self: &Arc<Self>) -> Arc<dyn Disk> {
        Arc::new(Backed { reserve: self.clone() })
    }

    fn free(&self) -> u64 {
        // What it cannot say does not stop anybody: the writes find out.
        self.disk.free_bytes().unwrap_or(u64::MAX)
    }

    /// Bytes that are held.
    pub(crate) fn held(&self) -> u64 {
        self.inner.lock().held
    }

    /// Whether there is less room than there should be, as it was last seen.
    pub(crate) fn is_tight(&self) -> bool {
        self.tight.load(Ordering::Acquire)
    }

    /// Looks now and then; takes back of the reserve what there is room for. Whether there is less room than there should be.
    pub(crate) fn look(&self, now: Duration) -> bool {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        if nanos(now) >= self.look_at.load(Ordering::Acquire) {
            self.look_at.store(nanos(now + LOOK), Ordering::Release);
            self.restore();
            let tight = self.held() < self.size || self.free() < FLOOR;
            self.tight.store(tight, Ordering::Release);
        }
        self.is_tight()
    }

    /// Whether a change may be made now that must go on on a full disk: the last step is for what holds the group together.
    pub(crate) fn has_some(&self) -> bool {
        self.free() >= FLOOR || self.held() > self.step()
    }

    fn step(&self) -> u64 {
        self.size.div_ceil(STEPS).max(1)
    }

    /// Something finds no room: a step of the reserve is given up for it. False: nothing is left.
    fn give_up(&self) -> bool {
        let mut inner = self.inner.lock();
        let Some(file) = inner.file.clone().filter(|_| inner.held > 0) else { return false };
        let left = inner.held.saturating_sub(self.step());
        if let Err(error) = file.set_len(left) {
            tracing::warn!(%error, "the reserve of a log cannot be given up");
            return false;
        }
        tracing::warn!(left, "the disk of a log is full: a part of its reserve is used");
        inner.held = left;
        self.tight.store(true, Ordering::Release);
        true
    }

    /// Makes sure of `bytes` free, if it takes not more than a half of the reserve.
    pub(crate) fn must_have(&self, bytes: u64) -> bool {
        loop {
            let (free, held) = (self.free(), self.held());
            if free >= bytes {
                return true;
            }
            let may = held.saturating_sub(self.size / 2);
            if may == 0 || free + may < bytes || !self.give_up() {
                return false;
            }
        }
    }

    /// Takes back what there is room for; some stays free.
    fn restore(&self) {
        let mut inner = self.inner.lock();
        let missing = self.size - inner.held;
        if missing == 0 {
            return;
        }
        let may = self.free().saturating_sub(FLOOR).min(missing);
        if may < missing && may < self.step() {
            return;
        }
        if inner.file.is_none() {
            inner.file = self.disk.open(NAME, true).ok();
        }
        let Some(file) = inner.file.clone() else { return };
        match file.allocate(inner.held + may) {
            Ok(()) => inner.held += may,
            // Somebody was quicker.
            Err(error) => tracing::debug!(%error, "the reserve of a log is not whole yet"),
        }
    }

    fn insist<T>(&self, mut what: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            match what() {
                Err(error) if is_full(&error) && self.give_up() => {}
                done => return done,
            }
        }
    }
}

struct Backed {
    reserve: Arc<Reserve>,
}

impl Disk for Backed {
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.reserve.insist(|| self.reserve.disk.open(name, create))?;
        Ok(Arc::new(BackedFile { file, reserve: self.reserve.clone() }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = self.reserve.disk.list()?;
        names.retain(|name| name != NAME);
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.reserve.disk.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.reserve.insist(|| self.reserve.disk.rename(from, to))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.reserve.disk.sync_dir()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.reserve.disk.free_bytes()
    }
}

struct BackedFile {
    file: Arc<dyn DiskFile>,
    reserve: Arc<Reserve>,
}

impl DiskFile for BackedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        // Again from the first byte: what a write that found no room left is written over.
        self.reserve.insist(|| self.file.write_at(data, offset))
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.reserve.insist(|| self.file.set_len(len))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.reserve.insist(|| self.file.allocate(len))
    }

    // A sync that fails is final, whatever it says.
    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

#[cfg(test)]
mod tests {
    use rt::disk::sim::SimDisk;

    use super::*;

    const SIZE: u64 = 8 << 20;
    const STEP: u64 = SIZE / STEPS;

    /// A disk with a reserve and so much free besides.
    fn world(free: u64) -> (SimDisk, Arc<Reserve>) {
        let disk = SimDisk::new();
        disk.resize(SIZE + FLOOR + free);
        let reserve = Reserve::open(Arc::new(disk.clone()), SIZE);
        assert_eq!(reserve.held(), SIZE);
        (disk, reserve)
    }

    #[test]
    fn writes_that_find_no_room_take_of_it_step_by_step_to_the_last() {
        let (disk, reserve) = world(0);
        let at = Duration::from_secs(1);
        assert!(!reserve.look(at));
        let hog = disk.open("hog", true).unwrap();
        hog.set_len(FLOOR).unwrap();
        assert!(!reserve.look(at) && reserve.look(at + LOOK), "it is looked now and then");
        assert!(reserve.has_some());
        let log = reserve.disk().open("log", true).unwrap();
        let mut written = 0;
        for left in (0..STEPS).rev() {
            log.write_at(&[1; 4096], written).unwrap();
            assert_eq!(reserve.held(), left * STEP);
            assert_eq!(reserve.has_some(), left > 1, "the last step is for what holds the group together");
            log.set_len(written + STEP).unwrap();
            written += STEP;
        }
        assert!(is_full(&log.write_at(&[1; 4096], written).unwrap_err()));
        assert_eq!(reserve.disk().list().unwrap(), ["hog", "log"]);
        // Room again: it is whole before changes are taken that need room.
        hog.set_len(0).unwrap();
        log.set_len(0).unwrap();
        assert!(!reserve.look(at + 2 * LOOK));
        assert_eq!(reserve.held(), SIZE);
    }

    #[test]
    fn crumbs_are_left_free_and_a_half_is_kept_from_flushes() {
        let (disk, reserve) = world(0);
        let hog = disk.open("hog", true).unwrap();
        hog.set_len(FLOOR).unwrap();
        assert!(!reserve.must_have(SIZE / 2 + 1) && reserve.held() == SIZE, "nothing is given up in vain");
        assert!(reserve.must_have(SIZE / 2) && reserve.held() == SIZE / 2);
        assert!(!reserve.must_have(SIZE / 2 + 1));
        hog.set_len(SIZE / 2 + 1 - STEP).unwrap();
        reserve.restore();
        assert_eq!(reserve.held(), SIZE / 2, "less than a step above what stays free");
        hog.set_len(SIZE / 2 - STEP).unwrap();
        reserve.restore();
        assert_eq!(reserve.held(), SIZE / 2 + STEP);
        assert!(reserve.look(Duration::from_secs(1)), "not whole yet");
    }

    #[test]
    fn an_opening_on_a_full_disk_gives_it_up_and_a_size_of_nothing_keeps_none() {
        let (disk, reserve) = world(0);
        drop(reserve);
        disk.open("hog", true).unwrap().set_len(FLOOR).unwrap();
        give_up_for_opening(&disk, 1);
        assert_eq!(disk.free_bytes().unwrap(), SIZE);
        let reserve = Reserve::open(Arc::new(disk.clone()), SIZE);
        assert_eq!(reserve.held(), SIZE - FLOOR, "half of it, and some stays free");
        let (disk, none) = (SimDisk::new(), 0);
        disk.resize(0);
        let reserve = Reserve::open(Arc::new(disk.clone()), none);
        assert!(disk.list().unwrap().is_empty() && !reserve.has_some());
        assert!(reserve.look(Duration::from_secs(1)));
    }
}
