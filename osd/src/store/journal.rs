//! The journal's segment files of one shard, and how much of each is still needed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use proto::id::ObjectKey;
use rt::disk::{Disk, DiskFile};

use crate::engine::entry::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::engine::record::{Piece, Place};
use crate::failpoint;

/// An open segment file. Readers keep it while they read, also when it is dropped meanwhile.
pub(crate) struct Segment {
    pub(crate) file: Arc<dyn DiskFile>,
}

/// What is known of a segment.
pub(crate) struct Tally {
    pub(crate) segment: Arc<Segment>,
    /// Sequence of its last entry (its first - 1 when it has none).
    pub(crate) last_seq: u64,
    /// Blocks in it that objects refer to.
    pub(crate) live: u64,
    /// The entry that freed the last live block: the table must have reached it before the segment may go.
    pub(crate) freed_at: u64,
    /// Objects that had or have blocks in it.
    pub(crate) keys: BTreeSet<ObjectKey>,
}

/// See the module.
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    shard: u16,
    store: u64,
    segment_bytes: u32,
    pub(crate) tallies: BTreeMap<u32, Tally>,
    /// Where the next entry goes; `None`: into a new segment.
    pub(crate) at: Option<(u32, u32)>,
    pub(crate) next_segment: u32,
    /// Segments with unsynced bytes.
    pub(crate) unsynced: Vec<Arc<Segment>>,
    /// A name was made since the directory was last synced.
    pub(crate) names_dirty: bool,
    /// Blocks that objects refer to, over all segments.
    pub(crate) live: u64,
    /// Bytes of all entries since the last checkpoint.
    pub(crate) since_checkpoint: u64,
}

/// The name of a segment file.
pub(crate) fn segment_name(shard: u16, segment: u32) -> String {
    format!("shard-{shard:02}.journal-{segment:08}")
}

/// The segment number of a file name of this shard.
pub(crate) fn parse_segment_name(shard: u16, name: &str) -> Option<u32> {
    name.strip_prefix(&format!("shard-{shard:02}.journal-"))?.parse().ok()
}

impl Journal {
    pub(crate) fn new(disk: Arc<dyn Disk>, shard: u16, store: u64, segment_bytes: u32) -> Self {
        Self {
            disk,
            shard,
            store,
            segment_bytes,
            tallies: BTreeMap::new(),
            at: None,
            next_segment: 1,
            unsynced: Vec::new(),
            names_dirty: false,
            live: 0,
            since_checkpoint: 0,
        }
    }

    /// Where the entry `seq` will go. Makes a new segment when the current one is full.
    pub(crate) fn place(&mut self, seq: u64) -> io::Result<(u32, u32)> {
        if let Some((segment, offset)) = self.at
            && offset < self.segment_bytes
        {
            return Ok((segment, offset));
        }
        let number = self.next_segment;
        let file = self.disk.open(&segment_name(self.shard, number), true)?;
        let header = SegmentHeader { shard: self.shard, segment: number, first_seq: seq, store: self.store };
        file.set_len(0)?;
        file.write_at(&header.encode(), 0)?;
        failpoint::hit(failpoint::SEGMENT_MADE);
        self.next_segment += 1;
        self.adopt(number, file, seq - 1);
        self.at = Some((number, SEGMENT_HEADER_BYTES));
        Ok((number, SEGMENT_HEADER_BYTES))
    }

    /// Takes a segment into the books.
    pub(crate) fn adopt(&mut self, number: u32, file: Arc<dyn DiskFile>, last_seq: u64) {
        let segment = Arc::new(Segment { file });
        self.unsynced.push(segment.clone());
        self.names_dirty = true;
        let tally = Tally { segment, last_seq, live: 0, freed_at: 0, keys: BTreeSet::new() };
        self.tallies.insert(number, tally);
    }

    /// Writes the entry `seq` to where [`Journal::place`] said. A failed write leaves nothing of it.
    pub(crate) fn append(&mut self, seq: u64, entry: &[u8]) -> io::Result<()> {
        let (number, offset) = self.at.expect("`place` was called before");
        let tally = self.tallies.get_mut(&number).expect("the current segment is in the books");
        if failpoint::is_next(failpoint::JOURNAL_TORN) {
            tally.segment.file.write_at(&entry[..entry.len() / 2], u64::from(offset))?;
            failpoint::die();
        }
        if let Err(error) = tally.segment.file.write_at(entry, u64::from(offset)) {
            tally.segment.file.set_len(u64::from(offset))?;
            return Err(error);
        }
        failpoint::hit(failpoint::JOURNAL_WRITTEN);
        tally.last_seq = seq;
        if !self.unsynced.last().is_some_and(|last| Arc::ptr_eq(last, &tally.segment)) {
            self.unsynced.push(tally.segment.clone());
        }
        self.at = Some((number, offset + entry.len() as u32));
        self.since_checkpoint += entry.len() as u64;
        Ok(())
    }

    /// An object refers to these blocks of a segment.
    pub(crate) fn use_blocks(&mut self, key: ObjectKey, place: Place, count: u32) {
        let Place::Journal { segment, .. } = place else { return };
        if let Some(tally) = self.tallies.get_mut(&segment) {
            tally.live += u64::from(count);
            tally.keys.insert(key);
            self.live += u64::from(count);
        }
    }

    /// The entry `seq` made a piece of the journal useless.
    pub(crate) fn free_blocks(&mut self, piece: &Piece, seq: u64) {
        let Place::Journal { segment, .. } = piece.place else { return };
        let tally = self.tallies.get_mut(&segment).expect("a segment stays while objects refer to it");
        tally.live -= u64::from(piece.count);
        tally.freed_at = seq;
        self.live -= u64::from(piece.count);
    }

    /// The file that a place lies in.
    pub(crate) fn segment(&self, segment: u32) -> Option<Arc<Segment>> {
        self.tallies.get(&segment).map(|tally| tally.segment.clone())
    }

    /// The table has reached `position`: removes segments that neither replay nor any object needs.
    pub(crate) fn drop_before(&mut self, position: u64) -> Vec<String> {
        let current = self.at.map(|(segment, _)| segment);
        let useless = |number: &u32, tally: &Tally| {
            Some(*number) != current
                && tally.live == 0
                && tally.last_seq <= position
                && tally.freed_at <= position
        };
        let gone: Vec<u32> = self
            .tallies
            .iter()
            .filter(|(number, tally)| useless(number, tally))
            .map(|(number, _)| *number)
            .collect();
        for number in &gone {
            if let Some(tally) = self.tallies.remove(number) {
                self.unsynced.retain(|segment| !Arc::ptr_eq(segment, &tally.segment));
            }
        }
        gone.into_iter().map(|number| segment_name(self.shard, number)).collect()
    }

    /// Closes the current segment: the next entry opens a new one, so that this one can be dropped.
    pub(crate) fn close_segment(&mut self) {
        self.at = None;
    }
}
