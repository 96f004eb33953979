//! Locks of programs: taken and freed one by one, or told by a session that decided alone. See `docs/protocols/locks.md`.

use super::{Head, LeaseGrant};
use crate::rpc::Origin;

/// A byte-range or whole-file lock (`fcntl`, `flock`).
#[derive(Clone, PartialEq, prost::Message)]
pub struct LockRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Inode.
    #[prost(uint64, tag = "2")]
    pub ino: u64,
    /// Lock owner within the session.
    #[prost(fixed64, tag = "3")]
    pub owner: u64,
    /// First byte.
    #[prost(uint64, tag = "4")]
    pub start: u64,
    /// Last byte, inclusive.
    #[prost(uint64, tag = "5")]
    pub end: u64,
    /// `F_RDLCK` 0, `F_WRLCK` 1, `F_UNLCK` 2.
    #[prost(uint32, tag = "6")]
    pub kind: u32,
    /// Process id at the client, for `F_GETLK`.
    #[prost(uint32, tag = "7")]
    pub pid: u32,
    /// A `flock` lock: separate from `fcntl` locks.
    #[prost(bool, tag = "8")]
    pub flock: bool,
    /// Wait this long for a conflicting lock to go away, milliseconds; 0 answers `WouldBlock` at once.
    #[prost(uint64, tag = "9")]
    pub wait_ms: u64,
    /// Only ask (`F_GETLK`); with `wait_ms` wait until nothing is in the way, and take nothing.
    #[prost(bool, tag = "10")]
    pub test: bool,
    /// The session would like to decide about this file's locks alone.
    #[prost(bool, tag = "11")]
    pub want: bool,
}

/// Answer: the lock held, or for a test the first conflicting one (`kind` 2 when there is none).
#[derive(Clone, PartialEq, prost::Message)]
pub struct LockReply {
    /// As in the request.
    #[prost(uint64, tag = "1")]
    pub start: u64,
    /// As in the request.
    #[prost(uint64, tag = "2")]
    pub end: u64,
    /// As in the request.
    #[prost(uint32, tag = "3")]
    pub kind: u32,
    /// Its process.
    #[prost(uint32, tag = "4")]
    pub pid: u32,
    /// With [`super::LEASE_LOCKS`]: the session decides alone from now on.
    #[prost(message, repeated, tag = "5")]
    pub leases: Vec<LeaseGrant>,
    /// Then: all locks that it has on the file.
    #[prost(message, repeated, tag = "6")]
    pub held: Vec<HeldLock>,
}

/// A lock that is held.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct HeldLock {
    /// Session.
    #[prost(fixed64, tag = "1")]
    pub session: u64,
    /// Owner within the session.
    #[prost(fixed64, tag = "2")]
    pub owner: u64,
    /// First byte.
    #[prost(uint64, tag = "3")]
    pub start: u64,
    /// Last byte, inclusive.
    #[prost(uint64, tag = "4")]
    pub end: u64,
    /// `F_RDLCK` 0 or `F_WRLCK` 1.
    #[prost(uint32, tag = "5")]
    pub kind: u32,
    /// Process.
    #[prost(uint32, tag = "6")]
    pub pid: u32,
    /// `flock`: never meets `fcntl` locks.
    #[prost(bool, tag = "7")]
    pub flock: bool,
}

/// What a session that decided alone has on a file now: replaces all that was known of it there.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TellLocksRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Makes it happen once.
    #[prost(message, required, tag = "2")]
    pub origin: Origin,
    /// Inode.
    #[prost(uint64, tag = "3")]
    pub ino: u64,
    /// The session's epoch when it decided.
    #[prost(uint64, tag = "4")]
    pub epoch: u64,
    /// All its locks.
    #[prost(message, repeated, tag = "5")]
    pub locks: Vec<HeldLock>,
}
