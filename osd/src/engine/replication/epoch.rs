//! From the OSD map and a list to the epoch of a column and its primary.

use proto::dir::{OsdEntry, OsdMap, OsdState};

/// What a map says of one OSD of the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Its number.
    pub osd: u64,
    /// Whether it serves.
    pub up: bool,
    /// Map epoch since which it is as it is.
    pub since: u64,
}

/// What a map makes of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Role {
    /// Epoch of the column.
    pub epoch: u64,
    /// Who leads; `None` when nobody is up.
    pub primary: Option<u64>,
    /// The list, in its order.
    pub members: Vec<Standing>,
}

fn standing(map: &OsdMap, osd: u64) -> Standing {
    let entry: Option<&OsdEntry> =
        map.osds.binary_search_by_key(&osd, |entry| entry.osd).ok().map(|at| &map.osds[at]);
    let up =
        |entry: &OsdEntry| matches!(OsdState::try_from(entry.state), Ok(OsdState::Up | OsdState::Draining));
    Standing { osd, up: entry.is_some_and(up), since: entry.map_or(0, |entry| entry.since_epoch) }
}

/// Epoch and primary of a column under a map. Both invariants of the page rest on this function.
#[must_use]
pub fn role(map: &OsdMap, list: &[u64]) -> Role {
    let members: Vec<Standing> = list.iter().map(|osd| standing(map, *osd)).collect();
    let first = members.iter().position(|member| member.up);
    let prefix = first.map_or(members.len(), |at| at + 1);
    let epoch = members[..prefix].iter().map(|member| member.since).max().unwrap_or(0);
    Role { epoch, primary: first.map(|at| members[at].osd), members }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(epoch: u64, osds: &[(u64, bool)]) -> OsdMap {
        let entry = |(osd, (since, up)): (u64, &(u64, bool))| OsdEntry {
            osd,
            since_epoch: *since,
            state: if *up { OsdState::Up } else { OsdState::Down } as i32,
            ..OsdEntry::default()
        };
        OsdMap { epoch, osds: (1..).zip(osds).map(entry).collect() }
    }

    #[test]
    fn changes_behind_the_primary_change_nothing() {
        let list = [2, 1, 3];
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
        fn epochs_are_ballots(changes in proptest::collection::vec((0usize..4, any::<bool>()), 1..40)) {
            let mut osds = vec![(1, true), (2, true), (3, true), (4, true)];
            let list = [3, 1, 4];
            let mut before = role(&map(4, &osds), &list);
            for (epoch, (which, up)) in (5..).zip(changes) {
                osds[which] = (epoch, up);
                let now = role(&map(epoch, &osds), &list);
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
