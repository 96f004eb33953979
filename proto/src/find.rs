//! Finding files by their attributes. Answered by MRCs; method number 0x0250. The language is [`crate::query`].

use crate::mrc::{Attr, Head};

/// Most files in one answer.
pub const FOUND_MAX: u32 = 1024;

/// Asks for the files below a directory that match.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FindRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Directory.
    #[prost(uint64, tag = "2")]
    pub subtree: u64,
    /// A query with numbers for users and groups.
    #[prost(string, tag = "3")]
    pub query: String,
    /// Go on after this inode; 0 begins.
    #[prost(uint64, tag = "4")]
    pub after: u64,
    /// Most files wanted; 0: as many as fit.
    #[prost(uint32, tag = "5")]
    pub limit: u32,
}

/// A file that matches.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Found {
    /// Path of one of its names from the volume's root, without a leading slash.
    #[prost(bytes = "vec", tag = "1")]
    pub path: Vec<u8>,
    /// Attributes.
    #[prost(message, required, tag = "2")]
    pub attr: Attr,
}

/// A page, in the order of inode numbers.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FindReply {
    /// Files; may be none although more follow.
    #[prost(message, repeated, tag = "1")]
    pub found: Vec<Found>,
    /// The next [`FindRequest::after`].
    #[prost(uint64, tag = "2")]
    pub after: u64,
    /// Nothing follows.
    #[prost(bool, tag = "3")]
    pub end: bool,
}

crate::methods! {
    /// Files below a directory that match a query.
    Find = 0x0250 reads (FindRequest) -> FindReply,
}
