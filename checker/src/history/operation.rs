//! What a call asked for. Offsets and lengths are in cells, names are relative to the tree.

/// What was asked of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Of a tree.
    Tree(TreeOp),
    /// Of a file.
    File(FileOp),
    /// Of a log.
    Log(LogOp),
    /// Of a file with locks.
    Lock(LockOp),
}

/// Calls on a directory tree. A path has its components separated by `/`; the empty path is the tree's root. Handles
/// are numbers of the process's own choice. The last component is never followed if it is a symlink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeOp {
    /// `mkdir`
    Mkdir { path: String, mode: u32 },
    /// `rmdir`
    Rmdir { path: String },
    /// `open(O_RDWR | O_CREAT)`, with `O_EXCL` if exclusive: gives the inode
    Create { path: String, mode: u32, exclusive: bool, handle: u16 },
    /// `open(O_RDWR)`: gives the inode
    Open { path: String, handle: u16 },
    /// `close`
    Close { handle: u16 },
    /// `unlink`
    Unlink { path: String },
    /// `link`
    Link { from: String, to: String },
    /// `symlink` to a target that never exists
    Symlink { target: String, path: String },
    /// `readlink`: gives the text
    Readlink { path: String },
    /// `renameat2`
    Rename { from: String, to: String, mode: RenameMode },
    /// `lstat`: gives attributes
    Stat { path: String },
    /// `fstat`: gives attributes
    StatHandle { handle: u16 },
    /// `readdir` to the end: gives names
    List { path: String },
    /// `chmod`
    Chmod { path: String, mode: u32 },
    /// `pwrite` of one tag (8 bytes) at offset 0
    Put { handle: u16, tag: u32 },
    /// `pread` at offset 0: gives no cell or one
    Get { handle: u16 },
    /// `open`, `pread`, `close`: gives no cell or one
    GetPath { path: String },
    /// `fsync` of a file
    Sync { handle: u16 },
    /// `fsync` of the tree's directories
    SyncNames,
}

/// What happens when the new name exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameMode {
    /// It is replaced.
    Replace,
    /// `RENAME_NOREPLACE`: the call fails.
    NoReplace,
    /// `RENAME_EXCHANGE`: the two change places.
    Exchange,
}

/// Calls on one file through descriptors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileOp {
    /// `pwrite` of `count` cells, all with this tag
    Write { at: u32, count: u32, tag: u32 },
    /// `pread`: gives cells
    Read { at: u32, count: u32 },
    /// `write` of one cell with `O_APPEND`
    Append { tag: u32 },
    /// `ftruncate`
    Truncate { size: u32 },
    /// `fallocate`: size grows if needed, new bytes are zero
    Allocate { at: u32, count: u32 },
    /// `fallocate(PUNCH_HOLE | KEEP_SIZE)`
    Punch { at: u32, count: u32 },
    /// `fstat`: gives the size
    Size,
    /// `lseek(SEEK_DATA)`: gives an offset
    SeekData { at: u32 },
    /// `lseek(SEEK_HOLE)`: gives an offset
    SeekHole { at: u32 },
    /// `fsync`
    Sync,
}

/// Calls on a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOp {
    /// `write` of one record with `O_APPEND`
    Append { tag: u32 },
    /// All records from the beginning: gives cells, one for each record
    Read,
}

/// Calls on locks. The owner of a `fcntl` lock is the process, that of a `flock` the process's descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockOp {
    /// `F_SETLK` or `flock(LOCK_NB)`; with `wait` the forms that wait
    Lock { kind: LockKind, exclusive: bool, at: u32, count: u32, wait: bool },
    /// `F_UNLCK` or `LOCK_UN`
    Unlock { kind: LockKind, at: u32, count: u32 },
}

/// Families of locks, which know nothing of one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LockKind {
    /// POSIX record locks
    Fcntl,
    /// BSD whole-file locks
    Flock,
}

impl TreeOp {
    /// The paths it names.
    #[must_use]
    pub fn paths(&self) -> Vec<&str> {
        match self {
            Self::Mkdir { path, .. }
            | Self::Rmdir { path }
            | Self::Create { path, .. }
            | Self::Open { path, .. }
            | Self::Unlink { path }
            | Self::Symlink { path, .. }
            | Self::Readlink { path }
            | Self::Stat { path }
            | Self::List { path }
            | Self::Chmod { path, .. }
            | Self::GetPath { path } => vec![path],
            Self::Link { from, to } | Self::Rename { from, to, .. } => vec![from, to],
            Self::Close { .. }
            | Self::StatHandle { .. }
            | Self::Put { .. }
            | Self::Get { .. }
            | Self::Sync { .. }
            | Self::SyncNames => Vec::new(),
        }
    }
}
