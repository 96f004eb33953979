//! Named places at which a test can make the process die: `XTFS_FAILPOINT=name` or `name:count` aborts at the
//! count-th passage. Without the variable a passage costs one atomic load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Every place, in the order of a write's life. A crash test walks this list.
pub const ALL: &[&str] = &[
    DATA_WRITTEN,
    JOURNAL_TORN,
    JOURNAL_WRITTEN,
    APPLIED,
    SEGMENT_MADE,
    SYNC_DATA,
    SYNC_JOURNAL,
    FOLD_READ,
    FOLD_WRITTEN,
    FOLD_COMMITTED,
    CHECKPOINT_SYNCED,
    CHECKPOINT_ROWS,
    CHECKPOINT_TABLE,
    CHECKPOINT_FLUSHED,
    CHECKPOINT_DROPPED,
    RECOVERED,
];
/// A large write's data is in its new extents; nothing refers to it yet.
pub const DATA_WRITTEN: &str = "data-written";
/// Half of an entry is in the journal.
pub const JOURNAL_TORN: &str = "journal-torn";
/// The entry is in the journal; the record in memory does not know yet.
pub const JOURNAL_WRITTEN: &str = "journal-written";
/// Applied, not yet answered.
pub const APPLIED: &str = "applied";
/// A new journal segment has its header.
pub const SEGMENT_MADE: &str = "segment-made";
/// Data files are synced, the journal is not.
pub const SYNC_DATA: &str = "sync-data";
/// Both are synced; nobody was told.
pub const SYNC_JOURNAL: &str = "sync-journal";
/// A fold has read its blocks from the journal.
pub const FOLD_READ: &str = "fold-read";
/// A fold has written its blocks to extents.
pub const FOLD_WRITTEN: &str = "fold-written";
/// A fold's entry is in the journal.
pub const FOLD_COMMITTED: &str = "fold-committed";
/// A checkpoint has synced journal and data.
pub const CHECKPOINT_SYNCED: &str = "checkpoint-synced";
/// Some rows of a checkpoint are in the table.
pub const CHECKPOINT_ROWS: &str = "checkpoint-rows";
/// All rows and the position are in the table, not flushed.
pub const CHECKPOINT_TABLE: &str = "checkpoint-table";
/// The table is flushed; nothing was dropped yet.
pub const CHECKPOINT_FLUSHED: &str = "checkpoint-flushed";
/// Some old segments are removed.
pub const CHECKPOINT_DROPPED: &str = "checkpoint-dropped";
/// Recovery has read the journal and cut its tail.
pub const RECOVERED: &str = "recovered";

struct Armed {
    name: String,
    left: AtomicU64,
}

fn armed() -> Option<&'static Armed> {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    ARMED
        .get_or_init(|| {
            let text = std::env::var("XTFS_FAILPOINT").ok()?;
            let (name, count) = match text.split_once(':') {
                Some((name, count)) => (name.to_owned(), count.parse().ok()?),
                None => (text, 1),
            };
            Some(Armed { name, left: AtomicU64::new(count) })
        })
        .as_ref()
}

/// Whether this passage is the one to die at: for places that first do half of something.
pub(crate) fn is_next(name: &str) -> bool {
    armed().is_some_and(|armed| armed.name == name && armed.left.fetch_sub(1, Ordering::Relaxed) == 1)
}

/// Passes a place.
pub(crate) fn hit(name: &str) {
    if is_next(name) {
        die();
    }
}

/// Dies as kill -9 would have it: no destructor, no flush.
pub(crate) fn die() -> ! {
    std::process::abort()
}
