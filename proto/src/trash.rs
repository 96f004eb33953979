//! What was removed and is kept for a while. Answered by MRCs; method numbers 0x0278 to 0x027f. See
//! docs/protocols/trash.md.

use crate::mrc::{Head, Time};
use crate::rpc::{Empty, Origin};

/// How long a volume keeps what is removed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeepTrash {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Makes a repeat safe.
    #[prost(message, required, tag = "2")]
    pub origin: Origin,
    /// Milliseconds; 0: nothing is kept from now on.
    #[prost(uint64, tag = "3")]
    pub keep_ms: u64,
}

/// Something in the trash.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Trashed {
    /// Its inode number; of a directory the one that it had.
    #[prost(uint64, tag = "1")]
    pub ino: u64,
    /// When it was removed, Unix milliseconds.
    #[prost(uint64, tag = "2")]
    pub removed_ms: u64,
    /// Path that it had, from the volume's root, without a leading slash.
    #[prost(bytes = "vec", tag = "3")]
    pub path: Vec<u8>,
    /// Who removed it.
    #[prost(uint32, tag = "4")]
    pub removed_by: u32,
    /// Type and permission bits.
    #[prost(uint32, tag = "5")]
    pub mode: u32,
    /// Owner.
    #[prost(uint32, tag = "6")]
    pub uid: u32,
    /// Group.
    #[prost(uint32, tag = "7")]
    pub gid: u32,
    /// Size, bytes.
    #[prost(uint64, tag = "8")]
    pub size: u64,
    /// Last change of content.
    #[prost(message, required, tag = "9")]
    pub mtime: Time,
}

/// Asks for what is in the trash, the oldest first.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListTrash {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Go on after this one; 0 begins.
    #[prost(uint64, tag = "2")]
    pub after_ms: u64,
    /// See `after_ms`.
    #[prost(uint64, tag = "3")]
    pub after_ino: u64,
}

/// A page of the trash.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TrashList {
    /// What the asker may see.
    #[prost(message, repeated, tag = "1")]
    pub trashed: Vec<Trashed>,
    /// The next [`ListTrash::after_ms`].
    #[prost(uint64, tag = "2")]
    pub after_ms: u64,
    /// The next [`ListTrash::after_ino`].
    #[prost(uint64, tag = "3")]
    pub after_ino: u64,
    /// Nothing follows.
    #[prost(bool, tag = "4")]
    pub end: bool,
    /// How long the volume keeps what is removed, milliseconds; 0: it does not.
    #[prost(uint64, tag = "5")]
    pub keep_ms: u64,
}

/// Names one thing in the trash.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TrashRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Makes a repeat safe.
    #[prost(message, required, tag = "2")]
    pub origin: Origin,
    /// Inode.
    #[prost(uint64, tag = "3")]
    pub ino: u64,
    /// When it was removed.
    #[prost(uint64, tag = "4")]
    pub removed_ms: u64,
}

crate::methods! {
    /// Sets how long a volume keeps what is removed.
    TrashKeep = 0x0278 mutates (KeepTrash) -> Empty,
    /// What is in the trash.
    TrashLs = 0x0279 reads (ListTrash) -> TrashList,
    /// Gives something its name back.
    TrashRestore = 0x027a mutates (TrashRequest) -> Empty,
    /// Removes something for good.
    TrashRemove = 0x027b mutates (TrashRequest) -> Empty,
}
