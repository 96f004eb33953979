//! Leases in the leader's memory: who may keep what of an inode. See `docs/protocols/leases.md`.
//!
//! Pure: time comes in, what is to be done outside goes out as [`Effect`]s. Three parts share the tables here:
//! `grant` (giving bits, and the queue of those who wait for them), `change` (requests that need others' bits gone),
//! `recall` (asking for bits back, returns, and sessions that do not return them).
//!
//! ```text
//! session:  Idle ──enable()──> Joining ──changes without marks are over──> Part ──recall not answered──> Expelling
//!            ^                                       │ tells what it does not hold                         │
//!            │                                       └─────> Condemned ───────its time is over────────────>│
//!            └──────────── open_session() ── Expelled <──expelled()────────────────────────────────────────┘
//!
//! bits:     free ──grant──> held ──recall──> held, recalled ──returned, or the session expelled──> free
//! ```
//!
//! Changes made while no session but the changing one takes part leave no mark (nobody could be given anything); a
//! session that joins is given nothing until those changes are over.

mod change;
mod grant;
#[cfg(test)]
mod hush_test;
mod likeness;
#[cfg(test)]
mod property;
mod recall;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proto::mrc::{LEASE_ATTR, LEASE_LOCKS, LEASE_NAMES, LEASE_READ, LEASE_WRITE, LeaseGrant};

pub use change::{Begun, Claim, Claims, Pass};
pub use grant::Acquired;
pub use likeness::Word;
pub use session::{OpenRefused, Opening};

use super::sessions::FileId;
use session::Session;

/// All bits.
pub const ALL_BITS: u32 = LEASE_ATTR | LEASE_NAMES | LEASE_READ | LEASE_WRITE | LEASE_LOCKS;
/// Requests that wait for one inode's bits at most.
const ASKING_PER_INODE: usize = 256;
/// Requests that wait at most.
const WAITING_MAX: usize = 16_384;

/// Bits of other sessions that stand against `bits`; the relation is symmetric.
#[must_use]
pub fn conflicts(bits: u32) -> u32 {
    let mut against = 0;
    if bits & (LEASE_ATTR | LEASE_NAMES | LEASE_READ) != 0 {
        against |= LEASE_WRITE;
    }
    if bits & LEASE_WRITE != 0 {
        against |= LEASE_ATTR | LEASE_NAMES | LEASE_READ | LEASE_WRITE;
    }
    if bits & LEASE_LOCKS != 0 {
        against |= LEASE_LOCKS;
    }
    against
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// A session's leases are good for this long from its last renewal.
    pub ttl: Duration,
    /// The leader waits this much longer.
    pub margin: Duration,
    /// Attributes and names are not given for this long after another session's change.
    pub cool: Duration,
    /// Most inodes on which one session holds leases.
    pub per_session: usize,
}

/// What has to be done outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// The waiting request with this ticket may look again.
    Wake(u64),
    /// There is a new recall for this session.
    Recall(u64),
    /// The session's time is over: raise its epoch, fence it if it wrote, then call [`Leases::expelled`].
    Expel {
        /// The session.
        session: u64,
        /// Which expulsion of it this is: one that ends late must not count for a later one.
        number: u64,
        /// It held the right to write, or nobody knows what it held.
        wrote: bool,
    },
}

/// Sums since this member started to lead, and what is held now.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// (session, inode) pairs held now.
    pub held: usize,
    /// Grants given, repeats included.
    pub grants: u64,
    /// Recalls sent.
    pub recalls: u64,
    /// Requests that had to wait.
    pub waits: u64,
    /// Sessions expelled.
    pub expels: u64,
}

/// What one session holds on one inode.
#[derive(Clone, Copy, Debug)]
struct Holder {
    session: u64,
    /// Held, those under recall included.
    bits: u32,
    /// Newest grant.
    number: u64,
    /// Of `bits`: asked back.
    recalled: u32,
    /// Grants up to this one are meant by the recall.
    upto: u64,
    /// Number of the recall.
    recall: u64,
    /// When the oldest part of the recall was sent.
    since: Duration,
    /// The return must tell open handles.
    tell: bool,
}

/// A change that is under way.
#[derive(Clone, Copy, Debug)]
struct Mark {
    ticket: u64,
    session: u64,
    claim: Claim,
}

impl Mark {
    /// Whether it is directed against what `session` holds or wants.
    fn against(&self, session: u64) -> bool {
        self.session != session || self.claim.own
    }
}

/// A request that waits for bits.
#[derive(Clone, Copy, Debug)]
struct Asker {
    ticket: u64,
    session: u64,
    bits: u32,
}

/// What is known of one inode.
#[derive(Clone, Default, Debug)]
struct Entry {
    holders: Vec<Holder>,
    marks: Vec<Mark>,
    /// In the order of asking.
    asking: VecDeque<Asker>,
    /// The newest change, and the newest one of another session than that.
    changed: [Option<(u64, Duration)>; 2],
}

impl Entry {
    fn holder(&self, session: u64) -> Option<&Holder> {
        self.holders.iter().find(|holder| holder.session == session)
    }

    fn holder_mut(&mut self, session: u64) -> Option<&mut Holder> {
        self.holders.iter_mut().find(|holder| holder.session == session)
    }

    /// Bits that others hold.
    fn others(&self, session: u64) -> u32 {
        self.holders.iter().filter(|holder| holder.session != session).fold(0, |bits, one| bits | one.bits)
    }

    /// Bits that a change under way keeps from `session`.
    fn blocked(&self, session: u64) -> u32 {
        self.marks.iter().filter(|mark| mark.against(session)).fold(0, |bits, mark| bits | mark.claim.block)
    }

    fn remember_change(&mut self, session: u64, now: Duration) {
        if self.changed[0].is_some_and(|(last, _)| last != session) {
            self.changed[1] = self.changed[0];
        }
        self.changed[0] = Some((session, now));
    }

    /// When another session than `session` changed the inode last.
    fn changed_by_others(&self, session: u64) -> Option<Duration> {
        self.changed.iter().flatten().find(|(by, _)| *by != session).map(|(_, at)| *at)
    }

    /// Whether a change is under way or somebody asks for bits.
    fn is_waited_for(&self) -> bool {
        !self.marks.is_empty() || !self.asking.is_empty()
    }

    fn is_idle(&self) -> bool {
        self.holders.is_empty() && self.marks.is_empty() && self.asking.is_empty()
    }
}

/// A request that waits.
#[derive(Clone, Debug)]
enum Waiting {
    Change { session: u64, claims: Claims, ready: bool },
    Acquire { file: FileId, ready: Option<Option<LeaseGrant>> },
}

/// How a waiting request stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Still waiting.
    Waits,
    /// A change may go on.
    Free,
    /// An acquisition is over, with what the session holds now.
    Given(Option<LeaseGrant>),
    /// This leader does not know the request: leadership changed.
    Gone,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Leases {
    times: Times,
    leading: bool,
    /// Changes with each start and end of leading: passes of another one are void.
    generation: u64,
    /// Source of grant, recall and ticket numbers.
    next: u64,
    /// First number of this incarnation; above all numbers of former ones.
    floor: u64,
    grace_until: Duration,
    /// Sessions of former leaders' time that may hold leases; with a number: being expelled.
    awaited: BTreeMap<u64, Option<u64>>,
    sessions: BTreeMap<u64, Session>,
    inodes: BTreeMap<FileId, Entry>,
    waiting: BTreeMap<u64, Waiting>,
    /// Changes under way that left no mark.
    unmarked: usize,
    /// Sessions that take part or are joining.
    parts: usize,
    joining: BTreeSet<u64>,
    /// Sessions that have something to return.
    owing: BTreeSet<u64>,
    /// Sessions that told what they do not hold.
    condemned: BTreeSet<u64>,
    /// Inodes with a remembered change, by its time.
    cooling: VecDeque<(Duration, FileId)>,
    /// Volumes of which nobody is given the right to write, and by how many snapshots.
    hushed: BTreeMap<u64, usize>,
    effects: Vec<Effect>,
    counts: Counts,
}

impl Leases {
    /// Leads nobody yet.
    #[must_use]
    pub fn new(times: Times) -> Self {
        Self {
            times,
            leading: false,
            generation: 0,
            next: 1,
            floor: 1,
            grace_until: Duration::ZERO,
            awaited: BTreeMap::new(),
            sessions: BTreeMap::new(),
            inodes: BTreeMap::new(),
            waiting: BTreeMap::new(),
            unmarked: 0,
            parts: 0,
            joining: BTreeSet::new(),
            owing: BTreeSet::new(),
            condemned: BTreeSet::new(),
            cooling: VecDeque::new(),
            hushed: BTreeMap::new(),
            effects: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// This member leads from now on. `base` is above every number that any former leader gave; `awaited` are the
    /// sessions that may hold leases.
    pub fn lead(&mut self, now: Duration, base: u64, awaited: impl IntoIterator<Item = u64>) {
        self.follow();
        self.leading = true;
        self.next = self.next.max(base);
        self.floor = self.next;
        self.grace_until = now + self.times.ttl + self.times.margin;
        rt::site!("lease.leader.new");
        self.awaited = awaited.into_iter().map(|session| (session, None)).collect();
    }

    /// This member does not lead any more: what it knew is void, whoever waits is woken.
    pub fn follow(&mut self) {
        rt::site!("lease.leader.waiters_lost", !self.waiting.is_empty());
        let woken: Vec<Effect> = self.waiting.keys().map(|ticket| Effect::Wake(*ticket)).collect();
        let polls = self.sessions.keys().map(|session| Effect::Recall(*session));
        let effects = woken.into_iter().chain(polls).collect();
        *self = Self {
            generation: self.generation + 1,
            next: self.next,
            floor: self.next,
            effects,
            counts: Counts { held: 0, ..self.counts },
            ..Self::new(self.times)
        };
    }

    /// Whether this member leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leading
    }

    /// Whether leases of a former leader's time may still be held.
    #[must_use]
    pub fn in_grace(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// What has to be done outside, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Sums.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Who holds what on an inode, for status pages: (session, bits).
    #[must_use]
    pub fn holders(&self, file: FileId) -> Vec<(u64, u32)> {
        let entry = self.inodes.get(&file);
        entry.map_or_else(Vec::new, |entry| entry.holders.iter().map(|one| (one.session, one.bits)).collect())
    }

    /// Whether no other session takes part or may hold anything.
    #[must_use]
    pub fn is_alone(&self, session: u64) -> bool {
        self.awaited.is_empty() && self.parts == usize::from(self.parts > 0 && self.takes_part(session))
    }

    /// Whether another session holds the right to write.
    #[must_use]
    pub fn is_written_by_others(&self, session: u64, file: FileId) -> bool {
        self.inodes.get(&file).is_some_and(|entry| entry.others(session) & LEASE_WRITE != 0)
    }

    /// Files of a volume that somebody may write, up to `limit`.
    #[must_use]
    pub fn writers(&self, volume: u64, limit: usize) -> Vec<FileId> {
        let of_volume = self.inodes.range((volume, 0)..=(volume, u64::MAX));
        let written =
            of_volume.filter(|(_, entry)| entry.holders.iter().any(|holder| holder.bits & LEASE_WRITE != 0));
        written.map(|(file, _)| *file).take(limit).collect()
    }

    /// From now on nobody is given the right to write in a volume; gives what [`Leases::unhush`] wants.
    pub fn hush(&mut self, volume: u64) -> u64 {
        *self.hushed.entry(volume).or_default() += 1;
        self.generation
    }

    /// Whether that hush still stands: this member has led all the time since.
    #[must_use]
    pub fn is_hushed(&self, volume: u64, generation: u64) -> bool {
        self.leading && generation == self.generation && self.hushed.contains_key(&volume)
    }

    /// The snapshot is made, or surely will not be.
    pub fn unhush(&mut self, now: Duration, volume: u64, generation: u64) {
        if !self.leading || generation != self.generation {
            rt::site!("lease.hush.of_former_leader");
            return;
        }
        let left = self.hushed.get_mut(&volume).map_or(0, |count| {
            *count -= 1;
            *count
        });
        if rt::site!("lease.hush.another_goes_on", left > 0) {
            return;
        }
        self.hushed.remove(&volume);
        let asked = self.inodes.range((volume, 0)..=(volume, u64::MAX));
        let files: Vec<FileId> =
            asked.filter(|(_, entry)| !entry.asking.is_empty()).map(|(file, _)| *file).collect();
        for file in files {
            rt::site!("lease.hush.asker_goes_on");
            self.settle(now, file);
        }
    }

    /// Bits that nobody is given in a volume.
    fn hushed(&self, volume: u64) -> u32 {
        if self.hushed.contains_key(&volume) { LEASE_WRITE } else { 0 }
    }

    /// The bits that a session holds on an inode, those under recall included.
    #[must_use]
    pub fn held(&self, session: u64, file: FileId) -> u32 {
        self.inodes.get(&file).and_then(|entry| entry.holder(session)).map_or(0, |holder| holder.bits)
    }

    /// The inode does not exist any more.
    pub fn forget(&mut self, now: Duration, file: FileId) {
        let Some(entry) = self.inodes.get(&file) else { return };
        let sessions: Vec<u64> = entry.holders.iter().map(|holder| holder.session).collect();
        for id in sessions {
            rt::site!("lease.inode.removed_under_lease");
            self.take_away(id, file, ALL_BITS);
            if let Some(session) = self.sessions.get_mut(&id) {
                session.gone.add(file, self.times.per_session);
            }
        }
        self.settle(now, file);
    }

    /// How a waiting request stands. An acquisition that is over is forgotten by this.
    pub fn standing(&mut self, ticket: u64) -> Standing {
        match self.waiting.get(&ticket) {
            None => Standing::Gone,
            Some(Waiting::Change { ready: true, .. }) => Standing::Free,
            Some(Waiting::Acquire { ready: Some(given), .. }) => {
                let given = *given;
                self.waiting.remove(&ticket);
                Standing::Given(given)
            }
            Some(_) => Standing::Waits,
        }
    }

    /// A number above all that were given before.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Something about an inode became free: whoever can go on does; the first who cannot has the rest recalled.
    fn settle(&mut self, now: Duration, file: FileId) {
        let Some(entry) = self.inodes.get(&file) else { return };
        if !entry.marks.is_empty() {
            let tickets: Vec<u64> = entry.marks.iter().map(|mark| mark.ticket).collect();
            for ticket in tickets {
                self.settle_change(ticket);
            }
        }
        self.settle_askers(now, file);
        self.forget_if_idle(now, file);
    }

    /// The grace period is over.
    fn settle_all(&mut self, now: Duration) {
        // By ticket too: a change that claims no inode has waited for nothing else, and no inode leads to it.
        let waiting: Vec<u64> = self.waiting.keys().copied().collect();
        for ticket in waiting {
            self.settle_change(ticket);
        }
        // What is held and nobody waits for, which is nearly all, stays as it is.
        let open = self.inodes.iter().filter(|(_, entry)| entry.is_waited_for() || entry.holders.is_empty());
        let files: Vec<FileId> = open.map(|(file, _)| *file).collect();
        for file in files {
            self.settle(now, file);
        }
    }

    fn forget_if_idle(&mut self, now: Duration, file: FileId) {
        let cool = self.times.cool;
        if self.inodes.get(&file).is_some_and(|entry| {
            entry.is_idle()
                && !rt::site!(
                    "lease.inode.remembered_while_hot",
                    entry.changed[0].is_some_and(|(_, at)| now.saturating_sub(at) < cool)
                )
        }) {
            self.inodes.remove(&file);
        }
    }

    /// What holds after every event (for tests and the simulator: it walks everything).
    pub fn invariants(&self) {
        let mut held: BTreeMap<u64, BTreeSet<FileId>> = BTreeMap::new();
        for (file, entry) in &self.inodes {
            for (at, one) in entry.holders.iter().enumerate() {
                assert!(one.bits != 0 && one.recalled & !one.bits == 0, "{file:?}: {one:?}");
                for other in &entry.holders[at + 1..] {
                    assert_ne!(one.session, other.session);
                    assert_eq!(conflicts(one.bits) & other.bits, 0, "{file:?}: {one:?} against {other:?}");
                }
                assert!(held.entry(one.session).or_default().insert(*file));
                let session = &self.sessions[&one.session];
                assert_eq!(session.recalls.get(&one.recall) == Some(file), one.recalled != 0);
            }
            assert!(entry.asking.len() <= ASKING_PER_INODE);
            for asker in &entry.asking {
                assert!(!self.is_expelled(asker.session), "{file:?}: {asker:?} is asked for by nobody");
                assert!(!self.may_be_given(*file, entry, *asker), "{file:?}: {asker:?} waits for nothing");
            }
            for mark in &entry.marks {
                if !matches!(self.waiting.get(&mark.ticket), Some(Waiting::Change { ready: false, .. })) {
                    let theirs = entry.holders.iter().filter(|holder| mark.against(holder.session));
                    assert_eq!(
                        theirs.fold(0, |bits, one| bits | one.bits) & mark.claim.recall,
                        0,
                        "{mark:?}"
                    );
                }
            }
        }
        for (ticket, waiting) in &self.waiting {
            if let Waiting::Change { session, claims, ready: false } = waiting {
                assert!(self.is_blocked(*session, claims), "{ticket}: {claims:?} waits for nothing");
            }
        }
        for (id, session) in &self.sessions {
            assert_eq!(session.held, held.remove(id).unwrap_or_default());
            assert!(session.held.len() <= self.times.per_session.max(1));
            assert_eq!(self.owing.contains(id), !session.recalls.is_empty());
            assert_eq!(self.condemned.contains(id), session.state == session::State::Condemned);
        }
        assert!(held.is_empty() && self.waiting.len() <= WAITING_MAX);
        assert_eq!(self.counts.held, self.sessions.values().map(|session| session.held.len()).sum::<usize>());
        assert_eq!(self.parts, self.sessions.values().filter(|session| session.takes_part()).count());
    }
}
