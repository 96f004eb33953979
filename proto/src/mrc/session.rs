//! Sessions of clients, and volumes.

use super::HeldLease;
use crate::rpc::Origin;
use crate::stripe::Striping;

/// Opens a session with a metadata group, or re-opens one after a leader change.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenSession {
    /// Chosen by the client, random, not 0.
    #[prost(fixed64, tag = "1")]
    pub session: u64,
    /// For people: `mount host:/path pid`.
    #[prost(string, tag = "2")]
    pub client: String,
    /// Files this client has open (after a leader change or a lost session), so that they stay alive.
    #[prost(message, repeated, tag = "3")]
    pub open_files: Vec<OpenFile>,
    /// Leases this client holds, told to a leader that does not know them.
    #[prost(message, repeated, tag = "4")]
    pub leases: Vec<HeldLease>,
    /// The `session_epoch` last answered to this client, 0 for none. `leases` count only when it is still that one.
    #[prost(uint64, tag = "5")]
    pub session_epoch: u64,
    /// Number of this opening, higher with every attempt of the session: an attempt that was overtaken by a later one is
    /// refused, for what it tells is no longer so. 0: not numbered.
    #[prost(uint64, tag = "6")]
    pub opening: u64,
    /// The incarnation of the leader for which it is meant: another one refuses, and names its own in the hint
    /// (incarnation, highest opening). 0: whoever leads.
    #[prost(uint64, tag = "7")]
    pub incarnation: u64,
}

/// An open file.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct OpenFile {
    /// Volume.
    #[prost(uint64, tag = "1")]
    pub volume: u64,
    /// Inode.
    #[prost(uint64, tag = "2")]
    pub ino: u64,
    /// Whether any handle may write.
    #[prost(bool, tag = "3")]
    pub writing: bool,
    /// Handles.
    #[prost(uint32, tag = "4")]
    pub count: u32,
}

/// Answer to [`OpenSession`] and [`RenewSession`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionReply {
    /// The session dies when not renewed for this long, milliseconds.
    #[prost(uint64, tag = "1")]
    pub ttl_ms: u64,
    /// Changes when the leader lost track of open files (new leader, restart): send [`OpenSession`] again.
    #[prost(uint64, tag = "2")]
    pub incarnation: u64,
    /// Leases are good for this long from the start of the call that was answered, milliseconds; 0: none are given.
    #[prost(uint64, tag = "3")]
    pub lease_ttl_ms: u64,
    /// The session's fencing epoch; grows when the session was expelled.
    #[prost(uint64, tag = "4")]
    pub session_epoch: u64,
    /// Addresses of the group's members. Empty: not told.
    #[prost(string, repeated, tag = "5")]
    pub members: Vec<String>,
    /// To [`OpenSession`]: above the numbers of all grants so far. Who takes up what an earlier process of the session held
    /// writes under it.
    #[prost(uint64, tag = "6")]
    pub number: u64,
}

/// Keeps a session alive.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct RenewSession {
    /// The session.
    #[prost(fixed64, tag = "1")]
    pub session: u64,
}

/// Creates a volume's root in its metadata group (sent by `mkfs` after the DIR made the entry; idempotent).
#[derive(Clone, PartialEq, prost::Message)]
pub struct InitVolume {
    /// Makes a repeat safe.
    #[prost(message, required, tag = "1")]
    pub origin: Origin,
    /// Volume.
    #[prost(uint64, tag = "2")]
    pub volume: u64,
    /// Name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Defaults for new files.
    #[prost(message, required, tag = "4")]
    pub striping: Striping,
    /// Root directory's mode (permission bits).
    #[prost(uint32, tag = "5")]
    pub mode: u32,
    /// Root directory's owner.
    #[prost(uint32, tag = "6")]
    pub uid: u32,
    /// Root directory's group.
    #[prost(uint32, tag = "7")]
    pub gid: u32,
}

/// Removes a volume: all its metadata, then its objects.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DropVolume {
    /// Makes a repeat safe.
    #[prost(message, required, tag = "1")]
    pub origin: Origin,
    /// Volume.
    #[prost(uint64, tag = "2")]
    pub volume: u64,
}
