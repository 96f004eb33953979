//! What there is: the DIR's map, the OSDs with their engines and disks, what is on its way, the clients, and what they saw.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use osd::engine::replication::{Column, Kept, LEASE, Lists, PARKED, Reply, Role, Version, Word, role};
use proto::dir::{OsdEntry, OsdMap, OsdState};

use super::{Fault, Replication};

/// OSDs; the one at place `n` has the number `n + 1`.
pub(super) const NODES: usize = 3;
/// It is always now: engines hear of time only by ticks that lie after it.
pub(super) const NOW: Duration = Duration::from_secs(1000);
/// The object.
pub(super) const OBJECT: u64 = 0;

/// What a client does. Values are 1, 2, ..., each written once; 0 is what was there at first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// Writes this value.
    Write(u8),
    /// Reads of whoever leads.
    Read,
    /// Reads what a majority says the same of, leading or not.
    Clean,
}

/// Who waits at an engine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Waiter {
    Client(usize),
    /// A client whose read saw this value; `later`: of an epoch before.
    Seen {
        client: usize,
        value: u8,
        later: bool,
    },
    Osd {
        osd: usize,
        life: u8,
        call: u64,
    },
    Nobody,
}

/// What OSDs ask one another.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Body {
    Ask { map: u64 },
    Apply { base: Version, number: u64, value: u8 },
    Install { version: Version, value: u8 },
    Fetch,
    Adopt,
    Sync,
    Confirm,
}

/// What they answer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Said {
    Reply(Reply),
    Copy { version: Version, value: u8 },
    Old(u64),
    Lost,
}

/// A message on its way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Message {
    /// `since`: what the asker's map says of the receiver, so for which life it is meant. `given_up`: nobody waits for the
    /// answer any more.
    Question {
        from: usize,
        to: usize,
        since: u64,
        call: u64,
        epoch: u64,
        body: Body,
        given_up: bool,
    },
    Answer {
        from: usize,
        to: usize,
        call: u64,
        fetch: bool,
        what: Said,
    },
}

impl Message {
    pub(super) fn is_given_up(&self) -> bool {
        matches!(self, Self::Question { given_up: true, .. })
    }
}

impl fmt::Display for Message {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Question { from, to, epoch, body, given_up, .. } => {
                let late = if *given_up { ", which nobody waits for," } else { "" };
                write!(out, "{} asks {}{late} in epoch {epoch}: {body:?}", from + 1, to + 1)
            }
            Self::Answer { from, to, what, .. } => write!(out, "{} answers {}: {what:?}", from + 1, to + 1),
        }
    }
}

/// What the map says of an OSD.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Entry {
    pub(super) up: bool,
    pub(super) since: u64,
}

/// The map.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Map {
    pub(super) epoch: u64,
    pub(super) osds: [Entry; NODES],
}

impl Map {
    pub(super) fn set(&mut self, osd: usize, up: bool) {
        self.epoch += 1;
        self.osds[osd] = Entry { up, since: self.epoch };
    }

    /// By the function that the product has for it.
    pub(super) fn role(&self) -> Role {
        let entry = |(osd, entry): (u64, &Entry)| OsdEntry {
            osd,
            since_epoch: entry.since,
            state: if entry.up { OsdState::Up } else { OsdState::Down } as i32,
            ..OsdEntry::default()
        };
        let osds = (1..).zip(&self.osds).map(entry).collect();
        let lists = Lists { view: 1, list: (1..=NODES as u64).collect(), ..Lists::default() };
        role(&OsdMap { epoch: self.epoch, osds, dirs: Vec::new() }, &lists)
    }

    fn primary(&self) -> Option<usize> {
        self.osds.iter().position(|entry| entry.up)
    }
}

/// What outlives the process: object and record of the column.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Disk {
    pub(super) version: Version,
    pub(super) value: u8,
    pub(super) adopted: u64,
    pub(super) doubtful: bool,
}

/// An OSD.
#[derive(Clone, Hash, Debug)]
pub(super) struct Node {
    pub(super) runs: bool,
    /// Counts the runs of the process.
    pub(super) life: u8,
    /// As it knows it.
    pub(super) map: Option<Map>,
    /// The map by which it heard of its present epoch first.
    pub(super) heard: u64,
    /// A lease has passed since.
    pub(super) passed: bool,
    /// Its lease at the DIR holds.
    pub(super) leased: bool,
    pub(super) column: Option<Column<u8, Waiter>>,
    pub(super) disk: Disk,
}

/// A client: one operation at a time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Client {
    /// Operations begun and ended.
    pub(super) next: usize,
    /// Where the present one waits.
    pub(super) at: Option<usize>,
    /// Which OSD gave data for a clean read, what it said of it, and the data.
    pub(super) given: Option<(usize, Word, u8)>,
    /// Values that its read must not see.
    pub(super) forbidden: u8,
    /// What it read last, and whether that came from an epoch before.
    pub(super) read: Option<(u8, bool)>,
}

impl Client {
    pub(super) fn idle(&self, script: &[Op]) -> bool {
        self.at.is_none() && self.given.is_none() && self.next < script.len()
    }
}

/// What must be true of what was seen; sets of values are bits.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct History {
    /// Values that were acknowledged or read.
    pub(super) settled: u8,
    /// Of each value: what was settled when its write began.
    before: [u8; 4],
    /// What nobody may read any more who begins now.
    pub(super) superseded: u8,
    /// Who committed: (epoch, OSD, life).
    pub(super) commits: Vec<(u64, usize, u8)>,
    /// The newest version that was acknowledged.
    pub(super) acknowledged: Version,
}

impl History {
    pub(super) fn begin(&mut self, value: u8) {
        self.before[usize::from(value)] = self.settled;
    }

    pub(super) fn settle(&mut self, value: u8) {
        self.settled |= 1 << value;
        self.superseded |= self.before[usize::from(value)];
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct State {
    pub(super) map: Map,
    pub(super) osds: [Node; NODES],
    pub(super) net: Vec<Message>,
    pub(super) clients: [Client; 2],
    pub(super) history: History,
    /// Faults that may still happen.
    pub(super) faults: u8,
    /// An OSD has lost power.
    pub(super) powerless: bool,
    /// What a step saw that must not be.
    pub(super) broken: Option<&'static str>,
}

impl State {
    /// All are up and equal; the first OSD has opened the column, which is empty.
    pub(super) fn opened(model: &Replication) -> Self {
        let entry = |since| Entry { up: true, since };
        let map = Map { epoch: 3, osds: [entry(1), entry(2), entry(3)] };
        let node = Node {
            runs: true,
            life: 0,
            map: Some(map),
            heard: map.epoch,
            passed: false,
            leased: true,
            column: None,
            disk: Disk::default(),
        };
        let history = History {
            settled: 1,
            before: [0; 4],
            superseded: 0,
            commits: Vec::new(),
            acknowledged: Version::default(),
        };
        let mut state = Self {
            map,
            osds: [node.clone(), node.clone(), node],
            net: Vec::new(),
            clients: [Client::default(); 2],
            history,
            faults: model.faults,
            powerless: false,
            broken: None,
        };
        let honest = Replication { fault: None, ..model.clone() };
        state.touch(&honest, 0);
        while !state.net.is_empty() {
            state.step(&honest, super::Action::Deliver { at: 0 });
        }
        assert!(state.osds[0].column.as_ref().is_some_and(Column::is_serving), "nothing was in its way");
        state
    }

    /// It runs, knows itself, and leads by the map that it knows.
    pub(super) fn believes_to_lead(&self, osd: usize) -> bool {
        let node = &self.osds[osd];
        node.runs && node.map.is_some_and(|map| map.primary() == Some(osd))
    }

    /// It leads by its map and does not by the newest.
    pub(super) fn is_deposed(&self, osd: usize) -> bool {
        self.believes_to_lead(osd) && self.map.primary() != Some(osd)
    }

    /// It opens the column and may have to wait until nobody has an older lease.
    pub(super) fn waits_for_a_lease(&self, osd: usize) -> bool {
        let node = &self.osds[osd];
        let opens = node.column.as_ref().is_some_and(|column| {
            let due = column.next_tick().is_some();
            due && column.promised() == column.role().epoch && !column.is_serving()
        });
        opens && !node.passed && self.believes_to_lead(osd)
    }

    /// Something happens there in the next moments if nothing else does.
    pub(super) fn has_tick(&self, osd: usize) -> bool {
        let due = self.osds[osd].column.as_ref().and_then(Column::next_tick);
        due.is_some_and(|due| due <= NOW + PARKED)
    }

    /// When the engine has waited for a lease.
    pub(super) fn after_a_lease() -> Duration {
        NOW + LEASE
    }

    /// All is up, has heard of it, and nothing is on its way.
    pub(super) fn is_quiet(&self) -> bool {
        let calm = |osd: usize| {
            let node = &self.osds[osd];
            let current = node.runs && node.leased && node.map == Some(self.map) && self.map.osds[osd].up;
            current && !self.has_tick(osd) && !self.waits_for_a_lease(osd)
        };
        self.net.is_empty() && (0..NODES).all(calm)
    }

    pub(super) fn all_answered(&self) -> bool {
        self.clients.iter().all(|client| client.at.is_none())
    }

    /// Invariant 1 of the page. A doubtful replica counts: it is asked only together with those that are not.
    pub(super) fn holds_acknowledged(&self) -> bool {
        let wanted = self.history.acknowledged;
        let holds = |node: &&Node| {
            let disk = &node.disk;
            disk.doubtful || disk.adopted >= wanted.epoch && disk.version >= wanted
        };
        wanted == Version::default() || self.osds.iter().filter(holds).count() > NODES / 2
    }

    /// Invariant 3 of the page.
    pub(super) fn same_bytes(&self) -> bool {
        let disks = || self.osds.iter().map(|node| node.disk);
        disks().all(|one| disks().all(|other| one.version != other.version || one.value == other.value))
    }

    /// What an OSD says of the object.
    pub(super) fn word(&self, model: &Replication, osd: usize) -> Option<Word> {
        let node = &self.osds[osd];
        let role = node.map.filter(|_| node.runs)?.role();
        let Disk { version, adopted, doubtful, .. } = node.disk;
        let fresh;
        let column = match &node.column {
            Some(column) => column,
            None => {
                fresh = Column::<u8, Waiter>::new(osd as u64 + 1, role, 0);
                &fresh
            }
        };
        let adopted = if model.fault == Some(Fault::OpenNotAsked) { column.promised() } else { adopted };
        let doubtful = doubtful && model.fault != Some(Fault::DoubtfulSays);
        column.word(OBJECT, Kept { adopted, doubtful, local: version, damaged: false }).ok()
    }

    fn meaning(&self, osd: usize, call: u64) -> u64 {
        self.osds[osd].column.as_ref().map_or(0, |column| column.meaning(call))
    }

    /// Of a message: all but the name of its call, which stands for what it means to who waits.
    fn gist(&self, message: &Message) -> u64 {
        let mut hasher = DefaultHasher::new();
        match message {
            Message::Question { from, to, since, call, epoch, body, given_up } => {
                let meaning = if *given_up { 0 } else { self.meaning(*from, *call) };
                // Who asked what nobody waits for is all the same.
                let from = if *given_up { 0 } else { *from };
                (0u8, from, to, since, epoch, body, given_up, meaning).hash(&mut hasher);
            }
            Message::Answer { from: _, to, call, fetch, what } => {
                (1u8, to, fetch, what, self.meaning(*to, *call)).hash(&mut hasher);
            }
        }
        hasher.finish()
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Self { map, osds, net, clients, history, faults, powerless, broken } = self;
        (map, osds, clients, history, faults, powerless, broken).hash(hasher);
        let mut gists: Vec<u64> = net.iter().map(|message| self.gist(message)).collect();
        gists.sort_unstable();
        gists.hash(hasher);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        let print = |state: &Self| {
            let mut hasher = DefaultHasher::new();
            state.hash(&mut hasher);
            hasher.finish()
        };
        print(self) == print(other)
    }
}
