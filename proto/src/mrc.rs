//! What clients ask of an MRC: the metadata operations of a POSIX mount, on inodes, not paths.
//! Method numbers 0x02xx.
//!
//! Every request carries a [`Head`]; every mutation also an [`Origin`], so that a repeat, even at another
//! leader, gets the recorded answer.

use crate::capability::Capability;
use crate::rpc::{Empty, Origin};
use crate::stripe::{Layout, Striping};

mod lease;
pub use lease::*;

/// File types, as in `st_mode >> 12`.
pub mod kind {
    /// Named pipe.
    pub const FIFO: u32 = 0o1;
    /// Character device.
    pub const CHAR: u32 = 0o2;
    /// Directory.
    pub const DIR: u32 = 0o4;
    /// Block device.
    pub const BLOCK: u32 = 0o6;
    /// Regular file.
    pub const FILE: u32 = 0o10;
    /// Symbolic link.
    pub const SYMLINK: u32 = 0o12;
    /// Socket.
    pub const SOCKET: u32 = 0o14;
}

/// Whose request, on which volume.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Head {
    /// Volume.
    #[prost(uint64, tag = "1")]
    pub volume: u64,
    /// The client's session.
    #[prost(fixed64, tag = "2")]
    pub session: u64,
    /// Acting user (trusted from a node; a user's own connection is bound to its certificate).
    #[prost(uint32, tag = "3")]
    pub uid: u32,
    /// Acting group.
    #[prost(uint32, tag = "4")]
    pub gid: u32,
    /// Supplementary groups, when known.
    #[prost(uint32, repeated, tag = "5")]
    pub groups: Vec<u32>,
    /// The sender (a mount with `default_permissions`) has checked permissions already.
    #[prost(bool, tag = "6")]
    pub permission_checked: bool,
}

/// A time: seconds and nanoseconds since 1970, negative before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Message)]
pub struct Time {
    /// Seconds.
    #[prost(sint64, tag = "1")]
    pub seconds: i64,
    /// 0..1_000_000_000.
    #[prost(uint32, tag = "2")]
    pub nanos: u32,
}

/// Attributes of an inode.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Attr {
    /// Inode number.
    #[prost(uint64, tag = "1")]
    pub ino: u64,
    /// Type and permission bits, as `st_mode`.
    #[prost(uint32, tag = "2")]
    pub mode: u32,
    /// Hard links; of a directory 2 + subdirectories.
    #[prost(uint32, tag = "3")]
    pub nlink: u32,
    /// Owner.
    #[prost(uint32, tag = "4")]
    pub uid: u32,
    /// Group.
    #[prost(uint32, tag = "5")]
    pub gid: u32,
    /// Device number of device nodes.
    #[prost(uint32, tag = "6")]
    pub rdev: u32,
    /// Size, bytes; of a directory the number of entries.
    #[prost(uint64, tag = "7")]
    pub size: u64,
    /// Allocated, 512-byte units.
    #[prost(uint64, tag = "8")]
    pub blocks: u64,
    /// Last access.
    #[prost(message, required, tag = "9")]
    pub atime: Time,
    /// Last change of content.
    #[prost(message, required, tag = "10")]
    pub mtime: Time,
    /// Last change of attributes.
    #[prost(message, required, tag = "11")]
    pub ctime: Time,
    /// Birth.
    #[prost(message, required, tag = "12")]
    pub btime: Time,
    /// Inode flags (`FS_IMMUTABLE_FL` and friends).
    #[prost(uint32, tag = "13")]
    pub flags: u32,
    /// Grows with each truncation to a smaller size; size reports of an older one are ignored.
    #[prost(uint64, tag = "14")]
    pub truncate_epoch: u64,
    /// Grows with each change of data or attributes (NFS change attribute).
    #[prost(uint64, tag = "15")]
    pub change: u64,
}

/// What a client needs to use a file's data.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FileCredentials {
    /// The right, for the OSDs.
    #[prost(message, required, tag = "1")]
    pub capability: Capability,
    /// Where the objects are.
    #[prost(message, required, tag = "2")]
    pub layout: Layout,
}

// --- sessions and volumes ------------------------------------------------------------------------

/// Opens a session with a metadata group, or re-opens one after a leader change.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenSession {
    /// Chosen by the client, random, not 0.
    #[prost(fixed64, tag = "1")]
    pub session: u64,
    /// For people: `mount host:/path pid`.
    #[prost(string, tag = "2")]
    pub client: String,
    /// Files this client has open (after a leader change or a lost session), so that they stay alive.
    #[prost(message, repeated, tag = "3")]
    pub open_files: Vec<OpenFile>,
    /// Leases this client holds, told to a leader that does not know them.
    #[prost(message, repeated, tag = "4")]
    pub leases: Vec<HeldLease>,
}

/// An open file.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct OpenFile {
    /// Volume.
    #[prost(uint64, tag = "1")]
    pub volume: u64,
    /// Inode.
    #[prost(uint64, tag = "2")]
    pub ino: u64,
    /// Whether any handle may write.
    #[prost(bool, tag = "3")]
    pub writing: bool,
    /// Handles.
    #[prost(uint32, tag = "4")]
    pub count: u32,
}

/// Answer to [`OpenSession`] and [`RenewSession`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionReply {
    /// The session dies when not renewed for this long, milliseconds.
    #[prost(uint64, tag = "1")]
    pub ttl_ms: u64,
    /// Changes when the leader lost track of open files (new leader, restart): send [`OpenSession`] again.
    #[prost(uint64, tag = "2")]
    pub incarnation: u64,
    /// Leases are good for this long from the start of the call that was answered, milliseconds; 0: none are given.
    #[prost(uint64, tag = "3")]
    pub lease_ttl_ms: u64,
    /// The session's fencing epoch; grows when the session was expelled.
    #[prost(uint64, tag = "4")]
    pub session_epoch: u64,
}

/// Keeps a session alive.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct RenewSession {
    /// The session.
    #[prost(fixed64, tag = "1")]
    pub session: u64,
}

/// Creates a volume's root in its metadata group (sent by `mkfs` after the DIR made the entry; idempotent).
#[derive(Clone, PartialEq, prost::Message)]
pub struct InitVolume {
    /// Makes a repeat safe.
    #[prost(message, required, tag = "1")]
    pub origin: Origin,
    /// Volume.
    #[prost(uint64, tag = "2")]
    pub volume: u64,
    /// Name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Defaults for new files.
    #[prost(message, required, tag = "4")]
    pub striping: Striping,
    /// Root directory's mode (permission bits).
    #[prost(uint32, tag = "5")]
    pub mode: u32,
    /// Root directory's owner.
    #[prost(uint32, tag = "6")]
    pub uid: u32,
    /// Root directory's group.
    #[prost(uint32, tag = "7")]
    pub gid: u32,
}

/// Removes a volume: all its metadata, then its objects.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DropVolume {
    /// Makes a repeat safe.
    #[prost(message, required, tag = "1")]
    pub origin: Origin,
    /// Volume.
    #[prost(uint64, tag = "2")]
    pub volume: u64,
}

// --- reading -------------------------------------------------------------------------------------

/// Names an inode.
#[derive(Clone, PartialEq, prost::Message)]
pub struct InoRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Inode.
    #[prost(uint64, tag = "2")]
    pub ino: u64,
}

/// Names an entry of a directory. `.` and `..` are understood by `Lookup`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EntryRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Directory.
    #[prost(uint64, tag = "2")]
    pub parent: u64,
    /// Name, any bytes but `/` and NUL.
    #[prost(bytes = "vec", tag = "3")]
    pub name: Vec<u8>,
}

/// Attributes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AttrReply {
    /// The inode's attributes.
    #[prost(message, required, tag = "1")]
    pub attr: Attr,
    /// Leases held on the inodes that the answer tells of (a lookup's directory too).
    #[prost(message, repeated, tag = "2")]
    pub leases: Vec<LeaseGrant>,
}

/// Resolves several names at once, starting at `parent`; stops at the first symlink.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WalkRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Where to start.
    #[prost(uint64, tag = "2")]
    pub parent: u64,
    /// Names.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub names: Vec<Vec<u8>>,
}

/// Attributes of each resolved name, in order; shorter than asked when a symlink or a file was met.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WalkReply {
    /// One per resolved name.
    #[prost(message, repeated, tag = "1")]
    pub attrs: Vec<Attr>,
    /// Leases held on the inodes that the answer tells of (a lookup's directory too).
    #[prost(message, repeated, tag = "2")]
    pub leases: Vec<LeaseGrant>,
}

/// Lists a directory with attributes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadDirRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Directory.
    #[prost(uint64, tag = "2")]
    pub ino: u64,
    /// Continue after the entry with this cookie; 0 starts. `.` and `..` are the mount's business.
    #[prost(uint64, tag = "3")]
    pub after: u64,
    /// Most entries wanted.
    #[prost(uint32, tag = "4")]
    pub limit: u32,
    /// Whether attributes are wanted beside the names.
    #[prost(bool, tag = "5")]
    pub with_attrs: bool,
}

/// An entry of a listing.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DirEntry {
    /// Name.
    #[prost(bytes = "vec", tag = "1")]
    pub name: Vec<u8>,
    /// Inode.
    #[prost(uint64, tag = "2")]
    pub ino: u64,
    /// Type (see [`kind`]).
    #[prost(uint32, tag = "3")]
    pub kind: u32,
    /// Position for [`ReadDirRequest::after`]: unique in its directory for the entry's life, never 0, 1 or 2,
    /// below 2^63; stable under other changes of the directory.
    #[prost(uint64, tag = "4")]
    pub cookie: u64,
    /// Attributes when asked for.
    #[prost(message, optional, tag = "5")]
    pub attr: Option<Attr>,
}

/// A page of a listing.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadDirReply {
    /// Entries in cookie order.
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<DirEntry>,
    /// Nothing follows.
    #[prost(bool, tag = "2")]
    pub end: bool,
    /// Leases held on the inodes that the answer tells of (a lookup's directory too).
    #[prost(message, repeated, tag = "3")]
    pub leases: Vec<LeaseGrant>,
}

/// A symlink's target.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadLinkReply {
    /// Target bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub target: Vec<u8>,
}

/// Volume totals.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatFsReply {
    /// Capacity of all OSDs, bytes.
    #[prost(uint64, tag = "1")]
    pub total_bytes: u64,
    /// Free, bytes.
    #[prost(uint64, tag = "2")]
    pub free_bytes: u64,
    /// Inodes in use.
    #[prost(uint64, tag = "3")]
    pub inodes: u64,
    /// Bytes in files of the volume (sum of sizes).
    #[prost(uint64, tag = "4")]
    pub used_bytes: u64,
}

/// May the acting user do that? `mask` as in access(2): 4 read, 2 write, 1 execute.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AccessRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Inode.
    #[prost(uint64, tag = "2")]
    pub ino: u64,
    /// Wanted.
    #[prost(uint32, tag = "3")]
    pub mask: u32,
}

/// Where a file's objects are, without opening it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LayoutReply {
    /// The layout.
    #[prost(message, required, tag = "1")]
    pub layout: Layout,
    /// Attributes.
    #[prost(message, required, tag = "2")]
    pub attr: Attr,
    /// Open handles of all sessions, as this leader knows them.
    #[prost(uint32, tag = "3")]
    pub open_handles: u32,
    /// Those that may write.
    #[prost(uint32, tag = "4")]
    pub open_writers: u32,
}

// --- changing ------------------------------------------------------------------------------------

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
    /// `st_mode` with type; the umask has been applied by the caller.
    #[prost(uint32, tag = "5")]
    pub mode: u32,
    /// Device number for device nodes.
    #[prost(uint32, tag = "6")]
    pub rdev: u32,
    /// Target of a symlink.
    #[prost(bytes = "vec", tag = "7")]
    pub target: Vec<u8>,
}

/// Creates (or opens) a regular file and opens it in one call.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CreateRequest {
    /// What and where; `mode` may lack the type.
    #[prost(message, required, tag = "1")]
    pub make: MakeRequest,
    /// Refuse an existing name (`O_EXCL`); otherwise an existing regular file is opened.
    #[prost(bool, tag = "2")]
    pub exclusive: bool,
    /// Open for writing (always readable too: the capability is for the host; the mount checks modes).
    #[prost(bool, tag = "3")]
    pub write: bool,
}

/// Opens a file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Inode.
    #[prost(uint64, tag = "2")]
    pub ino: u64,
    /// Wants to write.
    #[prost(bool, tag = "3")]
    pub write: bool,
    /// Only a fresh capability for a handle that is open already (renewal): no handle is counted.
    #[prost(bool, tag = "4")]
    pub renew: bool,
}

/// Answer to create and open.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenReply {
    /// Attributes.
    #[prost(message, required, tag = "1")]
    pub attr: Attr,
    /// Rights and layout.
    #[prost(message, required, tag = "2")]
    pub credentials: FileCredentials,
    /// Whether `Create` made the file.
    #[prost(bool, tag = "3")]
    pub created: bool,
    /// Leases held on the inodes that the answer tells of (a lookup's directory too).
    #[prost(message, repeated, tag = "4")]
    pub leases: Vec<LeaseGrant>,
}

/// Closes handles; the last close of an unlinked file frees it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CloseRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Inode.
    #[prost(uint64, tag = "2")]
    pub ino: u64,
    /// Whether the handle was a writing one.
    #[prost(bool, tag = "3")]
    pub write: bool,
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
    /// Allocated 512-byte units when the writer knows them (0: unknown).
    #[prost(uint64, tag = "7")]
    pub blocks: u64,
    /// A non-root writer: clears setuid and setgid.
    #[prost(bool, tag = "8")]
    pub clear_setid: bool,
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

/// Reads an extended attribute.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetXattrRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Inode.
    #[prost(uint64, tag = "2")]
    pub ino: u64,
    /// Name with its namespace (`user.x`).
    #[prost(bytes = "vec", tag = "3")]
    pub name: Vec<u8>,
}

/// Its value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct XattrReply {
    /// Value.
    #[prost(bytes = "vec", tag = "1")]
    pub value: Vec<u8>,
}

/// Names of extended attributes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct XattrNames {
    /// Ascending.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub names: Vec<Vec<u8>>,
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
}

/// A byte-range or whole-file lock (`fcntl`, `flock`).
#[derive(Clone, PartialEq, prost::Message)]
pub struct LockRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Inode.
    #[prost(uint64, tag = "2")]
    pub ino: u64,
    /// Lock owner within the session.
    #[prost(fixed64, tag = "3")]
    pub owner: u64,
    /// First byte.
    #[prost(uint64, tag = "4")]
    pub start: u64,
    /// Last byte, inclusive.
    #[prost(uint64, tag = "5")]
    pub end: u64,
    /// `F_RDLCK` 0, `F_WRLCK` 1, `F_UNLCK` 2.
    #[prost(uint32, tag = "6")]
    pub kind: u32,
    /// Process id at the client, for `F_GETLK`.
    #[prost(uint32, tag = "7")]
    pub pid: u32,
    /// A `flock` lock: separate from `fcntl` locks.
    #[prost(bool, tag = "8")]
    pub flock: bool,
    /// Wait this long for a conflicting lock to go away, milliseconds; 0 answers `WouldBlock` at once.
    #[prost(uint64, tag = "9")]
    pub wait_ms: u64,
    /// Only ask (`F_GETLK`).
    #[prost(bool, tag = "10")]
    pub test: bool,
}

/// Answer: the lock held, or for a test the first conflicting one (`kind` 2 when there is none).
#[derive(Clone, PartialEq, prost::Message)]
pub struct LockReply {
    /// As in the request.
    #[prost(uint64, tag = "1")]
    pub start: u64,
    /// As in the request.
    #[prost(uint64, tag = "2")]
    pub end: u64,
    /// As in the request.
    #[prost(uint32, tag = "3")]
    pub kind: u32,
    /// Its process.
    #[prost(uint32, tag = "4")]
    pub pid: u32,
}

/// Forces what the group has acknowledged to disk on a majority (`fsync` of metadata, `fsyncdir`).
#[derive(Clone, PartialEq, prost::Message)]
pub struct SyncMetadata {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
}

crate::methods! {
    /// Opens a session.
    SessionOpen = 0x0201 mutates (OpenSession) -> SessionReply,
    /// Keeps it alive.
    SessionRenew = 0x0202 mutates (RenewSession) -> SessionReply,
    /// Ends it: everything it had open is closed, its locks go.
    SessionClose = 0x0203 mutates (RenewSession) -> Empty,
    /// Makes a volume's root.
    VolumeInit = 0x0204 mutates (InitVolume) -> Empty,
    /// Removes a volume.
    VolumeDrop = 0x0205 mutates (DropVolume) -> Empty,
    /// Finds a name.
    Lookup = 0x0210 reads (EntryRequest) -> AttrReply,
    /// Attributes of an inode.
    GetAttr = 0x0211 reads (InoRequest) -> AttrReply,
    /// Finds several names in a row.
    Walk = 0x0212 reads (WalkRequest) -> WalkReply,
    /// Lists a directory.
    ReadDir = 0x0213 reads (ReadDirRequest) -> ReadDirReply,
    /// Reads a symlink.
    ReadLink = 0x0214 reads (InoRequest) -> ReadLinkReply,
    /// Volume totals.
    StatFs = 0x0215 reads (InoRequest) -> StatFsReply,
    /// Permission check.
    Access = 0x0216 reads (AccessRequest) -> Empty,
    /// One extended attribute.
    GetXattr = 0x0217 reads (GetXattrRequest) -> XattrReply,
    /// Names of extended attributes.
    ListXattr = 0x0218 reads (InoRequest) -> XattrNames,
    /// Layout and users of a file.
    GetLayout = 0x0219 reads (InoRequest) -> LayoutReply,
    /// Makes a directory.
    MkDir = 0x0220 mutates (MakeRequest) -> AttrReply,
    /// Makes a file, fifo, socket or device node without opening it.
    MkNod = 0x0221 mutates (MakeRequest) -> AttrReply,
    /// Makes a symlink.
    Symlink = 0x0222 mutates (MakeRequest) -> AttrReply,
    /// Makes and opens a file.
    Create = 0x0223 mutates (CreateRequest) -> OpenReply,
    /// Opens a file.
    Open = 0x0224 reads (OpenRequest) -> OpenReply,
    /// Closes a handle.
    Close = 0x0225 reads (CloseRequest) -> Empty,
    /// Removes a name.
    Unlink = 0x0226 mutates (RemoveEntry) -> Empty,
    /// Removes an empty directory.
    RmDir = 0x0227 mutates (RemoveEntry) -> Empty,
    /// Another name for a file.
    Link = 0x0228 mutates (LinkRequest) -> AttrReply,
    /// Moves a name.
    Rename = 0x0229 mutates (RenameRequest) -> Empty,
    /// Changes attributes.
    SetAttr = 0x022a mutates (SetAttrRequest) -> AttrReply,
    /// Reports size and time after writing.
    WriteDone = 0x022b mutates (ReportWrite) -> AttrReply,
    /// Sets or removes an extended attribute.
    SetXattr = 0x022c mutates (SetXattrRequest) -> Empty,
    /// Takes, frees or tests a lock.
    Lock = 0x022d reads (LockRequest) -> LockReply,
    /// Forces metadata to disk.
    MetadataSync = 0x022e mutates (SyncMetadata) -> Empty,
    /// Asks for a lease.
    AcquireLease = 0x0230 reads (AcquireLeaseRequest) -> AttrReply,
    /// Waits for recalls.
    AwaitRecalls = 0x0231 reads (AwaitRecallsRequest) -> RecallsReply,
    /// Gives leases back.
    ReturnLeases = 0x0232 reads (ReturnLeasesRequest) -> Empty,
}
