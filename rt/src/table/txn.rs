//! A transaction: reads see the table with the transaction's own changes over it; the changes leave as one batch.

use std::collections::BTreeMap;

use super::{Batch, Pair, Result, Table};

/// Reading, from a table or from a transaction over it: what pure namespace code is written against.
pub trait Reader {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// See [`Table::scan`].
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>>;
}

impl<T: Table + ?Sized> Reader for T {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Table::get(self, key)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>> {
        Table::scan(self, from, to, limit)
    }
}

/// See the module.
pub struct Txn<'a> {
    table: &'a dyn Table,
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// What to put back for a rollback to the last savepoint: the overlay's former values, newest last.
    undo: Option<Vec<Undo>>,
}

/// A key of the overlay and what it held before (`None`: it was not in the overlay).
type Undo = (Vec<u8>, Option<Option<Vec<u8>>>);

impl<'a> Txn<'a> {
    /// An empty transaction over `table`.
    pub fn new(table: &'a dyn Table) -> Self {
        Self { table, changes: BTreeMap::new(), undo: None }
    }

    /// Sets a key.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.set(key.into(), Some(value.into()));
    }

    /// Removes a key.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.set(key.into(), None);
    }

    fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        let before = self.changes.insert(key.clone(), value);
        if let Some(undo) = &mut self.undo {
            undo.push((key, before));
        }
    }

    /// From here on [`Txn::rollback`] takes changes back. One level: a new savepoint replaces the old one.
    pub fn savepoint(&mut self) {
        self.undo = Some(Vec::new());
    }

    /// Takes back every change since the savepoint: a command that fails half-way leaves nothing.
    pub fn rollback(&mut self) {
        for (key, before) in self.undo.take().unwrap_or_default().into_iter().rev() {
            match before {
                Some(value) => self.changes.insert(key, value),
                None => self.changes.remove(&key),
            };
        }
    }

    /// The keys changed since the savepoint, ascending.
    pub fn changed(&self) -> Vec<&[u8]> {
        let mut keys: Vec<&[u8]> = self.undo.iter().flatten().map(|(key, _)| key.as_slice()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// What a key held at the savepoint.
    pub fn before(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self.undo.iter().flatten().find(|(changed, _)| changed == key) {
            Some((_, Some(value))) => Ok(value.clone()),
            Some((_, None)) => self.table.get(key),
            None => self.get(key),
        }
    }

    /// Whether nothing was changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes as one batch.
    #[must_use]
    pub fn into_batch(self) -> Batch {
        Batch { changes: self.changes.into_iter().collect() }
    }
}

impl Reader for Txn<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self.changes.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.table.get(key),
        }
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>> {
        let inside = |key: &Vec<u8>| key.as_slice() >= from && (to.is_empty() || key.as_slice() < to);
        let over: BTreeMap<&Vec<u8>, &Option<Vec<u8>>> =
            self.changes.range(from.to_vec()..).take_while(|(key, _)| inside(key)).collect();
        if over.is_empty() {
            return self.table.scan(from, to, limit);
        }
        // At most `over.len()` of the table's pairs are hidden by the overlay.
        let below = self.table.scan(from, to, limit.saturating_add(over.len()))?;
        // Beyond the last pair read from the table nothing is known of it, unless the scan reached the end.
        let complete = below.len() < limit.saturating_add(over.len());
        let last = below.last().map(|(key, _)| key.clone());
        let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = below.into_iter().collect();
        for (key, value) in over {
            if !complete && last.as_ref().is_some_and(|last| key > last) {
                break;
            }
            match value {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        Ok(merged.into_iter().take(limit).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryTable;
    use super::*;

    #[test]
    fn scan_merges_overlay_and_table_like_one_table() {
        // Every subset of keys in the table, changed by every pattern, against a plain map.
        for stored in 0u32..32 {
            for changed in 0u32..243 {
                let table = MemoryTable::new();
                let mut model = BTreeMap::new();
                let mut batch = Batch::default();
                for key in (0..5u8).filter(|key| stored >> key & 1 == 1) {
                    batch.put([key], [key]);
                    model.insert(vec![key], vec![key]);
                }
                table.write(batch).unwrap();
                let mut txn = Txn::new(&table);
                for key in 0..5u8 {
                    match changed / 3u32.pow(u32::from(key)) % 3 {
                        0 => {}
                        1 => {
                            txn.delete([key]);
                            model.remove(&vec![key]);
                        }
                        _ => {
                            txn.put([key], [9]);
                            model.insert(vec![key], vec![9]);
                        }
                    }
                }
                for limit in 0..6 {
                    let want: Vec<Pair> = model
                        .range(vec![1]..vec![4])
                        .take(limit)
                        .map(|(k, v)| (k.clone(), v.clone()))
                        .collect();
                    assert_eq!(txn.scan(&[1], &[4], limit).unwrap(), want);
                }
            }
        }
    }

    #[test]
    fn rollback_takes_back_to_the_savepoint_only() {
        let table = MemoryTable::new();
        let mut txn = Txn::new(&table);
        txn.put("a", "1");
        txn.savepoint();
        txn.put("a", "2");
        txn.put("b", "2");
        txn.delete("a");
        txn.rollback();
        assert_eq!(txn.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(txn.get(b"b").unwrap(), None);
    }

    #[test]
    fn what_was_there_at_the_savepoint_is_told() {
        let table = MemoryTable::new();
        let mut batch = Batch::default();
        batch.put("t", "0");
        table.write(batch).unwrap();
        let mut txn = Txn::new(&table);
        txn.put("a", "1");
        txn.savepoint();
        txn.put("t", "2");
        txn.delete("a");
        txn.put("a", "3");
        txn.put("new", "4");
        assert_eq!(txn.changed(), [&b"a"[..], b"new", b"t"]);
        assert_eq!(txn.before(b"a").unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(txn.before(b"t").unwrap().as_deref(), Some(&b"0"[..]));
        assert_eq!(txn.before(b"new").unwrap(), None);
    }
}
