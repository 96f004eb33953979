//! The leader's driver, as `mrc/src/leasing.rs` does it, without I/O; see the simulator's (`chaos/src/leases/leader.rs`).

use mrc::engine::leases::{
    Acquired, Begun, Claim, Claims, Effect, Leases, OpenRefused, Opening, Pass, Standing,
};
use proto::mrc::{LEASE_ATTR, LEASE_NAMES, LEASE_READ, LEASE_WRITE, LeaseGrant};
use std::collections::BTreeMap;

use super::client::Client;
use super::{CLIENTS, Fault, LeaseModel, Message, Op, STAMPS, START, State, TIMES, broken, id};

/// The file.
const FILE: (u64, u64) = (1, 7);

/// A request that waits.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(super) from: usize,
    pub(super) asked: u64,
    pub(super) op: Op,
    pub(super) pass: Option<Pass>,
}

/// A session that is being expelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Expelling {
    pub(super) session: usize,
    pub(super) number: u64,
    pub(super) wrote: bool,
    /// The epoch that the log says.
    pub(crate) raised: Option<u64>,
}

impl State {
    /// A leader with two sessions that take part and hold nothing.
    pub(super) fn opened(model: &LeaseModel) -> Self {
        let client = Client {
            incarnation: 1,
            epoch: 1,
            number: STAMPS,
            until: START + TIMES.ttl,
            ..Client::default()
        };
        let mut state = Self {
            now: START,
            stamp: STAMPS,
            engine: Leases::new(TIMES),
            incarnation: 1,
            pending: BTreeMap::new(),
            expelling: Vec::new(),
            rows: [1; CLIENTS],
            version: 1,
            fences: [0; CLIENTS],
            clients: [client.clone(), client],
            net: Vec::new(),
            faults: model.faults,
            refused: false,
            taken_up: false,
            broken: None,
        };
        state.engine.lead(START, 1 << 40, []);
        for session in (0..CLIENTS).map(id) {
            let opening = Opening { number: STAMPS, epoch: 1, part: true, told: &[] };
            state.engine.open_session(START, session, opening).expect("nobody else is there");
        }
        state.engine.take_effects();
        state
    }

    pub(super) fn lead(&mut self, model: &LeaseModel) {
        self.incarnation += 1;
        self.engine = Leases::new(TIMES);
        self.pending.clear();
        self.expelling.clear();
        let all = (0..CLIENTS).map(id);
        let awaited: Vec<u64> = if model.fault == Some(Fault::NoGrace) { Vec::new() } else { all.collect() };
        self.engine.lead(self.now, self.incarnation << 40, awaited);
        self.effects(model);
    }

    pub(super) fn has_recalls(&self, client: usize) -> bool {
        let heard = self.clients[client].incarnation == self.incarnation && !self.clients[client].opening;
        let told = |message: &Message| matches!(message, Message::Recalls { to, .. } if *to == client);
        let news = || {
            let owes = self.clients[client].owes;
            let known = |bits: u32| owes.is_some_and(|owes| owes.0 & bits == bits);
            self.engine.recalls(id(client), 0, 1).iter().any(|recall| !known(recall.bits))
        };
        let returns = |message: &Message| matches!(message, Message::Return { from, .. } if *from == client);
        heard && !self.net.iter().any(|message| told(message) || returns(message)) && news()
    }

    pub(super) fn poll(&mut self, to: usize) {
        let open = self.engine.recalls(id(to), 0, 8);
        let recalls = open.iter().map(|recall| (recall.bits, recall.number)).collect();
        self.net.push(Message::Recalls { to, incarnation: self.incarnation, recalls });
    }

    /// A request comes.
    pub(super) fn request(&mut self, model: &LeaseModel, from: usize, op: Op) {
        let (now, session, asked) = (self.now, id(from), self.stamp);
        let claim = match op {
            Op::Get => Claim { file: FILE, recall: LEASE_WRITE, block: LEASE_WRITE, ..Claim::default() },
            Op::Change if model.fault == Some(Fault::NoRecall) => Claim::change(FILE, 0),
            Op::Change => Claim::change(FILE, LEASE_ATTR | LEASE_NAMES | LEASE_WRITE),
            Op::TakeRead | Op::TakeWrite | Op::Write => {
                let bits = if op == Op::TakeRead { LEASE_READ } else { LEASE_WRITE };
                match self.engine.acquire(now, session, FILE, bits) {
                    Acquired::Given(grant) => self.row(from, asked, grant, false),
                    Acquired::Waits(ticket) => {
                        self.pending.insert(ticket, Pending { from, asked, op, pass: None });
                    }
                    Acquired::Full => self.row(from, asked, None, false),
                }
                return self.effects(model);
            }
        };
        match self.engine.begin(now, session, Claims::default().with(claim)) {
            Begun::Free(pass) => self.perform(model, Pending { from, asked, op, pass: Some(pass) }, &pass),
            Begun::Waits(pass) => {
                let ticket = pass.ticket().expect("who waits has one");
                self.pending.insert(ticket, Pending { from, asked, op, pass: Some(pass) });
            }
            Begun::Full | Begun::NotLeading => self.row(from, asked, None, op == Op::Change),
        }
        self.effects(model);
    }

    fn row(&mut self, to: usize, asked: u64, grant: Option<LeaseGrant>, changed: bool) {
        let (bits, number) = grant.map_or((0, 0), |grant| (grant.bits, grant.number));
        let (incarnation, version) = (self.incarnation, self.version);
        self.net.push(Message::Row { to, asked, incarnation, version, bits, number, changed });
    }

    /// Nothing stands against it.
    fn perform(&mut self, model: &LeaseModel, of: Pending, pass: &Pass) {
        let Pending { from, asked, op, .. } = of;
        let changes = op == Op::Change;
        if changes {
            self.version += 1;
            let keeps = |client: &Client| client.keeps(self.now, LEASE_ATTR | LEASE_WRITE, model.fault);
            if self.clients.iter().enumerate().any(|(number, client)| number != from && keeps(client)) {
                self.broken = Some(broken::EXCLUSION);
            }
        }
        let bits = if changes { LEASE_ATTR } else { LEASE_ATTR | LEASE_READ };
        let grant = self.engine.grant(self.now, id(from), FILE, bits);
        self.row(from, asked, grant, changes);
        self.engine.finish(self.now, pass, changes);
    }

    /// Does what the engine asks for.
    pub(super) fn effects(&mut self, model: &LeaseModel) {
        loop {
            let effects = self.engine.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::Wake(ticket) => self.wake(model, ticket),
                    Effect::Recall(_) => {}
                    Effect::Expel { session, number, wrote } => {
                        let session = usize::try_from(session).expect("a small number") - 1;
                        self.expelling.push(Expelling { session, number, wrote, raised: None });
                    }
                }
            }
        }
    }

    fn wake(&mut self, model: &LeaseModel, ticket: u64) {
        let standing = self.engine.standing(ticket);
        if standing == Standing::Waits {
            return;
        }
        let Some(of) = self.pending.remove(&ticket) else { return };
        match (of.pass, standing) {
            (Some(pass), Standing::Free) => self.perform(model, of, &pass),
            (None, Standing::Given(grant)) => self.row(of.from, of.asked, grant, false),
            _ => self.row(of.from, of.asked, None, of.op == Op::Change),
        }
    }

    pub(super) fn returned(&mut self, model: &LeaseModel, from: usize, opening: u64, bits: u32, number: u64) {
        let session = id(from);
        if opening >= self.engine.opening(session) {
            self.engine.returned(self.now, session, FILE, bits, number);
        }
        self.effects(model);
    }

    /// An opening arrives.
    pub(super) fn opening_arrives(&mut self, model: &LeaseModel, message: Message) {
        let Message::Open { from, sent, number, meant_for, epoch, told } = message else { return };
        let (session, incarnation) = (id(from), self.incarnation);
        let careless = model.fault == Some(Fault::LateOpening);
        if meant_for != 0 && meant_for != incarnation && !careless {
            if self.clients[from].number == number {
                self.clients[from].unknown(incarnation);
            }
            return;
        }
        let mut current = self.rows[from];
        let held = [(FILE, told)];
        let told: &[((u64, u64), u32)] = if epoch == current && told != 0 { &held } else { &[] };
        if epoch < current {
            // A former leader may have raised it and not have come to telling the OSDs.
            self.fence_at(model, from, current);
        }
        let counted = if careless { 0 } else { number };
        let opening = Opening { number: counted, epoch: current, part: true, told };
        let awaited = self.engine.in_grace() && !self.engine.takes_part(session);
        match self.engine.open_session(self.now, session, opening) {
            Ok(()) => self.taken_up |= awaited && !told.is_empty(),
            Err(OpenRefused::Expelling | OpenRefused::Late(_)) => return self.effects(model),
            Err(OpenRefused::NotHeld) => {
                current += 1;
                self.rows[from] = current;
                self.fence_at(model, from, current);
                let opening = Opening { epoch: current, told: &[], ..opening };
                if self.engine.open_session(self.now, session, opening).is_err() {
                    return self.effects(model);
                }
            }
        }
        let ttl = self.engine.renew(self.now, session).expect("it was just opened");
        self.net.push(Message::Opened { to: from, sent, number, ttl, epoch: current, incarnation });
        self.effects(model);
    }

    /// From now on the OSD refuses lower epochs.
    fn fence_at(&mut self, model: &LeaseModel, session: usize, epoch: u64) {
        if model.fault != Some(Fault::NoFence) {
            self.fences[session] = self.fences[session].max(epoch);
        }
    }

    pub(super) fn raise(&mut self, at: usize) {
        let session = self.expelling[at].session;
        self.rows[session] += 1;
        self.expelling[at].raised = Some(self.rows[session]);
    }

    pub(super) fn fence(&mut self, model: &LeaseModel, at: usize) {
        let Expelling { session, number, wrote, raised } = self.expelling.remove(at);
        let epoch = raised.expect("it is raised first");
        if wrote {
            self.fence_at(model, session, epoch);
        }
        self.engine.expelled(self.now, id(session), number, epoch);
        self.effects(model);
    }
}
