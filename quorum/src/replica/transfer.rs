//! The leader's side of a snapshot: the table as it was at one index, handed out in parts while it moves on.
//!
//! When a transfer begins, the table is the snapshot. From then on every batch first saves what it is about to
//! change (only keys that were not handed out yet): table plus saved values is the snapshot still. One transfer
//! at a time; it ends when the follower says so, falls silent, or too much was saved.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft::eraftpb::Snapshot;
use rt::table::{Batch, Reader as _, Table, Txn};

use super::input::{Now, Output};
use super::note::{InstalledNote, Kind, PartNote, PullNote};
use super::{Fatal, Replica};
use crate::engine::Event;

/// A follower that asks for nothing for this many ticks has gone.
const SILENT_TICKS: u64 = 40;
/// More saved values than this end the transfer, bytes.
const SAVED_BYTES_MAX: usize = 256 << 20;
/// Rows of a part at most.
const PART_ROWS: usize = 4096;

/// See the module.
pub(super) struct Transfer {
    id: u64,
    to: u64,
    index: u64,
    /// Everything before was handed out.
    cursor: Vec<u8>,
    saved: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    saved_bytes: usize,
    heard_at_tick: u64,
}

impl Transfer {
    /// Saves what `batch` is about to change.
    pub(super) fn before_write(&mut self, table: &dyn Table, batch: &Batch) -> rt::table::Result<()> {
        for (key, _) in &batch.changes {
            if *key >= self.cursor && !self.saved.contains_key(key) {
                rt::site!("snapshot.transfer.old_value_saved");
                let value = table.get(key)?;
                self.saved_bytes += key.len() + value.as_ref().map_or(0, Vec::len) + 64;
                self.saved.insert(key.clone(), value);
            }
        }
        Ok(())
    }

    /// The rows from `from` on, about `bytes_max` of them, and where the next part begins (empty: nowhere).
    fn part(&mut self, table: &dyn Table, from: &[u8], bytes_max: usize) -> rt::table::Result<PartNote> {
        self.cursor = from.to_vec();
        self.saved = self.saved.split_off(&self.cursor);
        let mut view = Txn::new(table);
        for (key, value) in &self.saved {
            match value {
                Some(value) => view.put(key.clone(), value.clone()),
                None => view.delete(key.clone()),
            }
        }
        let mut part = PartNote { index: self.index, transfer: self.id, ..PartNote::default() };
        let rows = view.scan(from, b"", PART_ROWS)?;
        let mut left = rows.len() == PART_ROWS;
        let mut bytes = 0;
        let mut last = None;
        for (key, value) in rows {
            if bytes > bytes_max {
                left = true;
                break;
            }
            bytes += key.len() + value.len();
            last = Some(key.clone());
            part.keys.push(key.into());
            part.values.push(value.into());
        }
        if let Some(mut next) = last.filter(|_| left) {
            next.push(0);
            part.next = next.into();
        }
        part.from = Bytes::copy_from_slice(from);
        Ok(part)
    }
}

impl<W> Replica<W> {
    /// raft-rs wants to send snapshots: begins a transfer if none is under way.
    pub(super) fn serve_snapshot_wishes(&mut self, _now: Now) {
        let wanted = self.engine.take_snapshot_wanted();
        let Some(to) = wanted.first().copied() else { return };
        // What is applied is committed; a new leader may need the follower to commit anything of its own.
        if self.transfer.is_some() || self.hollow || !self.engine.role().leading {
            rt::site!("snapshot.transfer.one_at_a_time", self.transfer.is_some());
            return;
        }
        rt::site!("snapshot.transfer.begun");
        self.transfers += 1;
        let position = self.applier.position;
        let mut snapshot = Snapshot::default();
        let meta = snapshot.mut_metadata();
        meta.index = position.index;
        meta.term = position.term;
        meta.set_conf_state(self.applier.members.conf());
        let mut data = self.transfers.to_be_bytes().to_vec();
        data.extend_from_slice(&self.applier.members.encode());
        snapshot.data = data.into();
        tracing::info!(group = %self.group, to, index = position.index, "offers a snapshot");
        self.transfer = Some(Transfer {
            id: self.transfers,
            to,
            index: position.index,
            cursor: Vec::new(),
            saved: BTreeMap::new(),
            saved_bytes: 0,
            heard_at_tick: self.ticks,
        });
        self.engine.offer_snapshot(Some((to, snapshot)));
    }

    pub(super) fn serve_part(
        &mut self,
        from: u64,
        pull: &PullNote,
        _now: Now,
        out: &mut Vec<Output<W>>,
    ) -> Result<(), Fatal> {
        let ticks = self.ticks;
        let wanted = self.transfer.as_mut().filter(|transfer| {
            transfer.to == from
                && transfer.id == pull.transfer
                && transfer.index == pull.index
                && transfer.cursor.as_slice() <= pull.from.as_ref()
        });
        let part = match wanted {
            Some(transfer) => {
                rt::site!(
                    "snapshot.transfer.part_again",
                    !pull.from.is_empty() && transfer.cursor == pull.from
                );
                transfer.heard_at_tick = ticks;
                transfer.part(&**self.applier.table(), &pull.from, self.sizes.part_bytes)?
            }
            None => {
                rt::site!("snapshot.transfer.asked_of_over");
                PartNote { index: pull.index, transfer: pull.transfer, gone: true, ..PartNote::default() }
            }
        };
        self.send_note(from, Kind::Part(part), out);
        Ok(())
    }

    pub(super) fn transfer_done(&mut self, from: u64, installed: InstalledNote, now: Now) {
        let ours = self.transfer.as_ref().is_some_and(|transfer| {
            transfer.to == from && transfer.id == installed.transfer && transfer.index == installed.index
        });
        rt::site!("snapshot.transfer.end_of_another", !ours);
        if ours {
            self.end_transfer(installed.ok, now);
        }
    }

    pub(super) fn tick_transfer(&mut self, now: Now) {
        let Some(transfer) = &self.transfer else { return };
        if transfer.heard_at_tick + SILENT_TICKS < self.ticks || transfer.saved_bytes > SAVED_BYTES_MAX {
            rt::site!("snapshot.transfer.follower_silent");
            self.end_transfer(false, now);
        }
    }

    fn end_transfer(&mut self, ok: bool, now: Now) {
        let Some(transfer) = self.transfer.take() else { return };
        self.engine.offer_snapshot(None);
        let _ = self.engine.handle(Event::SnapshotSent { to: transfer.to, ok }, now.monotonic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rt::table::memory::MemoryTable;

    #[test]
    fn parts_show_the_table_as_it_was_however_it_moves() {
        let table = MemoryTable::new();
        let mut batch = Batch::default();
        for key in 0..100u8 {
            batch.put([key], vec![key; 10]);
        }
        table.write(batch).unwrap();
        let want = table.dump();
        let mut transfer = Transfer {
            id: 1,
            to: 2,
            index: 3,
            cursor: Vec::new(),
            saved: BTreeMap::new(),
            saved_bytes: 0,
            heard_at_tick: 0,
        };
        let mut got = Vec::new();
        let mut from = Bytes::new();
        for round in 0u8.. {
            let part = transfer.part(&table, &from, 50).unwrap();
            let again = transfer.part(&table, &from, 50).unwrap();
            assert_eq!(part, again, "a part that was lost on the way is given again");
            got.extend(
                part.keys.iter().map(|key| key.to_vec()).zip(part.values.iter().map(|value| value.to_vec())),
            );
            let mut batch = Batch::default();
            batch.put([round.wrapping_mul(37) % 100], "changed");
            batch.delete([round.wrapping_mul(53) % 100]);
            batch.put([100 + round], "new");
            transfer.before_write(&table, &batch).unwrap();
            table.write(batch).unwrap();
            if part.next.is_empty() {
                break;
            }
            from = part.next;
        }
        assert_eq!(got, want);
        assert_ne!(table.dump(), want);
    }
}
