//! What replication needs of the store: versions of a column's objects, whole copies, the column's record, losses.
//!
//! The record of a column is an object of length 0 with the number [`RECORDS`] + column: its epoch is the adopted one,
//! its version the losses at that time + 1. So it is journalled, synced and removed with the file's objects.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use proto::checksum::block_checksum;
use proto::id::{Ino, ObjectKey, ObjectNo, VolumeId};
use proto::limits::BLOCK_BYTES;
use rt::disk::Disk;

use super::blocks::AlignedBuf;
use super::error::{Result, StoreError};
use super::shard::{Committed, Purpose, Shard, Stamp, name};
use super::write::data_of;
use super::{LOSSES, Store};
use crate::engine::entry::Part;
use crate::engine::record::{ObjectRecord, blocks_of};

/// The first object number that names the record of a column. Files end far below: 2^63 bytes of the smallest stripes.
pub(crate) const RECORDS: u64 = 1 << 63;

/// A whole object on its way from one replica to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Copied {
    /// Length, bytes.
    pub bytes: u32,
    /// (first block, blocks) of each run of data, ascending.
    pub runs: Vec<(u32, u32)>,
    /// Checksum of each block of `data`.
    pub sums: Vec<u32>,
    /// The blocks of the runs, whole.
    pub data: Bytes,
}

/// The record of a column.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Kept {
    /// The epoch adopted last.
    pub adopted: u64,
    /// View of the layout then.
    pub view: u64,
    /// The machine ended uncleanly since: what was acknowledged may be forgotten.
    pub doubtful: bool,
}

impl Copied {
    /// Refuses what contradicts itself or its checksums.
    pub fn check(self, key: ObjectKey) -> Result<Self> {
        let bad = |what: &str| Err(StoreError::Corrupt(format!("the copy of {} {what}", name(key))));
        let mut next = 0;
        let mut blocks = Vec::with_capacity(self.sums.len());
        for (first, count) in &self.runs {
            let end = first.checked_add(*count).filter(|end| *end <= blocks_of(self.bytes) && *first >= next);
            let Some(end) = end.filter(|_| *count > 0) else { return bad("has runs out of order") };
            // Bounded by the length, which is bounded by the largest stripe.
            if blocks.len() + *count as usize > self.sums.len() {
                return bad("has fewer checksums than blocks");
            }
            blocks.extend(*first..end);
            next = end;
        }
        if blocks.len() != self.sums.len() || self.data.len() != blocks.len() * BLOCK_BYTES {
            return bad("has another size than its runs say");
        }
        for ((block, data), sum) in blocks.iter().zip(self.data.chunks(BLOCK_BYTES)).zip(&self.sums) {
            if block_checksum(key, *block, data) != *sum {
                return bad("was damaged on the way");
            }
        }
        Ok(self)
    }
}

impl Store {
    /// (epoch, version) of an object; zeroes when there is none.
    pub fn stamp_of(&self, key: ObjectKey) -> Result<(u64, u64)> {
        let slot = self.shard(key).lock().lookup(&self.env, key)?;
        Ok(slot.map_or((0, 0), |record| (record.epoch, record.version)))
    }

    /// The record of an object; `None` when there is none.
    pub fn record_of(&self, key: ObjectKey) -> Result<Option<Arc<ObjectRecord>>> {
        self.shard(key).lock().lookup(&self.env, key)
    }

    /// All objects of a column, ascending.
    pub fn list_column(
        &self,
        volume: VolumeId,
        ino: Ino,
        (column, width): (u64, u64),
    ) -> Result<Vec<(ObjectNo, Arc<ObjectRecord>)>> {
        const ALL: usize = 1 << 40;
        let (mut objects, _) = self.list(volume, ino, ObjectNo(0), ALL)?;
        objects.retain(|(object, _)| object.0 % width.max(1) == column);
        Ok(objects)
    }

    /// The record of a column.
    pub fn column(&self, volume: VolumeId, ino: Ino, column: u64) -> Result<Kept> {
        let key = ObjectKey { volume, ino, object: ObjectNo(RECORDS + column) };
        let kept = self.record_of(key)?;
        Ok(kept.map_or(Kept { doubtful: self.losses > 0, ..Kept::default() }, |record| Kept {
            adopted: record.epoch,
            view: record.view,
            doubtful: record.version != self.losses + 1,
        }))
    }

    /// Writes down that a column's epoch is adopted.
    pub fn adopt(&self, volume: VolumeId, ino: Ino, column: u64, epoch: u64, view: u64) -> Result<()> {
        let key = ObjectKey { volume, ino, object: ObjectNo(RECORDS + column) };
        let stamp = Stamp { epoch, view, version: self.losses + 1 };
        self.shard(key).lock().commit(&self.env, key, stamp, Purpose::Relief, 0, &[]).map(drop)
    }

    /// Writes down, on the medium, that nothing of an older view is accepted any more. What else the record says stays.
    pub async fn promise_view(&self, volume: VolumeId, ino: Ino, column: u64, view: u64) -> Result<()> {
        let key = ObjectKey { volume, ino, object: ObjectNo(RECORDS + column) };
        let committed = {
            let mut state = self.shard(key).lock();
            let before = state.lookup(&self.env, key)?;
            if before.as_ref().is_some_and(|record| record.view >= view) {
                return Ok(());
            }
            // Without a record an OSD that has lost something is doubtful, and stays so.
            let (epoch, version) = before.map_or_else(
                || (0, if self.losses > 0 { self.losses } else { 1 }),
                |record| (record.epoch, record.version),
            );
            state.commit(&self.env, key, Stamp { epoch, view, version }, Purpose::Relief, 0, &[])?
        };
        self.sync_object(key, committed.seq).await
    }

    /// The newest view that any column of a file was promised in; 0: none.
    pub fn highest_view(&self, volume: VolumeId, ino: Ino) -> Result<u64> {
        let mut highest = 0;
        for shard in &self.shards {
            let mut from = Some(ObjectKey { volume, ino, object: ObjectNo(RECORDS) });
            let to = ObjectKey { volume, ino, object: ObjectNo(u64::MAX) };
            while let Some(key) = from {
                let (records, next) = shard.lock().list(&self.env, key, to, 64)?;
                highest = records.iter().map(|(_, record)| record.view).fold(highest, u64::max);
                from = next;
            }
        }
        Ok(highest)
    }

    /// A whole object with its (epoch, version); `None` when there is none.
    pub async fn copy(&self, key: ObjectKey) -> Result<Option<((u64, u64), Copied)>> {
        let Some((record, data)) = self.shard(key).copy(key).await? else { return Ok(None) };
        let mut runs: Vec<(u32, u32)> = Vec::new();
        let mut sums = Vec::new();
        for piece in &record.pieces {
            sums.extend_from_slice(&record.sums[piece.first as usize..piece.end() as usize]);
            match runs.last_mut() {
                Some((first, count)) if *first + *count == piece.first => *count += piece.count,
                _ => runs.push((piece.first, piece.count)),
            }
        }
        let copied = Copied { bytes: record.length, runs, sums, data };
        Ok(Some(((record.epoch, record.version), copied)))
    }

    /// Makes an object what `copied` says, at once; `None`: there is none any more.
    pub async fn install(&self, key: ObjectKey, stamp: Stamp, copied: Option<&Copied>) -> Result<()> {
        let shard = self.shard(key);
        let Some(copied) = copied else {
            let mut state = shard.lock();
            let Some(record) = state.lookup(&self.env, key)? else { return Ok(()) };
            return state.commit_remove(&self.env, &[(key, record)], key.object, stamp);
        };
        let all = [(0, blocks_of(copied.bytes))];
        shard.put(key, stamp, copied, &all, None).await.map(drop)
    }

    /// Whether the store takes nothing more because its medium failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.env.health.check().is_err()
    }

    /// Makes sure of room for a change of some bytes, which is about to be numbered: then it must not fail. The room is promised to
    /// nobody else until the answer is dropped.
    pub(crate) async fn promise_room(&self, key: ObjectKey, bytes: u64) -> Result<Promise<'_>> {
        match self.try_promise(key, bytes) {
            Err(StoreError::NoSpace(_)) if self.env.reclaim().await => self.try_promise(key, bytes),
            found => found,
        }
    }

    fn try_promise(&self, key: ObjectKey, bytes: u64) -> Result<Promise<'_>> {
        let blocks = bytes.div_ceil(4096);
        // First taken and then looked, so that two that come at once see one another.
        let promised = self.env.promised.fetch_add(blocks, Ordering::AcqRel) + blocks;
        let promise = Promise { promised: &self.env.promised, blocks };
        self.has_room(key, promised)?;
        Ok(promise)
    }

    fn has_room(&self, key: ObjectKey, promised: u64) -> Result<()> {
        let budget = &self.env.budget;
        // The other replicas may be a little fuller.
        let wanted = (budget.limit() / 64).min(16_384) + promised;
        if budget.limit().saturating_sub(budget.used()) <= wanted {
            return Err(StoreError::NoSpace(format!(
                "the OSD is nearly full: {} of {} bytes are in use",
                budget.used() * 4096,
                budget.limit() * 4096
            )));
        }
        self.env.room.admit()?;
        self.shard(key).lock().has_place_to_promise(&self.env, wanted)
    }
}

/// Room for what is being numbered, until it is dropped.
pub(crate) struct Promise<'a> {
    promised: &'a AtomicU64,
    blocks: u64,
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        self.promised.fetch_sub(self.blocks, Ordering::AcqRel);
    }
}

impl Shard {
    /// Replaces some blocks of an object, or all, by one entry: what of `changed` is not in the runs becomes holes.
    /// `only_if`: the object has this version and nothing damaged, otherwise the answer is `None`; and whether `changed`
    /// holds all that changed since then.
    pub(crate) async fn put(
        self: &Arc<Self>,
        key: ObjectKey,
        stamp: Stamp,
        copied: &Copied,
        changed: &[(u32, u32)],
        only_if: Option<((u64, u64), bool)>,
    ) -> Result<Option<Committed>> {
        self.env.health.check()?;
        let purpose = if copied.data.is_empty() { Purpose::Relief } else { data_of(stamp) };
        if purpose != Purpose::Relief {
            // A whole copy, or much of one: only what is numbered one by one may take of the reserve.
            self.admit(Purpose::Data).await?;
        }
        let large = copied.data.len() >= self.env.tuning.large_bytes as usize;
        let moved = if large {
            let reservation = self.reserve(copied.sums.len() as u32, purpose)?;
            let places = self.write_runs(key, &reservation, &AlignedBuf::align(copied.data.clone())).await?;
            Some((reservation, places))
        } else {
            None
        };
        // Where each block lies, in the order of the data.
        let places: Option<Vec<u64>> = moved
            .as_ref()
            .map(|(_, runs)| runs.iter().flat_map(|run| run.start..run.start + run.count).collect());
        let parts = parts(copied, changed, places.as_deref());
        let mut state = self.lock();
        if let Some((base, _)) = only_if {
            let here = state.lookup(&self.env, key)?.map(|record| (record.epoch, record.version));
            if here != Some(base) || self.env.damage.has(key) {
                return Ok(None);
            }
        }
        let committed = state.commit(&self.env, key, stamp, purpose, copied.bytes, &parts)?;
        if only_if.is_none_or(|(_, all)| !all) {
            // Of versions between the one before and this one nothing is known.
            state.trails.forget(&key);
        }
        drop(state);
        if let Some((reservation, _)) = moved {
            reservation.keep_all();
        }
        Ok(Some(committed))
    }
}

/// The parts of an entry that gives the changed blocks their content; `places`: where each block of the data lies already.
fn parts<'a>(copied: &'a Copied, changed: &[(u32, u32)], places: Option<&[u64]>) -> Vec<Part<'a>> {
    let mut parts: Vec<Part<'a>> = Vec::new();
    let mut runs = copied.runs.iter().peekable();
    let mut at = 0;
    for (first, count) in changed {
        let (mut next, end) = (*first, first + count);
        while let Some((run, count)) = runs.next_if(|(run, _)| *run < end) {
            if next < *run {
                parts.push(Part::Hole { first: next, count: run - next });
            }
            let blocks = *count as usize;
            let sums = &copied.sums[at..at + blocks];
            match places {
                Some(places) => {
                    for ((block, sum), start) in (*run..).zip(sums).zip(&places[at..at + blocks]) {
                        extend(&mut parts, block, *sum, *start);
                    }
                }
                None => {
                    let data = &copied.data[at * BLOCK_BYTES..(at + blocks) * BLOCK_BYTES];
                    parts.push(Part::Inline { first: *run, sums: sums.to_vec(), data });
                }
            }
            (next, at) = (run + count, at + blocks);
        }
        if next < end {
            parts.push(Part::Hole { first: next, count: end - next });
        }
    }
    parts
}

fn extend(parts: &mut Vec<Part<'_>>, block: u32, sum: u32, place: u64) {
    if let Some(Part::Extent { first, sums, start }) = parts.last_mut() {
        let count = sums.len() as u32;
        if *first + count == block && *start + u64::from(count) == place {
            sums.push(sum);
            return;
        }
    }
    parts.push(Part::Extent { first: block, sums: vec![sum], start: place });
}

/// Counts the ends of the machine that nobody prepared; `lost`: this start follows an end of the machine.
pub(super) fn count_losses(disk: &dyn Disk, lost: bool) -> Result<u64> {
    let failed = |error: std::io::Error| StoreError::opening(&format!("{LOSSES} of the OSD"), &error);
    let content = rt::disk::read(disk, LOSSES).map_err(failed)?;
    let text = content.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let mut words = text.split_whitespace();
    let before: u64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    let clean = words.next() == Some("clean");
    let losses = before + u64::from(lost && !clean);
    if losses != before || clean || content.is_none() {
        rt::disk::replace(disk, LOSSES, format!("{losses} open\n").as_bytes()).map_err(failed)?;
    }
    Ok(losses)
}

/// Everything is on the medium: the next start has lost nothing, whatever happens to the machine.
pub(super) fn ended_cleanly(disk: &dyn Disk, losses: u64) -> Result<()> {
    rt::disk::replace(disk, LOSSES, format!("{losses} clean\n").as_bytes())
        .map_err(|error| StoreError::Failed(format!("{LOSSES} of the OSD: {error}")))
}
