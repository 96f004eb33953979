//! Asking for bits back: recalls, returns, and sessions whose time is over.

use std::time::Duration;

use proto::mrc::Recall;

use super::session::State;
use super::{Effect, Leases};
use crate::engine::sessions::FileId;

impl Leases {
    /// Asks a session for bits. What is asked for already is not asked again.
    pub(super) fn recall(&mut self, now: Duration, file: FileId, id: u64, bits: u32, tell: bool) {
        let number = self.next + 1;
        let floor = self.floor;
        let Some(holder) = self.inodes.get_mut(&file).and_then(|entry| entry.holder_mut(id)) else { return };
        let news = holder.bits & bits & !holder.recalled;
        if rt::site!("lease.recall.known", news == 0 && (!tell || holder.tell)) {
            return;
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        self.next = number;
        if holder.recalled == 0 {
            holder.since = now;
        } else {
            rt::site!("lease.recall.of_more");
            session.recalls.remove(&holder.recall);
        }
        rt::site!("lease.recall.of_former_leaders_lease", holder.number < floor);
        holder.recalled |= news;
        // A lease of a former leader's time has a number that this one does not know: it lies below the floor.
        holder.upto = holder.number.max(floor);
        holder.recall = number;
        holder.tell |= tell;
        session.recalls.insert(number, file);
        self.owing.insert(id);
        self.counts.recalls += 1;
        self.effects.push(Effect::Recall(id));
    }

    /// Open recalls of a session above `after`, ascending.
    #[must_use]
    pub fn recalls(&self, id: u64, after: u64, limit: usize) -> Vec<Recall> {
        let Some(session) = self.sessions.get(&id) else { return Vec::new() };
        let open = session.recalls.range(after.saturating_add(1)..).take(limit);
        open.filter_map(|(number, file)| {
            let holder = self.inodes.get(file)?.holder(id)?;
            Some(Recall {
                recall: *number,
                volume: file.0,
                ino: file.1,
                bits: holder.recalled,
                number: holder.upto,
                tell_handles: holder.tell,
            })
        })
        .collect()
    }

    /// A session gives bits up. `number` is the newest grant it has seen of the inode, or the recall's.
    pub fn returned(&mut self, now: Duration, id: u64, file: FileId, bits: u32, number: u64) {
        let Some(holder) = self.inodes.get(&file).and_then(|entry| entry.holder(id)) else {
            rt::site!("lease.return.of_nothing");
            return;
        };
        rt::site!("lease.return.older_than_recall", holder.recalled != 0 && number < holder.upto);
        rt::site!("lease.return.older_than_grant", number < holder.number);
        rt::site!("lease.return.unasked", holder.recalled == 0);
        let mut gone = 0;
        if number >= holder.upto {
            gone |= bits & holder.recalled;
        }
        if number >= holder.number {
            gone |= bits & holder.bits & !holder.recalled;
        }
        if self.is_expelled(id) {
            rt::site!("lease.return.expelled");
            // Too late: its epoch is being raised.
            return;
        }
        self.take_away(id, file, gone);
        self.settle(now, file);
    }

    /// Removes bits of a session.
    pub(super) fn take_away(&mut self, id: u64, file: FileId, bits: u32) {
        let Some(entry) = self.inodes.get_mut(&file) else { return };
        let Some(at) = entry.holders.iter().position(|holder| holder.session == id) else { return };
        let holder = &mut entry.holders[at];
        let was_recalled = holder.recalled != 0;
        holder.bits &= !bits;
        holder.recalled &= !bits;
        let left = *holder;
        if left.bits == 0 {
            entry.holders.swap_remove(at);
            self.counts.held -= 1;
        }
        if left.recalled == 0 && left.bits != 0 {
            entry.holders[at].tell = false;
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if left.bits == 0 {
            session.held.remove(&file);
        }
        if was_recalled && left.recalled == 0 {
            session.recalls.remove(&left.recall);
            if session.recalls.is_empty() {
                self.owing.remove(&id);
            }
        }
    }

    /// When the oldest open recall of a session was sent.
    pub(super) fn oldest_recall(&self, id: u64) -> Option<Duration> {
        if !self.owing.contains(&id) {
            return None;
        }
        let files = self.sessions.get(&id)?.recalls.values();
        files.filter_map(|file| self.inodes.get(file)?.holder(id)).map(|holder| holder.since).min()
    }

    /// When a session that owes has to be expelled.
    fn end_of(&self, id: u64) -> Option<Duration> {
        let session = self.sessions.get(&id).filter(|session| !session.is_being_expelled())?;
        let since = match self.oldest_recall(id) {
            Some(since) => since.min(session.seen),
            // It hears of nothing and may believe what it has until its time is over.
            None if rt::site!("lease.session.condemned_waits", session.state == State::Condemned) => {
                session.seen
            }
            None => return None,
        };
        Some(since + self.times.ttl + self.times.margin)
    }

    /// When [`Leases::tick`] has something to do, if nothing else happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let grace = self.awaited.values().any(Option::is_none).then_some(self.grace_until);
        self.due().filter_map(|id| self.end_of(id)).chain(grace).min()
    }

    /// Time passed: begins to expel whoever did not return in time, or did not come back after a change of leader.
    pub fn tick(&mut self, now: Duration) {
        self.cool_down(now);
        let late: Vec<u64> = self.due().filter(|id| self.end_of(*id).is_some_and(|end| now >= end)).collect();
        for id in late {
            rt::site!("lease.recall.ran_out", self.owing.contains(&id));
            rt::site!("lease.session.condemned_ran_out", self.condemned.contains(&id));
            self.expel(now, id);
        }
        if !self.awaited.is_empty() && now >= self.grace_until {
            let late: Vec<u64> =
                self.awaited.iter().filter(|(_, expelling)| expelling.is_none()).map(|(id, _)| *id).collect();
            for session in late {
                rt::site!("lease.grace.ran_out");
                let number = self.number();
                self.awaited.insert(session, Some(number));
                self.effects.push(Effect::Expel { session, number, wrote: true });
            }
        }
    }

    /// Sessions that may have to be expelled.
    fn due(&self) -> impl Iterator<Item = u64> {
        self.owing.union(&self.condemned).copied()
    }

    /// Begins to expel a session. False: it does not take part or is being expelled already.
    pub fn expel(&mut self, now: Duration, id: u64) -> bool {
        let wrote = self.writes(id);
        let number = self.number();
        let Some(session) = self.sessions.get_mut(&id).filter(|session| session.may_be_expelled()) else {
            return false;
        };
        rt::site!("lease.expel.writer", wrote);
        rt::site!("lease.expel.reader", !wrote);
        session.state = State::Expelling(number);
        self.joining.remove(&id);
        self.condemned.remove(&id);
        self.effects.push(Effect::Expel { session: id, number, wrote });
        // Whatever it still waits for would be given to nobody.
        for file in self.end_asking(id) {
            self.settle(now, file);
        }
        true
    }

    /// This process itself stood still: nobody could renew or return, so everybody gets the full time from now on.
    pub fn forgive(&mut self, now: Duration) {
        for session in self.sessions.values_mut() {
            session.seen = now;
        }
        for entry in self.inodes.values_mut() {
            for holder in &mut entry.holders {
                holder.since = now;
            }
        }
        if self.in_grace() {
            self.grace_until = now + self.times.ttl + self.times.margin;
        }
    }
}
