//! Replication of a column (`docs/protocols/replication.md`): three OSDs, two clients, one object.
//!
//! The engine is the product's: each OSD has a `osd::engine::replication::Column` in its state and the model carries out the
//! effects as `osd/src/replication.rs` does. So every transition of the page's diagram is the engine's own. The model's part:
//!
//! | Action | On the page |
//! |---|---|
//! | [`Action::Issue`] | a client's change or read comes to an OSD that leads by the map it knows ("Changes", "Reads"; first touch: "Opening") |
//! | [`Action::Vouch`] | another OSD says the same of the object as the one that a clean read got data of ("Reads") |
//! | [`Action::Deliver`] | a question or an answer between OSDs arrives; any order |
//! | [`Action::Lose`] | fault: the asker gives up. A question may arrive all the same, later |
//! | [`Action::Repeat`] | fault: a question arrives twice |
//! | [`Action::Crash`], [`Action::Start`] | fault: kill -9, the page cache stays; a new life, which acts only under a map that shows it |
//! | [`Action::Power`] | fault: what was not synced is gone, the replica is doubtful (at most one OSD: a minority) |
//! | [`Action::Cut`], [`Action::Return`] | fault: cut off from the DIR until its lease there is over and the map says "down"; back again |
//! | [`Action::Fall`] | the map takes down a dead OSD: a refused connection, or the end of its lease |
//! | [`Action::Hear`] | an OSD hears of the newest map, and its lease is renewed with it |
//! | [`Action::Pass`] | a lease has passed since an OSD heard of its epoch: who has not heard of that map has no lease any more |
//! | [`Action::Tick`] | a lost member is asked again, a parked change gives up |
//!
//! Simpler than the product: work on the own disk takes no time (an OSD is a page cache); copies are whole objects; one view; a
//! client's request comes and its answer goes at once, and it is not repeated; time is only what the actions above let pass.
//! The lease at the DIR is a fact instead of a clock: the page derives from clocks within their bound that it ends before the
//! DIR says "down" and before a newer epoch has stopped waiting; [`Fault::LeaseBeyondBound`] is a clock beyond it.

mod driver;
mod state;

use stateright::{Model, Property};

use crate::check::Readable;
use state::{Body, Message, NODES, Said};
pub use state::{Op, State};

/// Part of the protocol that is left out, to see that the properties notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A replica says "applied" and has applied nothing: commits without a majority.
    AckedNotApplied,
    /// A restart that no map shows: the promise of an epoch is forgotten.
    PromiseNotDurable,
    /// A replica takes changes of whichever epoch.
    EpochIgnored,
    /// Who does not answer is taken for an empty replica: an opening without a majority.
    SilenceIsConsent,
    /// A lease at an OSD outlasts the DIR's.
    LeaseBeyondBound,
    /// Who lost what it had does not say that it is doubtful.
    DoubtNotTold,
    /// The engine does not hear that a call to another OSD was lost.
    LossNotTold,
    /// A clean read needs one replica's word only.
    OneWord,
    /// A replica says its word without having adopted what it promised.
    OpenNotAsked,
    /// A replica that may have forgotten what it acknowledged says its word.
    DoubtfulSays,
}

impl Fault {
    /// All of them, with their names on the command line.
    pub const ALL: [(&'static str, Self); 10] = [
        ("acked-not-applied", Self::AckedNotApplied),
        ("promise-not-durable", Self::PromiseNotDurable),
        ("epoch-ignored", Self::EpochIgnored),
        ("silence-is-consent", Self::SilenceIsConsent),
        ("lease-beyond-bound", Self::LeaseBeyondBound),
        ("doubt-not-told", Self::DoubtNotTold),
        ("loss-not-told", Self::LossNotTold),
        ("one-word", Self::OneWord),
        ("open-not-asked", Self::OpenNotAsked),
        ("doubtful-says", Self::DoubtfulSays),
    ];
}

/// The model.
#[derive(Clone, Debug)]
pub struct Replication {
    /// What each client does, in order.
    pub scripts: [Vec<Op>; 2],
    /// Faults at most.
    pub faults: u8,
    /// See there.
    pub fault: Option<Fault>,
}

impl Replication {
    /// Two clients that write and read.
    #[must_use]
    pub fn new(faults: u8) -> Self {
        Self { scripts: [vec![Op::Write(1), Op::Read], vec![Op::Write(2), Op::Read]], faults, fault: None }
    }

    /// Two clients that write once each.
    #[must_use]
    pub fn writes(faults: u8) -> Self {
        Self { scripts: [vec![Op::Write(1)], vec![Op::Write(2)]], faults, fault: None }
    }

    /// One client that writes once.
    #[must_use]
    pub fn write(faults: u8) -> Self {
        Self { scripts: [vec![Op::Write(1)], Vec::new()], faults, fault: None }
    }

    /// One writes, the other one reads what a majority says, and then of whoever leads.
    #[must_use]
    pub fn clean(faults: u8) -> Self {
        Self { scripts: [vec![Op::Write(1)], vec![Op::Clean, Op::Read]], faults, fault: None }
    }

    /// One writes, the other one reads.
    #[must_use]
    pub fn small(faults: u8) -> Self {
        Self { scripts: [vec![Op::Write(1)], vec![Op::Read]], faults, fault: None }
    }
}

/// See the module. Numbers of messages are places in `State::net`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the table of the module")]
pub enum Action {
    Issue { client: usize, osd: usize },
    Vouch { client: usize },
    Deliver { at: usize },
    Lose { at: usize },
    Repeat { at: usize },
    Crash { osd: usize },
    Start { osd: usize },
    Power { osd: usize },
    Cut { osd: usize },
    Return { osd: usize },
    Fall { osd: usize },
    Hear { osd: usize },
    Pass { osd: usize },
    Tick { osd: usize },
}

/// Names of the properties, which steps name when they see them broken.
pub(crate) mod broken {
    pub(crate) const STALE: &str = "no read is older than what was acknowledged before it";
    pub(crate) const TWO: &str = "one OSD in one life commits in an epoch";
    pub(crate) const LOST: &str =
        "a majority that adopted its epoch or a later one holds what was acknowledged";
    pub(crate) const BYTES: &str = "the same version is the same bytes";
    pub(crate) const WAITS: &str = "nobody waits when all is quiet";
}

impl Model for Replication {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::opened(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        for client in 0..self.scripts.len() {
            if state.clients[client].idle(&self.scripts[client]) {
                let clean = self.scripts[client][state.clients[client].next] == Op::Clean;
                let serves = |osd: &usize| match clean {
                    true => state.word(self, *osd).is_some(),
                    false => state.believes_to_lead(*osd),
                };
                actions.extend((0..NODES).filter(serves).map(|osd| Action::Issue { client, osd }));
            }
            if let Some((giver, word, _)) = state.clients[client].given {
                let says = |osd: usize| osd != giver && state.word(self, osd) == Some(word);
                if (0..NODES).any(says) {
                    actions.push(Action::Vouch { client });
                }
            }
        }
        for (at, message) in state.net.iter().enumerate() {
            actions.push(Action::Deliver { at });
            if state.faults > 0 && !message.is_given_up() {
                actions.push(Action::Lose { at });
                if matches!(message, Message::Question { .. }) {
                    actions.push(Action::Repeat { at });
                }
            }
        }
        for osd in 0..NODES {
            self.of_node(state, osd, actions);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        state.step(self, action);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(broken::STALE, |_, state: &State| state.broken != Some(broken::STALE)),
            Property::always(broken::TWO, |_, state: &State| state.broken != Some(broken::TWO)),
            Property::always(broken::LOST, |_, state: &State| state.holds_acknowledged()),
            Property::always(broken::BYTES, |_, state: &State| state.same_bytes()),
            Property::always(broken::WAITS, |_, state: &State| !state.is_quiet() || state.all_answered()),
            Property::sometimes("two writes are acknowledged", |_, state: &State| {
                state.history.settled & 0b110 == 0b110
            }),
            Property::sometimes("two epochs commit", |_, state: &State| state.history.commits.len() > 1),
            Property::sometimes("a client reads what was written in an epoch before", |_, state: &State| {
                state.clients.iter().any(|client| client.read.is_some_and(|(_, later)| later))
            }),
            Property::sometimes(
                "a former primary has a lease while another one leads",
                |_, state: &State| (0..NODES).any(|osd| state.osds[osd].leased && state.is_deposed(osd)),
            ),
            Property::sometimes("an older epoch is refused", |_, state: &State| {
                let refused =
                    |message: &Message| matches!(message, Message::Answer { what: Said::Old(_), .. });
                state.net.iter().any(refused)
            }),
            Property::sometimes("an object is repaired", |_, state: &State| {
                let installs = |message: &Message| {
                    matches!(message, Message::Question { body: Body::Install { .. }, .. })
                };
                state.net.iter().any(installs)
            }),
        ]
    }
}

impl Replication {
    fn of_node(&self, state: &State, osd: usize, actions: &mut Vec<Action>) {
        let node = &state.osds[osd];
        let entry = state.map.osds[osd];
        let strikes = state.faults > 0;
        if !node.runs {
            actions.push(Action::Start { osd });
            if entry.up {
                actions.push(Action::Fall { osd });
            }
            return;
        }
        if strikes {
            actions.push(Action::Crash { osd });
            if !state.powerless {
                actions.push(Action::Power { osd });
            }
            if entry.up {
                actions.push(Action::Cut { osd });
            }
        }
        if !entry.up {
            actions.push(Action::Return { osd });
        }
        if node.map.is_none_or(|map| map != state.map) || entry.up && !node.leased {
            actions.push(Action::Hear { osd });
        }
        if state.waits_for_a_lease(osd) {
            actions.push(Action::Pass { osd });
        }
        if state.has_tick(osd) {
            actions.push(Action::Tick { osd });
        }
    }
}

impl Readable for Replication {
    fn tell(&self, state: &State, action: &Action) -> String {
        let osd = |osd: usize| format!("OSD {}", osd + 1);
        match *action {
            Action::Issue { client, osd: at } => {
                let op = self.scripts[client][state.clients[client].next];
                format!("client {} comes to {} with {op:?}", client + 1, osd(at))
            }
            Action::Vouch { client } => format!("client {} hears the same of another OSD", client + 1),
            Action::Deliver { at } => format!("arrives: {}", state.net[at]),
            Action::Lose { at } => format!("FAULT lost: {}", state.net[at]),
            Action::Repeat { at } => format!("FAULT arrives twice: {}", state.net[at]),
            Action::Crash { osd: at } => format!("FAULT {} is killed", osd(at)),
            Action::Start { osd: at } => format!("{} starts", osd(at)),
            Action::Power { osd: at } => format!("FAULT {} loses power", osd(at)),
            Action::Cut { osd: at } => format!("FAULT {} is cut off, the map says that it is down", osd(at)),
            Action::Return { osd: at } => format!("{} is seen by the DIR again", osd(at)),
            Action::Fall { osd: at } => format!("the map says that {} is down", osd(at)),
            Action::Hear { osd: at } => format!("{} hears of map {}", osd(at), state.map.epoch),
            Action::Pass { osd: at } => format!("a lease passes since {} heard of its epoch", osd(at)),
            Action::Tick { osd: at } => format!("some time passes at {}", osd(at)),
        }
    }

    fn show(&self, state: &State) -> String {
        let mut text = String::new();
        for (number, osd) in (1..).zip(&state.osds) {
            let disk = &osd.disk;
            let (epoch, change) = (disk.version.epoch, disk.version.number);
            text.push_str(&format!(
                "OSD {number} has {} of ({epoch}, {change}), adopted {}; ",
                disk.value, disk.adopted
            ));
        }
        for (number, client) in (1..).zip(&state.clients) {
            text.push_str(&format!("client {number} did {} and read {:?}; ", client.next, client.read));
        }
        text.push_str(&format!("acknowledged up to {:?}", state.history.acknowledged));
        text
    }
}
