//! Checkpoints: the table catches up with the journal, then old segments and freed extents may go.
//!
//! Order: sync data and journal up to P, write the changed records and P, flush the table; only then is anything
//! that the old table or the journal before P referred to given up.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rt::table::Batch;

use super::Store;
use super::cache::Slot;
use super::env::Env;
use super::error::Result;
use super::shard::{Shard, position_key, row_key};
use crate::failpoint;

/// Rows written in one batch.
const ROWS_PER_BATCH: usize = 512;
/// About the most that a row takes.
const ROW_BYTES: u64 = 1280;
/// What a flush of the table needs beside what it writes: its manifest, an index.
const TABLE_SLACK: u64 = 256 << 10;
/// So much journal is worth a checkpoint when space is short.
const JOURNAL_WORTH: u64 = 1 << 20;
/// Format of the position row.
const POSITION_FORMAT: u8 = 1;

/// What a shard's checkpoint took, until the table is flushed.
struct Taken {
    position: u64,
    rows: Vec<(proto::id::ObjectKey, Slot)>,
    journal_bytes: u64,
}

impl Store {
    /// Makes the table hold everything that was acknowledged before. One at a time.
    pub async fn checkpoint(&self) -> Result<()> {
        self.checkpoint_with(true).await
    }

    /// The same, on a thread that may block.
    pub(crate) async fn checkpoint_in_place(&self) -> Result<()> {
        self.checkpoint_with(false).await
    }

    async fn checkpoint_with(&self, hop: bool) -> Result<()> {
        let _one = self.checkpointing.lock().await;
        self.env.checkpoints_started.fetch_add(1, Ordering::AcqRel);
        let done = self.try_checkpoint(hop).await;
        *self.env.checkpoint_stuck.lock() = done.as_ref().err().cloned();
        if done.is_ok() {
            let started = self.env.checkpoints_started.load(Ordering::Acquire);
            self.env.checkpoints_finished.store(started, Ordering::Release);
            self.env.room.settle();
        }
        // Also after a failure: who waits for room is told instead of waiting for ever.
        self.env.relieved.notify_waiters();
        done
    }

    async fn try_checkpoint(&self, hop: bool) -> Result<()> {
        let journalled = self.env.journalled.load(Ordering::Acquire);
        let rows: usize = self.shards.iter().map(|shard| shard.lock().cache.dirty_count()).sum();
        // Before the rows are given to it: what it cannot write it keeps in memory, again with each attempt.
        let bytes = self.env.unflushed.load(Ordering::Acquire) + rows as u64 * ROW_BYTES;
        self.env.room.must_have(bytes + TABLE_SLACK, "the metadata table")?;
        let mut taken = Vec::new();
        for shard in &self.shards {
            taken.push((shard, shard.write_rows().await?));
        }
        if taken.iter().any(|(_, taken)| taken.is_some()) {
            failpoint::hit(failpoint::CHECKPOINT_TABLE);
            self.flush_table(hop).await?;
            failpoint::hit(failpoint::CHECKPOINT_FLUSHED);
        }
        for (shard, taken) in taken {
            shard.give_up_old(taken)?;
        }
        self.env.journalled.fetch_sub(journalled, Ordering::AcqRel);
        self.env.room.look();
        Ok(())
    }

    /// What a full disk refuses is done again later: the table keeps in memory what it could not write, and the journal has
    /// all of it. Any other failure is final.
    async fn flush_table(&self, hop: bool) -> Result<()> {
        let bytes = self.env.unflushed.load(Ordering::Acquire);
        self.env.room.must_have(bytes + TABLE_SLACK, "the metadata table")?;
        let table = self.env.table.clone();
        let flushed = if hop { off_thread(move || table.flush()).await? } else { table.flush() };
        match flushed {
            Ok(()) => {
                self.env.unflushed.fetch_sub(bytes, Ordering::AcqRel);
                Ok(())
            }
            Err(error) if error.is_full() => Err(error.into()),
            Err(error) => Err(self.env.health.fail("flushing the metadata table", &error)),
        }
    }
}

impl Env {
    /// Asks for a checkpoint because space is short, and waits for it; `false` when there is nobody to make one.
    pub(crate) async fn reclaim(&self) -> bool {
        let gains = self.freed_waiting.load(Ordering::Acquire) > 0
            || self.room.is_tight() && self.journalled.load(Ordering::Acquire) > JOURNAL_WORTH;
        if !self.tuning.background || !gains || self.checkpoint_stuck.lock().is_some() {
            return false;
        }
        let wanted = self.checkpoints_started.load(Ordering::Acquire) + 1;
        self.urgent.store(true, Ordering::Release);
        self.pressure.notify_one();
        loop {
            let relieved = self.relieved.notified();
            if self.health.check().is_err() || self.checkpoint_stuck.lock().is_some() {
                return false;
            }
            if self.checkpoints_finished.load(Ordering::Acquire) >= wanted {
                return true;
            }
            relieved.await;
        }
    }
}

impl Shard {
    /// Syncs, then writes what changed and the position to the table. `None`: nothing happened since the last one.
    async fn write_rows(self: &Arc<Self>) -> Result<Option<Taken>> {
        let taken = {
            let mut state = self.lock();
            if state.seq == state.checkpointed {
                return Ok(None);
            }
            // Everything before may be dropped once it is folded: later entries go to a new segment.
            state.journal.close_segment();
            Taken {
                position: state.seq,
                rows: state.cache.dirty(),
                journal_bytes: state.journal.since_checkpoint,
            }
        };
        self.sync.wait(taken.position).await?;
        failpoint::hit(failpoint::CHECKPOINT_SYNCED);
        for rows in taken.rows.chunks(ROWS_PER_BATCH) {
            let mut batch = Batch::default();
            for (key, slot) in rows {
                match slot {
                    Some(record) => batch.put(row_key(self.number, *key), record.encode()),
                    None => batch.delete(row_key(self.number, *key)),
                }
            }
            self.to_table(batch)?;
            failpoint::hit(failpoint::CHECKPOINT_ROWS);
        }
        let mut batch = Batch::default();
        batch.put(position_key(self.number), encode_position(taken.position));
        self.to_table(batch)?;
        Ok(Some(taken))
    }

    /// The table may have to write out what it has for it: an error there would keep it from being written for a while.
    fn to_table(&self, batch: Batch) -> Result<()> {
        let bytes: usize =
            batch.changes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum();
        let all = self.env.unflushed.load(Ordering::Acquire) + bytes as u64;
        self.env.room.must_have(all + TABLE_SLACK, "the metadata table")?;
        self.env.table.write(batch)?;
        self.env.unflushed.fetch_add(bytes as u64, Ordering::AcqRel);
        Ok(())
    }

    /// The table durably holds everything up to the position: what only older states needed may go.
    fn give_up_old(&self, taken: Option<Taken>) -> Result<()> {
        let gone = {
            let mut guard = self.lock();
            let state = &mut *guard;
            if let Some(taken) = taken {
                state.checkpointed = taken.position;
                state.cache.written(&taken.rows);
                state.journal.since_checkpoint -= taken.journal_bytes;
            }
            // A reader that looked at `seq` may read extents freed by later entries.
            let oldest_reader = state.readers.keys().next().copied().unwrap_or(u64::MAX);
            let limit = state.checkpointed.min(oldest_reader);
            while let Some((seq, run)) = state.freed.front().copied().filter(|(seq, _)| *seq <= limit) {
                debug_assert!(seq <= state.checkpointed, "freed by an entry that the table does not hold");
                state.freed.pop_front();
                state.freed_blocks -= run.count;
                state.allocator.release(run);
                self.env.budget.release(run.count);
                self.env.freed_waiting.fetch_sub(run.count, Ordering::AcqRel);
            }
            state.journal.drop_before(state.checkpointed)
        };
        for name in gone {
            // A segment that stays by mistake is skipped and removed by the next start.
            if let Err(error) = self.env.disk.remove(&name) {
                tracing::warn!("removing the old journal segment {name} failed: {error}");
            }
            failpoint::hit(failpoint::CHECKPOINT_DROPPED);
        }
        Ok(())
    }
}

/// The value of the position row.
pub(crate) fn encode_position(seq: u64) -> Vec<u8> {
    let mut out = vec![POSITION_FORMAT];
    out.extend(seq.to_le_bytes());
    out
}

/// The position out of its row's value.
pub(crate) fn decode_position(row: &[u8]) -> std::result::Result<u64, String> {
    match row.split_first() {
        Some((&POSITION_FORMAT, seq)) => {
            seq.try_into().map(u64::from_le_bytes).map_err(|_| "it has a wrong length".to_owned())
        }
        Some((format, _)) => Err(format!("format {format} is not known to this version of xtfs")),
        None => Err("it is empty".to_owned()),
    }
}

/// Runs a call that blocks: on tokio's blocking threads where there are some, else right here.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(handle) => handle
            .spawn_blocking(work)
            .await
            .map_err(|error| super::error::StoreError::Failed(format!("a blocking task ended: {error}"))),
        Err(_) => Ok(work()),
    }
}
