//! What is asked of the DIR: who is there, the OSD map, volumes, cluster keys. Method numbers 0x00xx.

use crate::capability::CapabilityKey;
use crate::limits::ROOM_BYTES_MIN;
use crate::rpc::{Empty, Origin};
use crate::stripe::Striping;

/// What an OSD is to the map.
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum OsdState {
    /// Serves.
    Up = 0,
    /// Does not answer; its lease ran out or its death was reported.
    Down = 1,
    /// Serves, gets nothing new, its data is being moved away.
    Draining = 2,
    /// Removed for good.
    Out = 3,
}

/// One OSD of the map.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OsdEntry {
    /// Its number in layouts.
    #[prost(uint64, tag = "1")]
    pub osd: u64,
    /// Its UUID.
    #[prost(string, tag = "2")]
    pub uuid: String,
    /// Address (`tcp://host:port`, `tls://host:port` or `local://name`).
    #[prost(string, tag = "3")]
    pub addr: String,
    /// State.
    #[prost(enumeration = "OsdState", tag = "4")]
    pub state: i32,
    /// Failure domain: replicas of a column go to different ones.
    #[prost(string, tag = "5")]
    pub domain: String,
    /// Capacity, bytes.
    #[prost(uint64, tag = "6")]
    pub total_bytes: u64,
    /// Free at the last report, bytes.
    #[prost(uint64, tag = "7")]
    pub free_bytes: u64,
    /// HTTP status address `host:port`, or empty.
    #[prost(string, tag = "8")]
    pub http: String,
    /// Drawn at each start of the process: tells one life of it from the next. Not 0.
    #[prost(fixed64, tag = "9")]
    pub life: u64,
    /// Map epoch since which state, address, domain and life are what they are; set by the DIR.
    #[prost(uint64, tag = "10")]
    pub since_epoch: u64,
    /// Others find it slow: it leads columns only when nobody else of their lists can.
    #[prost(bool, tag = "11")]
    pub slow: bool,
    /// Map epoch since which `slow` is what it is; set by the DIR.
    #[prost(uint64, tag = "12")]
    pub slow_since: u64,
    /// Its share of new files against those of the others, percent of an ordinary one; 0: none. Set by the DIR.
    #[prost(uint32, optional, tag = "13", default = "100")]
    pub weight: Option<u32>,
}

/// The OSD map.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OsdMap {
    /// Grows with each change of a state, an address or the membership (not with free space).
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// Ascending by number.
    #[prost(message, repeated, tag = "2")]
    pub osds: Vec<OsdEntry>,
    /// Addresses of the DIR's members at the time of the answer; no part of what the epoch counts. Empty: not told.
    #[prost(string, repeated, tag = "3")]
    pub dirs: Vec<String>,
}

/// Register or renew: an OSD's heartbeat.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OsdHeartbeat {
    /// What the OSD says of itself; `osd` is 0 until it knows its number, `state` is ignored.
    #[prost(message, required, tag = "1")]
    pub entry: OsdEntry,
    /// The map epoch it knows.
    #[prost(uint64, tag = "2")]
    pub known_epoch: u64,
    /// It stops now and serves nobody any more: down at once. A DIR that does not know this takes it for a heartbeat.
    #[prost(bool, tag = "3")]
    pub leaving: bool,
}

/// Answer to a heartbeat.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OsdHeartbeatReply {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub osd: u64,
    /// Lease from now, milliseconds.
    #[prost(uint64, tag = "2")]
    pub lease_ms: u64,
    /// The map if newer than what it knows.
    #[prost(message, optional, tag = "3")]
    pub map: Option<OsdMap>,
    /// All keys that may still sign capabilities, newest first.
    #[prost(message, repeated, tag = "4")]
    pub keys: Vec<CapabilityKey>,
    /// Addresses of the DIR's members. Empty: not told.
    #[prost(string, repeated, tag = "5")]
    pub dirs: Vec<String>,
    /// The DIR's wall clock, Unix milliseconds. 0: not told.
    #[prost(uint64, tag = "6")]
    pub unix_ms: u64,
}

/// The map, at once or when it is newer than `known_epoch` (long poll).
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct GetMap {
    /// What the caller has; 0 for nothing.
    #[prost(uint64, tag = "1")]
    pub known_epoch: u64,
    /// Wait this long for a newer one, milliseconds; 0 answers at once.
    #[prost(uint64, tag = "2")]
    pub wait_ms: u64,
    /// [`digest`] of the DIR's members as the caller knows them: others are news too. 0: the caller does not care.
    #[prost(fixed64, tag = "3")]
    pub dirs: u64,
    /// [`digest_of_full`] of the map as the caller knows it: that others are full is news too. 0: the caller does not care.
    #[prost(fixed64, tag = "4")]
    pub full: u64,
}

/// Tells one list of members from another, whatever its order; not 0.
#[must_use]
pub fn digest(addrs: &[String]) -> u64 {
    let mut sorted: Vec<&String> = addrs.iter().collect();
    sorted.sort_unstable();
    fnv(sorted.iter().flat_map(|addr| addr.bytes().chain([0])))
}

impl OsdEntry {
    /// Whether it answers: it is up, also while its data is being moved away.
    #[must_use]
    pub fn serves(&self) -> bool {
        matches!(OsdState::try_from(self.state), Ok(OsdState::Up | OsdState::Draining))
    }

    /// Whether new files may go there.
    #[must_use]
    pub fn has_room(&self) -> bool {
        has_room(self.total_bytes, self.free_bytes)
    }
}

/// Whether new files may go to an OSD with so many bytes, so many of them free. One that does not tell its capacity has room.
#[must_use]
pub fn has_room(total_bytes: u64, free_bytes: u64) -> bool {
    total_bytes == 0 || free_bytes >= ROOM_BYTES_MIN
}

/// Tells one set of OSDs without room from another; not 0. `osds`: ascending by number, as in a map.
#[must_use]
pub fn digest_of_full(osds: &[OsdEntry]) -> u64 {
    fnv(osds.iter().filter(|entry| !entry.has_room()).flat_map(|entry| entry.osd.to_le_bytes()))
}

/// FNV-1a: both sides must count alike, in every version.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
        .max(1)
}

/// Evidence that an OSD's process is dead (connection refused or reset).
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReportDown {
    /// The OSD's number.
    #[prost(uint64, tag = "1")]
    pub osd: u64,
    /// The address that refused.
    #[prost(string, tag = "2")]
    pub addr: String,
    /// The reporter, for counting distinct parties.
    #[prost(string, tag = "3")]
    pub reporter: String,
    /// The connection was refused: nobody listens there. Otherwise it was reset, which has other causes too.
    #[prost(bool, tag = "4")]
    pub refused: bool,
}

/// A service other than an OSD: an MRC member, exec, vo, rms, a mount.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ServiceEntry {
    /// UUID.
    #[prost(string, tag = "1")]
    pub uuid: String,
    /// `dir`, `mrc`, `osd`, `rms`, `vo`, `exec`, `mount`.
    #[prost(string, tag = "2")]
    pub role: String,
    /// Name for people (`mrc-0`).
    #[prost(string, tag = "3")]
    pub name: String,
    /// RPC address or empty.
    #[prost(string, tag = "4")]
    pub addr: String,
    /// HTTP `host:port` or empty.
    #[prost(string, tag = "5")]
    pub http: String,
    /// Host name.
    #[prost(string, tag = "6")]
    pub host: String,
    /// Milliseconds since the last heartbeat, filled in by the DIR.
    #[prost(uint64, tag = "7")]
    pub silent_ms: u64,
    /// Raft group and member for MRCs (0 otherwise).
    #[prost(uint64, tag = "8")]
    pub group: u64,
    /// See `group`.
    #[prost(uint64, tag = "9")]
    pub member: u64,
    /// Addresses of the group's members, as its leader knows them; empty from everybody else.
    #[prost(string, repeated, tag = "10")]
    pub members: Vec<String>,
    /// The term in which it says so: a list of a later term is the newer one.
    #[prost(uint64, tag = "11")]
    pub term: u64,
}

/// A metadata group: a Raft group of MRC members.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MrcGroup {
    /// Group id.
    #[prost(uint64, tag = "1")]
    pub group: u64,
    /// RPC addresses of its members.
    #[prost(string, repeated, tag = "2")]
    pub addrs: Vec<String>,
}

/// A volume.
#[derive(Clone, PartialEq, prost::Message)]
pub struct VolumeEntry {
    /// Id.
    #[prost(uint64, tag = "1")]
    pub volume: u64,
    /// Name, unique.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Metadata group.
    #[prost(message, required, tag = "3")]
    pub mrc: MrcGroup,
    /// Defaults for new files.
    #[prost(message, required, tag = "4")]
    pub striping: Striping,
    /// Mode of the root directory.
    #[prost(uint32, tag = "5")]
    pub mode: u32,
    /// Owner of the root directory.
    #[prost(uint32, tag = "6")]
    pub uid: u32,
    /// Group of the root directory.
    #[prost(uint32, tag = "7")]
    pub gid: u32,
    /// Created, Unix milliseconds.
    #[prost(uint64, tag = "8")]
    pub created_ms: u64,
    /// `key=value` labels.
    #[prost(string, repeated, tag = "9")]
    pub labels: Vec<String>,
    /// Removed: no longer listed, its objects are being collected.
    #[prost(bool, tag = "10")]
    pub removed: bool,
    /// `posix`, `volume` or `null`.
    #[prost(string, tag = "11")]
    pub access: String,
}

/// Makes a volume; `volume` and `mrc` of the entry are chosen by the DIR, an existing name answers `Exists`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CreateVolume {
    /// Makes a repeat safe.
    #[prost(message, required, tag = "1")]
    pub origin: Origin,
    /// What it shall be.
    #[prost(message, required, tag = "2")]
    pub entry: VolumeEntry,
}

/// Removes a volume by name.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RemoveVolume {
    /// Makes a repeat safe.
    #[prost(message, required, tag = "1")]
    pub origin: Origin,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
}

/// All volumes, or the one of that name.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListVolumes {
    /// Empty for all.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// Volumes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct VolumeList {
    /// Ascending by name.
    #[prost(message, repeated, tag = "1")]
    pub volumes: Vec<VolumeEntry>,
}

/// Services.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ServiceList {
    /// Ascending by name.
    #[prost(message, repeated, tag = "1")]
    pub services: Vec<ServiceEntry>,
}

/// Answer to a service's heartbeat.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ServiceHeartbeatReply {
    /// Capability keys; only for MRCs.
    #[prost(message, repeated, tag = "1")]
    pub keys: Vec<CapabilityKey>,
    /// Cluster id.
    #[prost(string, tag = "2")]
    pub cluster: String,
    /// Addresses of the DIR's members. Empty: not told.
    #[prost(string, repeated, tag = "3")]
    pub dirs: Vec<String>,
    /// The DIR's wall clock, Unix milliseconds. 0: not told.
    #[prost(uint64, tag = "4")]
    pub unix_ms: u64,
}

/// Changes an OSD's administrative state (drain, undrain, out).
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetOsdState {
    /// Makes a repeat safe.
    #[prost(message, required, tag = "1")]
    pub origin: Origin,
    /// The OSD's number.
    #[prost(uint64, tag = "2")]
    pub osd: u64,
    /// Draining, Out, or Up to undo.
    #[prost(enumeration = "OsdState", tag = "3")]
    pub state: i32,
}

/// Changes an OSD's share of new files.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct SetOsdWeight {
    /// Makes a repeat safe.
    #[prost(message, required, tag = "1")]
    pub origin: Origin,
    /// The OSD's number.
    #[prost(uint64, tag = "2")]
    pub osd: u64,
    /// Percent of an ordinary one, at most [`crate::limits::OSD_WEIGHT_MAX`].
    #[prost(uint32, tag = "3")]
    pub weight: u32,
}

/// A Raft group as one of its members sees it. Served by DIR and MRC members alike.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GroupStatus {
    /// Group id.
    #[prost(uint64, tag = "1")]
    pub group: u64,
    /// The answering member.
    #[prost(uint64, tag = "2")]
    pub member: u64,
    /// The leader as far as known (0: none).
    #[prost(uint64, tag = "3")]
    pub leader: u64,
    /// Term.
    #[prost(uint64, tag = "4")]
    pub term: u64,
    /// Committed index.
    #[prost(uint64, tag = "5")]
    pub committed: u64,
    /// Applied index.
    #[prost(uint64, tag = "6")]
    pub applied: u64,
    /// Voters' addresses by member: `"1=tcp://..."`.
    #[prost(string, repeated, tag = "7")]
    pub voters: Vec<String>,
    /// Learners.
    #[prost(string, repeated, tag = "8")]
    pub learners: Vec<String>,
    /// `leader`, `follower`, `candidate`, `learner`, `rejoining`.
    #[prost(string, tag = "9")]
    pub role: String,
}

crate::methods! {
    /// An OSD registers or renews its lease.
    HeartbeatOsd = 0x0001 mutates (OsdHeartbeat) -> OsdHeartbeatReply,
    /// Another service registers or renews.
    HeartbeatService = 0x0002 mutates (ServiceEntry) -> ServiceHeartbeatReply,
    /// The map, or a newer one.
    Map = 0x0003 reads (GetMap) -> OsdMap,
    /// Evidence of a dead OSD.
    Report = 0x0004 mutates (ReportDown) -> Empty,
    /// Makes a volume.
    VolumeCreate = 0x0005 mutates (CreateVolume) -> VolumeEntry,
    /// Removes a volume.
    VolumeRemove = 0x0006 mutates (RemoveVolume) -> Empty,
    /// Lists volumes.
    Volumes = 0x0007 reads (ListVolumes) -> VolumeList,
    /// Lists services.
    Services = 0x0008 reads (Empty) -> ServiceList,
    /// Drains, undrains or removes an OSD.
    OsdSetState = 0x0009 mutates (SetOsdState) -> Empty,
    /// Raft state of the answering member.
    Group = 0x000a reads (Empty) -> GroupStatus,
    /// Changes an OSD's share of new files.
    OsdSetWeight = 0x000b mutates (SetOsdWeight) -> Empty,
}
