//! What members of a Raft group say to one another. Method numbers 0x01xx.

use crate::rpc::Empty;

/// A batch of raft-rs messages (protobuf bytes), opaque to everything but `quorum`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RaftMessages {
    /// The group.
    #[prost(uint64, tag = "1")]
    pub group: u64,
    /// The sending member.
    #[prost(uint64, tag = "2")]
    pub from: u64,
    /// The messages, in sending order.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub messages: Vec<bytes::Bytes>,
    /// How often the sender was started: messages of an earlier life are dropped.
    #[prost(uint64, tag = "4")]
    pub incarnation: u64,
}

/// Anything else that quorum drivers say to one another (snapshot chunks, rejoin, membership); quorum owns the
/// format of `body`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct QuorumCall {
    /// The group.
    #[prost(uint64, tag = "1")]
    pub group: u64,
    /// The sending member.
    #[prost(uint64, tag = "2")]
    pub from: u64,
    /// See `quorum::peer`.
    #[prost(bytes = "bytes", tag = "3")]
    pub body: bytes::Bytes,
}

/// Answer to [`QuorumCall`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct QuorumAnswer {
    /// See `quorum::peer`.
    #[prost(bytes = "bytes", tag = "1")]
    pub body: bytes::Bytes,
}

crate::methods! {
    /// Delivers raft messages; answered at once.
    Deliver = 0x0101 reads (RaftMessages) -> Empty,
    /// Snapshot chunks, rejoin and membership between drivers.
    Peer = 0x0102 reads (QuorumCall) -> QuorumAnswer,
}
