//! Whether an inode has rows in another table, for inodes in ascending order: nearly none has, so nearly nothing is read.

use rt::table::Reader;

use crate::namespace::{Outcome, keys};

/// Looks ahead in a table whose second word is an inode.
pub(super) struct Near {
    table: u8,
    /// The table's first inode at or after the second one is the first one; `None`: there is none any more.
    next: Option<(Option<u64>, u64)>,
}

impl Near {
    pub(super) fn new(table: u8) -> Self {
        Self { table, next: None }
    }

    /// Whether there are rows of `ino`.
    pub(super) fn has(&mut self, reader: &dyn Reader, volume: u64, ino: u64) -> Outcome<bool> {
        let known = self.next.filter(|(next, since)| *since <= ino && next.is_none_or(|next| next >= ino));
        let next = match known {
            Some((next, _)) => next,
            None => self.look(reader, volume, ino)?,
        };
        Ok(next == Some(ino))
    }

    fn look(&mut self, reader: &dyn Reader, volume: u64, ino: u64) -> Outcome<Option<u64>> {
        let all = keys::of_volume(self.table, volume);
        let from = [&all[..], &ino.to_be_bytes()].concat();
        let rows = reader.scan(&from, &rt::table::prefix_end(&all), 1)?;
        // A damaged key is told of elsewhere; here nothing is known.
        let next = rows.first().map(|(key, _)| keys::word(key, 1).unwrap_or(ino));
        self.next = Some((next, ino));
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use rt::table::memory::MemoryTable;
    use rt::table::{Batch, Pair, Result, Table};

    use super::*;
    use crate::namespace::keys::table;

    /// Counts what is read.
    struct Counting(MemoryTable, Cell<u32>);

    impl Reader for Counting {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
            self.1.set(self.1.get() + 1);
            Table::get(&self.0, key)
        }

        fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>> {
            self.1.set(self.1.get() + 1);
            Table::scan(&self.0, from, to, limit)
        }
    }

    #[test]
    fn tells_what_is_there_and_reads_only_where_something_is() {
        let with = [3, 500, 501];
        let mut batch = Batch::default();
        for ino in with {
            batch.put(keys::link(9, ino, 1, 7), "");
        }
        batch.put(keys::link(10, 600, 1, 7), "");
        let reader = Counting(MemoryTable::new(), Cell::new(0));
        reader.0.write(batch).unwrap();
        let mut near = Near::new(table::LINK);
        for ino in 1..1000 {
            assert_eq!(near.has(&reader, 9, ino).unwrap(), with.contains(&ino), "{ino}");
        }
        assert!(reader.1.get() <= 5, "{} reads", reader.1.get());
        // Backwards it is right too.
        assert!(near.has(&reader, 9, 3).unwrap() && !near.has(&reader, 9, 2).unwrap());
    }
}
