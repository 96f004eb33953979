//! A table in memory for simulation and models: a live image and, since the last flush, what a crash keeps.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Batch, NO_SPACE, Pair, Result, Table, TableError};

#[derive(Default)]
struct State {
    live: BTreeMap<Vec<u8>, Vec<u8>>,
    flushed: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Batches since the last flush.
    pending: Vec<Batch>,
    /// It cannot be flushed for want of room.
    full: bool,
}

/// See the module. Clones share the same table.
#[derive(Default, Clone)]
pub struct MemoryTable {
    state: Arc<Mutex<State>>,
}

impl MemoryTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The owner died: the flushed state and a prefix of the batches since, of a length below
    /// `choose(number of batches + 1)`, survive.
    pub fn crash(&self, choose: impl FnOnce(u64) -> u64) {
        let mut state = self.lock();
        let keep = usize::try_from(choose(state.pending.len() as u64 + 1)).unwrap_or(usize::MAX);
        let pending = std::mem::take(&mut state.pending);
        crate::site!("table.crash.batches_lost", keep < pending.len());
        crate::site!("table.crash.some_batches_kept", keep > 0 && keep < pending.len());
        for batch in pending.into_iter().take(keep) {
            apply(&mut state.flushed, &batch);
        }
        state.live = state.flushed.clone();
    }

    /// From now on there is no room for flushes, or again.
    pub fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    /// All pairs, for comparing replicas.
    #[must_use]
    pub fn dump(&self) -> Vec<Pair> {
        self.lock().live.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

fn apply(map: &mut BTreeMap<Vec<u8>, Vec<u8>>, batch: &Batch) {
    for (key, value) in &batch.changes {
        match value {
            Some(value) => map.insert(key.clone(), value.clone()),
            None => map.remove(key),
        };
    }
}

fn range<'a>(from: &'a [u8], to: &'a [u8]) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    (Bound::Included(from), if to.is_empty() { Bound::Unbounded } else { Bound::Excluded(to) })
}

impl Table for MemoryTable {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.lock().live.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>> {
        if !to.is_empty() && from >= to {
            return Ok(Vec::new());
        }
        let state = self.lock();
        Ok(state
            .live
            .range::<[u8], _>(range(from, to))
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    fn write(&self, batch: Batch) -> Result<()> {
        let mut state = self.lock();
        apply(&mut state.live, &batch);
        state.pending.push(batch);
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        let mut state = self.lock();
        if crate::site!("table.full", state.full) {
            return Err(TableError { table: "memory".to_owned(), cause: format!("IO error: {NO_SPACE}") });
        }
        state.pending.clear();
        state.flushed = state.live.clone();
        Ok(())
    }

    fn clear(&self, from: &[u8], to: &[u8]) -> Result<()> {
        let mut batch = Batch::default();
        for (key, _) in Table::scan(self, from, to, usize::MAX)? {
            batch.delete(key);
        }
        self.write(batch)
    }

    fn at_one_moment(&self, work: &mut dyn FnMut(&dyn super::Reader)) {
        let copy = Self::default();
        copy.lock().live = self.lock().live.clone();
        work(&copy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_the_contract() {
        super::super::contract(&MemoryTable::new());
    }

    #[test]
    fn crash_keeps_a_prefix_from_the_last_flush_on() {
        let table = MemoryTable::new();
        for (round, key) in ["a", "b", "c"].into_iter().enumerate() {
            let mut batch = Batch::default();
            batch.put(key, "");
            table.write(batch).unwrap();
            if round == 0 {
                table.flush().unwrap();
            }
        }
        table.crash(|batches| {
            assert_eq!(batches, 3);
            1
        });
        assert_eq!(table.dump().len(), 2);
    }
}
