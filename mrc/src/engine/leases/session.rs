//! Sessions: joining, renewing, re-opening, leaving.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Holder, Leases, Waiting, conflicts};
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
    /// Its epoch is being raised; what it held counts as held.
    Expelling,
    /// Has to be opened anew.
    Expelled,
}

#[derive(Debug)]
pub(super) struct Session {
    /// Last renewal.
    pub(super) seen: Duration,
    /// Fencing epoch.
    pub(super) epoch: u64,
    pub(super) state: State,
    pub(super) held: BTreeSet<FileId>,
    /// Open recalls.
    pub(super) recalls: BTreeMap<u64, FileId>,
}

impl Session {
    pub(super) fn takes_part(&self) -> bool {
        matches!(self.state, State::Joining | State::Part | State::Expelling)
    }
}

/// Why a session was not opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenRefused {
    /// It is being expelled at this moment; try again.
    Expelling,
    /// It tells of leases that this leader has not given: raise its epoch and open it without any.
    NotHeld,
}

impl Leases {
    /// Opens or re-opens a session with its fencing epoch; it holds exactly `told` afterwards. `part`: it takes part
    /// at once.
    pub fn open_session(
        &mut self,
        now: Duration,
        id: u64,
        epoch: u64,
        part: bool,
        told: &[(FileId, u32)],
    ) -> Result<(), OpenRefused> {
        let expelling = self.sessions.get(&id).is_some_and(|session| session.state == State::Expelling);
        if expelling || self.awaited.get(&id) == Some(&true) {
            return Err(OpenRefused::Expelling);
        }
        let mut wanted: BTreeMap<FileId, u32> = BTreeMap::new();
        for (file, bits) in told {
            *wanted.entry(*file).or_default() |= bits & super::ALL_BITS;
        }
        let awaited = self.awaited.contains_key(&id);
        if !self.may_take_up(id, awaited, &wanted) {
            return Err(OpenRefused::NotHeld);
        }
        let mut changed = self.keep_only(id, &wanted);
        let session = self.sessions.entry(id).or_insert_with(|| Session {
            seen: now,
            epoch,
            state: State::Idle,
            held: BTreeSet::new(),
            recalls: BTreeMap::new(),
        });
        (session.seen, session.epoch) = (now, epoch);
        if session.state == State::Expelled {
            session.state = State::Idle;
        }
        if part {
            self.enable(id);
        }
        if awaited {
            for (file, bits) in wanted.iter().filter(|(_, bits)| **bits != 0) {
                self.take_up(id, *file, *bits);
                changed.push(*file);
            }
            self.awaited.remove(&id);
        }
        for file in changed {
            self.press(now, file);
            self.settle(now, file);
        }
        if awaited && self.awaited.is_empty() {
            self.settle_all(now);
        }
        Ok(())
    }

    /// Whether everything told is held already, or can be believed after a change of leader.
    fn may_take_up(&self, id: u64, awaited: bool, wanted: &BTreeMap<FileId, u32>) -> bool {
        if awaited {
            return wanted.len() <= self.times.per_session
                && wanted.iter().all(|(file, bits)| {
                    self.inodes.get(file).is_none_or(|entry| entry.others(id) & conflicts(*bits) == 0)
                });
        }
        wanted.iter().all(|(file, bits)| {
            let holder = self.inodes.get(file).and_then(|entry| entry.holder(id));
            bits & !holder.map_or(0, |holder| holder.bits) == 0
        })
    }

    fn take_up(&mut self, id: u64, file: FileId, bits: u32) {
        let entry = self.inodes.entry(file).or_default();
        entry.holders.push(Holder {
            session: id,
            bits,
            // Below every number that this leader gives: a return under the former leader's numbers counts.
            number: 0,
            recalled: 0,
            upto: 0,
            recall: 0,
            since: Duration::ZERO,
            tell: false,
        });
        self.counts.held += 1;
        let session = self.sessions.get_mut(&id).expect("opened by the caller");
        session.held.insert(file);
    }

    /// The session keeps of what it holds only `wanted`; gives the inodes on which it lost something.
    fn keep_only(&mut self, id: u64, wanted: &BTreeMap<FileId, u32>) -> Vec<FileId> {
        let Some(session) = self.sessions.get(&id) else { return Vec::new() };
        let held: Vec<FileId> = session.held.iter().copied().collect();
        for file in &held {
            self.take_away(id, *file, !wanted.get(file).copied().unwrap_or(0));
        }
        held
    }

    /// A renewal. Gives for how long leases are good from the start of the call; `None`: open the session first.
    pub fn renew(&mut self, now: Duration, id: u64) -> Option<Duration> {
        let since = self.oldest_recall(id);
        let session = self.sessions.get_mut(&id).filter(|session| session.state != State::Expelled)?;
        if session.state == State::Expelling {
            return None;
        }
        session.seen = session.seen.max(now);
        let full = self.times.ttl;
        Some(since.map_or(full, |since| (since + full).saturating_sub(now)).max(Duration::from_millis(1)))
    }

    /// The session asks for leases from now on. Gives whether it does so for the first time.
    pub fn enable(&mut self, id: u64) -> bool {
        let unmarked = self.unmarked;
        let Some(session) = self.sessions.get_mut(&id).filter(|session| session.state == State::Idle) else {
            return false;
        };
        session.state = if unmarked == 0 { State::Part } else { State::Joining };
        if session.state == State::Joining {
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
        matches!(state, Some(State::Expelling | State::Expelled))
    }

    /// The session's fencing epoch, 0 for a session that is not known.
    #[must_use]
    pub fn epoch(&self, id: u64) -> u64 {
        self.sessions.get(&id).map_or(0, |session| session.epoch)
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
        for file in files {
            self.settle(now, file);
        }
        if self.awaited.is_empty() {
            self.settle_all(now);
        }
    }

    /// The epoch of a session that was to be expelled is raised to `epoch`, and who had to be fenced is.
    pub fn expelled(&mut self, now: Duration, id: u64, epoch: u64) {
        let was_awaited = self.awaited.remove(&id).is_some();
        if self.sessions.get(&id).is_some_and(|session| session.state == State::Expelling) {
            let files = self.strip(id);
            if let Some(session) = self.sessions.get_mut(&id) {
                session.state = State::Expelled;
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
        let mut files = self.keep_only(id, &BTreeMap::new());
        let mut over = Vec::new();
        for (file, entry) in &mut self.inodes {
            if entry.asking.iter().any(|asker| asker.session == id) {
                over.extend(entry.asking.iter().filter(|one| one.session == id).map(|one| one.ticket));
                entry.asking.retain(|asker| asker.session != id);
                files.push(*file);
            }
        }
        for ticket in over {
            if let Some(Waiting::Acquire { ready, .. }) = self.waiting.get_mut(&ticket) {
                *ready = Some(None);
                self.effects.push(super::Effect::Wake(ticket));
            }
        }
        // Whoever waits for recalls hears that the session is over.
        self.effects.push(super::Effect::Recall(id));
        files
    }
}
