//! Records of files that were made, moved, linked or removed here and of which the MRC has yet to hear: they outlive the process like staged
//! writes.
//!
//! ```text
//! record: order, session, epoch, volume, parent, ino, mode and what was done, uid or file replaced, gid or new parent, seconds, nanos,
//!         origin (session, sequence, acked below), length of the name and of the new one, checksum; the name, the new one (of a move: who moved it in
//!         place of the mode)
//! ```

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use proto::limits::NAME_BYTES_MAX;
use proto::mrc::{EarlyFile, EarlyMove, KeptAttributes, Time};
use proto::rpc::Origin;

use super::{RECORDS_AT, Stage};
use crate::engine::kept;

/// Places for records of a mount.
pub(crate) const RECORDS: u32 = 512;
/// Bytes of one.
pub(super) const RECORD_BYTES: usize = 512;
const WORDS: usize = 16;
/// In the word of the mode: the file was removed.
const REMOVED: u64 = 1 << 32;
/// Likewise: it was moved.
const MOVED: u64 = 1 << 33;
/// Likewise: it has a further name.
const LINKED: u64 = 1 << 34;
/// Likewise: it is a directory.
const DIRECTORY: u64 = 1 << 35;
/// Likewise: attributes of a directory were set; they stand in place of the name.
const KEPT: u64 = 1 << 36;
const _: () = assert!(WORDS * 8 + NAME_BYTES_MAX <= RECORD_BYTES);

/// A file that a process made, moved or removed and did not tell.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LeftFile {
    pub(crate) session: u64,
    pub(crate) volume: u64,
    pub(crate) file: EarlyFile,
    order: u64,
    place: u32,
}

impl LeftFile {
    pub(super) fn place(&self) -> u32 {
        self.place
    }
}

/// A place that holds, or will hold, one record.
pub(crate) struct Record {
    stage: Arc<Stage>,
    place: u32,
    written: bool,
}

impl Stage {
    /// A place for a record; `None`: all are taken.
    pub(crate) fn take_record(self: &Arc<Self>) -> Option<Record> {
        let place = self.records.lock().pop_first()?;
        Some(Record { stage: self.clone(), place, written: false })
    }

    /// What the last process did and did not tell, in order. To be read before anything is taken.
    pub(crate) fn left_files(&self) -> io::Result<Vec<LeftFile>> {
        let mut left = Vec::new();
        let mut bytes = vec![0; RECORDS as usize * RECORD_BYTES];
        self.file.read_exact_at(&mut bytes, RECORDS_AT)?;
        for (place, record) in (0..RECORDS).zip(bytes.chunks_exact(RECORD_BYTES)) {
            left.extend(parse(record).map(|(order, session, volume, file)| LeftFile {
                session,
                volume,
                file,
                order,
                place,
            }));
        }
        left.sort_by_key(|left| left.order);
        Ok(left)
    }

    /// They are told, or lost.
    pub(crate) fn clear_files(&self, left: &[LeftFile]) -> io::Result<()> {
        for left in left {
            self.file.write_all_at(&[0; 8], record_at(left.place))?;
            self.records.lock().insert(left.place);
        }
        Ok(())
    }
}

/// Whether names of a file that moves have room in a record.
pub(crate) fn have_room(name: &[u8], new_name: &[u8]) -> bool {
    WORDS * 8 + name.len() + new_name.len() <= RECORD_BYTES
}

impl Record {
    /// From now on a successor of this process tells of the file.
    pub(crate) fn write(&mut self, session: u64, volume: u64, file: &EarlyFile) -> io::Result<()> {
        let order = self.stage.next.fetch_add(1, Ordering::Relaxed);
        self.written = true;
        self.stage.file.write_all_at(&encode(order, session, volume, file), record_at(self.place))
    }

    /// The MRC knows of the file, or it is lost.
    pub(crate) fn cross_out(mut self) {
        if self.written
            && let Err(error) = self.stage.file.write_all_at(&[0; 8], record_at(self.place))
        {
            // Better lose the place than have a successor make the file again later.
            tracing::error!(%error, "the record of a file that was made could not be crossed out");
            return;
        }
        self.written = false;
    }
}

/// What is dropped without being crossed out is the successor's.
impl Drop for Record {
    fn drop(&mut self) {
        if !self.written {
            self.stage.records.lock().insert(self.place);
        }
    }
}

fn record_at(place: u32) -> u64 {
    RECORDS_AT + u64::from(place) * RECORD_BYTES as u64
}

fn encode(order: u64, session: u64, volume: u64, file: &EarlyFile) -> Vec<u8> {
    let EarlyFile {
        origin,
        parent,
        name,
        ino,
        mode,
        uid,
        gid,
        at,
        epoch,
        removed,
        moved,
        linked,
        directory,
        kept,
        // It has a slot of its own.
        content: _,
    } = file;
    let flag = |set: bool, flag: u64| if set { flag } else { 0 };
    let done = flag(*removed, REMOVED) | flag(moved.is_some(), MOVED) | flag(*linked, LINKED);
    let done = done | flag(*directory, DIRECTORY) | flag(kept.is_some(), KEPT);
    let set = kept
        .as_ref()
        .map(|kept| kept::encode(Some(kept)).iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>());
    let name = set.as_ref().unwrap_or(name);
    let (low, high) = match moved {
        Some(to) => (to.replaced, to.parent),
        None => (u64::from(*uid), u64::from(*gid)),
    };
    let new_name: &[u8] = moved.as_ref().map_or(&[], |to| &to.name);
    let words = [
        order,
        session,
        *epoch,
        volume,
        *parent,
        *ino,
        u64::from(if moved.is_some() { *uid } else { *mode }) | done,
        low,
        high,
        at.seconds.cast_unsigned(),
        u64::from(at.nanos),
        origin.session,
        origin.sequence,
        origin.acked_below,
        name.len() as u64 | (new_name.len() as u64) << 32,
    ];
    let names = [name, new_name].concat();
    let mut out = Vec::with_capacity(WORDS * 8 + names.len());
    words.iter().for_each(|word| out.extend(word.to_le_bytes()));
    out.extend(sum(&words, &names).to_le_bytes());
    out.extend(names);
    out
}

fn parse(bytes: &[u8]) -> Option<(u64, u64, u64, EarlyFile)> {
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().ok()?);
    }
    let [order, session, epoch, volume, parent, ino, mode, low, high, seconds, nanos, rest @ ..] = words;
    let [of, sequence, acked_below, lens, check] = rest;
    let small = |word: u64| u32::try_from(word).ok();
    let len = |word: u64| usize::try_from(word).ok().filter(|len| *len <= NAME_BYTES_MAX);
    let (len, new_len) = (len(lens & u64::from(u32::MAX))?, len(lens >> 32)?);
    let names = bytes.get(WORDS * 8..WORDS * 8 + len + new_len)?;
    if order == 0 || sum(&words[..WORDS - 1], names) != check {
        return None;
    }
    let (name, new_name) = names.split_at(len);
    // What this build does not know is no record of its own.
    let what = small(mode & !(REMOVED | MOVED | LINKED | DIRECTORY | KEPT))?;
    let moved =
        (mode & MOVED != 0).then(|| EarlyMove { parent: high, name: new_name.to_vec(), replaced: low });
    let (uid, gid) = if moved.is_some() { (what, 0) } else { (small(low)?, small(high)?) };
    let kept = match mode & KEPT != 0 {
        true => Some(kept_from(name, epoch)?),
        false => None,
    };
    let file = EarlyFile {
        origin: Origin { session: of, sequence, acked_below },
        parent,
        name: if kept.is_some() { Vec::new() } else { name.to_vec() },
        ino,
        mode: if moved.is_some() { 0 } else { what },
        uid,
        gid,
        at: Time { seconds: seconds.cast_signed(), nanos: small(nanos)? },
        epoch,
        removed: mode & REMOVED != 0,
        moved,
        linked: mode & LINKED != 0,
        directory: mode & DIRECTORY != 0,
        kept,
        content: None,
    };
    Some((order, session, volume, file))
}

fn kept_from(bytes: &[u8], epoch: u64) -> Option<KeptAttributes> {
    let mut words = [0; kept::WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().ok()?);
    }
    kept::decode(words, epoch).filter(|_| bytes.len() == kept::WORDS * 8)
}

fn sum(words: &[u64], name: &[u8]) -> u64 {
    super::sum(words) ^ u64::from(proto::checksum::crc32c(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(name: &[u8], ino: u64) -> EarlyFile {
        let origin = Origin { session: 9, sequence: ino, acked_below: 3 };
        let at = Time { seconds: -5, nanos: 77 };
        let made =
            EarlyFile { origin, parent: 4, name: name.to_vec(), ino, at, epoch: 6, ..EarlyFile::default() };
        match ino {
            11 => EarlyFile { removed: true, uid: 1001, gid: 7, ..made },
            12 => EarlyFile { linked: true, uid: 1001, gid: 7, ..made },
            14 => EarlyFile { directory: true, mode: 0o750, uid: 1001, gid: 7, ..made },
            15 => {
                let kept = KeptAttributes {
                    mode: Some(0o711),
                    mtime: Some(at),
                    epoch: 6,
                    ..KeptAttributes::default()
                };
                EarlyFile { kept: Some(kept), name: Vec::new(), ..made }
            }
            13 => {
                let moved = EarlyMove { parent: u64::MAX, name: b"to".to_vec(), replaced: 1 << 40 };
                EarlyFile { moved: Some(moved), uid: 1001, ..made }
            }
            _ => EarlyFile { mode: 0o640, uid: 1, gid: 2, ..made },
        }
    }

    #[test]
    fn what_was_made_and_not_told_is_found_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stage");
        let stage = Stage::open(&path).unwrap();
        let long = vec![b'x'; NAME_BYTES_MAX];
        let all = [
            file(b"first", 12),
            file(&long, 11),
            file(b"told", 10),
            file(b"last", 13),
            file(b"dir", 14),
            file(b"", 15),
        ];
        let mut records: Vec<Record> = all
            .iter()
            .map(|file| {
                let mut record = stage.take_record().unwrap();
                record.write(7, 1, file).unwrap();
                record
            })
            .collect();
        records.remove(2).cross_out();
        let _never_written = stage.take_record().unwrap();
        drop(records);
        let left = stage.left_files().unwrap();
        let found: Vec<&EarlyFile> = left.iter().map(|left| &left.file).collect();
        assert_eq!(found, [&all[0], &all[1], &all[3], &all[4], &all[5]]);
        assert!(left.iter().all(|left| (left.session, left.volume) == (7, 1)));
        assert_eq!(stage.records.lock().len(), RECORDS as usize - 6, "what was left is not given out again");
        stage.clear_files(&left).unwrap();
        assert_eq!(stage.left_files().unwrap(), []);
    }

    #[test]
    fn what_another_build_has_done_is_not_taken_for_a_create() {
        let known = encode(1, 7, 1, &file(b"name", 10));
        let mut words: Vec<u64> = known[..WORDS * 8]
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
            .collect();
        words[6] |= KEPT << 1;
        words[WORDS - 1] = sum(&words[..WORDS - 1], b"name");
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(b"name");
        assert!(parse(&known).is_some());
        assert_eq!(parse(&bytes), None);
    }

    proptest! {
        #[test]
        fn what_is_not_whole_is_no_record(at in 0..200usize, flip in 1..=255u8) {
            let mut bytes = encode(1, 7, 1, &file(b"some name or other of a file that was made", 10));
            bytes.resize(RECORD_BYTES, 0);
            prop_assert!(parse(&bytes).is_some());
            let used = at < WORDS * 8 + 42;
            bytes[at] ^= flip;
            prop_assert_eq!(parse(&bytes).is_none(), used);
        }
    }
}
