//! From a request's bytes to what the kernel wants. Every read is bounds-checked; what does not parse is refused with
//! `EINVAL`, what is not known with `ENOSYS`.

use super::abi::{self, fattr, opcode};
use super::fields::Fields;

/// `fuse_in_header`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fuse) struct Header {
    pub(in crate::fuse) opcode: u32,
    /// The request's number; sent again by `FUSE_NOTIFY_RESEND` it has bit 63 set.
    pub(in crate::fuse) unique: u64,
    pub(in crate::fuse) node: u64,
    pub(in crate::fuse) uid: u32,
    pub(in crate::fuse) gid: u32,
    /// The thread that asks; 0 when it is of another PID namespace.
    pub(in crate::fuse) pid: u32,
    /// Bytes of extensions behind the arguments.
    extension_bytes: usize,
}

impl Header {
    /// The header at the front of `bytes`, and the length that the request says it has.
    pub(in crate::fuse) fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut fields = Fields::new(bytes);
        let len = fields.u32()? as usize;
        let header = Self {
            opcode: fields.u32()?,
            unique: fields.u64()?,
            node: fields.u64()?,
            uid: fields.u32()?,
            gid: fields.u32()?,
            pid: fields.u32()?,
            extension_bytes: usize::from(fields.u16()?) * 8,
        };
        fields.skip(2)?;
        Some((header, len))
    }
}

/// What both sides agreed on in INIT, as far as it changes how requests look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fuse) struct Layout {
    /// `FUSE_SETXATTR_EXT`.
    pub(in crate::fuse) setxattr_ext: bool,
}

/// Where the arguments are.
#[derive(Debug, Clone, Copy)]
pub(in crate::fuse) enum Arguments<'a> {
    /// One behind the other, as read(2) gives them.
    Together(&'a [u8]),
    /// As io_uring gives them: the first structure, and everything else.
    Apart { first: &'a [u8], rest: &'a [u8] },
}

impl<'a> Arguments<'a> {
    /// The operation's structure of `len` bytes, and what follows it.
    fn cut(self, len: usize) -> Option<(Fields<'a>, &'a [u8])> {
        match self {
            Self::Together(bytes) => {
                let (first, rest) = bytes.split_at_checked(len)?;
                Some((Fields::new(first), rest))
            }
            Self::Apart { first, rest } => Some((Fields::new(first.get(..len)?), rest)),
        }
    }

    /// Takes the extensions off the end.
    fn cut_extensions(self, len: usize) -> Option<(Self, &'a [u8])> {
        match self {
            Self::Together(bytes) => {
                let (bytes, extensions) = bytes.split_at_checked(bytes.len().checked_sub(len)?)?;
                Some((Self::Together(bytes), extensions))
            }
            Self::Apart { first, rest } => {
                let (rest, extensions) = rest.split_at_checked(rest.len().checked_sub(len)?)?;
                Some((Self::Apart { first, rest }, extensions))
            }
        }
    }
}

/// `fuse_setattr_in`: what is to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::fuse) struct SetAttr {
    pub(in crate::fuse) mode: Option<u32>,
    pub(in crate::fuse) uid: Option<u32>,
    pub(in crate::fuse) gid: Option<u32>,
    pub(in crate::fuse) size: Option<u64>,
    pub(in crate::fuse) atime: Option<SetTime>,
    pub(in crate::fuse) mtime: Option<SetTime>,
    pub(in crate::fuse) clear_setid: bool,
}

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fuse) enum SetTime {
    Now,
    /// Seconds since 1970, negative before, and nanoseconds after that second.
    At(i64, u32),
}

/// `fuse_lk_in`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fuse) struct Lock {
    /// Through which it is taken.
    pub(in crate::fuse) handle: u64,
    pub(in crate::fuse) owner: u64,
    /// First and last byte.
    pub(in crate::fuse) start: u64,
    pub(in crate::fuse) end: u64,
    /// `F_RDLCK`, `F_WRLCK`, `F_UNLCK`.
    pub(in crate::fuse) kind: i32,
    pub(in crate::fuse) pid: u32,
    /// A `flock` lock, not a POSIX one.
    pub(in crate::fuse) flock: bool,
}

/// A file to make and open (`fuse_create_in`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fuse) struct Create<'a> {
    /// Of no meaning for an unnamed file (`O_TMPFILE`).
    pub(in crate::fuse) name: &'a [u8],
    pub(in crate::fuse) mode: u32,
    /// Not yet applied.
    pub(in crate::fuse) umask: u32,
    /// As for open(2).
    pub(in crate::fuse) flags: i32,
    pub(in crate::fuse) clear_setid: bool,
}

/// One side of a copy: inode, handle, offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fuse) struct Place {
    pub(in crate::fuse) ino: u64,
    pub(in crate::fuse) handle: u64,
    pub(in crate::fuse) offset: u64,
}

/// `fuse_init_in`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fuse) struct InitIn {
    pub(in crate::fuse) major: u32,
    pub(in crate::fuse) minor: u32,
    pub(in crate::fuse) max_readahead: u32,
    /// What the kernel offers, [`abi::init`].
    pub(in crate::fuse) flags: u64,
}

/// What the kernel says of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::fuse) struct Writing {
    /// Setuid and setgid go.
    pub(in crate::fuse) clear_setid: bool,
    /// It writes out pages that were stored to earlier; the handle is any that may write.
    pub(in crate::fuse) from_cache: bool,
    /// The kernel sends it again: the process that it was sent to first may have done it before it died.
    pub(in crate::fuse) resent: bool,
}

/// What the kernel wants; the inode is in the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fuse) enum Operation<'a> {
    Init(InitIn),
    Destroy,
    /// One or several inodes left the kernel's cache; not answered.
    Forget,
    /// A signal came for the caller of that request; not answered.
    Interrupt {
        unique: u64,
    },
    /// The answer to `FUSE_NOTIFY_RETRIEVE`; not answered.
    NotifyReply,
    Lookup {
        name: &'a [u8],
    },
    GetAttr {
        handle: Option<u64>,
    },
    /// Like `GetAttr`, with the time of birth.
    Statx {
        handle: Option<u64>,
    },
    SetAttr(SetAttr),
    Access {
        mask: u32,
    },
    ReadLink,
    Symlink {
        name: &'a [u8],
        target: &'a [u8],
    },
    MkNod {
        name: &'a [u8],
        mode: u32,
        rdev: u32,
        umask: u32,
    },
    MkDir {
        name: &'a [u8],
        mode: u32,
        umask: u32,
    },
    Unlink {
        name: &'a [u8],
    },
    RmDir {
        name: &'a [u8],
    },
    Rename {
        name: &'a [u8],
        new_parent: u64,
        new_name: &'a [u8],
        flags: u32,
    },
    /// Another name, in the header's directory, for `ino`.
    Link {
        ino: u64,
        name: &'a [u8],
    },
    Open {
        flags: i32,
        clear_setid: bool,
    },
    Create(Create<'a>),
    /// `O_TMPFILE` in the header's directory.
    TmpFile(Create<'a>),
    Read {
        handle: u64,
        offset: u64,
        size: u32,
        flags: i32,
    },
    Write {
        handle: u64,
        offset: u64,
        flags: i32,
        how: Writing,
        data: &'a [u8],
    },
    Flush {
        handle: u64,
        owner: u64,
    },
    /// `flock`: the owner whose `flock` lock goes with the handle.
    Release {
        handle: u64,
        flock: Option<u64>,
    },
    Fsync {
        handle: u64,
        datasync: bool,
    },
    OpenDir,
    ReadDir {
        handle: u64,
        offset: u64,
        size: u32,
        with_attrs: bool,
    },
    ReleaseDir {
        handle: u64,
    },
    FsyncDir {
        datasync: bool,
    },
    StatFs,
    SyncFs,
    SetXattr {
        name: &'a [u8],
        value: &'a [u8],
        flags: u32,
        /// An access control list takes setgid away.
        clear_setgid: bool,
    },
    GetXattr {
        name: &'a [u8],
        size: u32,
    },
    ListXattr {
        size: u32,
    },
    RemoveXattr {
        name: &'a [u8],
    },
    GetLock(Lock),
    SetLock {
        lock: Lock,
        wait: bool,
    },
    Ioctl {
        command: u32,
        input: &'a [u8],
        out_size: u32,
    },
    Poll {
        events: u32,
    },
    Bmap,
    Fallocate {
        handle: u64,
        offset: u64,
        length: u64,
        mode: i32,
    },
    Lseek {
        handle: u64,
        offset: i64,
        whence: i32,
    },
    /// `wide`: the answer has 64 bits.
    CopyFileRange {
        from: Place,
        to: Place,
        length: u64,
        wide: bool,
    },
    /// Nothing that this program knows.
    Unknown,
}

/// A request, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::fuse) struct Parsed<'a> {
    pub(in crate::fuse) operation: Operation<'a>,
    /// Supplementary groups of the caller that matter here (`FUSE_CREATE_SUPP_GROUP`).
    pub(in crate::fuse) groups: Vec<u32>,
}

impl<'a> Parsed<'a> {
    /// `None`: the arguments are not what the opcode needs.
    pub(in crate::fuse) fn parse(header: &Header, arguments: Arguments<'a>, layout: Layout) -> Option<Self> {
        let (arguments, extensions) = arguments.cut_extensions(header.extension_bytes)?;
        let operation = names(header, arguments)
            .or_else(|| files(header, arguments))
            .or_else(|| attributes(header, arguments, layout))
            .or_else(|| control(header, arguments))
            .unwrap_or(Some(Operation::Unknown))?;
        Some(Self { operation, groups: groups(extensions)? })
    }
}

/// Supplementary groups among the extensions.
fn groups(extensions: &[u8]) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    let mut left = Fields::new(extensions);
    while !left.rest().is_empty() {
        let mut head = left;
        let (size, kind) = (head.u32()? as usize, head.u32()?);
        let mut body = Fields::new(left.bytes(size)?);
        body.skip(8)?;
        if kind == abi::EXT_GROUPS {
            let count = body.u32()?;
            for _ in 0..count {
                found.push(body.u32()?);
            }
        }
        // Each extension is padded to 8 bytes.
        left.skip((8 - size % 8) % 8)?;
    }
    Some(found)
}

/// Outer `None`: not one of these opcodes; inner `None`: malformed.
type Found<'a> = Option<Option<Operation<'a>>>;

/// What changes or follows names.
fn names<'a>(header: &Header, arguments: Arguments<'a>) -> Found<'a> {
    let parse = |fixed: usize, make: fn(Fields<'a>, Fields<'a>) -> Option<Operation<'a>>| {
        arguments.cut(fixed).and_then(|(fields, rest)| make(fields, Fields::new(rest)))
    };
    Some(match header.opcode {
        opcode::LOOKUP => parse(0, |_, mut rest| Some(Operation::Lookup { name: rest.string()? })),
        opcode::READLINK => Some(Operation::ReadLink),
        opcode::SYMLINK => parse(0, |_, mut rest| {
            let name = rest.string()?;
            Some(Operation::Symlink { name, target: rest.string()? })
        }),
        opcode::MKNOD => parse(16, |mut fields, mut rest| {
            let (mode, rdev, umask) = (fields.u32()?, fields.u32()?, fields.u32()?);
            Some(Operation::MkNod { name: rest.string()?, mode, rdev, umask })
        }),
        opcode::MKDIR => parse(8, |mut fields, mut rest| {
            Some(Operation::MkDir { mode: fields.u32()?, umask: fields.u32()?, name: rest.string()? })
        }),
        opcode::UNLINK => parse(0, |_, mut rest| Some(Operation::Unlink { name: rest.string()? })),
        opcode::RMDIR => parse(0, |_, mut rest| Some(Operation::RmDir { name: rest.string()? })),
        opcode::RENAME => parse(8, |mut fields, mut rest| {
            let (new_parent, name) = (fields.u64()?, rest.string()?);
            Some(Operation::Rename { name, new_parent, new_name: rest.string()?, flags: 0 })
        }),
        opcode::RENAME2 => parse(16, |mut fields, mut rest| {
            let (new_parent, flags, name) = (fields.u64()?, fields.u32()?, rest.string()?);
            Some(Operation::Rename { name, new_parent, new_name: rest.string()?, flags })
        }),
        opcode::LINK => parse(8, |mut fields, mut rest| {
            Some(Operation::Link { ino: fields.u64()?, name: rest.string()? })
        }),
        opcode::CREATE => parse(16, |fields, rest| create(fields, rest).map(Operation::Create)),
        opcode::TMPFILE => parse(16, |fields, rest| create(fields, rest).map(Operation::TmpFile)),
        opcode::OPENDIR => Some(Operation::OpenDir),
        opcode::READDIR | opcode::READDIRPLUS => {
            let with_attrs = header.opcode == opcode::READDIRPLUS;
            arguments.cut(40).and_then(|(mut fields, _)| {
                let (handle, offset) = (fields.u64()?, fields.u64()?);
                Some(Operation::ReadDir { handle, offset, size: fields.u32()?, with_attrs })
            })
        }
        opcode::RELEASEDIR => {
            parse(24, |mut fields, _| Some(Operation::ReleaseDir { handle: fields.u64()? }))
        }
        opcode::FSYNCDIR => parse(16, |mut fields, _| {
            fields.skip(8)?;
            Some(Operation::FsyncDir { datasync: fields.u32()? & abi::FSYNC_DATASYNC != 0 })
        }),
        _ => return None,
    })
}

fn create<'a>(mut fields: Fields<'a>, mut rest: Fields<'a>) -> Option<Create<'a>> {
    let (flags, mode, umask, open_flags) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
    Some(Create {
        name: rest.string()?,
        mode,
        umask,
        flags: flags.cast_signed(),
        clear_setid: open_flags & abi::OPEN_KILL_SUIDGID != 0,
    })
}

/// What needs an open file.
fn files<'a>(header: &Header, arguments: Arguments<'a>) -> Found<'a> {
    let parse = |fixed: usize, make: fn(Fields<'a>, &'a [u8]) -> Option<Operation<'a>>| {
        arguments.cut(fixed).and_then(|(fields, rest)| make(fields, rest))
    };
    Some(match header.opcode {
        opcode::OPEN => parse(8, |mut fields, _| {
            let (flags, open_flags) = (fields.u32()?.cast_signed(), fields.u32()?);
            Some(Operation::Open { flags, clear_setid: open_flags & abi::OPEN_KILL_SUIDGID != 0 })
        }),
        opcode::READ => parse(40, |mut fields, _| {
            let (handle, offset, size) = (fields.u64()?, fields.u64()?, fields.u32()?);
            fields.skip(12)?;
            Some(Operation::Read { handle, offset, size, flags: fields.u32()?.cast_signed() })
        }),
        opcode::WRITE => parse(abi::WRITE_IN_BYTES, |mut fields, rest| {
            let (handle, offset, size) = (fields.u64()?, fields.u64()?, fields.u32()?);
            let write_flags = fields.u32()?;
            let how = Writing {
                clear_setid: write_flags & abi::WRITE_KILL_SUIDGID != 0,
                from_cache: write_flags & abi::WRITE_CACHE != 0,
                resent: false,
            };
            fields.skip(8)?;
            let (flags, data) = (fields.u32()?.cast_signed(), rest.get(..size as usize)?);
            Some(Operation::Write { handle, offset, flags, how, data })
        }),
        opcode::FLUSH => parse(24, |mut fields, _| {
            let handle = fields.u64()?;
            fields.skip(8)?;
            Some(Operation::Flush { handle, owner: fields.u64()? })
        }),
        opcode::RELEASE => parse(24, |mut fields, _| {
            let (handle, _flags, how, owner) = (fields.u64()?, fields.u32()?, fields.u32()?, fields.u64()?);
            let flock = (how & abi::RELEASE_FLOCK_UNLOCK != 0).then_some(owner);
            Some(Operation::Release { handle, flock })
        }),
        opcode::FSYNC => parse(16, |mut fields, _| {
            let (handle, flags) = (fields.u64()?, fields.u32()?);
            Some(Operation::Fsync { handle, datasync: flags & abi::FSYNC_DATASYNC != 0 })
        }),
        opcode::FALLOCATE => parse(32, |mut fields, _| {
            let (handle, offset, length) = (fields.u64()?, fields.u64()?, fields.u64()?);
            Some(Operation::Fallocate { handle, offset, length, mode: fields.u32()?.cast_signed() })
        }),
        opcode::LSEEK => parse(24, |mut fields, _| {
            let (handle, offset) = (fields.u64()?, fields.u64()?.cast_signed());
            Some(Operation::Lseek { handle, offset, whence: fields.u32()?.cast_signed() })
        }),
        opcode::COPY_FILE_RANGE | opcode::COPY_FILE_RANGE_64 => {
            let wide = header.opcode == opcode::COPY_FILE_RANGE_64;
            arguments.cut(56).and_then(|(mut fields, _)| {
                let from = Place { ino: header.node, handle: fields.u64()?, offset: fields.u64()? };
                let to = Place { ino: fields.u64()?, handle: fields.u64()?, offset: fields.u64()? };
                Some(Operation::CopyFileRange { from, to, length: fields.u64()?, wide })
            })
        }
        opcode::GETLK => parse(48, |fields, _| lock(fields).map(Operation::GetLock)),
        opcode::SETLK => parse(48, |fields, _| Some(Operation::SetLock { lock: lock(fields)?, wait: false })),
        opcode::SETLKW => parse(48, |fields, _| Some(Operation::SetLock { lock: lock(fields)?, wait: true })),
        opcode::POLL => parse(24, |mut fields, _| {
            fields.skip(20)?;
            Some(Operation::Poll { events: fields.u32()? })
        }),
        opcode::IOCTL => parse(32, |mut fields, rest| {
            fields.skip(12)?;
            let command = fields.u32()?;
            fields.skip(8)?;
            let (in_size, out_size) = (fields.u32()? as usize, fields.u32()?);
            Some(Operation::Ioctl { command, input: rest.get(..in_size)?, out_size })
        }),
        _ => return None,
    })
}

fn lock(mut fields: Fields<'_>) -> Option<Lock> {
    let (handle, owner, start, end) = (fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?);
    let (kind, pid) = (fields.u32()?.cast_signed(), fields.u32()?);
    Some(Lock { handle, owner, start, end, kind, pid, flock: fields.u32()? & abi::LK_FLOCK != 0 })
}

/// Attributes of inodes and of the file system.
fn attributes<'a>(header: &Header, arguments: Arguments<'a>, layout: Layout) -> Found<'a> {
    let parse = |fixed: usize, make: fn(Fields<'a>, Fields<'a>) -> Option<Operation<'a>>| {
        arguments.cut(fixed).and_then(|(fields, rest)| make(fields, Fields::new(rest)))
    };
    Some(match header.opcode {
        opcode::GETATTR => parse(16, |fields, _| Some(Operation::GetAttr { handle: handle_if_any(fields)? })),
        opcode::STATX => parse(24, |fields, _| Some(Operation::Statx { handle: handle_if_any(fields)? })),
        opcode::SETATTR => parse(88, |fields, _| set_attr(fields).map(Operation::SetAttr)),
        opcode::ACCESS => parse(8, |mut fields, _| Some(Operation::Access { mask: fields.u32()? })),
        opcode::STATFS => Some(Operation::StatFs),
        opcode::SYNCFS => Some(Operation::SyncFs),
        opcode::SETXATTR => parse(if layout.setxattr_ext { 16 } else { 8 }, |mut fields, mut rest| {
            let (size, flags, name) = (fields.u32()?, fields.u32()?, rest.string()?);
            let extended = fields.u32().unwrap_or_default();
            let clear_setgid = extended & abi::SETXATTR_ACL_KILL_SGID != 0;
            Some(Operation::SetXattr { name, value: rest.bytes(size as usize)?, flags, clear_setgid })
        }),
        opcode::GETXATTR => parse(8, |mut fields, mut rest| {
            Some(Operation::GetXattr { size: fields.u32()?, name: rest.string()? })
        }),
        opcode::LISTXATTR => parse(8, |mut fields, _| Some(Operation::ListXattr { size: fields.u32()? })),
        opcode::REMOVEXATTR => parse(0, |_, mut rest| Some(Operation::RemoveXattr { name: rest.string()? })),
        opcode::BMAP => Some(Operation::Bmap),
        _ => return None,
    })
}

/// The front of `fuse_getattr_in` and `fuse_statx_in`.
fn handle_if_any(mut fields: Fields<'_>) -> Option<Option<u64>> {
    let flags = fields.u32()?;
    fields.skip(4)?;
    let handle = fields.u64()?;
    Some((flags & abi::GETATTR_FH != 0).then_some(handle))
}

fn set_attr(mut fields: Fields<'_>) -> Option<SetAttr> {
    let valid = fields.u32()?;
    fields.skip(12)?; // padding, handle
    let size = fields.u64()?;
    fields.skip(8)?; // lock owner
    let (atime, mtime, _ctime) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let (atime_nanos, mtime_nanos, _ctime_nanos) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let mode = fields.u32()?;
    fields.skip(4)?;
    let (uid, gid) = (fields.u32()?, fields.u32()?);
    let has = |bit: u32| valid & bit != 0;
    let time = |set: u32, now: u32, seconds: u64, nanos: u32| match (has(set), has(now)) {
        (false, _) => None,
        (true, true) => Some(SetTime::Now),
        (true, false) => Some(SetTime::At(seconds.cast_signed(), nanos)),
    };
    Some(SetAttr {
        mode: has(fattr::MODE).then_some(mode),
        uid: has(fattr::UID).then_some(uid),
        gid: has(fattr::GID).then_some(gid),
        size: has(fattr::SIZE).then_some(size),
        atime: time(fattr::ATIME, fattr::ATIME_NOW, atime, atime_nanos),
        mtime: time(fattr::MTIME, fattr::MTIME_NOW, mtime, mtime_nanos),
        clear_setid: has(fattr::KILL_SUIDGID),
    })
}

/// What is not about a file.
fn control<'a>(header: &Header, arguments: Arguments<'a>) -> Found<'a> {
    Some(match header.opcode {
        opcode::INIT => arguments.cut(16).and_then(|(mut fields, rest)| {
            let (major, minor, max_readahead) = (fields.u32()?, fields.u32()?, fields.u32()?);
            let low = u64::from(fields.u32()?);
            let high = if low & abi::init::INIT_EXT == 0 { 0 } else { Fields::new(rest).u32()? };
            let flags = low | u64::from(high) << 32;
            Some(Operation::Init(InitIn { major, minor, max_readahead, flags }))
        }),
        opcode::DESTROY => Some(Operation::Destroy),
        opcode::FORGET | opcode::BATCH_FORGET => Some(Operation::Forget),
        opcode::INTERRUPT => {
            arguments.cut(8).and_then(|(mut fields, _)| Some(Operation::Interrupt { unique: fields.u64()? }))
        }
        opcode::NOTIFY_REPLY => Some(Operation::NotifyReply),
        _ => return None,
    })
}

#[cfg(test)]
#[path = "operation_test.rs"]
mod tests;
