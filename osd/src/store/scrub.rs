//! Scrub: which extents to read and what the content must be. The reading is the background engine's.

use std::sync::Arc;

use proto::id::{Ino, ObjectKey, ObjectNo, VolumeId};
use proto::limits::BLOCK_BYTES;

use super::Store;
use super::error::Result;
use super::read::verify;
use super::shard::Pin;
use crate::engine::record::{ObjectRecord, Piece, Place};

/// Objects looked at under one lock.
const LIST_CHUNK: usize = 16;
/// Blocks read at once: 1 MiB.
const READ_BLOCKS: u32 = 256;

const FIRST: ObjectKey = ObjectKey { volume: VolumeId(0), ino: Ino(0), object: ObjectNo(0) };
const LAST: ObjectKey =
    ObjectKey { volume: VolumeId(u64::MAX), ino: Ino(u64::MAX), object: ObjectNo(u64::MAX) };

/// How far a round has come.
#[derive(Clone, Copy)]
pub(crate) struct Cursor {
    shard: usize,
    from: Option<ObjectKey>,
    first: ObjectKey,
    last: ObjectKey,
}

impl Cursor {
    /// The beginning of a round over a volume, or over everything (0).
    pub(crate) fn of(volume: u64) -> Self {
        let (first, last) = if volume == 0 {
            (FIRST, LAST)
        } else {
            let volume = VolumeId(volume);
            (ObjectKey { volume, ..FIRST }, ObjectKey { volume, ..LAST })
        };
        Self { shard: 0, from: Some(first), first, last }
    }
}

/// An object whose extents are to be checked; they are not reused while this lives.
pub(crate) struct ScrubUnit {
    pub(crate) shard: u16,
    key: ObjectKey,
    record: Arc<ObjectRecord>,
    _pin: Pin,
}

/// Some blocks to read.
#[derive(Clone, Copy)]
pub(crate) struct ScrubRead {
    first: u32,
    /// Block of the shard's data area.
    pub(crate) start: u64,
    /// Blocks.
    pub(crate) count: u32,
}

impl ScrubUnit {
    /// What is to be read.
    pub(crate) fn reads(&self) -> Vec<ScrubRead> {
        let cut = |piece: &Piece| {
            let Place::Extent(start) = piece.place else { return Vec::new() };
            (0..piece.count)
                .step_by(READ_BLOCKS as usize)
                .map(|at| ScrubRead {
                    first: piece.first + at,
                    start: start + u64::from(at),
                    count: (piece.count - at).min(READ_BLOCKS),
                })
                .collect()
        };
        self.record.pieces.iter().flat_map(cut).collect()
    }
}

impl Store {
    /// The next objects with data in extents; `None` when the round is over.
    pub(crate) fn scrub_next(&self, cursor: &mut Cursor) -> Result<Option<Vec<ScrubUnit>>> {
        let Some(shard) = self.shards.get(cursor.shard) else { return Ok(None) };
        let Some(from) = cursor.from else {
            *cursor = Cursor { shard: cursor.shard + 1, from: Some(cursor.first), ..*cursor };
            return Ok(Some(Vec::new()));
        };
        let mut state = shard.lock();
        let (objects, next) = state.list(&self.env, from, cursor.last, LIST_CHUNK)?;
        cursor.from = next;
        let mut units = Vec::new();
        for (key, record) in objects {
            if record.pieces.iter().any(|piece| matches!(piece.place, Place::Extent(_))) {
                units.push(ScrubUnit { shard: shard.number, key, record, _pin: shard.pin(&mut state) });
            }
        }
        Ok(Some(units))
    }

    /// Compares what was read with the checksums; notes and reports what does not match.
    pub(crate) fn scrub_check(&self, unit: &ScrubUnit, read: &ScrubRead, data: std::io::Result<&[u8]>) {
        for at in 0..read.count {
            let block = read.first + at;
            let from = at as usize * BLOCK_BYTES;
            let problem = match &data {
                Ok(data) => match data.get(from..from + BLOCK_BYTES) {
                    Some(data) => verify(unit.key, block, data, unit.record.sums[block as usize])
                        .err()
                        .map(|error| error.to_string()),
                    None => Some("the data files end before it".to_owned()),
                },
                Err(error) => Some(error.to_string()),
            };
            if let Some(problem) = problem
                && self.is_current(unit, block)
            {
                self.env.damage.note(unit.key, block, &problem);
            }
        }
    }

    /// Whether the block is still what the unit says: damage of what was replaced meanwhile matters to nobody.
    fn is_current(&self, unit: &ScrubUnit, block: u32) -> bool {
        let now = self.shard(unit.key).lock().lookup(&self.env, unit.key);
        let same = |now: Arc<ObjectRecord>| now.block(block) == unit.record.block(block);
        now.is_ok_and(|now| now.is_some_and(same))
    }

    /// Reads blocks through the shard's own I/O.
    pub(crate) async fn scrub_read(
        &self,
        shard: u16,
        read: ScrubRead,
    ) -> std::io::Result<super::blocks::AlignedBuf> {
        self.shards[shard as usize].blocks.read(read.start, read.count).await
    }
}
