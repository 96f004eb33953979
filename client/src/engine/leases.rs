//! What this session holds of which inodes, and what it may answer from that. See `docs/protocols/leases.md`.
//!
//! ```text
//!           grant                 recall               users gone, effects done
//!   none ----------> held (bits) ---------> losing (bits) ----------------------> returned
//!     ^   late grant: not kept      ^ late grant: runs one waiting operation          |
//!     +-------------------------------------------------------------------------------+
//! ```
//!
//! Each call that may bring leases has a **ticket**, taken before it is sent. A value of its answer is kept only when no
//! change of the inode by this session ended after the ticket was taken and none is under way, and when no recall that
//! covers the grant has arrived: so a reply that was overtaken by a change is never kept.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod crowd;
mod early;
mod entry;
mod told;
mod values;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proto::limits::LEASES_PER_SESSION;
use proto::mrc::{
    HeldLease, LEASE_ATTR, LEASE_NAMES, LEASE_READ, LEASE_WRITE, LeaseGrant, Recall, ReturnedLease,
};

use proto::osd::Turn;

pub use early::Moving;
use entry::Entry;
use told::Told;
pub use values::Cached;

/// Volume and inode.
pub type Key = (u64, u64);

/// A call that may bring leases; numbers grow.
pub type Ticket = u64;

/// At this many leases the oldest are given back.
const GIVE_BACK_AT: usize = LEASES_PER_SESSION / 8 * 7;
/// Leases given back in one go.
const GIVE_BACK: usize = 256;
/// Places in the order of leases that need not be those of leases.
const ORDER_SLACK: usize = 1024;
/// Names kept of all directories together, with what they mean.
const NAMES_MAX: usize = 4 * LEASES_PER_SESSION;

/// What an operation does with data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Reads: needs `R` or `W`.
    Read,
    /// Writes: needs `W`.
    Write,
    /// The kernel writes pages out: may use a `W` that is being recalled, for that is what the recall waits for.
    WriteBack,
}

impl Use {
    /// The bit to ask for.
    #[must_use]
    pub fn bit(self) -> u32 {
        match self {
            Self::Read => LEASE_READ,
            Self::Write | Self::WriteBack => LEASE_WRITE,
        }
    }

    fn is_allowed_by(self, bits: u32) -> bool {
        let enough = if self == Self::Read { LEASE_READ | LEASE_WRITE } else { LEASE_WRITE };
        bits & enough != 0
    }
}

/// Whether an operation may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// It holds its lease until [`Leases::release`].
    Granted,
    /// The lease must be asked for first.
    Ask,
    /// This session has no leases: everything is asked for and nothing kept.
    Off,
}

/// The leases of one session.
#[derive(Debug, Default)]
pub struct Leases {
    on: bool,
    /// Whether it has been said once that leases are given here, or that they are not.
    decided: bool,
    valid_until: Duration,
    entries: BTreeMap<Key, Entry>,
    /// Entries with bits, in the order of their first grant; those used since they were last looked at go on.
    order: VecDeque<Key>,
    holding: usize,
    names: usize,
    /// Names in crowds, at most: what was forgotten since they were counted is not taken off.
    crowded: usize,
    next: Ticket,
    in_flight: BTreeSet<Ticket>,
    /// Entries that matter only to calls older than the ticket.
    waning: VecDeque<(Ticket, Key)>,
    told: Told,
    /// Answers of calls up to this one tell of another leader's grants.
    forgotten: Ticket,
    /// Number of the last opening that told what is held.
    opening: u64,
    generation: u64,
}

impl Leases {
    /// Recalls are heard: leases may be kept. Until then none is.
    pub fn turn_on(&mut self) {
        self.on = true;
        self.decided = true;
    }

    /// The leader gives no leases, or nobody hears its recalls any more.
    pub fn turn_off(&mut self) -> Vec<Key> {
        self.on = false;
        self.decided = true;
        self.forget_all()
    }

    /// What an earlier process held is not relied on; whether leases are given has yet to be heard.
    pub fn assume_nothing(&mut self) {
        self.turn_off();
        self.decided = false;
    }

    /// Whether it is known if leases are given here.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.decided
    }

    /// These bits were given to an earlier process of the session, which did not return them.
    pub fn assume(&mut self, key: Key, bits: u32) {
        let entry = self.entries.entry(key).or_default();
        if entry.bits == 0 {
            self.holding += 1;
            self.order.push_back(key);
        }
        entry.bits |= bits;
    }

    /// The session was opened. `number` is above those of all grants: what was [assumed](Leases::assume) is written under it.
    pub fn opened(&mut self, number: u64) {
        let assumed = |entry: &&mut Entry| entry.held() & LEASE_WRITE != 0 && entry.turn == Turn::default();
        self.entries
            .values_mut()
            .filter(assumed)
            .for_each(|entry| entry.turn = Turn { since: number, round: 0 });
    }

    /// What orders changes of the file at its OSDs; `None`: nothing gives the right to write.
    #[must_use]
    pub fn turn(&self, key: Key) -> Option<Turn> {
        let entry = self.entries.get(&key)?;
        (entry.held() & LEASE_WRITE != 0 || entry.writing > 0).then_some(entry.turn)
    }

    /// An attempt to change the file was given up, and nobody knows what became of it: what comes later must not be
    /// taken for older.
    pub fn doubted(&mut self, key: Key) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.turn.round = entry.turn.round.saturating_add(1);
        }
    }

    /// An OSD has seen `seen`, and refuses what is older. Who has the right to write may go beyond.
    pub fn outrun(&mut self, key: Key, seen: Turn) {
        if self.turn(key).is_some_and(|turn| turn < seen)
            && let Some(entry) = self.entries.get_mut(&key)
        {
            entry.turn = Turn { since: seen.since, round: seen.round.saturating_add(1) };
        }
    }

    /// Whether leases are kept.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// A renewal succeeded: what is held is good until then.
    pub fn renewed(&mut self, until: Duration) {
        self.valid_until = self.valid_until.max(until);
    }

    /// How long answers from leases may be believed, from `now`.
    #[must_use]
    pub fn time_left(&self, now: Duration) -> Duration {
        if self.on { self.valid_until.saturating_sub(now) } else { Duration::ZERO }
    }

    fn is_good(&self, now: Duration) -> bool {
        self.on && now < self.valid_until
    }

    /// Grows when everything was lost (expelled): who holds rights of an older one was fenced.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The session was expelled: all is lost. What must go from the kernel.
    pub fn expelled(&mut self) -> Vec<Key> {
        self.generation += 1;
        self.valid_until = Duration::ZERO;
        self.forget_all()
    }

    fn forget_all(&mut self) -> Vec<Key> {
        let held = |entry: &Entry| entry.held() | entry.early != 0;
        let held = self.entries.iter().filter(|(_, entry)| held(entry)).map(|(key, _)| *key).collect();
        self.new_leader();
        for entry in self.entries.values_mut() {
            self.names -= entry.lose(u32::MAX);
            (entry.losing, entry.early) = (0, 0);
        }
        self.order.clear();
        self.holding = 0;
        self.entries.retain(|_, entry| entry.is_in_use());
        held
    }

    /// Another leader (or the same one, restarted) was told what is held: numbers start anew, and answers of the old one
    /// bring nothing.
    pub fn new_leader(&mut self) {
        self.forgotten = self.next;
        for (key, entry) in &mut self.entries {
            let before = entry.bits;
            entry.numbers_start_anew();
            if before == 0 && entry.bits != 0 {
                self.holding += 1;
                self.order.push_back(*key);
            }
        }
    }

    /// The leader is told what is held, which replaces what it knew. Grants that it gave meanwhile are not kept. To be
    /// followed by [`Leases::tell_end`]. `opening`: its number.
    pub fn tell_begin(&mut self, opening: u64) -> Vec<HeldLease> {
        self.forgotten = Ticket::MAX;
        self.opening = opening;
        self.held()
    }

    /// Number of the last opening; what was given up before it needs not be returned any more, for it was not told.
    #[must_use]
    pub fn opening(&self) -> u64 {
        self.opening
    }

    /// Whether the leader is being told what is held: nothing of it is to be returned before it knows.
    #[must_use]
    pub fn is_telling(&self) -> bool {
        self.forgotten == Ticket::MAX
    }

    /// It was told, or not. `new_leader`: it has not given these leases itself.
    pub fn tell_end(&mut self, new_leader: bool) {
        self.forgotten = self.next;
        if new_leader {
            self.new_leader();
        }
    }

    /// What the MRC counts as held. Bits that are being given up count until they are.
    #[must_use]
    pub fn held(&self) -> Vec<HeldLease> {
        let held = |(key, entry): (&Key, &Entry)| HeldLease { volume: key.0, ino: key.1, bits: entry.held() };
        self.entries.iter().map(held).filter(|lease| lease.bits != 0).collect()
    }

    /// Likewise of one inode.
    #[must_use]
    pub fn held_bits(&self, key: Key) -> u32 {
        self.entries.get(&key).map_or(0, Entry::held)
    }

    /// A call that may bring leases begins.
    pub fn begin(&mut self) -> Ticket {
        self.next += 1;
        self.in_flight.insert(self.next);
        self.next
    }

    /// Whether grants of its answer count.
    #[must_use]
    pub fn is_counted(&self, ticket: Ticket) -> bool {
        ticket > self.forgotten
    }

    /// Its answer was dealt with, or will not come.
    pub fn end(&mut self, ticket: Ticket) {
        self.in_flight.remove(&ticket);
        let oldest = self.in_flight.first().copied().unwrap_or(self.next + 1);
        self.told.forget_before(oldest);
        while let Some((at, key)) = self.waning.front().copied() {
            if at >= oldest {
                break;
            }
            self.waning.pop_front();
            if self
                .entries
                .get(&key)
                .is_some_and(|entry| entry.held() == 0 && !entry.is_in_use() && entry.at <= at)
            {
                self.entries.remove(&key);
            }
        }
    }

    /// The entry will matter to calls under way only; they may outlive what it holds.
    fn mark(&mut self, key: Key) {
        let at = self.next;
        let entry = self.entries.entry(key).or_default();
        entry.at = at;
        self.waning.push_back((at, key));
    }

    /// An answer says what is held.
    /// True when a recall may be waiting for it.
    pub fn granted(&mut self, volume: u64, grant: &LeaseGrant, ticket: Ticket) -> bool {
        if !self.on || ticket <= self.forgotten {
            return false;
        }
        let key = (volume, grant.ino);
        let entry = self.entries.entry(key).or_default();
        let before = entry.bits;
        self.names -= entry.grant(grant);
        if entry.bits & !before != 0 {
            entry.gained = self.next;
        }
        if before == 0 && entry.bits != 0 {
            self.holding += 1;
            self.order.push_back(key);
        } else if before != 0 && entry.bits == 0 {
            self.holding -= 1;
        }
        let waits = entry.losing != 0;
        if entry.bits == 0 {
            self.mark(key);
        }
        self.tidy_order();
        waits
    }

    /// What was recalled and given again is in the order twice, and what was lost still once.
    fn tidy_order(&mut self) {
        if self.order.len() <= 2 * self.holding + ORDER_SLACK {
            return;
        }
        let mut kept = BTreeSet::new();
        let (order, entries) = (std::mem::take(&mut self.order), &self.entries);
        let held = |key: &Key| entries.get(key).is_some_and(|entry| entry.bits != 0);
        self.order = order.into_iter().filter(|key| held(key) && kept.insert(*key)).collect();
    }

    /// The inode ceased to exist by a change of this session, and with it all leases on it, at the leader too: they need
    /// neither be told nor given back.
    pub fn freed(&mut self, key: Key) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let before = entry.bits;
        entry.lapsing = 0;
        self.names -= entry.lose(u32::MAX);
        if before != 0 {
            self.holding -= 1;
        }
        self.mark(key);
    }

    /// Whether some should be given back.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.holding >= GIVE_BACK_AT
    }

    /// Leases to give back because there are too many: the ones longest unused.
    pub fn too_many(&mut self) -> Vec<Recall> {
        if !self.is_crowded() {
            return Vec::new();
        }
        let mut given = Vec::new();
        for _ in 0..self.order.len() {
            let Some(key) = self.order.pop_front() else { break };
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            if entry.bits == 0 {
                continue;
            }
            if std::mem::take(&mut entry.used) || entry.is_in_use() {
                self.order.push_back(key);
                continue;
            }
            let (volume, ino) = key;
            let (bits, number) = (entry.bits, entry.number);
            given.push(Recall { recall: 0, volume, ino, bits, number, tell_handles: false });
            if given.len() == GIVE_BACK {
                break;
            }
        }
        given
    }

    /// An operation on data begins.
    pub fn try_use(&mut self, key: Key, what: Use, now: Duration) -> Permit {
        if !self.on {
            return Permit::Off;
        }
        let good = self.is_good(now);
        let Some(entry) = self.entries.get_mut(&key) else { return Permit::Ask };
        let bits = if what == Use::WriteBack { entry.held() } else { entry.bits };
        if !good && what != Use::WriteBack || !what.is_allowed_by(bits) {
            return Permit::Ask;
        }
        entry.used = true;
        *entry.users(what) += 1;
        Permit::Granted
    }

    /// It has ended. True when a recall may be waiting for that.
    pub fn release(&mut self, key: Key, what: Use) -> bool {
        let Some(entry) = self.entries.get_mut(&key) else { return false };
        let users = entry.users(what);
        *users = users.saturating_sub(1);
        let waits = entry.losing != 0;
        if entry.bits == 0 {
            self.mark(key);
        }
        waits
    }

    /// A lease is asked for, for an operation that waits.
    pub fn ask_begin(&mut self, key: Key, what: Use) {
        *self.entries.entry(key).or_default().askers(what) += 1;
    }

    /// Its answer: whether the operation may go on. It may also when a recall has overtaken the grant, as long as the
    /// lease was not returned.
    pub fn ask_granted(&mut self, key: Key, grant: Option<&LeaseGrant>, what: Use, ticket: Ticket) -> bool {
        let Some(grant) = grant else { return false };
        self.granted(key.0, grant, ticket);
        let (on, forgotten) = (self.on, self.forgotten);
        let entry = self.entries.entry(key).or_default();
        let late = grant.number > entry.returned && what.is_allowed_by(grant.bits);
        if !on || ticket <= forgotten || !(what.is_allowed_by(entry.bits) || late) {
            return false;
        }
        entry.used = true;
        *entry.users(what) += 1;
        true
    }

    /// The asking is over, with or without an answer. True when a recall may be waiting for that.
    pub fn ask_end(&mut self, key: Key, what: Use) -> bool {
        let Some(entry) = self.entries.get_mut(&key) else { return false };
        let askers = entry.askers(what);
        *askers = askers.saturating_sub(1);
        let waits = entry.losing != 0;
        if entry.bits == 0 {
            self.mark(key);
        }
        waits
    }

    /// Bits are recalled: nothing is answered from them any more.
    pub fn recalled(&mut self, recall: &Recall) {
        let key = (recall.volume, recall.ino);
        let entry = self.entries.entry(key).or_default();
        let before = entry.bits;
        entry.recall(recall);
        entry.recalled_at = self.next;
        self.names -= entry.lose(recall.bits);
        if before != 0 && entry.bits == 0 {
            self.holding -= 1;
        }
        self.mark(key);
    }

    /// Whether the recall may have overtaken the answer that brings what it recalls to somebody who waits for it.
    /// Nobody knows: the answer may also be that of another call, or be waiting behind this very recall.
    #[must_use]
    pub fn is_early(&self, recall: &Recall) -> bool {
        let entry = self.entries.get(&(recall.volume, recall.ino));
        entry.is_some_and(|entry| entry.asked() & recall.bits != 0 && recall.number > entry.number)
    }

    /// Whether nobody uses what is recalled.
    #[must_use]
    pub fn is_unused(&self, recall: &Recall) -> bool {
        let Some(entry) = self.entries.get(&(recall.volume, recall.ino)) else { return true };
        let reading = recall.bits & LEASE_READ != 0 && entry.reading > 0;
        let writing = recall.bits & LEASE_WRITE != 0 && entry.writing > 0;
        !(reading || writing)
    }

    /// The effects are done: what to send back.
    pub fn returned(&mut self, recall: &Recall) -> ReturnedLease {
        let key = (recall.volume, recall.ino);
        let entry = self.entries.entry(key).or_default();
        // Not of a newer grant: what came after the recall was heard is kept, and this may be its second return.
        let number = recall.number;
        entry.losing &= !recall.bits;
        entry.returned = entry.returned.max(recall.number);
        if entry.bits == 0 {
            self.mark(key);
        }
        let (volume, ino, bits) = (recall.volume, recall.ino, recall.bits);
        ReturnedLease { volume, ino, bits, number, untold_readers: 0, untold_writers: 0 }
    }

    /// Bits that may be used now.
    #[must_use]
    pub fn bits(&self, key: Key, now: Duration) -> u32 {
        if !self.is_good(now) {
            return 0;
        }
        self.entries.get(&key).map_or(0, |entry| entry.bits)
    }

    /// Leases held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.holding
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.holding == 0
    }
}

/// The bits of `bits` that allow attributes to be kept.
const KEEPS_ATTR: u32 = LEASE_ATTR | LEASE_WRITE;
/// The bit that allows names to be kept.
const KEEPS_NAMES: u32 = LEASE_NAMES;

#[cfg(test)]
mod early_test;
#[cfg(test)]
mod listing_test;
#[cfg(test)]
mod tests;
