//! What objects should be, random edits, and how to compare a store with it. Shared by the tests inside and outside
//! of the crate; the including module has `Store`, `Stamp` and `StoreError` in scope.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "included as a module of two crates")]

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::executor::block_on;
use proto::checksum::{block_checksum, block_checksums};
use proto::id::{Ino, ObjectKey, ObjectNo, VolumeId};
use rand::Rng;
use rand::rngs::StdRng;

use super::{Stamp, Store, StoreError};

pub const BLOCK: usize = 4096;

/// What an object should be: its bytes, and per block whether it may be a hole.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Model {
    pub bytes: Vec<u8>,
    /// Blocks that hold data.
    pub data: Vec<bool>,
}

impl Model {
    fn resize(&mut self, len: usize) {
        self.bytes.resize(len, 0);
        self.data.resize(len.div_ceil(BLOCK), false);
    }

    fn write(&mut self, offset: usize, data: &[u8]) {
        self.resize(self.bytes.len().max(offset + data.len()));
        self.bytes[offset..offset + data.len()].copy_from_slice(data);
        self.data[offset / BLOCK..(offset + data.len()).div_ceil(BLOCK)].fill(true);
    }

    fn punch(&mut self, offset: usize, len: usize) {
        let end = (offset + len).min(self.bytes.len());
        if offset >= end {
            return;
        }
        self.bytes[offset..end].fill(0);
        for block in 0..self.data.len() {
            let (start, stop) = (block * BLOCK, ((block + 1) * BLOCK).min(self.bytes.len()));
            if offset <= start && end >= stop {
                self.data[block] = false;
            }
        }
    }
}

pub type Objects = BTreeMap<ObjectKey, Model>;

#[derive(Clone, Debug)]
pub enum Op {
    Write { key: ObjectKey, offset: usize, data: Bytes, sums: bool },
    Punch { key: ObjectKey, offset: usize, len: usize },
    Truncate { key: ObjectKey, keep: usize },
    Remove { ino: Ino },
}

pub fn key(ino: u64, object: u64) -> ObjectKey {
    ObjectKey { volume: VolumeId(1), ino: Ino(ino), object: ObjectNo(object) }
}

pub fn random_op(rng: &mut StdRng) -> Op {
    let key = key(rng.random_range(1..4), rng.random_range(0..4));
    let max = 40 * BLOCK;
    match rng.random_range(0..20) {
        0..=13 => {
            let (offset, len, sums) = match rng.random_range(0..4) {
                0 => (rng.random_range(0..max), rng.random_range(1..300), false),
                1 => (rng.random_range(0..40) * BLOCK, rng.random_range(1..5) * BLOCK, true),
                2 => (rng.random_range(0..10) * BLOCK, rng.random_range(1..30 * BLOCK), true),
                _ => (rng.random_range(0..max / 2), rng.random_range(1..max / 2), false),
            };
            let mut data = vec![0; len];
            rng.fill(&mut data[..]);
            Op::Write { key, offset, data: Bytes::from(data), sums }
        }
        14..=16 => Op::Punch { key, offset: rng.random_range(0..max), len: rng.random_range(1..max / 2) },
        17..=18 => {
            Op::Truncate { key, keep: if rng.random_bool(0.2) { 0 } else { rng.random_range(0..max) } }
        }
        _ => Op::Remove { ino: key.ino },
    }
}

pub fn apply_to_model(objects: &mut Objects, op: &Op) {
    match op {
        Op::Write { key, offset, data, .. } => objects.entry(*key).or_default().write(*offset, data),
        Op::Punch { key, offset, len } => {
            if let Some(model) = objects.get_mut(key) {
                model.punch(*offset, *len);
            }
        }
        Op::Truncate { key, keep } => {
            objects.retain(|other, _| {
                other.ino != key.ino || other.object < key.object || (other.object == key.object && *keep > 0)
            });
            if let Some(model) = objects.get_mut(key).filter(|model| *keep < model.bytes.len()) {
                model.resize(*keep);
            }
        }
        Op::Remove { ino } => objects.retain(|other, _| other.ino != *ino),
    }
}

/// Runs an op; `false` when there was no space (nothing changed then).
pub fn apply_to_store(store: &Store, op: &Op) -> bool {
    let stamp = Stamp { epoch: 1, view: 2, version: 0 };
    let done = match op {
        Op::Write { key, offset, data, sums } => {
            let sums = if *sums { block_checksums(*key, (*offset / BLOCK) as u32, data) } else { Vec::new() };
            block_on(store.write(*key, *offset as u32, data.clone(), sums, stamp)).map(drop)
        }
        Op::Punch { key, offset, len } => {
            block_on(store.punch(*key, *offset as u32, *len as u32, stamp)).map(drop)
        }
        Op::Truncate { key, keep } => block_on(store.truncate(*key, *keep as u32, stamp)).map(drop),
        Op::Remove { ino } => block_on(store.remove(VolumeId(1), *ino, stamp)),
    };
    match done {
        Ok(()) => true,
        Err(StoreError::NoSpace(_)) => false,
        Err(error) => panic!("{op:?}: {error}"),
    }
}

/// The object as the store reads it, its checksums verified.
pub fn read_back(store: &Store, key: ObjectKey) -> Option<Model> {
    let outcome = block_on(store.read(key, 0, 80 * BLOCK as u32)).unwrap();
    if outcome.version == 0 {
        return None;
    }
    let blocks = outcome.data.chunks(BLOCK);
    assert_eq!(blocks.len(), outcome.sums.len());
    for ((block, chunk), sum) in (0..).zip(blocks).zip(&outcome.sums) {
        assert_eq!(block_checksum(key, block, chunk), *sum, "block {block} of {key:?}");
    }
    let mut bytes = outcome.data.to_vec();
    assert!(bytes.len() <= outcome.length as usize);
    bytes.resize(outcome.length as usize, 0);
    let (listed, _) = store.list(key.volume, key.ino, key.object, 1).unwrap();
    let mut data = vec![false; bytes.len().div_ceil(BLOCK)];
    for (offset, len) in listed[0].1.data_ranges() {
        data[offset as usize / BLOCK..(offset + len).div_ceil(BLOCK as u32) as usize].fill(true);
    }
    Some(Model { bytes, data })
}

pub fn snapshot(store: &Store) -> Objects {
    let mut objects = Objects::new();
    for ino in 1..4 {
        for object in 0..4 {
            if let Some(model) = read_back(store, key(ino, object)) {
                objects.insert(key(ino, object), model);
            }
        }
    }
    assert_eq!(store.usage().objects, objects.len() as u64);
    objects
}
