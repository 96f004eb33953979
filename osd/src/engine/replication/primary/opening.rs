//! What was told while gathering: whether it is enough, and which state it makes.

use std::collections::{BTreeMap, BTreeSet};

use super::Primary;
use crate::engine::replication::Version;
use crate::engine::replication::event::Told;
use crate::engine::replication::member::Member;

impl<P, W> Primary<P, W> {
    /// Enough has been told to know what was committed.
    pub(super) fn knows_enough(&self) -> bool {
        // Somebody who has not told may be the former primary, and may not have heard that it is.
        if !self.told.contains_key(&self.me) || !(self.all_told() || self.waited) {
            rt::site!("column.open.waits_for_silent", self.told.contains_key(&self.me));
            return false;
        }
        // The primary of the view before may be one that nobody of the list talks to: it must have promised.
        let heard =
            |(osd, member): (&u64, &Member)| !member.before || !member.up || self.told.contains_key(osd);
        if rt::site!("column.open.waits_for_former_view", !self.members.iter().all(heard)) {
            return false;
        }
        if self.is_sound() {
            // With only half of a list sound nobody who can speak is left out.
            let half = self.lists().any(|(size, sound, _)| sound <= size / 2);
            if rt::site!("column.open.half_sound", half) && !self.all_told() {
                return false;
            }
            // The newest version of an object may be damaged where it is: the others know more of it, or that it was
            // never committed. They are waited for, however long it takes.
            let damaged = self.told.values().any(|told| !told.damaged.is_empty());
            return !rt::site!("column.open.waits_for_damaged", damaged && !self.all_told());
        }
        let told = |(size, sound, doubtful): (usize, usize, usize)| {
            let majority = size / 2 + 1;
            sound >= majority || doubtful >= majority
        };
        rt::site!("column.open.majority_missing", !self.lists().all(told));
        rt::site!("column.open.majority_doubtful", self.lists().all(told) && self.all_told());
        self.lists().all(told) && self.all_told()
    }

    /// Of each list that must be heard: its size, how many of it told soundly, how many doubtfully.
    fn lists(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let of = |belongs: fn(&Member) -> bool| {
            let members = self.members.iter().filter(|(_, member)| belongs(member));
            let told: Vec<&Told> = members.clone().filter_map(|(osd, _)| self.told.get(osd)).collect();
            let doubtful = told.iter().filter(|told| told.doubtful).count();
            (members.count(), told.len() - doubtful, doubtful)
        };
        [of(|member| member.listed), of(|member| member.before)].into_iter().filter(|(size, _, _)| *size > 0)
    }

    /// A majority of each list told, and so many soundly that no majority is without one of them: one of these has whatever was committed, and
    /// has promised if any later epoch was. Of an odd list that is a majority, of an even one half.
    fn is_sound(&self) -> bool {
        self.lists().all(|(size, sound, doubtful)| sound + doubtful > size / 2 && sound >= size.div_ceil(2))
    }

    /// Everybody who can has told.
    fn all_told(&self) -> bool {
        self.members.iter().all(|(osd, member)| !member.up || self.told.contains_key(osd))
    }

    /// Object by object the newest state of those who adopted the highest epoch, and what anybody has of that epoch: its
    /// primary wrote it, and no later epoch was opened without it.
    pub(super) fn state_of_epoch(&self) -> BTreeMap<u64, Version> {
        let sound: Vec<&Told> = self.told.values().filter(|told| !told.doubtful).collect();
        let highest = sound.iter().map(|told| told.adopted).max().unwrap_or(0);
        let basis: Vec<&Told> = if self.is_sound() {
            self.told.values().filter(|told| told.adopted == highest).collect()
        } else {
            // Power went away under a majority: whatever is left of anybody, the newest.
            self.told.values().collect()
        };
        let mut state: BTreeMap<u64, Version> = BTreeMap::new();
        let of_epoch =
            self.told.values().flat_map(|told| &told.objects).filter(|(_, version)| version.epoch == highest);
        for (object, version) in basis.iter().flat_map(|told| &told.objects).chain(of_epoch) {
            let newest = state.entry(*object).or_default();
            *newest = (*newest).max(*version);
        }
        let damaged: BTreeSet<u64> =
            self.told.values().flat_map(|told| told.damaged.iter().copied()).collect();
        for object in damaged {
            self.without_damage(&basis, object, &mut state);
        }
        state
    }

    /// A version that only damaged copies have, and that cannot have been committed because too many lack it, does not
    /// stand in the way of the one before.
    fn without_damage(&self, basis: &[&Told], object: u64, state: &mut BTreeMap<u64, Version>) {
        let version = |told: &Told| {
            let at = told.objects.binary_search_by_key(&object, |(object, _)| *object);
            at.map_or(Version::default(), |at| told.objects[at].1)
        };
        let sound = self.is_sound();
        while let Some(newest) = state.get(&object).copied() {
            let whole = |told: &&Told| version(told) == newest && !told.damaged.contains(&object);
            // Committed would be: at a majority of the list, of whichever view.
            let committed = |belongs: fn(&Member) -> bool| {
                let members = self.members.iter().filter(|(_, member)| belongs(member));
                let size = members.clone().count();
                // A doubtful one may have had it and forgotten. (When power went away under too many for that, what is left counts.)
                let lacks = |told: &&Told| version(told) < newest && !(sound && told.doubtful);
                let lack = members.filter_map(|(osd, _)| self.told.get(osd)).filter(lacks).count();
                size > 0 && lack <= size - (size / 2 + 1)
            };
            let perhaps = committed(|member| member.listed) || committed(|member| member.before);
            let there = self.told.values().any(|told| whole(&told));
            rt::site!("column.open.damaged_whole_elsewhere", there);
            rt::site!("column.open.damaged_perhaps_committed", perhaps && !there);
            if perhaps || there {
                return;
            }
            match basis.iter().map(|told| version(told)).filter(|version| *version < newest).max() {
                Some(before)
                    if rt::site!("column.open.damaged_rolled_back", before != Version::default()) =>
                {
                    state.insert(object, before)
                }
                _ => state.remove(&object),
            };
        }
    }
}
