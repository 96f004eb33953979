//! Requests that change the namespace or an inode.

use super::{Head, Time};
use crate::rpc::Origin;

/// What a new inode is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MakeRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Makes a repeat safe.
    #[prost(message, required, tag = "2")]
    pub origin: Origin,
    /// Directory.
    #[prost(uint64, tag = "3")]
    pub parent: u64,
    /// Name.
    #[prost(bytes = "vec", tag = "4")]
    pub name: Vec<u8>,
    /// `st_mode` with type, without what [`MakeRequest::umask`] takes away.
    #[prost(uint32, tag = "5")]
    pub mode: u32,
    /// Device number for device nodes.
    #[prost(uint32, tag = "6")]
    pub rdev: u32,
    /// Target of a symlink.
    #[prost(bytes = "vec", tag = "7")]
    pub target: Vec<u8>,
    /// Taken out of `mode` unless the directory has a default access control list; 0: the caller has applied it.
    #[prost(uint32, tag = "8")]
    pub umask: u32,
}

/// Tells what writing did to a file. Size only grows by this; see [`Attr::truncate_epoch`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReportWrite {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Makes a repeat safe.
    #[prost(message, required, tag = "2")]
    pub origin: Origin,
    /// Inode.
    #[prost(uint64, tag = "3")]
    pub ino: u64,
    /// End of the last byte written.
    #[prost(uint64, tag = "4")]
    pub size: u64,
    /// The truncate epoch that the writer knew.
    #[prost(uint64, tag = "5")]
    pub truncate_epoch: u64,
    /// Time of the last write.
    #[prost(message, optional, tag = "6")]
    pub mtime: Option<Time>,
    /// Allocated 512-byte units when the writer asked the OSDs because it left or filled holes; absent: what the size grew
    /// by is allocated.
    #[prost(uint64, optional, tag = "7")]
    pub blocks: Option<u64>,
    /// A non-root writer: clears setuid and setgid.
    #[prost(bool, tag = "8")]
    pub clear_setid: bool,
    /// Bytes that the writer wants to allocate next: the answer's `room` is as large if the quotas leave so much.
    #[prost(uint64, tag = "9")]
    pub want: u64,
    /// Attributes that were set after the writing and answered by the client alone.
    #[prost(message, optional, tag = "10")]
    pub kept: Option<KeptAttributes>,
}

/// Attributes that the holder of a lease for writing has set; they are the file's if its session was not expelled since.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct KeptAttributes {
    /// Permission bits.
    #[prost(uint32, optional, tag = "1")]
    pub mode: Option<u32>,
    /// Access time.
    #[prost(message, optional, tag = "2")]
    pub atime: Option<Time>,
    /// Time of modification.
    #[prost(message, optional, tag = "3")]
    pub mtime: Option<Time>,
    /// When they were set last.
    #[prost(message, required, tag = "4")]
    pub ctime: Time,
    /// An owner was set, the one that it had: what an executable may do on its own goes.
    #[prost(bool, tag = "5")]
    pub chown: bool,
    /// The session's epoch then.
    #[prost(uint64, tag = "6")]
    pub epoch: u64,
    /// An access control list was set that says no more than the mode: what it had goes.
    #[prost(bool, tag = "7")]
    pub plain_acl: bool,
}

/// Changes attributes; absent fields stay.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetAttrRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Makes a repeat safe.
    #[prost(message, required, tag = "2")]
    pub origin: Origin,
    /// Inode.
    #[prost(uint64, tag = "3")]
    pub ino: u64,
    /// Permission bits (07777).
    #[prost(uint32, optional, tag = "4")]
    pub mode: Option<u32>,
    /// Owner.
    #[prost(uint32, optional, tag = "5")]
    pub uid: Option<u32>,
    /// Group.
    #[prost(uint32, optional, tag = "6")]
    pub gid: Option<u32>,
    /// New size; the caller cuts the objects at the OSDs first when it shrinks.
    #[prost(uint64, optional, tag = "7")]
    pub size: Option<u64>,
    /// Access time.
    #[prost(message, optional, tag = "8")]
    pub atime: Option<Time>,
    /// Modification time.
    #[prost(message, optional, tag = "9")]
    pub mtime: Option<Time>,
    /// Access time becomes the MRC's now (`UTIME_NOW`).
    #[prost(bool, tag = "10")]
    pub atime_now: bool,
    /// Modification time becomes the MRC's now.
    #[prost(bool, tag = "11")]
    pub mtime_now: bool,
    /// Inode flags.
    #[prost(uint32, optional, tag = "12")]
    pub flags: Option<u32>,
    /// Birth time (only for restores).
    #[prost(message, optional, tag = "13")]
    pub btime: Option<Time>,
    /// Clears setuid, and setgid of executables (a write or chown by a non-root user).
    #[prost(bool, tag = "14")]
    pub clear_setid: bool,
    /// With `size`: allocated 512-byte units that the cut left, when the caller asked the OSDs.
    #[prost(uint64, optional, tag = "15")]
    pub blocks: Option<u64>,
}

/// Removes a name: `Unlink` of anything but directories, `RmDir` of an empty directory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RemoveEntry {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Makes a repeat safe.
    #[prost(message, required, tag = "2")]
    pub origin: Origin,
    /// Directory.
    #[prost(uint64, tag = "3")]
    pub parent: u64,
    /// Name.
    #[prost(bytes = "vec", tag = "4")]
    pub name: Vec<u8>,
    /// The inode that the sender takes the name for (0: it does not know), and handles it has open of it of which the
    /// MRC does not know: then its own lease needs no recall.
    #[prost(uint64, tag = "5")]
    pub victim: u64,
    /// See `victim`; counted as open from now on.
    #[prost(uint32, tag = "6")]
    pub untold_handles: u32,
}

/// Another name for an inode.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LinkRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Makes a repeat safe.
    #[prost(message, required, tag = "2")]
    pub origin: Origin,
    /// The inode (not a directory).
    #[prost(uint64, tag = "3")]
    pub ino: u64,
    /// Directory of the new name.
    #[prost(uint64, tag = "4")]
    pub parent: u64,
    /// The new name.
    #[prost(bytes = "vec", tag = "5")]
    pub name: Vec<u8>,
}

/// `RENAME_NOREPLACE` of rename2(2).
pub const RENAME_NOREPLACE: u32 = 1;
/// `RENAME_EXCHANGE` of rename2(2).
pub const RENAME_EXCHANGE: u32 = 2;

/// Moves a name within the volume, atomically.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RenameRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Makes a repeat safe.
    #[prost(message, required, tag = "2")]
    pub origin: Origin,
    /// From directory.
    #[prost(uint64, tag = "3")]
    pub parent: u64,
    /// From name.
    #[prost(bytes = "vec", tag = "4")]
    pub name: Vec<u8>,
    /// To directory.
    #[prost(uint64, tag = "5")]
    pub new_parent: u64,
    /// To name.
    #[prost(bytes = "vec", tag = "6")]
    pub new_name: Vec<u8>,
    /// [`RENAME_NOREPLACE`], [`RENAME_EXCHANGE`] or 0.
    #[prost(uint32, tag = "7")]
    pub flags: u32,
    /// 0, or refuse (with `WouldBlock`) while any session has the moved file open for writing: the spool's claim.
    #[prost(bool, tag = "8")]
    pub only_if_no_writer: bool,
    /// Like [`RemoveEntry::victim`], of the name that is replaced.
    #[prost(uint64, tag = "9")]
    pub victim: u64,
    /// Like [`RemoveEntry::untold_handles`].
    #[prost(uint32, tag = "10")]
    pub untold_handles: u32,
}

/// `XATTR_CREATE` of setxattr(2).
pub const XATTR_CREATE: u32 = 1;
/// `XATTR_REPLACE` of setxattr(2).
pub const XATTR_REPLACE: u32 = 2;

/// Sets or removes an extended attribute.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetXattrRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Makes a repeat safe.
    #[prost(message, required, tag = "2")]
    pub origin: Origin,
    /// Inode.
    #[prost(uint64, tag = "3")]
    pub ino: u64,
    /// Name.
    #[prost(bytes = "vec", tag = "4")]
    pub name: Vec<u8>,
    /// Value; absent removes.
    #[prost(bytes = "vec", optional, tag = "5")]
    pub value: Option<Vec<u8>>,
    /// [`XATTR_CREATE`], [`XATTR_REPLACE`] or 0.
    #[prost(uint32, tag = "6")]
    pub flags: u32,
    /// Setting an access control list clears setgid: the acting user is not in the file's group (a kernel knows).
    #[prost(bool, tag = "7")]
    pub clear_setgid: bool,
}

/// Forces what the group has acknowledged to disk on a majority (`fsync` of metadata, `fsyncdir`).
#[derive(Clone, PartialEq, prost::Message)]
pub struct SyncMetadata {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
}
