//! Reads: what the map of an object says, from extents and journal, holes as zeroes.

use std::sync::Arc;

use bytes::Bytes;
use proto::checksum::{block_checksum, block_seed};
use proto::id::ObjectKey;
use proto::limits::BLOCK_BYTES;

use super::blocks::AlignedBuf;
use super::delta::Chosen;
use super::error::{Result, StoreError};
use super::journal::Segment;
use super::shard::{Pin, Shard, State, name};
use crate::engine::plan::Span;
use crate::engine::record::{ObjectRecord, Piece, Place};
use crate::engine::trail::Trails;

/// What a read gives: whole blocks from `first_block` on, the last cut at the object's end, trailing holes left out.
#[derive(Clone, Debug, Default)]
pub struct ReadOutcome {
    /// Block that `data` starts with.
    pub first_block: u32,
    /// The bytes.
    pub data: Bytes,
    /// Checksum of each block of `data`.
    pub sums: Vec<u32>,
    /// The object's version; 0 when there is none.
    pub version: u64,
    /// The object's length.
    pub length: u32,
    /// (first, count) of the blocks within `data` that hold nothing, ascending.
    pub holes: Vec<(u32, u32)>,
}

/// A piece with what is needed to read it after the lock is gone.
enum Source {
    Extent(u64),
    Journal(Arc<Segment>, u32),
}

struct Plan {
    record: Arc<ObjectRecord>,
    pieces: Vec<(Piece, Source)>,
    first: u32,
    /// One past the last byte given.
    end: u32,
    /// Keeps the extents.
    _pin: Option<Pin>,
}

impl Shard {
    /// Reads `len` bytes at `offset`. Answers at once when no extent is touched.
    pub(crate) async fn read(self: &Arc<Self>, key: ObjectKey, offset: u32, len: u32) -> Result<ReadOutcome> {
        let first_block = offset / BLOCK_BYTES as u32;
        let Some(plan) = self.plan_read(key, Span::new(offset, len))? else {
            return Ok(ReadOutcome { first_block, ..ReadOutcome::default() });
        };
        let mut outcome = ReadOutcome {
            first_block,
            version: plan.record.version,
            length: plan.record.length,
            ..ReadOutcome::default()
        };
        if plan.pieces.is_empty() {
            return Ok(outcome);
        }
        let bytes = plan.end as usize - first_block as usize * BLOCK_BYTES;
        let blocks = bytes.div_ceil(BLOCK_BYTES) as u32;
        outcome.sums = checksums(key, &plan.record, plan.first, blocks);
        outcome.holes = holes(plan.first, &plan.pieces);
        let data = match plan.pieces.as_slice() {
            [(piece, Source::Extent(start))] if piece.first == plan.first && piece.count == blocks => {
                Bytes::from_owner(self.read_extent(key, *start, piece.count).await?)
            }
            _ => self.assemble(key, &plan, blocks).await?,
        };
        outcome.data = data.slice(..bytes);
        Ok(outcome)
    }

    /// A whole object: its record, and the blocks that hold data, one after the other. `None`: there is none.
    pub(crate) async fn copy(self: &Arc<Self>, key: ObjectKey) -> Result<Option<Chosen>> {
        self.copy_some(key, |_, _| Some(vec![(0, u32::MAX)])).await
    }

    /// The same of some blocks: (first, how many), ascending. `None`: there is no object, or nothing was chosen.
    pub(crate) async fn copy_some(
        self: &Arc<Self>,
        key: ObjectKey,
        choose: impl FnOnce(&Trails<ObjectKey>, &ObjectRecord) -> Option<Vec<(u32, u32)>>,
    ) -> Result<Option<Chosen>> {
        let Some(mut plan) = self.plan_some(key, choose)? else { return Ok(None) };
        let record = plan.record.clone();
        let blocks: Vec<u32> = plan.pieces.iter().flat_map(|(piece, _)| piece.first..piece.end()).collect();
        if blocks.is_empty() {
            return Ok(Some((record, Bytes::new())));
        }
        // The pieces move together: what is read is only what holds data.
        let mut next = 0;
        for (piece, _) in &mut plan.pieces {
            piece.first = next;
            next += piece.count;
        }
        let data = self.assemble(key, &plan, next).await?;
        // What is damaged here must not travel.
        for (block, data) in blocks.into_iter().zip(data.chunks(BLOCK_BYTES)) {
            let read = verify(key, block, data, record.sums[block as usize]);
            match record.block(block) {
                Some((place, _)) => self.noted_at(key, block, place, read)?,
                None => read?,
            }
        }
        Ok(Some((record, data)))
    }

    fn plan_some(
        self: &Arc<Self>,
        key: ObjectKey,
        choose: impl FnOnce(&Trails<ObjectKey>, &ObjectRecord) -> Option<Vec<(u32, u32)>>,
    ) -> Result<Option<Plan>> {
        let mut state = self.lock();
        let Some(record) = state.lookup(&self.env, key)? else { return Ok(None) };
        let Some(ranges) = choose(&state.trails, &record) else { return Ok(None) };
        let mut pieces = Vec::new();
        for (first, count) in ranges {
            for piece in record.pieces_in(first, first.saturating_add(count)) {
                pieces.push((piece, source(&state, key, piece.place)?));
            }
        }
        let extents = pieces.iter().any(|(_, source)| matches!(source, Source::Extent(_)));
        let pin = extents.then(|| self.pin(&mut state));
        Ok(Some(Plan { record, pieces, first: 0, end: 0, _pin: pin }))
    }

    fn plan_read(self: &Arc<Self>, key: ObjectKey, span: Span) -> Result<Option<Plan>> {
        let mut state = self.lock();
        let Some(record) = state.lookup(&self.env, key)? else { return Ok(None) };
        let blocks = span.blocks();
        let mut pieces = Vec::new();
        let mut extents = false;
        for piece in record.pieces_in(blocks.start, blocks.end) {
            let source = source(&state, key, piece.place)?;
            extents |= matches!(source, Source::Extent(_));
            pieces.push((piece, source));
        }
        let end = pieces.last().map_or(0, |(piece, _)| (piece.end() * BLOCK_BYTES as u32).min(record.length));
        let pin = extents.then(|| self.pin(&mut state));
        Ok(Some(Plan { record, pieces, first: blocks.start, end, _pin: pin }))
    }

    async fn assemble(&self, key: ObjectKey, plan: &Plan, blocks: u32) -> Result<Bytes> {
        let mut out = AlignedBuf::zeroed(blocks as usize);
        let mut reads = Vec::new();
        for (piece, source) in &plan.pieces {
            let at = (piece.first - plan.first) as usize * BLOCK_BYTES;
            match source {
                Source::Journal(segment, offset) => {
                    let into = &mut out[at..at + piece.count as usize * BLOCK_BYTES];
                    read_journal(key, segment, *offset, into)?;
                }
                Source::Extent(start) => reads.push(async move {
                    self.read_extent(key, *start, piece.count).await.map(|buf| (at, piece.count, buf))
                }),
            }
        }
        for (at, count, buf) in futures::future::try_join_all(reads).await? {
            let bytes = count as usize * BLOCK_BYTES;
            out[at..at + bytes].copy_from_slice(&buf[..bytes]);
        }
        Ok(Bytes::from_owner(out))
    }

    async fn read_extent(&self, key: ObjectKey, start: u64, count: u32) -> Result<AlignedBuf> {
        self.blocks.read(start, count).await.map_err(|error| {
            // As good as damaged: another replica may have it.
            StoreError::Corrupt(format!(
                "reading {} from block {start} of shard {} failed: {error}",
                name(key),
                self.number
            ))
        })
    }

    /// Reads one block and checks it against its checksum; damage is noted. The caller holds a pin or the block lies in the journal.
    pub(crate) async fn read_block(
        &self,
        key: ObjectKey,
        block: u32,
        start: u64,
        sum: u32,
    ) -> Result<Vec<u8>> {
        let place = Place::Extent(start);
        let buf = self.noted_at(key, block, place, self.read_extent(key, start, 1).await)?;
        self.noted_at(key, block, place, verify(key, block, &buf[..BLOCK_BYTES], sum))?;
        Ok(buf[..BLOCK_BYTES].to_vec())
    }
}

/// What lies between the pieces of a read, and before the first.
fn holes(first: u32, pieces: &[(Piece, Source)]) -> Vec<(u32, u32)> {
    let mut next = first;
    let mut holes = Vec::new();
    for (piece, _) in pieces {
        if piece.first > next {
            holes.push((next, piece.first - next));
        }
        next = piece.end();
    }
    holes
}

fn source(state: &State, key: ObjectKey, place: Place) -> Result<Source> {
    match place {
        Place::Extent(start) => Ok(Source::Extent(start)),
        Place::Journal { segment, offset } => {
            let file = state.journal.segment(segment).ok_or_else(|| {
                StoreError::Corrupt(format!(
                    "{} refers to journal segment {segment}, which is gone",
                    name(key)
                ))
            })?;
            Ok(Source::Journal(file, offset))
        }
    }
}

impl State {
    /// Reads blocks that lie in the journal and checks them.
    pub(crate) fn read_journal_block(
        &self,
        key: ObjectKey,
        block: u32,
        place: Place,
        sum: u32,
    ) -> Result<Vec<u8>> {
        let Source::Journal(segment, offset) = source(self, key, place)? else {
            return Err(StoreError::Invalid("a block in an extent was asked of the journal".to_owned()));
        };
        let mut data = vec![0; BLOCK_BYTES];
        read_journal(key, &segment, offset, &mut data)?;
        verify(key, block, &data, sum)?;
        Ok(data)
    }
}

fn read_journal(key: ObjectKey, segment: &Segment, offset: u32, into: &mut [u8]) -> Result<()> {
    segment.file.read_at(into, u64::from(offset)).map_err(|error| {
        StoreError::Failed(format!("reading {} from the journal failed: {error}", name(key)))
    })
}

/// Compares a block with its stored checksum.
pub(crate) fn verify(key: ObjectKey, block: u32, data: &[u8], sum: u32) -> Result<()> {
    if block_checksum(key, block, data) == sum {
        return Ok(());
    }
    Err(StoreError::Corrupt(format!("block {block} of {} does not match its stored checksum", name(key))))
}

/// The stored checksums; in holes those of zeroes.
fn checksums(key: ObjectKey, record: &ObjectRecord, first: u32, count: u32) -> Vec<u32> {
    let mut sums = record.sums[first as usize..(first + count) as usize].to_vec();
    let mut next = first;
    let end = first + count;
    let ends = Piece { first: end, count: 0, place: Place::Extent(0) };
    for piece in record.pieces_in(first, end).chain([ends]) {
        for block in next..piece.first {
            sums[(block - first) as usize] = ZERO_BLOCK_CRC ^ block_seed(key, block);
        }
        next = piece.end();
    }
    sums
}

/// CRC-32C of a block of zeroes.
const ZERO_BLOCK_CRC: u32 = 0x98F9_4189;

#[cfg(test)]
mod tests {
    #[test]
    fn crc_of_a_zero_block() {
        assert_eq!(proto::checksum::crc32c(&[0; 4096]), super::ZERO_BLOCK_CRC);
    }
}
