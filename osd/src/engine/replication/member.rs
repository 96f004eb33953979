//! What a primary knows of one member of the list, itself included.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{REPAIRS_AT_ONCE, Standing, Version};

/// How far the talk with a member is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Contact {
    /// Its state is not known; it is asked when it is up and the time has come.
    Unknown { again: Duration },
    /// It was asked.
    Asked,
    /// Its state is known and kept up with.
    Known,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// It is in the list.
    pub(super) listed: bool,
    /// It was in the list of the view before, which is being left.
    pub(super) before: bool,
    /// It counts in the list,
    pub(super) votes: bool,
    /// and in the one before.
    pub(super) voted_before: bool,
    pub(super) up: bool,
    pub(super) since: u64,
    pub(super) contact: Contact,
    /// It has written the epoch down.
    pub(super) adopted: bool,
    /// It was asked to.
    pub(super) adopting: bool,
    /// Objects that differ from the primary's.
    pub(super) dirty: BTreeSet<u64>,
    /// Versions that it told of some of them.
    pub(super) has: BTreeMap<u64, Version>,
    /// Objects on their way.
    pub(super) moving: BTreeSet<u64>,
    /// Changes sent and not answered: number -> object.
    pub(super) outstanding: BTreeMap<u64, u64>,
    /// It refused for lack of room; repairs are tried again then.
    pub(super) full_until: Duration,
    /// Counts the talks: answers to an earlier one say nothing.
    pub(super) talk: u64,
}

impl Member {
    pub(super) fn new(standing: Standing, listed: bool) -> Self {
        Self {
            listed,
            before: !listed,
            votes: listed && standing.votes,
            voted_before: !listed && standing.votes,
            up: standing.up,
            since: standing.since,
            contact: Contact::Unknown { again: Duration::ZERO },
            adopted: false,
            adopting: false,
            dirty: BTreeSet::new(),
            has: BTreeMap::new(),
            moving: BTreeSet::new(),
            outstanding: BTreeMap::new(),
            full_until: Duration::ZERO,
            talk: 0,
        }
    }

    /// Remembers the versions that it told of what differs.
    pub(super) fn told_of(&mut self, theirs: &BTreeMap<u64, Version>) {
        let version = |object: &u64| (*object, theirs.get(object).copied().unwrap_or_default());
        self.has = self.dirty.iter().map(version).collect();
    }

    pub(super) fn is_known(&self) -> bool {
        self.contact == Contact::Known
    }

    /// Nothing of its state is believed any more.
    pub(super) fn forget(&mut self, again: Duration) {
        self.contact = Contact::Unknown { again };
        (self.adopted, self.adopting) = (false, false);
        self.full_until = Duration::ZERO;
        self.talk += 1;
        self.dirty.clear();
        self.has.clear();
        self.moving.clear();
        self.outstanding.clear();
    }

    /// All its objects agree with the primary's, changes under way aside.
    pub(super) fn agrees(&self) -> bool {
        self.is_known() && self.dirty.is_empty() && self.moving.is_empty()
    }

    /// It has everything up to this number.
    pub(super) fn has_all(&self, upto: u64) -> bool {
        self.agrees() && self.adopted && self.outstanding.keys().next().is_none_or(|first| *first > upto)
    }

    /// It had no room, and it is time to see whether it has.
    pub(super) fn room_due(&self) -> Option<Duration> {
        let wants = !self.dirty.is_empty() || !self.adopted;
        (self.is_known() && self.full_until > Duration::ZERO && wants).then_some(self.full_until)
    }

    /// Room for another repair.
    pub(super) fn may_move(&self, now: Duration) -> bool {
        self.may_hurry(now) && self.moving.len() < REPAIRS_AT_ONCE
    }

    /// Room for another repair that somebody waits for.
    pub(super) fn may_hurry(&self, now: Duration) -> bool {
        self.is_known() && self.up && self.full_until <= now && self.moving.len() < 2 * REPAIRS_AT_ONCE
    }
}
