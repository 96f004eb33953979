//! What clients ask of an MRC: the metadata operations of a POSIX mount, on inodes, not paths.
//! Method numbers 0x02xx.
//!
//! Every request carries a [`Head`]; every mutation also an [`crate::rpc::Origin`], so that a repeat, even at another
//! leader, gets the recorded answer. Here: what all of them share and the table of methods; the messages are in
//! [`session`], [`read`], [`change`], [`open`], [`lease`] and [`replicas`].

use crate::capability::Capability;
use crate::rpc::Empty;
use crate::stripe::Layout;

pub mod change;
pub mod create_many;
pub mod lease;
pub mod locks;
pub mod open;
pub mod read;
pub mod replicas;
pub mod session;

pub use change::*;
pub use create_many::*;
pub use lease::*;
pub use locks::*;
pub use open::*;
pub use read::*;
pub use replicas::*;
pub use session::*;

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
    /// Reads only: the volume as it was in this snapshot; 0: as it is.
    #[prost(uint64, tag = "7")]
    pub snapshot: u64,
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
    /// Which access control lists it has: [`ACL_ACCESS`], [`ACL_DEFAULT`]. Without one their attributes need not be asked for.
    #[prost(uint32, tag = "16")]
    pub acl: u32,
    /// It has neither extended attributes nor access control lists: nobody needs to ask for them. False: unknown.
    #[prost(bool, tag = "17")]
    pub bare: bool,
    /// Under which number the OSDs hold what is written to the file; 0: its own. Another one after a snapshot or a clone.
    #[prost(uint64, tag = "18")]
    pub layer: u64,
}

/// The inode has a `system.posix_acl_access` that says more than its mode.
pub const ACL_ACCESS: u32 = 1;
/// The directory has a `system.posix_acl_default`.
pub const ACL_DEFAULT: u32 = 2;

/// What a client needs to use a file's data.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FileCredentials {
    /// The right, for the OSDs.
    #[prost(message, required, tag = "1")]
    pub capability: Capability,
    /// Where the objects are.
    #[prost(message, required, tag = "2")]
    pub layout: Layout,
    /// What shows through where these objects were never written, the nearest first. See docs/protocols/snapshots.md.
    #[prost(message, repeated, tag = "3")]
    pub bases: Vec<Base>,
    /// With bases or content: the file's [`Attr::truncate_epoch`] of which they are. After a later truncation less shows through.
    #[prost(uint64, tag = "4")]
    pub truncate_epoch: u64,
    /// Of a layout whose bytes are at the MRC ([`Layout::inline`]): these. Empty in answers to who has told them.
    #[prost(bytes = "bytes", tag = "5")]
    pub content: bytes::Bytes,
}

impl FileCredentials {
    /// Whether they say what the file shows up to a size: after a truncation that is not so any more.
    #[must_use]
    pub fn show_a_size(&self) -> bool {
        self.layout.is_inline() || !self.bases.is_empty()
    }
}

/// Data that lies below a file's own and is never written any more.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Base {
    /// The right to read it.
    #[prost(message, required, tag = "1")]
    pub capability: Capability,
    /// Where it is.
    #[prost(message, required, tag = "2")]
    pub layout: Layout,
    /// From here on it does not show through, bytes.
    #[prost(uint64, tag = "3")]
    pub bytes: u64,
    /// See [`FileCredentials::content`].
    #[prost(bytes = "bytes", tag = "4")]
    pub content: bytes::Bytes,
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
    Unlink = 0x0226 mutates (RemoveEntry) -> ChangeReply,
    /// Removes an empty directory.
    RmDir = 0x0227 mutates (RemoveEntry) -> ChangeReply,
    /// Another name for a file.
    Link = 0x0228 mutates (LinkRequest) -> AttrReply,
    /// Moves a name.
    Rename = 0x0229 mutates (RenameRequest) -> ChangeReply,
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
    /// Makes and opens a file without a name in the directory `make.parent` (`O_TMPFILE`). It lives until its last close,
    /// or until `Link` gives it a name, which `exclusive` forbids.
    TmpFile = 0x022f mutates (CreateRequest) -> OpenReply,
    /// Asks for a lease.
    AcquireLease = 0x0230 reads (AcquireLeaseRequest) -> AttrReply,
    /// Waits for recalls.
    AwaitRecalls = 0x0231 reads (AwaitRecallsRequest) -> RecallsReply,
    /// Gives leases back.
    ReturnLeases = 0x0232 reads (ReturnLeasesRequest) -> Empty,
    /// See [`SetReplicasRequest`].
    SetReplicas = 0x0280 mutates (SetReplicasRequest) -> ReplicasReply,
    /// See [`CompleteReplicasRequest`].
    CompleteReplicas = 0x0281 mutates (CompleteReplicasRequest) -> ReplicasReply,
    /// See [`ListReplicasRequest`].
    ListReplicas = 0x0282 reads (ListReplicasRequest) -> ReplicatedFiles,
    /// See [`DemoteReplicasRequest`].
    DemoteReplicas = 0x0283 mutates (DemoteReplicasRequest) -> ReplicasReply,
    /// Closes several handles.
    CloseMany = 0x0233 reads (CloseManyRequest) -> Empty,
    /// Tells of files that the session has made under its leases of their directories.
    CreateMany = 0x0234 mutates (CreateManyRequest) -> CreateManyReply,
    /// Asks for what it takes to move and remove files unheard.
    HoldMany = 0x0235 reads (HoldManyRequest) -> HoldManyReply,
    /// What a session that decided about a file's locks alone has there.
    TellLocks = 0x0236 mutates (TellLocksRequest) -> Empty,
}
