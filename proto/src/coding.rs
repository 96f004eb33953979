//! Erasure coding of closed files: who encodes (the RMS) and the MRC. Method numbers 0x0290 to 0x0297. See
//! docs/protocols/erasure-coding.md.

use crate::mrc::{Attr, AttrReply, FileCredentials, Head};
use crate::rpc::{Empty, Origin};
use crate::stripe::Coding;

/// Begins encoding a file. An encoding of it that was begun before goes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BeginEncoding {
    /// Head; root.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Makes a repeat safe.
    #[prost(message, required, tag = "2")]
    pub origin: Origin,
    /// The file.
    #[prost(uint64, tag = "3")]
    pub ino: u64,
    /// How.
    #[prost(message, required, tag = "4")]
    pub coding: Coding,
}

/// What is needed to write the encoded data.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EncodingBegun {
    /// The file as it is to be encoded.
    #[prost(message, required, tag = "1")]
    pub attr: Attr,
    /// The right to write the new data, and where it goes. Its number is the capability's.
    #[prost(message, required, tag = "2")]
    pub credentials: FileCredentials,
}

/// Ends an encoding: the file shows the new data, or that is given up.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EndEncoding {
    /// Head; root.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Makes a repeat safe.
    #[prost(message, required, tag = "2")]
    pub origin: Origin,
    /// The file.
    #[prost(uint64, tag = "3")]
    pub ino: u64,
    /// The number of the new data.
    #[prost(uint64, tag = "4")]
    pub data: u64,
}

/// Objects of encoded data are damaged.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReportDamaged {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Makes a repeat safe.
    #[prost(message, required, tag = "2")]
    pub origin: Origin,
    /// The number of the data.
    #[prost(uint64, tag = "3")]
    pub data: u64,
}

/// Asks for files that are to be encoded, page by page.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListEncodable {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Only files above this inode.
    #[prost(uint64, tag = "2")]
    pub after: u64,
    /// Files on these OSDs are to be encoded anew.
    #[prost(uint64, repeated, tag = "3")]
    pub leaving: Vec<u64>,
    /// Only files whose last change is so long ago.
    #[prost(uint64, tag = "4")]
    pub quiet_ms: u64,
}

/// A file that is to be encoded.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct EncodableFile {
    /// Inode.
    #[prost(uint64, tag = "1")]
    pub ino: u64,
    /// Size, bytes.
    #[prost(uint64, tag = "2")]
    pub size: u64,
    /// How.
    #[prost(message, required, tag = "3")]
    pub coding: Coding,
    /// It is encoded already, and parts are lost, leaving or damaged: more urgent.
    #[prost(bool, tag = "4")]
    pub repair: bool,
}

/// A page of them.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EncodableFiles {
    /// Ascending by inode.
    #[prost(message, repeated, tag = "1")]
    pub files: Vec<EncodableFile>,
    /// Where to go on; 0: that was all.
    #[prost(uint64, tag = "2")]
    pub next: u64,
    /// Files looked at that are encoded as they should be.
    #[prost(uint64, tag = "3")]
    pub encoded: u64,
    /// Files looked at that will be encoded when they are quiet and closed.
    #[prost(uint64, tag = "4")]
    pub busy: u64,
}

crate::methods! {
    /// Begins encoding a file.
    EncodeBegin = 0x0290 mutates (BeginEncoding) -> EncodingBegun,
    /// The file shows its encoded data from now on.
    EncodeCommit = 0x0291 mutates (EndEncoding) -> AttrReply,
    /// Gives up encoded data that was not committed.
    EncodeDrop = 0x0292 mutates (EndEncoding) -> Empty,
    /// Files that are to be encoded.
    EncodeList = 0x0293 reads (ListEncodable) -> EncodableFiles,
    /// Encoded data is damaged.
    EncodeDamaged = 0x0294 mutates (ReportDamaged) -> Empty,
}
