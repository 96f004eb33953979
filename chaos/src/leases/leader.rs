//! The leader's driver, as `mrc/src/leasing.rs` does it, without I/O.

use std::collections::BTreeMap;
use std::time::Duration;

use mrc::engine::leases::{
    Acquired, Begun, Claim, Claims, Effect, Leases, OpenRefused, Opening, Pass, Standing, Times,
};
use proto::mrc::{LEASE_ATTR, LEASE_NAMES, LEASE_READ, LEASE_WRITE, LeaseGrant};

use super::made::Making;
use super::{Answer, Ask, Broken, EXPEL, EXPEL_LONG, Event, FILES, SLACK, Sim, TIMES};
use crate::invariants::Violation;

pub(super) const VOLUME: u64 = 1;

/// A request that waits.
pub(super) enum Pending {
    Change {
        of: Asked,
        pass: Pass,
        remove: bool,
    },
    Read {
        of: Asked,
        pass: Pass,
    },
    Acquire {
        of: Asked,
    },
    /// A directory that a former leader took.
    Make {
        making: Making,
        pass: Pass,
    },
    /// A snapshot waits for writers to be silent.
    Quiet {
        snapshot: u64,
        pass: Pass,
    },
}

/// Whose request about which file, and when it was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(super) from: u64,
    pub(super) file: u64,
    pub(super) asked: Duration,
}

pub(crate) struct Leader {
    pub(crate) engine: Leases,
    pub(crate) incarnation: u64,
    /// Grows when the next leader is another process.
    process: u64,
    pub(super) pending: BTreeMap<u64, Pending>,
    /// Changes that the group decides on.
    applying: BTreeMap<u64, (Asked, Pass, bool)>,
    /// Of those.
    numbers: u64,
    /// Snapshots under way and the hush of each.
    pub(super) snapshots: BTreeMap<u64, u64>,
    /// Open recalls (session, number): when first seen.
    recalled: BTreeMap<(u64, u64), Duration>,
    /// `AwaitRecalls` that wait, by session: highest seen.
    polls: BTreeMap<u64, u64>,
}

impl Leader {
    pub(crate) fn new(times: Times) -> Self {
        Self {
            engine: Leases::new(times),
            incarnation: 0,
            process: 0,
            pending: BTreeMap::new(),
            applying: BTreeMap::new(),
            numbers: 0,
            snapshots: BTreeMap::new(),
            recalled: BTreeMap::new(),
            polls: BTreeMap::new(),
        }
    }
}

fn tell(told: &[(u64, u32)]) -> Vec<((u64, u64), u32)> {
    told.iter().map(|(file, bits)| ((VOLUME, *file), *bits)).collect()
}

impl Sim {
    pub(crate) fn new_leader(&mut self) {
        let now = self.world.now();
        let incarnation = self.leader.incarnation + 1;
        let mut hushes = BTreeMap::new();
        let before = std::mem::replace(&mut self.leader, Leader::new(self.times));
        (self.leader.incarnation, self.leader.process) = (incarnation, before.process + 1);
        if self.world.percent(40) {
            // The same process leads again, with what it has in memory.
            (self.leader.engine, self.leader.process) = (before.engine, before.process);
            self.leader.numbers = before.numbers;
            (self.leader.applying, hushes) = (before.applying, before.snapshots);
        }
        let parts = self.durable.sessions.iter().filter(|(_, (_, part))| *part).map(|(id, _)| *id);
        let awaited: Vec<u64> = if self.broken == Some(Broken::Grace) { Vec::new() } else { parts.collect() };
        self.leader.engine.lead(now, incarnation << 40, awaited);
        for generation in hushes.into_values() {
            self.leader.engine.unhush(now, VOLUME, generation);
        }
    }

    pub(super) fn answer(&mut self, to: u64, answer: Answer) {
        self.send(Event::ToClient { to, answer });
    }

    pub(crate) fn serve(&mut self, from: u64, asked: Duration, ask: Ask) -> Result<(), Violation> {
        let (now, incarnation) = (self.world.now(), self.leader.incarnation);
        let known = self.leader.engine.takes_part(from) && !self.leader.engine.is_expelled(from);
        match ask {
            Ask::Open { number, meant_for, epoch, told } => {
                self.open(from, asked, meant_for, (number, epoch, &told));
            }
            Ask::Change { incarnation: meant, .. } if meant != incarnation => {}
            Ask::Change { file, .. } if !known => {
                self.answer(from, Answer::Refused { incarnation, file });
                self.answer(from, Answer::Unknown { incarnation });
            }
            Ask::Renew => {
                let epoch = self.leader.engine.epoch(from);
                let answer = match self.leader.engine.renew(now, from) {
                    Some(ttl) => Answer::Renewed { asked, ttl, epoch, incarnation },
                    None => Answer::Unknown { incarnation },
                };
                self.answer(from, answer);
            }
            Ask::Return { opening, file, bits, number } => {
                let late = opening < self.leader.engine.opening(from);
                if !late || self.broken == Some(Broken::LateReturn) {
                    self.leader.engine.returned(now, from, (VOLUME, file), bits, number);
                }
                if !known {
                    self.answer(from, Answer::Unknown { incarnation });
                }
            }
            _ if !known => self.answer(from, Answer::Unknown { incarnation }),
            Ask::Get { file, .. } | Ask::Acquire { file, .. } if !self.files.contains(&file) => {}
            Ask::Get { file, others } => {
                if others {
                    // Under leases where nothing is against it.
                    let file = self.world.pick(&self.files).copied().expect("there are files");
                    let grant = match self.may_know(from, file) {
                        true => self.leader.engine.grant(now, from, (VOLUME, file), LEASE_ATTR),
                        false => None,
                    };
                    if grant.is_some() {
                        self.row(Asked { from, file, asked }, grant, false);
                    }
                }
                let claim = Claim {
                    file: (VOLUME, file),
                    recall: LEASE_WRITE,
                    block: LEASE_WRITE,
                    ..Claim::default()
                };
                match self.leader.engine.begin(now, from, Claims::default().with(claim)) {
                    Begun::Free(pass) => self.read(Asked { from, file, asked }, &pass)?,
                    Begun::Waits(pass) => {
                        let of = Asked { from, file, asked };
                        self.wait(pass.ticket(), Pending::Read { of, pass });
                    }
                    _ => {}
                }
            }
            Ask::Acquire { file, bits } => {
                match self.leader.engine.acquire(now, from, (VOLUME, file), bits) {
                    Acquired::Given(grant) => self.row(Asked { from, file, asked }, grant, false),
                    Acquired::Waits(ticket) => {
                        if self.world.percent(20) {
                            let patience = self.world.micros(1_000, 1_000_000);
                            self.world.after(patience, Event::GiveUp { incarnation, ticket });
                        }
                        self.wait(Some(ticket), Pending::Acquire { of: Asked { from, file, asked } });
                    }
                    Acquired::Full => {}
                }
            }
            Ask::Change { file, .. } if !self.files.contains(&file) => {
                self.answer(from, Answer::Refused { incarnation, file });
            }
            Ask::Change { file, remove, .. } => {
                let recall = match self.broken {
                    Some(Broken::Recall) => 0,
                    _ => LEASE_ATTR | LEASE_NAMES | LEASE_WRITE,
                };
                let claims = Claims::default().with(Claim::change((VOLUME, file), recall));
                match self.leader.engine.begin(now, from, claims) {
                    Begun::Free(pass) => self.decide(Asked { from, file, asked }, pass, remove)?,
                    Begun::Waits(pass) => {
                        let of = Asked { from, file, asked };
                        self.wait(pass.ticket(), Pending::Change { of, pass, remove });
                    }
                    _ => self.answer(from, Answer::Refused { incarnation, file }),
                }
            }
            Ask::Await => {
                self.leader.polls.insert(from, 0);
            }
            Ask::Tell { file, epoch, upto } => self.told(from, file, epoch, upto)?,
            Ask::Make { file, parent, epoch, upto } => {
                self.take_directory(Making { of: Asked { from, file, asked }, epoch, upto }, parent)?;
            }
        }
        self.effects()
    }

    /// Names that a session has made: they count while it may make them.
    fn told(&mut self, from: u64, file: u64, epoch: u64, upto: u64) -> Result<(), Violation> {
        let current = self.durable.sessions.get(&from).is_some_and(|(now, _)| *now == epoch);
        let holds = self.leader.engine.held(from, (VOLUME, file)) & LEASE_WRITE != 0;
        if !(current && holds) && self.broken != Some(Broken::LateNames) {
            let client = &self.clients[&from];
            let lost = current && client.epoch() == epoch && self.untold(from, file) > 0;
            if lost && self.files.contains(&file) {
                let what = format!("client {from} may not tell names that it made in file {file}");
                return Err(Violation::new("leases: lost names", what));
            }
            return Ok(());
        }
        let told = self.durable.told.entry((from, epoch, file)).or_default();
        let new = upto.saturating_sub(*told);
        *told += new;
        if new > 0 && !current {
            let what = format!("{new} names of client {from} in file {file} count although it was expelled");
            return Err(Violation::new("leases: fenced names", what));
        }
        *self.durable.versions.entry(file).or_default() += new;
        self.operations += new;
        self.answer(from, Answer::Told { epoch, file, upto });
        Ok(())
    }

    /// Whoever reads or changes an inode finds the names that others have made.
    pub(super) fn finds_all(&self, of: Asked) -> Result<(), Violation> {
        for other in self.clients.keys().filter(|other| **other != of.from) {
            let untold = self.untold(*other, of.file);
            if untold > 0 {
                let what = format!(
                    "client {} looks at file {} without {untold} names of client {other}",
                    of.from, of.file
                );
                return Err(Violation::new("leases: unseen names", what));
            }
        }
        Ok(())
    }

    fn open(
        &mut self,
        from: u64,
        asked: Duration,
        meant_for: u64,
        (number, epoch, told): (u64, u64, &[(u64, u32)]),
    ) {
        let incarnation = self.leader.incarnation;
        // One that is meant for whoever leads is the session's first: when another leader has opened the session since, it
        // came late, and tells of a time before there was anything to tell.
        let first = self.broken == Some(Broken::FirstOpening)
            || !self.durable.sessions.contains_key(&from)
            || self.leader.engine.opening(from) > 0;
        if meant_for != incarnation && (meant_for != 0 || !first) {
            rt::site!("lease.open.meant_for_another_leader", meant_for != 0);
            rt::site!("lease.open.first_attempt_late", meant_for == 0);
            self.answer(from, Answer::Unknown { incarnation });
            return;
        }
        let row = self.durable.sessions.entry(from).or_insert((1, false));
        row.1 = true;
        let read = row.0;
        if self.world.percent(15) {
            let delay = self.world.micros(500, 300_000);
            let told = told.to_vec();
            let event = Event::Open { from, asked, incarnation, read, number, epoch, told };
            return self.world.after(delay, event);
        }
        self.opened(from, asked, read, (number, epoch, told));
    }

    /// Goes on with an opening after the session's row was read.
    pub(crate) fn opened(
        &mut self,
        from: u64,
        asked: Duration,
        mut current: u64,
        (number, epoch, told): (u64, u64, &[(u64, u32)]),
    ) {
        let (now, incarnation) = (self.world.now(), self.leader.incarnation);
        let told = tell(told);
        let opening = Opening { number, epoch, part: true, told: &told };
        let told = if opening.epoch == current { opening.told } else { &[] };
        if opening.epoch < current {
            // A former leader may have raised it and not have come to telling the OSDs.
            self.fence(from, current);
        }
        let opening = Opening { epoch: current, told, ..opening };
        match self.leader.engine.open_session(now, from, opening) {
            Ok(()) => {}
            Err(OpenRefused::Expelling | OpenRefused::Late(_)) => return,
            Err(OpenRefused::NotHeld) => {
                current = self.durable.sessions.get(&from).map_or(1, |row| row.0) + 1;
                self.durable.sessions.insert(from, (current, true));
                self.fence(from, current);
                let opening = Opening { epoch: current, told: &[], ..opening };
                if self.leader.engine.open_session(now, from, opening).is_err() {
                    return;
                }
            }
        }
        // As the MRC does: the row was read before, and a session that was only waited for may have been expelled since, of
        // which the engine knows nothing any more. It is asked for again.
        if self.durable.sessions.get(&from).is_none_or(|row| row.0 != current) {
            return;
        }
        let ttl = self.leader.engine.renew(now, from).expect("it was just opened");
        let number = opening.number;
        self.answer(from, Answer::Opened { asked, number, ttl, epoch: current, incarnation });
    }

    pub(super) fn wait(&mut self, ticket: Option<u64>, pending: Pending) {
        if let Some(ticket) = ticket {
            self.leader.pending.insert(ticket, pending);
        }
    }

    fn row(&mut self, of: Asked, grant: Option<proto::mrc::LeaseGrant>, changed: bool) {
        let Asked { from: to, file, asked } = of;
        let version = self.durable.versions.get(&file).copied().unwrap_or(0);
        let (bits, number) = grant.map_or((0, 0), |grant| (grant.bits, grant.number));
        let incarnation = self.leader.incarnation;
        if let Some(grant) =
            grant.filter(|grant| !changed && grant.bits & LEASE_WRITE != 0 && self.world.percent(30))
        {
            // Deciding on new data takes a while, and a snapshot may come in between.
            let delay = self.world.micros(500, 20_000);
            self.world.after(delay, Event::Thawed { incarnation, of, grant });
            return;
        }
        let writes = bits & LEASE_WRITE != 0;
        let thaws = writes && self.broken != Some(Broken::Thaw);
        let top = self.durable.snapshots.top(file, thaws);
        self.answer(to, Answer::Row { asked, incarnation, file, version, bits, number, changed, top });
    }

    /// The answer that waited for new data goes out. It tells nothing of the attributes: they may have changed meanwhile.
    pub(crate) fn thawed(&mut self, incarnation: u64, of: Asked, grant: LeaseGrant) {
        if incarnation != self.leader.incarnation || !self.files.contains(&of.file) {
            return;
        }
        let top = self.durable.snapshots.top(of.file, self.broken != Some(Broken::Thaw));
        let version = self.durable.versions.get(&of.file).copied().unwrap_or(0);
        let LeaseGrant { bits, number, .. } = grant;
        let Asked { from, file, asked } = of;
        self.answer(
            from,
            Answer::Row { asked, incarnation, file, version, bits, number, changed: false, top },
        );
    }

    /// A change is free to go: the group decides on it at once, or in a while.
    fn decide(&mut self, of: Asked, pass: Pass, remove: bool) -> Result<(), Violation> {
        if self.world.percent(50) {
            return self.change(of, &pass, remove);
        }
        let most = if self.world.percent(20) { 600_000 } else { 20_000 };
        let delay = self.world.micros(500, most);
        self.leader.numbers += 1;
        let (process, incarnation, number) =
            (self.leader.process, self.leader.incarnation, self.leader.numbers);
        self.leader.applying.insert(number, (of, pass, remove));
        self.world.after(delay, Event::Apply { process, incarnation, number });
        Ok(())
    }

    /// The group has decided. A leader of a former term does not learn how.
    pub(crate) fn apply(&mut self, process: u64, incarnation: u64, number: u64) -> Result<(), Violation> {
        if process != self.leader.process {
            return Ok(());
        }
        let Some((of, pass, remove)) = self.leader.applying.remove(&number) else { return Ok(()) };
        if incarnation == self.leader.incarnation {
            self.change(of, &pass, remove)?;
        } else {
            self.leader.engine.finish(self.world.now(), &pass, false);
        }
        self.effects()
    }

    /// A request that waits for a lease is given up.
    pub(crate) fn give_up(&mut self, incarnation: u64, ticket: u64) -> Result<(), Violation> {
        if incarnation != self.leader.incarnation || self.leader.pending.remove(&ticket).is_none() {
            return Ok(());
        }
        self.leader.engine.cancel(self.world.now(), ticket);
        self.effects()
    }

    fn read(&mut self, of: Asked, pass: &Pass) -> Result<(), Violation> {
        self.finds_all(of)?;
        let Asked { from, file, .. } = of;
        let now = self.world.now();
        let grant =
            self.leader.engine.grant(now, from, (VOLUME, file), LEASE_ATTR | LEASE_NAMES | LEASE_READ);
        self.row(of, grant, false);
        self.leader.engine.finish(now, pass, false);
        Ok(())
    }

    /// Applies a change: nobody else may still answer from what it makes untrue.
    fn change(&mut self, of: Asked, pass: &Pass, remove: bool) -> Result<(), Violation> {
        let Asked { from, file, .. } = of;
        let now = self.world.now();
        if !self.files.contains(&file) {
            // Somebody has removed it meanwhile.
            let incarnation = self.leader.incarnation;
            self.answer(from, Answer::Refused { incarnation, file });
            self.leader.engine.finish(now, pass, false);
            return Ok(());
        }
        if self.broken != Some(Broken::Recall) {
            self.finds_all(of)?;
        }
        *self.durable.versions.entry(file).or_default() += 1;
        self.operations += 1;
        if let Some(at) = self.files.iter().position(|one| *one == file).filter(|_| remove) {
            if self.files.len() > FILES as usize {
                self.files.remove(at);
            } else {
                // A number is never used again.
                self.durable.last = self.durable.last.max(FILES) + 1;
                self.files[at] = self.durable.last;
            }
        }
        let exists = self.files.contains(&file);
        let grant =
            if exists { self.leader.engine.grant(now, from, (VOLUME, file), LEASE_ATTR) } else { None };
        self.row(of, grant, true);
        self.leader.engine.finish(now, pass, true);
        if !exists {
            self.leader.engine.forget(now, (VOLUME, file));
        }
        let broken = self.broken;
        for (id, client) in self.clients.iter().filter(|(id, _)| **id != from) {
            if client.keeps(now, file, LEASE_ATTR | LEASE_WRITE, broken) {
                let what =
                    format!("client {id} may answer for file {file} while client {from}'s change is applied");
                return Err(Violation::new("leases: exclusion", what));
            }
        }
        Ok(())
    }

    /// Does what the engine asks for.
    pub(super) fn effects(&mut self) -> Result<(), Violation> {
        loop {
            let effects = self.leader.engine.take_effects();
            if effects.is_empty() {
                return Ok(());
            }
            for effect in effects {
                match effect {
                    Effect::Wake(ticket) => self.wake(ticket)?,
                    Effect::Recall(session) => self.tell_recalls(session),
                    Effect::Expel { session, number, wrote } => {
                        *self.faults.entry("expelled").or_default() += 1;
                        let incarnation = self.leader.incarnation;
                        let delay = self.expelling_time();
                        let event = Event::Expelled { session, number, incarnation, epoch: None, wrote };
                        self.world.after(delay, event);
                    }
                }
            }
        }
    }

    fn wake(&mut self, ticket: u64) -> Result<(), Violation> {
        let standing = self.leader.engine.standing(ticket);
        if standing == Standing::Waits {
            return Ok(());
        }
        match (self.leader.pending.remove(&ticket), standing) {
            (Some(Pending::Change { of, pass, remove }), Standing::Free) => self.decide(of, pass, remove)?,
            (Some(Pending::Make { making, pass }), Standing::Free) => self.make_taken(making, &pass)?,
            (Some(Pending::Quiet { snapshot, pass }), Standing::Free) => self.silent(snapshot, &pass)?,
            (Some(Pending::Read { of, pass }), Standing::Free) => self.read(of, &pass)?,
            (Some(Pending::Acquire { of }), Standing::Given(grant)) => self.row(of, grant, false),
            _ => {}
        }
        Ok(())
    }

    fn tell_recalls(&mut self, session: u64) {
        let Some(after) = self.leader.polls.get(&session).copied() else { return };
        let recalls = self.leader.engine.recalls(session, after, 64);
        if recalls.is_empty() {
            return;
        }
        self.leader.polls.remove(&session);
        let recalls = recalls.iter().map(|one| (one.recall, one.ino, one.bits, one.number)).collect();
        let incarnation = self.leader.incarnation;
        self.answer(session, Answer::Recalls { incarnation, recalls });
    }

    /// From now on OSDs refuse lower epochs.
    fn fence(&mut self, session: u64, epoch: u64) {
        if self.broken != Some(Broken::Fence) {
            let fence = self.durable.fences.entry(session).or_default();
            *fence = epoch.max(*fence);
        }
    }

    /// Sometimes an OSD does not answer for long.
    fn expelling_time(&mut self) -> Duration {
        let (least, most) = if self.world.percent(20) { EXPEL_LONG } else { EXPEL };
        self.world.micros(least, most)
    }

    /// First the command (epoch `None`), then the OSDs, then the engine.
    pub(crate) fn expelled(
        &mut self,
        session: u64,
        number: u64,
        incarnation: u64,
        epoch: Option<u64>,
        wrote: bool,
    ) -> Result<(), Violation> {
        if incarnation != self.leader.incarnation {
            return Ok(());
        }
        let Some(epoch) = epoch else {
            let row = self.durable.sessions.entry(session).or_insert((1, true));
            row.0 += 1;
            let epoch = row.0;
            let delay = self.expelling_time();
            let event = Event::Expelled { session, number, incarnation, epoch: Some(epoch), wrote };
            self.world.after(delay, event);
            return Ok(());
        };
        if wrote {
            self.fence(session, epoch);
        }
        self.leader.engine.expelled(self.world.now(), session, number, epoch);
        self.effects()
    }

    pub(crate) fn tick(&mut self) -> Result<(), Violation> {
        let now = self.world.now();
        if self.broken != Some(Broken::Expel) {
            self.leader.engine.tick(now);
        }
        self.effects()?;
        let sessions: Vec<u64> = self.clients.keys().copied().collect();
        let mut open = BTreeMap::new();
        for session in sessions {
            self.tell_recalls(session);
            for recall in self.leader.engine.recalls(session, 0, usize::MAX) {
                let since = self.leader.recalled.get(&(session, recall.recall)).copied().unwrap_or(now);
                let is_over = self.leader.engine.is_expelled(session);
                if !is_over && now - since > TIMES.ttl + TIMES.margin + SLACK {
                    let what = format!("client {session} owes file {} since {:?}", recall.ino, now - since);
                    return Err(Violation::new("leases: recalls end", what));
                }
                open.insert((session, recall.recall), since);
            }
        }
        self.leader.recalled = open;
        for file in self.files.clone() {
            let holders = self.leader.engine.holders((VOLUME, file));
            if holders.len() > self.clients.len() {
                return Err(Violation::new("leases: bounded", format!("file {file}: {holders:?}")));
            }
        }
        Ok(())
    }
}
