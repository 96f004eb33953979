//! The one closed list of errors that cross the wire. errno is chosen from it in one file of the client.

/// Why a request was not done. The number is the wire value; numbers are never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[repr(u16)]
#[allow(missing_docs, reason = "each variant's text is in `meaning`")]
pub enum Code {
    NotFound = 1,
    Exists = 2,
    NotDirectory = 3,
    IsDirectory = 4,
    NotEmpty = 5,
    PermissionDenied = 6,
    NotPermitted = 7,
    InvalidArgument = 8,
    NameTooLong = 9,
    TooManyLinks = 10,
    CrossVolume = 11,
    NoSpace = 12,
    QuotaExceeded = 13,
    FileTooLarge = 14,
    NoAttribute = 15,
    AttributeTooLarge = 16,
    ReadOnly = 17,
    WouldBlock = 18,
    Deadlock = 19,
    Stale = 20,
    NotSupported = 21,
    Busy = 22,
    Loop = 23,
    NotLeader = 40,
    Unavailable = 41,
    DeadlineExceeded = 42,
    OldEpoch = 43,
    OldView = 44,
    CapabilityExpired = 45,
    CapabilityInvalid = 46,
    SessionUnknown = 47,
    Superseded = 48,
    ReplicaDown = 49,
    Corrupt = 60,
    Io = 61,
    BadRequest = 62,
    UnknownMethod = 63,
    Unauthenticated = 64,
    Internal = 65,
    Cancelled = 66,
}

impl Code {
    /// Every code, in the order of the wire values.
    pub const ALL: [Code; 40] = {
        use Code::*;
        [
            NotFound,
            Exists,
            NotDirectory,
            IsDirectory,
            NotEmpty,
            PermissionDenied,
            NotPermitted,
            InvalidArgument,
            NameTooLong,
            TooManyLinks,
            CrossVolume,
            NoSpace,
            QuotaExceeded,
            FileTooLarge,
            NoAttribute,
            AttributeTooLarge,
            ReadOnly,
            WouldBlock,
            Deadlock,
            Stale,
            NotSupported,
            Busy,
            Loop,
            NotLeader,
            Unavailable,
            DeadlineExceeded,
            OldEpoch,
            OldView,
            CapabilityExpired,
            CapabilityInvalid,
            SessionUnknown,
            Superseded,
            ReplicaDown,
            Corrupt,
            Io,
            BadRequest,
            UnknownMethod,
            Unauthenticated,
            Internal,
            Cancelled,
        ]
    };

    /// The code of a wire value; an unknown one (from a newer peer) becomes `Internal`.
    #[must_use]
    pub fn from_wire(value: u16) -> Code {
        Code::ALL.into_iter().find(|code| *code as u16 == value).unwrap_or(Code::Internal)
    }

    /// What the code means, for people (`xtfs explain`, logs without a text of their own).
    #[must_use]
    pub fn meaning(self) -> &'static str {
        use Code::*;
        match self {
            NotFound => "there is no such file, directory, volume or service",
            Exists => "the name is taken already",
            NotDirectory => "a part of the path is not a directory",
            IsDirectory => "the operation needs a file, this is a directory",
            NotEmpty => "the directory still has entries",
            PermissionDenied => "mode bits, ACL or capability do not allow it",
            NotPermitted => "only the owner or root may do that",
            InvalidArgument => "an argument has a value that makes no sense here",
            NameTooLong => "a name or a symlink's target is longer than the limit",
            TooManyLinks => "the inode has the most hard links it can have",
            CrossVolume => "both names must lie in one volume",
            NoSpace => "no OSD has room left",
            QuotaExceeded => "the quota of the user, group, directory or volume is used up",
            FileTooLarge => "the file would pass the largest size",
            NoAttribute => "the file has no such extended attribute",
            AttributeTooLarge => "the extended attribute, or all of them together, would pass the limit",
            ReadOnly => "the volume or the mount is read-only",
            WouldBlock => "a lock or an open writer is in the way, and the caller did not want to wait",
            Deadlock => "waiting for the lock would never end",
            Stale => "the file was removed while the handle was open elsewhere",
            NotSupported => "this operation is not built into this version",
            Busy => "a bounded queue is full or the object is in use; wait a moment",
            Loop => "too many symlinks on the way, or a directory would lie inside itself",
            NotLeader => "another member of the group leads; ask it",
            Unavailable => "the service cannot be reached or has no majority",
            DeadlineExceeded => "no answer within the time the caller had",
            OldEpoch => "the sender's OSD map is older than the receiver's",
            OldView => "the sender's layout of the file is older than the current one",
            CapabilityExpired => "the right to use the file's objects ran out; open it again",
            CapabilityInvalid => "the right to use the file's objects was not made by this cluster",
            SessionUnknown => "the session ended or the server does not know it; open a new one",
            Superseded => {
                "a later attempt of the same client, or a later holder of the right to write, was here before"
            }
            ReplicaDown => "policy all: a replica that has to take the change is down, and still counts",
            Corrupt => "stored data does not match its checksum",
            Io => "the disk below failed",
            BadRequest => "the message could not be understood; the versions may differ too much",
            UnknownMethod => "the peer's version does not know this operation",
            Unauthenticated => "the peer has not proved who it is",
            Internal => "a defect of the service; its log tells more",
            Cancelled => "the caller gave up or the service is stopping",
        }
    }

    /// Whether the same request, sent again (perhaps elsewhere), can succeed without anybody changing anything.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        use Code::*;
        match self {
            NotLeader | Unavailable | DeadlineExceeded | OldEpoch | OldView | CapabilityExpired
            | SessionUnknown | Superseded | ReplicaDown | Busy => true,
            NotFound | Exists | NotDirectory | IsDirectory | NotEmpty | PermissionDenied | NotPermitted
            | InvalidArgument | NameTooLong | TooManyLinks | CrossVolume | NoSpace | QuotaExceeded
            | FileTooLarge | NoAttribute | AttributeTooLarge | ReadOnly | WouldBlock | Deadlock | Stale
            | NotSupported | Loop | CapabilityInvalid | Corrupt | Io | BadRequest | UnknownMethod
            | Unauthenticated | Internal | Cancelled => false,
        }
    }

    /// Whether it is certain that the request changed nothing. Where it is not, only the same
    /// (session, sequence) may be sent again.
    #[must_use]
    pub fn has_no_side_effects(self) -> bool {
        use Code::*;
        match self {
            Unavailable | DeadlineExceeded | ReplicaDown | Io | Internal | Cancelled | Corrupt => false,
            NotFound | Exists | NotDirectory | IsDirectory | NotEmpty | PermissionDenied | NotPermitted
            | InvalidArgument | NameTooLong | TooManyLinks | CrossVolume | NoSpace | QuotaExceeded
            | FileTooLarge | NoAttribute | AttributeTooLarge | ReadOnly | WouldBlock | Deadlock | Stale
            | NotSupported | Loop | NotLeader | OldEpoch | OldView | CapabilityExpired
            | CapabilityInvalid | SessionUnknown | Superseded | Busy | BadRequest | UnknownMethod
            | Unauthenticated => true,
        }
    }
}

/// An error as it crosses the wire: the code for programs, the text for people.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text} ({code:?})")]
pub struct WireError {
    /// For programs.
    pub code: Code,
    /// For people: what failed, on which object, why, and where it helps, what to do.
    pub text: String,
    /// `NotLeader`: the leader's address if known. `OldEpoch`: the newer epoch. `Unavailable`: `refused` or
    /// `reset` when that is evidence of a dead process. `SessionUnknown` of a session being opened: the leader's
    /// incarnation and the highest opening that it knows. `Superseded`: the turn that was seen. Otherwise empty.
    pub hint: String,
}

impl WireError {
    /// An error without a hint.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), hint: String::new() }
    }

    /// Adds the hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

/// [`WireError`] as a message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ErrorMessage {
    /// [`Code`] as a number.
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// For people.
    #[prost(string, tag = "2")]
    pub text: String,
    /// See [`WireError::hint`].
    #[prost(string, tag = "3")]
    pub hint: String,
}

impl From<WireError> for ErrorMessage {
    fn from(error: WireError) -> Self {
        Self { code: u32::from(error.code as u16), text: error.text, hint: error.hint }
    }
}

impl From<ErrorMessage> for WireError {
    fn from(message: ErrorMessage) -> Self {
        let code = u16::try_from(message.code).map_or(Code::Internal, Code::from_wire);
        Self { code, text: message.text, hint: message.hint }
    }
}
