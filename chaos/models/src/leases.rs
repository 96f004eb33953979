//! Client leases (`docs/protocols/leases.md`): the leader of the MRC group, which may change, an OSD that fences, two clients,
//! one file.
//!
//! The leader's engine is the product's (`mrc::engine::leases::Leases`), driven as `mrc/src/leasing.rs` does it. The client is
//! the smallest one that obeys the page, as in the simulator (`chaos/src/leases/client.rs`): it keeps the file's version that
//! it was told under a lease and answers from it within its time, writes data under `W`, and returns what is recalled when no
//! write of its own is under way.
//!
//! | Action | On the page |
//! |---|---|
//! | [`Action::Ask`] | the client's next request: "Granting", or a change that recalls |
//! | [`Action::Poll`] | the leader answers `AwaitRecalls` ("Recall and return") |
//! | [`Action::Deliver`] | something arrives, in any order: grants, recalls, returns, openings, data at the OSD |
//! | [`Action::Renew`] | a renewal, with its answer ("Time, loss and fences") |
//! | [`Action::Open`] | `OpenSession` with what is held, after `SessionUnknown` or a change of leader |
//! | [`Action::Clock`] | a unit of time passes: leases, recalls and the grace period end. It need not pass between other steps: a client that does nothing meanwhile is one that hangs |
//! | [`Action::Raise`], [`Action::Fence`] | expelling: the epoch is raised in the log, then the OSD answers the fence |
//! | [`Action::Lead`] | fault: another member leads; it knows the rows of the sessions and nothing else |
//! | [`Action::Lose`], [`Action::Repeat`] | fault: a message is lost, or arrives twice |
//! | [`Action::Late`] | fault: an opening is tried again while the one before is still on its way |
//! | [`Action::Skew`] | fault: a client's clock loses a unit, which is what the leader's margin allows |
//!
//! Simpler than the product: a lease is good for two units, the margin is one, nothing cools down; requests arrive as they
//! are sent (their answers take any time); two leaders at once are Raft's business; names and handles are not in it.

mod client;
mod leader;
mod likeness;

use std::collections::BTreeMap;
use std::time::Duration;

use mrc::engine::leases::{Leases, Times};
use stateright::{Model, Property};

use crate::check::Readable;
use client::Client;
use leader::{Expelling, Pending};

pub(crate) const CLIENTS: usize = 2;
/// A unit of time.
pub(crate) const UNIT: Duration = Duration::from_secs(1);
pub(crate) const TIMES: Times =
    Times { ttl: Duration::from_secs(2), margin: UNIT, cool: Duration::ZERO, per_session: 8 };
/// Numbers that mean nothing but their order begin here; see `likeness`.
pub(crate) const STAMPS: u64 = 1 << 50;
/// When it begins; what is shorter is no moment.
pub(crate) const START: Duration = Duration::from_secs(1000);

/// The session of a client.
pub(crate) fn id(client: usize) -> u64 {
    client as u64 + 1
}

/// Part of the protocol that is left out, to see that the properties notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Clients answer from leases after their time.
    NoTime,
    /// Clients keep what a recall overtook.
    LateGrant,
    /// The OSD is not told of expelled sessions.
    NoFence,
    /// A new leader waits for nobody.
    NoGrace,
    /// Changes do not recall.
    NoRecall,
    /// A return does not wait for writes under way.
    ReturnWhileWriting,
    /// A client's clock loses more than the margin.
    ClockBeyondBound,
    /// An opening counts whenever it arrives.
    LateOpening,
    /// A renewal brings a moment even when the recall's time is over: the engine did so once.
    RenewedInMargin,
}

impl Fault {
    /// All of them, with their names on the command line.
    pub const ALL: [(&'static str, Self); 9] = [
        ("no-time", Self::NoTime),
        ("late-grant", Self::LateGrant),
        ("no-fence", Self::NoFence),
        ("no-grace", Self::NoGrace),
        ("no-recall", Self::NoRecall),
        ("return-while-writing", Self::ReturnWhileWriting),
        ("clock-beyond-bound", Self::ClockBeyondBound),
        ("late-opening", Self::LateOpening),
        ("renewed-in-margin", Self::RenewedInMargin),
    ];
}

/// What a client asks for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// Attributes, with a lease for them if possible.
    Get,
    /// A change of the attributes.
    Change,
    /// The right to write data.
    TakeWrite,
    /// The right to read data.
    TakeRead,
    /// Sends data to the OSD, if it has the right to write.
    Write,
}

/// The model.
#[derive(Clone, Debug)]
pub struct LeaseModel {
    /// What each client does, in order.
    pub scripts: [Vec<Op>; CLIENTS],
    /// Faults at most.
    pub faults: u8,
    /// They are those of clocks.
    pub clocks_only: bool,
    /// See there.
    pub fault: Option<Fault>,
}

impl LeaseModel {
    /// Attributes that both keep and change.
    #[must_use]
    pub fn attributes(faults: u8) -> Self {
        Self::of([vec![Op::Get, Op::Change], vec![Op::Get, Op::Change]], faults)
    }

    /// Attributes that one keeps and the other one changes.
    #[must_use]
    pub fn small(faults: u8) -> Self {
        Self::of([vec![Op::Get], vec![Op::Change]], faults)
    }

    /// Data that one writes and the other one reads.
    #[must_use]
    pub fn data(faults: u8) -> Self {
        Self::of([vec![Op::TakeWrite, Op::Write], vec![Op::TakeRead]], faults)
    }

    fn of(scripts: [Vec<Op>; CLIENTS], faults: u8) -> Self {
        Self { scripts, faults, clocks_only: false, fault: None }
    }
}

/// On its way. `asked`: when what it answers was sent, in the order of all that happened.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Message {
    Row { to: usize, asked: u64, incarnation: u64, version: u64, bits: u32, number: u64, changed: bool },
    Recalls { to: usize, incarnation: u64, recalls: Vec<(u32, u64)> },
    Opened { to: usize, sent: Duration, number: u64, ttl: Duration, epoch: u64, incarnation: u64 },
    Open { from: usize, sent: Duration, number: u64, meant_for: u64, epoch: u64, told: u32 },
    Return { from: usize, opening: u64, bits: u32, number: u64 },
    Data { from: usize, epoch: u64 },
}

/// See the module.
#[derive(Clone, Debug)]
pub struct State {
    pub(crate) now: Duration,
    /// Counts what happens.
    pub(crate) stamp: u64,
    pub(crate) engine: Leases,
    pub(crate) incarnation: u64,
    pub(crate) pending: BTreeMap<u64, Pending>,
    pub(crate) expelling: Vec<Expelling>,
    /// Rows of the sessions: their epochs.
    pub(crate) rows: [u64; CLIENTS],
    /// The file's version.
    pub(crate) version: u64,
    /// At the OSD: epochs below are refused.
    pub(crate) fences: [u64; CLIENTS],
    pub(crate) clients: [Client; CLIENTS],
    pub(crate) net: Vec<Message>,
    pub(crate) faults: u8,
    /// The OSD refused what a fence forbids.
    pub(crate) refused: bool,
    /// A new leader took up what a client told.
    pub(crate) taken_up: bool,
    pub(crate) broken: Option<&'static str>,
}

/// See the module. Numbers of messages and expulsions are places in the state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the table of the module")]
pub enum Action {
    Ask { client: usize },
    Poll { client: usize },
    Deliver { at: usize },
    Renew { client: usize },
    Open { client: usize },
    Clock,
    Raise { at: usize },
    Fence { at: usize },
    Lead,
    Lose { at: usize },
    Repeat { at: usize },
    Late { client: usize },
    Skew { client: usize },
}

pub(crate) mod broken {
    pub(crate) const STALE: &str = "no client answers from a lease what is not so any more";
    pub(crate) const EXCLUSION: &str = "a change is applied when nobody else keeps what it changes";
    pub(crate) const FENCED: &str = "no write arrives while somebody else holds the data";
}

impl Model for LeaseModel {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::opened(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        actions.push(Action::Clock);
        let strikes = state.faults > 0 && !self.clocks_only;
        for (client, one) in state.clients.iter().enumerate() {
            let script = &self.scripts[client];
            if one.may_ask(script) && (script[one.next] != Op::Write || one.may_write(state.now)) {
                actions.push(Action::Ask { client });
            }
            if one.renewable(state.now) {
                actions.push(Action::Renew { client });
            }
            if one.opening {
                let under_way = state.net.iter().any(|message| message.opens(client));
                if !under_way {
                    actions.push(Action::Open { client });
                } else if strikes {
                    actions.push(Action::Late { client });
                }
            }
            if state.has_recalls(client) {
                actions.push(Action::Poll { client });
            }
            if state.faults > 0 && one.may_lose_time(state.now, self.units_lost()) {
                actions.push(Action::Skew { client });
            }
        }
        for at in 0..state.expelling.len() {
            actions.push(if state.expelling[at].raised.is_none() {
                Action::Raise { at }
            } else {
                Action::Fence { at }
            });
        }
        for at in 0..state.net.len() {
            actions.push(Action::Deliver { at });
            if strikes {
                actions.extend([Action::Lose { at }, Action::Repeat { at }]);
            }
        }
        if strikes {
            actions.push(Action::Lead);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        state.step(self, action);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(broken::STALE, |model: &Self, state: &State| !state.is_stale(model.fault)),
            Property::always(broken::EXCLUSION, |_, state: &State| state.broken != Some(broken::EXCLUSION)),
            Property::always(broken::FENCED, |_, state: &State| state.broken != Some(broken::FENCED)),
            Property::sometimes("everything asked for is done", |model: &Self, state: &State| {
                let done = |(client, script): (&Client, &Vec<Op>)| {
                    client.next == script.len() && !client.waits && !client.writing
                };
                state.clients.iter().zip(&model.scripts).all(done)
            }),
            Property::sometimes("a client is expelled", |_, state: &State| {
                state.rows.iter().any(|row| *row > 1)
            }),
            Property::sometimes("a lease is given back and somebody else gets it", |_, state: &State| {
                state.clients.iter().any(|client| client.overtaken > 0)
                    && state.rows == [1; CLIENTS]
                    && state.clients.iter().any(|client| client.overtaken == 0 && client.kept.is_some())
            }),
        ]
        .into_iter()
        .chain(self.with_faults())
        .chain(self.with_data())
        .collect()
    }
}

impl LeaseModel {
    /// What a clock may lose.
    fn units_lost(&self) -> u32 {
        if self.fault == Some(Fault::ClockBeyondBound) { 3 } else { 1 }
    }

    /// What needs a fault to be reached.
    fn with_faults(&self) -> Vec<Property<Self>> {
        if self.faults == 0 || self.clocks_only {
            return Vec::new();
        }
        vec![Property::sometimes("a new leader takes up what a client holds", |_, state: &State| {
            state.taken_up
        })]
    }

    /// What needs data to be reached.
    fn with_data(&self) -> Vec<Property<Self>> {
        if !self.scripts.iter().flatten().any(|op| *op == Op::Write) {
            return Vec::new();
        }
        vec![Property::sometimes("the OSD refuses a write of an expelled client", |_, state: &State| {
            state.refused
        })]
    }
}

impl Message {
    /// It belongs to an opening of this client that is under way.
    fn opens(&self, client: usize) -> bool {
        match self {
            Self::Open { from, .. } => *from == client,
            Self::Opened { to, .. } => *to == client,
            _ => false,
        }
    }
}

impl State {
    fn step(&mut self, model: &LeaseModel, action: Action) {
        self.stamp += 1;
        match action {
            Action::Ask { client } => self.ask(model, client),
            Action::Poll { client } => self.poll(client),
            Action::Deliver { at } => {
                let message = self.net.remove(at);
                self.deliver(model, message);
            }
            Action::Renew { client } => self.renew(model, client),
            Action::Open { client } => self.send_opening(client),
            Action::Clock => {
                self.now += UNIT;
                self.engine.tick(self.now);
                self.effects(model);
            }
            Action::Raise { at } => self.raise(at),
            Action::Fence { at } => self.fence(model, at),
            Action::Lead => {
                self.faults -= 1;
                self.lead(model);
            }
            Action::Lose { at } => {
                self.faults -= 1;
                let lost = self.net.remove(at);
                self.lost(&lost);
            }
            Action::Repeat { at } => {
                self.faults -= 1;
                let again = self.net[at].clone();
                self.deliver(model, again);
            }
            Action::Late { client } => {
                self.faults -= 1;
                self.send_opening(client);
            }
            Action::Skew { client } => {
                self.faults -= 1;
                self.clients[client].until += UNIT * model.units_lost();
                self.clients[client].skewed = true;
            }
        }
        self.engine.invariants();
    }

    fn deliver(&mut self, model: &LeaseModel, message: Message) {
        match message {
            Message::Open { .. } => self.opening_arrives(model, message),
            Message::Return { from, opening, bits, number } => {
                self.returned(model, from, opening, bits, number)
            }
            Message::Data { from, epoch } => self.data_arrives(model, from, epoch),
            Message::Row { .. } => self.row_arrives(model, message),
            Message::Recalls { to, incarnation, recalls } => {
                self.recalls_arrive(model, to, incarnation, &recalls)
            }
            Message::Opened { .. } => self.opened_arrives(message),
        }
    }

    /// Who waits for an answer that is lost gives up. Data that never comes is waited for: its sender cannot know, and is
    /// expelled when somebody wants the file.
    fn lost(&mut self, message: &Message) {
        if let Message::Row { to, changed, .. } = message {
            self.answer_lost(*to, *changed);
        }
    }

    fn is_stale(&self, fault: Option<Fault>) -> bool {
        let stale = |client: &Client| client.answers(self.now, fault).is_some_and(|kept| kept < self.version);
        self.clients.iter().any(stale)
    }
}

impl Readable for LeaseModel {
    fn tell(&self, state: &State, action: &Action) -> String {
        match *action {
            Action::Ask { client } => {
                format!("client {} asks: {:?}", client + 1, self.scripts[client][state.clients[client].next])
            }
            Action::Poll { client } => format!("recalls are sent to client {}", client + 1),
            Action::Deliver { at } => format!("arrives: {:?}", state.net[at]),
            Action::Renew { client } => format!("client {} renews", client + 1),
            Action::Open { client } => format!("client {} opens its session again", client + 1),
            Action::Clock => format!("time {:?} -> {:?}", state.now, state.now + UNIT),
            Action::Raise { at } => format!("the epoch is raised: {:?}", state.expelling[at]),
            Action::Fence { at } => format!("the OSD is told: {:?}", state.expelling[at]),
            Action::Lead => "FAULT another member leads".to_owned(),
            Action::Lose { at } => format!("FAULT lost: {:?}", state.net[at]),
            Action::Repeat { at } => format!("FAULT arrives twice: {:?}", state.net[at]),
            Action::Late { client } => format!("FAULT client {} opens again, impatiently", client + 1),
            Action::Skew { client } => format!("FAULT the clock of client {} loses time", client + 1),
        }
    }

    fn show(&self, state: &State) -> String {
        let client = |client: &Client| format!("{:?} until {:?}", client.kept, client.until);
        let clients: Vec<String> = state.clients.iter().map(client).collect();
        format!("time {:?}, version {}, clients keep {clients:?}", state.now, state.version)
    }
}
