//! What clients, MRCs and OSDs ask of an OSD. Method numbers 0x03xx. Data travels as the frame's payload.

pub mod replica;

pub use replica::*;

use crate::capability::Capability;
use crate::rpc::Empty;
use crate::stripe::Layout;

/// Which column of a replicated file is meant. Absent for files with one copy.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ColumnOf {
    /// The file's layout; the capability holds its digest.
    #[prost(message, required, tag = "1")]
    pub layout: Layout,
    /// Index of the column in it.
    #[prost(uint32, tag = "2")]
    pub column: u32,
}

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
    /// The column, when it is replicated.
    #[prost(message, optional, tag = "4")]
    pub replicas: Option<ColumnOf>,
    /// Changes of a client that holds the file's lease for writing; absent: it holds none, and is not ordered.
    #[prost(message, optional, tag = "5")]
    pub turn: Option<Turn>,
}

/// Orders the changes of a file's holders: an OSD refuses what is older than what it has seen (`Superseded`), for its
/// client has given it up. See `docs/protocols/leases.md`, "Late attempts".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Message)]
pub struct Turn {
    /// Number of the grant that brought the right to write.
    #[prost(uint64, tag = "1")]
    pub since: u64,
    /// Grows whenever the client gives up an attempt without knowing what became of it.
    #[prost(uint32, tag = "2")]
    pub round: u32,
}

impl Turn {
    /// For an error's hint.
    #[must_use]
    pub fn to_hint(self) -> String {
        format!("{} {}", self.since, self.round)
    }

    /// From an error's hint.
    #[must_use]
    pub fn of_hint(hint: &str) -> Option<Self> {
        let (since, round) = hint.split_once(' ')?;
        Some(Self { since: since.parse().ok()?, round: round.parse().ok()? })
    }
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
    /// An answer before did not match its checksums: the OSD compares what it reads, and repairs what it can.
    #[prost(bool, tag = "4")]
    pub check: bool,
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
    /// Blocks of the payload that were never written (or were punched) as (first, count) pairs, flattened; behind the payload
    /// none was.
    #[prost(uint32, repeated, tag = "5")]
    pub holes: Vec<u32>,
}

/// Asks any replica of a column what it has of an object, with the data or without: a majority that says the same answers a
/// read. See `docs/protocols/replication.md`, "Reads". A replica that is in any doubt refuses.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReplicaReadRequest {
    /// What is to be read. Its `map_epoch` is not looked at.
    #[prost(message, required, tag = "1")]
    pub read: ReadRequest,
    /// Only what it says of the object, no data.
    #[prost(bool, tag = "2")]
    pub word_only: bool,
}

/// What a replica says of an object, and the data as in [`ReadReply`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReplicaReadReply {
    /// The epoch that it has promised and adopted.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// The object's version: epoch; 0 when there is no such object.
    #[prost(uint64, tag = "2")]
    pub version_epoch: u64,
    /// The object's version: number.
    #[prost(uint64, tag = "3")]
    pub version_number: u64,
    /// What was read; absent when it was not asked for.
    #[prost(message, optional, tag = "4")]
    pub read: Option<ReadReply>,
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
    /// The column, when it is replicated: then a majority has it on disk.
    #[prost(message, optional, tag = "2")]
    pub replicas: Option<ColumnOf>,
    /// With `replicas`: the OSD map epoch that the sender knows.
    #[prost(uint64, tag = "3")]
    pub map_epoch: u64,
}

/// Removes all objects of a file (idempotent).
#[derive(Clone, PartialEq, prost::Message)]
pub struct RemoveRequest {
    /// Needs `REMOVE`.
    #[prost(message, required, tag = "1")]
    pub capability: Capability,
    /// The file lives on without this OSD: what it promised and adopted stays, or an old primary could use its voice.
    #[prost(bool, tag = "2")]
    pub keep_records: bool,
}

/// Removes all objects of several files.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RemoveManyRequest {
    /// Each like a request of its own.
    #[prost(message, repeated, tag = "1")]
    pub removals: Vec<RemoveRequest>,
}

/// Answer to [`RemoveManyRequest`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct RemovedMany {
    /// In the order of the request: whether it was done. What was not is asked for again.
    #[prost(bool, repeated, tag = "1")]
    pub done: Vec<bool>,
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
    /// The column, when it is replicated: only its objects are told of.
    #[prost(message, optional, tag = "4")]
    pub replicas: Option<ColumnOf>,
    /// With `replicas`: the OSD map epoch that the sender knows.
    #[prost(uint64, tag = "5")]
    pub map_epoch: u64,
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
    /// Replicated columns that this OSD leads and has in memory.
    #[prost(uint64, tag = "9")]
    pub columns_led: u64,
    /// Whose replicas of them lag.
    #[prost(message, repeated, tag = "10")]
    pub behind: Vec<Behind>,
    /// Blocks found damaged since the start.
    #[prost(uint64, tag = "11")]
    pub damage_found: u64,
    /// Of them made good from another replica.
    #[prost(uint64, tag = "12")]
    pub damage_mended: u64,
    /// Blocks known to be damaged now.
    #[prost(uint64, tag = "13")]
    pub damaged_blocks: u64,
    /// Bytes sent and received since the start to bring replicas of columns led from here into sync.
    #[prost(uint64, tag = "14")]
    pub resync_bytes: u64,
    /// Objects that went by it.
    #[prost(uint64, tag = "15")]
    pub resync_objects: u64,
    /// Of them as patches: only the blocks that differ.
    #[prost(uint64, tag = "16")]
    pub resync_patches: u64,
    /// Of the reads, those given without leading the column.
    #[prost(uint64, tag = "17")]
    pub replica_reads: u64,
}

/// An OSD whose replicas lag, as a leader of their columns knows it.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Behind {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub osd: u64,
    /// Columns in which it lags or its state is not known.
    #[prost(uint64, tag = "2")]
    pub columns: u64,
    /// Objects known to differ.
    #[prost(uint64, tag = "3")]
    pub objects: u64,
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

/// Asks how far the replicas of a column are, of its primary. Opens it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ColumnStatusRequest {
    /// The right (any).
    #[prost(message, required, tag = "1")]
    pub capability: Capability,
    /// The column.
    #[prost(message, required, tag = "2")]
    pub of: ColumnOf,
    /// The OSD map epoch that the sender knows.
    #[prost(uint64, tag = "3")]
    pub map_epoch: u64,
}

/// One replica as its primary knows it.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct ReplicaStanding {
    /// The OSD.
    #[prost(uint64, tag = "1")]
    pub osd: u64,
    /// The map says that it is up.
    #[prost(bool, tag = "2")]
    pub up: bool,
    /// It has everything.
    #[prost(bool, tag = "3")]
    pub in_sync: bool,
    /// Objects known to differ.
    #[prost(uint64, tag = "4")]
    pub behind: u64,
}

/// Answer to [`ColumnStatusRequest`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct ColumnStatusReply {
    /// The view that it is open in.
    #[prost(uint64, tag = "1")]
    pub view: u64,
    /// It serves.
    #[prost(bool, tag = "2")]
    pub serving: bool,
    /// Every replica that is up has everything, and these are a majority.
    #[prost(bool, tag = "3")]
    pub complete: bool,
    /// The replicas.
    #[prost(message, repeated, tag = "4")]
    pub members: Vec<ReplicaStanding>,
}

/// Begins a scrub of an OSD, or asks how far it is.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct ScrubRequest {
    /// Only this volume; 0: all.
    #[prost(uint64, tag = "1")]
    pub volume: u64,
    /// Begin one, unless one runs.
    #[prost(bool, tag = "2")]
    pub start: bool,
}

/// A damaged block.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct DamagedBlock {
    /// Volume.
    #[prost(uint64, tag = "1")]
    pub volume: u64,
    /// File.
    #[prost(uint64, tag = "2")]
    pub ino: u64,
    /// Object number within the file.
    #[prost(uint64, tag = "3")]
    pub object: u64,
    /// Block of it.
    #[prost(uint32, tag = "4")]
    pub block: u32,
}

/// How far a scrub is, and what it found.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ScrubReply {
    /// It runs.
    #[prost(bool, tag = "1")]
    pub running: bool,
    /// Which one since the start of the process.
    #[prost(uint64, tag = "2")]
    pub round: u64,
    /// Bytes compared.
    #[prost(uint64, tag = "3")]
    pub bytes: u64,
    /// Damaged blocks found in this round.
    #[prost(uint64, tag = "4")]
    pub found: u64,
    /// Made good in this round.
    #[prost(uint64, tag = "5")]
    pub mended: u64,
    /// Known to be damaged now.
    #[prost(uint64, tag = "6")]
    pub left: u64,
    /// Some of them.
    #[prost(message, repeated, tag = "7")]
    pub blocks: Vec<DamagedBlock>,
    /// Why it ended early, or empty.
    #[prost(string, tag = "8")]
    pub error: String,
}

/// Asks which files of a volume have objects at the OSD. The capability is for the volume (inode 0) with
/// [`crate::capability::REMOVE`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListFilesRequest {
    /// Made by the MRC.
    #[prost(message, required, tag = "1")]
    pub capability: Capability,
    /// Files with greater numbers only.
    #[prost(uint64, tag = "2")]
    pub after: u64,
    /// Most files wanted.
    #[prost(uint32, tag = "3")]
    pub limit: u32,
}

/// Files with objects at the OSD.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListFilesReply {
    /// Inodes, ascending.
    #[prost(uint64, repeated, tag = "1")]
    pub inos: Vec<u64>,
    /// Nothing follows.
    #[prost(bool, tag = "2")]
    pub end: bool,
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
    /// See [`RemoveManyRequest`].
    RemoveMany = 0x0340 mutates (RemoveManyRequest) -> RemovedMany,
    /// See [`StatObjectsRequest`].
    StatObjects = 0x0307 reads (StatObjectsRequest) -> StatObjectsReply,
    /// Space and load.
    Status = 0x0308 reads (Empty) -> OsdStatus,
    /// See [`FenceRequest`].
    Fence = 0x0309 mutates (FenceRequest) -> Empty,
    /// Files of a volume that have objects here.
    ListFiles = 0x030a reads (ListFilesRequest) -> ListFilesReply,
    /// See [`ReplicaAsk`].
    AskReplica = 0x0310 mutates (ReplicaAsk) -> ReplicaState,
    /// See [`ReplicaApply`].
    ApplyReplica = 0x0311 mutates (ReplicaApply) -> ReplicaApplied,
    /// See [`ReplicaInstall`].
    InstallReplica = 0x0312 mutates (ReplicaInstall) -> ReplicaInstalled,
    /// See [`ReplicaFetch`].
    FetchReplica = 0x0313 reads (ReplicaFetch) -> ObjectCopy,
    /// See [`ReplicaOrder`].
    OrderReplica = 0x0314 mutates (ReplicaOrder) -> Empty,
    /// See [`MendRequest`].
    MendReplica = 0x0315 reads (MendRequest) -> MendReply,
    /// See [`ScrubRequest`].
    Scrub = 0x0316 mutates (ScrubRequest) -> ScrubReply,
    /// See [`ColumnStatusRequest`].
    ColumnStatus = 0x0317 reads (ColumnStatusRequest) -> ColumnStatusReply,
    /// See [`CompareRequest`].
    CompareReplica = 0x0318 reads (CompareRequest) -> CompareReply,
    /// See [`ReplicaPatch`].
    PatchReplica = 0x0319 mutates (ReplicaPatch) -> ReplicaPatched,
    /// See [`DeltaRequest`].
    FetchDelta = 0x031a reads (DeltaRequest) -> DeltaReply,
    /// See [`ProbeRequest`].
    Probe = 0x031b reads (ProbeRequest) -> Empty,
    /// See [`ReplicaReadRequest`].
    ReadReplica = 0x031c reads (ReplicaReadRequest) -> ReplicaReadReply,
}
