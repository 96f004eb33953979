//! What the replicas of a column say to one another: `docs/protocols/replication.md`.

use super::ColumnOf;
use crate::capability::Capability;

/// Head of every message between the replicas of a column; see `docs/protocols/replication.md`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReplicaHead {
    /// Needs `REPLICATE`.
    #[prost(message, required, tag = "1")]
    pub capability: Capability,
    /// Volume.
    #[prost(uint64, tag = "2")]
    pub volume: u64,
    /// File.
    #[prost(uint64, tag = "3")]
    pub ino: u64,
    /// The column.
    #[prost(message, required, tag = "4")]
    pub of: ColumnOf,
    /// The column's epoch at the sender.
    #[prost(uint64, tag = "5")]
    pub epoch: u64,
    /// The map epoch since which the receiver is what the sender believes: another life of it refuses.
    #[prost(uint64, tag = "6")]
    pub to_since: u64,
}

/// Asks a replica to promise the epoch and to tell its state.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReplicaAsk {
    /// The column.
    #[prost(message, required, tag = "1")]
    pub head: ReplicaHead,
    /// The map epoch that the sender knows: a new view is not opened with a map that does not show who may lead the old one.
    #[prost(uint64, tag = "2")]
    pub map_epoch: u64,
}

/// State of a replica.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReplicaState {
    /// The epoch that it adopted last.
    #[prost(uint64, tag = "1")]
    pub adopted: u64,
    /// It may have forgotten what it acknowledged.
    #[prost(bool, tag = "2")]
    pub doubtful: bool,
    /// (object, epoch, number) of each object, flattened, ascending.
    #[prost(uint64, repeated, tag = "3")]
    pub objects: Vec<u64>,
    /// Objects of them that have damaged blocks here, ascending.
    #[prost(uint64, repeated, tag = "4")]
    pub damaged: Vec<u64>,
}

/// What a change does to an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum ChangeKind {
    /// The payload goes to `offset`.
    Write = 0,
    /// A hole of `len` bytes at `offset`.
    Punch = 1,
    /// The length becomes `len` if it is more.
    Cut = 2,
}

/// A numbered change.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReplicaApply {
    /// The column.
    #[prost(message, required, tag = "1")]
    pub head: ReplicaHead,
    /// Object number within the file.
    #[prost(uint64, tag = "2")]
    pub object: u64,
    /// Version before it: epoch.
    #[prost(uint64, tag = "3")]
    pub base_epoch: u64,
    /// Version before it: number.
    #[prost(uint64, tag = "4")]
    pub base_number: u64,
    /// Its number in the column's epoch.
    #[prost(uint64, tag = "5")]
    pub number: u64,
    /// What it does.
    #[prost(enumeration = "ChangeKind", tag = "6")]
    pub kind: i32,
    /// First byte.
    #[prost(uint32, tag = "7")]
    pub offset: u32,
    /// Bytes (punch), or the length that stays (cut).
    #[prost(uint32, tag = "8")]
    pub len: u32,
    /// As in [`WriteRequest`].
    #[prost(fixed32, repeated, tag = "9")]
    pub checksums: Vec<u32>,
    /// As in [`WriteRequest`].
    #[prost(fixed32, tag = "10")]
    pub crc: u32,
    /// On disk before the answer.
    #[prost(bool, tag = "11")]
    pub sync: bool,
}

/// Answer to a change.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct ReplicaApplied {
    /// The base is not there: the object must be pushed.
    #[prost(bool, tag = "1")]
    pub needs_object: bool,
}

/// An object as it is at a replica; its blocks with data are the payload, whole.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ObjectCopy {
    /// Object number within the file.
    #[prost(uint64, tag = "1")]
    pub object: u64,
    /// Version: epoch; 0 when there is no such object.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Version: number.
    #[prost(uint64, tag = "3")]
    pub number: u64,
    /// Length, bytes.
    #[prost(uint32, tag = "4")]
    pub bytes: u32,
    /// (first block, blocks) of each run of data, flattened, ascending; what is in none is a hole.
    #[prost(uint32, repeated, tag = "5")]
    pub runs: Vec<u32>,
    /// `block_checksum` of each block of the payload.
    #[prost(fixed32, repeated, tag = "6")]
    pub checksums: Vec<u32>,
}

/// Replaces an object at a replica.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReplicaInstall {
    /// The column.
    #[prost(message, required, tag = "1")]
    pub head: ReplicaHead,
    /// What it becomes.
    #[prost(message, required, tag = "2")]
    pub copy: ObjectCopy,
}

/// The version that an object has after it.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct ReplicaInstalled {
    /// Epoch.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// Number.
    #[prost(uint64, tag = "2")]
    pub number: u64,
}

/// Gets an object from a replica; the answer is an [`ObjectCopy`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReplicaFetch {
    /// The column.
    #[prost(message, required, tag = "1")]
    pub head: ReplicaHead,
    /// Object number within the file.
    #[prost(uint64, tag = "2")]
    pub object: u64,
}

/// Asks how an object at another replica differs from the sender's, by checksums of its blocks.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CompareRequest {
    /// The column.
    #[prost(message, required, tag = "1")]
    pub head: ReplicaHead,
    /// Object number within the file.
    #[prost(uint64, tag = "2")]
    pub object: u64,
    /// Of each 16 blocks of the sender's object the CRC-32C of their checksums (little endian; 0 for a hole).
    #[prost(fixed32, repeated, tag = "3")]
    pub groups: Vec<u32>,
}

/// The receiver's object.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CompareReply {
    /// Version: epoch; 0 when there is no such object.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// Version: number.
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// Length, bytes.
    #[prost(uint32, tag = "3")]
    pub bytes: u32,
    /// Groups of 16 blocks that differ, or that only the receiver has, ascending.
    #[prost(uint32, repeated, tag = "4")]
    pub groups: Vec<u32>,
    /// The checksum of each block in these; 0 for a hole.
    #[prost(fixed32, repeated, tag = "5")]
    pub checksums: Vec<u32>,
    /// It has damaged blocks: it must be sent whole.
    #[prost(bool, tag = "6")]
    pub damaged: bool,
}

/// What makes one version of an object of another one; the blocks with data are the payload, whole.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ObjectDelta {
    /// Object number within the file.
    #[prost(uint64, tag = "1")]
    pub object: u64,
    /// Version that it is put over: epoch.
    #[prost(uint64, tag = "2")]
    pub base_epoch: u64,
    /// Version that it is put over: number.
    #[prost(uint64, tag = "3")]
    pub base_number: u64,
    /// Version after it: epoch.
    #[prost(uint64, tag = "4")]
    pub epoch: u64,
    /// Version after it: number.
    #[prost(uint64, tag = "5")]
    pub number: u64,
    /// Length after it, bytes.
    #[prost(uint32, tag = "6")]
    pub bytes: u32,
    /// (first block, blocks) of what is replaced, flattened, ascending.
    #[prost(uint32, repeated, tag = "7")]
    pub changed: Vec<u32>,
    /// (first block, blocks) of each run of data within it; the rest of it becomes holes.
    #[prost(uint32, repeated, tag = "8")]
    pub runs: Vec<u32>,
    /// `block_checksum` of each block of the payload.
    #[prost(fixed32, repeated, tag = "9")]
    pub checksums: Vec<u32>,
    /// SHA-256 of the whole object after it, when `changed` was found by comparing checksums; empty when it is known.
    #[prost(bytes = "vec", tag = "10")]
    pub digest: Vec<u8>,
}

/// Changes an object at a replica to another version of it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReplicaPatch {
    /// The column.
    #[prost(message, required, tag = "1")]
    pub head: ReplicaHead,
    /// How.
    #[prost(message, required, tag = "2")]
    pub delta: ObjectDelta,
}

/// Answer to [`ReplicaPatch`].
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct ReplicaPatched {
    /// The version that it has: epoch.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// The version that it has: number.
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// It was not taken: what is here is not what it is made for.
    #[prost(bool, tag = "3")]
    pub needs_object: bool,
}

/// Gets from a replica what makes its version of an object of the sender's.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaRequest {
    /// The column.
    #[prost(message, required, tag = "1")]
    pub head: ReplicaHead,
    /// Object number within the file.
    #[prost(uint64, tag = "2")]
    pub object: u64,
    /// The sender's version: epoch.
    #[prost(uint64, tag = "3")]
    pub base_epoch: u64,
    /// The sender's version: number.
    #[prost(uint64, tag = "4")]
    pub base_number: u64,
    /// With `changed`: the receiver's version that was compared: epoch.
    #[prost(uint64, tag = "5")]
    pub epoch: u64,
    /// With `changed`: the receiver's version that was compared: number.
    #[prost(uint64, tag = "6")]
    pub number: u64,
    /// (first block, blocks) of what differs, flattened, when it was compared; else the receiver looks for it itself.
    #[prost(uint32, repeated, tag = "7")]
    pub changed: Vec<u32>,
    /// It was compared.
    #[prost(bool, tag = "8")]
    pub compared: bool,
}

/// Answer to [`DeltaRequest`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaReply {
    /// Absent: not known here; compare, or get the whole object.
    #[prost(message, optional, tag = "1")]
    pub delta: Option<ObjectDelta>,
}

/// What [`ReplicaOrder`] asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum OrderKind {
    /// Write down that the epoch is adopted.
    Adopt = 0,
    /// Everything of the column on disk.
    Sync = 1,
    /// Say that nothing above the epoch was promised.
    Confirm = 2,
    /// Open the column, whose primary the receiver is: replicas of it lag.
    Open = 3,
}

/// An order that names no object.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReplicaOrder {
    /// The column.
    #[prost(message, required, tag = "1")]
    pub head: ReplicaHead,
    /// Which.
    #[prost(enumeration = "OrderKind", tag = "2")]
    pub kind: i32,
}

/// An OSD looks how long another one takes to answer, and tells what it found so far.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ProbeRequest {
    /// Needs `REPLICATE`.
    #[prost(message, required, tag = "1")]
    pub capability: Capability,
    /// The sender's number.
    #[prost(uint64, tag = "2")]
    pub from: u64,
    /// The receiver is slow, as the sender sees it; absent: it does not know yet.
    #[prost(bool, optional, tag = "3")]
    pub slow: Option<bool>,
}

/// Asks for blocks of an object in exactly one version, to replace damaged ones of the same version. They are the payload,
/// whole, in the order asked for.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MendRequest {
    /// Needs `REPLICATE`.
    #[prost(message, required, tag = "1")]
    pub capability: Capability,
    /// Volume.
    #[prost(uint64, tag = "2")]
    pub volume: u64,
    /// File.
    #[prost(uint64, tag = "3")]
    pub ino: u64,
    /// Object number within the file.
    #[prost(uint64, tag = "4")]
    pub object: u64,
    /// Version: epoch.
    #[prost(uint64, tag = "5")]
    pub epoch: u64,
    /// Version: number.
    #[prost(uint64, tag = "6")]
    pub number: u64,
    /// Which blocks.
    #[prost(uint32, repeated, tag = "7")]
    pub blocks: Vec<u32>,
}

/// Answer to [`MendRequest`].
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct MendReply {
    /// The version is here and whole.
    #[prost(bool, tag = "1")]
    pub found: bool,
}
