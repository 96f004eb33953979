//! Mutations done exactly once (`docs/protocols/metadata.md`, "Repeats"; `docs/protocols/raft.md`, "When a command is
//! acknowledged"): three members of a group, two clients with two mutations each, any number of them under way.
//!
//! The product's are: the client's `client::engine::sequence::Sequence` (numbers, `acked_below`) and the group's
//! `quorum::replica::sessions::Sessions` (recorded answers), used at the two places where a member uses them: when a command
//! comes to the leader (`quorum/src/replica/waits.rs`) and when it is applied (`quorum/src/replica/apply.rs`).
//!
//! | Action | On the page |
//! |---|---|
//! | [`Action::Begin`], [`Action::Repeat`] | a mutation gets its origin and is sent; the same origin once more (a client's patience is over) |
//! | [`Action::Arrive`] | it comes to a member that believes to lead: answered from the record, or appended |
//! | [`Action::Replicate`] | a follower takes the leader's log; what a majority has is committed, applied, answered |
//! | [`Action::Hear`] | an answer arrives |
//! | [`Action::LoseAnswer`] | fault |
//! | [`Action::Crash`], [`Action::Restart`] | fault: kill -9; the log stays, who waited is forgotten, answers that had not left are gone |
//! | [`Action::Elect`] | a majority votes for a member whose log is not behind theirs; it begins with an empty entry. While another leader runs: fault (it is cut off, and believes to lead on) |
//!
//! Simpler than the product: raft-rs is trusted, so consensus is the smallest form that loses and reorders what Raft may (an
//! election and an append are one step; a follower takes a whole log). Loss of power and rejoining are the simulator's
//! (`chaos/`, world `raft`). A request that never arrives is one that is still on its way. Sessions do not expire.

mod group;
mod replay;

use std::hash::{DefaultHasher, Hash, Hasher};

use client::engine::sequence::Sequence;
use stateright::{Model, Property};

use crate::check::Readable;
use group::Member;
use replay::Replay;

/// Members.
pub(crate) const MEMBERS: usize = 3;

/// Part of the protocol that is left out, to see that the properties notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A repeat is applied like a new command.
    NoDedup,
    /// The records are looked at when a command comes, not when it is applied.
    DedupAtDoorOnly,
    /// A leader answers what it has appended.
    AnswerBeforeCommit,
    /// What the leader has is committed.
    CommitAlone,
    /// A member votes for whoever asks.
    VoteForAnybody,
    /// A client says that it has every answer below the command that it sends.
    AckedTooEarly,
}

impl Fault {
    /// All of them, with their names on the command line.
    pub const ALL: [(&'static str, Self); 6] = [
        ("no-dedup", Self::NoDedup),
        ("dedup-at-door-only", Self::DedupAtDoorOnly),
        ("answer-before-commit", Self::AnswerBeforeCommit),
        ("commit-alone", Self::CommitAlone),
        ("vote-for-anybody", Self::VoteForAnybody),
        ("acked-too-early", Self::AckedTooEarly),
    ];
}

/// The model.
#[derive(Clone, Debug)]
pub struct Sessions {
    /// Mutations of each client.
    pub mutations: [u64; 2],
    /// How often one is sent at most.
    pub sends: u8,
    /// Faults at most.
    pub faults: u8,
    /// See there.
    pub fault: Option<Fault>,
}

impl Sessions {
    /// Two mutations each, sent twice at most.
    #[must_use]
    pub fn new(faults: u8) -> Self {
        Self { mutations: [2, 2], sends: 2, faults, fault: None }
    }

    /// One mutation each.
    #[must_use]
    pub fn small(faults: u8) -> Self {
        Self { mutations: [1, 1], ..Self::new(faults) }
    }
}

/// A client's mutation: its name wherever it goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Mutation {
    pub(crate) client: usize,
    pub(crate) sequence: u64,
    pub(crate) acked_below: u64,
}

/// An answer on its way: which effect on the whole state the mutation was. `None`: the group has forgotten it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Answer {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) sequence: u64,
    pub(crate) effect: Option<u8>,
}

#[derive(Clone, Debug)]
pub(crate) struct Client {
    sequence: Sequence,
    /// What it has begun: the mutation, how often it was sent, what it heard.
    begun: Vec<(Mutation, u8, Option<u8>)>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct State {
    pub(crate) members: [Member; MEMBERS],
    clients: [Client; 2],
    /// On their way, ascending.
    requests: Vec<Mutation>,
    answers: Vec<Answer>,
    /// The longest log that was ever committed.
    pub(crate) committed: Vec<group::Entry>,
    faults: u8,
    pub(crate) broken: Option<&'static str>,
}

/// See the module. Numbers of requests and answers are places in the state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the table of the module")]
pub enum Action {
    Begin { client: usize },
    Repeat { client: usize, at: usize },
    Arrive { at: usize, member: usize },
    Replicate { leader: usize, follower: usize },
    Hear { at: usize },
    LoseAnswer { at: usize },
    Crash { member: usize },
    Restart { member: usize },
    Elect { member: usize, cut: Option<usize> },
}

pub(crate) mod broken {
    pub(crate) const TWICE: &str = "a mutation is done once";
    pub(crate) const LOST: &str = "an acknowledged mutation is done";
    pub(crate) const ANSWER: &str = "the answer is that of the mutation, whoever gives it";
    pub(crate) const FORGOTTEN: &str = "nobody who waits hears that his answer was forgotten";
    pub(crate) const FORKED: &str = "what is committed stays";
}

impl Model for Sessions {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let client = |number: u64| Client { sequence: Sequence::new(number), begun: Vec::new() };
        let mut members = [Member::default(), Member::default(), Member::default()];
        members[0].leads = true;
        let state = State {
            members,
            clients: [client(1), client(2)],
            requests: Vec::new(),
            answers: Vec::new(),
            committed: Vec::new(),
            faults: self.faults,
            broken: None,
        };
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        for (client, one) in state.clients.iter().enumerate() {
            if (one.begun.len() as u64) < self.mutations[client] {
                actions.push(Action::Begin { client });
            }
            for (at, (_, sent, heard)) in one.begun.iter().enumerate() {
                if heard.is_none() && *sent < self.sends {
                    actions.push(Action::Repeat { client, at });
                }
            }
        }
        for at in 0..state.requests.len() {
            // Two that are alike need not both be tried.
            if at == 0 || state.requests[at] != state.requests[at - 1] {
                let leading = (0..MEMBERS).filter(|member| state.members[*member].leads);
                actions.extend(leading.map(|member| Action::Arrive { at, member }));
            }
        }
        for at in 0..state.answers.len() {
            actions.push(Action::Hear { at });
            if state.faults > 0 {
                actions.push(Action::LoseAnswer { at });
            }
        }
        self.of_members(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        state.step(self, action);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(broken::TWICE, |_, state: &State| state.broken != Some(broken::TWICE)),
            Property::always(broken::LOST, |_, state: &State| state.broken != Some(broken::LOST)),
            Property::always(broken::ANSWER, |_, state: &State| state.broken != Some(broken::ANSWER)),
            Property::always(broken::FORGOTTEN, |_, state: &State| state.broken != Some(broken::FORGOTTEN)),
            Property::always(broken::FORKED, |_, state: &State| state.broken != Some(broken::FORKED)),
            Property::sometimes("everything is done and answered", |model: &Self, state: &State| {
                let done = |(client, count): (&Client, &u64)| {
                    let heard = client.begun.iter().filter(|(_, _, heard)| heard.is_some()).count();
                    heard as u64 == *count
                };
                state.clients.iter().zip(&model.mutations).all(done)
            }),
            Property::sometimes("a mutation is in the committed log twice", |_, state: &State| {
                state.committed.iter().enumerate().any(|(at, entry)| {
                    entry.mutation.is_some()
                        && state.committed[..at].iter().any(|other| other.mutation == entry.mutation)
                })
            }),
            Property::sometimes("two members believe to lead", |_, state: &State| {
                state.members.iter().filter(|member| member.leads).count() > 1
            }),
            Property::sometimes("an entry is taken back", |_, state: &State| {
                let lost = |member: &Member| {
                    let theirs = |other: &Member| other.leads && other.term > member.term;
                    !member.leads
                        && member.log.len() > state.committed.len()
                        && state.members.iter().any(theirs)
                };
                state.members.iter().any(lost)
            }),
            Property::sometimes("a late repeat of an answered mutation is on its way", |_, state: &State| {
                state.requests.iter().any(|request| state.clients[request.client].heard(request.sequence))
            }),
        ]
    }
}

impl Sessions {
    fn of_members(&self, state: &State, actions: &mut Vec<Action>) {
        let newest = state.members.iter().map(|member| member.term).max().unwrap_or(0);
        let leads_now = |member: &Member| member.leads && member.term == newest;
        let leader = state.members.iter().position(leads_now);
        for (member, one) in state.members.iter().enumerate() {
            if one.down {
                actions.push(Action::Restart { member });
                continue;
            }
            if state.faults > 0 {
                actions.push(Action::Crash { member });
            }
            if one.leads {
                let behind = (0..MEMBERS).filter(|other| *other != member && state.lags(member, *other));
                actions.extend(behind.map(|follower| Action::Replicate { leader: member, follower }));
                if leader == Some(member) {
                    continue;
                }
            }
            let cut = leader;
            if (cut.is_none() || state.faults > 0) && state.would_win(self, member, cut) {
                actions.push(Action::Elect { member, cut });
            }
        }
    }
}

impl Client {
    fn heard(&self, sequence: u64) -> bool {
        self.begun.iter().any(|(mutation, _, heard)| mutation.sequence == sequence && heard.is_some())
    }
}

impl State {
    fn step(&mut self, model: &Sessions, action: Action) {
        match action {
            Action::Begin { client } => self.begin(model, client),
            Action::Repeat { client, at } => {
                let (mutation, sent, _) = &mut self.clients[client].begun[at];
                *sent += 1;
                let mutation = *mutation;
                self.send(mutation);
            }
            Action::Arrive { at, member } => {
                let mutation = self.requests.remove(at);
                self.arrive(model, member, mutation);
            }
            Action::Replicate { leader, follower } => self.replicate(model, leader, follower),
            Action::Hear { at } => {
                let answer = self.answers.remove(at);
                self.hear(model, answer);
            }
            Action::LoseAnswer { at } => {
                self.faults -= 1;
                self.answers.remove(at);
            }
            Action::Crash { member } => {
                self.faults -= 1;
                let crashed = &mut self.members[member];
                (crashed.down, crashed.leads) = (true, false);
                crashed.forget();
                self.answers.retain(|answer| answer.from != member);
            }
            Action::Restart { member } => self.members[member].down = false,
            Action::Elect { member, cut } => {
                self.faults -= u8::from(cut.is_some());
                self.elect(model, member, cut);
            }
        }
    }

    fn begin(&mut self, model: &Sessions, number: usize) {
        let client = &mut self.clients[number];
        let Some(origin) = client.sequence.begin() else { return };
        let early = model.fault == Some(Fault::AckedTooEarly);
        let acked_below = if early { origin.sequence } else { origin.acked_below };
        let mutation = Mutation { client: number, sequence: origin.sequence, acked_below };
        client.begun.push((mutation, 1, None));
        self.send(mutation);
    }

    fn send(&mut self, mutation: Mutation) {
        let at = self.requests.partition_point(|other| *other <= mutation);
        self.requests.insert(at, mutation);
    }

    pub(crate) fn answer(&mut self, answer: Answer) {
        // The client takes one of several that are alike; who has heard takes none.
        if !self.clients[answer.to].heard(answer.sequence) && !self.answers.contains(&answer) {
            let at = self.answers.partition_point(|other| *other <= answer);
            self.answers.insert(at, answer);
        }
    }

    fn hear(&mut self, model: &Sessions, answer: Answer) {
        let Answer { to, sequence, effect, .. } = answer;
        let truth = Replay::of(&self.committed, model.fault).effect_of(to, sequence);
        match (effect, truth) {
            (None, _) => self.broken = Some(broken::FORGOTTEN),
            (Some(_), None) => self.broken = Some(broken::LOST),
            (Some(heard), Some(truth)) if heard != truth => self.broken = Some(broken::ANSWER),
            (Some(_), Some(_)) => {}
        }
        let client = &mut self.clients[to];
        let known = client.begun.iter_mut().find(|(mutation, _, _)| mutation.sequence == sequence);
        if let Some((_, _, heard)) = known.filter(|(_, _, heard)| heard.is_none()) {
            *heard = Some(effect.unwrap_or(0));
            client.sequence.end(sequence);
        }
        self.answers.retain(|other| (other.to, other.sequence) != (to, sequence));
    }

    /// Hash of the state as it is when members have other numbers.
    fn print(&self, order: [usize; MEMBERS]) -> u64 {
        let mut hasher = DefaultHasher::new();
        let place = |member: usize| order.iter().position(|one| *one == member).unwrap_or(MEMBERS);
        for member in order {
            let Member { down, term, leads, log, matched, commit, waiting } = &self.members[member];
            (down, term, leads, log, commit, waiting, order.map(|one| matched[one])).hash(&mut hasher);
        }
        for client in &self.clients {
            (client.sequence.acked_below(), &client.begun).hash(&mut hasher);
        }
        let mut answers: Vec<Answer> =
            self.answers.iter().map(|answer| Answer { from: place(answer.from), ..*answer }).collect();
        answers.sort_unstable();
        (&self.requests, answers, &self.committed, self.faults, self.broken).hash(&mut hasher);
        hasher.finish()
    }

    /// The same for all states that differ in the numbers of the members only.
    fn canonical(&self) -> u64 {
        const ORDERS: [[usize; MEMBERS]; 6] =
            [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        ORDERS.iter().map(|order| self.print(*order)).min().unwrap_or(0)
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.canonical().hash(hasher);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.canonical() == other.canonical()
    }
}

impl Readable for Sessions {
    fn tell(&self, state: &State, action: &Action) -> String {
        let of =
            |mutation: &Mutation| format!("mutation {} of client {}", mutation.sequence, mutation.client + 1);
        match *action {
            Action::Begin { client } => format!("client {} sends its next mutation", client + 1),
            Action::Repeat { client, at } => {
                format!("sent again: {}", of(&state.clients[client].begun[at].0))
            }
            Action::Arrive { at, member } => {
                format!("member {} gets {}", member + 1, of(&state.requests[at]))
            }
            Action::Replicate { leader, follower } => {
                format!("member {} takes the log of member {}", follower + 1, leader + 1)
            }
            Action::Hear { at } => format!("heard: {:?}", state.answers[at]),
            Action::LoseAnswer { at } => format!("FAULT lost: {:?}", state.answers[at]),
            Action::Crash { member } => format!("FAULT member {} is killed", member + 1),
            Action::Restart { member } => format!("member {} starts", member + 1),
            Action::Elect { member, cut } => match cut {
                Some(cut) => format!("FAULT member {} is cut off, member {} is elected", cut + 1, member + 1),
                None => format!("member {} is elected", member + 1),
            },
        }
    }

    fn show(&self, state: &State) -> String {
        let effects = Replay::of(&state.committed, self.fault).effects;
        format!(
            "committed {:?}; effects {effects:?}; answers on their way {:?}",
            state.committed, state.answers
        )
    }
}
