//! Recursive usage of directories. Answered by MRCs; method numbers 0x0248 to 0x024f. See docs/protocols/usage.md.

use crate::mrc::InoRequest;

/// What lies below a directory (itself not counted), or what a file takes.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct UsageReply {
    /// Allocated, 512-byte units.
    #[prost(uint64, tag = "1")]
    pub blocks: u64,
    /// Sum of the sizes of files and symlinks, bytes.
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
    /// Inodes that are no directories.
    #[prost(uint64, tag = "3")]
    pub files: u64,
    /// Directories.
    #[prost(uint64, tag = "4")]
    pub directories: u64,
}

crate::methods! {
    /// What lies below a directory.
    Usage = 0x0248 reads (InoRequest) -> UsageReply,
}
