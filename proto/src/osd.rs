//! What clients, MRCs and OSDs ask of an OSD. Method numbers 0x03xx. Data travels as the frame's payload.

use crate::capability::Capability;
use crate::rpc::Empty;

/// Head of every request on one object.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ObjectHead {
    /// The right.
    #[prost(message, required, tag = "1")]
    pub capability: Capability,
    /// Object number within the file (volume and file are in the capability).
    #[prost(uint64, tag = "2")]
    pub object: u64,
    /// The OSD map epoch that the sender knows; a receiver with a newer map answers `OldEpoch`.
    #[prost(uint64, tag = "3")]
    pub map_epoch: u64,
}

/// Writes the payload. Acknowledged when it survives the death of the process; on disk after `Sync`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WriteRequest {
    /// Which object.
    #[prost(message, required, tag = "1")]
    pub head: ObjectHead,
    /// First byte within the object.
    #[prost(uint32, tag = "2")]
    pub offset: u32,
    /// `block_checksum` of every whole block of the payload when offset and length are block-aligned (the last
    /// block may be short only at its end); empty otherwise, then `crc` covers the payload.
    #[prost(fixed32, repeated, tag = "3")]
    pub checksums: Vec<u32>,
    /// CRC-32C of the payload; used when `checksums` is empty.
    #[prost(fixed32, tag = "4")]
    pub crc: u32,
    /// On disk before the answer (`O_SYNC`).
    #[prost(bool, tag = "5")]
    pub sync: bool,
}

/// Answer to a write, truncate or punch.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WriteReply {
    /// The object's version after it.
    #[prost(uint64, tag = "1")]
    pub version: u64,
}

/// Reads; holes and everything beyond the object's end read as zeroes that are not sent.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadRequest {
    /// Which object.
    #[prost(message, required, tag = "1")]
    pub head: ObjectHead,
    /// First byte within the object.
    #[prost(uint32, tag = "2")]
    pub offset: u32,
    /// Bytes wanted.
    #[prost(uint32, tag = "3")]
    pub len: u32,
}

/// Answer: the payload starts at block `first_block` and covers whole blocks (the last may be cut at the
/// object's end), so that the reader can verify the stored checksums. It may hold fewer bytes than asked: the
/// rest is a hole up to the end of the range.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadReply {
    /// Number of the block that the payload starts with.
    #[prost(uint32, tag = "1")]
    pub first_block: u32,
    /// `block_checksum` of each block of the payload; for a block inside a hole the checksum of zeroes.
    #[prost(fixed32, repeated, tag = "2")]
    pub checksums: Vec<u32>,
    /// The object's version.
    #[prost(uint64, tag = "3")]
    pub version: u64,
    /// The object's length, bytes (end of its last written byte).
    #[prost(uint32, tag = "4")]
    pub object_bytes: u32,
}

/// Cuts the file on this OSD: objects beyond go, the boundary object is cut.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TruncateRequest {
    /// `object` is the first object that may be cut: `size / stripe_bytes`.
    #[prost(message, required, tag = "1")]
    pub head: ObjectHead,
    /// Bytes that stay of object `head.object` (0: it goes as well). All higher objects of the file go.
    #[prost(uint32, tag = "2")]
    pub keep: u32,
}

/// Makes a hole within one object.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PunchRequest {
    /// Which object.
    #[prost(message, required, tag = "1")]
    pub head: ObjectHead,
    /// First byte.
    #[prost(uint32, tag = "2")]
    pub offset: u32,
    /// Bytes.
    #[prost(uint32, tag = "3")]
    pub len: u32,
}

/// Everything of a file that was acknowledged by this OSD is on disk when this is answered.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SyncRequest {
    /// The right (any).
    #[prost(message, required, tag = "1")]
    pub capability: Capability,
}

/// Removes all objects of a file (idempotent).
#[derive(Clone, PartialEq, prost::Message)]
pub struct RemoveRequest {
    /// Needs `REMOVE`.
    #[prost(message, required, tag = "1")]
    pub capability: Capability,
}

/// Which objects of a file this OSD holds, and which of their bytes are data.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatObjectsRequest {
    /// The right (any).
    #[prost(message, required, tag = "1")]
    pub capability: Capability,
    /// First object to tell of.
    #[prost(uint64, tag = "2")]
    pub from_object: u64,
    /// Most objects to tell of.
    #[prost(uint32, tag = "3")]
    pub limit: u32,
}

/// One object on an OSD.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ObjectStat {
    /// Object number.
    #[prost(uint64, tag = "1")]
    pub object: u64,
    /// Length, bytes.
    #[prost(uint32, tag = "2")]
    pub bytes: u32,
    /// Version.
    #[prost(uint64, tag = "3")]
    pub version: u64,
    /// Allocated bytes (whole blocks).
    #[prost(uint32, tag = "4")]
    pub allocated: u32,
    /// Data ranges as (offset, length) pairs, flattened; what is not in them is a hole.
    #[prost(uint32, repeated, tag = "5")]
    pub data: Vec<u32>,
    /// Epoch in which the object was last written.
    #[prost(uint64, tag = "6")]
    pub epoch: u64,
}

/// Answer to [`StatObjectsRequest`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatObjectsReply {
    /// Ascending by object.
    #[prost(message, repeated, tag = "1")]
    pub objects: Vec<ObjectStat>,
    /// Whether there are more beyond the last one.
    #[prost(bool, tag = "2")]
    pub more: bool,
}

/// Space and load of an OSD.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OsdStatus {
    /// The OSD's UUID.
    #[prost(string, tag = "1")]
    pub uuid: String,
    /// Capacity, bytes.
    #[prost(uint64, tag = "2")]
    pub total_bytes: u64,
    /// Free, bytes.
    #[prost(uint64, tag = "3")]
    pub free_bytes: u64,
    /// Objects held.
    #[prost(uint64, tag = "4")]
    pub objects: u64,
    /// Reads served since start.
    #[prost(uint64, tag = "5")]
    pub reads: u64,
    /// Writes served since start.
    #[prost(uint64, tag = "6")]
    pub writes: u64,
    /// Bytes read since start.
    #[prost(uint64, tag = "7")]
    pub read_bytes: u64,
    /// Bytes written since start.
    #[prost(uint64, tag = "8")]
    pub written_bytes: u64,
}

/// Sessions below these epochs are fenced: their capabilities are refused.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FenceRequest {
    /// Made by the MRC, needs `REMOVE` (volume-wide: ino 0).
    #[prost(message, required, tag = "1")]
    pub capability: Capability,
    /// The session to fence.
    #[prost(fixed64, tag = "2")]
    pub session: u64,
    /// Its capabilities with a lower session epoch are refused from now on.
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
}

crate::methods! {
    /// See [`WriteRequest`].
    Write = 0x0301 mutates (WriteRequest) -> WriteReply,
    /// See [`ReadRequest`].
    Read = 0x0302 reads (ReadRequest) -> ReadReply,
    /// See [`TruncateRequest`].
    Truncate = 0x0303 mutates (TruncateRequest) -> WriteReply,
    /// See [`PunchRequest`].
    Punch = 0x0304 mutates (PunchRequest) -> WriteReply,
    /// See [`SyncRequest`].
    Sync = 0x0305 mutates (SyncRequest) -> Empty,
    /// See [`RemoveRequest`].
    Remove = 0x0306 mutates (RemoveRequest) -> Empty,
    /// See [`StatObjectsRequest`].
    StatObjects = 0x0307 reads (StatObjectsRequest) -> StatObjectsReply,
    /// Space and load.
    Status = 0x0308 reads (Empty) -> OsdStatus,
    /// See [`FenceRequest`].
    Fence = 0x0309 mutates (FenceRequest) -> Empty,
}
