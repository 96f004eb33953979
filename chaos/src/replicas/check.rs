//! Shows what clients see to the invariants.

use std::time::Duration;

use super::{BLOCKS, OBJECTS, block_id};
use crate::invariants::fresh_reads::FreshReads;
use crate::invariants::nothing_lost::NothingLost;
use crate::invariants::same_bytes::SameBytes;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Checks {
    pub(super) fresh: FreshReads,
    pub(super) lost: NothingLost,
    pub(super) bytes: SameBytes,
}

impl Checks {
    pub(super) fn begin_write(&mut self, block: u64, value: u64, now: Duration) {
        self.fresh.begin_write(block, value, now);
        self.lost.begin_write(block, value, now);
    }

    pub(super) fn end_write(&mut self, block: u64, value: u64, now: Duration) {
        self.fresh.end_write(block, value, now);
        self.lost.end_write(block, value, now);
    }

    pub(super) fn synced(&mut self, column: u64, begun: Duration) {
        let blocks = || {
            (0..OBJECTS).flat_map(move |object| (0..BLOCKS).map(move |block| block_id(column, object, block)))
        };
        self.fresh.synced(blocks(), begun);
        self.lost.synced(blocks(), begun);
    }

    pub(super) fn blackout(&mut self) {
        self.fresh.blackout();
        self.lost.blackout();
    }
}
