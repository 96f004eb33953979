//! What members of a Raft group say to one another, and what people ask of a group. Method numbers 0x01xx.

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

/// Takes the service at an address into a group, first as a learner. An address that is in it already stays what it
/// is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AddMember {
    /// The group; 0: that of whoever is asked.
    #[prost(uint64, tag = "1")]
    pub group: u64,
    /// The new member's address.
    #[prost(string, tag = "2")]
    pub addr: String,
}

/// Answer to [`AddMember`].
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct MemberAdded {
    /// The number that the address has in the group.
    #[prost(uint64, tag = "1")]
    pub member: u64,
}

/// Takes a member out of a group. One that is not in it is gone already.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct RemoveMember {
    /// The group; 0: that of whoever is asked.
    #[prost(uint64, tag = "1")]
    pub group: u64,
    /// The member.
    #[prost(uint64, tag = "2")]
    pub member: u64,
}

/// Hands leadership to another voter.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct TransferLeader {
    /// The group; 0: that of whoever is asked.
    #[prost(uint64, tag = "1")]
    pub group: u64,
    /// To whom; 0: whoever has most.
    #[prost(uint64, tag = "2")]
    pub to: u64,
}

crate::methods! {
    /// Delivers raft messages; answered at once.
    Deliver = 0x0101 reads (RaftMessages) -> Empty,
    /// Snapshot chunks, rejoin and membership between drivers.
    Peer = 0x0102 reads (QuorumCall) -> QuorumAnswer,
    /// Adds a member; answers when it is a learner.
    MemberAdd = 0x0103 mutates (AddMember) -> MemberAdded,
    /// Removes a member; answers when it is gone.
    MemberRemove = 0x0104 mutates (RemoveMember) -> Empty,
    /// Moves leadership; answers when this member leads no more.
    LeaderTransfer = 0x0105 mutates (TransferLeader) -> Empty,
}
