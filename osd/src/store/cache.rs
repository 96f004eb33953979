//! Object records in memory: every changed one (until a checkpoint), and hot unchanged ones.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use proto::id::ObjectKey;

use crate::engine::record::ObjectRecord;

/// A record, or that there is no such object.
pub(crate) type Slot = Option<Arc<ObjectRecord>>;

struct Entry {
    slot: Slot,
    /// Used since the eviction's hand passed.
    hot: bool,
}

/// See the module. Changed records are never evicted; their number is bounded by checkpoints.
#[derive(Default)]
pub(crate) struct Cache {
    entries: BTreeMap<ObjectKey, Entry>,
    dirty: BTreeSet<ObjectKey>,
    hand: Option<ObjectKey>,
    limit: usize,
}

impl Cache {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// What is known of an object; `None`: ask the table.
    pub(crate) fn get(&mut self, key: ObjectKey) -> Option<Slot> {
        let entry = self.entries.get_mut(&key)?;
        entry.hot = true;
        Some(entry.slot.clone())
    }

    /// Keeps what the table said.
    pub(crate) fn put_clean(&mut self, key: ObjectKey, slot: Slot) {
        self.entries.insert(key, Entry { slot, hot: false });
        if self.entries.len() - self.dirty.len() > self.limit {
            self.evict();
        }
    }

    /// Lets go of a record that is about to be changed; [`Cache::put_dirty`] must follow.
    pub(crate) fn take(&mut self, key: ObjectKey) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.slot = None;
        }
    }

    /// Keeps a changed record, or that the object was removed.
    pub(crate) fn put_dirty(&mut self, key: ObjectKey, slot: Slot) {
        self.entries.insert(key, Entry { slot, hot: true });
        self.dirty.insert(key);
    }

    /// How many records differ from the table.
    pub(crate) fn dirty_count(&self) -> usize {
        self.dirty.len()
    }

    /// All changed records.
    pub(crate) fn dirty(&self) -> Vec<(ObjectKey, Slot)> {
        self.dirty.iter().map(|key| (*key, self.entries[key].slot.clone())).collect()
    }

    /// The changed records of a range.
    pub(crate) fn dirty_in(
        &self,
        range: RangeInclusive<ObjectKey>,
    ) -> impl Iterator<Item = (ObjectKey, Slot)> + '_ {
        self.dirty.range(range).map(|key| (*key, self.entries[key].slot.clone()))
    }

    /// These reached the table: those unchanged since are clean.
    pub(crate) fn written(&mut self, rows: &[(ObjectKey, Slot)]) {
        for (key, slot) in rows {
            let same = match (slot, self.entries.get(key).map(|entry| &entry.slot)) {
                (Some(written), Some(Some(now))) => written.seq == now.seq,
                (None, Some(None)) => true,
                _ => false,
            };
            if same {
                self.dirty.remove(key);
                if slot.is_none() {
                    self.entries.remove(key);
                }
            }
        }
        while self.entries.len() - self.dirty.len() > self.limit {
            self.evict();
        }
    }

    /// Second chance: the hand goes round; who was used since the last round stays.
    fn evict(&mut self) {
        for _ in 0..64 {
            let next = match self.hand {
                Some(hand) => {
                    self.entries.range((std::ops::Bound::Excluded(hand), std::ops::Bound::Unbounded)).next()
                }
                None => self.entries.iter().next(),
            };
            let Some((&key, _)) = next else {
                self.hand = None;
                continue;
            };
            self.hand = Some(key);
            if self.dirty.contains(&key) {
                continue;
            }
            let entry = self.entries.get_mut(&key).expect("found just now");
            if !std::mem::take(&mut entry.hot) {
                self.entries.remove(&key);
                return;
            }
        }
    }
}
