//! The log against a model, over kills, power losses with torn tails, and damage.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use raft::eraftpb::Entry;
use rt::disk::Disk as _;
use rt::disk::sim::SimDisk;

use super::{Store, StoreError};

const SEGMENT: u64 = 600;

fn entry(index: u64, term: u64) -> Entry {
    let body = format!("{index}/{term} {}", "x".repeat(usize::try_from(index * 7 % 90).unwrap()));
    Entry { index, term, data: body.into(), ..Entry::default() }
}

fn open(disk: &SimDisk) -> Store {
    Store::open(Arc::new(disk.clone()), 1, 2, SEGMENT).unwrap().0
}

fn all(store: &Store) -> Vec<Entry> {
    store.read(store.first_index(), store.last_index() + 1, u64::MAX).unwrap()
}

/// What the log should hold.
#[derive(Debug, Clone, Default)]
struct Model {
    base: (u64, u64),
    entries: BTreeMap<u64, u64>,
    term: u64,
}

impl Model {
    fn last(&self) -> u64 {
        self.entries.keys().next_back().copied().unwrap_or(self.base.0)
    }

    fn check(&self, store: &Store) {
        assert_eq!((store.state().base_index, store.state().base_term), self.base);
        assert_eq!(store.state().term, self.term);
        let want: Vec<Entry> = self.entries.iter().map(|(index, term)| entry(*index, *term)).collect();
        assert_eq!(all(store), want);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append { back: u64, count: u64 },
    Term,
    Sync,
    Compact { keep: u64 },
    Reset,
    Kill,
    LosePower(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u64..4, 1u64..6).prop_map(|(back, count)| Step::Append { back, count }),
        1 => Just(Step::Term),
        2 => Just(Step::Sync),
        2 => (0u64..12).prop_map(|keep| Step::Compact { keep }),
        1 => Just(Step::Reset),
        1 => Just(Step::Kill),
        2 => any::<u64>().prop_map(Step::LosePower),
    ]
}

/// Runs a step on both. After the loss of power the model is set to one of the states since the last sync.
fn run(step: &Step, disk: &SimDisk, store: &mut Store, model: &mut Model, since_sync: &mut Vec<Model>) {
    match step {
        Step::Append { back, count } => {
            let from = model.last().saturating_sub(*back).max(model.base.0) + 1;
            let entries: Vec<Entry> = (from..from + count).map(|index| entry(index, model.term)).collect();
            store.append(None, &entries).unwrap();
            model.entries.split_off(&from);
            for index in from..from + count {
                model.entries.insert(index, model.term);
                // A torn write may keep any number of its records, and the first of them cuts the log off.
                since_sync.push(model.clone());
            }
        }
        Step::Term => {
            model.term += 1;
            store.change_state(|state| state.term += 1).unwrap();
        }
        Step::Sync => {
            store.sync_now().unwrap();
            since_sync.clear();
        }
        Step::Compact { keep } => {
            let upto = model.last().saturating_sub(*keep);
            if let Some(term) = model.entries.get(&upto).copied() {
                store.compact(upto).unwrap();
                model.base = (upto, term);
                model.entries = model.entries.split_off(&(upto + 1));
            }
        }
        Step::Reset => {
            model.base = (model.last() + 5, model.term);
            model.entries.clear();
            store.reset(model.base.0, model.base.1, |_| {}).unwrap();
        }
        Step::Kill => {
            *store = open(disk);
            since_sync.clear();
        }
        Step::LosePower(random) => {
            let mut random = *random;
            disk.lose_power(|choices| {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 33) % choices
            });
            *store = open(disk);
            let found = since_sync.iter().rev().find(|state| {
                let state_of = store.state();
                (state_of.base_index, state_of.base_term, state_of.term)
                    == (state.base.0, state.base.1, state.term)
                    && all(store)
                        .iter()
                        .map(|one| (one.index, one.term))
                        .eq(state.entries.iter().map(|(i, t)| (*i, *t)))
            });
            *model = found
                .unwrap_or_else(|| panic!("{:?} was never the state: {since_sync:#?}", all(store)))
                .clone();
            since_sync.clear();
        }
    }
    since_sync.push(model.clone());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_what_was_written_or_after_power_loss_a_state_since_the_last_sync(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        let disk = SimDisk::new();
        let mut store = open(&disk);
        let mut model = Model::default();
        let mut since_sync = vec![model.clone()];
        for step in &steps {
            run(step, &disk, &mut store, &mut model, &mut since_sync);
            model.check(&store);
        }
        drop(store);
        model.check(&open(&disk));
    }

    #[test]
    fn a_flipped_bit_in_synced_entries_is_noticed(bit in 0usize..80_000) {
        let disk = SimDisk::new();
        let mut store = open(&disk);
        for index in 1..=40 {
            store.append(None, &[entry(index, 1)]).unwrap();
            store.sync_now().unwrap();
        }
        // The record after says that everything before is on the medium.
        store.append(None, &[entry(41, 1)]).unwrap();
        let synced = store.synced_upto();
        let mut segments = store.segments.keys().copied().filter(|number| *number <= synced.segment);
        let number = segments.nth(bit % usize::try_from(synced.segment).unwrap()).unwrap();
        let name = super::segment_name(number);
        let length = disk.open(&name, false).unwrap().len().unwrap();
        let sound = if number == synced.segment { synced.offset } else { length };
        let offset = (bit as u64 / synced.segment) % sound;
        prop_assume!(disk.corrupt(&name, usize::try_from(offset).unwrap()));
        match Store::open(Arc::new(disk), 1, 2, SEGMENT) {
            Err(StoreError::Corrupt { .. }) => {}
            Err(other) => panic!("{name} at {offset}: {other}"),
            Ok((store, _)) => panic!("{name} at {offset}: opened up to {}", store.last_index()),
        }
    }
}

#[test]
fn compaction_removes_segments_once_it_is_on_the_medium() {
    let disk = SimDisk::new();
    let mut store = open(&disk);
    for index in 1..=100 {
        store.append(None, &[entry(index, 1)]).unwrap();
    }
    let segments = || disk.list().unwrap().len();
    let before = segments();
    assert!(before > 5);
    store.compact(90).unwrap();
    assert_eq!(segments(), before);
    store.sync_now().unwrap();
    assert!(segments() < 5, "{} of {before} are left", segments());
    assert_eq!(store.first_index(), 91);
    assert_eq!(all(&open(&disk)).len(), 10);
}

#[test]
fn another_members_log_and_a_lost_one_are_refused() {
    let disk = SimDisk::new();
    drop(open(&disk));
    let foreign = Store::open(Arc::new(disk.clone()), 1, 3, SEGMENT).err().unwrap();
    assert!(foreign.to_string().contains("member 2 of group 1, not of member 3 of group 1"), "{foreign}");
    disk.remove("log-0000000000000001").unwrap();
    let lost = Store::open(Arc::new(disk), 1, 2, SEGMENT).err().unwrap();
    assert!(matches!(lost, StoreError::Corrupt { .. }), "{lost}");
}

#[test]
fn nothing_is_left_of_a_write_that_found_no_room() {
    let disk = SimDisk::new();
    let mut store = open(&disk);
    store.append(None, &[entry(1, 1)]).unwrap();
    // Room for the first of two.
    let mut longer = entry(3, 1);
    longer.data = "x".repeat(200).into();
    disk.resize(1 << 20);
    let used = (1 << 20) - disk.free_bytes().unwrap();
    disk.resize(used + 200);
    let full = store.append(None, &[entry(2, 1), longer.clone()]).unwrap_err();
    assert!(matches!(&full, StoreError::Io { cause, .. } if rt::disk::is_full(cause)), "{full}");
    assert_eq!(store.last_written(), 1);
    drop(store);
    let mut store = open(&disk);
    assert_eq!((all(&store), store.last_written()), (vec![entry(1, 1)], 1));
    disk.resize(1 << 20);
    store.append(None, &[entry(2, 1), longer.clone()]).unwrap();
    assert_eq!(store.last_written(), 3);
    assert_eq!(all(&open(&disk)), [entry(1, 1), entry(2, 1), longer]);
}

#[test]
fn a_failed_write_and_a_failed_sync_are_told() {
    let disk = SimDisk::new();
    let mut store = open(&disk);
    disk.fail_after(1);
    store.append(None, &[entry(1, 1)]).unwrap();
    assert!(store.sync_now().is_err());
    assert!(store.append(None, &[entry(2, 1)]).is_err());
}
