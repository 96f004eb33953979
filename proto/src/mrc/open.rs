//! Open files and locks: what a client holds.

use super::{Attr, FileCredentials, Head, LeaseGrant, MakeRequest};

/// Creates (or opens) a regular file and opens it in one call.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CreateRequest {
    /// What and where; `mode` may lack the type.
    #[prost(message, required, tag = "1")]
    pub make: MakeRequest,
    /// Refuse an existing name (`O_EXCL`); otherwise an existing regular file is opened.
    #[prost(bool, tag = "2")]
    pub exclusive: bool,
    /// Open for writing (always readable too: the capability is for the host; the mount checks modes).
    #[prost(bool, tag = "3")]
    pub write: bool,
    /// Every write goes to the end (`O_APPEND`): append-only files may be opened for writing so.
    #[prost(bool, tag = "4")]
    pub append: bool,
}

/// Opens a file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Inode.
    #[prost(uint64, tag = "2")]
    pub ino: u64,
    /// Wants to write.
    #[prost(bool, tag = "3")]
    pub write: bool,
    /// Only a fresh capability for a handle that is open already (renewal): no handle is counted.
    #[prost(bool, tag = "4")]
    pub renew: bool,
    /// See [`CreateRequest::append`].
    #[prost(bool, tag = "5")]
    pub append: bool,
    /// With `renew`: the data of this very number, whatever the file shows. For who looks after replicas.
    #[prost(bool, tag = "6")]
    pub exact: bool,
}

/// Answer to create and open.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenReply {
    /// Attributes.
    #[prost(message, required, tag = "1")]
    pub attr: Attr,
    /// Rights and layout.
    #[prost(message, required, tag = "2")]
    pub credentials: FileCredentials,
    /// Whether `Create` made the file.
    #[prost(bool, tag = "3")]
    pub created: bool,
    /// Leases held on the inodes that the answer tells of (a lookup's directory too).
    #[prost(message, repeated, tag = "4")]
    pub leases: Vec<LeaseGrant>,
    /// So many bytes may be allocated before the next report, because a quota applies; absent: no limit.
    #[prost(uint64, optional, tag = "5")]
    pub room: Option<u64>,
    /// `Create`: see [`super::ChangeReply::changed`].
    #[prost(message, repeated, tag = "6")]
    pub changed: Vec<Attr>,
}

/// Closes handles; the last close of an unlinked file frees it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CloseRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Inode.
    #[prost(uint64, tag = "2")]
    pub ino: u64,
    /// Whether the handle was a writing one.
    #[prost(bool, tag = "3")]
    pub write: bool,
}

/// One closed handle.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct ClosedHandle {
    /// Inode.
    #[prost(uint64, tag = "1")]
    pub ino: u64,
    /// Whether the handle was a writing one.
    #[prost(bool, tag = "2")]
    pub write: bool,
}

/// Closes several handles of one volume; each as by [`CloseRequest`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct CloseManyRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// The handles.
    #[prost(message, repeated, tag = "2")]
    pub closed: Vec<ClosedHandle>,
}
