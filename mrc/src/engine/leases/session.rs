//! Sessions: joining, renewing, re-opening, leaving.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::{Effect, Holder, Leases, Waiting, conflicts};
use crate::engine::sessions::FileId;

/// See the diagram of the module above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Asked for no leases yet.
    Idle,
    /// Waits for changes that left no mark.
    Joining,
    /// Takes part.
    Part,
    /// It told what it does not hold: it is expelled when its time is over, and not before, for it may still believe
    /// what it does hold.
    Condemned,
    /// Its epoch is being raised by the expulsion with this number; what it held counts as held.
    Expelling(u64),
    /// Has to be opened anew.
    Expelled,
}

#[derive(Clone, Debug)]
pub(super) struct Session {
    /// Last renewal.
    pub(super) seen: Duration,
    /// Fencing epoch.
    pub(super) epoch: u64,
    /// Highest number of an opening.
    pub(super) opening: u64,
    pub(super) state: State,
    pub(super) held: BTreeSet<FileId>,
    /// Inodes that it held something of when they ceased to exist. It may still tell of them: nothing tells it, and nobody
    /// else can hold anything there, for their numbers never come again. Of more than a session may hold the latest.
    pub(super) gone: Gone,
    /// Open recalls.
    pub(super) recalls: BTreeMap<u64, FileId>,
}

/// Inodes that ceased to exist, the latest.
#[derive(Clone, Default, Debug)]
pub(super) struct Gone {
    known: BTreeSet<FileId>,
    /// The same in the order in which they went; their numbers say nothing of that.
    order: VecDeque<FileId>,
}

impl Gone {
    pub(super) fn add(&mut self, file: FileId, max: usize) {
        if self.known.insert(file) {
            self.order.push_back(file);
        }
        while self.order.len() > max {
            let oldest = self.order.pop_front().expect("there are more than none");
            self.known.remove(&oldest);
        }
    }

    fn has(&self, file: &FileId) -> bool {
        self.known.contains(file)
    }

    /// In the order in which they went.
    pub(super) fn in_order(&self) -> impl ExactSizeIterator<Item = &FileId> {
        self.order.iter()
    }
}

impl Session {
    pub(super) fn takes_part(&self) -> bool {
        matches!(self.state, State::Joining | State::Part | State::Condemned | State::Expelling(_))
    }

    pub(super) fn is_being_expelled(&self) -> bool {
        matches!(self.state, State::Expelling(_))
    }

    fn may_renew(&self) -> bool {
        matches!(self.state, State::Idle | State::Joining | State::Part)
    }

    pub(super) fn may_be_expelled(&self) -> bool {
        matches!(self.state, State::Joining | State::Part | State::Condemned)
    }
}

/// What a client says when it opens its session.
#[derive(Clone, Copy, Default, Debug)]
pub struct Opening<'a> {
    /// Grows with every attempt; 0: not numbered.
    pub number: u64,
    /// The session's fencing epoch, from its row.
    pub epoch: u64,
    /// It takes part at once.
    pub part: bool,
    /// What it holds.
    pub told: &'a [(FileId, u32)],
}

/// Why a session was not opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenRefused {
    /// It is being expelled at this moment; try again.
    Expelling,
    /// It tells of leases although it has none here: raise its epoch and open it without any.
    NotHeld,
    /// A later opening, this one, was there already; what this one tells is not so any more.
    Late(u64),
}

/// What is told, in order, each inode once. Clients tell it in order.
fn sorted(told: &[(FileId, u32)]) -> Vec<(FileId, u32)> {
    let mut wanted = told.to_vec();
    wanted.sort_unstable_by_key(|(file, _)| *file);
    wanted.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        kept.1 |= if same { later.1 } else { 0 };
        same
    });
    for (_, bits) in &mut wanted {
        *bits &= super::ALL_BITS;
    }
    wanted
}

impl Leases {
    /// Opens or re-opens a session; it holds exactly what it tells afterwards. That may be tens of thousands, while
    /// everybody waits: each costs as few steps as can be.
    pub fn open_session(&mut self, now: Duration, id: u64, opening: Opening<'_>) -> Result<(), OpenRefused> {
        self.may_open(id, opening)?;
        let wanted = sorted(opening.told);
        let awaited = self.awaited.contains_key(&id);
        if !self.may_take_up(id, awaited, &wanted) {
            rt::site!("lease.open.tells_of_conflict", awaited);
            rt::site!("lease.open.tells_of_unheld", !awaited);
            let refused = self.refuse(id, awaited);
            for file in self.end_asking(id) {
                self.settle(now, file);
            }
            return Err(refused);
        }
        let mut changed = self.keep_only(id, &wanted);
        let session = self.sessions.entry(id).or_insert_with(|| Session {
            seen: now,
            epoch: opening.epoch,
            opening: 0,
            state: State::Idle,
            held: BTreeSet::new(),
            gone: Gone::default(),
            recalls: BTreeMap::new(),
        });
        (session.seen, session.epoch) = (now, opening.epoch);
        session.opening = session.opening.max(opening.number);
        if rt::site!("lease.open.after_expelling", session.state == State::Expelled) {
            session.state = State::Idle;
        }
        if opening.part {
            self.enable(id);
        }
        if awaited {
            changed.extend(self.take_up(id, &wanted));
            self.awaited.remove(&id);
        }
        for file in changed {
            rt::site!("lease.open.others_wait_for_it");
            self.press(now, file);
            self.settle(now, file);
        }
        if rt::site!("lease.grace.all_came", awaited && self.awaited.is_empty()) {
            self.settle_all(now);
        }
        Ok(())
    }

    /// Not while it is being expelled, nor with what was true before a later opening or an expulsion.
    fn may_open(&self, id: u64, opening: Opening<'_>) -> Result<(), OpenRefused> {
        if rt::site!("lease.open.came_after_grace", matches!(self.awaited.get(&id), Some(Some(_)))) {
            return Err(OpenRefused::Expelling);
        }
        let Some(session) = self.sessions.get(&id) else { return Ok(()) };
        if rt::site!("lease.open.late_attempt", opening.number != 0 && opening.number <= session.opening) {
            return Err(OpenRefused::Late(session.opening));
        }
        // Its row was read before it was expelled.
        let outdated = opening.epoch < session.epoch;
        rt::site!("lease.open.old_epoch", outdated);
        if outdated || session.is_being_expelled() || session.state == State::Condemned {
            rt::site!("lease.open.while_expelled", !outdated);
            return Err(OpenRefused::Expelling);
        }
        Ok(())
    }

    /// The session tells of leases that it does not hold. It may rely on those that it does hold until it hears that it
    /// was expelled, or until its time is over: so that has to be waited for.
    fn refuse(&mut self, id: u64, awaited: bool) -> OpenRefused {
        let Some(session) = self.sessions.get_mut(&id).filter(|session| session.may_be_expelled()) else {
            // Awaited: it is expelled when the grace period ends.
            return if awaited { OpenRefused::Expelling } else { OpenRefused::NotHeld };
        };
        rt::site!("lease.session.condemned");
        session.state = State::Condemned;
        self.joining.remove(&id);
        self.condemned.insert(id);
        // There may be a nearer deadline.
        self.effects.push(Effect::Recall(id));
        OpenRefused::Expelling
    }

    /// Whether everything told is held already, or can be believed after a change of leader.
    fn may_take_up(&self, id: u64, awaited: bool, wanted: &[(FileId, u32)]) -> bool {
        if awaited {
            return wanted.len() <= self.times.per_session
                && wanted.iter().all(|(file, bits)| {
                    self.inodes.get(file).is_none_or(|entry| entry.others(id) & conflicts(*bits) == 0)
                });
        }
        let gone = |file| self.sessions.get(&id).is_some_and(|session| session.gone.has(file));
        wanted.iter().all(|(file, bits)| {
            rt::site!("lease.open.tells_of_removed", gone(file));
            let holder = self.inodes.get(file).and_then(|entry| entry.holder(id));
            bits & !holder.map_or(0, |holder| holder.bits) == 0 || gone(file)
        })
    }

    /// What a session tells a leader that knows nothing of it; it holds nothing before. Gives the inodes that somebody waits
    /// for.
    fn take_up(&mut self, id: u64, wanted: &[(FileId, u32)]) -> Vec<FileId> {
        let told = || wanted.iter().filter(|(_, bits)| *bits != 0);
        let mut waited_for = Vec::new();
        for (file, bits) in told() {
            let entry = self.inodes.entry(*file).or_default();
            if rt::site!("lease.open.takes_up_what_is_waited_for", entry.is_waited_for()) {
                waited_for.push(*file);
            }
            entry.holders.push(Holder {
                session: id,
                bits: *bits,
                // Below every number that this leader gives: a return under the former leader's numbers counts.
                number: 0,
                recalled: 0,
                upto: 0,
                recall: 0,
                since: Duration::ZERO,
                tell: false,
            });
            self.counts.held += 1;
        }
        let session = self.sessions.get_mut(&id).expect("opened by the caller");
        // In order, so that it is built in one go.
        session.held = told().map(|(file, _)| *file).collect();
        waited_for
    }

    /// The session keeps of what it holds only `wanted`; gives the inodes on which it lost something: a client that
    /// opens its session again at the same leader nearly always tells exactly what it holds.
    fn keep_only(&mut self, id: u64, wanted: &[(FileId, u32)]) -> Vec<FileId> {
        let Some(session) = self.sessions.get(&id) else { return Vec::new() };
        let (mut lost, mut wanted) = (Vec::new(), wanted.iter().peekable());
        for file in &session.held {
            while wanted.next_if(|(told, _)| told < file).is_some() {}
            let keeps = wanted.peek().filter(|(told, _)| told == file).map_or(0, |(_, bits)| *bits);
            let holder = self.inodes.get(file).and_then(|entry| entry.holder(id));
            if holder.is_none_or(|holder| holder.bits & !keeps != 0) {
                rt::site!("lease.open.keeps_less");
                lost.push((*file, keeps));
            }
        }
        for (file, keeps) in &lost {
            self.take_away(id, *file, !keeps);
        }
        lost.into_iter().map(|(file, _)| file).collect()
    }

    /// A renewal. Gives for how long leases are good from the start of the call, none when a recall's time is over: what was
    /// added then would eat the margin and could outlast the expulsion. `None`: open the session first.
    pub fn renew(&mut self, now: Duration, id: u64) -> Option<Duration> {
        let since = self.oldest_recall(id);
        rt::site!("lease.renew.recall_open", since.is_some());
        let session = self.sessions.get_mut(&id).filter(|session| session.may_renew());
        rt::site!("lease.renew.refused", session.is_none());
        let session = session?;
        session.seen = session.seen.max(now);
        let full = self.times.ttl;
        Some(since.map_or(full, |since| (since + full).saturating_sub(now)))
    }

    /// The session asks for leases from now on. Gives whether it does so for the first time.
    pub fn enable(&mut self, id: u64) -> bool {
        let unmarked = self.unmarked;
        let Some(session) = self.sessions.get_mut(&id).filter(|session| session.state == State::Idle) else {
            return false;
        };
        session.state = if unmarked == 0 { State::Part } else { State::Joining };
        if rt::site!("lease.session.joining", session.state == State::Joining) {
            self.joining.insert(id);
        }
        self.parts += 1;
        true
    }

    /// No change without a mark is under way any more.
    pub(super) fn join(&mut self) {
        for id in std::mem::take(&mut self.joining) {
            if let Some(session) = self.sessions.get_mut(&id).filter(|one| one.state == State::Joining) {
                session.state = State::Part;
            }
        }
    }

    /// Whether the session takes part or is on the way.
    #[must_use]
    pub fn takes_part(&self, id: u64) -> bool {
        self.sessions.get(&id).is_some_and(Session::takes_part)
    }

    /// Whether the session may be given capabilities: not since it was expelled, until it is opened anew.
    #[must_use]
    pub fn is_expelled(&self, id: u64) -> bool {
        let state = self.sessions.get(&id).map(|session| session.state);
        matches!(state, Some(State::Condemned | State::Expelling(_) | State::Expelled))
    }

    /// The session's fencing epoch, 0 for a session that is not known.
    #[must_use]
    pub fn epoch(&self, id: u64) -> u64 {
        self.sessions.get(&id).map_or(0, |session| session.epoch)
    }

    /// The highest number of an opening of this session.
    #[must_use]
    pub fn opening(&self, id: u64) -> u64 {
        self.sessions.get(&id).map_or(0, |session| session.opening)
    }

    /// Whether the session holds the right to write anything.
    #[must_use]
    pub fn writes(&self, id: u64) -> bool {
        let Some(session) = self.sessions.get(&id) else { return false };
        session.held.iter().any(|file| {
            let holder = self.inodes.get(file).and_then(|entry| entry.holder(id));
            holder.is_some_and(|holder| holder.bits & proto::mrc::LEASE_WRITE != 0)
        })
    }

    /// The session ended.
    pub fn close_session(&mut self, now: Duration, id: u64) {
        self.awaited.remove(&id);
        let files = self.strip(id);
        if let Some(session) = self.sessions.remove(&id)
            && session.takes_part()
        {
            self.parts -= 1;
        }
        self.joining.remove(&id);
        self.condemned.remove(&id);
        for file in files {
            self.settle(now, file);
        }
        if self.awaited.is_empty() {
            self.settle_all(now);
        }
    }

    /// The epoch of a session that was to be expelled by the expulsion `number` is raised to `epoch`, and who had to be
    /// fenced is.
    pub fn expelled(&mut self, now: Duration, id: u64, number: u64, epoch: u64) {
        let was_awaited = rt::site!("lease.expelled.awaited", self.awaited.get(&id) == Some(&Some(number)));
        if was_awaited {
            self.awaited.remove(&id);
        }
        if self.sessions.get(&id).is_some_and(|session| session.state == State::Expelling(number)) {
            let files = self.strip(id);
            if let Some(session) = self.sessions.get_mut(&id) {
                session.state = State::Expelled;
                session.gone = Gone::default();
                session.epoch = epoch;
                self.parts -= 1;
            }
            for file in files {
                self.settle(now, file);
            }
        }
        self.counts.expels += 1;
        if was_awaited && self.awaited.is_empty() {
            self.settle_all(now);
        }
    }

    /// Takes everything from a session and ends its waiting acquisitions; gives the inodes concerned.
    fn strip(&mut self, id: u64) -> Vec<FileId> {
        let mut files = self.keep_only(id, &[]);
        files.extend(self.end_asking(id));
        // Whoever waits for recalls hears that the session is over.
        self.effects.push(Effect::Recall(id));
        files
    }

    /// Ends the acquisitions that a session waits for; gives the inodes concerned.
    pub(super) fn end_asking(&mut self, id: u64) -> Vec<FileId> {
        let (mut files, mut over) = (Vec::new(), Vec::new());
        for (file, entry) in &mut self.inodes {
            if entry.asking.iter().any(|asker| asker.session == id) {
                over.extend(entry.asking.iter().filter(|one| one.session == id).map(|one| one.ticket));
                entry.asking.retain(|asker| asker.session != id);
                files.push(*file);
            }
        }
        for ticket in over {
            if let Some(Waiting::Acquire { ready, .. }) = self.waiting.get_mut(&ticket) {
                rt::site!("lease.acquire.session_over");
                *ready = Some(None);
                self.effects.push(Effect::Wake(ticket));
            }
        }
        files
    }
}
