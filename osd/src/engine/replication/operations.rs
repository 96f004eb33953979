//! Changes, reads and syncs at a serving primary.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::column::{After, Called, Column};
use super::effect::{Outcome, Reply, Request, Work};
use super::event::Failure;
use super::primary::{FULL, Phase, Primary};
use super::{Range, Version, WAITING_MAX};

/// An object with changes that are not applied here yet.
#[derive(Clone, Debug, Hash)]
pub(super) struct Object<P> {
    /// The version after all numbered changes.
    pub(super) head: Version,
    /// Numbered and waiting for the one before; the first of them is being applied when this is not empty.
    queue: VecDeque<(u64, P)>,
}

/// A change not yet committed.
#[derive(Clone, Debug, Hash)]
pub(super) struct Operation<W> {
    range: Range,
    /// Who has it.
    pub(super) acks: BTreeSet<u64>,
    /// Who had no room for it.
    full: BTreeSet<u64>,
    pub(super) waiter: Option<W>,
}

/// A read that may not look into the store yet: others may have shown what this OSD has numbered and not applied.
#[derive(Clone, Debug, Hash)]
pub(super) struct Looking<W> {
    object: u64,
    /// Changes up to this number must be applied here.
    upto: u64,
    pub(super) waiter: W,
}

/// A read that was done and may not be shown yet.
#[derive(Clone, Debug, Hash)]
pub(super) struct Waiting<W> {
    object: u64,
    range: Range,
    /// Changes up to this number must be committed.
    upto: u64,
    /// The round that must confirm that nobody promised more.
    round: Option<u64>,
    pub(super) waiter: W,
}

/// A question to all members that a majority has to answer.
#[derive(Clone, Debug, Hash)]
pub(super) struct Round<W> {
    /// A sync of everything up to this number; `None`: a confirmation.
    sync_upto: Option<u64>,
    pub(super) asked: BTreeSet<u64>,
    done: BTreeSet<u64>,
    /// `None` when a read waits for it.
    pub(super) waiter: Option<W>,
}

impl<P: Clone, W> Column<P, W> {
    /// The phase, or the answer for who comes to the wrong OSD.
    fn phase(&mut self, now: Duration) -> Result<Phase, Failure> {
        if rt::site!("column.client.not_primary", !self.leads(now)) {
            return Err(Failure::OldEpoch(self.promised()));
        }
        match self.primary.as_ref().map(|primary| primary.phase) {
            Some(Phase::Broken) | None => {
                rt::site!("column.client.broken");
                Err(Failure::Broken)
            }
            Some(phase) => Ok(phase),
        }
    }

    /// Serves, or keeps the waiter until it does. `None`: the waiter was taken care of.
    fn when_serving(&mut self, waiter: W, now: Duration) -> Option<W> {
        let phase = self.phase(now);
        match (phase, self.primary.as_ref().and_then(Primary::voter_down)) {
            (Ok(Phase::Serving), _) => return Some(waiter),
            (Err(why), _) => self.answer(waiter, Outcome::Failed(why)),
            (Ok(_), Some(osd)) => self.answer(waiter, Outcome::Failed(Failure::VoterDown(osd))),
            (Ok(_), None) => {
                let primary = self.primary.as_mut().expect("it has a phase");
                if primary.waiting.len() < WAITING_MAX {
                    rt::site!("column.client.waits_for_opening");
                    primary.waiting.push(waiter);
                } else {
                    self.answer(waiter, Outcome::Failed(Failure::Busy));
                }
            }
        }
        None
    }

    /// The object is here, or the waiter is kept until it is.
    fn when_here(&mut self, object: u64, waiter: W) -> Option<W> {
        let primary = self.primary.as_mut().expect("it serves");
        if !primary.lacks(object) {
            return Some(waiter);
        }
        let stalled = primary.stalled.entry(object).or_default();
        if stalled.len() < WAITING_MAX {
            rt::site!("column.client.waits_for_object");
            stalled.push(waiter);
        } else {
            self.answer(waiter, Outcome::Failed(Failure::Busy));
        }
        self.fetch(object, true);
        None
    }

    pub(super) fn change(
        &mut self,
        object: u64,
        range: Range,
        payload: P,
        (local, damaged): (Version, bool),
        waiter: W,
        now: Duration,
    ) {
        let Some(waiter) = self.when_serving(waiter, now) else { return };
        if rt::site!("column.change.damaged_here", damaged) {
            // The next version would be nobody's but ours: what is damaged of it could not be got from others any more.
            self.lost_bytes(object, local);
        }
        let Some(waiter) = self.when_here(object, waiter) else { return self.progress(now) };
        let Some(waiter) = self.when_voters_are_up(waiter) else { return };
        let primary = self.primary.as_mut().expect("it serves");
        if primary.changes.len() >= WAITING_MAX {
            return self.answer(waiter, Outcome::Failed(Failure::Busy));
        }
        self.numbers += 1;
        let (number, epoch) = (self.numbers, primary.epoch());
        let version = Version { epoch, number };
        let known = primary.objects.entry(object).or_insert(Object { head: local, queue: VecDeque::new() });
        let base = std::mem::replace(&mut known.head, version);
        assert!(base < version, "versions of an object grow at its primary");
        let first = known.queue.is_empty();
        known.queue.push_back((number, payload.clone()));
        let (acks, full) = (BTreeSet::new(), BTreeSet::new());
        primary.changes.insert((object, number), Operation { range, acks, full, waiter: Some(waiter) });
        let mut sends = Vec::with_capacity(primary.members.len());
        for (osd, member) in &mut primary.members {
            if *osd == self.me {
                member.outstanding.insert(number, object);
            } else if member.listed && member.up && member.is_known() && !member.dirty.contains(&object) {
                member.outstanding.insert(number, object);
                sends.push((*osd, member.talk));
            } else {
                rt::site!("column.change.member_left_out", member.listed);
            }
        }
        for (osd, talk) in sends {
            let what = Request::Apply { object, base, number, payload: payload.clone() };
            self.call(osd, epoch, talk, what, Called::Apply { object, number });
        }
        if !rt::site!("column.change.queued", !first) {
            self.work(Work::Apply { object, version, payload }, After::Change { epoch, object, number });
        }
    }

    /// A change is in this OSD's store, or failed there.
    pub(super) fn changed(
        &mut self,
        epoch: u64,
        object: u64,
        number: u64,
        done: Option<Reply>,
        now: Duration,
    ) {
        let Some(primary) = self.primary.as_mut().filter(|primary| primary.epoch() == epoch) else {
            rt::site!("column.change.ended_after_epoch");
            return;
        };
        if rt::site!("column.change.ended_after_break", primary.phase == Phase::Broken) {
            return;
        }
        match done {
            None => {
                rt::site!("column.change.failed_here");
                return self.break_off(Failure::Broken);
            }
            Some(Reply::NoSpace) => return self.no_room_here(object, now),
            Some(_) => {}
        }
        primary.own().outstanding.remove(&number);
        let known = primary.objects.get_mut(&object).expect("it has a change under way");
        let applied = known.queue.pop_front();
        assert_eq!(applied.map(|(number, _)| number), Some(number), "changes of an object end in order");
        match known.queue.front().map(|(number, payload)| (*number, payload.clone())) {
            Some((next, payload)) => {
                let version = Version { epoch, number: next };
                let after = After::Change { epoch, object, number: next };
                self.work(Work::Apply { object, version, payload }, after);
            }
            None => {
                primary.objects.remove(&object);
            }
        }
        let me = self.me;
        self.acknowledge(me, object, number);
        self.wake_looking(object, number);
        self.progress(now);
    }

    /// A member has everything of an object up to a number.
    pub(super) fn acknowledge(&mut self, osd: u64, object: u64, upto: u64) {
        let Some(primary) = &mut self.primary else { return };
        let mut touched = Vec::new();
        for ((_, number), change) in primary.changes.range_mut((object, 0)..=(object, upto)) {
            change.acks.insert(osd);
            touched.push(*number);
        }
        for number in touched {
            self.commit(object, number);
        }
    }

    /// What was numbered finds no room in this OSD's store. It is not given up, for others may have it: it is tried again. Who
    /// waits for it, or for what comes after it, is told.
    fn no_room_here(&mut self, object: u64, now: Duration) {
        let Some(primary) = &mut self.primary else { return };
        rt::site!("column.change.no_space_here");
        primary.own().full_until = now + FULL;
        primary.stuck.insert(object);
        let of_object = primary.changes.range_mut((object, 0)..=(object, u64::MAX));
        let waiters: Vec<W> = of_object.filter_map(|(_, change)| change.waiter.take()).collect();
        for waiter in waiters {
            self.answer(waiter, Outcome::Failed(Failure::NoSpace));
        }
    }

    /// Tries again what found no room here.
    pub(super) fn unstick(&mut self) {
        let Some(primary) = &mut self.primary else { return };
        let epoch = primary.epoch();
        let mut works = Vec::new();
        for object in std::mem::take(&mut primary.stuck) {
            rt::site!("column.change.room_again");
            let front = primary.objects.get(&object).and_then(|known| known.queue.front());
            works.extend(front.map(|(number, payload)| (object, *number, payload.clone())));
        }
        for (object, number, payload) in works {
            let version = Version { epoch, number };
            self.work(Work::Apply { object, version, payload }, After::Change { epoch, object, number });
        }
    }

    /// Who adopted may have changed.
    pub(super) fn commit_all(&mut self) {
        let Some(primary) = &self.primary else { return };
        for (object, number) in primary.changes.keys().copied().collect::<Vec<_>>() {
            self.commit(object, number);
        }
    }

    /// Answers a change when a majority that has adopted the epoch has it, and this OSD too (reads come from here).
    fn commit(&mut self, object: u64, number: u64) {
        let Some(primary) = &mut self.primary else { return };
        let Some(change) = primary.changes.get(&(object, number)) else { return };
        let adopted =
            |osd: &&u64| primary.members.get(osd).is_some_and(|member| member.adopted && member.votes);
        let count = change.acks.iter().filter(adopted).count();
        if count < primary.needed() || !change.acks.contains(&self.me) {
            rt::site!(
                "column.commit.acks_not_adopted",
                change.acks.len() >= primary.needed() && count < primary.needed()
            );
            rt::site!("column.commit.primary_last", count >= primary.needed());
            return;
        }
        let change = primary.changes.remove(&(object, number)).expect("found just now");
        if let Some(waiter) = change.waiter {
            self.answer(waiter, Outcome::Committed(number));
        } else {
            rt::site!("column.commit.after_refusal");
        }
        self.wake_reads(object);
    }

    /// A member had no room for a change. The client hears of it when no majority is left.
    pub(super) fn refused(&mut self, osd: u64, object: u64, number: u64) {
        let Some(primary) = &mut self.primary else { return };
        let (voters, needed): (BTreeSet<u64>, usize) =
            (primary.voters().map(|(osd, _)| *osd).collect(), primary.needed());
        let Some(change) = primary.changes.get_mut(&(object, number)) else { return };
        rt::site!("column.change.no_space_at_member");
        change.full.insert(osd);
        if voters.difference(&change.full).count() < needed
            && let Some(waiter) = change.waiter.take()
        {
            rt::site!("column.change.no_space_at_majority");
            self.answer(waiter, Outcome::Failed(Failure::NoSpace));
        }
    }

    pub(super) fn read(&mut self, object: u64, range: Range, waiter: W, now: Duration) {
        let Some(waiter) = self.when_serving(waiter, now) else { return };
        let Some(waiter) = self.when_here(object, waiter) else { return };
        let me = self.me;
        let primary = self.primary.as_mut().expect("it serves");
        let of_object = primary.changes.range((object, 0)..=(object, u64::MAX));
        let not_here = of_object
            .filter(|(_, change)| change.range.overlaps(range) && !change.acks.contains(&me))
            .map(|((_, number), _)| *number)
            .max();
        let epoch = primary.epoch();
        match not_here {
            None => self.answer(waiter, Outcome::Readable(epoch)),
            Some(_) if primary.looking.len() >= WAITING_MAX => {
                self.answer(waiter, Outcome::Failed(Failure::Busy));
            }
            Some(upto) => primary.looking.push(Looking { object, upto, waiter }),
        }
    }

    /// This OSD has applied the changes of an object up to a number.
    fn wake_looking(&mut self, object: u64, upto: u64) {
        let Some(primary) = &mut self.primary else { return };
        let epoch = primary.epoch();
        let due = |looking: &Looking<W>| looking.object == object && looking.upto <= upto;
        let (due, waiting) = std::mem::take(&mut primary.looking).into_iter().partition(due);
        primary.looking = waiting;
        let due: Vec<Looking<W>> = due;
        for looking in due {
            self.answer(looking.waiter, Outcome::Readable(epoch));
        }
    }

    /// What was seen in the store may hold changes that are not committed: it is shown when they are.
    pub(super) fn looked(&mut self, epoch: u64, object: u64, range: Range, leased: bool, waiter: W) {
        let promised = self.promised();
        let serving = |primary: &&mut super::primary::Primary<P, W>| {
            primary.epoch() == epoch && promised == epoch && primary.phase == Phase::Serving
        };
        let Some(primary) = self.primary.as_mut().filter(serving) else {
            rt::site!("column.read.looked_too_late");
            return self.answer(waiter, Outcome::Failed(Failure::OldEpoch(promised)));
        };
        rt::site!("column.read.without_lease", !leased);
        let of_object = primary.changes.range((object, 0)..=(object, u64::MAX));
        let upto = of_object
            .filter(|(_, change)| change.range.overlaps(range))
            .map(|((_, number), _)| *number)
            .max();
        if upto.is_none() && leased {
            return self.answer(waiter, Outcome::Readable(epoch));
        }
        if primary.reads.len() >= WAITING_MAX {
            return self.answer(waiter, Outcome::Failed(Failure::Busy));
        }
        primary.ids += 2;
        let (id, round) = (primary.ids, (!leased).then_some(primary.ids + 1));
        if let Some(round) = round {
            let (asked, done) = (BTreeSet::new(), BTreeSet::from([self.me]));
            primary.rounds.insert(round, Round { sync_upto: None, asked, done, waiter: None });
        }
        rt::site!("column.read.waits_for_commit", upto.is_some());
        let upto = upto.unwrap_or(0);
        primary.reads.insert(id, Waiting { object, range, upto, round, waiter });
        self.ask_rounds();
    }

    fn wake_reads(&mut self, object: u64) {
        let Some(primary) = &mut self.primary else { return };
        let epoch = primary.epoch();
        let ready = |read: &Waiting<W>| {
            let mut before = primary.changes.range((object, 0)..=(object, read.upto));
            read.round.is_none() && !before.any(|(_, change)| change.range.overlaps(read.range))
        };
        let of_object = |(_, read): &(&u64, &Waiting<W>)| read.object == object && ready(read);
        let ready: Vec<u64> = primary.reads.iter().filter(of_object).map(|(id, _)| *id).collect();
        for id in ready {
            let read = self.primary.as_mut().and_then(|primary| primary.reads.remove(&id));
            if let Some(read) = read {
                self.answer(read.waiter, Outcome::Readable(epoch));
            }
        }
    }

    pub(super) fn sync(&mut self, waiter: W, now: Duration) {
        let Some(waiter) = self.when_serving(waiter, now) else { return };
        let Some(waiter) = self.when_voters_are_up(waiter) else { return };
        let primary = self.primary.as_mut().expect("it serves");
        if primary.rounds.len() >= WAITING_MAX {
            return self.answer(waiter, Outcome::Failed(Failure::Busy));
        }
        primary.ids += 2;
        let (asked, done) = (BTreeSet::new(), BTreeSet::new());
        let round = Round { sync_upto: Some(self.numbers), asked, done, waiter: Some(waiter) };
        primary.rounds.insert(primary.ids, round);
        self.ask_rounds();
    }

    /// Asks whoever is ready to answer a round.
    pub(super) fn ask_rounds(&mut self) {
        let Some(primary) = &mut self.primary else { return };
        let (me, epoch) = (self.me, primary.epoch());
        let mut due = Vec::new();
        for (id, round) in &mut primary.rounds {
            for (osd, member) in &primary.members {
                let ready = match round.sync_upto {
                    Some(upto) => member.has_all(upto),
                    None => member.is_known() && member.up,
                };
                rt::site!(
                    "column.sync.member_behind",
                    !ready && round.sync_upto.is_some() && member.listed && member.up
                );
                let ready = ready && member.listed;
                if ready && !round.done.contains(osd) && round.asked.insert(*osd) {
                    due.push((*id, *osd, member.talk, round.sync_upto.is_some()));
                }
            }
        }
        for (round, osd, talk, sync) in due {
            match (osd == me, sync) {
                (true, _) => self.work(Work::Sync, After::Sync { epoch, round }),
                (false, true) => self.call(osd, epoch, talk, Request::Sync, Called::Sync { round }),
                (false, false) => self.call(osd, epoch, talk, Request::Confirm, Called::Confirm { round }),
            }
        }
    }

    pub(super) fn own_synced(&mut self, epoch: u64, round: u64, done: bool) {
        if self.primary.as_ref().is_none_or(|primary| primary.epoch() != epoch) {
            return;
        }
        if done {
            let me = self.me;
            self.round_answered(me, round);
        } else {
            rt::site!("column.sync.failed_here");
            self.break_off(Failure::Broken);
        }
    }

    pub(super) fn round_answered(&mut self, osd: u64, id: u64) {
        let Some(primary) = &mut self.primary else { return };
        let (voters, needed): (BTreeSet<u64>, usize) =
            (primary.voters().map(|(osd, _)| *osd).collect(), primary.needed());
        let Some(round) = primary.rounds.get_mut(&id) else {
            rt::site!("column.round.answer_to_over");
            return;
        };
        round.done.insert(osd);
        if round.done.intersection(&voters).count() < needed {
            return;
        }
        let round = primary.rounds.remove(&id).expect("found just now");
        let mut objects = Vec::new();
        for read in primary.reads.values_mut().filter(|read| read.round == Some(id)) {
            read.round = None;
            objects.push(read.object);
        }
        if let Some(waiter) = round.waiter {
            self.answer(waiter, Outcome::Synced);
        }
        for object in objects {
            self.wake_reads(object);
        }
    }
}
