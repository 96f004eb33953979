//! The store against a model of bytes and holes, on a simulated disk: random edits, folds, checkpoints, restarts,
//! deaths and power cuts.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::executor::block_on;
use proto::checksum::block_checksum;
use proto::id::{Ino, ObjectKey, VolumeId};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rt::disk::sim::SimDisk;
use rt::table::memory::MemoryTable;

use super::{FileBlocks, Parts, Stamp, Store, StoreError, Tuning};

#[path = "../../tests/support/model.rs"]
mod model;

use model::{BLOCK, Model, Objects, Op, apply_to_model, apply_to_store, key, random_op, read_back, snapshot};

struct World {
    disk: SimDisk,
    table: MemoryTable,
    machine: u64,
    segment_bytes: u32,
    /// Reserve and floor.
    kept: (u64, u64),
}

impl World {
    fn new() -> Self {
        let (disk, table) = (SimDisk::new(), MemoryTable::new());
        Self { disk, table, machine: 0, segment_bytes: 3 * BLOCK as u32, kept: (0, 0) }
    }

    fn open(&self, capacity_blocks: u64) -> Store {
        let tuning = Tuning {
            large_bytes: 4 * BLOCK as u32,
            segment_bytes: self.segment_bytes,
            grow_bytes: 64 * BLOCK as u64,
            cached_objects: 3,
            background: false,
            reserve_bytes: self.kept.0,
            floor_bytes: self.kept.1,
            ..Tuning::default()
        };
        Store::open(Parts {
            disk: Arc::new(self.disk.clone()),
            table: Arc::new(self.table.clone()),
            open_blocks: &|shard| {
                Ok(FileBlocks::open(Arc::new(self.disk.clone()), &format!("data-{shard}"))?)
            },
            uuid: "a".to_owned(),
            shards: 2,
            capacity_blocks,
            tuning,
            machine: self.machine.to_string(),
        })
        .unwrap()
    }
}

/// Folds and checkpoints that are under way while edits go on.
#[derive(Default)]
struct Housekeeping<'a> {
    running: Vec<Pin<Box<dyn Future<Output = super::Result<()>> + 'a>>>,
}

impl<'a> Housekeeping<'a> {
    /// Perhaps begins something, and goes on a bit with what was begun.
    fn step(&mut self, store: &'a Store, rng: &mut StdRng) {
        match rng.random_range(0..14) {
            0 => self.running.push(Box::pin(store.fold(0))),
            1 => self.running.push(Box::pin(store.fold(20 * BLOCK as u64))),
            2 | 3 => self.running.push(Box::pin(store.checkpoint_in_place())),
            4 => self.running.push(Box::pin(store.sync_file(VolumeId(1), Ino(rng.random_range(1..4))))),
            5 => self.finish(),
            _ => {}
        }
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..rng.random_range(0..4) {
            self.running.retain_mut(|work| match work.as_mut().poll(&mut context) {
                Poll::Ready(done) => {
                    done.unwrap();
                    false
                }
                Poll::Pending => true,
            });
        }
    }

    fn finish(&mut self) {
        block_on(futures::future::try_join_all(self.running.drain(..))).unwrap();
    }
}

#[test]
fn behaves_like_bytes_and_holes_over_restarts() {
    for seed in 0..30 {
        let mut rng = StdRng::seed_from_u64(seed);
        let world = World::new();
        let mut objects = Objects::new();
        for life in 0..6 {
            let store = world.open(1 << 20);
            assert_eq!(snapshot(&store), objects, "seed {seed} life {life}");
            let mut housekeeping = Housekeeping::default();
            for step in 0..20 {
                let op = random_op(&mut rng);
                assert!(apply_to_store(&store, &op));
                apply_to_model(&mut objects, &op);
                housekeeping.step(&store, &mut rng);
                if step == 10 {
                    assert_eq!(snapshot(&store), objects, "seed {seed} life {life}");
                }
            }
            // Half of the times without a word of farewell: kill -9 keeps what was written.
            if rng.random_bool(0.5) {
                housekeeping.finish();
                block_on(store.close()).unwrap();
            }
        }
        // All space comes back.
        let store = world.open(1 << 20);
        for ino in 1..4 {
            assert!(apply_to_store(&store, &Op::Remove { ino: Ino(ino) }));
        }
        block_on(store.checkpoint_in_place()).unwrap();
        let usage = store.usage();
        assert_eq!((usage.free_bytes, usage.objects), (usage.total_bytes, 0));
        assert!(store.shards.iter().all(|shard| shard.lock().journal.tallies.is_empty()));
    }
}

#[test]
fn a_full_store_refuses_and_changes_nothing() {
    let mut refused = 0;
    for seed in 0..10 {
        let mut rng = StdRng::seed_from_u64(seed);
        let world = World::new();
        let store = world.open(150);
        let mut objects = Objects::new();
        for step in 0..150 {
            let op = random_op(&mut rng);
            if apply_to_store(&store, &op) {
                apply_to_model(&mut objects, &op);
            } else {
                refused += 1;
            }
            if step % 4 == 0 {
                block_on(store.fold(0)).unwrap();
                block_on(store.checkpoint_in_place()).unwrap();
            }
            if step % 10 == 0 {
                assert_eq!(snapshot(&store), objects, "seed {seed} step {step}");
            }
        }
    }
    assert!(refused > 20, "the store was full only {refused} times");
}

/// What is free on the disk below, without what it would take to see it.
fn free(world: &World) -> u64 {
    rt::disk::Disk::free_bytes(&world.disk).unwrap()
}

/// Writes until the disk below is full, and goes on with whatever comes: what was refused changed nothing, cuts and removals
/// are always taken, and what they give can be written again.
#[test]
fn on_a_full_disk_data_is_refused_and_everything_else_goes_on() {
    let (mut refused, mut written) = (0, 0);
    for seed in 0..20 {
        let mut rng = StdRng::seed_from_u64(seed);
        let world = World { kept: (1 << 20, 1 << 20), segment_bytes: 8 * BLOCK as u32, ..World::new() };
        // For about half of what the edits want.
        world.disk.resize((2 << 20) + 160 * BLOCK as u64);
        let mut objects = Objects::new();
        for life in 0..3 {
            let store = world.open(1 << 20);
            for step in 0..120 {
                let op = random_op(&mut rng);
                let is_data = matches!(op, Op::Write { .. });
                if apply_to_store(&store, &op) {
                    apply_to_model(&mut objects, &op);
                    written += usize::from(is_data);
                } else {
                    assert!(is_data, "seed {seed} life {life} step {step}: only data may be refused");
                    refused += 1;
                }
                if rng.random_range(0..6) == 0 {
                    block_on(store.maintain(true)).unwrap();
                }
                if step % 20 == 0 {
                    assert_eq!(snapshot(&store), objects, "seed {seed} life {life} step {step}");
                }
            }
            assert!(!store.has_failed(), "seed {seed} life {life}");
        }
    }
    assert!(refused > 100 && written > 100, "{refused} writes refused, {written} done");
}

/// Somebody else takes all room there is, then gives it back.
#[test]
fn a_disk_filled_by_somebody_else_loses_nothing_and_recovers_by_itself() {
    let mut world = World { kept: (1 << 20, 1 << 20), ..World::new() };
    world.disk.resize(16 << 20);
    let store = world.open(1 << 20);
    let write = |store: &Store, object: u64, byte: u8, len: usize| {
        let data = Bytes::from(vec![byte; len]);
        apply_to_store(store, &Op::Write { key: key(1, object), offset: 0, data, sums: false })
    };
    for object in 0..4 {
        assert!(write(&store, object, object as u8 + 1, 3 * BLOCK));
    }
    block_on(store.maintain(true)).unwrap();
    assert!(write(&store, 0, 9, 100), "something for the next checkpoint");
    let used = (16 << 20) - free(&world);
    world.disk.resize(used);
    world.table.set_full(true);
    assert!(!write(&store, 4, 5, 100), "no room for data");
    assert_eq!(store.room_bytes(1), 0);
    // The reserve is for this: a removal is taken, and lasts.
    assert!(apply_to_store(&store, &Op::Remove { ino: Ino(1) }));
    assert!(matches!(block_on(store.maintain(true)), Err(StoreError::NoSpace(_))), "the table is full too");
    assert!(!store.has_failed(), "a full disk is no broken one");
    assert!(block_on(store.sync_all()).is_ok());
    assert_eq!(read_back(&store, key(1, 1)), None);

    // A restart on the full disk, also of the machine.
    drop(store);
    world.machine += 1;
    world.table.crash(|_| 0);
    let store = world.open(1 << 20);
    assert_eq!(read_back(&store, key(1, 1)), None);
    assert!(!write(&store, 4, 5, 100), "what replay freed must not be used before the table knows");
    let done = block_on(store.maintain(true));
    assert!(matches!(&done, Err(StoreError::NoSpace(_))), "{done:?}");

    world.disk.resize(16 << 20);
    world.table.set_full(false);
    assert!(!write(&store, 4, 5, 100), "not yet");
    block_on(store.maintain(true)).unwrap();
    assert!(write(&store, 4, 5, 3 * BLOCK));
    assert_eq!(read_back(&store, key(1, 4)).unwrap().bytes, vec![5; 3 * BLOCK]);
    assert!(store.room_bytes(1) > 8 << 20, "the reserve is whole again: {}", store.room_bytes(1));
    drop(store);
    let store = world.open(1 << 20);
    assert_eq!(read_back(&store, key(1, 4)).unwrap().bytes, vec![5; 3 * BLOCK]);
}

/// Cuts the power again and again. What was synced when the power went must be there; what came later may be
/// there up to some point; nothing may be anything else.
#[test]
fn power_loss_loses_nothing_synced_and_invents_nothing() {
    for seed in 0..60 {
        let mut rng = StdRng::seed_from_u64(seed);
        // With tiny segments nearly every entry has one of its own.
        let mut world =
            World { segment_bytes: if seed % 3 == 0 { 100 } else { 3 * BLOCK as u32 }, ..World::new() };
        // Shards lose different tails, so there is a history for each object: its states since the last sync.
        let mut histories: BTreeMap<ObjectKey, Vec<Option<Model>>> = BTreeMap::new();
        let mut killed = false;
        for _life in 0..5 {
            let store = world.open(1 << 20);
            for ino in 1..4 {
                for object in 0..4 {
                    let key = key(ino, object);
                    let now = read_back(&store, key);
                    let history = histories.entry(key).or_insert_with(|| vec![None]);
                    assert!(
                        history.contains(&now),
                        "seed {seed}: {key:?} is none of its states since the last sync"
                    );
                    assert!(
                        !killed || history.last() == Some(&now),
                        "seed {seed}: {key:?} is older than acknowledged"
                    );
                    *history = vec![now];
                }
            }
            let mut objects: Objects =
                histories.iter().filter_map(|(key, states)| Some((*key, states.last()?.clone()?))).collect();
            // The recovered state was made durable by the open.
            let mut housekeeping = Housekeeping::default();
            for _ in 0..rng.random_range(1..40) {
                let op = random_op(&mut rng);
                assert!(apply_to_store(&store, &op));
                apply_to_model(&mut objects, &op);
                for (key, states) in &mut histories {
                    let now = objects.get(key).cloned();
                    if states.last() != Some(&now) {
                        states.push(now);
                    }
                }
                housekeeping.step(&store, &mut rng);
                if rng.random_bool(0.15) {
                    let ino = Ino(rng.random_range(1..4));
                    block_on(store.sync_file(VolumeId(1), ino)).unwrap();
                    for (_, states) in histories.iter_mut().filter(|(key, _)| key.ino == ino) {
                        states.drain(..states.len() - 1);
                    }
                }
            }
            drop(housekeeping);
            drop(store);
            // The process may die some times before the machine does.
            killed = rng.random_bool(0.3);
            if !killed {
                world.disk.lose_power(|n| rng.random_range(0..n));
                world.machine += 1;
            }
            world.table.crash(|n| rng.random_range(0..n));
        }
    }
}

/// Two writes to different bytes of one block, the second overtaking the first while that reads the old content;
/// and a fold that finds its blocks changed.
#[test]
fn edits_of_one_block_do_not_lose_one_another() {
    let world = World::new();
    let store = world.open(1 << 20);
    let mut context = Context::from_waker(Waker::noop());
    let write = |offset: usize, byte: u8, len: usize| {
        let op = Op::Write { key: key(1, 0), offset, data: Bytes::from(vec![byte; len]), sums: false };
        assert!(apply_to_store(&store, &op));
    };
    write(0, 1, 8 * BLOCK);
    let slow_data = Bytes::from(vec![2; 100]);
    let mut slow = Box::pin(store.write(key(1, 0), 100, slow_data, Vec::new(), Stamp::default()));
    assert!(slow.as_mut().poll(&mut context).is_pending());
    write(300, 3, 100);
    block_on(store.fold(0)).unwrap();
    block_on(slow).unwrap();
    let mut fold = Box::pin(store.fold(0));
    assert!(fold.as_mut().poll(&mut context).is_pending());
    write(500, 4, 100);
    block_on(fold).unwrap();
    let mut want = vec![1; 8 * BLOCK];
    for (offset, byte) in [(100, 2), (300, 3), (500, 4)] {
        want[offset..offset + 100].fill(byte);
    }
    assert_eq!(read_back(&store, key(1, 0)).unwrap().bytes, want);
}

/// A reader that has begun reads what was there, whatever happens to the blocks meanwhile.
#[test]
fn extents_are_not_reused_under_a_reader() {
    let world = World::new();
    let store = world.open(1 << 20);
    let mut context = Context::from_waker(Waker::noop());
    let write = |byte: u8| {
        let op =
            Op::Write { key: key(1, 0), offset: 0, data: Bytes::from(vec![byte; 8 * BLOCK]), sums: false };
        assert!(apply_to_store(&store, &op));
    };
    write(1);
    let mut read = Box::pin(store.read(key(1, 0), 0, 8 * BLOCK as u32));
    assert!(read.as_mut().poll(&mut context).is_pending());
    for byte in 2..6 {
        write(byte);
        block_on(store.checkpoint_in_place()).unwrap();
    }
    assert_eq!(block_on(read).unwrap().data, vec![1; 8 * BLOCK]);
}

#[test]
fn a_failed_sync_ends_writing_for_good() {
    let world = World::new();
    let store = world.open(1 << 20);
    let op =
        |byte: u8| Op::Write { key: key(1, 0), offset: 0, data: Bytes::from(vec![byte; 100]), sums: false };
    assert!(apply_to_store(&store, &op(1)));
    world.disk.fail_after(0);
    assert!(block_on(store.sync_file(VolumeId(1), Ino(1))).is_err());
    world.disk.fail_after(u64::MAX);
    assert!(block_on(store.sync_file(VolumeId(1), Ino(1))).is_err(), "a later sync must not claim success");
    let error = block_on(store.write(key(1, 0), 0, Bytes::from_static(b"x"), Vec::new(), Stamp::default()))
        .unwrap_err();
    assert!(error.to_string().contains("no more writes"), "{error}");
    assert_eq!(read_back(&store, key(1, 0)).unwrap().bytes, vec![1; 100]);
}

#[test]
fn damage_of_synced_entries_is_refused_and_of_data_is_seen() {
    let world = World::new();
    let store = world.open(1 << 20);
    for round in 0..4u8 {
        let data = Bytes::from(vec![round; BLOCK]);
        assert!(apply_to_store(
            &store,
            &Op::Write { key: key(1, 0), offset: round as usize * BLOCK, data, sums: true }
        ));
        block_on(store.sync_all()).unwrap();
    }
    drop(store);
    let name =
        rt::disk::Disk::list(&world.disk).unwrap().into_iter().find(|name| name.contains("journal")).unwrap();
    // In the data of the first entry: recovery keeps it, reading shows the damage.
    assert!(world.disk.corrupt(&name, 64 + 96 + 28 + 10));
    let store = world.open(1 << 20);
    let outcome = block_on(store.read(key(1, 0), 0, 4 * BLOCK as u32)).unwrap();
    assert_ne!(block_checksum(key(1, 0), 0, &outcome.data[..BLOCK]), outcome.sums[0]);
    assert_eq!(block_checksum(key(1, 0), 1, &outcome.data[BLOCK..2 * BLOCK]), outcome.sums[1]);
}
