//! Two stores, one of which misses changes: with the patch it is equal, or the patch is refused.

use futures::executor::block_on;
use proptest::prelude::*;
use proto::id::{Ino, ObjectNo, VolumeId};
use rt::disk::sim::SimDisk;
use rt::table::memory::MemoryTable;

use super::*;
use crate::store::{FileBlocks, Parts, Tuning};

const BLOCK: u32 = BLOCK_BYTES as u32;

fn store(name: &str) -> Store {
    let disk = SimDisk::new();
    let tuning = Tuning {
        large_bytes: 4 * BLOCK,
        grow_bytes: 64 * u64::from(BLOCK),
        background: false,
        ..Tuning::default()
    };
    Store::open(Parts {
        disk: Arc::new(disk.clone()),
        table: Arc::new(MemoryTable::new()),
        open_blocks: &|shard| Ok(FileBlocks::open(Arc::new(disk.clone()), &format!("data-{shard}"))?),
        uuid: name.to_owned(),
        shards: 1,
        capacity_blocks: 1 << 16,
        tuning,
        machine: "m".to_owned(),
    })
    .unwrap()
}

fn key() -> ObjectKey {
    ObjectKey { volume: VolumeId(1), ino: Ino(2), object: ObjectNo(3) }
}

fn stamp((epoch, version): Version) -> Stamp {
    Stamp { epoch, view: 1, version }
}

fn write(store: &Store, at: Version, first: u32, count: u32, fill: u8) {
    let data = Bytes::from(vec![fill; (count * BLOCK) as usize]);
    block_on(store.write(key(), first * BLOCK, data, Vec::new(), stamp(at))).unwrap();
}

fn copy(store: &Store) -> Option<(Version, Copied)> {
    block_on(store.copy(key())).unwrap()
}

/// What checksums show to be lacking at `other`, as two OSDs find it out.
fn by_checksums(store: &Store, other: &Store) -> Delta {
    let (here, there) = (store.outline(key()).unwrap().unwrap(), other.outline(key()).unwrap().unwrap());
    let (groups, sums) = there.unlike(&here.groups());
    let theirs = here.others(there.bytes, &groups, &sums).unwrap();
    assert_eq!(theirs, there.sums);
    let changed = differing(&here.sums, &theirs);
    block_on(store.delta_at(key(), here.version, there.version, changed)).unwrap().unwrap()
}

fn patch(store: &Store, to: Version, delta: &Delta) -> bool {
    let delta = delta.clone().check(key()).unwrap();
    block_on(store.patch(key(), stamp(to), &delta)).unwrap()
}

#[test]
fn one_block_of_a_large_object_is_all_that_goes() {
    for compared in [false, true] {
        let (one, two) = (store("one"), store("two"));
        for at in [&one, &two] {
            write(at, (3, 1), 0, 256, 7);
        }
        write(&one, (3, 2), 100, 1, 9);
        let delta = if compared {
            by_checksums(&one, &two)
        } else {
            block_on(one.delta_since(key(), (3, 1))).unwrap().unwrap().1
        };
        assert_eq!((delta.changed.as_slice(), delta.copied.data.len()), (&[(100, 1)][..], BLOCK_BYTES));
        assert_eq!(delta.digest.is_some(), compared);
        assert!(patch(&two, (3, 2), &delta));
        assert_eq!(copy(&one), copy(&two));
        // What was put together is on the trail of the one that was patched only if nothing was guessed.
        let known = block_on(two.delta_since(key(), (3, 1))).unwrap();
        assert_eq!(known.is_some(), !compared);
    }
}

#[test]
fn a_patch_for_something_else_changes_nothing() {
    let (one, two) = (store("one"), store("two"));
    for at in [&one, &two] {
        write(at, (3, 1), 0, 8, 7);
    }
    write(&one, (3, 2), 3, 1, 9);
    let exact = block_on(one.delta_since(key(), (3, 1))).unwrap().unwrap().1;
    let guessed = by_checksums(&one, &two);
    // Another version.
    write(&two, (3, 5), 6, 1, 1);
    let before = copy(&two);
    assert!(!patch(&two, (3, 2), &exact) && !patch(&two, (3, 2), &guessed));
    // The version that it is made for, but a block that was not sent has other bytes: its checksum did not show it.
    let three = store("three");
    write(&three, (2, 9), 0, 8, 7);
    write(&three, (3, 1), 6, 1, 1);
    let other = copy(&three);
    assert!(!patch(&three, (3, 2), &guessed));
    assert_eq!((copy(&two), copy(&three)), (before, other));
}

#[test]
fn what_contradicts_itself_is_refused() {
    let one = store("one");
    write(&one, (3, 1), 0, 8, 7);
    write(&one, (3, 2), 3, 2, 9);
    let (_, good) = block_on(one.delta_since(key(), (3, 1))).unwrap().unwrap();
    assert!(good.clone().check(key()).is_ok());
    let bad = |change: fn(&mut Delta)| {
        let mut delta = good.clone();
        change(&mut delta);
        assert!(delta.clone().check(key()).is_err(), "{delta:?}");
    };
    bad(|delta| delta.changed = vec![(3, 1)]);
    bad(|delta| delta.changed = vec![(4, 2)]);
    bad(|delta| delta.changed = vec![(3, 2), (4, 1)]);
    bad(|delta| delta.changed = vec![(3, 6)]);
    bad(|delta| delta.changed = vec![(3, 2), (u32::MAX, 2)]);
    bad(|delta| delta.copied.data = delta.copied.data.slice(..BLOCK_BYTES));
    bad(|delta| delta.copied.sums[0] ^= 1);
    assert_eq!(Outline::others(&one.outline(key()).unwrap().unwrap(), 8 * BLOCK, &[0], &[1; 7]), None);
    assert_eq!(Outline::others(&one.outline(key()).unwrap().unwrap(), 8 * BLOCK, &[1], &[]), None);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Write(u32, u32),
    Punch(u32, u32),
    Cut(u32),
    Fold,
    /// The other one is brought up to date.
    Follow {
        compared: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u32..40 * BLOCK, 1u32..9 * BLOCK).prop_map(|(at, len)| Step::Write(at, len)),
        2 => (0u32..40 * BLOCK, 1u32..9 * BLOCK).prop_map(|(at, len)| Step::Punch(at, len)),
        1 => (0u32..40 * BLOCK).prop_map(Step::Cut),
        1 => Just(Step::Fold),
        3 => any::<bool>().prop_map(|compared| Step::Follow { compared }),
    ]
}

proptest! {
    #[test]
    fn whoever_follows_by_patches_has_the_same(steps in proptest::collection::vec(step(), 1..40)) {
        let (one, two) = (store("one"), store("two"));
        for at in [&one, &two] {
            write(at, (1, 1), 0, 20, 1);
        }
        let mut version = (1, 1);
        for (number, step) in (2u64..).zip(steps) {
            let next = (1 + number / 5, number);
            match step {
                Step::Write(at, len) => {
                    let data = Bytes::from(vec![u8::try_from(number % 251).unwrap(); len as usize]);
                    block_on(one.write(key(), at, data, Vec::new(), stamp(next))).unwrap();
                    version = next;
                }
                Step::Punch(at, len) => {
                    block_on(one.punch(key(), at, len, stamp(next))).unwrap();
                    version = next;
                }
                Step::Cut(keep) => {
                    block_on(one.cut(key(), keep, stamp(next))).unwrap();
                    version = next;
                }
                Step::Fold => {
                    block_on(one.fold(0)).unwrap();
                    block_on(two.fold(0)).unwrap();
                }
                Step::Follow { compared } => {
                    let has = two.stamp_of(key()).unwrap();
                    let since = block_on(one.delta_since(key(), has)).unwrap().filter(|_| !compared);
                    let delta = since.map_or_else(|| by_checksums(&one, &two), |(_, delta)| delta);
                    prop_assert!(patch(&two, version, &delta));
                    prop_assert_eq!(copy(&one), copy(&two));
                }
            }
        }
    }
}
