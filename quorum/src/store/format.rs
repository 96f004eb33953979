//! Bytes of the log: records in segments. Documented byte by byte in docs/formats/raft-log.md.

use bytes::Bytes;
use proto::checksum::crc32c;
use raft::eraftpb::{Entry, EntryType};

/// Bytes before a record's payload: length, checksum, kind.
pub const HEAD_BYTES: usize = 9;
/// Largest payload of a record. An entry is at most one RPC message and its header.
pub const PAYLOAD_BYTES_MAX: usize = 2 * proto::limits::MESSAGE_BYTES_MAX;
/// First bytes of every state record.
const MAGIC: &[u8; 8] = b"xtfsraft";
/// Version of the format.
const VERSION: u16 = 1;

const KIND_STATE: u8 = 1;
const KIND_ENTRY: u8 = 2;
const KIND_SYNCED: u8 = 3;

/// A place in the log. Ordered along the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// Number of the segment.
    pub segment: u64,
    /// Byte in the segment.
    pub offset: u64,
}

/// The small state of a member. Written as a whole when a part of it changes, and first in each segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// Which group's log this is.
    pub group: u64,
    /// Which member's log this is.
    pub member: u64,
    /// Lowest live segment: older files are left-overs.
    pub oldest: u64,
    /// Length of the segment before this one when this one was begun; only of meaning in a segment's first record.
    pub before_bytes: u64,
    /// Index of the entry before the first one of the log.
    pub base_index: u64,
    /// Its term.
    pub base_term: u64,
    /// Raft's term.
    pub term: u64,
    /// Raft's vote in that term.
    pub vote: u64,
    /// A committed index; the real one may be higher.
    pub commit: u64,
    /// How often this member was started.
    pub incarnation: u64,
    /// All entries before this record are void (a snapshot took their place).
    pub void_before: bool,
    /// A snapshot is being installed: the table is not to be believed.
    pub installing: bool,
    /// The member was stopped properly and everything is on the medium.
    pub clean: bool,
    /// Acknowledgements were given before data was synced.
    pub relaxed: bool,
    /// The boot of the machine in which this member was last sound.
    pub boot_id: String,
}

/// One record.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// See [`State`].
    State(State),
    /// A log entry. One whose index is not above the last one cuts the log off there first.
    Entry(Entry),
    /// Everything before that place is on the medium.
    Synced(Place),
}

/// Collects records for one write.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// The bytes so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets the bytes and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Appends a record; `start` is where the first byte of this writer goes.
    pub fn push(&mut self, start: Place, record: RecordRef<'_>) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEAD_BYTES]);
        let kind = match record {
            RecordRef::State(state) => {
                put_state(&mut self.bytes, state);
                KIND_STATE
            }
            RecordRef::Entry(entry) => {
                put_entry(&mut self.bytes, entry);
                KIND_ENTRY
            }
            RecordRef::Synced(place) => {
                self.bytes.extend_from_slice(&place.segment.to_le_bytes());
                self.bytes.extend_from_slice(&place.offset.to_le_bytes());
                KIND_SYNCED
            }
        };
        let payload = self.bytes.len() - at - HEAD_BYTES;
        assert!(payload <= PAYLOAD_BYTES_MAX, "a record of {payload} bytes is beyond the limit");
        let length = u32::try_from(payload).expect("checked against the limit");
        self.bytes[at + 8] = kind;
        let place = Place { segment: start.segment, offset: start.offset + at as u64 };
        let sum = crc32c(&self.bytes[at + 8..]) ^ seed(place);
        self.bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
        self.bytes[at + 4..at + 8].copy_from_slice(&sum.to_le_bytes());
    }
}

/// A record to be written.
#[derive(Debug, Clone, Copy)]
pub enum RecordRef<'a> {
    /// See [`Record::State`].
    State(&'a State),
    /// See [`Record::Entry`].
    Entry(&'a Entry),
    /// See [`Record::Synced`].
    Synced(Place),
}

/// A record at another place than it was written for does not match.
fn seed(place: Place) -> u32 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&place.segment.to_le_bytes());
    bytes[8..].copy_from_slice(&place.offset.to_le_bytes());
    crc32c(&bytes)
}

/// Reads the record at `place`, where `bytes` starts. `None`: there is no sound record.
pub fn parse(bytes: &Bytes, place: Place) -> Option<(Record, usize)> {
    let head = bytes.get(..HEAD_BYTES)?;
    let length = u32::from_le_bytes(head[..4].try_into().ok()?) as usize;
    let sum = u32::from_le_bytes(head[4..8].try_into().ok()?);
    let end = HEAD_BYTES + length;
    if length > PAYLOAD_BYTES_MAX || bytes.len() < end || crc32c(&bytes[8..end]) ^ seed(place) != sum {
        return None;
    }
    let payload = bytes.slice(HEAD_BYTES..end);
    let record = match head[8] {
        KIND_STATE => Record::State(get_state(&payload)?),
        KIND_ENTRY => Record::Entry(get_entry(&payload)?),
        KIND_SYNCED => {
            let mut cursor = Cursor { bytes: &payload, at: 0 };
            Record::Synced(Place { segment: cursor.u64()?, offset: cursor.u64()? })
        }
        _ => return None,
    };
    Some((record, end))
}

fn put_state(out: &mut Vec<u8>, state: &State) {
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    for word in [
        state.group,
        state.member,
        state.oldest,
        state.before_bytes,
        state.base_index,
        state.base_term,
        state.term,
        state.vote,
        state.commit,
        state.incarnation,
    ] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    let flags = u8::from(state.void_before)
        | u8::from(state.installing) << 1
        | u8::from(state.clean) << 2
        | u8::from(state.relaxed) << 3;
    out.push(flags);
    out.extend_from_slice(state.boot_id.as_bytes());
}

fn get_state(payload: &[u8]) -> Option<State> {
    let mut cursor = Cursor { bytes: payload, at: 0 };
    if cursor.take(8)? != MAGIC || u16::from_le_bytes(cursor.take(2)?.try_into().ok()?) != VERSION {
        return None;
    }
    let mut state = State {
        group: cursor.u64()?,
        member: cursor.u64()?,
        oldest: cursor.u64()?,
        before_bytes: cursor.u64()?,
        base_index: cursor.u64()?,
        base_term: cursor.u64()?,
        term: cursor.u64()?,
        vote: cursor.u64()?,
        commit: cursor.u64()?,
        incarnation: cursor.u64()?,
        ..State::default()
    };
    let flags = cursor.take(1)?[0];
    state.void_before = flags & 1 != 0;
    state.installing = flags & 2 != 0;
    state.clean = flags & 4 != 0;
    state.relaxed = flags & 8 != 0;
    state.boot_id = String::from_utf8(payload[cursor.at..].to_vec()).ok()?;
    Some(state)
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    out.extend_from_slice(&entry.index.to_le_bytes());
    out.extend_from_slice(&entry.term.to_le_bytes());
    out.push(match entry.entry_type {
        EntryType::EntryNormal => 0,
        EntryType::EntryConfChange => 1,
        EntryType::EntryConfChangeV2 => 2,
    });
    let context = u32::try_from(entry.context.len()).expect("contexts are addresses");
    out.extend_from_slice(&context.to_le_bytes());
    out.extend_from_slice(&entry.context);
    out.extend_from_slice(&entry.data);
}

fn get_entry(payload: &Bytes) -> Option<Entry> {
    let mut cursor = Cursor { bytes: payload, at: 0 };
    let mut entry = Entry { index: cursor.u64()?, term: cursor.u64()?, ..Entry::default() };
    entry.entry_type = match cursor.take(1)?[0] {
        0 => EntryType::EntryNormal,
        1 => EntryType::EntryConfChange,
        2 => EntryType::EntryConfChangeV2,
        _ => return None,
    };
    let context = u32::from_le_bytes(cursor.take(4)?.try_into().ok()?) as usize;
    let from = cursor.at;
    cursor.take(context)?;
    entry.context = payload.slice(from..cursor.at);
    entry.data = payload.slice(cursor.at..);
    Some(entry)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let part = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(part)
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Record> {
        let mut entry = Entry { index: 7, term: 3, ..Entry::default() };
        entry.entry_type = EntryType::EntryConfChangeV2;
        entry.context = Bytes::from_static(b"tcp://a:1");
        entry.data = Bytes::from_static(b"command");
        let state = State {
            group: 1,
            member: 2,
            oldest: 3,
            before_bytes: 4,
            base_index: 5,
            base_term: 6,
            term: 7,
            vote: 8,
            commit: 9,
            incarnation: 10,
            void_before: true,
            installing: false,
            clean: true,
            relaxed: true,
            boot_id: "boot".into(),
        };
        vec![Record::State(state), Record::Entry(entry), Record::Synced(Place { segment: 1, offset: 99 })]
    }

    fn as_ref(record: &Record) -> RecordRef<'_> {
        match record {
            Record::State(state) => RecordRef::State(state),
            Record::Entry(entry) => RecordRef::Entry(entry),
            Record::Synced(place) => RecordRef::Synced(*place),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let start = Place { segment: 4, offset: 1000 };
        let mut writer = Writer::default();
        for record in samples() {
            writer.push(start, as_ref(&record));
        }
        let bytes = Bytes::from(writer.bytes().to_vec());
        let mut at = 0;
        for want in samples() {
            let place = Place { segment: 4, offset: 1000 + at as u64 };
            let (record, size) = parse(&bytes.slice(at..), place).unwrap();
            assert_eq!(record, want);
            at += size;
        }
        assert_eq!(at, bytes.len());
    }

    #[test]
    fn any_flipped_bit_and_any_other_place_is_noticed() {
        let start = Place { segment: 4, offset: 1000 };
        for record in samples() {
            let mut writer = Writer::default();
            writer.push(start, as_ref(&record));
            let good = writer.bytes().to_vec();
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(parse(&Bytes::from(bad), start), None, "bit {bit}");
            }
            let elsewhere = Place { segment: 4, offset: 1001 };
            assert_eq!(parse(&Bytes::from(good), elsewhere), None);
        }
    }
}
