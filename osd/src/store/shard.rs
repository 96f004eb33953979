//! A shard: the objects of one hash class with their own journal, data area, allocator and lock.
//!
//! Every change goes one way: [`State::commit`] writes the journal entry, then applies it to the record in
//! memory. The table hears of it at the next checkpoint.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::{Mutex, MutexGuard};
use proto::id::{Ino, ObjectKey, ObjectNo, VolumeId};

use super::blocks::BlockIo;
use super::cache::{Cache, Slot};
use super::env::Env;
use super::error::{Result, StoreError};
use super::journal::Journal;
use super::replica::RECORDS;
use super::room::Room;
use super::sync::SyncGroup;
use crate::engine::allocator::{Allocator, Run};
use crate::engine::entry::{self, EntryHead, Part};
use crate::engine::record::{Change, ObjectRecord, Piece, Place, blocks_of};
use crate::engine::trail::Trails;
use crate::failpoint;

/// Under which map epoch and layout view a change is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stamp {
    /// Map epoch.
    pub epoch: u64,
    /// Layout view.
    pub view: u64,
    /// The version that the object gets; 0: the next one. Replicated columns give their own.
    pub version: u64,
}

/// What a change led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Committed {
    /// The object's version.
    pub version: u64,
    /// The journal's sequence: what to sync for durability.
    pub seq: u64,
}

/// For what a change is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// New data: it needs room, and leaves alone what is kept for the others.
    Data,
    /// Data that its column's primary has numbered, so that somebody has it already: it may take of the floor and a part of the
    /// reserve, for a column whose members do not agree serves nobody.
    Numbered,
    /// A change that takes little and must go on when the disk is full: cuts, holes, removals, records of columns.
    Relief,
    /// What is stored already goes elsewhere. The object's version stays.
    Move,
}

/// A data area grows at once by this part of what there is at most.
const GROW_PART: u64 = 4;
/// Objects of a shard whose last changes are remembered at least.
const TRAILS: usize = 8 << 10;

/// Objects, and where to go on when there may be more.
pub(crate) type Listing = (Vec<(ObjectKey, Arc<ObjectRecord>)>, Option<ObjectKey>);

/// See the module.
pub(crate) struct Shard {
    pub(crate) number: u16,
    pub(crate) env: Arc<Env>,
    pub(crate) blocks: Arc<dyn BlockIo>,
    /// order: before `SyncGroup` and `Health`; never held over an await.
    state: Mutex<State>,
    pub(crate) sync: SyncGroup,
}

/// What the shard's lock guards.
pub(crate) struct State {
    pub(crate) shard: u16,
    pub(crate) journal: Journal,
    pub(crate) cache: Cache,
    pub(crate) allocator: Allocator,
    /// Freed runs with the entry that freed them: reusable when the table has durably reached that entry and no
    /// reader that began before it is left.
    pub(crate) freed: VecDeque<(u64, Run)>,
    /// Blocks in `freed`.
    pub(crate) freed_blocks: u64,
    /// Readers of extents by the sequence at which they looked.
    pub(crate) readers: BTreeMap<u64, u32>,
    /// Last entry.
    pub(crate) seq: u64,
    /// Everything up to here is on the medium.
    pub(crate) synced: u64,
    /// The table durably holds everything up to here.
    pub(crate) checkpointed: u64,
    /// Files with unsynced entries, and their last.
    pub(crate) unsynced_files: BTreeMap<(VolumeId, Ino), u64>,
    /// Extents were written since the data area was last synced.
    pub(crate) data_dirty: bool,
    /// What changed in replicated objects lately.
    pub(crate) trails: Trails<ObjectKey>,
    buffer: Vec<u8>,
}

/// The key of an object's row.
pub(crate) fn row_key(shard: u16, key: ObjectKey) -> [u8; 27] {
    let mut row = [b'o'; 27];
    row[1..3].copy_from_slice(&shard.to_be_bytes());
    row[3..].copy_from_slice(&key.to_bytes());
    row
}

/// The key of a shard's position row.
pub(crate) fn position_key(shard: u16) -> [u8; 3] {
    let [high, low] = shard.to_be_bytes();
    [b'p', high, low]
}

/// Turns a row back; the error names the object.
pub(crate) fn parse_row(key: ObjectKey, row: &[u8]) -> Result<ObjectRecord> {
    ObjectRecord::decode(row)
        .map_err(|why| StoreError::Corrupt(format!("the record of {} is unreadable: {why}", name(key))))
}

/// The next key.
fn successor(key: ObjectKey) -> ObjectKey {
    let (object, carry) = key.object.0.overflowing_add(1);
    let (ino, carry) = key.ino.0.overflowing_add(u64::from(carry));
    ObjectKey { volume: VolumeId(key.volume.0 + u64::from(carry)), ino: Ino(ino), object: ObjectNo(object) }
}

/// An object for people.
pub(crate) fn name(key: ObjectKey) -> String {
    format!("{}/{}/{}", key.volume, key.ino, key.object)
}

impl State {
    pub(crate) fn new(shard: u16, journal: Journal, cache: Cache, allocator: Allocator) -> Self {
        Self {
            shard,
            journal,
            cache,
            allocator,
            freed: VecDeque::new(),
            freed_blocks: 0,
            readers: BTreeMap::new(),
            seq: 0,
            synced: 0,
            checkpointed: 0,
            unsynced_files: BTreeMap::new(),
            data_dirty: false,
            trails: Trails::new(TRAILS),
            buffer: Vec::new(),
        }
    }

    /// The object's record, from memory or the table.
    pub(crate) fn lookup(&mut self, env: &Env, key: ObjectKey) -> Result<Slot> {
        if let Some(slot) = self.cache.get(key) {
            return Ok(slot);
        }
        let slot = match env.table.get(&row_key(self.shard, key))? {
            Some(row) => Some(Arc::new(parse_row(key, &row)?)),
            None => None,
        };
        self.cache.put_clean(key, slot.clone());
        Ok(slot)
    }

    /// Objects of `from..=to`, ascending, about `limit` of them; and where to go on when there may be more.
    pub(crate) fn list(
        &mut self,
        env: &Env,
        from: ObjectKey,
        to: ObjectKey,
        limit: usize,
    ) -> Result<Listing> {
        let mut end = row_key(self.shard, to).to_vec();
        end.push(0);
        let rows = env.table.scan(&row_key(self.shard, from), &end, limit)?;
        let full = rows.len() == limit;
        let mut found = BTreeMap::new();
        let mut bound = to;
        for (row, value) in rows {
            let key = ObjectKey::from_bytes(&row[3..]).ok_or_else(|| {
                StoreError::Corrupt("a row of the metadata table has a key of a wrong length".to_owned())
            })?;
            found.insert(key, value);
            if full {
                bound = key;
            }
        }
        let mut objects = BTreeMap::new();
        for (key, value) in found {
            objects.insert(key, Arc::new(parse_row(key, &value)?));
        }
        for (key, slot) in self.cache.dirty_in(from..=bound) {
            match slot {
                Some(record) => objects.insert(key, record),
                None => objects.remove(&key),
            };
        }
        let next = (full && bound < to).then(|| successor(bound));
        Ok((objects.into_iter().collect(), next))
    }

    /// Writes the entry for `parts` and applies it.
    pub(crate) fn commit(
        &mut self,
        env: &Env,
        key: ObjectKey,
        stamp: Stamp,
        purpose: Purpose,
        length: u32,
        parts: &[Part<'_>],
    ) -> Result<Committed> {
        env.health.check()?;
        let bump = purpose != Purpose::Move;
        let before = self.lookup(env, key)?;
        let seq = self.seq + 1;
        let old_version = before.as_ref().map(|record| record.version);
        let version = match old_version {
            _ if bump && stamp.version != 0 => stamp.version,
            Some(version) if bump => version + 1,
            Some(version) => version,
            // A new object continues above any version that an earlier object of this key can have had.
            None => seq,
        };
        let inline: u64 = parts.iter().map(|part| u64::from(part.inline_blocks())).sum();
        match purpose {
            Purpose::Data => {
                self.has_place_for(env, inline)?;
                env.budget.reserve(inline)?;
            }
            Purpose::Numbered => env.budget.reserve(inline)?,
            Purpose::Relief | Purpose::Move => env.budget.overdraw(inline),
        }
        let head = EntryHead {
            seq,
            synced: self.synced,
            key,
            epoch: stamp.epoch,
            view: stamp.view,
            version,
            length,
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = self.journalled(env, (key, purpose), |journal| {
            let (segment, offset) = journal.place(seq)?;
            buffer.clear();
            let changes = entry::encode_update(&head, parts, segment, offset, &mut buffer);
            journal.append(seq, &buffer)?;
            Ok((changes, buffer.len()))
        });
        buffer.shrink_to(1 << 20);
        self.buffer = buffer;
        let changes = written.inspect_err(|_| env.budget.release(inline))?;
        self.seq = seq;
        self.data_dirty |= parts.iter().any(|part| matches!(part, Part::Extent { .. }));
        if before.is_none() {
            env.objects.fetch_add(1, Ordering::Relaxed);
        }
        // With the cache's reference gone the record is changed in place, unless a reader holds it.
        self.cache.take(key);
        let mut record = before.unwrap_or_default();
        if bump {
            self.trace(key, stamp, &record, length, &changes);
        }
        let change = Arc::make_mut(&mut record);
        (change.epoch, change.view, change.version, change.seq) = (stamp.epoch, stamp.view, version, seq);
        let gone = change.apply(length, &changes);
        for change in &changes {
            if let Some(place) = change.place {
                self.journal.use_blocks(key, place, change.count);
            }
        }
        self.free(env, &gone, seq);
        env.damage.overwritten(key, length, parts);
        self.cache.put_dirty(key, Some(record));
        self.unsynced_files.insert((key.volume, key.ino), seq);
        failpoint::hit(failpoint::APPLIED);
        self.tell_pressure(env);
        Ok(Committed { version, seq })
    }

    /// Remembers what a change touches: all that a replica without it lacks.
    fn trace(
        &mut self,
        key: ObjectKey,
        stamp: Stamp,
        before: &ObjectRecord,
        length: u32,
        changes: &[Change],
    ) {
        if stamp.version == 0 {
            // The versions of files with one copy say nothing about bytes elsewhere.
            self.trails.forget(&key);
        } else if key.object.0 < RECORDS {
            let gone = (blocks_of(length), blocks_of(before.length));
            let touched =
                changes.iter().map(|change| (change.first, change.first + change.count)).chain([gone]);
            let to = (stamp.epoch, stamp.version);
            self.trails.step(key, (before.epoch, before.version), to, touched);
        }
    }

    /// Removes the given objects, all of one file and all that the shard has from the first to `last`.
    pub(crate) fn commit_remove(
        &mut self,
        env: &Env,
        objects: &[(ObjectKey, Arc<ObjectRecord>)],
        last: ObjectNo,
        stamp: Stamp,
    ) -> Result<()> {
        env.health.check()?;
        let Some((first, _)) = objects.first() else { return Ok(()) };
        let seq = self.seq + 1;
        let head = EntryHead {
            seq,
            synced: self.synced,
            key: *first,
            epoch: stamp.epoch,
            view: stamp.view,
            version: 0,
            length: 0,
        };
        let mut buffer = Vec::new();
        entry::encode_remove(&head, last, &mut buffer);
        self.journalled(env, (*first, Purpose::Relief), |journal| {
            journal.place(seq)?;
            journal.append(seq, &buffer)?;
            Ok(((), buffer.len()))
        })?;
        self.seq = seq;
        for (key, record) in objects {
            self.free(env, &record.pieces, seq);
            env.damage.removed(*key);
            self.trails.forget(key);
            self.cache.put_dirty(*key, None);
        }
        env.objects.fetch_sub(objects.len() as u64, Ordering::Relaxed);
        self.unsynced_files.insert((first.volume, first.ino), seq);
        failpoint::hit(failpoint::APPLIED);
        self.tell_pressure(env);
        Ok(())
    }

    fn free(&mut self, env: &Env, pieces: &[Piece], seq: u64) {
        for piece in pieces {
            match piece.place {
                Place::Extent(start) => {
                    let run = Run { start, count: u64::from(piece.count) };
                    self.freed_blocks += run.count;
                    env.freed_waiting.fetch_add(run.count, Ordering::AcqRel);
                    self.freed.push_back((seq, run));
                }
                Place::Journal { .. } => {
                    self.journal.free_blocks(piece, seq);
                    env.budget.release(u64::from(piece.count));
                }
            }
        }
    }

    /// Writes an entry. For what must go on there is the reserve.
    fn journalled<T>(
        &mut self,
        env: &Env,
        (key, purpose): (ObjectKey, Purpose),
        mut write: impl FnMut(&mut Journal) -> io::Result<(T, usize)>,
    ) -> Result<T> {
        let more = || match purpose {
            Purpose::Data => false,
            Purpose::Numbered => env.room.give_up_for_numbered(),
            Purpose::Relief | Purpose::Move => env.room.give_up(),
        };
        loop {
            match write(&mut self.journal) {
                Ok((done, bytes)) => {
                    env.journalled.fetch_add(bytes as u64, Ordering::AcqRel);
                    env.room.took(bytes as u64);
                    return Ok(done);
                }
                Err(error) if rt::disk::is_full(&error) && more() => {}
                Err(error) => return Err(self.journal_failed(env, key, &error)),
            }
        }
    }

    /// Whether data that goes to the journal will find a place in the data area when it is folded.
    pub(crate) fn has_place_for(&self, env: &Env, blocks: u64) -> Result<()> {
        self.has_place(env, blocks, Room::growable)
    }

    /// Whether data that is to be numbered finds a place, here and with members that are as full as this OSD.
    pub(crate) fn has_place_to_promise(&self, env: &Env, blocks: u64) -> Result<()> {
        self.has_place(env, blocks, Room::promisable)
    }

    fn has_place(&self, env: &Env, blocks: u64, growable: impl Fn(&Room) -> u64) -> Result<()> {
        let place = || self.allocator.free() + self.freed_blocks + growable(&env.room) / 4096;
        if blocks == 0 || self.journal.live + blocks <= place() {
            return Ok(());
        }
        env.room.look();
        if self.journal.live + blocks <= place() {
            return Ok(());
        }
        Err(StoreError::NoSpace(format!(
            "the file system under the OSD is full: shard {} has no place for {blocks} blocks more",
            self.shard
        )))
    }

    fn journal_failed(&self, env: &Env, key: ObjectKey, error: &io::Error) -> StoreError {
        if rt::disk::is_full(error) {
            return StoreError::NoSpace(format!(
                "no room for the journal of the OSD when writing {}",
                name(key)
            ));
        }
        env.health.fail(&format!("writing the journal of shard {}", self.shard), error)
    }

    /// Whether the background engine has something to do that should not wait.
    pub(crate) fn is_pressed(&self, env: &Env) -> bool {
        let tuning = &env.tuning;
        self.journal.live * 4096 > tuning.fold_bytes || self.wants_checkpoint(env)
    }

    pub(crate) fn wants_checkpoint(&self, env: &Env) -> bool {
        let tuning = &env.tuning;
        self.cache.dirty_count() > tuning.dirty_objects
            || self.journal.since_checkpoint > tuning.checkpoint_bytes
            || (self.journal.since_checkpoint > tuning.checkpoint_bytes / 4 && env.room.is_tight())
            || self.freed_blocks > (env.budget.limit() / 16).max(256)
            || self.unsynced_files.len() > 4 * tuning.dirty_objects
    }

    fn tell_pressure(&self, env: &Env) {
        if self.is_pressed(env) {
            env.pressure.notify_one();
        }
    }

    /// Far beyond what the background engine should let grow: writers wait for it.
    pub(crate) fn is_overrun(&self, env: &Env) -> bool {
        let tuning = &env.tuning;
        self.journal.live * 4096 > 4 * tuning.fold_bytes
            || self.cache.dirty_count() > 4 * tuning.dirty_objects
            || self.journal.since_checkpoint > 4 * tuning.checkpoint_bytes
    }
}

impl Shard {
    pub(crate) fn new(env: Arc<Env>, blocks: Arc<dyn BlockIo>, state: State) -> Arc<Self> {
        Arc::new_cyclic(|shard| Self {
            number: state.shard,
            sync: SyncGroup::start(state.shard, shard.clone()),
            env,
            blocks,
            state: Mutex::new(state),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Keeps extents that are referred to now from being reused until the pin is dropped.
    pub(crate) fn pin(self: &Arc<Self>, state: &mut State) -> Pin {
        *state.readers.entry(state.seq).or_default() += 1;
        Pin { shard: self.clone(), seq: state.seq }
    }

    /// Takes fresh blocks of the data area, growing it when needed.
    pub(crate) fn reserve(self: &Arc<Self>, count: u32, purpose: Purpose) -> Result<Arc<Reservation>> {
        let count = u64::from(count);
        match purpose {
            Purpose::Data | Purpose::Numbered => self.env.budget.reserve(count)?,
            Purpose::Relief | Purpose::Move => self.env.budget.overdraw(count),
        }
        let mut state = self.lock();
        let taken = match state.allocator.take(count) {
            Some(runs) => Ok(runs),
            None => self.grow(&mut state, count, purpose),
        };
        drop(state);
        match taken {
            Ok(runs) => Ok(Arc::new(Reservation { shard: self.clone(), runs: Mutex::new(runs) })),
            Err(error) => {
                self.env.budget.release(count);
                Err(error)
            }
        }
    }

    /// Data that is stored already may take of the floor. Not of the reserve: it can stay where it is.
    fn grow(&self, state: &mut State, count: u64, purpose: Purpose) -> Result<Vec<Run>> {
        let room = &self.env.room;
        let total = state.allocator.total();
        let missing = count - state.allocator.free();
        room.look();
        let growable = room.growable() / 4096;
        if purpose == Purpose::Data && growable < missing {
            return Err(StoreError::NoSpace(format!(
                "the file system under the OSD is full: the data area of shard {} may grow by {} bytes, the write needs {}",
                self.number,
                growable * 4096,
                missing * 4096
            )));
        }
        // What one shard takes beyond what it needs the others have not.
        let spare = growable / (GROW_PART * room.sharers());
        let mut step = (self.env.tuning.grow_bytes / 4096).min(spare).max(missing);
        loop {
            match self.blocks.grow(total + step) {
                Ok(()) => break,
                Err(error) if rt::disk::is_full(&error) && step > missing => {
                    step = (step / 2).max(missing);
                }
                Err(error)
                    if rt::disk::is_full(&error)
                        && purpose == Purpose::Numbered
                        && room.give_up_for_numbered() => {}
                Err(error) if rt::disk::is_full(&error) => {
                    return Err(StoreError::NoSpace(format!(
                        "the file system under the OSD is full: the data area of shard {} cannot grow by {} bytes",
                        self.number,
                        step * 4096
                    )));
                }
                Err(error) => {
                    return Err(self
                        .env
                        .health
                        .fail(&format!("growing the data area of shard {}", self.number), &error));
                }
            }
        }
        room.took(step * 4096);
        state.allocator.grow(total + step);
        Ok(state.allocator.take(count).expect("grown by what was missing"))
    }
}

/// See [`Shard::pin`].
pub(crate) struct Pin {
    shard: Arc<Shard>,
    seq: u64,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.shard.lock();
        if let Some(count) = state.readers.get_mut(&self.seq) {
            *count -= 1;
            if *count == 0 {
                state.readers.remove(&self.seq);
            }
        }
    }
}

/// Blocks taken and not yet referred to by any object; what is left when it is dropped goes back.
pub(crate) struct Reservation {
    shard: Arc<Shard>,
    /// order: innermost; the shard's lock is not held when this is dropped.
    runs: Mutex<Vec<Run>>,
}

impl Reservation {
    /// The blocks, in order.
    pub(crate) fn runs(&self) -> Vec<Run> {
        self.runs.lock().clone()
    }

    /// Objects refer to all of it now.
    pub(crate) fn keep_all(&self) {
        self.runs.lock().clear();
    }

    /// Objects refer to these parts of it now.
    pub(crate) fn keep_within(&self, kept: &[Run]) {
        let mut runs = self.runs.lock();
        for keep in kept {
            let (from, to) = (keep.start, keep.start + keep.count);
            *runs = runs
                .iter()
                .flat_map(|run| {
                    let end = run.start + run.count;
                    let (left, right) = (end.min(from), run.start.max(to));
                    [(run.start, left), (right, end)]
                })
                .filter(|(start, end)| start < end)
                .map(|(start, end)| Run { start, count: end - start })
                .collect();
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let runs = std::mem::take(&mut *self.runs.lock());
        if runs.is_empty() {
            return;
        }
        let mut state = self.shard.lock();
        for run in runs {
            state.allocator.release(run);
            self.shard.env.budget.release(run.count);
        }
    }
}
