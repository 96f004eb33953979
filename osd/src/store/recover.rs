//! Start: reads the table's position, replays the journal behind it, cuts its tail, rebuilds the free space.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use proto::id::{Ino, ObjectKey, ObjectNo, VolumeId};
use rt::disk::DiskFile;

use super::blocks::BlockIo;
use super::cache::Cache;
use super::checkpoint::decode_position;
use super::env::Env;
use super::error::{Result, StoreError};
use super::journal::{Journal, parse_segment_name, segment_name};
use super::read::verify;
use super::shard::{State, position_key};
use crate::engine::allocator::{Allocator, Run};
use crate::engine::entry::{self, Body, Entry, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::engine::record::{Change, Place};
use crate::failpoint;

/// Objects read at once when the free space is rebuilt.
const SCAN_CHUNK: usize = 1024;

/// A segment as found.
struct Found {
    number: u32,
    file: Arc<dyn DiskFile>,
    first_seq: u64,
    /// With the byte where each starts.
    entries: Vec<(u32, Entry)>,
    /// Where parsing ended, and why when that is not the end of the file.
    end: u32,
    broken: Option<String>,
}

/// Where the journal is cut: this entry and all behind it are not there.
struct Cut {
    segment: u32,
    offset: u32,
    why: String,
}

/// Recovers one shard. `trust_cache` says that the machine did not restart since: what was written is there, synced
/// or not.
pub(crate) fn recover(
    env: &Arc<Env>,
    shard: u16,
    store: u64,
    blocks: &Arc<dyn BlockIo>,
    trust_cache: bool,
) -> Result<State> {
    let position = match env.table.get(&position_key(shard))? {
        Some(row) => decode_position(&row).map_err(|why| {
            StoreError::Corrupt(format!("the journal position of shard {shard} is unreadable: {why}"))
        })?,
        None => 0,
    };
    let mut segments = read_segments(env, shard, store)?;
    let highest = segments.iter().map(|found| found.number).max().unwrap_or(0);
    let cut = find_cut(shard, blocks, &segments, position, trust_cache)?;
    if let Some(cut) = &cut {
        apply_cut(env, shard, &mut segments, cut)?;
    }
    failpoint::hit(failpoint::RECOVERED);
    let failed =
        |error: io::Error| env.health.fail(&format!("reading the data files of shard {shard}"), &error);
    let mut journal = Journal::new(env.disk.clone(), shard, store, env.tuning.segment_bytes);
    journal.next_segment = highest + 1;
    let cache = Cache::new(env.tuning.cached_objects);
    let allocator = Allocator::new(blocks.total().map_err(failed)?);
    let mut state = State::new(shard, journal, cache, allocator);
    (state.seq, state.checkpointed) = (position, position);
    for found in segments {
        let last_seq =
            found.entries.last().map_or(found.first_seq.saturating_sub(1), |(_, entry)| entry.head.seq);
        state.journal.adopt(found.number, found.file, last_seq);
        for (_, entry) in found.entries {
            if entry.head.seq > position {
                state.seq = entry.head.seq;
                state.unsynced_files.insert((entry.head.key.volume, entry.head.key.ino), entry.head.seq);
                replay(env, &mut state, entry)?;
            }
        }
    }
    // Whatever was synced before, the first sync covers all of it.
    state.data_dirty = true;
    state.synced = position;
    rebuild(env, &mut state, blocks)?;
    Ok(state)
}

fn read_segments(env: &Env, shard: u16, store: u64) -> Result<Vec<Found>> {
    let mut numbers: Vec<u32> = env
        .disk
        .list()
        .map_err(|error| StoreError::Failed(format!("listing the files of the store failed: {error}")))?
        .iter()
        .filter_map(|name| parse_segment_name(shard, name))
        .collect();
    numbers.sort_unstable();
    numbers.into_iter().map(|number| read_segment(env, shard, store, number)).collect()
}

fn read_segment(env: &Env, shard: u16, store: u64, number: u32) -> Result<Found> {
    let name = segment_name(shard, number);
    let failed =
        |error: io::Error| StoreError::Failed(format!("reading the journal segment {name} failed: {error}"));
    let file = env.disk.open(&name, false).map_err(failed)?;
    let len =
        usize::try_from(file.len().map_err(failed)?).map_err(|error| failed(io::Error::other(error)))?;
    let mut content = vec![0; len];
    file.read_at(&mut content, 0).map_err(failed)?;
    let mut found = Found { number, file, first_seq: 0, entries: Vec::new(), end: 0, broken: None };
    match SegmentHeader::decode(&content) {
        Ok(header) if header.store == store && header.shard == shard && header.segment == number => {
            found.first_seq = header.first_seq;
            found.end = SEGMENT_HEADER_BYTES;
        }
        Ok(header) => {
            return Err(StoreError::Corrupt(format!(
                "the journal segment {name} belongs elsewhere: {header:?}"
            )));
        }
        Err(why) => {
            found.broken = Some(why);
            return Ok(found);
        }
    }
    while (found.end as usize) < content.len() {
        match entry::decode(&content, number, found.end) {
            Ok(entry) if entry.head.seq == found.first_seq + found.entries.len() as u64 => {
                let bytes = entry.bytes;
                found.entries.push((found.end, entry));
                found.end += bytes;
            }
            Ok(entry) => {
                found.broken = Some(format!("entry {} is out of order", entry.head.seq));
                break;
            }
            Err(why) => {
                found.broken = Some(why);
                break;
            }
        }
    }
    Ok(found)
}

/// Finds the first entry that is not usable. Damage below a known sync mark is no torn tail and is refused.
fn find_cut(
    shard: u16,
    blocks: &Arc<dyn BlockIo>,
    segments: &[Found],
    position: u64,
    trust_cache: bool,
) -> Result<Option<Cut>> {
    let entries = || segments.iter().flat_map(|found| &found.entries);
    let mark = entries().map(|(_, entry)| entry.head.synced).max().unwrap_or(0).max(position);
    let mut expected = position + 1;
    for found in segments {
        let behind = found.entries.last().is_some_and(|(_, entry)| entry.head.seq >= expected)
            || found.broken.is_some();
        if behind && found.first_seq > expected {
            let why = format!("entries {expected} to {} are missing", found.first_seq - 1);
            return cut_at(shard, found, 0, expected, mark, why).map(Some);
        }
        for (offset, entry) in found.entries.iter().filter(|(_, entry)| entry.head.seq > position) {
            if entry.head.seq > mark && !is_usable(blocks, entry, trust_cache)? {
                let why = "its data did not reach the medium".to_owned();
                return cut_at(shard, found, *offset, entry.head.seq, mark, why).map(Some);
            }
            expected = entry.head.seq + 1;
        }
        if let Some(why) = &found.broken {
            let last = found.entries.last().map_or(found.first_seq, |(_, entry)| entry.head.seq + 1);
            // A segment from before the position is only there for its data; its end matters to nobody.
            if found.first_seq > 0 && last <= position {
                continue;
            }
            let offset = if found.entries.is_empty() { 0 } else { found.end };
            return cut_at(shard, found, offset, expected, mark, why.clone()).map(Some);
        }
    }
    Ok(None)
}

fn cut_at(shard: u16, found: &Found, offset: u32, seq: u64, mark: u64, why: String) -> Result<Cut> {
    if seq <= mark {
        return Err(StoreError::Corrupt(format!(
            "the journal of shard {shard} is damaged at entry {seq} ({}, byte {offset}: {why}), but later entries say \
             that it was on disk; restore the file or remove the OSD and let the others rebuild it",
            segment_name(shard, found.number)
        )));
    }
    Ok(Cut { segment: found.number, offset, why })
}

/// Whether the entry's data is there: in the entry, and (after the machine went down) in the extents.
fn is_usable(blocks: &Arc<dyn BlockIo>, entry: &Entry, trust_cache: bool) -> Result<bool> {
    let Body::Update(changes) = &entry.body else { return Ok(true) };
    if !entry.data_intact {
        return Ok(false);
    }
    if trust_cache {
        return Ok(true);
    }
    let total = blocks
        .total()
        .map_err(|error| StoreError::Failed(format!("asking for the data area's size: {error}")))?;
    for change in changes {
        let Some(Place::Extent(start)) = change.place else { continue };
        if start + u64::from(change.count) > total || !extent_intact(blocks, entry, change, start) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn extent_intact(blocks: &Arc<dyn BlockIo>, entry: &Entry, change: &Change, start: u64) -> bool {
    let Ok(data) = futures::executor::block_on(blocks.read(start, change.count)) else { return false };
    (change.first..)
        .zip(data.chunks(proto::limits::BLOCK_BYTES))
        .zip(&change.sums)
        .all(|((block, chunk), sum)| verify(entry.head.key, block, chunk, *sum).is_ok())
}

/// Makes the cut durable before anything is written behind it.
fn apply_cut(env: &Env, shard: u16, segments: &mut Vec<Found>, cut: &Cut) -> Result<()> {
    let failed = |error: io::Error| env.health.fail(&format!("cutting the journal of shard {shard}"), &error);
    let mut kept = Vec::new();
    for mut found in std::mem::take(segments) {
        let gone = found.number > cut.segment || (found.number == cut.segment && cut.offset == 0);
        if gone {
            env.disk.remove(&segment_name(shard, found.number)).map_err(failed)?;
            continue;
        }
        if found.number == cut.segment {
            found.entries.retain(|(offset, _)| *offset < cut.offset);
            found.file.set_len(u64::from(cut.offset)).map_err(failed)?;
            found.file.sync().map_err(failed)?;
        }
        kept.push(found);
    }
    tracing::info!(
        "shard {shard}: the journal ends in segment {} at byte {}: {}",
        cut.segment,
        cut.offset,
        cut.why
    );
    *segments = kept;
    env.disk.sync_dir().map_err(failed)
}

/// Applies an entry to the records, unless the table has it already.
fn replay(env: &Env, state: &mut State, entry: Entry) -> Result<()> {
    let head = entry.head;
    match entry.body {
        Body::Update(changes) => {
            let slot = state.lookup(env, head.key)?;
            if slot.as_ref().is_some_and(|record| record.seq >= head.seq) {
                return Ok(());
            }
            let mut record = slot.as_deref().cloned().unwrap_or_default();
            (record.epoch, record.view, record.version, record.seq) =
                (head.epoch, head.view, head.version, head.seq);
            record.apply(head.length, &changes);
            state.cache.put_dirty(head.key, Some(Arc::new(record)));
        }
        Body::Remove(last) => {
            let mut from = Some(head.key);
            let to = ObjectKey { object: last, ..head.key };
            while let Some(key) = from {
                let (objects, next) = state.list(env, key, to, SCAN_CHUNK)?;
                for (key, record) in objects {
                    if record.seq < head.seq {
                        state.cache.put_dirty(key, None);
                    }
                }
                from = next;
            }
        }
    }
    Ok(())
}

/// Somebody cut or removed a data file: what was in it reads as damaged from now on, and the rest is served.
fn make_up(env: &Env, state: &mut State, blocks: &Arc<dyn BlockIo>, end: u64) -> Result<()> {
    if !env.damage.files_cut.swap(true, Ordering::AcqRel) {
        tracing::error!(
            "the data files of shard {} end before block {end}, which holds data; everything is scrubbed now",
            state.shard
        );
    }
    let failed = |error: io::Error| StoreError::Failed(format!("making up for lost data files: {error}"));
    // In larger steps: objects come in the order of their keys, not of their places.
    let total = end.next_multiple_of(4096);
    blocks.grow(total).map_err(failed)?;
    state.allocator.grow(blocks.total().map_err(failed)?);
    Ok(())
}

/// Counts what the objects use.
fn rebuild(env: &Env, state: &mut State, blocks: &Arc<dyn BlockIo>) -> Result<()> {
    let to = ObjectKey { volume: VolumeId(u64::MAX), ino: Ino(u64::MAX), object: ObjectNo(u64::MAX) };
    let mut from = Some(ObjectKey { volume: VolumeId(0), ino: Ino(0), object: ObjectNo(0) });
    let mut count = 0;
    while let Some(key) = from {
        let (objects, next) = state.list(env, key, to, SCAN_CHUNK)?;
        for (key, record) in objects {
            for piece in &record.pieces {
                let run = Run { start: 0, count: u64::from(piece.count) };
                if let Place::Extent(start) = piece.place
                    && start + run.count > state.allocator.total()
                {
                    make_up(env, state, blocks, start + run.count)?;
                }
                match piece.place {
                    Place::Extent(start) => state.allocator.claim(Run { start, ..run }).map_err(|twice| {
                        StoreError::Corrupt(format!(
                            "the record of {} is wrong: {twice}",
                            super::shard::name(key)
                        ))
                    })?,
                    Place::Journal { segment, .. } => {
                        if state.journal.segment(segment).is_none() {
                            return Err(StoreError::Corrupt(format!(
                                "{} refers to the journal segment {}, which is missing",
                                super::shard::name(key),
                                segment_name(state.shard, segment)
                            )));
                        }
                        state.journal.use_blocks(key, piece.place, piece.count);
                    }
                }
                env.budget.overdraw(run.count);
            }
            count += 1;
        }
        from = next;
    }
    env.objects.fetch_add(count, Ordering::Relaxed);
    Ok(())
}
