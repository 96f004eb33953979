//! Steps: events for the engines, and what they ask for carried out.

use std::time::Duration;

use osd::engine::replication::{
    Column, Effect, Event, Failure, Outcome, PARKED, Range, Reply, Request, Told, Trouble, Version, Work,
};

use super::state::{Body, Disk, Message, NODES, NOW, OBJECT, Op, Said, State, Waiter};
use super::{Action, Fault, Replication, broken};

type Cause = Event<u8, Waiter>;

impl State {
    pub(super) fn step(&mut self, model: &Replication, action: Action) {
        match action {
            Action::Issue { client, osd } => self.issue(model, client, osd),
            Action::Vouch { client } => self.vouched(client),
            Action::Deliver { at } => {
                let message = self.net.remove(at);
                self.deliver(model, message);
            }
            Action::Lose { at } => self.lose(model, at),
            Action::Repeat { at } => {
                self.faults -= 1;
                let mut again = self.net[at].clone();
                if let Message::Question { given_up, .. } = &mut again {
                    *given_up = true;
                }
                self.deliver(model, again);
            }
            Action::Crash { osd } => {
                self.faults -= 1;
                self.end(model, osd);
            }
            Action::Power { osd } => {
                self.faults -= 1;
                self.powerless = true;
                self.end(model, osd);
                let adopted = self.osds[osd].disk.adopted;
                let doubtful = model.fault != Some(Fault::DoubtNotTold);
                self.osds[osd].disk = Disk { adopted, doubtful, ..Disk::default() };
            }
            Action::Cut { osd } => {
                self.faults -= 1;
                self.map.set(osd, false);
                self.osds[osd].leased &= model.fault == Some(Fault::LeaseBeyondBound);
            }
            Action::Return { osd } => self.map.set(osd, true),
            Action::Fall { osd } => self.map.set(osd, false),
            Action::Start { osd } => self.start(model, osd),
            Action::Hear { osd } => self.hear(model, osd),
            Action::Pass { osd } => self.pass(model, osd),
            Action::Tick { osd } => self.tell(model, osd, Event::Tick, NOW + PARKED),
        }
    }

    /// Opens the column for nobody in particular.
    pub(super) fn touch(&mut self, model: &Replication, osd: usize) {
        self.tell(
            model,
            osd,
            Event::Read { object: OBJECT, range: Range::NONE, waiter: Waiter::Nobody },
            NOW,
        );
    }

    fn issue(&mut self, model: &Replication, client: usize, osd: usize) {
        let op = model.scripts[client][self.clients[client].next];
        match op {
            Op::Write(value) => self.history.begin(value),
            Op::Read | Op::Clean => self.clients[client].forbidden = self.history.superseded,
        }
        if op != Op::Clean {
            self.clients[client].at = Some(osd);
            return self.ask_for(model, client, osd);
        }
        let word = self.word(model, osd);
        self.clients[client].given = word.map(|word| (osd, word, self.osds[osd].disk.value));
        if model.fault == Some(Fault::OneWord) && word.is_some() {
            self.vouched(client);
        }
    }

    /// Two of three said the same of the object.
    fn vouched(&mut self, client: usize) {
        let Some((_, word, value)) = self.clients[client].given.take() else { return };
        if self.clients[client].forbidden & (1 << value) != 0 {
            self.broken = Some(broken::STALE);
        }
        self.history.settle(value);
        // What was shown must stay, as if it had been acknowledged.
        self.history.acknowledged = self.history.acknowledged.max(word.version);
        self.clients[client].read = Some((value, value != 0 && word.version.epoch < word.epoch));
        self.over(client);
    }

    /// A client's request, also when it is told to ask again.
    fn ask_for(&mut self, model: &Replication, client: usize, osd: usize) {
        let waiter = Waiter::Client(client);
        let cause = match model.scripts[client][self.clients[client].next] {
            Op::Write(value) => Event::Change {
                object: OBJECT,
                range: Range::ALL,
                payload: value,
                local: self.osds[osd].disk.version,
                damaged: false,
                waiter,
            },
            Op::Read | Op::Clean => Event::Read { object: OBJECT, range: Range::ALL, waiter },
        };
        self.tell(model, osd, cause, NOW);
    }

    /// The operation is over, well or not.
    fn over(&mut self, client: usize) {
        let client = &mut self.clients[client];
        (client.at, client.forbidden) = (None, 0);
        client.next += 1;
    }

    fn lose(&mut self, model: &Replication, at: usize) {
        self.faults -= 1;
        let (to, call, fetch) = match &mut self.net[at] {
            Message::Question { from, call, body, given_up, .. } => {
                *given_up = true;
                (*from, *call, *body == Body::Fetch)
            }
            Message::Answer { to, call, fetch, .. } => {
                let lost = (*to, *call, *fetch);
                self.net.remove(at);
                lost
            }
        };
        if model.fault != Some(Fault::LossNotTold) {
            self.answered(model, to, call, fetch, Said::Lost);
        }
    }

    /// The process ends.
    fn end(&mut self, model: &Replication, osd: usize) {
        let node = &mut self.osds[osd];
        (node.runs, node.column, node.leased, node.passed) = (false, None, false, false);
        if model.fault != Some(Fault::PromiseNotDurable) {
            (node.map, node.heard) = (None, 0);
        }
        for message in &mut self.net {
            if let Message::Question { from, given_up, .. } = message {
                *given_up |= *from == osd;
            }
        }
        self.net.retain(|message| match message {
            Message::Question { to, given_up, .. } => !(*to == osd && *given_up),
            Message::Answer { to, .. } => *to != osd,
        });
        for client in 0..self.clients.len() {
            if self.clients[client].at == Some(osd) {
                self.over(client);
            }
        }
    }

    fn start(&mut self, model: &Replication, osd: usize) {
        let node = &mut self.osds[osd];
        node.runs = true;
        node.life += 1;
        let unseen = model.fault == Some(Fault::PromiseNotDurable) && self.map.osds[osd].up;
        if !unseen {
            (node.map, node.heard) = (None, 0);
            self.map.set(osd, true);
        }
    }

    fn hear(&mut self, model: &Replication, osd: usize) {
        let map = self.map;
        let node = &mut self.osds[osd];
        let role = map.role();
        if node.map.is_none_or(|before| before.role().epoch != role.epoch) {
            (node.heard, node.passed) = (map.epoch, false);
        }
        node.map = Some(map);
        node.leased = map.osds[osd].up;
        if node.column.is_some() {
            self.tell(model, osd, Event::Map(role), NOW);
        }
    }

    fn pass(&mut self, model: &Replication, osd: usize) {
        let heard = self.osds[osd].heard;
        self.osds[osd].passed = true;
        for node in &mut self.osds {
            let knows = node.map.is_some_and(|map| map.epoch >= heard);
            node.leased &= knows || model.fault == Some(Fault::LeaseBeyondBound);
        }
        self.tell(model, osd, Event::Tick, Self::after_a_lease());
    }

    /// Gives an event to an engine, and carries out what it asks for.
    fn tell(&mut self, model: &Replication, osd: usize, cause: Cause, now: Duration) {
        let node = &mut self.osds[osd];
        let Some(map) = node.map else { return };
        let column = node.column.get_or_insert_with(|| Column::new(osd as u64 + 1, map.role(), 0));
        for effect in column.handle(cause, now) {
            match effect {
                Effect::Work { work, what } => {
                    let done = Some(self.work(model, osd, &what));
                    self.tell(model, osd, Event::Worked { work, done }, now);
                }
                Effect::Call { call, osd: to, epoch, what } => {
                    let to = usize::try_from(to).expect("a small number") - 1;
                    self.call(osd, to, call, epoch, what);
                }
                Effect::Answer { waiter, outcome } => self.outcome(model, osd, waiter, outcome),
            }
        }
    }

    fn told(disk: &Disk) -> Told {
        let Disk { version, adopted, doubtful, .. } = *disk;
        let objects = if version == Version::default() { Vec::new() } else { vec![(OBJECT, version)] };
        Told { adopted, doubtful, objects, ..Told::default() }
    }

    fn work(&mut self, model: &Replication, osd: usize, what: &Work<u8>) -> Reply {
        let leads = self.believes_to_lead(osd);
        let disk = &mut self.osds[osd].disk;
        match what {
            Work::Apply { .. } if !leads && model.fault == Some(Fault::AckedNotApplied) => {}
            Work::Apply { version, payload, .. } | Work::Install { version, payload, .. } => {
                (disk.version, disk.value) = (*version, *payload);
            }
            Work::List => return Reply::Told(Self::told(disk)),
            Work::Adopt { epoch } => (disk.adopted, disk.doubtful) = (*epoch, false),
            Work::Sync => {}
        }
        Reply::Done
    }

    fn call(&mut self, from: usize, to: usize, call: u64, epoch: u64, what: Request<u8>) {
        let Some(map) = self.osds[from].map else { return };
        let body = match what {
            Request::Ask => Body::Ask { map: map.epoch },
            Request::Apply { base, number, payload, .. } => Body::Apply { base, number, value: payload },
            Request::Push { .. } => {
                let Disk { version, value, .. } = self.osds[from].disk;
                Body::Install { version, value }
            }
            Request::Fetch { .. } => Body::Fetch,
            Request::Adopt => Body::Adopt,
            Request::Sync => Body::Sync,
            Request::Confirm => Body::Confirm,
        };
        let since = map.osds[to].since;
        self.net.push(Message::Question { from, to, since, call, epoch, body, given_up: false });
    }

    fn deliver(&mut self, model: &Replication, message: Message) {
        let (from, to, since, call, mut epoch, body, given_up) = match message {
            Message::Question { from, to, since, call, epoch, body, given_up } => {
                (from, to, since, call, epoch, body, given_up)
            }
            Message::Answer { to, call, fetch, what, .. } => {
                return self.answered(model, to, call, fetch, what);
            }
        };
        let node = &self.osds[to];
        if !node.runs || node.map.is_none_or(|map| map.osds[to].since != since) {
            // Nobody is there, or not the one who was meant, or it does not know itself yet.
            if !given_up {
                let silent = matches!(body, Body::Ask { .. }) && model.fault == Some(Fault::SilenceIsConsent);
                let what = if silent { Said::Reply(Reply::Told(Told::default())) } else { Said::Lost };
                self.answered(model, from, call, body == Body::Fetch, what);
            }
            return;
        }
        let local = node.disk.version;
        let (object, damaged) = (OBJECT, false);
        let life = self.osds[from].life;
        let waiter = if given_up { Waiter::Nobody } else { Waiter::Osd { osd: from, life, call } };
        if let (Body::Apply { .. }, Some(Fault::EpochIgnored), Some(column)) =
            (&body, model.fault, &node.column)
        {
            epoch = column.promised();
        }
        let cause = match body {
            Body::Ask { map } => Event::Ask { epoch, map, waiter },
            Body::Apply { base, number, value } => {
                Event::Apply { epoch, object, base, number, payload: value, local, waiter }
            }
            Body::Install { version, value } => {
                Event::Install { epoch, object, base: None, version, payload: value, local, damaged, waiter }
            }
            Body::Fetch => {
                let Disk { version, value, .. } = node.disk;
                return self.reply(to, waiter, true, Said::Copy { version, value });
            }
            Body::Adopt => Event::Adopt { epoch, waiter },
            Body::Sync => Event::SyncFor { epoch, waiter },
            Body::Confirm => Event::Confirm { epoch, waiter },
        };
        self.tell(model, to, cause, NOW);
    }

    fn reply(&mut self, from: usize, waiter: Waiter, fetch: bool, what: Said) {
        let Waiter::Osd { osd: to, life, call } = waiter else { return };
        if self.osds[to].runs && self.osds[to].life == life {
            self.net.push(Message::Answer { from, to, call, fetch, what });
        }
    }

    /// A call of an OSD has ended.
    fn answered(&mut self, model: &Replication, osd: usize, call: u64, fetch: bool, what: Said) {
        let mine = Self::told(&self.osds[osd].disk).objects;
        let cause = match (fetch, what) {
            (true, Said::Copy { version, value }) => Event::Fetched { call, result: Ok((version, value)) },
            (true, _) => Event::Fetched { call, result: Err(Trouble::Lost) },
            (false, Said::Reply(reply)) => Event::Called { call, result: Ok(reply), mine },
            (false, Said::Old(epoch)) => Event::Called { call, result: Err(Trouble::OldEpoch(epoch)), mine },
            (false, _) => Event::Called { call, result: Err(Trouble::Lost), mine },
        };
        self.tell(model, osd, cause, NOW);
    }

    fn outcome(&mut self, model: &Replication, osd: usize, waiter: Waiter, outcome: Outcome) {
        match (waiter, outcome) {
            (Waiter::Osd { .. }, outcome) => {
                let what = match outcome {
                    Outcome::Replied(reply) => Said::Reply(reply),
                    Outcome::Failed(Failure::OldEpoch(epoch)) => Said::Old(epoch),
                    _ => Said::Lost,
                };
                self.reply(osd, waiter, false, what);
            }
            (Waiter::Nobody, _) => {}
            (Waiter::Client(client), Outcome::Again) => self.ask_for(model, client, osd),
            (Waiter::Client(client), Outcome::Readable(epoch)) => self.look(model, client, osd, epoch),
            (Waiter::Client(client), Outcome::Committed(number)) => {
                self.committed(model, client, osd, number)
            }
            (Waiter::Seen { client, value, later }, Outcome::Readable(_)) => {
                if self.clients[client].forbidden & (1 << value) != 0 {
                    self.broken = Some(broken::STALE);
                }
                self.history.settle(value);
                self.clients[client].read = Some((value, later));
                self.over(client);
            }
            (Waiter::Client(client) | Waiter::Seen { client, .. }, _) => self.over(client),
        }
    }

    /// The read looks into the store, now.
    fn look(&mut self, model: &Replication, client: usize, osd: usize, epoch: u64) {
        let (disk, leased) = (self.osds[osd].disk, self.osds[osd].leased);
        let later = disk.value != 0 && disk.version.epoch < epoch;
        let waiter = Waiter::Seen { client, value: disk.value, later };
        let looked = Event::Looked { epoch, object: OBJECT, range: Range::ALL, leased, waiter };
        self.tell(model, osd, looked, NOW);
    }

    fn committed(&mut self, model: &Replication, client: usize, osd: usize, number: u64) {
        let Op::Write(value) = model.scripts[client][self.clients[client].next] else { return };
        let node = &self.osds[osd];
        let Some(epoch) = node.column.as_ref().map(|column| column.role().epoch) else { return };
        let commit = (epoch, osd, node.life);
        if self.history.commits.iter().any(|other| other.0 == epoch && *other != commit) {
            self.broken = Some(broken::TWO);
        }
        if !self.history.commits.contains(&commit) {
            self.history.commits.push(commit);
            self.history.commits.sort_unstable();
        }
        self.history.acknowledged = self.history.acknowledged.max(Version { epoch, number });
        self.history.settle(value);
        self.over(client);
    }
}

const _: () = assert!(NODES == 3, "two of three are a majority");
