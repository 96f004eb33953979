//! From the OSD map and a list to the epoch of a column and its primary.

use std::time::Duration;

use proto::dir::{OsdEntry, OsdMap};
use proto::stripe::{Column, Layout};

/// What a map says of one OSD of the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Standing {
    /// Its number.
    pub osd: u64,
    /// Whether it serves.
    pub up: bool,
    /// Map epoch since which it is as it is.
    pub since: u64,
    /// It counts when a change is committed and a column is opened.
    pub votes: bool,
}

/// The lists of a column in a view of its file's layout.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lists {
    /// Which view; the first is 1.
    pub view: u64,
    /// The replicas, preferred first.
    pub list: Vec<u64>,
    /// While the list is being changed: the one before.
    pub previous: Vec<u64>,
    /// Policy `all`: every voter has what is committed. Otherwise a majority, and everybody votes.
    pub all: bool,
    /// Policy `all`: who does not vote,
    pub learners: Vec<u64>,
    /// and who did not in the view before.
    pub previous_learners: Vec<u64>,
}

impl Lists {
    /// Of a column of a layout; empty when the layout has no such column.
    #[must_use]
    pub fn of(layout: &Layout, column: u32) -> Self {
        let osds = |columns: &[Column]| columns.get(column as usize).map(|column| column.osds.clone());
        Self {
            view: layout.view,
            list: osds(&layout.columns).unwrap_or_default(),
            previous: osds(&layout.previous).unwrap_or_default(),
            all: layout.is_all(),
            learners: layout.learners.clone(),
            previous_learners: layout.previous_learners.clone(),
        }
    }

    /// Whether an OSD has to do with it.
    #[must_use]
    pub fn names(&self, osd: u64) -> bool {
        self.list.contains(&osd) || self.previous.contains(&osd)
    }
}

/// Bits of an epoch that come from the map; those above are the view's.
pub const MAP_BITS: u32 = 40;

/// The view that an epoch belongs to.
#[must_use]
pub fn view_of(epoch: u64) -> u64 {
    (epoch >> MAP_BITS) + 1
}

/// The lowest epoch of a view.
#[must_use]
pub fn first_of(view: u64) -> u64 {
    (view.max(1) - 1) << MAP_BITS
}

/// The part of an epoch that comes from the map.
#[must_use]
pub fn map_part(epoch: u64) -> u64 {
    epoch & ((1 << MAP_BITS) - 1)
}

/// What a map makes of the lists.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Role {
    /// Epoch of the column.
    pub epoch: u64,
    /// Who leads; `None` when nobody is up.
    pub primary: Option<u64>,
    /// The list, in its order.
    pub members: Vec<Standing>,
    /// The list before, while it is being changed.
    pub previous: Vec<Standing>,
    /// Policy `all`.
    pub all: bool,
    /// When this OSD first heard of a map that makes this epoch; `None`: not known, so it may have been just now.
    pub heard: Option<Duration>,
}

impl Role {
    /// The same with the time at which it was heard of.
    #[must_use]
    pub fn heard_at(self, heard: Option<Duration>) -> Self {
        Self { heard, ..self }
    }
}

fn standing(map: &OsdMap, osd: u64, votes: bool) -> Standing {
    let entry: Option<&OsdEntry> =
        map.osds.binary_search_by_key(&osd, |entry| entry.osd).ok().map(|at| &map.osds[at]);
    Standing {
        osd,
        up: entry.is_some_and(OsdEntry::serves),
        since: entry.map_or(0, |entry| entry.since_epoch),
        votes,
    }
}

/// Whether an OSD should rather not lead, and the map epoch of its last change of any kind.
fn pace(map: &OsdMap, osd: u64) -> (bool, u64) {
    let at = map.osds.binary_search_by_key(&osd, |entry| entry.osd);
    at.map_or((false, 0), |at| (map.osds[at].slow, map.osds[at].since_epoch.max(map.osds[at].slow_since)))
}

/// Epoch and primary of a column under a map. Both invariants of the page rest on this function.
#[must_use]
pub fn role(map: &OsdMap, lists: &Lists) -> Role {
    let standings = |osds: &[u64], learners: &[u64]| -> Vec<Standing> {
        osds.iter().map(|osd| standing(map, *osd, !(lists.all && learners.contains(osd)))).collect()
    };
    let members = standings(&lists.list, &lists.learners);
    let previous = standings(&lists.previous, &lists.previous_learners);
    let able = members.iter().position(|member| member.up && !pace(map, member.osd).0);
    // When all are slow, any of them that becomes quick makes another one lead: all of them count.
    let prefix = able.map_or(members.len(), |at| at + 1);
    rt::site!(
        "column.role.slow_passed_by",
        able.is_some_and(|at| members[..at].iter().any(|member| member.up))
    );
    rt::site!("column.role.all_slow", able.is_none() && members.iter().any(|member| member.up));
    rt::site!("column.role.nobody_up", !members.iter().any(|member| member.up));
    let first = able.or_else(|| members.iter().position(|member| member.up));
    let since = members[..prefix].iter().map(|member| pace(map, member.osd).1).max().unwrap_or(0);
    debug_assert_eq!(since >> MAP_BITS, 0, "maps do not change that often");
    let epoch = (lists.view.max(1) - 1) << MAP_BITS | since;
    Role { epoch, primary: first.map(|at| members[at].osd), members, previous, all: lists.all, heard: None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::dir::OsdState;

    use super::*;

    fn map(epoch: u64, osds: &[(u64, bool)]) -> OsdMap {
        let entry = |(osd, (since, up)): (u64, &(u64, bool))| OsdEntry {
            osd,
            since_epoch: *since,
            state: if *up { OsdState::Up } else { OsdState::Down } as i32,
            ..OsdEntry::default()
        };
        OsdMap { epoch, osds: (1..).zip(osds).map(entry).collect(), dirs: Vec::new() }
    }

    fn lists(view: u64, list: &[u64]) -> Lists {
        Lists { view, list: list.to_vec(), ..Lists::default() }
    }

    #[test]
    fn a_newer_view_is_above_every_map() {
        let late = map(1 << 30, &[(1 << 30, true), (7, true)]);
        let early = map(9, &[(4, true), (7, true)]);
        let (before, after) = (role(&late, &lists(1, &[1, 2])), role(&early, &lists(2, &[2, 1])));
        assert!(after.epoch > before.epoch);
        assert_eq!((view_of(after.epoch), map_part(after.epoch), after.primary), (2, 7, Some(2)));
        assert_eq!(view_of(before.epoch), 1);
    }

    #[test]
    fn changes_behind_the_primary_change_nothing() {
        let list = lists(1, &[2, 1, 3]);
        let before = role(&map(9, &[(4, true), (7, true), (5, true)]), &list);
        assert_eq!((before.epoch, before.primary), (7, Some(2)));
        let after = role(&map(10, &[(10, false), (7, true), (5, true)]), &list);
        assert_eq!((after.epoch, after.primary), (7, Some(2)));
        let died = role(&map(11, &[(4, true), (11, false), (5, true)]), &list);
        assert_eq!((died.epoch, died.primary), (11, Some(1)));
        assert_eq!(role(&map(11, &[(4, false), (11, false), (5, false)]), &list).primary, None);
    }

    proptest! {
        /// Forward in maps is forward in epochs, and an epoch has one primary in one life.
        #[test]
        fn epochs_are_ballots(
            changes in proptest::collection::vec((0usize..4, any::<bool>(), any::<bool>()), 1..60)
        ) {
            let mut map = map(4, &[(1, true), (2, true), (3, true), (4, true)]);
            let list = lists(1, &[3, 1, 4]);
            let mut before = role(&map, &list);
            for (epoch, (which, is, pace)) in (5..).zip(changes) {
                let entry = &mut map.osds[which];
                if pace {
                    (entry.slow, entry.slow_since) = (is, epoch);
                } else {
                    entry.state = if is { OsdState::Up } else { OsdState::Down } as i32;
                    entry.since_epoch = epoch;
                }
                map.epoch = epoch;
                let now = role(&map, &list);
                let up = |osd: u64| now.members.iter().any(|member| member.osd == osd && member.up);
                let slow = |osd: &u64| map.osds[*osd as usize - 1].slow;
                let quick: Vec<u64> = list.list.iter().copied().filter(|osd| up(*osd) && !slow(osd)).collect();
                let any = list.list.iter().copied().find(|osd| up(*osd));
                prop_assert_eq!(now.primary, quick.first().copied().or(any));
                prop_assert!(now.epoch >= before.epoch);
                if now.epoch == before.epoch {
                    prop_assert_eq!(now.primary, before.primary);
                    let life = |role: &Role| role.members.iter().find(|m| Some(m.osd) == role.primary).map(|m| m.since);
                    prop_assert_eq!(life(&now), life(&before));
                }
                before = now;
            }
        }
    }
}
