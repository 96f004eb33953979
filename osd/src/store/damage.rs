//! Blocks whose bytes are not what their checksum says: found by whoever reads them, made good from another replica.
//!
//! The same version of an object is the same bytes at every replica. So a damaged block is replaced without a new
//! version, by an entry of its own, if the object still is what it was when the block was asked for.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use proto::checksum::block_checksum;
use proto::id::{Ino, ObjectKey, VolumeId};
use proto::limits::BLOCK_BYTES;
use tokio::sync::Notify;

use super::Store;
use super::error::{Result, StoreError};
use super::read::verify;
use super::shard::{Purpose, Shard, Stamp, name};
use crate::engine::entry::Part;
use crate::engine::record::{ObjectRecord, Place, blocks_of};

/// Damaged blocks remembered at most; what is beyond is found again.
const DAMAGE_MAX: usize = 1 << 16;

/// What is known to be damaged.
#[derive(Default)]
pub(crate) struct Damage {
    /// order: innermost.
    blocks: Mutex<BTreeSet<(ObjectKey, u32)>>,
    /// Of `blocks`, for those who only want to know whether there are any.
    count: AtomicUsize,
    /// Since the start.
    found: AtomicU64,
    mended: AtomicU64,
    /// Something was found.
    pub(crate) news: Notify,
    /// Part of the data files was missing at the start: all must be looked at.
    pub(crate) files_cut: AtomicBool,
}

impl Damage {
    /// Remembers and reports a damaged block, once.
    pub(crate) fn note(&self, key: ObjectKey, block: u32, why: &str) {
        let mut blocks = self.blocks.lock();
        if blocks.len() < DAMAGE_MAX && blocks.insert((key, block)) {
            self.count.store(blocks.len(), Ordering::Release);
            self.found.fetch_add(1, Ordering::Relaxed);
            drop(blocks);
            tracing::error!("block {block} of {} is damaged: {why}", name(key));
            self.news.notify_one();
        }
    }

    /// An entry replaced these blocks and everything behind the length.
    pub(crate) fn overwritten(&self, key: ObjectKey, length: u32, parts: &[Part<'_>]) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let end = blocks_of(length);
        let stays = |block: u32| block < end && !parts.iter().any(|part| part.blocks().contains(&block));
        let mut blocks = self.blocks.lock();
        let gone: Vec<(ObjectKey, u32)> =
            blocks.range((key, 0)..=(key, u32::MAX)).filter(|(_, block)| !stays(*block)).copied().collect();
        for block in gone {
            blocks.remove(&block);
        }
        self.count.store(blocks.len(), Ordering::Release);
    }

    /// An object was removed.
    pub(crate) fn removed(&self, key: ObjectKey) {
        self.overwritten(key, 0, &[]);
    }

    /// Whether an object has damaged blocks.
    pub(crate) fn has(&self, key: ObjectKey) -> bool {
        !self.of(key).is_empty()
    }

    fn of(&self, key: ObjectKey) -> Vec<u32> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        self.blocks.lock().range((key, 0)..=(key, u32::MAX)).map(|(_, block)| *block).collect()
    }
}

/// How much damage there was and is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DamageCount {
    /// Blocks found since the start.
    pub found: u64,
    /// Of them made good.
    pub mended: u64,
    /// Blocks damaged now.
    pub left: u64,
}

impl Store {
    /// Damaged blocks that are known: object and block.
    #[must_use]
    pub fn damage(&self) -> Vec<(ObjectKey, u32)> {
        self.env.damage.blocks.lock().iter().copied().collect()
    }

    /// How many.
    #[must_use]
    pub fn damage_count(&self) -> DamageCount {
        let damage = &self.env.damage;
        DamageCount {
            found: damage.found.load(Ordering::Relaxed),
            mended: damage.mended.load(Ordering::Relaxed),
            left: damage.count.load(Ordering::Acquire) as u64,
        }
    }

    /// Waits until something new is found.
    pub async fn damaged(&self) {
        self.env.damage.news.notified().await;
    }

    /// Whether part of the data files was missing at the start; says so once.
    pub(crate) fn take_files_cut(&self) -> bool {
        self.env.damage.files_cut.swap(false, Ordering::AcqRel)
    }

    /// Whether an object has damaged blocks, as far as known.
    #[must_use]
    pub fn is_damaged(&self, key: ObjectKey) -> bool {
        self.env.damage.has(key)
    }

    /// The objects of a column that have damaged blocks, as far as known, ascending.
    #[must_use]
    pub fn damaged_of_column(&self, volume: VolumeId, ino: Ino, (column, width): (u64, u64)) -> Vec<u64> {
        if self.env.damage.count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let known = self.env.damage.blocks.lock();
        let mut objects: Vec<u64> = known
            .iter()
            .filter(|(key, _)| {
                (key.volume, key.ino) == (volume, ino) && key.object.0 % width.max(1) == column
            })
            .map(|(key, _)| key.object.0)
            .collect();
        objects.dedup();
        objects
    }

    /// Reads an object whole, block by block, and notes what is damaged; the damaged blocks.
    pub async fn examine(&self, key: ObjectKey) -> Result<Vec<u32>> {
        let shard = self.shard(key);
        let (record, _pin) = {
            let mut state = shard.lock();
            let Some(record) = state.lookup(&self.env, key)? else { return Ok(Vec::new()) };
            let pin = shard.pin(&mut state);
            (record, pin)
        };
        for piece in &record.pieces {
            for block in piece.first..piece.end() {
                // Notes what it finds; the others are wanted as well.
                let _ = shard.checked_block(key, block, &record).await;
            }
        }
        Ok(self.env.damage.of(key))
    }

    /// Blocks of an object in exactly this version, for a replica whose own are damaged; `None`: it is not here. Holes
    /// are zeroes.
    pub async fn blocks_of_version(
        &self,
        key: ObjectKey,
        (epoch, number): (u64, u64),
        blocks: &[u32],
    ) -> Result<Option<Bytes>> {
        let shard = self.shard(key);
        let (record, _pin) = {
            let mut state = shard.lock();
            let Some(record) = state.lookup(&self.env, key)? else { return Ok(None) };
            if (record.epoch, record.version) != (epoch, number) {
                return Ok(None);
            }
            let pin = shard.pin(&mut state);
            (record, pin)
        };
        let mut out = BytesMut::with_capacity(blocks.len() * BLOCK_BYTES);
        for block in blocks {
            out.extend_from_slice(&shard.checked_block(key, *block, &record).await?);
        }
        Ok(Some(out.freeze()))
    }

    /// Replaces damaged blocks by what another replica has of the same version. Only bytes that fit the checksum kept
    /// here are taken. Gives how many were.
    pub fn mend(
        &self,
        key: ObjectKey,
        (epoch, number): (u64, u64),
        blocks: &[u32],
        data: &Bytes,
    ) -> Result<u64> {
        let mut state = self.shard(key).lock();
        let Some(record) = state.lookup(&self.env, key)? else { return Ok(0) };
        if (record.epoch, record.version) != (epoch, number) {
            return Ok(0);
        }
        let good = |(block, data): &(&u32, &[u8])| {
            record.block(**block).is_some_and(|(_, sum)| block_checksum(key, **block, data) == sum)
        };
        // What somebody else has mended meanwhile is not mended again.
        let known = self.env.damage.of(key);
        let mut parts: Vec<Part<'_>> = blocks
            .iter()
            .zip(data.chunks_exact(BLOCK_BYTES))
            .filter(|(block, _)| known.contains(block))
            .filter(good)
            .map(|(block, data)| Part::Inline {
                first: *block,
                sums: vec![block_checksum(key, *block, data)],
                data,
            })
            .collect();
        parts.sort_by_key(|part| part.blocks().start);
        if parts.is_empty() {
            return Ok(0);
        }
        let (stamp, length) = (Stamp { epoch, view: record.view, version: 0 }, record.length);
        drop(record);
        state.commit(&self.env, key, stamp, Purpose::Move, length, &parts)?;
        let mended = parts.len() as u64;
        self.env.damage.mended.fetch_add(mended, Ordering::Relaxed);
        tracing::warn!("{mended} damaged blocks of {} were made good from another replica", name(key));
        Ok(mended)
    }

    /// Like [`Store::read`], but checks every block before it is given away.
    pub async fn read_checked(&self, key: ObjectKey, offset: u32, len: u32) -> Result<super::ReadOutcome> {
        let outcome = self.read(key, offset, len).await?;
        let blocks = (outcome.first_block..).zip(outcome.data.chunks(BLOCK_BYTES)).zip(&outcome.sums);
        let mut bad = None;
        for ((block, data), sum) in blocks {
            if let Err(error) = verify(key, block, data, *sum) {
                bad = Some(error);
            }
        }
        match bad {
            None => Ok(outcome),
            // Notes what is damaged now: it may have been made good since it was read.
            Some(error) => self.examine(key).await.and(Err(error)),
        }
    }
}

impl Shard {
    /// One block of a record that the caller keeps from being reused, checked; a damaged one is noted.
    async fn checked_block(&self, key: ObjectKey, block: u32, record: &ObjectRecord) -> Result<Vec<u8>> {
        let Some((place, sum)) = record.block(block) else { return Ok(vec![0; BLOCK_BYTES]) };
        match place {
            Place::Extent(start) => self.read_block(key, block, start, sum).await,
            Place::Journal { .. } => {
                let read = self.lock().read_journal_block(key, block, place, sum);
                self.noted_at(key, block, place, read)
            }
        }
    }

    /// Notes the block when what was read of it at a place is damaged and it still is there: what was made good, or written over, since
    /// the record was looked up is not damaged.
    pub(crate) fn noted_at<T>(&self, key: ObjectKey, block: u32, place: Place, read: Result<T>) -> Result<T> {
        if matches!(read, Err(StoreError::Corrupt(_))) {
            let now = self.lock().lookup(&self.env, key)?;
            if now.and_then(|record| record.block(block)).is_none_or(|(now, _)| now != place) {
                return read;
            }
        }
        self.noted(key, block, read)
    }

    /// Notes the block when what was read is damaged. The caller holds the shard's lock, or has looked that it is still there.
    pub(crate) fn noted<T>(&self, key: ObjectKey, block: u32, read: Result<T>) -> Result<T> {
        if let Err(StoreError::Corrupt(why)) = &read {
            self.env.damage.note(key, block, why);
        }
        read
    }
}
