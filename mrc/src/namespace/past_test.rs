//! Rows of the past against whole copies of the table.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rt::table::memory::MemoryTable;
use rt::table::{Reader, Table, Txn, prefix_end};

use super::super::volume::{self, Moment, Volume};
use super::*;

const VOLUME: u64 = 7;

#[derive(Clone, Debug)]
enum Step {
    /// One command: keys set or removed.
    Change(Vec<(u8, u8, Option<u8>)>),
    Snapshot,
    Remove(u8),
    Sweep,
}

/// Few keys, with names that are prefixes of others, zeroes and 0xff in them, in several tables.
fn key(table: u8, name: u8) -> Vec<u8> {
    let names: [&[u8]; 8] = [
        b"a",
        b"a\0",
        b"a\0\0\0\0\0\0\0\x01",
        b"a\0\xff",
        b"ab",
        b"\xff",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"b",
    ];
    let name = names[usize::from(name) % names.len()];
    match table % 3 {
        0 => keys::dentry(VOLUME, 1, name),
        1 => keys::dentry(VOLUME, u64::from(name[0]) | 0xff00, name),
        _ => keys::xattr(VOLUME, u64::MAX, name),
    }
}

fn step() -> impl Strategy<Value = Step> {
    let change = prop::collection::vec((any::<u8>(), any::<u8>(), prop::option::of(any::<u8>())), 1..4);
    prop_oneof![
        6 => change.prop_map(Step::Change),
        2 => Just(Step::Snapshot),
        1 => any::<u8>().prop_map(Step::Remove),
        1 => Just(Step::Sweep),
    ]
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

struct World {
    table: MemoryTable,
    rows: Rows,
    snapshots: BTreeMap<u64, Rows>,
}

impl World {
    fn new() -> Self {
        let world = Self { table: MemoryTable::new(), rows: Rows::new(), snapshots: BTreeMap::new() };
        world.record(|record| record.next_ino = 5);
        world
    }

    fn record(&self, change: impl FnOnce(&mut Volume)) {
        let mut txn = Txn::new(&self.table);
        let mut record = volume::find(&txn, VOLUME).unwrap().unwrap_or_default();
        change(&mut record);
        volume::put(&mut txn, VOLUME, &record);
        self.table.write(txn.into_batch()).unwrap();
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Change(changes) => {
                let mut txn = Txn::new(&self.table);
                // A command before it in the same batch.
                txn.put(b"other".to_vec(), b"1".to_vec());
                txn.savepoint();
                for (table, name, value) in changes {
                    let key = key(table, name);
                    match value {
                        Some(value) => {
                            txn.put(key.clone(), vec![value]);
                            self.rows.insert(key, vec![value]);
                        }
                        None => {
                            txn.delete(key.clone());
                            self.rows.remove(&key);
                        }
                    }
                }
                keep(&mut txn).unwrap();
                self.table.write(txn.into_batch()).unwrap();
            }
            Step::Snapshot => {
                let mut made = 0;
                self.record(|record| {
                    record.last_snapshot += 1;
                    made = record.last_snapshot;
                    record.snapshots.push(Moment { id: made, next_ino: 5 });
                });
                self.snapshots.insert(made, self.rows.clone());
            }
            Step::Remove(which) => {
                let Some(id) =
                    self.snapshots.keys().nth(usize::from(which) % self.snapshots.len().max(1)).copied()
                else {
                    return;
                };
                self.snapshots.remove(&id);
                self.record(|record| record.snapshots.retain(|moment| moment.id != id));
            }
            Step::Sweep => {
                let mut after = Vec::new();
                loop {
                    let mut txn = Txn::new(&self.table);
                    let record = volume::find(&txn, VOLUME).unwrap().unwrap();
                    let next = sweep(&mut txn, VOLUME, &record, &after, 2).unwrap();
                    self.table.write(txn.into_batch()).unwrap();
                    match next {
                        Some(next) => after = next,
                        None => break,
                    }
                }
                if self.snapshots.is_empty() {
                    assert_eq!(
                        Table::scan(&self.table, &[table::PAST], &prefix_end(&[table::PAST]), 9).unwrap(),
                        []
                    );
                }
            }
        }
    }

    fn check(&self) {
        for (id, rows) in &self.snapshots {
            let past = Past::new(&self.table, *id);
            for table in 0..3 {
                for name in 0..8 {
                    let key = key(table, name);
                    assert_eq!(past.get(&key).unwrap().as_ref(), rows.get(&key), "{id}: {key:02x?}");
                }
            }
            let listings = [
                keys::dentry(VOLUME, 1, b""),
                keys::of_volume(table::DENTRY, VOLUME),
                keys::xattr(VOLUME, u64::MAX, b""),
            ];
            for from in listings {
                let to = prefix_end(&from);
                let all: Vec<Pair> = rows
                    .range(from.clone()..)
                    .take_while(|(key, _)| key.starts_with(&from))
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                for limit in [1, 2, 3, 100] {
                    let want: Vec<Pair> = all.iter().take(limit).cloned().collect();
                    assert_eq!(past.scan(&from, &to, limit).unwrap(), want, "{id}: {from:02x?}");
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn a_snapshot_shows_what_was(steps in prop::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
            world.check();
        }
    }
}

#[test]
fn what_was_kept_for_a_removed_snapshot_serves_an_older_one() {
    let mut world = World::new();
    let change = |value| Step::Change(vec![(0, 0, value)]);
    for step in [Step::Snapshot, Step::Snapshot, change(Some(1)), Step::Remove(1), change(None)] {
        world.run(step);
        world.check();
    }
}

#[test]
fn more_rows_than_are_read_at_once_are_listed_whole() {
    let mut world = World::new();
    let name = |at: usize| keys::order(VOLUME, 1, at as u64);
    let put = |world: &World, range: std::ops::Range<usize>, value: Option<&[u8]>| {
        let mut txn = Txn::new(&world.table);
        txn.savepoint();
        for at in range {
            match value {
                Some(value) => txn.put(name(at), value.to_vec()),
                None => txn.delete(name(at)),
            }
        }
        keep(&mut txn).unwrap();
        world.table.write(txn.into_batch()).unwrap();
    };
    put(&world, 0..3000, Some(b"old"));
    world.run(Step::Snapshot);
    put(&world, 0..2000, None);
    world.run(Step::Snapshot);
    put(&world, 1000..3000, Some(b"new"));
    let prefix = keys::listing_of(VOLUME, 1);
    let list = |id: u64| Past::new(&world.table, id).scan(&prefix, &prefix_end(&prefix), 10_000).unwrap();
    assert_eq!(list(1).len(), 3000);
    assert!(list(1).iter().all(|(_, value)| value == b"old"));
    assert_eq!(list(2).len(), 1000);
    assert!(list(2).iter().all(|(_, value)| value == b"old"));
}
