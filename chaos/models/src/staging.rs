//! What a mount staged is committed or worth nothing (`docs/protocols/write-behind.md`): the MRC, two OSDs with a block each of
//! one file, two mounts that write it in turn.
//!
//! The product has no engine for this by itself (`client/src/stage.rs`, `client/src/file/buffer.rs` and `client/src/stage/replay.rs` are
//! about memory and files), so all of it is a model:
//!
//! | Action | On the page |
//! |---|---|
//! | [`Action::Take`], [`Action::Grant`] | a mount asks for the right to write (`leases.md`), and gets it when nobody else has it |
//! | [`Action::Write`] | a write is staged, which acknowledges it ("What is staged") |
//! | [`Action::Send`], [`Action::Arrive`], [`Action::Done`] | a piece leaves when none that it overlaps is on its way; is at its OSD; is crossed out ("Pieces") |
//! | [`Action::Return`] | the right is given back when all is written out |
//! | [`Action::Expel`], [`Action::Fence`] | a recall's time is over: the epoch is raised, each OSD is told, and the right is free when all have answered. It is over at the mount before |
//! | [`Action::Kill`] | fault: the mount's process; the stage stays |
//! | [`Action::Start`] | a successor reads the labels: pieces of the present epoch are written out, others are lost and told ("After a kill") |
//! | [`Action::GiveUp`] | fault: a mount takes an attempt for lost and makes another; the first one may arrive all the same |
//!
//! Simpler than the product: sizes and marks are not in it; the MRC does not change its leader; the stage always has room; each
//! mount is expelled once at most.
//!
//! Attempts carry turns (`docs/protocols/leases.md`, "Late attempts"): without them ([`Fault::LateAttempt`]) one that was given up, or
//! whose process was killed, comes over what was written since.

use stateright::{Model, Property};

use crate::check::Readable;

const MOUNTS: usize = 2;

/// Number of the grant or opening, and how often an attempt was given up since.
type Turn = (u8, u8);
/// Blocks; each lies on the OSD of its number.
const BLOCKS: usize = 2;

/// Part of the protocol that is left out, to see that the properties notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A write is acknowledged from the memory of the process.
    AckBeforeStage,
    /// The right is given back while pieces are in slots.
    ReturnUnwritten,
    /// OSDs are not told of expelled mounts.
    NoFence,
    /// A successor writes out pieces of whichever epoch.
    ReplayAnyEpoch,
    /// A piece is crossed out when it leaves.
    CrossedOutEarly,
    /// Pieces leave while others that they overlap are on their way.
    Overtaking,
    /// OSDs do not look at turns.
    LateAttempt,
}

impl Fault {
    /// All of them, with their names on the command line.
    pub const ALL: [(&'static str, Self); 7] = [
        ("ack-before-stage", Self::AckBeforeStage),
        ("return-unwritten", Self::ReturnUnwritten),
        ("no-fence", Self::NoFence),
        ("replay-any-epoch", Self::ReplayAnyEpoch),
        ("crossed-out-early", Self::CrossedOutEarly),
        ("overtaking", Self::Overtaking),
        ("late-attempt", Self::LateAttempt),
    ];
}

/// The model.
#[derive(Clone, Debug)]
pub struct Staging {
    /// The blocks that each mount writes, in order.
    pub scripts: [Vec<usize>; MOUNTS],
    /// Faults at most.
    pub faults: u8,
    /// See there.
    pub fault: Option<Fault>,
}

impl Staging {
    /// Both write a block twice and the other one once.
    #[must_use]
    pub fn new(faults: u8) -> Self {
        Self { scripts: [vec![0, 0, 1], vec![0, 1, 0]], faults, fault: None }
    }

    /// Two writes each.
    #[must_use]
    pub fn small(faults: u8) -> Self {
        Self { scripts: [vec![0, 0], vec![0, 1]], faults, fault: None }
    }
}

/// A piece in a slot. Values are given once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Piece {
    value: u8,
    block: usize,
    /// The session's epoch, from the label.
    epoch: u8,
    /// An attempt is on its way, as the process knows.
    sent: bool,
}

/// An attempt, or the answer to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Message {
    mount: usize,
    /// Of the mount's process.
    life: u8,
    turn: Turn,
    epoch: u8,
    block: usize,
    value: u8,
    /// Its sender has made another attempt, and would not hear an answer to this one.
    given_up: bool,
    /// `None`: on its way to the OSD; else whether it was written or refused.
    answer: Option<bool>,
}

#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
struct Mount {
    dead: bool,
    life: u8,
    turn: Turn,
    epoch: u8,
    /// It may write.
    right: bool,
    asks: bool,
    next: usize,
    /// In the order of their beginning.
    slots: Vec<Piece>,
}

/// What the MRC knows.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
struct Mrc {
    epochs: [u8; MOUNTS],
    /// Of the last grant or opening.
    number: u8,
    holder: Option<usize>,
    /// Being expelled: who, and which OSDs have answered.
    fencing: Option<(usize, [bool; BLOCKS])>,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct State {
    mrc: Mrc,
    mounts: [Mount; MOUNTS],
    net: Vec<Message>,
    /// On the OSDs.
    blocks: [u8; BLOCKS],
    /// At each OSD: epochs below are refused.
    fences: [[u8; MOUNTS]; BLOCKS],
    /// At each OSD: the latest turn that it has seen.
    seen: [Turn; BLOCKS],
    /// What each block must be in the end, and whose that is; `None`: it was lost, and told.
    expected: [Option<(usize, u8)>; BLOCKS],
    faults: u8,
    /// A successor wrote something out.
    replayed: bool,
    lost: bool,
    broken: Option<&'static str>,
}

/// See the module. Numbers of messages and pieces are places in the state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the table of the module")]
pub enum Action {
    Take { mount: usize },
    Grant { mount: usize },
    Write { mount: usize },
    Send { mount: usize, at: usize },
    Arrive { at: usize },
    Done { at: usize },
    Return { mount: usize },
    Expel { mount: usize },
    Fence { osd: usize },
    Kill { mount: usize },
    Start { mount: usize },
    GiveUp { at: usize },
}

mod broken {
    pub(super) const LOST: &str = "what was acknowledged is at its OSD or in a slot, or its loss was told";
    pub(super) const FENCED: &str = "no write arrives while somebody else has the right to write";
    pub(super) const SHARED: &str = "nobody else has the right to write while a piece is worth something";
}

impl Model for Staging {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mount = Mount { epoch: 1, ..Mount::default() };
        vec![State {
            mrc: Mrc { epochs: [1; MOUNTS], ..Mrc::default() },
            mounts: [mount.clone(), mount],
            net: Vec::new(),
            blocks: [0; BLOCKS],
            fences: [[0; MOUNTS]; BLOCKS],
            seen: [(0, 0); BLOCKS],
            expected: [None; BLOCKS],
            faults: self.faults,
            replayed: false,
            lost: false,
            broken: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        for mount in 0..MOUNTS {
            self.of_mount(state, mount, actions);
        }
        if let Some((_, told)) = state.mrc.fencing {
            actions.extend((0..BLOCKS).filter(|osd| !told[*osd]).map(|osd| Action::Fence { osd }));
        }
        for (at, message) in state.net.iter().enumerate() {
            if message.answer.is_some() {
                actions.push(Action::Done { at });
                continue;
            }
            actions.push(Action::Arrive { at });
            let waited_for = !message.given_up
                && state.mounts[message.mount].life == message.life
                && !state.mounts[message.mount].dead;
            if state.faults > 0 && waited_for {
                actions.push(Action::GiveUp { at });
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        state.step(self, action);
        state.renumber();
        state.net.sort_unstable();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(broken::LOST, |_, state: &State| state.keeps_all()),
            Property::always(broken::FENCED, |_, state: &State| state.broken != Some(broken::FENCED)),
            Property::always(broken::SHARED, |_, state: &State| !state.is_shared()),
            Property::sometimes("all is written and at the OSDs", |model: &Self, state: &State| {
                let all = |(mount, script): (&Mount, &Vec<usize>)| {
                    mount.next == script.len() && mount.slots.is_empty()
                };
                !state.lost && state.mounts.iter().zip(&model.scripts).all(all)
            }),
            Property::sometimes("the right goes from one mount to the other", |_, state: &State| {
                state.mrc.epochs == [1; MOUNTS] && state.mounts.iter().all(|mount| mount.next > 0)
            }),
            Property::sometimes("a piece is lost and that is told", |_, state: &State| state.lost),
            Property::sometimes("a fence refuses an attempt", |_, state: &State| {
                state.net.iter().any(|message| message.answer == Some(false))
            }),
        ]
        .into_iter()
        .chain((self.faults > 0).then(|| {
            Property::sometimes("a successor writes out what was staged", |_, state: &State| state.replayed)
        }))
        .collect()
    }
}

impl Staging {
    fn of_mount(&self, state: &State, number: usize, actions: &mut Vec<Action>) {
        let mount = &state.mounts[number];
        let others_want = state.mounts.iter().enumerate().any(|(other, one)| other != number && one.asks);
        let holds = state.mrc.holder == Some(number);
        if holds && others_want && state.mrc.fencing.is_none() && state.mrc.epochs[number] == 1 {
            actions.push(Action::Expel { mount: number });
        }
        if mount.dead {
            actions.push(Action::Start { mount: number });
            return;
        }
        if state.faults > 0 {
            actions.push(Action::Kill { mount: number });
        }
        let wants = mount.next < self.scripts[number].len();
        if mount.right {
            if wants {
                actions.push(Action::Write { mount: number });
            }
            if holds && others_want && (mount.slots.is_empty() || self.fault == Some(Fault::ReturnUnwritten))
            {
                actions.push(Action::Return { mount: number });
            }
        } else if wants && !mount.asks {
            actions.push(Action::Take { mount: number });
        }
        if mount.asks && state.mrc.holder.is_none() && state.mrc.fencing.is_none() {
            actions.push(Action::Grant { mount: number });
        }
        for (at, piece) in mount.slots.iter().enumerate() {
            let overlaps = mount.slots[..at].iter().any(|other| other.block == piece.block);
            if !piece.sent && (!overlaps || self.fault == Some(Fault::Overtaking)) {
                actions.push(Action::Send { mount: number, at });
            }
        }
    }
}

impl State {
    fn step(&mut self, model: &Staging, action: Action) {
        match action {
            Action::Take { mount } => self.mounts[mount].asks = true,
            Action::Grant { mount } => {
                self.mrc.holder = Some(mount);
                let epoch = self.mrc.epochs[mount];
                // It hears of an epoch that was raised at the latest now.
                self.tell_lost(mount);
                self.mrc.number += 1;
                let turn = (self.mrc.number, 0);
                let mount = &mut self.mounts[mount];
                (mount.asks, mount.right, mount.epoch, mount.turn) = (false, true, epoch, turn);
            }
            Action::Write { mount } => self.write(model, mount),
            Action::Send { mount, at } => self.send(model, mount, at),
            Action::Arrive { at } => {
                let message = self.net.remove(at);
                self.arrive(model, message);
            }
            Action::Done { at } => {
                let message = self.net.remove(at);
                self.done(message);
            }
            Action::Return { mount } => {
                self.mrc.holder = None;
                self.mounts[mount].right = false;
            }
            Action::Expel { mount } => {
                self.mrc.epochs[mount] += 1;
                self.mrc.fencing = Some((mount, [false; BLOCKS]));
                // Its own time was over before.
                self.mounts[mount].right = false;
            }
            Action::Fence { osd } => self.fence(model, osd),
            Action::Kill { mount } => {
                self.faults -= 1;
                let killed = &mut self.mounts[mount];
                (killed.dead, killed.right, killed.asks) = (true, false, false);
                if model.fault == Some(Fault::AckBeforeStage) {
                    killed.slots.clear();
                }
                for piece in &mut killed.slots {
                    piece.sent = false;
                }
                self.net.retain(|message| message.mount != mount || message.answer.is_none());
            }
            Action::Start { mount } => self.start(model, mount),
            Action::GiveUp { at } => {
                self.faults -= 1;
                self.net[at].given_up = true;
                let Message { mount, value, .. } = self.net[at];
                self.mounts[mount].turn.1 += 1;
                if let Some(piece) = self.mounts[mount].slots.iter_mut().find(|piece| piece.value == value) {
                    piece.sent = false;
                }
            }
        }
    }

    /// Only the order of the numbers matters: they are made small, so that what differs in nothing else is one state.
    fn renumber(&mut self) {
        for mount in &mut self.mounts {
            if mount.dead || !mount.right && mount.slots.is_empty() {
                mount.turn = (0, 0);
            }
        }
        let used = || {
            let mounts = self.mounts.iter().map(|mount| mount.turn.0);
            mounts
                .chain(self.seen.iter().map(|seen| seen.0))
                .chain(self.net.iter().map(|message| message.turn.0))
        };
        let mut numbers: Vec<u8> = std::iter::once(0).chain(used()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let rank = |turn: &mut Turn| {
            let at = numbers.iter().position(|number| *number == turn.0).unwrap_or(0);
            turn.0 = u8::try_from(at).expect("few numbers");
        };
        self.mounts.iter_mut().for_each(|mount| rank(&mut mount.turn));
        self.seen.iter_mut().for_each(rank);
        self.net.iter_mut().for_each(|message| rank(&mut message.turn));
        self.mrc.number = u8::try_from(numbers.len() - 1).expect("few numbers");
    }

    fn write(&mut self, model: &Staging, number: usize) {
        let mount = &mut self.mounts[number];
        let block = model.scripts[number][mount.next];
        mount.next += 1;
        let value = u8::try_from(10 * (number + 1) + mount.next).expect("few writes");
        mount.slots.push(Piece { value, block, epoch: mount.epoch, sent: false });
        self.expected[block] = Some((number, value));
    }

    fn send(&mut self, model: &Staging, number: usize, at: usize) {
        let mount = &mut self.mounts[number];
        let Piece { value, block, epoch, .. } = mount.slots[at];
        let (life, turn) = (mount.life, mount.turn);
        mount.slots[at].sent = true;
        if model.fault == Some(Fault::CrossedOutEarly) {
            mount.slots.remove(at);
        }
        let message =
            Message { mount: number, life, turn, epoch, block, value, given_up: false, answer: None };
        self.net.push(message);
    }

    fn arrive(&mut self, model: &Staging, message: Message) {
        let Message { mount, life, turn, epoch, block, value, given_up, .. } = message;
        let awaited = !given_up && self.mounts[mount].life == life && !self.mounts[mount].dead;
        let seen = &mut self.seen[block];
        if turn < *seen && model.fault != Some(Fault::LateAttempt) {
            // Superseded. Its mount goes beyond, as long as it has the right.
            let sender = &mut self.mounts[mount];
            if awaited && let Some(piece) = sender.slots.iter_mut().find(|piece| piece.value == value) {
                piece.sent = false;
                if sender.right && sender.turn < *seen {
                    sender.turn = (seen.0, seen.1 + 1);
                }
            }
            return;
        }
        *seen = (*seen).max(turn);
        let taken = epoch >= self.fences[block][mount];
        if taken {
            // Before the holder writes, the same bytes once more do no harm.
            if self.mrc.holder.is_some_and(|holder| holder != mount) && self.blocks[block] != value {
                self.broken = Some(broken::FENCED);
            }
            self.blocks[block] = value;
        }
        if awaited {
            self.net.push(Message { answer: Some(taken), ..message });
        }
    }

    fn done(&mut self, message: Message) {
        let mount = &mut self.mounts[message.mount];
        if mount.life != message.life || mount.dead {
            return;
        }
        if message.answer == Some(true) {
            mount.slots.retain(|piece| piece.value != message.value);
        } else {
            self.tell_lost(message.mount);
        }
    }

    /// The mount was expelled: what it had staged under former epochs is lost, and it says so.
    fn tell_lost(&mut self, number: usize) {
        let epoch = self.mrc.epochs[number];
        let mount = &mut self.mounts[number];
        let (kept, gone): (Vec<Piece>, Vec<Piece>) =
            mount.slots.iter().partition(|piece| piece.epoch == epoch);
        mount.slots = kept;
        self.lost |= !gone.is_empty();
        for expected in &mut self.expected {
            *expected = expected.filter(|(_, value)| gone.iter().all(|piece| piece.value != *value));
        }
    }

    fn fence(&mut self, model: &Staging, osd: usize) {
        let Some((mount, mut told)) = self.mrc.fencing else { return };
        told[osd] = true;
        if model.fault != Some(Fault::NoFence) {
            self.fences[osd][mount] = self.mrc.epochs[mount];
        }
        self.mrc.fencing = Some((mount, told));
        if told == [true; BLOCKS] {
            (self.mrc.fencing, self.mrc.holder) = (None, None);
        }
    }

    fn start(&mut self, model: &Staging, number: usize) {
        let epoch = self.mrc.epochs[number];
        self.mrc.number += 1;
        let turn = (self.mrc.number, 0);
        let mount = &mut self.mounts[number];
        (mount.dead, mount.epoch, mount.turn) = (false, epoch, turn);
        mount.life += 1;
        if model.fault == Some(Fault::ReplayAnyEpoch) {
            for piece in &mut mount.slots {
                piece.epoch = epoch;
            }
        }
        if mount.slots.iter().any(|piece| piece.epoch != epoch) {
            self.tell_lost(number);
        }
        let mount = &mut self.mounts[number];
        self.replayed |= !mount.slots.is_empty();
        // It tells what it holds of the files in question, and may go on.
        mount.right = self.mrc.holder == Some(number) && self.mrc.fencing.is_none();
    }

    fn keeps_all(&self) -> bool {
        self.expected.iter().enumerate().all(|(block, expected)| {
            expected.is_none_or(|(mount, value)| {
                let staged = self.mounts[mount].slots.iter().any(|piece| piece.value == value);
                self.blocks[block] == value || staged
            })
        })
    }

    /// A piece that would be written out lies in a slot while another mount has the right.
    fn is_shared(&self) -> bool {
        self.mounts.iter().enumerate().any(|(number, mount)| {
            let worth = mount.slots.iter().any(|piece| piece.epoch == self.mrc.epochs[number]);
            worth && self.mounts.iter().enumerate().any(|(other, one)| other != number && one.right)
        })
    }
}

impl Readable for Staging {
    fn tell(&self, state: &State, action: &Action) -> String {
        match *action {
            Action::Take { mount } => format!("mount {} asks for the right to write", mount + 1),
            Action::Grant { mount } => format!("mount {} gets the right to write", mount + 1),
            Action::Write { mount } => {
                let next = state.mounts[mount].next;
                let block = self.scripts[mount][next];
                format!("mount {} acknowledges {}{} in block {block}", mount + 1, mount + 1, next + 1)
            }
            Action::Send { mount, at } => {
                format!("mount {} sends {:?}", mount + 1, state.mounts[mount].slots[at])
            }
            Action::Arrive { at } => format!("arrives: {:?}", state.net[at]),
            Action::Done { at } => format!("heard: {:?}", state.net[at]),
            Action::Return { mount } => format!("mount {} gives the right back", mount + 1),
            Action::Expel { mount } => format!("mount {} is expelled, its epoch raised", mount + 1),
            Action::Fence { osd } => format!("OSD {} answers the fence", osd + 1),
            Action::Kill { mount } => format!("FAULT mount {} is killed", mount + 1),
            Action::Start { mount } => format!("a successor of mount {} starts", mount + 1),
            Action::GiveUp { at } => format!("FAULT given up, and still on its way: {:?}", state.net[at]),
        }
    }

    fn show(&self, state: &State) -> String {
        format!("blocks {:?}, expected {:?}", state.blocks, state.expected)
    }
}
