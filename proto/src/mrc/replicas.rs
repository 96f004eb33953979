//! Requests that change where the replicas of a file are; see `docs/protocols/views.md`.

use super::Head;
use crate::rpc::Origin;
use crate::stripe::{Column, Layout};

/// Gives a file new replica lists. Refused while a change is under way.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetReplicasRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Makes a repeat safe.
    #[prost(message, required, tag = "2")]
    pub origin: Origin,
    /// Inode.
    #[prost(uint64, tag = "3")]
    pub ino: u64,
    /// The view that the caller saw.
    #[prost(uint64, tag = "4")]
    pub view: u64,
    /// The new lists, one per column.
    #[prost(message, repeated, tag = "5")]
    pub columns: Vec<Column>,
    /// Policy `all`: who of them does not vote. Whoever is new does not either.
    #[prost(uint64, repeated, tag = "6")]
    pub learners: Vec<u64>,
}

/// A client asks that replicas of a file of policy `all` that are down do not vote any more.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DemoteReplicasRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Makes a repeat safe.
    #[prost(message, required, tag = "2")]
    pub origin: Origin,
    /// Inode.
    #[prost(uint64, tag = "3")]
    pub ino: u64,
    /// The view that the caller saw.
    #[prost(uint64, tag = "4")]
    pub view: u64,
}

/// Ends a change: the new lists have everything.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CompleteReplicasRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Makes a repeat safe.
    #[prost(message, required, tag = "2")]
    pub origin: Origin,
    /// Inode.
    #[prost(uint64, tag = "3")]
    pub ino: u64,
    /// The view that the caller saw complete.
    #[prost(uint64, tag = "4")]
    pub view: u64,
}

/// The layout after a change.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReplicasReply {
    /// The layout.
    #[prost(message, required, tag = "1")]
    pub layout: Layout,
}

/// Asks for replicated files of a volume, page by page.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListReplicasRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Only files above this inode.
    #[prost(uint64, tag = "2")]
    pub after: u64,
    /// Only files that name one of these OSDs, or whose lists are being changed. Empty: all.
    #[prost(uint64, repeated, tag = "3")]
    pub osds: Vec<u64>,
}

/// A replicated file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReplicatedFile {
    /// Inode.
    #[prost(uint64, tag = "1")]
    pub ino: u64,
    /// Size, bytes.
    #[prost(uint64, tag = "2")]
    pub size: u64,
    /// Where its replicas are.
    #[prost(message, required, tag = "3")]
    pub layout: Layout,
}

/// A page of them.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReplicatedFiles {
    /// Ascending by inode.
    #[prost(message, repeated, tag = "1")]
    pub files: Vec<ReplicatedFile>,
    /// Where to go on; 0: that was all.
    #[prost(uint64, tag = "2")]
    pub next: u64,
}
