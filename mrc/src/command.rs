//! What the log holds: every change of the metadata as one self-contained command, and its answer.
//!
//! A command is a format byte and a [`Command`] message. It carries every decision that is not in the table: the
//! place of a new file, and which file the leader vouches nobody has open. An answer is a tag byte and either the
//! reply message (sent to the client as it is) or an `ErrorMessage`.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use proto::error::{Code, ErrorMessage, WireError};
use proto::mrc::{
    Attr, CreateRequest, DropVolume, InitVolume, LinkRequest, LockRequest, MakeRequest, RemoveEntry,
    RenameRequest, ReportWrite, SetAttrRequest, SetXattrRequest,
};
use proto::stripe::Layout;

/// First byte of every command.
pub const FORMAT: u8 = 1;
const DONE: u8 = 0;
const REFUSED: u8 = 1;

/// A new inode; `layout` for regular files.
#[derive(Clone, PartialEq, Message)]
pub struct Make {
    /// What and where.
    #[prost(message, required, tag = "1")]
    pub request: MakeRequest,
    /// The leader's placement.
    #[prost(message, optional, tag = "2")]
    pub layout: Option<Layout>,
}

/// A file to be made or found.
#[derive(Clone, PartialEq, Message)]
pub struct Create {
    /// What and where.
    #[prost(message, required, tag = "1")]
    pub request: CreateRequest,
    /// The leader's placement.
    #[prost(message, required, tag = "2")]
    pub layout: Layout,
}

/// Answer to [`Create`]; the leader adds the capability.
#[derive(Clone, PartialEq, Message)]
pub struct CreateDone {
    /// The file.
    #[prost(message, required, tag = "1")]
    pub attr: Attr,
    /// Where its objects are.
    #[prost(message, required, tag = "2")]
    pub layout: Layout,
    /// Whether it is new.
    #[prost(bool, tag = "3")]
    pub created: bool,
}

/// A name to be removed.
#[derive(Clone, PartialEq, Message)]
pub struct Remove {
    /// Which.
    #[prost(message, required, tag = "1")]
    pub request: RemoveEntry,
    /// The inode that nobody has open, as the leader vouches (0: none).
    #[prost(uint64, tag = "2")]
    pub closed: u64,
}

/// A name to be moved.
#[derive(Clone, PartialEq, Message)]
pub struct Move {
    /// Which.
    #[prost(message, required, tag = "1")]
    pub request: RenameRequest,
    /// See [`Remove::closed`].
    #[prost(uint64, tag = "2")]
    pub closed: u64,
}

/// An inode.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Which {
    /// Volume.
    #[prost(uint64, tag = "1")]
    pub volume: u64,
    /// Inode.
    #[prost(uint64, tag = "2")]
    pub ino: u64,
}

/// Files whose objects are gone.
#[derive(Clone, PartialEq, Message)]
pub struct Removed {
    /// Volume.
    #[prost(uint64, tag = "1")]
    pub volume: u64,
    /// Inodes.
    #[prost(uint64, repeated, tag = "2")]
    pub inos: Vec<u64>,
}

/// A bounded step of dropping a volume.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct DropStep {
    /// Volume.
    #[prost(uint64, tag = "1")]
    pub volume: u64,
    /// Most rows.
    #[prost(uint32, tag = "2")]
    pub limit: u32,
}

/// Answer to [`DropStep`].
#[derive(Clone, Copy, PartialEq, Message)]
pub struct DropDone {
    /// Nothing is left.
    #[prost(bool, tag = "1")]
    pub finished: bool,
}

/// A session begins.
#[derive(Clone, PartialEq, Message)]
pub struct SessionBegin {
    /// The session.
    #[prost(fixed64, tag = "1")]
    pub session: u64,
    /// For people.
    #[prost(string, tag = "2")]
    pub client: String,
}

/// A session ended.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct SessionEnd {
    /// The session.
    #[prost(fixed64, tag = "1")]
    pub session: u64,
}

/// The commands. Tags are never reused.
#[derive(Clone, PartialEq, prost::Oneof)]
#[allow(missing_docs, reason = "each variant is the message it holds")]
pub enum Body {
    #[prost(message, tag = "1")]
    InitVolume(InitVolume),
    #[prost(message, tag = "2")]
    DropVolume(DropVolume),
    #[prost(message, tag = "3")]
    DropStep(DropStep),
    #[prost(message, tag = "4")]
    Make(Make),
    #[prost(message, tag = "5")]
    Create(Create),
    #[prost(message, tag = "6")]
    Unlink(Remove),
    #[prost(message, tag = "7")]
    RmDir(RemoveEntry),
    #[prost(message, tag = "8")]
    Link(LinkRequest),
    #[prost(message, tag = "9")]
    Rename(Move),
    #[prost(message, tag = "10")]
    SetAttr(SetAttrRequest),
    #[prost(message, tag = "11")]
    WriteDone(ReportWrite),
    #[prost(message, tag = "12")]
    SetXattr(SetXattrRequest),
    #[prost(message, tag = "13")]
    Lock(LockRequest),
    #[prost(message, tag = "14")]
    Reap(Which),
    #[prost(message, tag = "15")]
    Removed(Removed),
    #[prost(message, tag = "16")]
    SessionBegin(SessionBegin),
    #[prost(message, tag = "17")]
    SessionEnd(SessionEnd),
}

/// See the module.
#[derive(Clone, PartialEq, Message)]
pub struct Command {
    /// Which one.
    #[prost(oneof = "Body", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17")]
    pub body: Option<Body>,
}

impl From<Body> for Command {
    fn from(body: Body) -> Self {
        Self { body: Some(body) }
    }
}

impl Command {
    /// Bytes for the log.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(1 + self.encoded_len());
        out.put_u8(FORMAT);
        self.encode(&mut out).expect("BytesMut grows");
        out.freeze()
    }

    /// The inverse; the refusal says what was wrong.
    pub fn parse(bytes: &[u8]) -> Result<Body, WireError> {
        let bad = |why: String| WireError::new(Code::Internal, format!("unreadable metadata command: {why}"));
        let (format, rest) = bytes.split_first().ok_or_else(|| bad("it is empty".into()))?;
        if *format != FORMAT {
            return Err(bad(format!("format {format}, this binary knows {FORMAT}; update this member")));
        }
        let command = Command::decode(rest).map_err(|error| bad(error.to_string()))?;
        command.body.ok_or_else(|| bad("a kind that this binary does not know; update this member".into()))
    }
}

/// An answer as `apply` gives it.
#[must_use]
pub fn answer(result: Result<Vec<u8>, WireError>) -> Bytes {
    let (tag, body) = match result {
        Ok(reply) => (DONE, reply),
        Err(error) => (REFUSED, ErrorMessage::from(error).encode_to_vec()),
    };
    let mut out = BytesMut::with_capacity(1 + body.len());
    out.put_u8(tag);
    out.extend_from_slice(&body);
    out.freeze()
}

/// Takes an answer apart: the reply message's bytes, or the refusal.
pub fn parse_answer(mut bytes: Bytes) -> Result<Bytes, WireError> {
    let unreadable = || WireError::new(Code::Internal, "the metadata group gave an unreadable answer");
    if bytes.is_empty() {
        return Err(unreadable());
    }
    match bytes.split_to(1)[0] {
        DONE => Ok(bytes),
        REFUSED => Err(ErrorMessage::decode(bytes).map_err(|_| unreadable())?.into()),
        _ => Err(unreadable()),
    }
}
