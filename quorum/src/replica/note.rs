//! What replicas say to one another beside raft-rs's messages, and how both travel: one byte (0 raft, 1 note),
//! then protobuf. Notes are one-way, may be lost, and are repeated by whoever wants an answer.

use bytes::Bytes;
use prost::Message as _;
use raft::eraftpb::Message;

/// See the module.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Note {
    /// Which one.
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub(super) kind: Option<Kind>,
}

/// The notes.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Kind {
    /// Leader to all: sync your log up to there and say so.
    #[prost(message, tag = "1")]
    SyncWanted(SyncNote),
    /// The answer.
    #[prost(message, tag = "2")]
    SyncDone(SyncNote),
    /// A member that lost power asks everyone how things stand.
    #[prost(message, tag = "3")]
    Rejoin(RejoinNote),
    /// The answer.
    #[prost(message, tag = "4")]
    RejoinAnswer(RejoinAnswer),
    /// A follower wants the next part of a snapshot.
    #[prost(message, tag = "5")]
    Pull(PullNote),
    /// The answer.
    #[prost(message, tag = "6")]
    Part(PartNote),
    /// The follower has the whole snapshot (or gave up).
    #[prost(message, tag = "7")]
    Installed(InstalledNote),
}

/// An entry that shall be, or is, on the medium.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct SyncNote {
    /// Index.
    #[prost(uint64, tag = "1")]
    pub(super) index: u64,
    /// Term of that entry.
    #[prost(uint64, tag = "2")]
    pub(super) term: u64,
}

/// See [`Kind::Rejoin`].
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct RejoinNote {
    /// The asker's incarnation, to be given back.
    #[prost(uint64, tag = "1")]
    pub(super) incarnation: u64,
    /// The last entry applied in its table (0: none).
    #[prost(uint64, tag = "2")]
    pub(super) applied: u64,
    /// That entry's term.
    #[prost(uint64, tag = "3")]
    pub(super) applied_term: u64,
}

/// How things stand at a member.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RejoinAnswer {
    /// From the question.
    #[prost(uint64, tag = "1")]
    pub(super) incarnation: u64,
    /// The answering member's term.
    #[prost(uint64, tag = "2")]
    pub(super) term: u64,
    /// It leads and has committed an entry of its term; then `commit` is what to catch up to.
    #[prost(bool, tag = "3")]
    pub(super) leads: bool,
    /// Committed index.
    #[prost(uint64, tag = "4")]
    pub(super) commit: u64,
    /// It is rejoining itself.
    #[prost(bool, tag = "5")]
    pub(super) rejoining: bool,
    /// Applied index.
    #[prost(uint64, tag = "6")]
    pub(super) applied: u64,
    /// The voters as of that index.
    #[prost(uint64, repeated, tag = "7")]
    pub(super) voters: Vec<u64>,
    /// Index of the last entry of its log.
    #[prost(uint64, tag = "8")]
    pub(super) last_index: u64,
    /// That entry's term.
    #[prost(uint64, tag = "9")]
    pub(super) last_term: u64,
    /// It leads and has the last entry that the asker applied.
    #[prost(bool, tag = "10")]
    pub(super) agrees: bool,
    /// It leads and has not, or not any more.
    #[prost(bool, tag = "11")]
    pub(super) disagrees: bool,
}

/// See [`Kind::Pull`].
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PullNote {
    /// Index of the snapshot.
    #[prost(uint64, tag = "1")]
    pub(super) index: u64,
    /// Identifies the leader's transfer.
    #[prost(uint64, tag = "2")]
    pub(super) transfer: u64,
    /// First key wanted.
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) from: Bytes,
}

/// A part of a snapshot: all pairs with `from <= key < next`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PartNote {
    /// Index of the snapshot.
    #[prost(uint64, tag = "1")]
    pub(super) index: u64,
    /// From the question.
    #[prost(uint64, tag = "2")]
    pub(super) transfer: u64,
    /// From the question.
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) from: Bytes,
    /// Where the next part begins; empty: this is the last one.
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) next: Bytes,
    /// Keys.
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub(super) keys: Vec<Bytes>,
    /// Values.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub(super) values: Vec<Bytes>,
    /// The transfer is no more; start again when a new snapshot is offered.
    #[prost(bool, tag = "7")]
    pub(super) gone: bool,
}

/// See [`Kind::Installed`].
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct InstalledNote {
    /// Index of the snapshot.
    #[prost(uint64, tag = "1")]
    pub(super) index: u64,
    /// The leader's transfer.
    #[prost(uint64, tag = "2")]
    pub(super) transfer: u64,
    /// Whether it is there.
    #[prost(bool, tag = "3")]
    pub(super) ok: bool,
}

/// What arrived.
#[derive(Debug)]
pub(super) enum Arrived {
    /// For the engine.
    Raft(Message),
    /// For the replica.
    Note(Kind),
}

/// A raft message on its way.
#[must_use]
pub(super) fn wrap_raft(message: &Message) -> Bytes {
    use protobuf::Message as _;
    let mut bytes = vec![0];
    message.write_to_vec(&mut bytes).expect("a message in memory can be encoded");
    bytes.into()
}

/// A note on its way.
#[must_use]
pub(super) fn wrap_note(kind: Kind) -> Bytes {
    let mut bytes = vec![1];
    Note { kind: Some(kind) }.encode_raw(&mut bytes);
    bytes.into()
}

/// `None`: not understood; whoever wants an answer asks again.
#[must_use]
pub(super) fn unwrap(bytes: &Bytes) -> Option<Arrived> {
    use protobuf::Message as _;
    match bytes.first()? {
        0 => {
            let body = bytes.slice(1..);
            let mut message = Message::default();
            let mut input = protobuf::CodedInputStream::from_carllerche_bytes(&body);
            message.merge_from(&mut input).ok()?;
            Some(Arrived::Raft(message))
        }
        1 => Some(Arrived::Note(Note::decode(bytes.slice(1..)).ok()?.kind?)),
        _ => None,
    }
}

/// A message in a few words, for logs of simulations.
#[must_use]
pub fn describe(bytes: &Bytes) -> String {
    match unwrap(bytes) {
        Some(Arrived::Raft(m)) => format!(
            "{:?} term {} index {}/{} entries {} commit {} reject {} hint {}",
            m.get_msg_type(),
            m.term,
            m.index,
            m.log_term,
            m.get_entries().len(),
            m.commit,
            m.reject,
            m.reject_hint
        ),
        Some(Arrived::Note(Kind::Part(part))) => {
            format!(
                "Part of {} rows {} last {} gone {}",
                part.index,
                part.keys.len(),
                part.next.is_empty(),
                part.gone
            )
        }
        Some(Arrived::Note(kind)) => format!("{kind:?}"),
        None => "rubbish".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::eraftpb::{Entry, MessageType};

    #[test]
    fn both_kinds_arrive_and_rubbish_does_not() {
        let mut message = Message { to: 1, from: 2, term: 3, ..Message::default() };
        message.set_msg_type(MessageType::MsgAppend);
        message.set_entries(vec![Entry { data: Bytes::from_static(b"x"), ..Entry::default() }].into());
        match unwrap(&wrap_raft(&message)) {
            Some(Arrived::Raft(arrived)) => assert_eq!(arrived.get_entries(), message.get_entries()),
            other => panic!("{other:?}"),
        }
        let note = Kind::SyncDone(SyncNote { index: 1, term: 2 });
        match unwrap(&wrap_note(note.clone())) {
            Some(Arrived::Note(arrived)) => assert_eq!(arrived, note),
            other => panic!("{other:?}"),
        }
        assert!(unwrap(&Bytes::from_static(b"\x07abc")).is_none());
        assert!(unwrap(&Bytes::new()).is_none());
    }
}
