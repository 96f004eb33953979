//! One column in memory: its engine, and what the driver has to know beside it.

use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use proto::osd::ColumnOf;

use super::{ColumnKey, Payload, Waiter};
use crate::engine::replication::Column;

/// See the module.
pub(super) struct Cell {
    pub(super) key: ColumnKey,
    pub(super) of: ColumnOf,
    pub(super) list: Vec<u64>,
    pub(super) width: u64,
    /// order: before the store's shards; never held over an await.
    pub(super) engine: Mutex<Column<Payload, Waiter>>,
    /// When the next tick is planned, monotonic microseconds; 0: none.
    pub(super) tick_at: AtomicU64,
}

impl Cell {
    pub(super) fn new(key: ColumnKey, of: ColumnOf, engine: Column<Payload, Waiter>) -> Self {
        let list = of.layout.columns.get(of.column as usize).map(|column| column.osds.clone());
        Self {
            key,
            list: list.unwrap_or_default(),
            width: of.layout.columns.len() as u64,
            of,
            engine: Mutex::new(engine),
            tick_at: AtomicU64::new(0),
        }
    }
}
