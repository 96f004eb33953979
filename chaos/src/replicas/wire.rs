//! Effects of columns carried out: work, calls between OSDs, answers.

use std::collections::BTreeSet;
use std::time::Duration;

use osd::engine::replication::{
    Effect, Event as Cause, Failure, Lists, Outcome, Range, Reply, Request, Role, Told, Trouble, Version,
    Work, role,
};

use super::client::Op;
use super::node::{Calling, Doing, Node, Payload};
use super::{CALL_PATIENCE, CLIENT_PATIENCE, Event, Sim};
use crate::invariants::Violation;

/// Who waits for an answer of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Waiter {
    /// A client's attempt; `seen` is what a read saw in the store.
    Client { client: u64, attempt: u64, sent: Duration, seen: Option<u64> },
    /// Another OSD's call.
    Osd { osd: u64, life: u64, call: u64 },
    /// The coordinator, who looks for itself.
    Nobody,
    /// The coordinator: what the lists of this view hold is on media, so that those before are not needed any more.
    Completes { view: u64 },
}

/// What OSDs say to one another.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Ask {
        map: u64,
    },
    Apply {
        object: u64,
        base: Version,
        number: u64,
        payload: Payload,
    },
    Install {
        object: u64,
        base: Option<Version>,
        version: Version,
        payload: Payload,
    },
    /// `has`: what the asker lacks is enough.
    Fetch {
        object: u64,
        has: Option<Version>,
    },
    Adopt,
    Sync,
    Confirm,
    Copy {
        version: Version,
        payload: Payload,
    },
    Answer(Result<Reply, Trouble>),
}

/// A message on its way.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    from: u64,
    from_life: u64,
    pub(super) to: u64,
    /// For a question: since when the sender believes the receiver to live. For an answer: its life.
    to_life: u64,
    column: u64,
    epoch: u64,
    /// Of the sender of a question.
    lists: Lists,
    call: u64,
    answer: bool,
    body: Body,
}

impl Sim {
    /// What the map of an OSD makes of a column.
    pub(super) fn role(&self, node: u64, column: u64) -> Role {
        let node = &self.nodes[&node];
        let role = role(&node.map, &node.lists[&column]);
        let made = osd::engine::replication::map_part(role.epoch);
        let heard = node.heard.iter().find(|(epoch, _)| *epoch >= made).map(|(_, at)| *at);
        role.heard_at(heard)
    }

    /// Gives an event to a column, opening it in memory if need be.
    pub(super) fn tell(&mut self, id: u64, column: u64, cause: Cause<Payload, Waiter>) {
        let role = self.role(id, column);
        let now = self.world.now();
        let node = self.nodes.get_mut(&id).expect("nodes are never removed");
        let numbers = node.numbers;
        let engine = node
            .columns
            .entry(column)
            .or_insert_with(|| osd::engine::replication::Column::new(id, role, numbers));
        let effects = engine.handle(cause, now);
        let (due, idle) = (engine.next_tick(), engine.is_idle());
        if engine.is_broken() {
            // A new life, as the OSD's driver begins one.
            let life = node.life;
            self.world.after(Duration::from_millis(1), Event::NewLife { node: id, life });
        }
        if idle && self.world.percent(3) {
            let gone = node.columns.remove(&column);
            node.numbers = gone.map_or(node.numbers, |gone| node.numbers.max(gone.numbers()));
        } else if let Some(due) = due {
            let planned = node.ticks.get(&column).copied().filter(|at| *at > now);
            if planned.is_none_or(|at| due < at) {
                node.ticks.insert(column, due.max(now));
                let life = node.life;
                let delay = due.saturating_sub(now) + Duration::from_micros(1);
                self.world.after(delay, Event::Tick { node: id, life, column });
            }
        }
        for effect in effects {
            self.carry_out(id, column, effect);
        }
    }

    fn carry_out(&mut self, id: u64, column: u64, effect: Effect<Payload, Waiter>) {
        let life = self.nodes[&id].life;
        match effect {
            Effect::Work { work, what } => {
                let most = if self.world.percent(5) { 60_000 } else { 800 };
                let delay = self.world.micros(1, most);
                self.node(id).doing.insert((column, work), Doing { what });
                self.world.after(delay, Event::Worked { node: id, life, column, work });
            }
            Effect::Call { call, osd, epoch, what } => self.call(id, column, call, osd, epoch, what),
            Effect::Answer { waiter, outcome } => self.outcome(id, column, waiter, outcome),
        }
    }

    fn call(&mut self, id: u64, column: u64, call: u64, osd: u64, epoch: u64, what: Request<Payload>) {
        let life = self.nodes[&id].life;
        let calling = Calling { id: call, fetch: matches!(what, Request::Fetch { .. }) };
        let node = self.node(id);
        node.calls += 1;
        let call = node.calls;
        node.calling.insert((column, call), calling);
        let refused = !self.nodes[&osd].runs;
        let patience = if refused { Duration::from_micros(300) } else { CALL_PATIENCE };
        self.world.after(patience, Event::CallOver { node: id, life, column, call });
        let body = match what {
            Request::Ask => Body::Ask { map: self.nodes[&id].map.epoch },
            Request::Apply { object, base, number, payload } => Body::Apply { object, base, number, payload },
            Request::Push { object, has } => {
                let delay = self.world.micros(1, 3_000);
                let event = Event::Push { node: id, life, column, call, osd, epoch, object, has };
                return self.world.after(delay, event);
            }
            Request::Fetch { object, whole, .. } => {
                let has = self.nodes[&id].version(column, object);
                let damaged = self.nodes[&id].damaged.contains(&(column, object));
                Body::Fetch { object, has: (!whole && !damaged).then_some(has) }
            }
            Request::Adopt => Body::Adopt,
            Request::Sync => Body::Sync,
            Request::Confirm => Body::Confirm,
        };
        self.ask(id, column, call, osd, epoch, body);
    }

    /// Reads the object as it is by now and sends it.
    #[allow(clippy::too_many_arguments, reason = "the fields of one event")]
    pub(super) fn push(
        &mut self,
        node: u64,
        life: u64,
        column: u64,
        call: u64,
        osd: u64,
        epoch: u64,
        object: u64,
        has: Option<Version>,
    ) {
        if !self.lives(node, life) {
            return;
        }
        if self.nodes[&node].damaged.contains(&(column, object)) {
            return self.answered(node, column, call, Body::Answer(Err(Trouble::Damaged)));
        }
        if let Body::Copy { version, payload } = self.lacking(node, osd, column, object, has) {
            let base = match payload {
                Payload::Patch { base, .. } => Some(base),
                _ => None,
            };
            self.ask(node, column, call, osd, epoch, Body::Install { object, base, version, payload });
        }
    }

    /// What of an object at `node` another one lacks, by the trail or by comparing, or all of it.
    fn lacking(&mut self, node: u64, other: u64, column: u64, object: u64, has: Option<Version>) -> Body {
        let here = &self.nodes[&node];
        if let Some(patch) = has.and_then(|has| here.patch(column, object, has)) {
            *self.faults.entry("trail").or_default() += 1;
            return patch;
        }
        // Now and then two blocks that differ have the same checksum.
        let missed = self.world.percent(20).then(|| self.world.below(u64::from(super::BLOCKS)));
        let here = &self.nodes[&node];
        let theirs = self.nodes[&other].content(column, object);
        if let Some(theirs) = theirs.filter(|_| !self.net.is_cut(node, other))
            && let Some(patch) =
                here.compared(column, object, theirs, |block| missed == Some(u64::from(block)))
            && self.world.percent(70)
        {
            *self.faults.entry("compare").or_default() += 1;
            return patch;
        }
        self.nodes[&node].copy(column, object)
    }

    fn ask(&mut self, id: u64, column: u64, call: u64, osd: u64, epoch: u64, body: Body) {
        let since = self.nodes[&id].map.osds.iter().find(|entry| entry.osd == osd).map(|e| e.since_epoch);
        let delivery = Delivery {
            from: id,
            from_life: self.nodes[&id].life,
            to: osd,
            to_life: since.unwrap_or(0),
            column,
            epoch,
            lists: self.nodes[&id].lists.get(&column).cloned().unwrap_or_default(),
            call,
            answer: false,
            body,
        };
        self.send(delivery);
    }

    fn send(&mut self, delivery: Delivery) {
        if self.world.keeps_log() {
            let Delivery { from, to, column, epoch, call, body, .. } = &delivery;
            self.world
                .note(format_args!("{from} to {to}: column {column} epoch {epoch} call {call} {body:?}"));
        }
        for delay in self.net.fate(&mut self.world, delivery.from, delivery.to) {
            self.world.after(delay, Event::Deliver(Box::new(delivery.clone())));
        }
    }

    pub(super) fn deliver(&mut self, delivery: Delivery) {
        let Delivery { from, from_life, to, to_life, column, epoch, lists, call, answer, body } = delivery;
        if !self.nodes[&to].runs {
            return;
        }
        if answer {
            if self.nodes[&to].life == to_life {
                self.answered(to, column, call, body);
            }
            return;
        }
        let own = self.nodes[&to].map.osds.iter().find(|entry| entry.osd == to).map(|e| e.since_epoch);
        if own != Some(to_life) {
            return; // meant for another life, or this one does not know itself yet
        }
        let waiter = Waiter::Osd { osd: from, life: from_life, call };
        if !self.shape(to, column, &lists) {
            let promised = self.floor(to, column);
            return self.reply(to, column, waiter, Body::Answer(Err(Trouble::OldEpoch(promised))));
        }
        let local = |object: u64| self.nodes[&to].version(column, object);
        let cause = match body {
            Body::Ask { map } => Cause::Ask { epoch, map, waiter },
            Body::Apply { object, base, number, payload } => {
                Cause::Apply { epoch, object, base, number, payload, local: local(object), waiter }
            }
            Body::Install { object, base, version, payload } => {
                let (local, damaged) = (local(object), self.nodes[&to].damaged.contains(&(column, object)));
                Cause::Install { epoch, object, base, version, payload, local, damaged, waiter }
            }
            Body::Adopt => Cause::Adopt { epoch, waiter },
            Body::Sync => Cause::SyncFor { epoch, waiter },
            Body::Confirm => Cause::Confirm { epoch, waiter },
            Body::Fetch { object, .. } if self.nodes[&to].damaged.contains(&(column, object)) => {
                return self.reply(to, column, waiter, Body::Answer(Err(Trouble::Lost)));
            }
            Body::Fetch { object, has } => {
                let copy = match has {
                    Some(_) => self.lacking(to, from, column, object, has),
                    None => self.nodes[&to].copy(column, object),
                };
                return self.reply(to, column, waiter, copy);
            }
            Body::Copy { .. } | Body::Answer(_) => return,
        };
        self.tell(to, column, cause);
    }

    fn answered(&mut self, id: u64, column: u64, call: u64, body: Body) {
        let Some(calling) = self.node(id).calling.remove(&(column, call)) else { return };
        let mine = self.nodes[&id].versions(column);
        let call = calling.id;
        let cause = match (calling.fetch, body) {
            (true, Body::Copy { version, payload }) => {
                Cause::Fetched { call, result: Ok((version, payload)) }
            }
            (true, _) => Cause::Fetched { call, result: Err(Trouble::Lost) },
            (false, Body::Answer(result)) => Cause::Called { call, result, mine },
            (false, _) => return,
        };
        self.tell(id, column, cause);
    }

    pub(super) fn call_over(&mut self, id: u64, life: u64, column: u64, call: u64) {
        if self.lives(id, life) && self.nodes[&id].calling.contains_key(&(column, call)) {
            self.answered(id, column, call, Body::Answer(Err(Trouble::Lost)));
        }
    }

    pub(super) fn tick(&mut self, id: u64, life: u64, column: u64) {
        if self.lives(id, life) && self.nodes[&id].columns.contains_key(&column) {
            self.node(id).ticks.remove(&column);
            self.tell(id, column, Cause::Tick);
        }
    }

    pub(super) fn worked(&mut self, id: u64, life: u64, column: u64, work: u64) -> Result<(), Violation> {
        if !self.lives(id, life) {
            return Ok(());
        }
        let Some(Doing { what }) = self.node(id).doing.remove(&(column, work)) else { return Ok(()) };
        let changes = matches!(what, Work::Apply { .. } | Work::Install { .. } | Work::Adopt { .. });
        if changes && self.nodes[&id].full && self.world.percent(30) {
            self.tell(id, column, Cause::Worked { work, done: Some(Reply::NoSpace) });
            return Ok(());
        }
        // Part of a block cannot be changed when the rest of it is damaged.
        if let Work::Apply { object, payload: Payload::Write { .. }, .. } = &what
            && self.nodes[&id].damaged.contains(&(column, *object))
            && self.world.percent(50)
        {
            self.tell(id, column, Cause::Worked { work, done: None });
            return Ok(());
        }
        let node = self.node(id);
        let done = match what {
            Work::Apply { object, version, payload } | Work::Install { object, version, payload } => {
                if !node.apply(column, object, version, &payload) {
                    *self.faults.entry("patch refused").or_default() += 1;
                    self.tell(id, column, Cause::Worked { work, done: Some(Reply::NeedsObject) });
                    return Ok(());
                }
                self.misdirected(id, column, object);
                let content = self.nodes[&id].content(column, object);
                if let Some(content) = content {
                    let at = (content.version.epoch, content.version.number);
                    self.checks.bytes.holds(id, (column, object), at, content.values())?;
                }
                Reply::Done
            }
            Work::List => Reply::Told(told(node, column)),
            Work::Adopt { epoch } => {
                node.adopt(column, epoch);
                Reply::Done
            }
            Work::Sync if std::mem::take(&mut node.sync_fails) => {
                rt::site!("disk.sync.failed");
                self.tell(id, column, Cause::Worked { work, done: None });
                return Ok(());
            }
            Work::Sync => {
                node.sync(column);
                Reply::Done
            }
        };
        self.tell(id, column, Cause::Worked { work, done: Some(done) });
        Ok(())
    }

    fn outcome(&mut self, id: u64, column: u64, waiter: Waiter, outcome: Outcome) {
        if let Waiter::Osd { .. } = waiter {
            let result = match outcome {
                Outcome::Replied(Reply::NoSpace) => Err(Trouble::NoSpace),
                Outcome::Replied(reply) => Ok(reply),
                Outcome::Failed(Failure::OldEpoch(epoch)) => Err(Trouble::OldEpoch(epoch)),
                _ => Err(Trouble::Lost),
            };
            return self.reply(id, column, waiter, Body::Answer(result));
        }
        if let (Waiter::Completes { view }, Outcome::Synced) = (&waiter, &outcome) {
            return self.completes(column, *view);
        }
        let Waiter::Client { client, attempt, sent, seen } = waiter else { return };
        match (outcome, seen) {
            (Outcome::Again, _) => {
                let node = id;
                let delay = Duration::from_micros(1);
                let lists = self.nodes[&id].lists[&column].clone();
                self.world.after(delay, Event::Request { client, attempt, node, sent, lists });
            }
            (Outcome::Readable(epoch), None) => self.look(id, column, client, attempt, sent, epoch),
            (Outcome::Readable(_), Some(value)) => self.answer_client(id, client, attempt, Ok(value)),
            (Outcome::Committed(_) | Outcome::Synced, _) => self.answer_client(id, client, attempt, Ok(0)),
            (Outcome::Failed(Failure::VoterDown(_)), _) => {
                // The client asks the MRC to take the vote away.
                let (delay, view) = (self.world.micros(500, 5_000), self.nodes[&id].lists[&column].view);
                self.world.after(delay, Event::Demote { column, view });
                self.answer_client(id, client, attempt, Err(()));
            }
            (Outcome::Replied(_) | Outcome::Failed(_), _) => self.answer_client(id, client, attempt, Err(())),
        }
    }

    fn reply(&mut self, id: u64, column: u64, waiter: Waiter, body: Body) {
        let Waiter::Osd { osd, life, call } = waiter else { return };
        let from_life = self.nodes[&id].life;
        let to_life = life;
        self.send(Delivery {
            from: id,
            from_life,
            to: osd,
            to_life,
            column,
            epoch: 0,
            lists: Lists::default(),
            call,
            answer: true,
            body,
        });
    }

    /// The read looks into the store, now.
    fn look(&mut self, id: u64, column: u64, client: u64, attempt: u64, sent: Duration, epoch: u64) {
        let Some(Op::Read { object, block, .. }) = self.op(client, attempt) else { return };
        let node = &self.nodes[&id];
        if node.damaged.contains(&(column, object)) {
            // The driver mends it; this attempt finds nobody who can give it.
            return self.answer_client(id, client, attempt, Err(()));
        }
        let value = node.content(column, object).map_or(0, |content| content.value(block));
        let leased = node.lease_until > self.world.now();
        let waiter = Waiter::Client { client, attempt, sent, seen: Some(value) };
        let range = Range { from: block, to: block + 1 };
        self.tell(id, column, Cause::Looked { epoch, object, range, leased, waiter });
    }

    /// A client's request reached an OSD.
    pub(super) fn request(&mut self, client: u64, attempt: u64, id: u64, sent: Duration, lists: Lists) {
        let node = &self.nodes[&id];
        if !node.runs || node.map.epoch == 0 || self.world.now() > sent + CLIENT_PATIENCE {
            return;
        }
        let Some(op) = self.op(client, attempt) else { return };
        if !self.shape(id, op.column(), &lists) {
            return self.answer_client(id, client, attempt, Err(()));
        }
        let node = &self.nodes[&id];
        let (column, waiter) = (op.column(), Waiter::Client { client, attempt, sent, seen: None });
        let local = |object: u64| node.version(column, object);
        let damaged = |object: u64| node.damaged.contains(&(column, object));
        let cause = match op {
            Op::Write { object, block, value, .. } => {
                let range = Range { from: block, to: block + 1 };
                let (payload, local, damaged) =
                    (Payload::Write { block, value }, local(object), damaged(object));
                Cause::Change { object, range, payload, local, damaged, waiter }
            }
            Op::Cut { object, value, .. } => {
                let (payload, local, damaged) = (Payload::Cut { value }, local(object), damaged(object));
                Cause::Change { object, range: Range::ALL, payload, local, damaged, waiter }
            }
            Op::Read { object, block, .. } => Cause::Read { object, range: self.looks_after(block), waiter },
            Op::Sync { .. } => Cause::Sync { waiter },
        };
        self.tell(id, column, cause);
    }
}

fn told(node: &Node, column: u64) -> Told {
    let (adopted, doubtful) = (node.adopted(column), node.is_doubtful(column));
    let damaged: BTreeSet<u64> =
        node.damaged.iter().filter(|(of, _)| *of == column).map(|(_, object)| *object).collect();
    Told { adopted, doubtful, objects: node.versions(column), damaged }
}
