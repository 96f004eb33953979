//! The primary's part: opening a column in an epoch, its members; what they lack is in `repair`.

mod damage;
mod opening;
mod repair;
mod standing;
mod voters;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::column::{After, Called, Column};
use super::effect::{Outcome, Reply, Request, Work};
use super::event::{Failure, Told, Trouble};
use super::member::{Contact, Member};
use super::operations::{Looking, Object, Operation, Round, Waiting};
use super::{ASK_AGAIN, LEASE, Role, Version};

/// A member without room is tried again after this.
pub(super) const FULL: Duration = Duration::from_secs(1);

/// How far the opening is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Phase {
    /// Asks for states.
    Gathering,
    /// Knows the state of the epoch; a majority has yet to have it.
    Settling,
    /// Serves.
    Serving,
    /// A change failed here.
    Broken,
}

/// What a primary knows of its column.
#[derive(Clone, Debug, Hash)]
pub(super) struct Primary<P, W> {
    me: u64,
    epoch: u64,
    /// Policy `all`.
    all: bool,
    /// When the opening began, or could have: a former primary may not have heard of the epoch until a lease after.
    opened: Duration,
    /// A lease has passed since then.
    waited: bool,
    pub(super) phase: Phase,
    pub(super) members: BTreeMap<u64, Member>,
    /// Answers while gathering.
    told: BTreeMap<u64, Told>,
    /// Somebody was asked to adopt: the state of the epoch is fixed.
    fixed: bool,
    /// What objects must become that this OSD lacks: same keys as its own `dirty` and `moving`.
    heads: BTreeMap<u64, Version>,
    /// Of these, what did not fit to what is here: they are fetched whole.
    whole: BTreeSet<u64>,
    /// Of these, what was found damaged here since the column serves.
    damaged: BTreeSet<u64>,
    /// Objects with changes that are not applied here yet.
    pub(super) objects: BTreeMap<u64, Object<P>>,
    /// Of these, where the first of them found no room here.
    pub(super) stuck: BTreeSet<u64>,
    /// Changes not yet committed, by object and number.
    pub(super) changes: BTreeMap<(u64, u64), Operation<W>>,
    /// Who waits for the end of the opening.
    pub(super) waiting: Vec<W>,
    /// Who waits for an object that is being fetched.
    pub(super) stalled: BTreeMap<u64, Vec<W>>,
    /// Reads that wait until what was numbered before them is applied here.
    pub(super) looking: Vec<Looking<W>>,
    /// Reads that wait for commits or for a round.
    pub(super) reads: BTreeMap<u64, Waiting<W>>,
    /// Syncs and confirmations under way.
    pub(super) rounds: BTreeMap<u64, Round<W>>,
    /// Ids of reads and rounds.
    pub(super) ids: u64,
}

impl<P, W> Primary<P, W> {
    fn new(me: u64, role: &Role, now: Duration) -> Self {
        let listed = role.members.iter().map(|standing| (standing.osd, Member::new(*standing, true)));
        let mut members: BTreeMap<u64, Member> = listed.collect();
        for standing in &role.previous {
            let member = members.entry(standing.osd).or_insert_with(|| Member::new(*standing, false));
            member.before = true;
            member.voted_before = standing.votes;
        }
        // Whoever holds a lease now has renewed it since, together with that map.
        let opened = role.heard.map_or(now, |heard| heard.min(now));
        Self {
            me,
            epoch: role.epoch,
            all: role.all,
            opened,
            waited: now >= opened + LEASE,
            phase: Phase::Gathering,
            members,
            told: BTreeMap::new(),
            fixed: false,
            heads: BTreeMap::new(),
            whole: BTreeSet::new(),
            damaged: BTreeSet::new(),
            objects: BTreeMap::new(),
            stuck: BTreeSet::new(),
            changes: BTreeMap::new(),
            waiting: Vec::new(),
            stalled: BTreeMap::new(),
            looking: Vec::new(),
            reads: BTreeMap::new(),
            rounds: BTreeMap::new(),
            ids: 0,
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The members of the list. Others only tell, and give objects.
    pub(super) fn listed(&self) -> impl Iterator<Item = (&u64, &Member)> {
        self.members.iter().filter(|(_, member)| member.listed)
    }

    /// The members whose word counts.
    pub(super) fn voters(&self) -> impl Iterator<Item = (&u64, &Member)> {
        self.members.iter().filter(|(_, member)| member.votes)
    }

    /// How many of `voters` must have what is committed: a majority, or all of them.
    fn of_voters(&self, voters: usize) -> usize {
        if self.all { voters } else { voters / 2 + 1 }
    }

    /// How many voters of the list that is.
    pub(super) fn needed(&self) -> usize {
        self.of_voters(self.voters().count())
    }

    /// Policy `all`: a voter that the map calls down. Nothing is committed, and no epoch opened, until it is no voter any more.
    pub(super) fn voter_down(&self) -> Option<u64> {
        let down = |(_, member): &(&u64, &Member)| self.all && !member.up;
        self.voters().find(down).map(|(osd, _)| *osd)
    }

    /// Members of the list before are asked as long as the state may come from them.
    fn asks(&self, member: &Member) -> bool {
        member.up && (member.listed || self.phase != Phase::Serving)
    }

    /// This OSD as a member.
    pub(super) fn own(&mut self) -> &mut Member {
        self.members.get_mut(&self.me).expect("the primary is in the list")
    }

    /// Whether an answer belongs to the talk that goes on with this member.
    pub(super) fn talks(&self, epoch: u64, osd: u64, talk: u64) -> bool {
        epoch == self.epoch && self.members.get(&osd).is_some_and(|member| member.talk == talk)
    }

    /// This OSD does not have the object's state.
    pub(super) fn lacks(&self, object: u64) -> bool {
        self.heads.contains_key(&object)
    }

    pub(super) fn next_tick(&self) -> Option<Duration> {
        if self.phase == Phase::Broken {
            return None;
        }
        let due = |(osd, member): (&u64, &Member)| match member.contact {
            Contact::Unknown { again } if self.asks(member) && *osd != self.me => Some(again),
            _ => member.room_due(),
        };
        let patience = (self.phase == Phase::Gathering).then_some(self.opened + LEASE);
        // Once it is over it is not waited for again.
        let patience = patience.filter(|_| !self.waited);
        let own = self.members.get(&self.me).map(|own| own.full_until);
        let stuck = own.filter(|_| !self.stuck.is_empty());
        self.members.iter().filter_map(due).chain(patience).chain(stuck).min()
    }

    pub(super) fn is_idle(&self) -> bool {
        let quiet = self.changes.is_empty() && self.waiting.is_empty() && self.stalled.is_empty();
        let read = self.looking.is_empty() && self.reads.is_empty();
        let done = read && self.rounds.is_empty() && self.objects.is_empty();
        let in_sync = self.listed().all(|(_, member)| member.has_all(u64::MAX - 1));
        self.phase == Phase::Serving && quiet && done && in_sync
    }

    pub(super) fn adopted(&self) -> usize {
        self.voters().filter(|(_, member)| member.adopted).count()
    }

    fn gather_anew(&mut self, now: Duration) {
        rt::site!("column.open.gathers_anew");
        self.phase = Phase::Gathering;
        self.told.clear();
        self.heads.clear();
        self.whole.clear();
        for member in self.members.values_mut() {
            member.forget(now);
        }
    }
}

/// Objects whose versions differ.
fn differences(one: &BTreeMap<u64, Version>, other: &BTreeMap<u64, Version>) -> BTreeSet<u64> {
    let differs = |object: &&u64| one.get(object) != other.get(object);
    one.keys().chain(other.keys()).filter(differs).copied().collect()
}

impl<P: Clone, W> Column<P, W> {
    /// Whether this OSD leads the column by the map that it knows; opens the column on the first touch.
    pub(super) fn leads(&mut self, now: Duration) -> bool {
        if self.role.primary != Some(self.me) || self.role.epoch < self.promised() {
            return false;
        }
        if self.primary.is_none() {
            rt::site!("column.open.begun");
            self.primary = Some(Primary::new(self.me, &self.role, now));
            self.ask_members(now);
            self.list_own_state();
        }
        true
    }

    /// Somebody else leads, or this OSD in another epoch: nobody waits for us any more.
    pub(super) fn depose(&mut self, epoch: u64) {
        if let Some(primary) = self.primary.take() {
            rt::site!("column.primary.deposed");
            rt::site!("column.primary.deposed_opening", primary.phase != Phase::Serving);
            rt::site!("column.primary.deposed_in_change", !primary.changes.is_empty());
            rt::site!("column.primary.deposed_in_round", !primary.rounds.is_empty());
            self.fail_all(primary, Failure::OldEpoch(epoch));
        }
    }

    fn fail_all(&mut self, primary: Primary<P, W>, why: Failure) {
        let changes = primary.changes.into_values().filter_map(|change| change.waiter);
        let looking = primary.looking.into_iter().map(|read| read.waiter);
        let reads = primary.reads.into_values().map(|read| read.waiter).chain(looking);
        let rounds = primary.rounds.into_values().filter_map(|round| round.waiter);
        let waiting = primary.waiting.into_iter().chain(primary.stalled.into_values().flatten());
        for waiter in changes.chain(reads).chain(rounds).chain(waiting) {
            self.answer(waiter, Outcome::Failed(why));
        }
    }

    /// A change failed here: this OSD's state is not what it numbered.
    pub(super) fn break_off(&mut self, why: Failure) {
        let Some(primary) = self.primary.take() else { return };
        rt::site!("column.primary.breaks_off");
        let mut broken = Primary::new(self.me, &self.role, Duration::ZERO);
        broken.phase = Phase::Broken;
        self.fail_all(primary, why);
        self.primary = Some(broken);
    }

    pub(super) fn members_changed(&mut self, now: Duration) {
        let Some(primary) = &mut self.primary else { return };
        if self.role.epoch != primary.epoch || self.role.primary != Some(self.me) {
            let epoch = self.role.epoch;
            return self.depose(epoch);
        }
        let mut lost = false;
        for standing in self.role.members.iter().chain(&self.role.previous) {
            let Some(member) = primary.members.get_mut(&standing.osd) else { continue };
            if (member.up, member.since) != (standing.up, standing.since) && standing.osd != self.me {
                rt::site!("column.member.down", !standing.up);
                rt::site!("column.member.new_life", standing.up);
                (member.up, member.since) = (standing.up, standing.since);
                member.forget(now);
                primary.told.remove(&standing.osd);
                lost = true;
            }
        }
        if lost {
            self.refuse_without_voter();
            self.member_lost(now);
        }
    }

    /// Time passed.
    pub(super) fn primary_tick(&mut self, now: Duration) {
        if let Some(primary) = &mut self.primary
            && !primary.waited
            && now >= primary.opened + LEASE
        {
            rt::site!("column.open.lease_waited_out");
            primary.waited = true;
            self.try_settle(now);
        }
        if let Some(primary) = &mut self.primary {
            // Tried again now; whoever still has no room says so again.
            for member in primary.members.values_mut().filter(|member| member.full_until <= now) {
                rt::site!("column.member.room_tried_again", member.full_until > Duration::ZERO);
                member.full_until = Duration::ZERO;
            }
            if primary.own().full_until.is_zero() {
                self.unstick();
            }
        }
        self.ask_members(now);
    }

    /// A member's state is unknown again.
    fn member_lost(&mut self, now: Duration) {
        let Some(primary) = &mut self.primary else { return };
        if primary.phase == Phase::Settling && !primary.fixed {
            primary.gather_anew(now);
        }
        self.ask_members(now);
        self.list_own_state();
        self.try_settle(now);
        self.progress(now);
    }

    pub(super) fn ask_members(&mut self, now: Duration) {
        let Some(primary) = &mut self.primary else { return };
        if primary.phase == Phase::Broken {
            return;
        }
        let (me, epoch) = (self.me, primary.epoch);
        let serving = primary.phase == Phase::Serving;
        let mut due = Vec::new();
        for (osd, member) in &mut primary.members {
            let asks = *osd != me && member.up && (member.listed || !serving);
            if asks && matches!(member.contact, Contact::Unknown { again } if again <= now) {
                member.contact = Contact::Asked;
                due.push((*osd, member.talk));
            }
        }
        for (osd, talk) in due {
            self.call(osd, epoch, talk, Request::Ask, Called::Ask);
        }
        self.progress(now);
    }

    pub(super) fn wants_list(&self) -> bool {
        self.primary.as_ref().is_some_and(|primary| {
            let contact = primary.members.get(&self.me).map(|member| member.contact);
            primary.phase == Phase::Gathering && matches!(contact, Some(Contact::Unknown { .. }))
        })
    }

    pub(super) fn list_own_state(&mut self) {
        if !self.wants_list() || !self.is_still() {
            return;
        }
        let Some(primary) = &mut self.primary else { return };
        let epoch = primary.epoch;
        primary.own().contact = Contact::Asked;
        self.work(Work::List, After::List { epoch });
    }

    pub(super) fn listed(&mut self, epoch: u64, done: Option<Reply>, now: Duration) {
        let Some(primary) = self.primary.as_mut().filter(|primary| primary.epoch == epoch) else { return };
        if primary.phase != Phase::Gathering {
            return;
        }
        let Some(Reply::Told(told)) = done else { return self.break_off(Failure::Broken) };
        primary.own().contact = Contact::Known;
        primary.told.insert(self.me, told);
        self.try_settle(now);
    }

    fn try_settle(&mut self, now: Duration) {
        let Some(primary) = &mut self.primary else { return };
        if primary.phase != Phase::Gathering || !primary.knows_enough() {
            return;
        }
        let state = primary.state_of_epoch();
        for (osd, told) in std::mem::take(&mut primary.told) {
            let theirs: BTreeMap<u64, Version> = told.objects.into_iter().collect();
            self.numbers = theirs.values().map(|version| version.number).fold(self.numbers, u64::max);
            let member = primary.members.get_mut(&osd).expect("only members are asked");
            member.contact = Contact::Known;
            member.dirty = differences(&state, &theirs);
            member.dirty.extend(told.damaged);
            member.told_of(&theirs);
            member.adopted = told.adopted == primary.epoch && !told.doubtful;
            rt::site!("column.open.member_adopted_before", member.adopted);
            rt::site!("column.open.member_doubtful", told.doubtful);
            rt::site!("column.open.primary_behind", osd == self.me && !member.dirty.is_empty());
            primary.fixed |= member.adopted;
            if osd == self.me {
                let head = |object: &u64| (*object, state.get(object).copied().unwrap_or_default());
                primary.heads = member.dirty.iter().map(head).collect();
            }
        }
        primary.phase = Phase::Settling;
        self.progress(now);
    }

    /// A member told its state when the state of the epoch was known already.
    fn compare(&mut self, osd: u64, told: Told, mine: &[(u64, Version)]) {
        let Some(primary) = &mut self.primary else { return };
        let mut state: BTreeMap<u64, Version> = mine.iter().copied().collect();
        state.extend(primary.objects.iter().map(|(object, known)| (*object, known.head)));
        state.extend(primary.heads.iter().map(|(object, head)| (*object, *head)));
        state.retain(|_, version| *version != Version::default());
        let theirs: BTreeMap<u64, Version> = told.objects.into_iter().collect();
        let member = primary.members.get_mut(&osd).expect("only members are asked");
        member.contact = Contact::Known;
        member.dirty = differences(&state, &theirs);
        member.dirty.extend(&told.damaged);
        member.told_of(&theirs);
        member.adopted = told.adopted == primary.epoch && !told.doubtful;
        let mut acked = Vec::new();
        for ((object, number), change) in &mut primary.changes {
            rt::site!("column.member.ack_taken_back", change.acks.remove(&osd));
            let has = theirs.get(object).is_some_and(|v| v.epoch == primary.epoch && v.number >= *number);
            if has && !told.damaged.contains(object) {
                acked.push((*object, *number));
            }
        }
        for (object, number) in acked {
            self.acknowledge(osd, object, number);
        }
        self.commit_all();
    }

    pub(super) fn member_answered(
        &mut self,
        osd: u64,
        what: Called,
        result: Result<Reply, Trouble>,
        mine: &[(u64, Version)],
        now: Duration,
    ) {
        let Some(primary) = &mut self.primary else { return };
        let epoch = primary.epoch;
        let member = primary.members.get_mut(&osd).expect("only members are asked");
        match (what, result) {
            (Called::Ask, Ok(Reply::Told(told))) if primary.phase == Phase::Gathering => {
                member.contact = Contact::Known;
                primary.told.insert(osd, told);
                self.try_settle(now);
            }
            (Called::Ask, Ok(Reply::Told(told))) => {
                rt::site!("column.member.joins_late");
                self.compare(osd, told, mine);
            }
            (Called::Apply { object, number }, Ok(Reply::Applied)) => {
                member.outstanding.remove(&number);
                self.acknowledge(osd, object, number);
            }
            (Called::Apply { object, number }, Ok(Reply::NeedsObject)) => {
                rt::site!("column.member.missed_change");
                member.outstanding.remove(&number);
                member.dirty.insert(object);
            }
            (Called::Apply { object, number }, Err(Trouble::NoSpace)) => {
                member.outstanding.remove(&number);
                member.dirty.insert(object);
                member.full_until = now + FULL;
                self.refused(osd, object, number);
            }
            (Called::Push { object }, Ok(Reply::Version(version))) => {
                member.moving.remove(&object);
                if version.epoch == epoch {
                    self.acknowledge(osd, object, version.number);
                }
            }
            (Called::Push { object }, Ok(Reply::NeedsObject)) => {
                rt::site!("column.push.other_version_there");
                // It has another version than it told: nothing is known of it now.
                member.moving.remove(&object);
                member.dirty.insert(object);
            }
            (Called::Push { object }, Err(Trouble::Damaged)) => {
                member.moving.remove(&object);
                member.dirty.insert(object);
                if primary.objects.contains_key(&object) {
                    // Changes of it are under way: what becomes of them comes first.
                    member.full_until = now + FULL;
                } else if let Ok(at) = mine.binary_search_by_key(&object, |(object, _)| *object) {
                    rt::site!("column.push.damaged_here");
                    self.lost_bytes(object, mine[at].1);
                }
            }
            (Called::Push { object }, Err(Trouble::NoSpace)) => {
                rt::site!("column.push.no_space");
                member.moving.remove(&object);
                member.dirty.insert(object);
                member.full_until = now + FULL;
            }
            (Called::Adopt, Ok(Reply::Done)) => {
                (member.adopted, member.adopting) = (true, false);
                self.commit_all();
            }
            (Called::Adopt, Err(Trouble::NoSpace)) => {
                rt::site!("column.adopt.no_space");
                member.adopting = false;
                member.full_until = now + FULL;
            }
            (Called::Sync { round } | Called::Confirm { round }, Ok(Reply::Done)) => {
                self.round_answered(osd, round);
            }
            // Lost, a refusal of an epoch that is not above ours, or nonsense: ask for its state again.
            _ => {
                rt::site!("column.member.lost");
                return self.lose(osd, now);
            }
        }
        self.progress(now);
    }

    fn lose(&mut self, osd: u64, now: Duration) {
        let Some(primary) = &mut self.primary else { return };
        if let Some(member) = primary.members.get_mut(&osd) {
            member.forget(now + ASK_AGAIN);
        }
        primary.told.remove(&osd);
        for round in primary.rounds.values_mut() {
            round.asked.remove(&osd);
        }
        self.member_lost(now);
    }

    /// A holder sent an object that this OSD lacks, or did not. The same version is the same bytes, whatever has
    /// become of the holder since.
    pub(super) fn got_object(
        &mut self,
        osd: u64,
        talks: bool,
        object: u64,
        got: Option<(Version, P)>,
        now: Duration,
    ) {
        let Some(primary) = &mut self.primary else { return };
        let epoch = primary.epoch;
        if rt::site!("column.fetch.not_wanted_any_more", !primary.own().moving.contains(&object)) {
            return;
        }
        let wanted = primary.heads.get(&object).copied();
        match got {
            Some((version, payload)) if Some(version) == wanted => {
                let work = Work::Install { object, version, payload };
                self.work(work, After::Fetched { epoch, object });
            }
            _ => {
                rt::site!("column.fetch.other_version", got.is_some());
                rt::site!("column.fetch.lost", got.is_none());
                let own = primary.own();
                own.moving.remove(&object);
                own.dirty.insert(object);
                if talks {
                    self.lose(osd, now);
                } else {
                    self.progress(now);
                }
            }
        }
    }

    /// An object that this OSD lacked is in its store, or did not get there.
    pub(super) fn caught_up(&mut self, epoch: u64, object: u64, done: Option<Reply>, now: Duration) {
        let Some(primary) = self.primary.as_mut().filter(|primary| primary.epoch == epoch) else { return };
        if !primary.own().moving.remove(&object) {
            return;
        }
        let stalled = primary.stalled.remove(&object).unwrap_or_default();
        if matches!(done, None | Some(Reply::NoSpace)) {
            rt::site!("column.fetch.no_space");
            rt::site!("column.fetch.waiters_refused", !stalled.is_empty());
            let own = primary.own();
            own.dirty.insert(object);
            own.full_until = now + FULL;
            let why = if done.is_none() { Failure::Broken } else { Failure::NoSpace };
            for waiter in stalled {
                self.answer(waiter, Outcome::Failed(why));
            }
            return;
        }
        if rt::site!("column.fetch.patch_does_not_fit", done == Some(Reply::NeedsObject)) {
            primary.own().dirty.insert(object);
            primary.whole.insert(object);
        } else {
            primary.heads.remove(&object);
            primary.whole.remove(&object);
        }
        for waiter in stalled {
            rt::site!("column.fetch.waiter_goes_on");
            self.answer(waiter, Outcome::Again);
        }
        self.progress(now);
    }

    pub(super) fn own_adopted(&mut self, epoch: u64, done: Option<&Reply>, now: Duration) {
        let Some(primary) = self.primary.as_mut().filter(|primary| primary.epoch == epoch) else { return };
        let own = primary.own();
        match done {
            Some(Reply::Done) => (own.adopted, own.adopting) = (true, false),
            // Not even the reserve has room. Another epoch would find none either.
            Some(Reply::NoSpace) => {
                rt::site!("column.adopt.no_space_here");
                (own.adopting, own.full_until) = (false, now + FULL);
            }
            _ => return self.break_off(Failure::Broken),
        }
        self.commit_all();
        self.progress(now);
    }

    /// Whatever can go on goes on.
    pub(super) fn progress(&mut self, now: Duration) {
        let Some(primary) = &mut self.primary else { return };
        if !matches!(primary.phase, Phase::Settling | Phase::Serving) {
            return;
        }
        if primary.phase == Phase::Settling && primary.adopted() >= primary.needed() {
            primary.phase = Phase::Serving;
            for waiter in std::mem::take(&mut primary.waiting) {
                self.answer(waiter, Outcome::Again);
            }
        }
        if rt::site!("column.open.hopeless", self.is_hopeless()) {
            return self.break_off(Failure::Broken);
        }
        self.ask_to_adopt(now);
        self.repair(now);
        self.ask_rounds();
    }
}
