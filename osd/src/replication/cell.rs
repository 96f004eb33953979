//! One column in memory: its engine, and what the driver has to know beside it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::{Mutex, RwLock};
use proto::osd::ColumnOf;

use super::{ColumnKey, Payload, Waiter};
use crate::engine::replication::{Column, Lists};

/// Where the column's replicas are, in one view.
pub(super) struct Shape {
    pub(super) of: ColumnOf,
    pub(super) lists: Lists,
}

impl Shape {
    pub(super) fn new(of: ColumnOf) -> Self {
        Self { lists: Lists::of(&of.layout, of.column), of }
    }
}

/// See the module.
pub(super) struct Cell {
    pub(super) key: ColumnKey,
    pub(super) width: u64,
    /// order: a leaf.
    shape: RwLock<Arc<Shape>>,
    /// A view from here on is promised on the medium.
    pub(super) promised_view: AtomicU64,
    /// One promise at a time: the second one must not find the first one's record before it is on the medium.
    pub(super) raising: tokio::sync::Mutex<()>,
    /// order: before the store's shards; never held over an await.
    pub(super) engine: Mutex<Column<Payload, Waiter>>,
    /// When the next tick is planned, monotonic microseconds; 0: none.
    pub(super) tick_at: AtomicU64,
}

impl Cell {
    pub(super) fn new(
        key: ColumnKey,
        of: ColumnOf,
        promised_view: u64,
        engine: Column<Payload, Waiter>,
    ) -> Self {
        Self {
            key,
            width: of.layout.columns.len() as u64,
            shape: RwLock::new(Arc::new(Shape::new(of))),
            promised_view: AtomicU64::new(promised_view),
            raising: tokio::sync::Mutex::default(),
            engine: Mutex::new(engine),
            tick_at: AtomicU64::new(0),
        }
    }

    /// The lists as known now.
    pub(super) fn shape(&self) -> Arc<Shape> {
        self.shape.read().clone()
    }

    /// The view as known now.
    pub(super) fn view(&self) -> u64 {
        self.shape.read().lists.view
    }

    /// Another view; false when it is not a newer one.
    pub(super) fn reshape(&self, of: ColumnOf) -> bool {
        let mut shape = self.shape.write();
        let newer = of.layout.view > shape.lists.view;
        if newer {
            *shape = Arc::new(Shape::new(of));
        }
        newer
    }
}
