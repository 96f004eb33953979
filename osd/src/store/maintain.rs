//! What the background engine asks of the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use proto::limits::BLOCK_BYTES;
use rt::disk::fault::Faults;

use super::Store;
use super::blocks::BlockIo;
use super::blocks::direct::{DirectBlocks, FILE_BLOCKS, file_path};
use super::blocks::faulty::FaultyBlocks;
use super::env::Tuning;
use super::error::{Result, StoreError};

/// Opens the data files of a shard in the real file system, with faults if a test asked for some.
pub(crate) fn open_data_files(
    path: &Path,
    shard: u16,
    tuning: &Tuning,
    faults: Option<&Arc<Faults>>,
) -> std::io::Result<Arc<dyn BlockIo>> {
    let blocks = DirectBlocks::open(path, shard, tuning.io_depth.max(1), FILE_BLOCKS, tuning.io_uring)?;
    Ok(match faults {
        Some(faults) => FaultyBlocks::over(blocks, faults.clone()),
        None => blocks,
    })
}

/// Where blocks of a shard's data area lie: file, byte and bytes of each part.
pub(crate) fn data_file_parts(dir: &Path, shard: u16, start: u64, count: u32) -> Vec<(PathBuf, u64, usize)> {
    let mut parts = Vec::new();
    let (mut start, mut count) = (start, u64::from(count));
    while count > 0 {
        let within = start % FILE_BLOCKS;
        let here = count.min(FILE_BLOCKS - within);
        let path = file_path(dir, shard, (start / FILE_BLOCKS) as usize);
        parts.push((path, within * BLOCK_BYTES as u64, here as usize * BLOCK_BYTES));
        (start, count) = (start + here, count - here);
    }
    parts
}

impl Store {
    /// Grows with every change: to see whether anything happens.
    pub(crate) fn activity(&self) -> u64 {
        self.shards.iter().map(|shard| shard.lock().seq).sum()
    }

    /// Waits until a shard wants something done.
    pub(crate) async fn pressed(&self) {
        self.env.pressure.notified().await;
    }

    /// Folds and checkpoints as far as needed; everything when `quiet`.
    pub(crate) async fn maintain(&self, quiet: bool) -> Result<()> {
        let done = self.try_maintain(quiet).await;
        if done.is_err() {
            // Who waits for room looks again and finds out why there will be none.
            self.env.relieved.notify_waiters();
        }
        done
    }

    async fn try_maintain(&self, quiet: bool) -> Result<()> {
        self.env.health.check()?;
        self.env.room.restore();
        let urgent = self.env.urgent.swap(false, Ordering::AcqRel);
        let fold_bytes = self.env.tuning.fold_bytes;
        let folded = if quiet {
            self.fold(0).await
        } else if self.shards.iter().any(|shard| shard.lock().journal.live * 4096 > fold_bytes) {
            self.fold(fold_bytes / 2).await
        } else {
            Ok(())
        };
        // What finds no room stays in the journal. A checkpoint gives room: it must not wait for that.
        if !matches!(folded, Ok(()) | Err(StoreError::NoSpace(_))) {
            return folded;
        }
        let wanted = self.shards.iter().any(|shard| {
            let state = shard.lock();
            state.wants_checkpoint(&self.env)
                || (quiet && state.seq != state.checkpointed)
                || (quiet && state.freed_blocks > 0)
                || state.is_overrun(&self.env)
        });
        if urgent || wanted || folded.is_err() {
            self.checkpoint().await?;
            self.env.room.restore();
        }
        folded
    }

    /// Bytes of data that clients can still write, as far as the file system below is concerned; `sharers` OSDs have a part
    /// of it. The reserve and the floor count as used.
    pub(crate) fn room_bytes(&self, sharers: u64) -> u64 {
        self.env.room.look();
        if self.env.room.admit().is_err() {
            return 0;
        }
        let spare = |shard: &std::sync::Arc<super::shard::Shard>| {
            let state = shard.lock();
            state.allocator.free() as i64 - state.journal.live as i64
        };
        let spare: i64 = self.shards.iter().map(spare).sum();
        let growable = self.env.room.growable() / sharers;
        growable.saturating_add_signed(spare.saturating_mul(BLOCK_BYTES as i64))
    }

    /// Something outside the store that must be written finds no room: a part of the reserve is given up for it.
    pub(crate) fn give_up_reserve(&self) -> bool {
        self.env.room.give_up()
    }
}
