//! What makes one version of an object of another: found from the trail of changes or by comparing checksums, and put over
//! what is here in one entry. `docs/protocols/replication.md`, "Resync".

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proto::checksum::crc32c;
use proto::id::ObjectKey;
use proto::limits::BLOCK_BYTES;
use sha2::{Digest, Sha256};

use super::Store;
use super::error::{Result, StoreError};
use super::replica::Copied;
use super::shard::{Stamp, name};
use crate::engine::record::{ObjectRecord, blocks_of};

/// Blocks whose checksums are compared together at first.
pub(crate) const GROUP_BLOCKS: usize = 16;

/// (epoch, number) of a version.
type Version = (u64, u64);
/// (first block, blocks), ascending.
type Ranges = Vec<(u32, u32)>;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delta {
    /// The version that it is put over.
    pub base: Version,
    /// What is replaced, ascending, apart from one another.
    pub changed: Ranges,
    /// The new length, and the data within `changed`; the rest of `changed` becomes holes.
    pub copied: Copied,
    /// Of the whole object after it, when `changed` was guessed by checksums.
    pub digest: Option<[u8; 32]>,
}

impl Delta {
    /// Refuses what contradicts itself or its checksums.
    pub fn check(self, key: ObjectKey) -> Result<Self> {
        let bad = || Err(StoreError::Corrupt(format!("a patch for {} contradicts itself", name(key))));
        let mut next = 0;
        for (first, count) in &self.changed {
            let Some(end) = first.checked_add(*count).filter(|_| *first >= next && *count > 0) else {
                return bad();
            };
            if end > blocks_of(self.copied.bytes) {
                return bad();
            }
            next = end;
        }
        let within = |(first, count): &(u32, u32)| {
            let at = self.changed.partition_point(|(changed, _)| changed <= first);
            let of = at.checked_sub(1).map(|at| self.changed[at]);
            of.is_some_and(|(changed, blocks)| first.saturating_add(*count) <= changed + blocks)
        };
        if !self.copied.runs.iter().all(within) {
            return bad();
        }
        Ok(Self { copied: self.copied.check(key)?, ..self })
    }
}

/// Version, length and checksums of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outline {
    /// (epoch, number).
    pub version: Version,
    /// Bytes.
    pub bytes: u32,
    /// Of each block; 0 for a hole.
    pub sums: Vec<u32>,
    /// Blocks with data.
    pub data_blocks: u32,
}

impl Outline {
    fn of(record: &ObjectRecord) -> Self {
        Self {
            version: (record.epoch, record.version),
            bytes: record.length,
            sums: record.sums.clone(),
            data_blocks: record.allocated(),
        }
    }

    /// One checksum per group of blocks.
    #[must_use]
    pub fn groups(&self) -> Vec<u32> {
        self.sums.chunks(GROUP_BLOCKS).map(group).collect()
    }

    /// Groups that another one does not have as they are here, and the checksums of their blocks.
    #[must_use]
    pub fn unlike(&self, groups: &[u32]) -> (Vec<u32>, Vec<u32>) {
        let (mut unlike, mut sums) = (Vec::new(), Vec::new());
        for ((number, of_group), at) in (0u32..).zip(self.sums.chunks(GROUP_BLOCKS)).zip(0..) {
            if groups.get(at) != Some(&group(of_group)) {
                unlike.push(number);
                sums.extend_from_slice(of_group);
            }
        }
        (unlike, sums)
    }

    /// The other one's checksums, from what it said of the groups that differ. `None`: that makes no sense.
    #[must_use]
    pub fn others(&self, bytes: u32, groups: &[u32], sums: &[u32]) -> Option<Vec<u32>> {
        let mut theirs = self.sums.clone();
        theirs.resize(blocks_of(bytes) as usize, 0);
        let mut rest = sums;
        for number in groups {
            let from = (*number as usize).checked_mul(GROUP_BLOCKS).filter(|from| *from < theirs.len())?;
            let count = GROUP_BLOCKS.min(theirs.len() - from);
            let (here, after) = rest.split_at_checked(count)?;
            theirs[from..from + count].copy_from_slice(here);
            rest = after;
        }
        rest.is_empty().then_some(theirs)
    }
}

fn group(sums: &[u32]) -> u32 {
    let bytes: Vec<u8> = sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
    crc32c(&bytes)
}

/// Blocks of `new` that `old` does not have, as far as checksums show.
#[must_use]
pub(crate) fn differing(new: &[u32], old: &[u32]) -> Ranges {
    let mut ranges: Ranges = Vec::new();
    for (block, (_, sum)) in (0u32..).zip(new.iter().enumerate()) {
        if old.get(block as usize).copied().unwrap_or(0) == *sum {
            continue;
        }
        match ranges.last_mut() {
            Some((first, count)) if *first + *count == block => *count += 1,
            _ => ranges.push((block, 1)),
        }
    }
    ranges
}

/// Of a whole object: its length, and each block that holds data.
fn digest(bytes: u32, blocks: &BTreeMap<u32, Bytes>) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(bytes.to_le_bytes());
    for (block, data) in blocks {
        digest.update(block.to_le_bytes());
        digest.update(data);
    }
    digest.finalize().into()
}

fn blocks(copied: &Copied) -> impl Iterator<Item = (u32, Bytes)> + '_ {
    let numbers = copied.runs.iter().flat_map(|(first, count)| *first..first + count);
    numbers.zip(0..).map(|(block, at)| (block, copied.data.slice(at * BLOCK_BYTES..(at + 1) * BLOCK_BYTES)))
}

/// What is in `ranges` of an object whose data blocks are `data`, all of them or only those of the ranges.
fn excerpt(record: &ObjectRecord, ranges: &[(u32, u32)], data: &Bytes, whole: bool) -> Copied {
    let (mut runs, mut sums, mut out) = (Ranges::new(), Vec::new(), Vec::new());
    for (first, count) in ranges {
        for piece in record.pieces_in(*first, first + count) {
            sums.extend_from_slice(&record.sums[piece.first as usize..piece.end() as usize]);
            match runs.last_mut() {
                Some((run, blocks)) if *run + *blocks == piece.first && piece.first > *first => {
                    *blocks += piece.count;
                }
                _ => runs.push((piece.first, piece.count)),
            }
            if whole {
                let before: u32 = record.pieces_in(0, piece.first).map(|piece| piece.count).sum();
                let at = before as usize * BLOCK_BYTES;
                out.extend_from_slice(&data[at..at + piece.count as usize * BLOCK_BYTES]);
            }
        }
    }
    let data = if whole { Bytes::from(out) } else { data.clone() };
    Copied { bytes: record.length, runs, sums, data }
}

impl Store {
    /// Version, length and checksums of an object; `None` when there is none.
    pub fn outline(&self, key: ObjectKey) -> Result<Option<Outline>> {
        Ok(self.record_of(key)?.map(|record| Outline::of(&record)))
    }

    /// What makes the object as it is here of the version `base`, with that version. `None`: what changed since is not
    /// known.
    pub async fn delta_since(&self, key: ObjectKey, base: Version) -> Result<Option<(Version, Delta)>> {
        let shard = self.shard(key);
        let mut since = None;
        let chosen = shard.copy_some(key, |trails, record| {
            let end = blocks_of(record.length);
            let blocks = trails.since(&key, (record.epoch, record.version), base)?;
            let within = blocks.into_iter().map(|(from, to)| (from, to.min(end)));
            let ranges: Ranges =
                within.filter(|(from, to)| from < to).map(|(from, to)| (from, to - from)).collect();
            since = Some(ranges.clone());
            Some(ranges)
        });
        let Some((record, data)) = chosen.await? else { return Ok(None) };
        let Some(changed) = since else { return Ok(None) };
        let copied = excerpt(&record, &changed, &data, false);
        Ok(Some(((record.epoch, record.version), Delta { base, changed, copied, digest: None })))
    }

    /// What makes the object, which must have the version `at`, of the version `base`, when `changed` was found by
    /// checksums. `None`: it has another version by now.
    pub async fn delta_at(
        &self,
        key: ObjectKey,
        at: Version,
        base: Version,
        changed: Ranges,
    ) -> Result<Option<Delta>> {
        let shard = self.shard(key);
        let chosen = shard
            .copy_some(key, |_, record| ((record.epoch, record.version) == at).then(|| vec![(0, u32::MAX)]));
        let Some((record, data)) = chosen.await? else { return Ok(None) };
        if changed.iter().any(|(first, count)| first.saturating_add(*count) > blocks_of(record.length)) {
            return Ok(None);
        }
        let whole = excerpt(&record, &[(0, blocks_of(record.length))], &data, false);
        let digest = digest(record.length, &blocks(&whole).collect());
        let copied = excerpt(&record, &changed, &data, true);
        Ok(Some(Delta { base, changed, copied, digest: Some(digest) }))
    }

    /// Puts a delta over the object. False: what is here is not what it was made for; nothing was changed.
    pub async fn patch(&self, key: ObjectKey, stamp: Stamp, delta: &Delta) -> Result<bool> {
        if let Some(wanted) = delta.digest {
            let whole = match self.copy(key).await {
                Ok(Some((version, whole))) if version == delta.base => whole,
                Ok(_) | Err(StoreError::Corrupt(_)) => return Ok(false),
                Err(error) => return Err(error),
            };
            let end = blocks_of(delta.copied.bytes);
            let replaced = |block: &u32| delta.changed.iter().any(|(a, n)| (*a..a + n).contains(block));
            let mut merged: BTreeMap<u32, Bytes> =
                blocks(&whole).filter(|(block, _)| *block < end && !replaced(block)).collect();
            merged.extend(blocks(&delta.copied));
            if digest(delta.copied.bytes, &merged) != wanted {
                tracing::debug!(object = name(key), "blocks with equal checksums differ, or were damaged");
                return Ok(false);
            }
        }
        let only_if = Some((delta.base, delta.digest.is_none()));
        Ok(self.shard(key).put(key, stamp, &delta.copied, &delta.changed, only_if).await?.is_some())
    }
}

/// What [`super::shard::Shard::copy_some`] gives: the record, and the data blocks chosen, one after the other.
pub(crate) type Chosen = (Arc<ObjectRecord>, Bytes);

#[cfg(test)]
#[path = "delta_test.rs"]
mod delta_test;
