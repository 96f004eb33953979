//! Files that a mount has made, moved or removed under its lease of their directory, told afterwards. See `docs/protocols/async-create.md`.

use super::{Attr, FileCredentials, Head, KeptAttributes, LeaseGrant, Time};
use crate::error::{Code, ErrorMessage};
use crate::rpc::Origin;

/// Most files of one call.
pub const CREATES_MAX: usize = 128;
/// Most numbers that one call reserves.
pub const RESERVE_MAX: u32 = 1024;

/// In [`CreateManyReply::takes`]: further names of files.
pub const TAKES_LINKS: u32 = 1;
/// In [`CreateManyReply::takes`]: directories, and attributes of directories.
pub const TAKES_DIRECTORIES: u32 = 2;
/// In [`CreateManyReply::takes`]: what is in small files.
pub const TAKES_CONTENT: u32 = 4;

/// Whether files that were refused so may be taken when they are told again; else they are lost, and nobody waits for them. They were
/// promised, so an MRC that is short of room for now is waited for.
#[must_use]
pub fn may_be_told_again(code: Code) -> bool {
    match code {
        // A session that was expelled makes nothing, however often it says so.
        Code::CapabilityExpired => false,
        Code::NoSpace | Code::Internal | Code::Io | Code::Cancelled => true,
        code => code.is_retryable(),
    }
}

/// A regular file or a directory that programs of a mount see already, or see no more.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EarlyFile {
    /// Makes a repeat safe: that of the kernel's request, so that a request that is sent again is answered as one.
    #[prost(message, required, tag = "1")]
    pub origin: Origin,
    /// Directory; the session holds [`super::LEASE_WRITE`] of it.
    #[prost(uint64, tag = "2")]
    pub parent: u64,
    /// Name.
    #[prost(bytes = "vec", tag = "3")]
    pub name: Vec<u8>,
    /// Its number; of one that was made: of those that the session reserved.
    #[prost(uint64, tag = "4")]
    pub ino: u64,
    /// Permission bits.
    #[prost(uint32, tag = "5")]
    pub mode: u32,
    /// Owner.
    #[prost(uint32, tag = "6")]
    pub uid: u32,
    /// Group.
    #[prost(uint32, tag = "7")]
    pub gid: u32,
    /// When.
    #[prost(message, required, tag = "8")]
    pub at: Time,
    /// The session's epoch then: a later one means that others may have changed the directory meanwhile.
    #[prost(uint64, tag = "9")]
    pub epoch: u64,
    /// The name was taken away from it, or from an empty directory, under [`super::LEASE_WRITE`] of it too: the mode says nothing, the owner is who did it.
    #[prost(bool, tag = "10")]
    pub removed: bool,
    /// It was moved, with [`super::LEASE_WRITE`] of it and of both directories: likewise.
    #[prost(message, optional, tag = "11")]
    pub moved: Option<EarlyMove>,
    /// It has a further name, this one, with [`super::LEASE_WRITE`] of it: likewise.
    #[prost(bool, tag = "12")]
    pub linked: bool,
    /// What was made is a directory.
    #[prost(bool, tag = "13")]
    pub directory: bool,
    /// Attributes of a directory were set, with [`super::LEASE_WRITE`] of it: it is its own parent here, and the name is empty.
    #[prost(message, optional, tag = "14")]
    pub kept: Option<KeptAttributes>,
    /// Of a file that was made, written and closed: all that is in it.
    #[prost(message, optional, tag = "15")]
    pub content: Option<EarlyContent>,
}

/// What is in a small file that a mount has made. See `docs/protocols/small-files.md`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EarlyContent {
    /// From its first byte to its last, at most [`crate::limits::INLINE_BYTES_MAX`].
    #[prost(bytes = "bytes", tag = "1")]
    pub data: bytes::Bytes,
    /// Their CRC-32C.
    #[prost(fixed32, tag = "2")]
    pub crc: u32,
    /// When it was written last.
    #[prost(message, required, tag = "3")]
    pub mtime: Time,
    /// Attributes that were set after that, as in a report of what was written.
    #[prost(message, optional, tag = "4")]
    pub kept: Option<KeptAttributes>,
}

impl EarlyFile {
    /// Whether it is new.
    #[must_use]
    pub fn is_made(&self) -> bool {
        !self.removed && !self.linked && self.moved.is_none() && self.kept.is_none()
    }

    /// Directories in which names change.
    pub fn directories(&self) -> impl Iterator<Item = u64> {
        std::iter::once(self.parent).chain(self.moved.iter().map(|to| to.parent))
    }

    /// Inodes that existed before and change with it.
    pub fn known(&self) -> impl Iterator<Item = u64> {
        let replaced = self.moved.iter().map(|to| to.replaced).filter(|ino| *ino != 0);
        (!self.is_made()).then_some(self.ino).into_iter().chain(replaced)
    }
}

/// Where a file went.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EarlyMove {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// Name.
    #[prost(bytes = "vec", tag = "2")]
    pub name: Vec<u8>,
    /// The file that had the name and no other; 0: none.
    #[prost(uint64, tag = "3")]
    pub replaced: u64,
}

/// Tells of files that were made, moved or removed, and asks for numbers for further ones.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CreateManyRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// At most [`CREATES_MAX`], in the order in which it was done.
    #[prost(message, repeated, tag = "2")]
    pub files: Vec<EarlyFile>,
    /// How many numbers to reserve, at most [`RESERVE_MAX`]; 0: none. What a repeat reserves is lost: there are enough.
    #[prost(uint32, tag = "3")]
    pub reserve: u32,
}

/// What became of one file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CreatedReply {
    /// Its attributes and rights; absent when it was refused, moved or removed.
    #[prost(message, optional, tag = "1")]
    pub attr: Option<Attr>,
    /// See [`super::OpenReply::credentials`]; for writing.
    #[prost(message, optional, tag = "2")]
    pub credentials: Option<FileCredentials>,
    /// Why it was refused.
    #[prost(message, optional, tag = "3")]
    pub refused: Option<ErrorMessage>,
    /// The inode that ceased to exist; 0: none did.
    #[prost(uint64, tag = "4")]
    pub freed: u64,
    /// Where its new name stands in the listing of the directory; 0: it has none, or has lost it since.
    #[prost(uint64, tag = "5")]
    pub cookie: u64,
    /// What was told to be in it is in it, or was before others changed it; else it was made empty.
    #[prost(bool, tag = "6")]
    pub has_content: bool,
}

impl EarlyFile {
    /// The name that is new, with its directory.
    #[must_use]
    pub fn new_name(&self) -> Option<(u64, &[u8])> {
        match &self.moved {
            Some(to) => Some((to.parent, &to.name)),
            None => (self.is_made() || self.linked).then_some((self.parent, &self.name)),
        }
    }
}

/// Answer to [`CreateManyRequest`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct CreateManyReply {
    /// In the order of the request.
    #[prost(message, repeated, tag = "1")]
    pub files: Vec<CreatedReply>,
    /// Leases held on the files now.
    #[prost(message, repeated, tag = "2")]
    pub leases: Vec<LeaseGrant>,
    /// First of the numbers reserved; 0: none.
    #[prost(uint64, tag = "3")]
    pub first: u64,
    /// What else than files that are made, moved and removed it may be told of: [`TAKES_LINKS`], [`TAKES_DIRECTORIES`], [`TAKES_CONTENT`]. An older one knows none of it.
    #[prost(uint32, tag = "4")]
    pub takes: u32,
}
