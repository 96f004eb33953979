//! Writes, holes and cuts: all are edits of one object that end in one journal entry.
//!
//! A block that an edit covers only in part is read, merged and written whole to the journal. Blocks covered whole
//! go there too, unless there are many: then they go to fresh extents first and the entry only says where.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use proto::checksum::{block_checksum, block_checksums};
use proto::id::{Ino, ObjectKey, ObjectNo, VolumeId};
use proto::limits::BLOCK_BYTES;

use super::blocks::AlignedBuf;
use super::error::{Result, StoreError};
use super::shard::{Committed, Pin, Purpose, Reservation, Shard, Stamp, State, name};
use crate::engine::allocator::Run;
use crate::engine::entry::Part;
use crate::engine::plan::Span;
use crate::engine::record::{ObjectRecord, Place};
use crate::failpoint;

/// Objects removed by one journal entry at most.
const REMOVE_CHUNK: usize = 256;

/// What is done to an object.
pub(crate) enum Edit {
    /// Data at an offset; `sums` are the checksums of its blocks when it starts at a block, else empty.
    Write { offset: u32, data: Bytes, sums: Vec<u32> },
    /// A hole.
    Punch { offset: u32, len: u32 },
    /// The length becomes `keep` if it is more.
    Cut { keep: u32 },
}

/// Whole blocks that lie in fresh extents already.
struct Moved {
    blocks: Range<u32>,
    sums: Vec<u32>,
    reservation: Arc<Reservation>,
    runs: Vec<Run>,
}

/// A block as it was: where, its checksum, its content.
type OldBlock = (Place, u32, Vec<u8>);

/// What an attempt under the lock found.
enum Attempt {
    Done(Option<Committed>),
    /// These blocks must be read from extents first.
    Missing(Vec<(u32, u64, u32)>, Pin),
}

impl Shard {
    /// Runs an edit. `None`: there was nothing to change.
    pub(crate) async fn edit(
        self: &Arc<Self>,
        key: ObjectKey,
        stamp: Stamp,
        edit: &Edit,
    ) -> Result<Option<Committed>> {
        match (edit, self.wait_for_room().await) {
            // What gives room is taken also when the background work finds none.
            (Edit::Punch { .. } | Edit::Cut { .. }, Err(StoreError::NoSpace(_))) => {}
            (_, waited) => waited?,
        }
        let moved = match edit {
            Edit::Write { offset, data, sums } => {
                let purpose = data_of(stamp);
                self.admit(purpose).await?;
                let span = Span::new(*offset, data.len() as u32);
                self.write_extents(key, purpose, span, data, sums).await?
            }
            Edit::Punch { .. } | Edit::Cut { .. } => None,
        };
        let mut old = BTreeMap::new();
        let mut reclaimed = false;
        loop {
            match self.attempt(key, stamp, edit, moved.as_ref(), &old) {
                Ok(Attempt::Done(committed)) => return Ok(committed),
                Ok(Attempt::Missing(blocks, pin)) => {
                    for (block, start, sum) in blocks {
                        let data = self.read_block(key, block, start, sum).await?;
                        old.insert(block, (Place::Extent(start), sum, data));
                    }
                    drop(pin);
                }
                Err(StoreError::NoSpace(_)) if !reclaimed && self.env.reclaim().await => reclaimed = true,
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether data is taken at all; what a checkpoint gives back is waited for.
    pub(crate) async fn admit(&self, purpose: Purpose) -> Result<()> {
        let room = &self.env.room;
        let admit = || if purpose == Purpose::Numbered { room.admit_numbered() } else { room.admit() };
        match admit() {
            Err(StoreError::NoSpace(_)) if self.env.reclaim().await => admit(),
            admitted => admitted,
        }
    }

    /// Puts the whole blocks of a large write into fresh extents.
    async fn write_extents(
        self: &Arc<Self>,
        key: ObjectKey,
        purpose: Purpose,
        span: Span,
        data: &Bytes,
        sums: &[u32],
    ) -> Result<Option<Moved>> {
        let whole = span.whole_blocks();
        if whole.len() * BLOCK_BYTES < self.env.tuning.large_bytes as usize || whole.is_empty() {
            return Ok(None);
        }
        self.env.health.check()?;
        let count = whole.len() as u32;
        let reservation = match self.reserve(count, purpose) {
            Err(StoreError::NoSpace(_)) if self.env.reclaim().await => self.reserve(count, purpose)?,
            other => other?,
        };
        let from = (whole.start * BLOCK_BYTES as u32 - span.offset) as usize;
        let data = AlignedBuf::align(data.slice(from..from + whole.len() * BLOCK_BYTES));
        let sums = match sums.get((whole.start - span.blocks().start) as usize..) {
            Some(sums) if sums.len() >= whole.len() => sums[..whole.len()].to_vec(),
            _ => block_checksums(key, whole.start, &data),
        };
        let runs = self.write_runs(key, &reservation, &data).await?;
        failpoint::hit(failpoint::DATA_WRITTEN);
        Ok(Some(Moved { blocks: whole, sums, reservation, runs }))
    }

    /// Writes `data` into the reserved runs; a failed write fails the store.
    pub(crate) async fn write_runs(
        &self,
        key: ObjectKey,
        reservation: &Arc<Reservation>,
        data: &Bytes,
    ) -> Result<Vec<Run>> {
        let runs = reservation.runs();
        let mut at = 0;
        let mut writes = Vec::with_capacity(runs.len());
        for run in &runs {
            let bytes = run.count as usize * BLOCK_BYTES;
            writes.push(self.blocks.write(run.start, data.slice(at..at + bytes), reservation.clone()));
            at += bytes;
        }
        futures::future::try_join_all(writes).await.map_err(|error| {
            if rt::disk::is_full(&error) {
                // A file system that does not preallocate. Nothing refers to these blocks yet.
                return StoreError::NoSpace(format!(
                    "the file system under the OSD is full when writing {}",
                    name(key)
                ));
            }
            self.env
                .health
                .fail(&format!("writing {} to the data files of shard {}", name(key), self.number), &error)
        })?;
        Ok(runs)
    }

    fn attempt(
        self: &Arc<Self>,
        key: ObjectKey,
        stamp: Stamp,
        edit: &Edit,
        moved: Option<&Moved>,
        old: &BTreeMap<u32, OldBlock>,
    ) -> Result<Attempt> {
        let mut state = self.lock();
        let record = state.lookup(&self.env, key)?;
        let length = record.as_ref().map_or(0, |record| record.length);
        let (span, new_length) = match edit {
            Edit::Write { offset, data, .. } => {
                let span = Span::new(*offset, data.len() as u32);
                (span, length.max(span.end))
            }
            Edit::Punch { offset, len } if *offset < length => {
                (Span { offset: *offset, end: length.min(offset.saturating_add(*len)) }, length)
            }
            Edit::Cut { keep } if *keep < length => (Span { offset: *keep, end: length }, *keep),
            // Nothing to change, but a numbered change leaves its version at every replica.
            Edit::Punch { .. } | Edit::Cut { .. } if stamp.version != 0 => {
                let committed = state.commit(&self.env, key, stamp, Purpose::Relief, length, &[])?;
                return Ok(Attempt::Done(Some(committed)));
            }
            Edit::Punch { .. } | Edit::Cut { .. } => return Ok(Attempt::Done(None)),
        };
        let empty = ObjectRecord::default();
        let record_ref = record.as_deref().unwrap_or(&empty);
        let mut edges = Vec::new();
        let mut missing = Vec::new();
        for block in span.edges().filter(|block| new_length > block * BLOCK_BYTES as u32) {
            let content = old_content(&state, key, record_ref, block, span, length, old);
            match self.noted(key, block, content)? {
                Old::Content(content) => edges.push((block, content)),
                Old::InExtent(start, sum) => missing.push((block, start, sum)),
            }
        }
        if !missing.is_empty() {
            let pin = self.pin(&mut state);
            return Ok(Attempt::Missing(missing, pin));
        }
        let parts = match edit {
            Edit::Write { data, sums, .. } => write_parts(key, span, data, sums, moved, &mut edges),
            Edit::Punch { .. } | Edit::Cut { .. } => hole_parts(key, span, new_length, &mut edges),
        };
        drop(record);
        let purpose = match edit {
            Edit::Write { .. } => data_of(stamp),
            // The edges of what goes: they give more than they take, if not at once.
            Edit::Punch { .. } | Edit::Cut { .. } => Purpose::Relief,
        };
        let committed = state.commit(&self.env, key, stamp, purpose, new_length, &parts)?;
        drop(state);
        if let Some(moved) = moved {
            moved.reservation.keep_all();
        }
        Ok(Attempt::Done(Some(committed)))
    }

    /// Removes all objects of a file from `first` to `last` that this shard has.
    pub(crate) async fn remove_from(
        self: &Arc<Self>,
        volume: VolumeId,
        ino: Ino,
        (first, last): (ObjectNo, ObjectNo),
        stamp: Stamp,
    ) -> Result<()> {
        let mut from = ObjectKey { volume, ino, object: first };
        let to = ObjectKey { object: last, ..from };
        loop {
            let next = {
                let mut state = self.lock();
                let (objects, next) = state.list(&self.env, from, to, REMOVE_CHUNK)?;
                let last = next.map_or(to.object, |next| ObjectNo(next.object.0 - 1));
                state.commit_remove(&self.env, &objects, last, stamp)?;
                next
            };
            let Some(next) = next else { return Ok(()) };
            from = next;
            // Others may have the thread between two chunks.
            tokio::task::yield_now().await;
        }
    }

    async fn wait_for_room(&self) -> Result<()> {
        loop {
            let relieved = self.env.relieved.notified();
            self.env.health.check()?;
            if !self.env.tuning.background || !self.lock().is_overrun(&self.env) {
                return Ok(());
            }
            let stuck = self.env.fold_stuck.lock().clone();
            if let Some(why) = stuck.or_else(|| self.env.checkpoint_stuck.lock().clone()) {
                return Err(why);
            }
            self.env.pressure.notify_one();
            relieved.await;
        }
    }
}

/// What data is that comes with this stamp.
pub(crate) fn data_of(stamp: Stamp) -> Purpose {
    if stamp.version == 0 { Purpose::Data } else { Purpose::Numbered }
}

enum Old {
    Content(Option<Vec<u8>>),
    InExtent(u64, u32),
}

/// The old content of a block at an edge: `None` when nothing of it stays (or it is a hole).
fn old_content(
    state: &State,
    key: ObjectKey,
    record: &ObjectRecord,
    block: u32,
    span: Span,
    length: u32,
    old: &BTreeMap<u32, OldBlock>,
) -> Result<Old> {
    if !span.keeps_old_bytes(block, length) {
        return Ok(Old::Content(None));
    }
    let Some((place, sum)) = record.block(block) else { return Ok(Old::Content(None)) };
    match (place, old.get(&block)) {
        // Read before, and checked against the checksum that it has now: the same content.
        (_, Some((old_place, old_sum, data))) if *old_place == place && *old_sum == sum => {
            Ok(Old::Content(Some(data.clone())))
        }
        (Place::Extent(start), _) => Ok(Old::InExtent(start, sum)),
        (Place::Journal { .. }, _) => {
            Ok(Old::Content(Some(state.read_journal_block(key, block, place, sum)?)))
        }
    }
}

/// The parts of a write: merged edges and whole blocks, ascending.
fn write_parts<'a>(
    key: ObjectKey,
    span: Span,
    data: &'a Bytes,
    sums: &[u32],
    moved: Option<&Moved>,
    edges: &'a mut [(u32, Option<Vec<u8>>)],
) -> Vec<Part<'a>> {
    for (block, content) in edges.iter_mut() {
        let merged = content.get_or_insert_with(|| vec![0; BLOCK_BYTES]);
        merged[span.within(*block)].copy_from_slice(&data[span.of_data(*block)]);
    }
    let whole = span.whole_blocks();
    let mut parts: Vec<Part<'a>> = Vec::with_capacity(4);
    match moved {
        Some(moved) => {
            let mut first = moved.blocks.start;
            let mut sums = moved.sums.as_slice();
            for run in &moved.runs {
                let (here, rest) = sums.split_at(run.count as usize);
                parts.push(Part::Extent { first, sums: here.to_vec(), start: run.start });
                first += run.count as u32;
                sums = rest;
            }
        }
        None if !whole.is_empty() => {
            let from = (whole.start * BLOCK_BYTES as u32 - span.offset) as usize;
            let bytes = &data[from..from + whole.len() * BLOCK_BYTES];
            let known = sums
                .get((whole.start - span.blocks().start) as usize..)
                .filter(|sums| sums.len() >= whole.len());
            let sums = known.map_or_else(
                || block_checksums(key, whole.start, bytes),
                |sums| sums[..whole.len()].to_vec(),
            );
            parts.push(Part::Inline { first: whole.start, sums, data: bytes });
        }
        None => {}
    }
    for (block, content) in edges.iter() {
        let content = content.as_deref().unwrap_or_default();
        let part =
            Part::Inline { first: *block, sums: vec![block_checksum(key, *block, content)], data: content };
        let at = if *block < whole.start { 0 } else { parts.len() };
        parts.insert(at, part);
    }
    parts
}

/// The parts of a hole: zeroed edges and whole blocks that go. Edges that keep nothing become holes.
fn hole_parts<'a>(
    key: ObjectKey,
    span: Span,
    new_length: u32,
    edges: &'a mut [(u32, Option<Vec<u8>>)],
) -> Vec<Part<'a>> {
    for (block, content) in edges.iter_mut() {
        if let Some(content) = content {
            content[span.within(*block)].fill(0);
        }
    }
    let whole = span.whole_blocks();
    let whole_end = whole.end.min(new_length.div_ceil(BLOCK_BYTES as u32));
    let mut parts = Vec::with_capacity(3);
    if whole.start < whole_end {
        parts.push(Part::Hole { first: whole.start, count: whole_end - whole.start });
    }
    for (block, content) in edges.iter() {
        match content {
            Some(content) => {
                parts.push(Part::Inline {
                    first: *block,
                    sums: vec![block_checksum(key, *block, content)],
                    data: content,
                });
            }
            None => parts.push(Part::Hole { first: *block, count: 1 }),
        }
    }
    parts
}
