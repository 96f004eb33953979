//! Giving bits: by the way with an answer, or on request with waiting.

use std::time::Duration;

use proto::mrc::{LEASE_ATTR, LEASE_NAMES, LEASE_WRITE, LeaseGrant};

use super::session::State;
use super::{
    ALL_BITS, ASKING_PER_INODE, Asker, Effect, Entry, Holder, Leases, WAITING_MAX, Waiting, conflicts,
};
use crate::engine::sessions::FileId;

/// Answer to a request for bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acquired {
    /// What the session holds now; not more than was possible.
    Given(Option<LeaseGrant>),
    /// Others have to return theirs first; ask [`Leases::standing`] when woken.
    Waits(u64),
    /// Too many wait, or the session holds too many leases.
    Full,
}

impl Leases {
    /// Gives of `bits` what costs nobody anything. `None`: the session holds nothing on the inode.
    pub fn grant(&mut self, now: Duration, id: u64, file: FileId, bits: u32) -> Option<LeaseGrant> {
        if rt::site!("lease.grant.may_not_hold", !self.may_hold(now, id))
            || rt::site!("lease.grant.in_grace", !self.awaited.is_empty())
        {
            return None;
        }
        let give = match self.inodes.get(&file) {
            Some(entry) => {
                let asked = entry.asking.iter().filter(|asker| asker.session != id);
                let asked = asked.fold(0, |bits, asker| bits | asker.bits);
                let recalled = entry.holder(id).map_or(0, |own| own.recalled);
                rt::site!("lease.grant.others_ask", conflicts(asked) & bits != 0);
                rt::site!("lease.grant.others_hold", conflicts(entry.others(id)) & bits != 0);
                rt::site!("lease.grant.change_under_way", entry.blocked(id) & bits != 0);
                rt::site!("lease.grant.under_recall", recalled & bits != 0);
                let against = conflicts(asked | entry.others(id)) | entry.blocked(id) | recalled;
                let cooled = match self.cooled(now, entry, id) {
                    // The right to make names goes with the right to keep them.
                    cooled if bits & cooled & LEASE_NAMES != 0 => cooled | LEASE_WRITE,
                    cooled => cooled,
                };
                bits & !against & !cooled
            }
            None => bits,
        };
        self.give(id, file, give & !self.hushed(file.0))
    }

    /// Gives bits of what the session itself has made under the right to make names, and may have used already: also while it is late, in the hush
    /// (who waits for that waits for the right under which it was made, so this one is not missed), and beyond the most that a session is given by the
    /// way. Nobody else holds any of it: that was seen to before the change.
    pub fn grant_made(&mut self, id: u64, file: FileId, bits: u32) -> Option<LeaseGrant> {
        if self.sessions.get(&id)?.state != State::Part {
            return None;
        }
        let entry = self.inodes.get(&file);
        let recalled = entry.and_then(|entry| entry.holder(id)).map_or(0, |own| own.recalled);
        let against = entry.map_or(0, |entry| conflicts(entry.others(id)));
        self.hand(id, file, bits & !recalled & !against)
    }

    /// Whether the session may be given leases.
    fn may_hold(&self, now: Duration, id: u64) -> bool {
        let Some(session) = self.sessions.get(&id) else { return false };
        rt::site!("lease.session.expelling", session.is_being_expelled());
        let late = rt::site!("lease.session.silent", now >= session.seen + self.times.ttl);
        session.state == State::Part && !late
    }

    /// Bits that are not given because another session changed the inode a moment ago.
    fn cooled(&self, now: Duration, entry: &Entry, id: u64) -> u32 {
        let hot = |at: Duration| now.saturating_sub(at) < self.times.cool;
        if rt::site!("lease.grant.hot", entry.changed_by_others(id).is_some_and(hot)) {
            LEASE_ATTR | LEASE_NAMES
        } else {
            0
        }
    }

    /// Adds bits without looking at others; tells what the session holds.
    fn give(&mut self, id: u64, file: FileId, bits: u32) -> Option<LeaseGrant> {
        let held = self.inodes.get(&file).is_some_and(|entry| entry.holder(id).is_some());
        let session = self.sessions.get(&id)?;
        if !held
            && (bits == 0
                || rt::site!("lease.session.holds_too_many", session.held.len() >= self.times.per_session))
        {
            return None;
        }
        self.hand(id, file, bits)
    }

    /// Likewise, however many it holds.
    fn hand(&mut self, id: u64, file: FileId, bits: u32) -> Option<LeaseGrant> {
        self.sessions.get_mut(&id)?.held.insert(file);
        let number = self.number();
        let entry = self.inodes.entry(file).or_default();
        let holder = match entry.holders.iter().position(|holder| holder.session == id) {
            Some(at) => &mut entry.holders[at],
            None => {
                self.counts.held += 1;
                entry.holders.push(Holder {
                    session: id,
                    bits: 0,
                    number,
                    recalled: 0,
                    upto: 0,
                    recall: 0,
                    since: Duration::ZERO,
                    tell: false,
                });
                entry.holders.last_mut().expect("pushed above")
            }
        };
        assert_eq!(bits & holder.recalled, 0, "bits under recall are not given");
        holder.bits |= bits;
        let usable = holder.bits & !holder.recalled;
        if usable == 0 {
            rt::site!("lease.grant.nothing_usable");
            // Nothing is told: a number that the client never hears of would have its returns look overtaken.
            return None;
        }
        holder.number = number;
        self.counts.grants += 1;
        Some(LeaseGrant { ino: file.1, bits: usable, number })
    }

    /// Asks for bits, recalling what stands against them.
    pub fn acquire(&mut self, now: Duration, id: u64, file: FileId, bits: u32) -> Acquired {
        if rt::site!("lease.acquire.may_not_hold", !self.may_hold(now, id)) {
            return Acquired::Given(None);
        }
        let entry = self.inodes.get(&file);
        let wanted = bits & ALL_BITS & !entry.map_or(0, |entry| self.cooled(now, entry, id));
        let own = entry.and_then(|entry| entry.holder(id));
        let usable = own.map_or(0, |own| own.bits & !own.recalled);
        if wanted & !usable == 0 && self.awaited.is_empty() {
            rt::site!("lease.acquire.held_already");
            return Acquired::Given(self.give(id, file, 0));
        }
        let room = own.is_some() || self.sessions[&id].held.len() < self.times.per_session;
        let queued = entry.map_or(0, |entry| entry.asking.len());
        if !room || queued >= ASKING_PER_INODE || self.waiting.len() >= WAITING_MAX {
            rt::site!("lease.acquire.no_room");
            return Acquired::Full;
        }
        let ticket = self.number();
        self.waiting.insert(ticket, Waiting::Acquire { file, ready: None });
        let entry = self.inodes.entry(file).or_default();
        entry.asking.push_back(Asker { ticket, session: id, bits: wanted });
        self.settle_askers(now, file);
        if let super::Standing::Given(given) = self.standing(ticket) {
            self.effects.retain(|effect| *effect != Effect::Wake(ticket));
            return Acquired::Given(given);
        }
        rt::site!("lease.acquire.waits");
        self.counts.waits += 1;
        Acquired::Waits(ticket)
    }

    /// Whoever waited for bits gave up.
    pub fn cancel(&mut self, now: Duration, ticket: u64) {
        let Some(Waiting::Acquire { file, .. }) = self.waiting.get(&ticket) else { return };
        let file = *file;
        rt::site!("lease.acquire.given_up");
        self.waiting.remove(&ticket);
        if let Some(entry) = self.inodes.get_mut(&file) {
            entry.asking.retain(|asker| asker.ticket != ticket);
        }
        self.settle(now, file);
    }

    /// Whether nothing stands against an asker but its turn being handled.
    pub(super) fn may_be_given(&self, file: FileId, entry: &Entry, asker: Asker) -> bool {
        let recalled = entry.holder(asker.session).map_or(0, |own| own.recalled);
        self.awaited.is_empty()
            && self.has_its_turn(file, entry, asker)
            && asker.bits & recalled == 0
            && entry.others(asker.session) & conflicts(asker.bits) == 0
    }

    /// No change under way and no earlier asker stands against it.
    fn has_its_turn(&self, file: FileId, entry: &Entry, asker: Asker) -> bool {
        let earlier = entry.asking.iter().take_while(|one| one.ticket != asker.ticket);
        let before = earlier.filter(|one| one.session != asker.session).fold(0, |bits, one| bits | one.bits);
        rt::site!("lease.asker.change_under_way", entry.blocked(asker.session) & asker.bits != 0);
        rt::site!("lease.asker.hushed", self.hushed(file.0) & asker.bits != 0);
        rt::site!("lease.asker.behind_another", conflicts(before) & asker.bits != 0);
        (entry.blocked(asker.session) | self.hushed(file.0)) & asker.bits == 0
            && conflicts(before) & asker.bits == 0
    }

    /// Gives to those who wait what is free, in their order, and recalls for those whose turn it is.
    pub(super) fn settle_askers(&mut self, now: Duration, file: FileId) {
        let mut at = 0;
        while let Some(entry) = self.inodes.get(&file)
            && let Some(asker) = entry.asking.get(at).copied()
        {
            if self.may_be_given(file, entry, asker) {
                self.inodes.entry(file).or_default().asking.remove(at);
                let given = self.give(asker.session, file, asker.bits);
                if let Some(Waiting::Acquire { ready, .. }) = self.waiting.get_mut(&asker.ticket) {
                    *ready = Some(given);
                    self.effects.push(Effect::Wake(asker.ticket));
                }
                continue;
            }
            if self.has_its_turn(file, entry, asker) {
                let against = conflicts(asker.bits);
                let holders = entry.holders.iter().filter(|one| one.session != asker.session);
                let theirs: Vec<u64> =
                    holders.filter(|one| one.bits & against != 0).map(|one| one.session).collect();
                for session in theirs {
                    rt::site!("lease.asker.recalls");
                    self.recall(now, file, session, against, false);
                }
            }
            at += 1;
        }
    }
}
