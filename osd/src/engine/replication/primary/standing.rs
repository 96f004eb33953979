//! What others may know of a column that this OSD leads.

use std::time::Duration;

use super::{Member, Phase, Primary};
use crate::engine::replication::column::Column;

impl<P: Clone, W> Column<P, W> {
    /// (members that are not in sync, objects that differ at them) of a column that this OSD leads.
    #[must_use]
    pub fn lag(&self) -> (usize, usize) {
        let Some(primary) = self.primary.as_ref() else { return (0, 0) };
        let lags = |(_, member): &(&u64, &Member)| !member.agrees() || !member.adopted;
        let lagging = primary.listed().filter(lags).count();
        let objects = primary.listed().map(|(_, member)| member.dirty.len() + member.moving.len()).sum();
        (lagging, objects)
    }

    /// What lags at which member of a column that this OSD leads: objects that differ, as far as known.
    #[must_use]
    pub fn behind(&self) -> Vec<(u64, usize)> {
        let members = self.primary.iter().flat_map(Primary::listed);
        let lags = |(_, member): &(&u64, &Member)| !member.agrees() || !member.adopted;
        members.filter(lags).map(|(osd, member)| (*osd, member.dirty.len() + member.moving.len())).collect()
    }

    /// Whether the column serves and every member of the list that is up has everything, and these are a majority: the list
    /// before is not needed any more. Policy `all`: it serves, so all voters have adopted the view; one that died since does not matter.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let Some(primary) = self.primary.as_ref().filter(|primary| primary.phase == Phase::Serving) else {
            return false;
        };
        let has = |member: &Member| member.agrees() && member.adopted;
        let whole = primary.voters().filter(|(_, member)| has(member)).count();
        (primary.all || whole >= primary.needed())
            && primary.listed().all(|(_, member)| !member.up || has(member))
    }

    /// An object that this OSD leads and does not have.
    #[must_use]
    pub fn lacking(&self) -> Option<u64> {
        self.primary.as_ref().and_then(|primary| primary.heads.keys().next().copied())
    }

    /// Objects with changes that are not applied here yet.
    #[must_use]
    pub fn busy_objects(&self) -> Vec<u64> {
        self.primary.iter().flat_map(|primary| primary.objects.keys().copied()).collect()
    }

    /// A change failed here after it was numbered: only a new life of this OSD can lead the column again.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.primary.as_ref().is_some_and(|primary| primary.phase == Phase::Broken)
    }

    /// Whether so many members have said that they are full that new data would find no majority: better not numbered.
    #[must_use]
    pub fn lacks_room(&self, now: Duration) -> bool {
        self.primary.as_ref().is_some_and(|primary| {
            let with_room = primary.voters().filter(|(_, member)| member.full_until <= now).count();
            with_room < primary.needed()
        })
    }

    /// Whether somebody waits for this object to get to other members: the column does not serve before they have it, or a change of it is not
    /// committed.
    #[must_use]
    pub fn is_awaited(&self, object: u64) -> bool {
        self.primary.as_ref().is_some_and(|primary| {
            let mut changes = primary.changes.range((object, 0)..=(object, u64::MAX));
            primary.phase != Phase::Serving || changes.next().is_some()
        })
    }

    /// Whether this OSD leads and serves.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.primary.as_ref().is_some_and(|primary| primary.phase == Phase::Serving)
    }
}
