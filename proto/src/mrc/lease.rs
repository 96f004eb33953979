//! Leases: what a session may keep of an inode. See `docs/protocols/leases.md`.

/// The holder may keep attributes, extended attributes, symlink target and layout, and open and close by itself.
pub const LEASE_ATTR: u32 = 1;
/// The holder may keep names of a directory, found and not found.
pub const LEASE_NAMES: u32 = 2;
/// The holder may keep data.
pub const LEASE_READ: u32 = 4;
/// The holder may write data; size and times are its own until reported. Implies the right to read and to keep.
pub const LEASE_WRITE: u32 = 8;
/// The holder decides alone about locks (`fcntl`, `flock`) of the inode.
pub const LEASE_LOCKS: u32 = 16;

/// What the session holds on an inode after a call.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct LeaseGrant {
    /// Inode.
    #[prost(uint64, tag = "1")]
    pub ino: u64,
    /// All bits held now: [`LEASE_ATTR`] | [`LEASE_NAMES`] | [`LEASE_READ`] | [`LEASE_WRITE`].
    #[prost(uint32, tag = "2")]
    pub bits: u32,
    /// Number of the grant, growing within a session and a leader's incarnation.
    #[prost(uint64, tag = "3")]
    pub number: u64,
}

/// A lease held, told to a new leader.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct HeldLease {
    /// Volume.
    #[prost(uint64, tag = "1")]
    pub volume: u64,
    /// Inode.
    #[prost(uint64, tag = "2")]
    pub ino: u64,
    /// Bits.
    #[prost(uint32, tag = "3")]
    pub bits: u32,
}

/// Asks for bits on an inode; waits for others to give up what conflicts, at most until the request's deadline.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AcquireLeaseRequest {
    /// Head; its session gets the lease.
    #[prost(message, required, tag = "1")]
    pub head: super::Head,
    /// Inode.
    #[prost(uint64, tag = "2")]
    pub ino: u64,
    /// Bits wanted.
    #[prost(uint32, tag = "3")]
    pub bits: u32,
}

/// Most files of one [`HoldManyRequest`].
pub const HOLDS_MAX: usize = 256;
/// Most further directories in one call.
pub const FURTHER_MAX: usize = 64;

/// Asks for what it takes to move and remove files of a directory unheard (see `docs/protocols/async-create.md`), as far as that
/// costs nobody anything: nobody is waited for, and nothing is recalled.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HoldManyRequest {
    /// Head; its session gets the leases.
    #[prost(message, required, tag = "1")]
    pub head: super::Head,
    /// Directories in which names are to change, at most two.
    #[prost(uint64, repeated, tag = "2")]
    pub directories: Vec<u64>,
    /// Files whose names are to change, at most [`HOLDS_MAX`]; those that are none are passed over.
    #[prost(uint64, repeated, tag = "3")]
    pub inos: Vec<u64>,
    /// Directories that may be next, at most [`FURTHER_MAX`]: given like the first ones, and no matter whether they are.
    #[prost(uint64, repeated, tag = "4")]
    pub further: Vec<u64>,
}

/// Answer to [`HoldManyRequest`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct HoldManyReply {
    /// Attributes of the directories and files on which something was given.
    #[prost(message, repeated, tag = "1")]
    pub attrs: Vec<super::Attr>,
    /// What is held of them.
    #[prost(message, repeated, tag = "2")]
    pub leases: Vec<LeaseGrant>,
}

/// Waits for recalls of this session's leases.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct AwaitRecallsRequest {
    /// The session.
    #[prost(fixed64, tag = "1")]
    pub session: u64,
    /// Highest recall number seen; 0 asks for everything that is not returned yet.
    #[prost(uint64, tag = "2")]
    pub after: u64,
    /// Answer with nothing after this long, milliseconds.
    #[prost(uint32, tag = "3")]
    pub wait_ms: u32,
}

/// One recall.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Recall {
    /// Number of the recall, growing within a session and a leader's incarnation.
    #[prost(uint64, tag = "1")]
    pub recall: u64,
    /// Volume.
    #[prost(uint64, tag = "2")]
    pub volume: u64,
    /// Inode.
    #[prost(uint64, tag = "3")]
    pub ino: u64,
    /// Bits to give up.
    #[prost(uint32, tag = "4")]
    pub bits: u32,
    /// Grants up to this number are meant.
    #[prost(uint64, tag = "5")]
    pub number: u64,
    /// The last link goes: the return must tell handles that are open.
    #[prost(bool, tag = "6")]
    pub tell_handles: bool,
}

/// Answer to [`AwaitRecallsRequest`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct RecallsReply {
    /// Ascending by number; at most [`crate::limits::RECALLS_PER_ANSWER`].
    #[prost(message, repeated, tag = "1")]
    pub recalls: Vec<Recall>,
    /// As in `SessionReply`: a change means that the leader knows nothing of this session's leases.
    #[prost(uint64, tag = "2")]
    pub incarnation: u64,
}

/// Gives bits back, after a recall or because they are no longer wanted.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ReturnedLease {
    /// Volume.
    #[prost(uint64, tag = "1")]
    pub volume: u64,
    /// Inode.
    #[prost(uint64, tag = "2")]
    pub ino: u64,
    /// Bits given up.
    #[prost(uint32, tag = "3")]
    pub bits: u32,
    /// Highest grant number seen of this inode, or the recall's: a newer grant is not touched.
    #[prost(uint64, tag = "4")]
    pub number: u64,
    /// Handles open at the client, reading, of which the MRC does not know; they count as opened from now on.
    #[prost(uint32, tag = "5")]
    pub untold_readers: u32,
    /// Likewise, writing.
    #[prost(uint32, tag = "6")]
    pub untold_writers: u32,
}

/// Returns of one session.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReturnLeasesRequest {
    /// The session.
    #[prost(fixed64, tag = "1")]
    pub session: u64,
    /// What is given up.
    #[prost(message, repeated, tag = "2")]
    pub returned: Vec<ReturnedLease>,
    /// `OpenSession.opening` before which nothing of this was told to be held. What arrives after a later opening is
    /// ignored: that one told what was held then. 0: not numbered.
    #[prost(uint64, tag = "3")]
    pub opening: u64,
}
