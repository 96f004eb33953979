//! The disk seam: a directory of flat files with explicit sync.
//!
//! What a write promises: it survives the death of the process at once (page cache), and the loss of the
//! machine only after `sync` of that file answered. A new or removed name is durable after `sync_dir`.
//! A failed sync is final: the caller must treat everything since the last good one as lost.
//! A write that finds no room fails with `StorageFull` (see [`is_full`]), may have left its first part, and can be done again when there
//! is room.

pub mod fault;
pub mod os;
pub mod sim;

use std::io;
use std::sync::Arc;

/// A directory that one owner uses.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file, making it when it is missing and `create` says so.
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>>;
    /// Names, sorted.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Removes a file; a missing one is no error.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Moves a file over another, atomically.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Makes names durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// Bytes that may still be written here, whoever takes them.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// Whether an error means that there is no room, which may pass.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A file. Offsets and lengths are bytes.
pub trait DiskFile: Send + Sync + 'static {
    /// Reads exactly `buf.len()` bytes; `UnexpectedEof` beyond the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `data`.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Current length.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Sets the length; new bytes are zero.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes the file at least `len` bytes long, and has the room for all of them. When there is not that much the file
    /// is as it was.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Data and length are on the medium when this answers.
    fn sync(&self) -> io::Result<()>;
}

/// Replaces a small file atomically and durably: write beside, sync, rename, sync the directory.
pub fn replace(disk: &dyn Disk, name: &str, content: &[u8]) -> io::Result<()> {
    let beside = format!("{name}.tmp");
    let file = disk.open(&beside, true)?;
    file.set_len(0)?;
    file.write_at(content, 0)?;
    file.sync()?;
    disk.rename(&beside, name)?;
    disk.sync_dir()
}

/// Reads a whole small file; `None` when it does not exist.
pub fn read(disk: &dyn Disk, name: &str) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(name, false) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut content = vec![0; len];
    file.read_at(&mut content, 0)?;
    Ok(Some(content))
}

/// The suite that every [`Disk`] passes. `fresh` gives an empty disk.
#[doc(hidden)]
#[allow(clippy::unwrap_used, reason = "a test suite: unwrap is its assertion")]
pub fn contract(fresh: impl Fn() -> Arc<dyn Disk>) {
    let disk = fresh();
    assert!(disk.list().unwrap().is_empty());
    assert_eq!(disk.open("a", false).err().map(|e| e.kind()), Some(io::ErrorKind::NotFound));
    let file = disk.open("a", true).unwrap();
    file.write_at(b"hello", 3).unwrap();
    assert_eq!(file.len().unwrap(), 8);
    let mut buf = [9u8; 8];
    file.read_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"\0\0\0hello");
    assert_eq!(file.read_at(&mut buf, 1).err().map(|e| e.kind()), Some(io::ErrorKind::UnexpectedEof));
    file.set_len(4).unwrap();
    file.allocate(6).unwrap();
    file.allocate(5).unwrap();
    assert!(disk.free_bytes().unwrap() > 0);
    let mut buf = [9u8; 6];
    disk.open("a", false).unwrap().read_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"\0\0\0h\0\0");
    file.sync().unwrap();
    replace(&*disk, "b", b"new").unwrap();
    replace(&*disk, "b", b"newer").unwrap();
    assert_eq!(read(&*disk, "b").unwrap().as_deref(), Some(&b"newer"[..]));
    assert_eq!(disk.list().unwrap(), ["a", "b"]);
    disk.rename("b", "a").unwrap();
    assert_eq!(disk.list().unwrap(), ["a"]);
    disk.remove("a").unwrap();
    disk.remove("a").unwrap();
    assert_eq!(read(&*disk, "a").unwrap(), None);
}
