//! The log's bounds. The leader decides up to where, the command carries it, every replica cuts the same rows.

use proto::mrc::kind;
use rt::table::{Reader, Txn};

use super::{Row, cursor_after};
use crate::namespace::record::Writer;
use crate::namespace::{Outcome, keys};

/// Log entries of the group that the change log reaches back.
pub const ENTRIES_MAX: u64 = 262_144;
/// Seconds that it reaches back.
pub const AGE_MAX_S: i64 = 24 * 3600;
/// Rows cut by one command.
pub const ROWS_PER_STEP: u32 = 1024;

/// Up to where the log of a volume should be cut now; `None`: nothing to cut. Looks at the oldest rows only.
pub fn due(reader: &(impl Reader + ?Sized), volume: u64, applied: u64, unix_s: i64) -> Outcome<Option<u64>> {
    let from = keys::change(volume, 0);
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
    let rows = txn.scan(&keys::change(volume, 0), &to, limit as usize)?;
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
