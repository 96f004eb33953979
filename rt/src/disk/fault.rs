//! A disk that is slow or full when it is told to be: for tests of what stands on it.
//!
//! With `XTFS_FAULT_DISK` in the environment the file `fault-disk` in the disk's folder says what is wrong with it, a word per line:
//! `delay-ms 40` (each read, write and sync takes so much longer), `full` (somebody else's file has taken what was free). Without
//! the variable nothing of this is built in, and nothing is looked at.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Disk, DiskFile};

/// The variable that allows faults.
pub const VARIABLE: &str = "XTFS_FAULT_DISK";
/// The file that says which.
pub const FILE: &str = "fault-disk";
/// It is read again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Longer is not waited.
const MOST_MS: u64 = 10_000;

#[derive(Debug, Default)]
struct Said {
    looked: Option<Instant>,
    delay: Duration,
    /// `Some`: full but for these bytes, which were given back since it became so.
    room: Option<u64>,
}

/// What is wrong with a disk at the moment.
#[derive(Debug)]
pub struct Faults {
    file: PathBuf,
    /// order: a leaf.
    said: Mutex<Said>,
}

impl Faults {
    /// `None`, unless the environment allows faults.
    #[must_use]
    pub fn asked_for(folder: &Path) -> Option<Arc<Self>> {
        std::env::var_os(VARIABLE).is_some().then(|| Self::told_by(folder))
    }

    fn told_by(folder: &Path) -> Arc<Self> {
        Arc::new(Self { file: folder.join(FILE), said: Mutex::default() })
    }

    fn look<T>(&self, what: impl FnOnce(&mut Said) -> T) -> T {
        let mut said = self.said.lock();
        if said.looked.is_none_or(|at| at.elapsed() >= LOOK_AGAIN) {
            let text = std::fs::read_to_string(&self.file).unwrap_or_default();
            let delay_ms = text.lines().find_map(|line| line.strip_prefix("delay-ms ")?.trim().parse().ok());
            said.delay = Duration::from_millis(delay_ms.unwrap_or(0).min(MOST_MS));
            let full = text.lines().any(|line| line.trim() == "full");
            said.room = full.then(|| said.room.unwrap_or(0));
            said.looked = Some(Instant::now());
        }
        what(&mut said)
    }

    /// How much longer each operation takes now.
    #[must_use]
    pub fn delay(&self) -> Duration {
        self.look(|said| said.delay)
    }

    /// What is left on a full disk; `None`: it is not full.
    #[must_use]
    pub fn room(&self) -> Option<u64> {
        self.look(|said| said.room)
    }

    /// Something grows by so much: refused when there is no room for it.
    pub fn take(&self, bytes: u64) -> io::Result<()> {
        self.look(|said| match said.room {
            Some(room) if room < bytes => Err(io::ErrorKind::StorageFull.into()),
            Some(room) => {
                said.room = Some(room - bytes);
                Ok(())
            }
            None => Ok(()),
        })
    }

    /// Something was made shorter, or removed.
    pub fn give_back(&self, bytes: u64) {
        self.look(|said| said.room = said.room.map(|room| room.saturating_add(bytes)));
    }

    fn pause(&self) {
        let delay = self.delay();
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
    }

    /// The length of something changes from `before` to what `change` makes of it.
    fn resize(&self, before: u64, after: u64, change: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.take(after.saturating_sub(before))?;
        let done = change();
        let back = if done.is_ok() { before.saturating_sub(after) } else { after.saturating_sub(before) };
        self.give_back(back);
        done
    }
}

/// See the module.
pub struct FaultDisk {
    disk: Arc<dyn Disk>,
    faults: Arc<Faults>,
}

impl FaultDisk {
    /// `disk`, with these faults.
    #[must_use]
    pub fn over(disk: Arc<dyn Disk>, faults: Arc<Faults>) -> Arc<Self> {
        Arc::new(Self { disk, faults })
    }

    /// Of a file that may be missing; 0 while nobody asks.
    fn len(&self, name: &str) -> u64 {
        let len = || self.disk.open(name, false)?.len();
        if self.faults.room().is_some() { len().unwrap_or(0) } else { 0 }
    }
}

impl Disk for FaultDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(name, create)?;
        Ok(Arc::new(FaultFile { file, faults: self.faults.clone() }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let len = self.len(name);
        self.disk.remove(name)?;
        self.faults.give_back(len);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let len = self.len(to);
        self.disk.rename(from, to)?;
        self.faults.give_back(len);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.faults.pause();
        self.disk.sync_dir()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let free = self.disk.free_bytes()?;
        Ok(self.faults.room().map_or(free, |room| room.min(free)))
    }
}

struct FaultFile {
    file: Arc<dyn DiskFile>,
    faults: Arc<Faults>,
}

impl DiskFile for FaultFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.faults.pause();
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.faults.pause();
        if self.faults.room().is_none() {
            return self.file.write_at(data, offset);
        }
        let before = self.file.len()?;
        let after = before.max(offset + data.len() as u64);
        self.faults.resize(before, after, || self.file.write_at(data, offset))
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let before = self.file.len()?;
        self.faults.resize(before, len, || self.file.set_len(len))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let before = self.file.len()?;
        self.faults.resize(before, before.max(len), || self.file.allocate(len))
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.pause();
        self.file.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::super::sim::SimDisk;
    use super::super::{is_full, read};
    use super::*;

    fn disk(folder: &Path) -> Arc<FaultDisk> {
        FaultDisk::over(Arc::new(SimDisk::new()), Faults::told_by(folder))
    }

    fn say(folder: &Path, text: &str) {
        std::fs::write(folder.join(FILE), text).unwrap();
        std::thread::sleep(LOOK_AGAIN + Duration::from_millis(10));
    }

    #[test]
    fn passes_the_contract_while_nothing_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        super::super::contract(|| disk(dir.path()));
    }

    #[test]
    fn a_full_disk_refuses_growth_takes_the_rest_and_has_what_is_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let disk = disk(dir.path());
        let (file, other) = (disk.open("f", true).unwrap(), disk.open("g", true).unwrap());
        file.write_at(&[1; 10], 0).unwrap();
        other.write_at(&[1; 8], 0).unwrap();
        say(dir.path(), "full\n");
        assert_eq!(disk.free_bytes().unwrap(), 0);
        assert!(is_full(&file.write_at(&[2; 4], 8).unwrap_err()));
        assert!(is_full(&file.allocate(11).unwrap_err()) && is_full(&file.set_len(11).unwrap_err()));
        file.write_at(&[3; 4], 6).unwrap();
        other.set_len(5).unwrap();
        assert_eq!(disk.free_bytes().unwrap(), 3);
        file.write_at(&[4; 4], 8).unwrap();
        assert_eq!(disk.free_bytes().unwrap(), 1);
        disk.remove("g").unwrap();
        assert_eq!(disk.free_bytes().unwrap(), 6);
        say(dir.path(), "");
        file.write_at(&[5; 100], 12).unwrap();
        assert_eq!(read(&*disk, "f").unwrap().unwrap().len(), 112);
        assert!(disk.free_bytes().unwrap() > 100);
    }

    #[test]
    fn a_slow_disk_takes_longer_until_it_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let disk = disk(dir.path());
        let file = disk.open("f", true).unwrap();
        let took = |file: &Arc<dyn DiskFile>| {
            let began = Instant::now();
            file.write_at(b"x", 0).unwrap();
            file.sync().unwrap();
            began.elapsed()
        };
        say(dir.path(), "delay-ms 100\n");
        assert!(took(&file) >= Duration::from_millis(200));
        say(dir.path(), "");
        assert!(took(&file) < Duration::from_millis(100));
    }
}
