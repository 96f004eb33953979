//! What the log holds: every change of the metadata as one self-contained command, and its answer.
//!
//! A command is a format byte and a [`Command`] message. It carries every decision that is not in the table: the
//! place of a new file, and which file the leader vouches nobody has open. An answer is a tag byte and either the
//! reply message (sent to the client as it is) or an `ErrorMessage`.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use proto::backup::LoadPage;
use proto::coding::EndEncoding;
use proto::error::{Code, ErrorMessage, WireError};
use proto::fsck::MendFindings;
use proto::layout::SetLayout;
use proto::mrc::{
    Attr, CompleteReplicasRequest, CreateRequest, DropVolume, EarlyFile, Head, InitVolume, LinkRequest,
    LockRequest, MakeRequest, RemoveEntry, RenameRequest, ReportWrite, SetAttrRequest, SetReplicasRequest,
    SetXattrRequest, TellLocksRequest,
};
use proto::quota::SetQuota;
use proto::snapshot::{CloneRequest, FoldRequest, SnapshotRequest};
use proto::stripe::Layout;
use proto::trash::{KeepTrash, TrashRequest};

/// First byte of every command.
pub const FORMAT: u8 = 1;
const DONE: u8 = 0;
const REFUSED: u8 = 1;
const MOVED: u8 = 2;
/// Hint of the error for a command whose expectation did not hold: the leader decides anew.
pub const MOVED_HINT: &str = "moved";

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
    /// The leader saw the name and recalled no leases on the directory: nothing may be made.
    #[prost(bool, tag = "3")]
    pub must_exist: bool,
}

/// A file that a session has made under its lease of the directory.
#[derive(Clone, PartialEq, Message)]
pub struct CreateAs {
    /// Volume and session.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// The file.
    #[prost(message, required, tag = "2")]
    pub file: EarlyFile,
    /// The leader's placement.
    #[prost(message, required, tag = "3")]
    pub layout: Layout,
}

/// A file that a session has moved or removed under its leases of directories and files.
#[derive(Clone, PartialEq, Message)]
pub struct ChangeAs {
    /// Volume and session.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// The file.
    #[prost(message, required, tag = "2")]
    pub file: EarlyFile,
    /// What loses its only name, when the leader vouches that nobody has it open.
    #[prost(uint64, tag = "3")]
    pub closed: u64,
}

/// What else a session has done under its leases: a further name of a file, a directory, attributes of one.
#[derive(Clone, PartialEq, Message)]
pub struct DoneAs {
    /// Volume and session.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// What.
    #[prost(message, required, tag = "2")]
    pub file: EarlyFile,
}

/// Inode numbers for a session to make files with.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct ReserveInos {
    /// Volume.
    #[prost(uint64, tag = "1")]
    pub volume: u64,
    /// How many.
    #[prost(uint32, tag = "2")]
    pub count: u32,
}

/// Answer to [`ReserveInos`].
#[derive(Clone, Copy, PartialEq, Message)]
pub struct InosReserved {
    /// The first of them.
    #[prost(uint64, tag = "1")]
    pub first: u64,
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
    /// The directory, when the file is new: see [`proto::mrc::ChangeReply::changed`].
    #[prost(message, repeated, tag = "4")]
    pub changed: Vec<Attr>,
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
    /// The inode on which the leader recalled leases (0: the name was not there); another one must not be removed.
    #[prost(uint64, optional, tag = "3")]
    pub expected: Option<u64>,
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
    /// See [`Remove::expected`]: what moves.
    #[prost(uint64, optional, tag = "3")]
    pub expected_moved: Option<u64>,
    /// Likewise, what is replaced.
    #[prost(uint64, optional, tag = "4")]
    pub expected_replaced: Option<u64>,
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

/// A session asks for leases: a new leader has to wait for it.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct SessionLeases {
    /// The session.
    #[prost(fixed64, tag = "1")]
    pub session: u64,
}

/// A session is expelled: its epoch grows.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct SessionRaise {
    /// The session.
    #[prost(fixed64, tag = "1")]
    pub session: u64,
    /// OSDs have to refuse its older capabilities.
    #[prost(bool, tag = "2")]
    pub fence: bool,
}

/// Answer to [`SessionRaise`].
#[derive(Clone, Copy, PartialEq, Message)]
pub struct SessionRaised {
    /// The epoch now.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
}

/// A bounded step of cutting a volume's change log.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct TrimChanges {
    /// Volume.
    #[prost(uint64, tag = "1")]
    pub volume: u64,
    /// Rows up to and with this cursor go.
    #[prost(uint64, tag = "2")]
    pub upto: u64,
    /// Most rows.
    #[prost(uint32, tag = "3")]
    pub limit: u32,
}

/// A bounded step of carrying usage up the tree.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct FoldUsage {
    /// Volume.
    #[prost(uint64, tag = "1")]
    pub volume: u64,
    /// Most directories.
    #[prost(uint32, tag = "2")]
    pub limit: u32,
}

/// A bounded step of counting what users and groups own.
#[derive(Clone, PartialEq, Message)]
pub struct CountOwned {
    /// Volume.
    #[prost(uint64, tag = "1")]
    pub volume: u64,
    /// Most inodes.
    #[prost(uint32, tag = "2")]
    pub limit: u32,
}

/// A file gets data that nothing else needs.
#[derive(Clone, PartialEq, Message)]
pub struct ThawFile {
    /// Volume.
    #[prost(uint64, tag = "1")]
    pub volume: u64,
    /// File.
    #[prost(uint64, tag = "2")]
    pub ino: u64,
    /// The leader's placement, when encoded data is replaced.
    #[prost(message, optional, tag = "3")]
    pub layout: Option<Layout>,
}

/// A file is to be encoded.
#[derive(Clone, PartialEq, Message)]
pub struct BeginCoding {
    /// Volume.
    #[prost(uint64, tag = "1")]
    pub volume: u64,
    /// File.
    #[prost(uint64, tag = "2")]
    pub ino: u64,
    /// Who encodes it.
    #[prost(fixed64, tag = "3")]
    pub session: u64,
    /// The leader's placement.
    #[prost(message, required, tag = "4")]
    pub layout: Layout,
}

/// Answer to [`BeginCoding`]; the leader adds the capability.
#[derive(Clone, PartialEq, Message)]
pub struct CodingBegun {
    /// The file.
    #[prost(message, required, tag = "1")]
    pub attr: Attr,
    /// The number of the new data.
    #[prost(uint64, tag = "2")]
    pub data: u64,
}

/// A bounded step of removing what only removed snapshots needed.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct SnapshotSweep {
    /// Volume.
    #[prost(uint64, tag = "1")]
    pub volume: u64,
    /// Most rows.
    #[prost(uint32, tag = "2")]
    pub limit: u32,
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
    RmDir(Remove),
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
    #[prost(message, tag = "18")]
    SessionLeases(SessionLeases),
    #[prost(message, tag = "19")]
    SessionRaise(SessionRaise),
    #[prost(message, tag = "32")]
    TrimChanges(TrimChanges),
    #[prost(message, tag = "33")]
    FoldUsage(FoldUsage),
    #[prost(message, tag = "30")]
    TmpFile(Create),
    #[prost(message, tag = "50")]
    SetReplicas(SetReplicasRequest),
    #[prost(message, tag = "51")]
    CompleteReplicas(CompleteReplicasRequest),
    #[prost(message, tag = "34")]
    SetQuota(SetQuota),
    #[prost(message, tag = "35")]
    CountOwned(CountOwned),
    #[prost(message, tag = "36")]
    Mend(MendFindings),
    #[prost(message, tag = "37")]
    Load(LoadPage),
    #[prost(message, tag = "38")]
    TrashKeep(KeepTrash),
    #[prost(message, tag = "39")]
    TrashRestore(TrashRequest),
    #[prost(message, tag = "40")]
    TrashRemove(TrashRequest),
    #[prost(message, tag = "41")]
    SetLayout(SetLayout),
    #[prost(message, tag = "42")]
    SnapshotCreate(SnapshotRequest),
    #[prost(message, tag = "43")]
    SnapshotRemove(SnapshotRequest),
    #[prost(message, tag = "44")]
    SnapshotSweep(SnapshotSweep),
    #[prost(message, tag = "45")]
    Thaw(ThawFile),
    #[prost(message, tag = "46")]
    CloneData(CloneRequest),
    #[prost(message, tag = "47")]
    FoldLayers(FoldRequest),
    #[prost(message, tag = "52")]
    EncodeBegin(BeginCoding),
    #[prost(message, tag = "53")]
    EncodeCommit(EndEncoding),
    #[prost(message, tag = "54")]
    EncodeDrop(Which),
    #[prost(message, tag = "55")]
    EncodeDamaged(Which),
    #[prost(message, tag = "56")]
    CreateAs(CreateAs),
    #[prost(message, tag = "57")]
    ReserveInos(ReserveInos),
    #[prost(message, tag = "58")]
    ChangeAs(ChangeAs),
    /// Answer: `Empty`.
    #[prost(message, tag = "59")]
    TellLocks(TellLocksRequest),
    #[prost(message, tag = "60")]
    DoneAs(DoneAs),
    /// Like [`Self::CreateAs`], with what is in it: an older member must not take it for an empty one.
    #[prost(message, tag = "61")]
    CreateFilled(CreateAs),
}

impl Body {
    /// Whether it may take of what is kept for a full disk: it gives room, or sessions, leases and what is stored already depend
    /// on it.
    pub(crate) fn goes_on_when_full(&self) -> bool {
        matches!(
            self,
            Self::DropVolume(_)
                | Self::DropStep(_)
                | Self::Unlink(_)
                | Self::RmDir(_)
                | Self::SetAttr(_)
                | Self::WriteDone(_)
                | Self::Lock(_)
                | Self::TellLocks(_)
                | Self::Reap(_)
                | Self::Removed(_)
                | Self::SessionBegin(_)
                | Self::SessionEnd(_)
                | Self::SessionLeases(_)
                | Self::SessionRaise(_)
                | Self::TrimChanges(_)
                | Self::FoldUsage(_)
                | Self::SetReplicas(_)
                | Self::CompleteReplicas(_)
                | Self::Mend(_)
                | Self::TrashRemove(_)
                | Self::SnapshotRemove(_)
                | Self::SnapshotSweep(_)
                | Self::EncodeCommit(_)
                | Self::EncodeDrop(_)
                | Self::CreateAs(_)
                | Self::ChangeAs(_)
                | Self::DoneAs(_)
                | Self::CreateFilled(_)
        )
    }
}

/// See the module.
#[derive(Clone, PartialEq, Message)]
pub struct Command {
    /// Which one.
    #[prost(
        oneof = "Body",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 30, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61"
    )]
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

/// The answer to a command whose expectation did not hold. It is not recorded.
#[must_use]
pub fn moved() -> Bytes {
    Bytes::from_static(&[MOVED])
}

/// Whether an answer is recorded for repeats.
#[must_use]
pub fn is_recorded(answer: &[u8]) -> bool {
    answer.first() != Some(&MOVED)
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
        MOVED => Err(WireError::new(Code::Busy, "names are changing under this request; try again")
            .with_hint(MOVED_HINT)),
        _ => Err(unreadable()),
    }
}
