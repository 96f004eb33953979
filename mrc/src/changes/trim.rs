//! The log's bounds. The leader decides up to where, the command carries it, every replica cuts the same rows.

use proto::mrc::kind;
use rt::table::{Reader, Txn};

use super::{Row, cursor_after, floor};
use crate::namespace::record::Writer;
use crate::namespace::{Outcome, keys};

/// Log entries of the group that the change log reaches back.
pub const ENTRIES_MAX: u64 = 262_144;
/// Seconds that it reaches back.
pub const AGE_MAX_S: i64 = 24 * 3600;
/// Rows cut by one command.
pub const ROWS_PER_STEP: u32 = 1024;

/// Where the oldest row may be. Not the log's first key: what was cut lies there as removed rows, of the table and of the
/// transaction, and going through all of them with each cut made the replay of a log quadratic.
fn oldest(reader: &(impl Reader + ?Sized), volume: u64) -> Outcome<Vec<u8>> {
    Ok(keys::change(volume, floor(reader, volume)?.saturating_add(1)))
}

/// Up to where the log of a volume should be cut now; `None`: nothing to cut. Looks at the oldest rows only.
pub fn due(reader: &(impl Reader + ?Sized), volume: u64, applied: u64, unix_s: i64) -> Outcome<Option<u64>> {
    let from = oldest(reader, volume)?;
    let rows = reader.scan(&from, &keys::change(volume, u64::MAX), ROWS_PER_STEP as usize)?;
    let too_far = cursor_after(applied.saturating_sub(ENTRIES_MAX));
    let mut below = None;
    for (key, value) in &rows {
        let (cursor, row) = Row::parse(key, value)?;
        let too_old = unix_s.saturating_sub(row.time.seconds) > AGE_MAX_S;
        let far = applied > ENTRIES_MAX && cursor <= too_far;
        if !far && !too_old {
            break;
        }
        below = Some(cursor);
    }
    Ok(below)
}

/// Cuts up to `limit` rows up to and with cursor `upto`.
pub fn trim(txn: &mut Txn<'_>, volume: u64, upto: u64, limit: u32) -> Outcome<()> {
    let to = keys::change(volume, upto.saturating_add(1));
    let from = oldest(txn, volume)?;
    // A repeated cut: everything up to there is gone.
    if from >= to {
        return Ok(());
    }
    let rows = txn.scan(&from, &to, limit as usize)?;
    let mut floor = None;
    for (key, value) in rows {
        let (cursor, row) = Row::parse(&key, &value)?;
        txn.delete(key);
        if row.file_kind == kind::DIR {
            txn.delete(keys::moved(volume, row.ino, cursor));
        }
        floor = Some(cursor);
    }
    if let Some(cursor) = floor {
        txn.put(keys::floor(volume), Writer::new(9).u64(cursor).0);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proto::changes::event;
    use proto::mrc::Time;
    use rt::table::memory::MemoryTable;
    use rt::table::{Batch, Pair, Result, Table};

    use super::*;

    const VOLUME: u64 = 7;

    /// Counts the pairs that were asked for.
    struct Counting {
        inner: MemoryTable,
        asked: AtomicUsize,
    }

    impl Table for Counting {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
            Table::get(&self.inner, key)
        }

        fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>> {
            self.asked.fetch_add(limit, Ordering::Relaxed);
            Table::scan(&self.inner, from, to, limit)
        }

        fn write(&self, batch: Batch) -> Result<()> {
            self.inner.write(batch)
        }

        fn flush(&self) -> Result<()> {
            self.inner.flush()
        }

        fn clear(&self, from: &[u8], to: &[u8]) -> Result<()> {
            self.inner.clear(from, to)
        }

        fn at_one_moment(&self, work: &mut dyn FnMut(&dyn Reader)) {
            self.inner.at_one_moment(work);
        }
    }

    fn logged(rows: u64) -> Counting {
        let row = Row {
            kind: event::CREATED,
            ino: 5,
            file_kind: kind::FILE,
            parent: 1,
            name: b"name".to_vec(),
            new_parent: 0,
            new_name: Vec::new(),
            time: Time { seconds: 100, nanos: 0 },
            uid: 0,
            session: 1,
        };
        let mut batch = Batch::default();
        for cursor in 1..=rows {
            batch.put(keys::change(VOLUME, cursor), row.encode());
        }
        let table = Counting { inner: MemoryTable::new(), asked: AtomicUsize::new(0) };
        table.write(batch).unwrap();
        table
    }

    #[test]
    fn a_cut_does_not_go_through_what_was_cut_before() {
        let table = logged(640);
        let mut txn = Txn::new(&table);
        for step in 1..=64 {
            trim(&mut txn, VOLUME, 640, 10).unwrap();
            assert_eq!(floor(&txn, VOLUME).unwrap(), step * 10);
        }
        assert_eq!(table.asked.load(Ordering::Relaxed), 640, "each cut looks at its own rows");
        assert_eq!(due(&txn, VOLUME, u64::MAX >> 8, 0).unwrap(), None, "nothing is left to cut");
        trim(&mut txn, VOLUME, 100, 10).unwrap();
        assert_eq!(floor(&txn, VOLUME).unwrap(), 640, "a repeated cut changes nothing");
    }
}
