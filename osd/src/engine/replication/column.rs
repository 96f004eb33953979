//! One column at one OSD: what it promised, what it does as a replica; the primary's part lies in `primary` and
//! `operations`.

mod likeness;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::effect::{Effect, Outcome, Reply, Request, Work};
use super::event::{Event, Failure, Trouble};
use super::primary::Primary;
use super::{PARKED, PARKED_MAX, Role, Version, map_part, view_of};

/// What follows when work or a call ends.
#[derive(Clone, Debug, Hash)]
pub(super) enum After<W> {
    /// A primary's own change.
    Change { epoch: u64, object: u64, number: u64 },
    /// A primary got an object that it lacked.
    Fetched { epoch: u64, object: u64 },
    /// A primary's look at its own state.
    List { epoch: u64 },
    /// A primary wrote its epoch down.
    Adopt { epoch: u64 },
    /// A primary's own part of a sync.
    Sync { epoch: u64, round: u64 },
    /// Answers a member. `talk` tells an answer to an earlier talk.
    Call { epoch: u64, osd: u64, talk: u64, what: Called },
    /// A replica's change or install; the object has this version then.
    Replica { object: u64, version: Version, install: bool, waiter: W },
    /// A replica's answer to whoever asked; work that changes the state counts for the drain.
    Answer { changes: bool, waiter: W },
}

/// What a member was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Called {
    Ask,
    Apply { object: u64, number: u64 },
    Push { object: u64 },
    Fetch { object: u64 },
    Adopt,
    Sync { round: u64 },
    Confirm { round: u64 },
}

/// A replica's change or install that cannot be done yet.
#[derive(Clone, Debug, Hash)]
struct Parked<P, W> {
    until: Duration,
    /// `None`: an install, which needs no base to be waited for.
    base: Option<Version>,
    /// An install of what differs from this version.
    patches: Option<Version>,
    /// What an install replaces is damaged.
    damaged: bool,
    version: Version,
    payload: P,
    waiter: W,
}

/// See the module. `P` is what a change carries, `W` whoever waits for an answer.
#[derive(Clone, Debug)]
pub struct Column<P, W> {
    pub(super) me: u64,
    pub(super) role: Role,
    /// Nothing below is accepted. Never goes back.
    promised: u64,
    /// The epoch whose primary was told the state: only its changes are taken.
    told: u64,
    /// Id of the last work or call.
    ids: u64,
    /// The last number given to a change. Never goes back within a life of the process.
    pub(super) numbers: u64,
    pending: BTreeMap<u64, After<W>>,
    /// Work under way that changes the store.
    changing: usize,
    /// Who asked for the state and waits for the end of the changes.
    asked: Vec<W>,
    /// Objects that a replica's change is under way on.
    applying: BTreeMap<u64, ()>,
    parked: BTreeMap<u64, VecDeque<Parked<P, W>>>,
    parked_count: usize,
    pub(super) primary: Option<Primary<P, W>>,
    pub(super) effects: Vec<Effect<P, W>>,
}

impl<P: Clone, W> Column<P, W> {
    /// A column at OSD `me`; `numbers`: the last number that any column of this process gave.
    #[must_use]
    pub fn new(me: u64, role: Role, numbers: u64) -> Self {
        Self {
            me,
            promised: role.epoch,
            role,
            told: 0,
            ids: 0,
            numbers,
            pending: BTreeMap::new(),
            changing: 0,
            asked: Vec::new(),
            applying: BTreeMap::new(),
            parked: BTreeMap::new(),
            parked_count: 0,
            primary: None,
            effects: Vec::new(),
        }
    }

    /// Takes one event and says what must be done about it.
    pub fn handle(&mut self, event: Event<P, W>, now: Duration) -> Vec<Effect<P, W>> {
        match event {
            Event::Map(role) => self.learn(role, now),
            Event::Change { object, range, payload, local, damaged, waiter } => {
                self.change(object, range, payload, (local, damaged), waiter, now);
            }
            Event::Read { object, range, waiter } => self.read(object, range, waiter, now),
            Event::Looked { epoch, object, range, leased, waiter } => {
                self.looked(epoch, object, range, leased, waiter);
            }
            Event::Sync { waiter } => self.sync(waiter, now),
            Event::Ask { epoch, map, waiter } => self.ask(epoch, map, waiter),
            Event::Apply { epoch, object, base, number, payload, local, waiter } => {
                let version = Version { epoch, number };
                let until = now + PARKED;
                let (base, patches) = (Some(base), None);
                let parked = Parked { until, base, patches, damaged: false, version, payload, waiter };
                self.take(epoch, object, parked, local);
            }
            Event::Install { epoch, object, base: patches, version, payload, local, damaged, waiter } => {
                let until = now + PARKED;
                let parked = Parked { until, base: None, patches, damaged, version, payload, waiter };
                self.take(epoch, object, parked, local);
            }
            Event::Adopt { epoch, waiter } => {
                self.as_replica(epoch, waiter, |_| Some(Work::Adopt { epoch }));
            }
            Event::SyncFor { epoch, waiter } => self.as_replica(epoch, waiter, |_| Some(Work::Sync)),
            Event::Confirm { epoch, waiter } => self.as_replica(epoch, waiter, |_| None),
            Event::Worked { work, done } => self.worked(work, done, now),
            Event::Called { call, result, mine } => self.called(call, result, &mine, now),
            Event::Fetched { call, result } => self.fetched(call, result, now),
            Event::Tick => self.tick(now),
        }
        self.invariants();
        std::mem::take(&mut self.effects)
    }

    /// When the next `Tick` is due, if ever.
    #[must_use]
    pub fn next_tick(&self) -> Option<Duration> {
        let parked = self.parked.values().flatten().map(|parked| parked.until).min();
        parked.into_iter().chain(self.primary.as_ref().and_then(Primary::next_tick)).min()
    }

    /// Nothing is under way or known that could not be asked again: it may be dropped from memory.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        // A promise beyond what the own map gives is nowhere else.
        self.promised == self.role.epoch
            && self.pending.is_empty()
            && self.parked_count == 0
            && self.primary.as_ref().is_none_or(Primary::is_idle)
    }

    /// The epoch below which nothing is accepted.
    #[must_use]
    pub fn promised(&self) -> u64 {
        self.promised
    }

    /// The last number given to a change.
    #[must_use]
    pub fn numbers(&self) -> u64 {
        self.numbers
    }

    /// What the map makes of the column.
    #[must_use]
    pub fn role(&self) -> &Role {
        &self.role
    }

    fn learn(&mut self, role: Role, now: Duration) {
        if role.epoch < self.role.epoch {
            return;
        }
        self.role = role;
        if rt::site!("column.map.new_epoch", self.role.epoch > self.promised) {
            self.promised = self.role.epoch;
            self.unpark();
        }
        self.members_changed(now);
    }

    /// A question for promise and state.
    fn ask(&mut self, epoch: u64, map: u64, waiter: W) {
        if rt::site!("column.ask.stale_epoch", epoch < self.promised) {
            return self.answer(waiter, Outcome::Failed(Failure::OldEpoch(self.promised)));
        }
        // Who opens a new view must see who may lead the one before.
        if view_of(epoch) > view_of(self.promised) && map < map_part(self.promised) {
            return self.answer(waiter, Outcome::Failed(Failure::Busy));
        }
        rt::site!("column.ask.again", epoch == self.told);
        self.promised = epoch;
        self.told = epoch;
        self.depose(epoch);
        self.unpark();
        self.asked.push(waiter);
        self.tell_when_still();
    }

    /// Answers those who asked, and looks at the own state, when no change is under way any more.
    pub(super) fn tell_when_still(&mut self) {
        if rt::site!("column.ask.change_under_way", self.changing > 0 && !self.asked.is_empty())
            || self.changing > 0
        {
            return;
        }
        for waiter in std::mem::take(&mut self.asked) {
            self.work(Work::List, After::Answer { changes: false, waiter });
        }
        self.list_own_state();
    }

    /// A replica's change of the object is under way.
    pub(super) fn is_applying(&self, object: u64) -> bool {
        self.applying.contains_key(&object)
    }

    pub(super) fn is_still(&self) -> bool {
        self.changing == 0
    }

    /// What waits for its base belongs to an epoch that is over, or to a talk that is.
    fn unpark(&mut self) {
        self.parked_count = 0;
        let promised = self.promised;
        for parked in std::mem::take(&mut self.parked).into_values().flatten() {
            let outcome = if parked.version.epoch < promised && parked.base.is_some() {
                rt::site!("column.parked.epoch_over");
                Outcome::Failed(Failure::OldEpoch(promised))
            } else {
                rt::site!("column.parked.install_epoch_over");
                Outcome::Replied(Reply::NeedsObject)
            };
            self.answer(parked.waiter, outcome);
        }
    }

    /// Requests of the primary of `told` that need no object.
    fn as_replica(&mut self, epoch: u64, waiter: W, what: impl FnOnce(&Self) -> Option<Work<P>>) {
        if rt::site!("column.replica.stale_epoch", !self.follows(epoch)) {
            return self.answer(waiter, Outcome::Failed(Failure::OldEpoch(self.promised)));
        }
        match what(self) {
            Some(work) => {
                let changes = matches!(work, Work::Adopt { .. });
                self.work(work, After::Answer { changes, waiter });
            }
            None => self.answer(waiter, Outcome::Replied(Reply::Done)),
        }
    }

    fn follows(&self, epoch: u64) -> bool {
        epoch == self.promised && epoch == self.told
    }

    fn take(&mut self, epoch: u64, object: u64, parked: Parked<P, W>, local: Version) {
        if rt::site!("column.apply.stale_epoch", !self.follows(epoch)) {
            return self.answer(parked.waiter, Outcome::Failed(Failure::OldEpoch(self.promised)));
        }
        let waits = rt::site!("column.parked.behind_change", self.applying.contains_key(&object));
        if waits && self.parked_count < PARKED_MAX {
            self.parked_count += 1;
            self.parked.entry(object).or_default().push_back(parked);
        } else if waits {
            self.answer(parked.waiter, Outcome::Replied(Reply::NeedsObject));
        } else if let Some(parked) = self.try_now(object, parked, local) {
            if self.parked_count < PARKED_MAX && parked.base.is_some_and(|base| base.epoch == epoch) {
                rt::site!("column.parked.base_missing");
                // Only a base of this epoch can still be on its way.
                self.parked_count += 1;
                self.parked.entry(object).or_default().push_back(parked);
            } else {
                rt::site!("column.apply.base_of_old_epoch");
                self.answer(parked.waiter, Outcome::Replied(Reply::NeedsObject));
            }
        }
    }

    /// Does what is asked, or finds it done; gives it back when its base is not there.
    fn try_now(&mut self, object: u64, parked: Parked<P, W>, local: Version) -> Option<Parked<P, W>> {
        let (version, install) = (parked.version, parked.base.is_none());
        let newer_here = local.epoch == self.promised && version <= local;
        // The same version is the same bytes, unless they were damaged here.
        let again = rt::site!("column.install.over_damage", parked.damaged && local == version && install);
        if install && !again && (newer_here || local == version) {
            rt::site!("column.install.newer_here", version < local);
            rt::site!("column.install.same_here", version == local);
            self.answer(parked.waiter, Outcome::Replied(Reply::Version(local)));
            return None;
        }
        if rt::site!("column.apply.repeat", newer_here && !install) {
            self.answer(parked.waiter, Outcome::Replied(Reply::Applied));
            return None;
        }
        if parked.base.is_some_and(|base| base != local) {
            return Some(parked);
        }
        if parked.patches.is_some_and(|base| base != local || parked.damaged) {
            rt::site!("column.patch.onto_damage", parked.damaged);
            rt::site!("column.patch.other_base", parked.patches != Some(local));
            self.answer(parked.waiter, Outcome::Replied(Reply::NeedsObject));
            return None;
        }
        let Parked { payload, waiter, .. } = parked;
        let work = if install {
            Work::Install { object, version, payload }
        } else {
            Work::Apply { object, version, payload }
        };
        self.applying.insert(object, ());
        self.work(work, After::Replica { object, version, install, waiter });
        None
    }

    /// A replica's change ended: the object has this version (`None`: whatever it had before; who waits asks anew).
    fn replica_done(&mut self, object: u64, local: Option<Version>) {
        self.applying.remove(&object);
        let Some(mut waiting) = self.parked.remove(&object) else { return };
        self.parked_count -= waiting.len();
        let Some(local) = local else {
            rt::site!("column.parked.change_failed");
            for parked in waiting {
                self.answer(parked.waiter, Outcome::Replied(Reply::NeedsObject));
            }
            return;
        };
        let mut later = VecDeque::new();
        while let Some(parked) = waiting.pop_front() {
            if self.applying.contains_key(&object) {
                later.push_back(parked);
            } else if let Some(parked) = self.try_now(object, parked, local) {
                rt::site!("column.parked.still_early");
                later.push_back(parked);
            }
        }
        if !later.is_empty() {
            self.parked_count += later.len();
            self.parked.insert(object, later);
        }
    }

    fn worked(&mut self, work: u64, done: Option<Reply>, now: Duration) {
        let Some(after) = self.pending.remove(&work) else { return };
        if after.changes() {
            self.changing -= 1;
        }
        match after {
            After::Replica { object, version, install, waiter } => {
                let refused = |done: &Reply| matches!(done, Reply::NoSpace | Reply::NeedsObject);
                rt::site!("column.replica.no_space", done == Some(Reply::NoSpace));
                rt::site!("column.replica.patch_does_not_fit", done == Some(Reply::NeedsObject));
                rt::site!("column.replica.damaged_block", done.is_none());
                let applied = match done {
                    Some(done) if refused(&done) => Some(done),
                    Some(_) if install => Some(Reply::Version(version)),
                    Some(_) => Some(Reply::Applied),
                    None => None,
                };
                let local = applied.as_ref().filter(|done| !refused(done)).map(|_| version);
                self.answer_work(waiter, applied);
                self.replica_done(object, local);
            }
            After::Answer { waiter, .. } => self.answer_work(waiter, done),
            After::Change { epoch, object, number } => self.changed(epoch, object, number, done, now),
            After::Fetched { epoch, object } => self.caught_up(epoch, object, done, now),
            After::List { epoch } => self.listed(epoch, done, now),
            After::Adopt { epoch } => self.own_adopted(epoch, done.as_ref(), now),
            After::Sync { epoch, round } => self.own_synced(epoch, round, done == Some(Reply::Done)),
            After::Call { .. } => {}
        }
        if !self.asked.is_empty() || self.wants_list() {
            self.tell_when_still();
        }
    }

    fn answer_work(&mut self, waiter: W, done: Option<Reply>) {
        let outcome = done.map_or(Outcome::Failed(Failure::Broken), Outcome::Replied);
        self.answer(waiter, outcome);
    }

    fn called(&mut self, call: u64, result: Result<Reply, Trouble>, mine: &[(u64, Version)], now: Duration) {
        if let Some((osd, true, what)) = self.end_of_call(call, result.as_ref().err().copied()) {
            self.member_answered(osd, what, result, mine, now);
        }
    }

    fn fetched(&mut self, call: u64, result: Result<(Version, P), Trouble>, now: Duration) {
        let trouble = result.as_ref().err().copied();
        if let Some((osd, talks, Called::Fetch { object })) = self.end_of_call(call, trouble) {
            self.got_object(osd, talks, object, result.ok(), now);
        }
    }

    /// Whom a call of the present epoch went to, whether that talk goes on, and what it was.
    fn end_of_call(&mut self, call: u64, trouble: Option<Trouble>) -> Option<(u64, bool, Called)> {
        let Some(After::Call { epoch, osd, talk, what }) = self.pending.remove(&call) else { return None };
        if let Some(Trouble::OldEpoch(theirs)) = trouble
            && theirs > epoch
        {
            rt::site!("column.call.promise_elsewhere", theirs > self.promised);
            if theirs > self.promised {
                self.promised = theirs;
                self.unpark();
            }
            // Not the one that has opened that epoch here since: the answer is late, and a state is computed once.
            if self.primary.as_ref().is_some_and(|primary| primary.epoch() < theirs) {
                rt::site!("column.call.deposed_by_answer");
                self.depose(theirs);
            } else {
                rt::site!("column.call.refusal_too_late");
            }
            return None;
        }
        let primary = self.primary.as_ref().filter(|primary| primary.epoch() == epoch);
        rt::site!("column.call.answer_to_former_epoch", primary.is_none());
        let primary = primary?;
        rt::site!("column.call.answer_to_former_talk", !primary.talks(epoch, osd, talk));
        Some((osd, primary.talks(epoch, osd, talk), what))
    }

    fn tick(&mut self, now: Duration) {
        let mut late = Vec::new();
        self.parked.retain(|_, waiting| {
            while waiting.front().is_some_and(|parked| parked.until <= now) {
                late.extend(waiting.pop_front());
            }
            !waiting.is_empty()
        });
        self.parked_count -= late.len();
        for parked in late {
            rt::site!("column.parked.base_never_came");
            self.answer(parked.waiter, Outcome::Replied(Reply::NeedsObject));
        }
        self.primary_tick(now);
    }

    pub(super) fn answer(&mut self, waiter: W, outcome: Outcome) {
        self.effects.push(Effect::Answer { waiter, outcome });
    }

    pub(super) fn work(&mut self, what: Work<P>, after: After<W>) {
        self.ids += 1;
        if after.changes() {
            self.changing += 1;
        }
        self.pending.insert(self.ids, after);
        self.effects.push(Effect::Work { work: self.ids, what });
    }

    pub(super) fn call(&mut self, osd: u64, epoch: u64, talk: u64, what: Request<P>, called: Called) {
        self.ids += 1;
        self.pending.insert(self.ids, After::Call { epoch, osd, talk, what: called });
        self.effects.push(Effect::Call { call: self.ids, osd, epoch, what });
    }

    fn invariants(&self) {
        debug_assert_eq!(
            self.changing,
            self.pending.values().filter(|after| after.changes()).count(),
            "every change under way is counted once"
        );
        debug_assert_eq!(
            self.parked_count,
            self.parked.values().map(VecDeque::len).sum::<usize>(),
            "every parked change is counted once"
        );
        assert!(self.told <= self.promised, "nobody is told more than was promised");
        if let Some(primary) = &self.primary {
            assert!(primary.epoch() <= self.promised, "a primary has promised its own epoch");
        }
    }
}

impl<W> After<W> {
    /// Whether the store changes by it.
    fn changes(&self) -> bool {
        match self {
            After::Change { .. } | After::Fetched { .. } | After::Adopt { .. } | After::Replica { .. } => {
                true
            }
            After::Answer { changes, .. } => *changes,
            After::List { .. } | After::Sync { .. } | After::Call { .. } => false,
        }
    }
}
