//! Which OSD gets a replica, and in which order files are looked after.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeSet;

use proto::dir::{OsdEntry, OsdMap, OsdState};
use proto::stripe::{Column, Layout};

/// The best OSD for one more replica beside `list`: up, with room, in a failure domain of its own if there is one,
/// the emptiest of those, as much as it weighs; none that weighs nothing.
#[must_use]
pub fn choose(map: &OsdMap, list: &[u64], never: &BTreeSet<u64>) -> Option<u64> {
    let of = |osd: u64| map.osds.iter().find(|entry| entry.osd == osd);
    let domains: BTreeSet<&str> =
        list.iter().filter_map(|osd| of(*osd)).map(|entry| entry.domain.as_str()).collect();
    let fits = |entry: &&OsdEntry| {
        entry.state == OsdState::Up as i32
            && !list.contains(&entry.osd)
            && !never.contains(&entry.osd)
            && entry.weight() > 0
            && entry.has_room()
    };
    let room = |entry: &OsdEntry| u128::from(entry.free_bytes) * u128::from(entry.weight());
    let rank = |entry: &&OsdEntry| (!domains.contains(entry.domain.as_str()), room(entry), entry.osd);
    map.osds.iter().filter(fits).max_by_key(rank).map(|entry| entry.osd)
}

/// The columns with every OSD of `leaving` replaced; `None` when nothing can be replaced. The others keep their
/// order, so that the present primary stays one; the new one comes last.
#[must_use]
pub fn replace(map: &OsdMap, layout: &Layout, leaving: &BTreeSet<u64>) -> Option<Vec<Column>> {
    let mut changed = false;
    let mut columns = layout.columns.clone();
    for column in &mut columns {
        for osd in column.osds.clone().into_iter().filter(|osd| leaving.contains(osd)) {
            let rest: Vec<u64> = column.osds.iter().copied().filter(|other| *other != osd).collect();
            if let Some(new) = choose(map, &rest, leaving) {
                column.osds = rest;
                column.osds.push(new);
                changed = true;
            }
        }
    }
    changed.then_some(columns)
}

/// Policy `all`: whether every voter of the lists had a vote in those before.
#[must_use]
pub fn adds_no_voter(layout: &Layout) -> bool {
    let voted = |(now, before): (&Column, &Column)| {
        let votes = now.osds.iter().filter(|osd| !layout.learners.contains(osd));
        let mut votes = votes.map(|osd| before.osds.contains(osd) && !layout.previous_learners.contains(osd));
        votes.all(|voted| voted)
    };
    layout.is_all() && layout.columns.iter().zip(&layout.previous).all(voted)
}

/// Policy `all`: learners that are up, so that they may vote again when they have everything.
#[must_use]
pub fn voters_again(map: &OsdMap, layout: &Layout) -> Vec<u64> {
    let up = |osd: &u64| map.osds.iter().any(|entry| entry.osd == *osd && entry.state == OsdState::Up as i32);
    layout.learners.iter().copied().filter(up).collect()
}

/// How many replicas of its worst column could be lost before it has no majority; less is more urgent. Negative: it has
/// none now.
#[must_use]
pub fn spare(map: &OsdMap, layout: &Layout) -> i64 {
    let serves = |osd: &&u64| map.osds.iter().any(|entry| entry.osd == **osd && entry.serves());
    let of = |column: &Column| {
        let up = column.osds.iter().filter(serves).count() as i64;
        if layout.is_all() {
            // Any of the others has everything.
            return up
                - 1
                - column.osds.iter().filter(|osd| layout.learners.contains(osd)).filter(serves).count()
                    as i64;
        }
        up - (column.osds.len() as i64 / 2 + 1)
    };
    layout.columns.iter().chain(&layout.previous).map(of).min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(osds: &[(u64, OsdState, &str, u64)]) -> OsdMap {
        let entry = |(osd, state, domain, free): &(u64, OsdState, &str, u64)| OsdEntry {
            osd: *osd,
            state: *state as i32,
            domain: (*domain).to_owned(),
            free_bytes: free << 30,
            total_bytes: 1 << 40,
            ..OsdEntry::default()
        };
        OsdMap { epoch: 1, osds: osds.iter().map(entry).collect(), dirs: Vec::new() }
    }

    fn layout(columns: &[&[u64]]) -> Layout {
        let columns = columns.iter().map(|osds| Column { osds: osds.to_vec() }).collect();
        Layout { columns, view: 1, ..Layout::default() }
    }

    #[test]
    fn a_new_replica_goes_to_another_domain_and_then_to_the_emptiest() {
        use OsdState::*;
        let map =
            map(&[(1, Up, "a", 9), (2, Up, "b", 9), (3, Up, "a", 99), (4, Up, "c", 1), (5, Up, "c", 2)]);
        assert_eq!(
            choose(&map, &[1, 2], &BTreeSet::new()),
            Some(5),
            "not the emptiest: its domain has one already"
        );
        assert_eq!(choose(&map, &[1, 2, 5], &BTreeSet::new()), Some(3), "no domain is left: the emptiest");
        assert_eq!(choose(&map, &[1, 2, 5], &[3].into()), Some(4));
        assert_eq!(choose(&map, &[1, 2, 3, 4, 5], &BTreeSet::new()), None);
    }

    #[test]
    fn a_new_replica_goes_where_there_is_room_by_weight() {
        use OsdState::*;
        let mut map = map(&[(1, Up, "a", 9), (2, Up, "b", 20), (3, Up, "c", 15), (4, Up, "d", 99)]);
        (map.osds[1].weight, map.osds[3].weight) = (Some(50), Some(0));
        assert_eq!(choose(&map, &[1], &BTreeSet::new()), Some(3), "10 of 2 count, 15 of 3");
        assert_eq!(choose(&map, &[1, 3], &BTreeSet::new()), Some(2));
        assert_eq!(choose(&map, &[1, 2, 3], &BTreeSet::new()), None, "4 weighs nothing");
    }

    #[test]
    fn who_leaves_is_replaced_and_the_others_keep_their_places() {
        use OsdState::*;
        let map =
            map(&[(1, Out, "a", 9), (2, Up, "b", 9), (3, Up, "c", 9), (4, Up, "d", 9), (5, Down, "e", 99)]);
        let columns = replace(&map, &layout(&[&[1, 2, 3], &[2, 3, 4]]), &[1].into()).unwrap();
        assert_eq!(columns[0].osds, [2, 3, 4]);
        assert_eq!(columns[1].osds, [2, 3, 4], "nothing leaves it");
        assert_eq!(replace(&map, &layout(&[&[2, 3, 4]]), &[1].into()), None);
        assert_eq!(replace(&map, &layout(&[&[1, 2, 3, 4]]), &[1].into()), None, "nobody is left to take it");
    }

    #[test]
    fn of_policy_all_learners_protect_nothing_and_vote_again_when_they_are_up() {
        use OsdState::*;
        let map = map(&[(1, Up, "a", 9), (2, Up, "b", 9), (3, Down, "c", 9)]);
        let all = |lists: &[&[u64]], learners: &[u64], previous_learners: &[u64]| Layout {
            replication: proto::stripe::Replication::All as i32,
            previous: layout(lists).columns,
            learners: learners.to_vec(),
            previous_learners: previous_learners.to_vec(),
            ..layout(lists)
        };
        assert_eq!(voters_again(&map, &all(&[&[1, 2, 3]], &[2, 3], &[])), [2]);
        assert_eq!(spare(&map, &Layout { previous: Vec::new(), ..all(&[&[1, 2]], &[], &[]) }), 1);
        assert_eq!(spare(&map, &Layout { previous: Vec::new(), ..all(&[&[1, 2]], &[2], &[]) }), 0);
        assert!(adds_no_voter(&all(&[&[1, 2]], &[2], &[])), "a demotion");
        assert!(!adds_no_voter(&all(&[&[1, 2]], &[], &[2])), "a promotion");
        assert!(!adds_no_voter(&Layout { replication: 1, ..all(&[&[1, 2]], &[2], &[]) }));
    }

    #[test]
    fn who_has_fewest_to_lose_comes_first() {
        use OsdState::*;
        let map = map(&[(1, Down, "a", 9), (2, Up, "b", 9), (3, Up, "c", 9), (4, Out, "d", 9)]);
        assert_eq!(spare(&map, &layout(&[&[1, 2, 3]])), 0);
        assert_eq!(spare(&map, &layout(&[&[2, 3, 5], &[1, 4, 2]])), -1);
        assert_eq!(spare(&map, &layout(&[&[2, 3]])), 0);
    }
}
