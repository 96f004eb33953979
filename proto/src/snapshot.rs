//! Snapshots of a volume and clones of files. Answered by MRCs; method numbers 0x0288 to 0x028f. See
//! docs/protocols/snapshots.md.

use crate::mrc::{AttrReply, Head, Time};
use crate::rpc::{Empty, Origin};

/// A snapshot: what a volume was at one moment, shown below the directory that it was made of.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SnapshotInfo {
    /// Its number within the volume: grows with each one, is never given again. Goes into [`Head::snapshot`].
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its name, unique among the snapshots of its directory.
    #[prost(bytes = "vec", tag = "2")]
    pub name: Vec<u8>,
    /// The directory that it was made of.
    #[prost(uint64, tag = "3")]
    pub directory: u64,
    /// When.
    #[prost(message, required, tag = "4")]
    pub created: Time,
    /// Who made it.
    #[prost(uint32, tag = "5")]
    pub uid: u32,
    /// Path of its directory now, from the volume's root, without a leading slash; empty for the root. Only in lists of the
    /// whole volume.
    #[prost(bytes = "vec", tag = "6")]
    pub path: Vec<u8>,
    /// The directory does not exist any more.
    #[prost(bool, tag = "7")]
    pub detached: bool,
}

/// Names a snapshot of a directory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SnapshotRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Makes a repeat safe.
    #[prost(message, required, tag = "2")]
    pub origin: Origin,
    /// The directory.
    #[prost(uint64, tag = "3")]
    pub ino: u64,
    /// The snapshot's name.
    #[prost(bytes = "vec", tag = "4")]
    pub name: Vec<u8>,
}

/// Answer to making one.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SnapshotReply {
    /// The snapshot.
    #[prost(message, required, tag = "1")]
    pub snapshot: SnapshotInfo,
}

/// Asks for snapshots, the oldest first.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListSnapshots {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Those that show this directory: made of it or of a directory above it. 0: all of the volume.
    #[prost(uint64, tag = "2")]
    pub ino: u64,
}

/// Answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SnapshotList {
    /// The oldest first.
    #[prost(message, repeated, tag = "1")]
    pub snapshots: Vec<SnapshotInfo>,
}

/// Gives a file the content of another, at once, however large: they share it until one of them is written.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CloneRequest {
    /// Head; of the present.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Makes a repeat safe.
    #[prost(message, required, tag = "2")]
    pub origin: Origin,
    /// Whose content.
    #[prost(uint64, tag = "3")]
    pub from: u64,
    /// As of this snapshot; 0: as of now.
    #[prost(uint64, tag = "4")]
    pub from_snapshot: u64,
    /// The file whose content is replaced.
    #[prost(uint64, tag = "5")]
    pub to: u64,
}

/// Data of a file holds everything that shows through it: what is below is not needed any more.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FoldRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Makes a repeat safe.
    #[prost(message, required, tag = "2")]
    pub origin: Origin,
    /// The data, as [`crate::mrc::Attr::layer`] names it.
    #[prost(uint64, tag = "3")]
    pub layer: u64,
}

crate::methods! {
    /// Makes a snapshot.
    SnapshotCreate = 0x0288 mutates (SnapshotRequest) -> SnapshotReply,
    /// Removes one.
    SnapshotRemove = 0x0289 mutates (SnapshotRequest) -> Empty,
    /// Lists them.
    SnapshotLs = 0x028a reads (ListSnapshots) -> SnapshotList,
    /// Lets go what is below some data.
    FoldLayers = 0x028c mutates (FoldRequest) -> Empty,
    /// Shares content.
    CloneData = 0x028b mutates (CloneRequest) -> AttrReply,
}
