//! Requests that only read, and their answers.

use super::{Attr, Head, LeaseGrant};
use crate::stripe::Layout;

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
    /// Answers to size reports: see [`crate::mrc::OpenReply::room`].
    #[prost(uint64, optional, tag = "3")]
    pub room: Option<u64>,
    /// Answers to changes: see [`ChangeReply::changed`].
    #[prost(message, repeated, tag = "4")]
    pub changed: Vec<Attr>,
}

/// Answer to a change of names.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ChangeReply {
    /// Attributes, as they were right after the change, of the other inodes that it touched: directories that lost or got
    /// a name, what was moved or lost one of several names. Who holds leases on them may keep them.
    #[prost(message, repeated, tag = "1")]
    pub changed: Vec<Attr>,
    /// The inode that ceased to exist by it, and all leases on it; 0: none did, or the answer is a repeated one.
    #[prost(uint64, tag = "2")]
    pub freed: u64,
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
    /// Capacity of all OSDs, or what a quota of the directory allows if that is less, bytes.
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
    /// A quota limits the inodes to this; `inodes` are those that count under it.
    #[prost(uint64, optional, tag = "5")]
    pub inodes_max: Option<u64>,
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
