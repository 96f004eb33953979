//! Numbers of the FUSE ABI 7.31 to 7.45, as in the kernel's `include/uapi/linux/fuse.h`. Only what is used here.

/// The only major version there is.
pub(in crate::fuse) const MAJOR: u32 = 7;
/// Oldest minor version that is spoken (Linux 5.4).
pub(in crate::fuse) const MINOR_MIN: u32 = 31;
/// Newest minor version that is spoken (Linux 6.18).
pub(in crate::fuse) const MINOR_MAX: u32 = 45;

/// Length of `fuse_in_header`.
pub(in crate::fuse) const IN_HEADER_BYTES: usize = 40;
/// Length of `fuse_out_header`.
pub(in crate::fuse) const OUT_HEADER_BYTES: usize = 16;
/// Length of `fuse_write_in`.
pub(in crate::fuse) const WRITE_IN_BYTES: usize = 40;
/// The kernel refuses reads from the device with a smaller buffer.
pub(in crate::fuse) const READ_BUFFER_MIN: usize = 8192;
/// A user or group in a header that the kernel does not tell (idmapped mounts tell it where something is made).
pub(in crate::fuse) const UNKNOWN_ID: u32 = u32::MAX;

/// `enum fuse_opcode`.
pub(in crate::fuse) mod opcode {
    pub(in crate::fuse) const LOOKUP: u32 = 1;
    pub(in crate::fuse) const FORGET: u32 = 2;
    pub(in crate::fuse) const GETATTR: u32 = 3;
    pub(in crate::fuse) const SETATTR: u32 = 4;
    pub(in crate::fuse) const READLINK: u32 = 5;
    pub(in crate::fuse) const SYMLINK: u32 = 6;
    pub(in crate::fuse) const MKNOD: u32 = 8;
    pub(in crate::fuse) const MKDIR: u32 = 9;
    pub(in crate::fuse) const UNLINK: u32 = 10;
    pub(in crate::fuse) const RMDIR: u32 = 11;
    pub(in crate::fuse) const RENAME: u32 = 12;
    pub(in crate::fuse) const LINK: u32 = 13;
    pub(in crate::fuse) const OPEN: u32 = 14;
    pub(in crate::fuse) const READ: u32 = 15;
    pub(in crate::fuse) const WRITE: u32 = 16;
    pub(in crate::fuse) const STATFS: u32 = 17;
    pub(in crate::fuse) const RELEASE: u32 = 18;
    pub(in crate::fuse) const FSYNC: u32 = 20;
    pub(in crate::fuse) const SETXATTR: u32 = 21;
    pub(in crate::fuse) const GETXATTR: u32 = 22;
    pub(in crate::fuse) const LISTXATTR: u32 = 23;
    pub(in crate::fuse) const REMOVEXATTR: u32 = 24;
    pub(in crate::fuse) const FLUSH: u32 = 25;
    pub(in crate::fuse) const INIT: u32 = 26;
    pub(in crate::fuse) const OPENDIR: u32 = 27;
    pub(in crate::fuse) const READDIR: u32 = 28;
    pub(in crate::fuse) const RELEASEDIR: u32 = 29;
    pub(in crate::fuse) const FSYNCDIR: u32 = 30;
    pub(in crate::fuse) const GETLK: u32 = 31;
    pub(in crate::fuse) const SETLK: u32 = 32;
    pub(in crate::fuse) const SETLKW: u32 = 33;
    pub(in crate::fuse) const ACCESS: u32 = 34;
    pub(in crate::fuse) const CREATE: u32 = 35;
    pub(in crate::fuse) const INTERRUPT: u32 = 36;
    pub(in crate::fuse) const BMAP: u32 = 37;
    pub(in crate::fuse) const DESTROY: u32 = 38;
    pub(in crate::fuse) const IOCTL: u32 = 39;
    pub(in crate::fuse) const POLL: u32 = 40;
    pub(in crate::fuse) const NOTIFY_REPLY: u32 = 41;
    pub(in crate::fuse) const BATCH_FORGET: u32 = 42;
    pub(in crate::fuse) const FALLOCATE: u32 = 43;
    pub(in crate::fuse) const READDIRPLUS: u32 = 44;
    pub(in crate::fuse) const RENAME2: u32 = 45;
    pub(in crate::fuse) const LSEEK: u32 = 46;
    pub(in crate::fuse) const COPY_FILE_RANGE: u32 = 47;
    /// Since 7.34; sent to virtiofs and fuseblk only by Linux 6.18.
    pub(in crate::fuse) const SYNCFS: u32 = 50;
    /// Since 7.37.
    pub(in crate::fuse) const TMPFILE: u32 = 51;
    /// Since 7.39.
    pub(in crate::fuse) const STATX: u32 = 52;
    /// Since 7.45: the answer has 64 bits.
    pub(in crate::fuse) const COPY_FILE_RANGE_64: u32 = 53;
}

/// Flags of INIT; bits from 32 on are in `flags2`.
pub(in crate::fuse) mod init {
    pub(in crate::fuse) const ASYNC_READ: u64 = 1;
    pub(in crate::fuse) const POSIX_LOCKS: u64 = 1 << 1;
    pub(in crate::fuse) const ATOMIC_O_TRUNC: u64 = 1 << 3;
    pub(in crate::fuse) const BIG_WRITES: u64 = 1 << 5;
    /// The umask comes along and is not applied by the kernel.
    pub(in crate::fuse) const DONT_MASK: u64 = 1 << 6;
    pub(in crate::fuse) const FLOCK_LOCKS: u64 = 1 << 10;
    pub(in crate::fuse) const HAS_IOCTL_DIR: u64 = 1 << 11;
    pub(in crate::fuse) const AUTO_INVAL_DATA: u64 = 1 << 12;
    pub(in crate::fuse) const DO_READDIRPLUS: u64 = 1 << 13;
    pub(in crate::fuse) const READDIRPLUS_AUTO: u64 = 1 << 14;
    pub(in crate::fuse) const ASYNC_DIO: u64 = 1 << 15;
    pub(in crate::fuse) const PARALLEL_DIROPS: u64 = 1 << 18;
    /// The kernel checks access control lists too. Switches `default_permissions` on.
    pub(in crate::fuse) const POSIX_ACL: u64 = 1 << 20;
    pub(in crate::fuse) const ABORT_ERROR: u64 = 1 << 21;
    pub(in crate::fuse) const MAX_PAGES: u64 = 1 << 22;
    pub(in crate::fuse) const CACHE_SYMLINKS: u64 = 1 << 23;
    /// 7.33: `setattr`, `open`, `create` and `write` say when setuid and setgid go.
    pub(in crate::fuse) const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
    /// 7.33: `fuse_setxattr_in` has 16 bytes instead of 8.
    pub(in crate::fuse) const SETXATTR_EXT: u64 = 1 << 29;
    /// 7.36: the upper 32 bits count.
    pub(in crate::fuse) const INIT_EXT: u64 = 1 << 30;
    /// 7.38: requests that make something carry the supplementary group of the caller that owns the directory.
    pub(in crate::fuse) const CREATE_SUPP_GROUP: u64 = 1 << 34;
    /// 7.39: files open with `FOPEN_DIRECT_IO` may be mapped shared.
    pub(in crate::fuse) const DIRECT_IO_ALLOW_MMAP: u64 = 1 << 36;
    /// 7.40, from the kernel only: FUSE_NOTIFY_RESEND works.
    pub(in crate::fuse) const HAS_RESEND: u64 = 1 << 39;
    /// 7.41: the mount may be idmapped; headers then name no user except where something is made.
    pub(in crate::fuse) const ALLOW_IDMAP: u64 = 1 << 40;
    /// 7.42.
    pub(in crate::fuse) const OVER_IO_URING: u64 = 1 << 41;
}

/// `fuse_setattr_in.valid`.
pub(in crate::fuse) mod fattr {
    pub(in crate::fuse) const MODE: u32 = 1;
    pub(in crate::fuse) const UID: u32 = 1 << 1;
    pub(in crate::fuse) const GID: u32 = 1 << 2;
    pub(in crate::fuse) const SIZE: u32 = 1 << 3;
    pub(in crate::fuse) const ATIME: u32 = 1 << 4;
    pub(in crate::fuse) const MTIME: u32 = 1 << 5;
    pub(in crate::fuse) const ATIME_NOW: u32 = 1 << 7;
    pub(in crate::fuse) const MTIME_NOW: u32 = 1 << 8;
    pub(in crate::fuse) const KILL_SUIDGID: u32 = 1 << 11;
}

/// `fuse_open_out.open_flags`: what the kernel may do with an open file.
pub(in crate::fuse) mod fopen {
    /// Every read and write comes to us; the page cache is not used.
    pub(in crate::fuse) const DIRECT_IO: u32 = 1;
    /// Pages of earlier opens stay.
    pub(in crate::fuse) const KEEP_CACHE: u32 = 1 << 1;
}

/// `fuse_getattr_in.getattr_flags`: the handle is valid.
pub(in crate::fuse) const GETATTR_FH: u32 = 1;
/// `fuse_open_in.open_flags`, `fuse_create_in.open_flags`: setuid and setgid go.
pub(in crate::fuse) const OPEN_KILL_SUIDGID: u32 = 1;
/// `fuse_setxattr_in.setxattr_flags`: setting an access control list takes setgid away.
pub(in crate::fuse) const SETXATTR_ACL_KILL_SGID: u32 = 1;
/// `fuse_write_in.write_flags`: from the page cache, not by a system call.
pub(in crate::fuse) const WRITE_CACHE: u32 = 1;
/// `fuse_write_in.write_flags`: setuid and setgid go.
pub(in crate::fuse) const WRITE_KILL_SUIDGID: u32 = 1 << 2;
/// `fuse_release_in.release_flags`: the owner's `flock` lock goes.
pub(in crate::fuse) const RELEASE_FLOCK_UNLOCK: u32 = 1 << 1;
/// `fuse_fsync_in.fsync_flags`: data only.
pub(in crate::fuse) const FSYNC_DATASYNC: u32 = 1;
/// `fuse_lk_in.lk_flags`: a `flock` lock.
pub(in crate::fuse) const LK_FLOCK: u32 = 1;
/// `fuse_ext_header.type` of the supplementary group.
pub(in crate::fuse) const EXT_GROUPS: u32 = 32;
