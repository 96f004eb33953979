//! What happened: calls with times and outcomes, and events beside them. What may have happened is [`crate::model`].

mod errno;
pub mod operation;
pub mod text;

pub use errno::{errno_name, errno_number};
pub use operation::{FileOp, LockKind, LockOp, LogOp, Operation, RenameMode, TreeOp};

/// Everything recorded in one run on one file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Calls in any order.
    pub calls: Vec<Call>,
    /// Events in any order.
    pub events: Vec<Event>,
}

/// One call of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The mount or host that the process used.
    pub client: u16,
    /// The process; its calls never overlap one another.
    pub process: u16,
    /// When it was about to be made, nanoseconds of one clock for the whole history.
    pub invoked: u64,
    /// When it returned. `None`: never, or nobody knows.
    pub returned: Option<u64>,
    /// What it was about. Calls on different objects are independent of one another.
    pub object: Object,
    /// What was asked.
    pub operation: Operation,
    /// What came of it.
    pub outcome: Outcome,
}

/// A part of the file system that no recorded call leaves, and that began empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Object {
    /// A directory with everything below it: names, links, attributes, small contents.
    Tree(u32),
    /// A file reached through descriptors only: cells, size, holes.
    File(u32),
    /// A file that is only appended to, whole records at a time, and read.
    Log(u32),
    /// A file that only carries locks.
    Locks(u32),
}

/// What a caller learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Ok(Value),
    /// It failed with this errno and had no effect.
    Failed(i32),
    /// It may have taken effect, or may still, or not: a time-out, a lost connection, a killed process.
    Unknown,
}

/// What a successful call returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing but success.
    Nothing,
    /// The inode number behind a descriptor.
    Inode(u64),
    /// Attributes.
    Attributes(Attributes),
    /// A symlink's target.
    Text(String),
    /// Names in a directory, in the order given, without `.` and `..`.
    Names(Vec<String>),
    /// Cells read; fewer than asked for at the end of the file.
    Cells(Vec<Cell>),
    /// An offset or a size, cells.
    Offset(u32),
}

/// What `stat` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Inode number.
    pub ino: u64,
    /// File, directory or symlink.
    pub kind: Kind,
    /// Link count; not compared for directories.
    pub links: u32,
    /// Permission bits.
    pub mode: u32,
    /// Size in bytes; compared for files only.
    pub size: u64,
    /// Modification time, nanoseconds; 0 if it was not recorded.
    pub mtime: u64,
}

/// Kinds of inodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
}

/// The content of one cell of a file. A writer fills a whole cell with copies of one tag that nobody else writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cell {
    /// All zeroes: never written, or a hole.
    Zero,
    /// One tag all over.
    Tag(u32),
    /// Parts of several writes (0 stands for zeroes).
    Torn(Vec<u32>),
    /// Bytes that no writer makes.
    Garbage,
}

/// What happened to machines, not to calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// When, nanoseconds.
    pub at: u64,
    /// What.
    pub what: Happening,
}

/// Kinds of [`Event`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// A process of the file system died or was restarted: everything acknowledged stays.
    Killed,
    /// All power went: what was not synced may be gone, later changes before earlier ones.
    PowerLost,
    /// The client was shut out: none of its calls with unknown outcome takes effect from now on.
    Fenced(u16),
}

impl Outcome {
    /// The outcome of a failed system call: errors that say nothing about the effect are [`Outcome::Unknown`].
    #[must_use]
    pub fn from_errno(errno: i32) -> Self {
        match errno {
            libc::EIO
            | libc::ETIMEDOUT
            | libc::ENOTCONN
            | libc::EINTR
            | libc::ECONNABORTED
            | libc::ESTALE
            | libc::ECONNRESET
            | libc::ECONNREFUSED
            | libc::EHOSTDOWN
            | libc::ENODEV
            | libc::ESHUTDOWN => Self::Unknown,
            other => Self::Failed(other),
        }
    }

    /// Whether it is [`Outcome::Ok`].
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Ok(_))
    }
}

impl Call {
    /// The end of the time in which it may have taken effect; `u64::MAX` if that is open.
    #[must_use]
    pub fn end(&self) -> u64 {
        match (&self.outcome, self.returned) {
            (Outcome::Unknown, _) | (_, None) => u64::MAX,
            (_, Some(at)) => at,
        }
    }
}
