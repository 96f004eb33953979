//! What exec needs of a file system, and nothing more.
//!
//! Two implementations with one behaviour: the client library (no mount needed, and the metadata server knows who still
//! writes), and a local directory ([`local::LocalStore`]), which also serves any mounted file system.
//! Paths are relative to the volume's root, with `/` between names, never absolute, never with `..`. Symbolic links
//! are never followed: users own the directories that a privileged manager works in.

mod local;
mod news;
mod volume;

use futures::future::BoxFuture;

pub use local::LocalStore;
pub use volume::VolumeStore;

/// An operation under way.
pub type Op<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// What failed, on what, why.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{op} {path}: {}", std::io::Error::from_raw_os_error(*errno))]
pub struct StoreError {
    /// The operation.
    pub op: &'static str,
    /// The path it was given.
    pub path: String,
    /// The POSIX error.
    pub errno: i32,
}

impl StoreError {
    /// An error of `op` on `path`.
    pub fn new(op: &'static str, path: &str, errno: i32) -> Self {
        Self { op, path: path.to_string(), errno }
    }

    /// There is nothing of that name.
    pub fn is_missing(&self) -> bool {
        matches!(self.errno, libc::ENOENT | libc::ENOTDIR)
    }

    /// The name is taken.
    pub fn is_taken(&self) -> bool {
        self.errno == libc::EEXIST
    }

    /// Somebody still writes the file, or may do so.
    pub fn is_busy(&self) -> bool {
        matches!(self.errno, libc::ETXTBSY | libc::EBUSY)
    }

    /// The log is not as long as the caller thinks: another writer was there.
    pub fn is_stale(&self) -> bool {
        self.errno == libc::ESTALE
    }
}

/// What kind of thing a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A fifo, socket or device.
    Other,
}

/// A name in a directory.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name; bytes that are not UTF-8 are replaced (such names are never accepted anyway).
    pub name: String,
    /// Its kind.
    pub kind: Kind,
}

/// Attributes, of the link itself if it is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Stat {
    /// Identity of the file for as long as it exists, and different from that of any file before it.
    pub file_id: u64,
    /// Kind.
    pub kind: Kind,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Names.
    pub links: u64,
    /// Last change of the contents, nanoseconds since 1970.
    pub mtime_ns: u64,
}

/// Who owns a new file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// How a new file is made.
#[derive(Clone, Copy, Debug)]
pub struct Put {
    /// Permission bits.
    pub mode: u32,
    /// Owner; the manager itself when none.
    pub owner: Option<Owner>,
    /// Wait until it survives a power failure.
    pub sync: bool,
}

impl Put {
    /// Readable by all, not synced: for what can be derived again.
    pub const DERIVED: Put = Put { mode: 0o644, owner: None, sync: false };
    /// Readable by all, synced.
    pub const DURABLE: Put = Put { mode: 0o644, owner: None, sync: true };
}

/// What a rename does about what stands at its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Takes its place.
    Replace,
    /// Fails with `EEXIST`.
    NoReplace,
    /// The same, and fails with `EBUSY` while somebody has the source open for writing (or, where that cannot be
    /// known, while it changed within the last 2 s).
    NoReplaceIfNoWriter,
}

/// Directories in which something changed, as paths; `None`: look everywhere.
pub type News = Vec<Option<String>>;

/// Tells what changes below a directory, so that nobody has to look all the time.
pub trait SpoolWatch: Send {
    /// What changed since the last answer; waits for it, some seconds at most. Changes by this manager itself are left out.
    fn next(&mut self) -> BoxFuture<'_, Result<News, StoreError>>;
}

/// The file system under the spool.
pub trait SpoolStore: Send + Sync + 'static {
    /// Number of the volume, part of job ids.
    fn volume(&self) -> u64;

    /// Begins to watch what is below a directory; `None` where the file system cannot tell. What changes after this
    /// answered is told.
    fn watch<'a>(&'a self, _dir: &'a str) -> Op<'a, Option<Box<dyn SpoolWatch>>> {
        Box::pin(async { Ok(None) })
    }

    /// Names in a directory without `.` and `..`, in any order, `most` of them at most.
    fn list<'a>(&'a self, dir: &'a str, most: usize) -> Op<'a, Vec<Entry>>;

    /// Attributes.
    fn stat<'a>(&'a self, path: &'a str) -> Op<'a, Stat>;

    /// The contents of a regular file, `most` bytes at most (more is `EFBIG`).
    fn read<'a>(&'a self, path: &'a str, most: usize) -> Op<'a, Vec<u8>>;

    /// Writes a file whole: readers see the old contents or the new, nothing between.
    fn replace<'a>(&'a self, path: &'a str, bytes: &'a [u8], put: Put) -> Op<'a, ()>;

    /// Writes a file that nobody else looks at yet; a crash may leave a part of it.
    fn write<'a>(&'a self, path: &'a str, bytes: &'a [u8], put: Put) -> Op<'a, ()>;

    /// Makes a file with its whole contents if the name is free: of several callers one wins. Whether it was this one.
    fn create_once<'a>(&'a self, path: &'a str, bytes: &'a [u8], put: Put) -> Op<'a, bool>;

    /// Appends to a file that must be `expected` bytes long (`ESTALE` if it is not); makes it when `expected` is 0.
    fn append<'a>(&'a self, path: &'a str, bytes: &'a [u8], expected: u64, sync: bool) -> Op<'a, ()>;

    /// Renames within the volume.
    fn rename<'a>(&'a self, from: &'a str, to: &'a str, mode: RenameMode) -> Op<'a, ()>;

    /// Removes a file.
    fn remove<'a>(&'a self, path: &'a str) -> Op<'a, ()>;

    /// Sets permission bits.
    fn chmod<'a>(&'a self, path: &'a str, mode: u32) -> Op<'a, ()>;

    /// Makes a directory; `false` when it is there already.
    fn mkdir<'a>(&'a self, path: &'a str, mode: u32, owner: Option<Owner>) -> Op<'a, bool>;
}
