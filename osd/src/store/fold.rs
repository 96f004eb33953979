//! Folding: data of the journal moves to extents, so that segments become free. Off the request path.

use std::sync::Arc;

use bytes::Bytes;
use proto::id::ObjectKey;
use proto::limits::BLOCK_BYTES;

use super::Store;
use super::blocks::AlignedBuf;
use super::error::{Result, StoreError};
use super::shard::{Purpose, Reservation, Shard, Stamp};
use crate::engine::allocator::Run;
use crate::engine::entry::Part;
use crate::engine::record::{ObjectRecord, Piece, Place};
use crate::failpoint;

/// An object in more pieces than this is folded whole, so that it lies in one run again.
const PIECES_MAX: usize = 64;

impl Store {
    /// Folds each shard's oldest segments until at most `keep_bytes` of live data are left in its journal.
    pub async fn fold(&self, keep_bytes: u64) -> Result<()> {
        let _one = self.folding.lock().await;
        let mut done = Ok(());
        for shard in &self.shards {
            done = shard.fold(keep_bytes).await;
            if done.is_err() {
                break;
            }
        }
        // Writers that wait for room in the journal are told instead of waiting for ever.
        *self.env.fold_stuck.lock() = done.as_ref().err().cloned();
        self.env.relieved.notify_waiters();
        done
    }
}

impl Shard {
    async fn fold(self: &Arc<Self>, keep_bytes: u64) -> Result<()> {
        loop {
            let keys: Vec<ObjectKey> = {
                let state = self.lock();
                if state.journal.live * BLOCK_BYTES as u64 <= keep_bytes {
                    return Ok(());
                }
                let Some(tally) = state.journal.tallies.values().find(|tally| tally.live > 0) else {
                    return Ok(());
                };
                tally.keys.iter().copied().collect()
            };
            let before = self.lock().journal.live;
            for key in keys {
                match self.fold_object(key).await {
                    // It stays where it is: readers see the damage, the others go on.
                    Err(StoreError::Corrupt(why)) => {
                        tracing::error!("cannot move an object out of the journal: {why}")
                    }
                    other => other?,
                }
            }
            // Everything was rewritten meanwhile: leave it to the next round.
            if self.lock().journal.live >= before {
                return Ok(());
            }
        }
    }

    /// Moves the blocks of one object that lie in the journal to extents.
    pub(crate) async fn fold_object(self: &Arc<Self>, key: ObjectKey) -> Result<()> {
        let (record, pin) = {
            let mut state = self.lock();
            let Some(record) = state.lookup(&self.env, key)? else { return Ok(()) };
            let pin = self.pin(&mut state);
            (record, pin)
        };
        let whole = record.pieces.len() > PIECES_MAX;
        let pieces: Vec<Piece> = record
            .pieces
            .iter()
            .filter(|piece| whole || matches!(piece.place, Place::Journal { .. }))
            .copied()
            .collect();
        if !pieces.iter().any(|piece| matches!(piece.place, Place::Journal { .. })) {
            return Ok(());
        }
        let data = self.gather(key, &record, &pieces).await?;
        drop(pin);
        failpoint::hit(failpoint::FOLD_READ);
        let blocks: u32 = pieces.iter().map(|piece| piece.count).sum();
        let reservation = self.reserve(blocks, Purpose::Move)?;
        let runs = self.write_runs(key, &reservation, &data).await?;
        failpoint::hit(failpoint::FOLD_WRITTEN);
        self.commit_fold(key, &record, &pieces, &reservation, &runs)?;
        failpoint::hit(failpoint::FOLD_COMMITTED);
        Ok(())
    }

    async fn gather(
        self: &Arc<Self>,
        key: ObjectKey,
        record: &ObjectRecord,
        pieces: &[Piece],
    ) -> Result<Bytes> {
        let blocks: u32 = pieces.iter().map(|piece| piece.count).sum();
        let mut buf = AlignedBuf::new(blocks as usize);
        let mut at = 0;
        for piece in pieces {
            for block in piece.first..piece.end() {
                let place = piece.place.advance(block - piece.first);
                let sum = record.sums[block as usize];
                let data = match place {
                    Place::Extent(start) => self.read_block(key, block, start, sum).await?,
                    Place::Journal { .. } => {
                        let read = self.lock().read_journal_block(key, block, place, sum);
                        self.noted_at(key, block, place, read)?
                    }
                };
                buf[at..at + BLOCK_BYTES].copy_from_slice(&data);
                at += BLOCK_BYTES;
            }
        }
        Ok(Bytes::from_owner(buf))
    }

    /// Points the object at the new blocks, except those that changed meanwhile.
    fn commit_fold(
        self: &Arc<Self>,
        key: ObjectKey,
        read: &ObjectRecord,
        pieces: &[Piece],
        reservation: &Arc<Reservation>,
        runs: &[Run],
    ) -> Result<()> {
        let mut addresses = runs.iter().flat_map(|run| run.start..run.start + run.count);
        let mut state = self.lock();
        let Some(now) = state.lookup(&self.env, key)? else { return Ok(()) };
        let mut parts: Vec<Part<'static>> = Vec::new();
        let mut kept: Vec<Run> = Vec::new();
        for piece in pieces {
            for block in piece.first..piece.end() {
                let address = addresses.next().expect("as many blocks were reserved as are moved");
                if now.block(block) == read.block(block) {
                    push_block(&mut parts, block, read.sums[block as usize], address);
                    push_run(&mut kept, address);
                }
            }
        }
        if parts.is_empty() {
            return Ok(());
        }
        let (stamp, length) = (Stamp { epoch: now.epoch, view: now.view, version: 0 }, now.length);
        drop(now);
        state.commit(&self.env, key, stamp, Purpose::Move, length, &parts)?;
        drop(state);
        reservation.keep_within(&kept);
        Ok(())
    }
}

fn push_block(parts: &mut Vec<Part<'static>>, block: u32, sum: u32, address: u64) {
    if let Some(Part::Extent { first, sums, start }) = parts.last_mut() {
        let count = sums.len() as u32;
        if *first + count == block && *start + u64::from(count) == address {
            sums.push(sum);
            return;
        }
    }
    parts.push(Part::Extent { first: block, sums: vec![sum], start: address });
}

fn push_run(runs: &mut Vec<Run>, address: u64) {
    match runs.last_mut() {
        Some(run) if run.start + run.count == address => run.count += 1,
        _ => runs.push(Run { start: address, count: 1 }),
    }
}
