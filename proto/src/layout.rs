//! Defaults for new files below a directory. Answered by MRCs; method numbers 0x0258 to 0x025b. See
//! docs/protocols/metadata.md, "Placement".

use crate::mrc::{Head, InoRequest};
use crate::rpc::{Empty, Origin};
use crate::stripe::Striping;

/// Sets or (without one) removes the defaults of a directory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetLayout {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Makes a repeat safe.
    #[prost(message, required, tag = "2")]
    pub origin: Origin,
    /// Directory.
    #[prost(uint64, tag = "3")]
    pub ino: u64,
    /// For new files in it and below, as far as no directory in between has its own.
    #[prost(message, optional, tag = "4")]
    pub striping: Option<Striping>,
}

/// What new files in a directory get.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LayoutDefault {
    /// Striping.
    #[prost(message, required, tag = "1")]
    pub striping: Striping,
    /// The directory that says so; 0: the volume.
    #[prost(uint64, tag = "2")]
    pub from: u64,
}

crate::methods! {
    /// Sets or removes the defaults of a directory.
    LayoutSet = 0x0258 mutates (SetLayout) -> Empty,
    /// What new files in a directory get.
    LayoutGet = 0x0259 reads (InoRequest) -> LayoutDefault,
}
