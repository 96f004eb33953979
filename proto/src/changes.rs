//! The change stream of a volume: what happened below a directory. Answered by MRCs; method numbers 0x0240 to 0x0247.
//! What the messages mean together: docs/protocols/changes.md.

use crate::mrc::{Head, Time};

/// Kinds of events ([`Change::kind`]). Numbers are never reused.
pub mod event {
    /// A new inode with its name.
    pub const CREATED: u32 = 1;
    /// Another name for an inode.
    pub const LINKED: u32 = 2;
    /// A name went away.
    pub const REMOVED: u32 = 3;
    /// A name moved.
    pub const RENAMED: u32 = 4;
    /// Mode, owner, times or flags changed.
    pub const ATTRIBUTES: u32 = 5;
    /// Content changed, as writers reported it.
    pub const WRITTEN: u32 = 6;
    /// An extended attribute was set or removed.
    pub const XATTR: u32 = 7;
    /// The log does not reach back to the reader's cursor: look at the subtree itself.
    pub const GAP: u32 = 8;

    /// The word of a kind, as `xtfs watch` prints it.
    #[must_use]
    pub fn word(kind: u32) -> &'static str {
        match kind {
            CREATED => "created",
            LINKED => "linked",
            REMOVED => "removed",
            RENAMED => "renamed",
            ATTRIBUTES => "attributes",
            WRITTEN => "written",
            XATTR => "xattr",
            GAP => "gap",
            _ => "unknown",
        }
    }
}

/// [`Change::inside`]: `parent` lies in the subtree.
pub const INSIDE_FROM: u32 = 1;
/// [`Change::inside`]: `new_parent` lies in the subtree.
pub const INSIDE_TO: u32 = 2;
/// Longest wait that an MRC grants, milliseconds.
pub const WAIT_MS_MAX: u64 = 60_000;
/// Most events in one answer.
pub const EVENTS_MAX: u32 = 4096;

/// Asks for the events below a directory after a cursor.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ChangesRequest {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Directory whose subtree is watched, itself included.
    #[prost(uint64, tag = "2")]
    pub subtree: u64,
    /// Cursor of the last answer; absent: from now on.
    #[prost(uint64, optional, tag = "3")]
    pub from: Option<u64>,
    /// How long to wait for something to happen, milliseconds.
    #[prost(uint64, tag = "4")]
    pub wait_ms: u64,
    /// Most events wanted; 0: as many as fit.
    #[prost(uint32, tag = "5")]
    pub limit: u32,
}

/// An event.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Change {
    /// Position in the stream: where to go on after this event.
    #[prost(uint64, tag = "1")]
    pub cursor: u64,
    /// See [`event`].
    #[prost(uint32, tag = "2")]
    pub kind: u32,
    /// The inode.
    #[prost(uint64, tag = "3")]
    pub ino: u64,
    /// Its type, see [`crate::mrc::kind`].
    #[prost(uint32, tag = "4")]
    pub file_kind: u32,
    /// Directory of the name; of a rename where it was.
    #[prost(uint64, tag = "5")]
    pub parent: u64,
    /// The name; of events of an inode the name that it has now, if it still has one.
    #[prost(bytes = "vec", tag = "6")]
    pub name: Vec<u8>,
    /// Of a rename: where it is now.
    #[prost(uint64, tag = "7")]
    pub new_parent: u64,
    /// Of a rename: its name there.
    #[prost(bytes = "vec", tag = "8")]
    pub new_name: Vec<u8>,
    /// When.
    #[prost(message, required, tag = "9")]
    pub time: Time,
    /// Acting user.
    #[prost(uint32, tag = "10")]
    pub uid: u32,
    /// The session that asked for it (0: none).
    #[prost(fixed64, tag = "11")]
    pub session: u64,
    /// [`INSIDE_FROM`] and [`INSIDE_TO`].
    #[prost(uint32, tag = "12")]
    pub inside: u32,
    /// Path of `parent` in the volume as it is now, without a leading slash; absent when it is gone.
    #[prost(bytes = "vec", optional, tag = "13")]
    pub directory: Option<Vec<u8>>,
    /// The same of `new_parent`.
    #[prost(bytes = "vec", optional, tag = "14")]
    pub new_directory: Option<Vec<u8>>,
}

/// Events and where to go on.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ChangesReply {
    /// In the order of the log.
    #[prost(message, repeated, tag = "1")]
    pub changes: Vec<Change>,
    /// The next [`ChangesRequest::from`].
    #[prost(uint64, tag = "2")]
    pub next: u64,
}

crate::methods! {
    /// Events below a directory; waits for them.
    Changes = 0x0240 reads (ChangesRequest) -> ChangesReply,
}
