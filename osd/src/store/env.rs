//! What the shards of one store share: seams, sizes, the space budget and whether the medium is still trusted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rt::disk::Disk;
use rt::table::Table;

use super::damage::Damage;
use super::error::{Result, StoreError};
use super::room::Room;

/// Sizes; the defaults are for machines, tests take smaller ones.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// Writes with at least this many whole blocks' bytes go straight to fresh extents.
    pub large_bytes: u32,
    /// A journal segment is closed when it is this long, bytes.
    pub segment_bytes: u32,
    /// Live journal data of a shard beyond which it is folded into extents, bytes.
    pub fold_bytes: u64,
    /// Step in which data files grow, bytes; 0 chooses by capacity, at most 1 GiB.
    pub grow_bytes: u64,
    /// Clean object records that a shard keeps in memory.
    pub cached_objects: usize,
    /// Changed object records of a shard beyond which a checkpoint is made.
    pub dirty_objects: usize,
    /// Journal entries' bytes of a shard since its last checkpoint beyond which one is made.
    pub checkpoint_bytes: u64,
    /// Large I/Os in flight per shard; more wait.
    pub io_depth: usize,
    /// Large I/O goes through io_uring where the kernel allows it; otherwise through a few threads.
    pub io_uring: bool,
    /// Fold, checkpoint and scrub run by themselves.
    pub background: bool,
    /// Nothing to do for this long: fold what there is, milliseconds.
    pub idle_ms: u64,
    /// How often the whole store is scrubbed, seconds.
    pub scrub_seconds: u64,
    /// Kept in a file for work that must go on on a full disk, bytes; an OSD takes 0 as "choose by capacity".
    pub reserve_bytes: u64,
    /// Free bytes of the file system below which data does not grow; 0 likewise.
    pub floor_bytes: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            large_bytes: 64 << 10,
            segment_bytes: 16 << 20,
            fold_bytes: 64 << 20,
            grow_bytes: 0,
            cached_objects: 16 << 10,
            dirty_objects: 8 << 10,
            checkpoint_bytes: 128 << 20,
            io_depth: 128,
            io_uring: true,
            background: true,
            idle_ms: 1_000,
            scrub_seconds: 7 * 24 * 3600,
            reserve_bytes: 0,
            floor_bytes: 0,
        }
    }
}

/// Blocks that may be used, and are: in extents (in use, being written, waiting to be reused) and in the journal
/// (each will need a place in an extent when it is folded).
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    used: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, used: AtomicU64::new(0) }
    }

    /// Takes `blocks`, or nothing when there are not that many.
    pub(crate) fn reserve(&self, blocks: u64) -> Result<()> {
        let take = |used: u64| used.checked_add(blocks).filter(|used| *used <= self.limit);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).map(drop).map_err(|used| {
            StoreError::NoSpace(format!(
                "the OSD is full: {} of {} bytes are in use, the write needs {} more",
                used * 4096,
                self.limit * 4096,
                blocks * 4096
            ))
        })
    }

    /// Takes `blocks` even beyond the limit: for moving what is stored already.
    pub(crate) fn overdraw(&self, blocks: u64) {
        self.used.fetch_add(blocks, Ordering::AcqRel);
    }

    /// Gives `blocks` back.
    pub(crate) fn release(&self, blocks: u64) {
        let before = self.used.fetch_sub(blocks, Ordering::AcqRel);
        debug_assert!(before >= blocks, "more blocks given back than taken");
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }
}

/// Whether writes may go on. A failed write or sync of the journal or of data ends them for good.
#[derive(Debug, Default)]
pub(crate) struct Health {
    failed: AtomicBool,
    /// order: innermost.
    why: Mutex<String>,
}

impl Health {
    pub(crate) fn check(&self) -> Result<()> {
        if self.failed.load(Ordering::Acquire) {
            return Err(StoreError::Failed(self.why.lock().clone()));
        }
        Ok(())
    }

    /// Notes the first failure.
    pub(crate) fn fail(&self, what: &str, cause: &dyn std::fmt::Display) -> StoreError {
        let mut why = self.why.lock();
        if why.is_empty() {
            *why = format!(
                "{what} failed: {cause}; this OSD takes no more writes until it is restarted (check its disk first)"
            );
            tracing::error!("{why}");
        }
        self.failed.store(true, Ordering::Release);
        StoreError::Failed(why.clone())
    }
}

/// See the module.
pub(crate) struct Env {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) table: Arc<dyn Table>,
    pub(crate) tuning: Tuning,
    pub(crate) budget: Budget,
    /// What the file system has left.
    pub(crate) room: Room,
    pub(crate) health: Health,
    /// Objects held.
    pub(crate) objects: AtomicU64,
    /// Wakes the background engine.
    pub(crate) pressure: tokio::sync::Notify,
    /// Wakes writers that wait for a checkpoint.
    pub(crate) relieved: tokio::sync::Notify,
    /// A checkpoint must come now: space is short.
    pub(crate) urgent: AtomicBool,
    /// Why the journal cannot be folded at the moment. order: innermost.
    pub(crate) fold_stuck: Mutex<Option<StoreError>>,
    /// Why no checkpoint can be made at the moment. order: innermost.
    pub(crate) checkpoint_stuck: Mutex<Option<StoreError>>,
    /// Blocks promised to changes that are being numbered.
    pub(crate) promised: AtomicU64,
    /// Bytes of journal entries since the last checkpoint.
    pub(crate) journalled: AtomicU64,
    /// Bytes given to the table since it was last flushed.
    pub(crate) unflushed: AtomicU64,
    /// Blocks freed that wait for a checkpoint.
    pub(crate) freed_waiting: AtomicU64,
    /// Blocks known to be damaged.
    pub(crate) damage: Damage,
    /// Checkpoints begun.
    pub(crate) checkpoints_started: AtomicU64,
    /// The last of them that was completed.
    pub(crate) checkpoints_finished: AtomicU64,
}
