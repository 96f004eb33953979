//! The table seam: an ordered key-value table with atomic batches and no sync on the write path.
//!
//! What a write promises: visible at once; after the death of the process or the machine the table holds a
//! *prefix* of the batches, at least up to the last `flush`. Whoever needs more keeps a log beside it and writes
//! its position in the same batch (quorum does, the OSD's journal does).

pub mod memory;
#[cfg(feature = "rocks")]
pub mod rocks;
pub mod txn;

pub use txn::{Reader, Txn};

/// The table could not do it. Unless it is full there is nothing to retry: the owner stops and says so.
#[derive(Debug, Clone, thiserror::Error)]
#[error("table {table}: {cause}")]
pub struct TableError {
    /// Which table (its path or name).
    pub table: String,
    /// What the engine said.
    pub cause: String,
}

/// What the operating system says of a full disk, also through RocksDB.
pub const NO_SPACE: &str = "No space left on device";

impl TableError {
    /// Whether there was no room: nothing is lost, and the same call may do when there is. RocksDB finds that out itself
    /// within some seconds, and tells its errors by their text only.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.cause.contains(NO_SPACE) || self.cause.contains("Disk quota exceeded")
    }
}

/// Result of table calls.
pub type Result<T> = std::result::Result<T, TableError>;

/// A key with its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Changes that become visible together.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    /// In order; `None` deletes.
    pub changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.push((key.into(), Some(value.into())));
    }

    /// Removes a key.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.changes.push((key.into(), None));
    }
}

/// An ordered table. All calls are safe from any thread.
pub trait Table: Send + Sync + 'static {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Up to `limit` pairs with `from <= key < to`, ascending. An empty `to` means no upper bound.
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>>;

    /// Applies a batch atomically.
    fn write(&self, batch: Batch) -> Result<()>;

    /// Everything written before is durable when this answers.
    fn flush(&self) -> Result<()>;

    /// Removes all keys with `from <= key < to`.
    fn clear(&self, from: &[u8], to: &[u8]) -> Result<()>;

    /// Calls `work` once with the table as it is at one moment, whatever is written meanwhile.
    fn at_one_moment(&self, work: &mut dyn FnMut(&dyn Reader));
}

/// The smallest key greater than every key with this prefix; empty (no bound) when there is none.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    end
}

/// The suite that every [`Table`] passes.
#[doc(hidden)]
#[allow(clippy::unwrap_used, reason = "a test suite: unwrap is its assertion")]
pub fn contract(table: &dyn Table) {
    let mut batch = Batch::default();
    for key in ["a", "b", "b\0", "c"] {
        batch.put(key, format!("<{key}>"));
    }
    batch.delete("a");
    table.write(batch).unwrap();
    assert_eq!(table.get(b"a").unwrap(), None);
    assert_eq!(table.get(b"b").unwrap().as_deref(), Some(&b"<b>"[..]));
    let keys = |from: &[u8], to: &[u8], limit| -> Vec<Vec<u8>> {
        table.scan(from, to, limit).unwrap().into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys(b"", b"", 9), [&b"b"[..], b"b\0", b"c"]);
    assert_eq!(keys(b"b\0", b"c", 9), [b"b\0"]);
    assert_eq!(keys(b"", b"", 1), [b"b"]);
    assert_eq!(keys(b"b", &prefix_end(b"b"), 9), [&b"b"[..], b"b\0"]);
    table.flush().unwrap();
    let mut calls = 0;
    table.at_one_moment(&mut |moment| {
        calls += 1;
        let mut later = Batch::default();
        later.put("b", "later");
        later.put("bb", "later");
        later.delete("c");
        table.write(later).unwrap();
        assert_eq!(moment.get(b"b").unwrap().as_deref(), Some(&b"<b>"[..]));
        assert_eq!(moment.get(b"bb").unwrap(), None);
        let then: Vec<Pair> = moment.scan(b"b", b"", 9).unwrap();
        assert_eq!(then.len(), 3);
        assert_eq!(then[0].1, b"<b>");
        assert_eq!(moment.scan(b"", &prefix_end(b"b"), 1).unwrap().len(), 1);
    });
    assert_eq!(calls, 1);
    assert_eq!(keys(b"", b"", 9), [&b"b"[..], b"b\0", b"bb"]);
    let mut back = Batch::default();
    back.put("c", "<c>");
    table.write(back).unwrap();
    table.clear(b"b", b"c").unwrap();
    assert_eq!(keys(b"", b"", 9), [b"c"]);
    assert_eq!(prefix_end(&[1, 255]), [2]);
    assert!(prefix_end(&[255]).is_empty());
}
