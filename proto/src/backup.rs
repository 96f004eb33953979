//! Reading all metadata of a volume, and putting it into an empty one. Answered by MRCs; method numbers 0x0270 to 0x0273.
//! See docs/formats/dump.md.

use crate::mrc::{Attr, Head};
use crate::rpc::Origin;
use crate::stripe::{Layout, Striping};

/// What the dump is of.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DumpHeader {
    /// Volume.
    #[prost(uint64, tag = "1")]
    pub volume: u64,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The next inode number.
    #[prost(uint64, tag = "3")]
    pub next_ino: u64,
    /// Defaults for new files.
    #[prost(message, required, tag = "4")]
    pub striping: Striping,
}

/// An extended attribute.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Xattr {
    /// Name.
    #[prost(bytes = "vec", tag = "1")]
    pub name: Vec<u8>,
    /// Value.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// An inode with what belongs to it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Node {
    /// Attributes.
    #[prost(message, required, tag = "1")]
    pub attr: Attr,
    /// Of a file.
    #[prost(message, optional, tag = "2")]
    pub layout: Option<Layout>,
    /// Of a symlink.
    #[prost(bytes = "vec", tag = "3")]
    pub target: Vec<u8>,
    /// Of a directory.
    #[prost(uint64, tag = "4")]
    pub next_cookie: u64,
    /// Access control list in the xattr form; empty: none.
    #[prost(bytes = "vec", tag = "5")]
    pub acl: Vec<u8>,
    /// Default list of a directory, likewise.
    #[prost(bytes = "vec", tag = "6")]
    pub default_acl: Vec<u8>,
    /// Extended attributes.
    #[prost(message, repeated, tag = "7")]
    pub xattrs: Vec<Xattr>,
    /// What the file shares with others, as the MRC keeps it (docs/formats/mrc-store.md, "Layers"); empty: nothing.
    #[prost(bytes = "vec", tag = "8")]
    pub shares: Vec<u8>,
    /// The bytes of a file that the MRC has.
    #[prost(bytes = "bytes", tag = "9")]
    pub content: bytes::Bytes,
}

/// A name.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NameOf {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// Name.
    #[prost(bytes = "vec", tag = "2")]
    pub name: Vec<u8>,
    /// Inode.
    #[prost(uint64, tag = "3")]
    pub ino: u64,
    /// Cookie.
    #[prost(uint64, tag = "4")]
    pub cookie: u64,
}

/// Starts a dump, or asks for its next page.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadDump {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// 0 starts one.
    #[prost(uint64, tag = "2")]
    pub dump: u64,
    /// The page that is wanted, from 0; the last one may be asked for again.
    #[prost(uint64, tag = "3")]
    pub page: u64,
}

/// A page: nodes, or after all nodes names.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DumpPage {
    /// The dump's number.
    #[prost(uint64, tag = "1")]
    pub dump: u64,
    /// On page 0.
    #[prost(message, optional, tag = "2")]
    pub header: Option<DumpHeader>,
    /// Inodes, ascending.
    #[prost(message, repeated, tag = "3")]
    pub nodes: Vec<Node>,
    /// Names, ascending by directory and cookie.
    #[prost(message, repeated, tag = "4")]
    pub names: Vec<NameOf>,
    /// The last page.
    #[prost(bool, tag = "5")]
    pub end: bool,
}

/// Puts a page into a volume that is being loaded.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LoadPage {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Makes a repeat safe.
    #[prost(message, required, tag = "2")]
    pub origin: Origin,
    /// The first page: the volume must be empty.
    #[prost(message, optional, tag = "3")]
    pub begin: Option<DumpHeader>,
    /// Inodes.
    #[prost(message, repeated, tag = "4")]
    pub nodes: Vec<Node>,
    /// Names of inodes that are there.
    #[prost(message, repeated, tag = "5")]
    pub names: Vec<NameOf>,
    /// The last page.
    #[prost(bool, tag = "6")]
    pub end: bool,
    /// Files come empty, placed anew.
    #[prost(bool, tag = "7")]
    pub without_data: bool,
}

/// Nodes or names in one page.
pub const PAGE_RECORDS: usize = 512;
/// A page is ended when it is longer than this, bytes.
pub const PAGE_BYTES: usize = 1 << 20;

crate::methods! {
    /// A page of all metadata of a volume at one moment.
    DumpRead = 0x0270 reads (ReadDump) -> DumpPage,
    /// Puts a page of metadata into an empty volume.
    DumpLoad = 0x0271 mutates (LoadPage) -> crate::rpc::Empty,
}
