//! When two columns are alike, for searches through all that can happen (`chaos/models`): whatever comes next, both do the
//! same. Ids of calls and counts of talks are only names: they grow with every attempt, and a search would never end.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::{After, Column};
use crate::engine::replication::member::Member;

impl<P: Hash, W: Hash> Hash for Column<P, W> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Named one by one, so that a new field cannot be forgotten.
        let Self {
            me,
            role,
            promised,
            told,
            ids: _,
            numbers,
            pending,
            changing,
            asked,
            applying,
            parked,
            parked_count,
            primary,
            effects,
        } = self;
        (me, role, promised, told, numbers, changing).hash(state);
        (asked, applying, parked, parked_count, primary, effects).hash(state);
        let mut meanings: Vec<u64> = pending.values().map(|after| self.meaning_of(after)).collect();
        meanings.sort_unstable();
        meanings.hash(state);
    }
}

impl<P, W: Hash> Column<P, W> {
    /// What the end of this work or call means here; the same for two that differ in their name only, 0 for one that nobody
    /// waits for.
    #[must_use]
    pub fn meaning(&self, id: u64) -> u64 {
        self.pending.get(&id).map_or(0, |after| self.meaning_of(after))
    }

    fn meaning_of(&self, after: &After<W>) -> u64 {
        let mut hasher = DefaultHasher::new();
        if let After::Call { epoch, osd, talk, what } = after {
            let goes_on = self.primary.as_ref().is_some_and(|primary| primary.talks(*epoch, *osd, *talk));
            (0u8, epoch, osd, goes_on, what).hash(&mut hasher);
        } else {
            (1u8, after).hash(&mut hasher);
        }
        hasher.finish()
    }
}

impl Hash for Member {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self {
            listed,
            before,
            votes,
            voted_before,
            up,
            since,
            contact,
            adopted,
            adopting,
            dirty,
            has,
            moving,
            outstanding,
            full_until,
            talk: _,
        } = self;
        (listed, before, votes, voted_before).hash(state);
        (up, since, contact, adopted, adopting).hash(state);
        (dirty, has, moving, outstanding, full_until).hash(state);
    }
}
