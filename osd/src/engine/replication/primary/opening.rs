//! What was told while gathering: whether it is enough, and which state it makes.

use std::collections::{BTreeMap, BTreeSet};

use super::Primary;
use crate::engine::replication::Version;
use crate::engine::replication::epoch::view_of;
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
        if rt::site!("column.open.voter_missing", self.all && !self.is_fenced()) {
            return false;
        }
        if self.is_sound() {
            // With only half of a list sound nobody who can speak is left out.
            let half = !self.all && self.lists().any(|(size, sound, _)| sound <= size / 2);
            if rt::site!("column.open.half_sound", half) && !self.all_told() {
                return false;
            }
            // The newest version of an object may be damaged where it is: the others know more of it, or that it was
            // never committed. They are waited for, however long it takes.
            let damaged = self.told.values().any(|told| !told.damaged.is_empty());
            return !rt::site!("column.open.waits_for_damaged", damaged && !self.all_told());
        }
        // Power went away under one list, and the other, an even one, may be sound with half of it.
        let told = |list: (usize, usize, usize)| {
            let (size, sound, doubtful) = list;
            let enough = self.of_voters(size);
            sound >= enough || doubtful >= enough || self.is_list_sound(list)
        };
        rt::site!("column.open.majority_missing", !self.lists().all(told));
        rt::site!("column.open.majority_doubtful", self.lists().all(told) && self.all_told());
        self.lists().all(told) && self.all_told()
    }

    /// Policy `all`: voters have promised, so that no older primary can commit any more: one of the list, and one of the list before unless
    /// the view was opened already.
    fn is_fenced(&self) -> bool {
        let told = |belongs: fn(&Member) -> bool| {
            self.members.iter().any(|(osd, member)| belongs(member) && self.told.contains_key(osd))
        };
        let before = self.members.values().any(|member| member.voted_before);
        let done = !before || self.was_opened() || told(|member| member.voted_before);
        done && told(|member| member.votes)
    }

    /// Policy `all`: nobody is asked to adopt an epoch of a view before all its voters have everything, so who has adopted one shows that the list
    /// before has nothing more to tell.
    fn was_opened(&self) -> bool {
        let view = view_of(self.epoch);
        self.told.values().any(|told| told.adopted > 0 && view_of(told.adopted) == view)
    }

    /// Of each list that must be heard: how many voters it has, how many of them told soundly, how many doubtfully.
    fn lists(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let of = |belongs: fn(&Member) -> bool| {
            let members = self.members.iter().filter(|(_, member)| belongs(member));
            let told: Vec<&Told> = members.clone().filter_map(|(osd, _)| self.told.get(osd)).collect();
            let doubtful = told.iter().filter(|told| told.doubtful).count();
            (members.count(), told.len() - doubtful, doubtful)
        };
        let (now, before) = (of(|member| member.votes), of(|member| member.voted_before));
        let both = if !self.all || before.0 == 0 {
            [now, before]
        } else if rt::site!("column.open.view_was_opened", self.was_opened()) {
            [now, (0, 0, 0)]
        } else {
            // A voter that came with this view may have nothing yet.
            [before, (0, 0, 0)]
        };
        both.into_iter().filter(|(size, _, _)| *size > 0)
    }

    /// A majority of each list told, and so many soundly that no majority is without one of them: one of these has whatever was committed, and
    /// has promised if any later epoch was. Of an odd list that is a majority, of an even one half. Policy `all`: any voter has all of it.
    fn is_sound(&self) -> bool {
        self.lists().all(|list| self.is_list_sound(list))
    }

    /// Likewise, of one list: its voters, those who told soundly, those who told doubtfully.
    fn is_list_sound(&self, (size, sound, doubtful): (usize, usize, usize)) -> bool {
        if self.all { sound > 0 } else { sound + doubtful > size / 2 && sound >= size.div_ceil(2) }
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
                size > 0 && lack <= size - self.of_voters(size)
            };
            // Policy `all`: what is committed in a view comes after its opening, and what was before needed the voters of that time.
            let before_only = self.all && !self.was_opened() && self.members.values().any(|m| m.voted_before);
            let perhaps =
                committed(|member| member.voted_before) || !before_only && committed(|member| member.votes);
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
