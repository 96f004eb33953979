//! The scenario of replicated columns: OSDs with the real replication engine over simulated stores, a DIR that hands out
//! leases and maps, clients that write, read, cut and sync, faults, and a quiet end in which all must agree.

mod check;
mod client;
mod nemesis;
mod node;
mod reads;
mod views;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use proto::dir::{OsdEntry, OsdMap, OsdState};

use crate::invariants::Violation;
use crate::net::{Net, Weather};
use crate::raft::{Outcome, Plan};
use crate::world::World;
use check::Checks;
use client::Client;
use node::{Content, Node};
use osd::engine::replication::{Lists, Version, Word};
pub use reads::Broken;
use reads::{Look, Question};
use wire::Delivery;

/// Heartbeats of OSDs.
const HEARTBEAT: Duration = Duration::from_millis(300);
/// Lease at the DIR.
const LEASE: Duration = Duration::from_millis(1500);
/// What an OSD believes of it: a tenth less.
const LEASE_BELIEVED: Duration = Duration::from_millis(1350);
/// A refused connection is known at the DIR after this at most.
const EVIDENCE_MOST_US: u64 = 300_000;
/// A call between OSDs is given up after this.
const CALL_PATIENCE: Duration = Duration::from_millis(300);
/// A client's attempt is given up after this; no OSD begins with it later.
const CLIENT_PATIENCE: Duration = Duration::from_millis(500);
/// How long the quiet phase may take until all agree.
const PATIENCE: Duration = Duration::from_secs(30);
/// Objects of a column.
const OBJECTS: u64 = 3;
/// Blocks of an object.
const BLOCKS: u32 = 4;

/// What can happen.
#[derive(Debug)]
pub(crate) enum Event {
    Tick {
        node: u64,
        life: u64,
        column: u64,
    },
    Deliver(Box<Delivery>),
    Worked {
        node: u64,
        life: u64,
        column: u64,
        work: u64,
    },
    Push {
        node: u64,
        life: u64,
        column: u64,
        call: u64,
        osd: u64,
        epoch: u64,
        object: u64,
        has: Option<Version>,
    },
    CallOver {
        node: u64,
        life: u64,
        column: u64,
        call: u64,
    },
    Heartbeat {
        node: u64,
        life: u64,
    },
    BeatArrives {
        node: u64,
        life: u64,
        sent: Duration,
    },
    BeatAnswered {
        node: u64,
        life: u64,
        sent: Duration,
        map: OsdMap,
    },
    Evidence {
        node: u64,
        life: u64,
    },
    LeaseCheck {
        node: u64,
    },
    ClientLearns {
        client: u64,
        map: OsdMap,
    },
    Request {
        client: u64,
        attempt: u64,
        node: u64,
        sent: Duration,
        lists: Lists,
    },
    Answer {
        client: u64,
        attempt: u64,
        result: Result<u64, ()>,
    },
    Hedge {
        client: u64,
        attempt: u64,
    },
    Question(Box<Question>),
    Look(Box<Look>),
    Said {
        client: u64,
        attempt: u64,
        node: u64,
        said: Option<(Word, u64)>,
    },
    GiveUp {
        client: u64,
        attempt: u64,
    },
    Begin {
        client: u64,
    },
    Fault,
    Start {
        node: u64,
    },
    NewLife {
        node: u64,
        life: u64,
    },
    Resume {
        node: u64,
    },
    Mend {
        node: u64,
    },
    Touch {
        column: u64,
    },
    Demote {
        column: u64,
        view: u64,
    },
    Clear {
        node: u64,
        column: u64,
        view: u64,
    },
    Heal,
    Quiet,
}

impl Event {
    /// The process that it happens in.
    fn happens_in(&self) -> Option<u64> {
        match self {
            Event::Tick { node, .. }
            | Event::Worked { node, .. }
            | Event::Push { node, .. }
            | Event::CallOver { node, .. }
            | Event::Heartbeat { node, .. }
            | Event::BeatAnswered { node, .. }
            | Event::Request { node, .. } => Some(*node),
            Event::Deliver(delivery) => Some(delivery.to),
            Event::Question(question) => Some(question.node),
            Event::Look(look) => Some(look.node),
            _ => None,
        }
    }
}

/// The DIR: always there, reached over the net.
struct Dir {
    map: OsdMap,
    lease_until: BTreeMap<u64, Duration>,
}

/// See the module.
pub struct Sim {
    world: World<Event>,
    net: Net,
    dir: Dir,
    /// The lists of each column, as the MRC has them.
    lists: BTreeMap<u64, Lists>,
    nodes: BTreeMap<u64, Node>,
    clients: Vec<Client>,
    values: u64,
    checks: Checks,
    blackout: bool,
    /// Ways that are cut stay cut at least until then.
    cut_until: Duration,
    quiet: bool,
    quiet_since: Duration,
    faults: BTreeMap<&'static str, u64>,
    broken: Option<Broken>,
}

/// The DIR in the net.
const DIR: u64 = 1000;

/// A block of a column as the invariants know it.
fn block_id(column: u64, object: u64, block: u32) -> u64 {
    (column * OBJECTS + object) * u64::from(BLOCKS) + u64::from(block)
}

/// Runs a plan to its end.
#[must_use]
pub fn run(plan: Plan) -> Outcome {
    run_broken(plan, None)
}

/// The same without one of the conditions.
#[must_use]
pub fn run_broken(plan: Plan, broken: Option<Broken>) -> Outcome {
    let mut sim = Sim::new(plan);
    sim.broken = broken;
    let violation = sim.run(plan.steps).err();
    if let Some(violation) = &violation {
        sim.world.note(format_args!("VIOLATION {violation}"));
    }
    Outcome {
        violation,
        log: sim.world.log().to_owned(),
        events: sim.world.happened(),
        operations: sim.clients.iter().map(|client| client.done).sum(),
        faults: sim.faults,
    }
}

impl Sim {
    fn new(plan: Plan) -> Self {
        let mut world = World::new(plan.seed, plan.keep_log);
        let replicas = [3, 3, 3, 5, 2][usize::try_from(world.below(5)).unwrap_or(0)];
        // One more than a list has: lists change.
        let size = (replicas + 1).max(4);
        let nodes: BTreeMap<u64, Node> = (1..=size).map(|id| (id, Node::new(id))).collect();
        let columns = 1 + world.below(3);
        let all = world.percent(if replicas == 2 { 70 } else { 20 });
        let lists: BTreeMap<u64, Lists> = (0..columns)
            .map(|column| {
                let first = world.below(size);
                let list = (0..replicas).map(|at| (first + at) % size + 1).collect();
                (column, Lists { view: 1, list, all, ..Lists::default() })
            })
            .collect();
        let clients = (0..2 + world.below(3)).map(|id| Client::new(id, lists.clone())).collect();
        world.note(format_args!("seed {} size {size} lists {lists:?}", plan.seed));
        Self {
            world,
            net: Net::default(),
            dir: Dir { map: OsdMap::default(), lease_until: BTreeMap::new() },
            lists,
            nodes,
            clients,
            values: 0,
            checks: Checks::default(),
            blackout: plan.blackout,
            cut_until: Duration::ZERO,
            quiet: false,
            quiet_since: Duration::ZERO,
            faults: BTreeMap::new(),
            broken: None,
        }
    }

    fn run(&mut self, steps: u64) -> Result<(), Violation> {
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.start(node);
        }
        for client in 0..self.clients.len() as u64 {
            let delay = self.world.micros(100_000, 800_000);
            self.world.after(delay, Event::Begin { client });
        }
        self.world.after(Duration::from_millis(700), Event::Fault);
        loop {
            if !self.quiet && self.world.happened() >= steps {
                self.begin_quiet();
            }
            let Some(event) = self.world.next_event() else { return Ok(()) };
            self.happen(event)?;
            if self.quiet && self.is_over()? {
                return self.finish();
            }
        }
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        let event = match event.happens_in() {
            Some(node) if self.nodes[&node].paused => {
                self.node(node).waiting.push(event);
                return Ok(());
            }
            _ => event,
        };
        match event {
            Event::Deliver(delivery) => self.deliver(*delivery),
            Event::Push { node, life, column, call, osd, epoch, object, has } => {
                self.push(node, life, column, call, osd, epoch, object, has);
            }
            Event::Tick { node, life, column } => self.tick(node, life, column),
            Event::Worked { node, life, column, work } => self.worked(node, life, column, work)?,
            Event::CallOver { node, life, column, call } => self.call_over(node, life, column, call),
            Event::Heartbeat { node, life } => self.heartbeat(node, life),
            Event::BeatArrives { node, life, sent } => self.beat_arrives(node, life, sent),
            Event::BeatAnswered { node, life, sent, map } => self.beat_answered(node, life, sent, map),
            Event::Evidence { node, life } => self.evidence(node, life),
            Event::LeaseCheck { node } => self.lease_check(node),
            Event::ClientLearns { client, map } => self.client_learns(client, map),
            Event::Request { client, attempt, node, sent, lists } => {
                self.request(client, attempt, node, sent, lists);
            }
            Event::Answer { client, attempt, result } => self.client_answer(client, attempt, result)?,
            Event::Hedge { client, attempt } => self.hedge(client, attempt),
            Event::Question(question) => self.question(*question),
            Event::Look(look) => self.looked(*look),
            Event::Said { client, attempt, node, said } => self.said(client, attempt, node, said)?,
            Event::GiveUp { client, attempt } => self.give_up(client, attempt),
            Event::Begin { client } => self.begin(client),
            Event::Fault => {
                if !self.quiet {
                    self.fault();
                    let pause = self.world.micros(20_000, 900_000);
                    self.world.after(pause, Event::Fault);
                }
            }
            Event::Start { node } => {
                if !self.nodes[&node].runs {
                    self.start(node);
                }
            }
            Event::NewLife { node, life } => {
                if self.lives(node, life) {
                    self.end_process(node, false);
                    self.start(node);
                }
            }
            Event::Resume { node } => self.resume(node),
            Event::Mend { node } => self.mend(node)?,
            Event::Touch { column } => self.touch(column),
            Event::Demote { column, view } => self.demote(column, view),
            Event::Clear { node, column, view } => self.clear(node, column, view),
            Event::Heal => {
                if self.world.now() >= self.cut_until {
                    self.net.heal();
                }
            }
            Event::Quiet => self.world.after(Duration::from_millis(100), Event::Quiet),
        }
        Ok(())
    }

    /// A process begins: it knows nothing but its disk.
    fn start(&mut self, id: u64) {
        let life = self.node(id).start();
        self.world.note(format_args!("start {id} life {life}"));
        self.world.after(Duration::from_millis(1), Event::Heartbeat { node: id, life });
    }

    fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).expect("nodes are never removed")
    }

    fn lives(&self, id: u64, life: u64) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.runs && node.life == life)
    }

    fn heartbeat(&mut self, node: u64, life: u64) {
        if !self.lives(node, life) {
            return;
        }
        self.world.after(HEARTBEAT, Event::Heartbeat { node, life });
        let sent = self.world.now();
        for delay in self.net.fate(&mut self.world, node, DIR) {
            self.world.after(delay, Event::BeatArrives { node, life, sent });
        }
    }

    fn beat_arrives(&mut self, node: u64, life: u64, sent: Duration) {
        // A process that is gone does not come back by a late message: its connection is closed.
        if !self.lives(node, life) {
            return;
        }
        let now = self.world.now();
        self.dir.lease_until.insert(node, now + LEASE);
        self.world.after(LEASE, Event::LeaseCheck { node });
        self.dir_sets(node, true, life);
        let map = self.dir.map.clone();
        for delay in self.net.fate(&mut self.world, DIR, node) {
            self.world.after(delay, Event::BeatAnswered { node, life, sent, map: map.clone() });
        }
    }

    fn dir_sets(&mut self, node: u64, up: bool, life: u64) {
        let state = if up { OsdState::Up } else { OsdState::Down } as i32;
        let epoch = self.dir.map.epoch + 1;
        let osds = &mut self.dir.map.osds;
        let at = match osds.binary_search_by_key(&node, |entry| entry.osd) {
            Ok(at) => at,
            Err(at) => {
                osds.insert(at, OsdEntry { osd: node, ..OsdEntry::default() });
                at
            }
        };
        let entry = &mut osds[at];
        if (entry.state, entry.life) == (state, life) {
            return;
        }
        (entry.state, entry.life, entry.since_epoch) = (state, life, epoch);
        self.dir.map.epoch = epoch;
        self.world.note(format_args!("map {epoch}: OSD {node} life {life} up {up}"));
        self.publish();
    }

    /// Others find an OSD slow, or not any more.
    fn dir_changes_pace(&mut self, node: u64) -> bool {
        let epoch = self.dir.map.epoch + 1;
        let Some(entry) = self.dir.map.osds.iter_mut().find(|entry| entry.osd == node) else { return false };
        (entry.slow, entry.slow_since) = (!entry.slow, epoch);
        let slow = entry.slow;
        self.dir.map.epoch = epoch;
        self.world.note(format_args!("map {epoch}: OSD {node} slow {slow}"));
        self.publish();
        true
    }

    /// Everybody hears of the map, sooner or later or with the next heartbeat.
    fn publish(&mut self) {
        let map = self.dir.map.clone();
        for client in 0..self.clients.len() as u64 {
            // Some clients go on for long with the map that they have.
            let most = if self.world.percent(30) { 4_000_000 } else { 100_000 };
            let delay = self.world.micros(500, most);
            self.world.after(delay, Event::ClientLearns { client, map: map.clone() });
        }
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            let life = self.nodes[&node].life;
            if self.world.percent(20) {
                continue;
            }
            for delay in self.net.fate(&mut self.world, DIR, node) {
                // Not an answer to a heartbeat: it renews no lease.
                let event = Event::BeatAnswered { node, life, sent: Duration::ZERO, map: map.clone() };
                self.world.after(delay, event);
            }
        }
    }

    fn beat_answered(&mut self, id: u64, life: u64, sent: Duration, map: OsdMap) {
        if !self.lives(id, life) {
            return;
        }
        let now = self.world.now();
        let node = self.node(id);
        if sent > Duration::ZERO {
            node.lease_until = node.lease_until.max(sent + LEASE_BELIEVED);
        }
        let shows_life = map.osds.iter().any(|entry| entry.osd == id && entry.life == life);
        if map.epoch <= node.map.epoch || !shows_life {
            return;
        }
        node.heard.push((map.epoch, now));
        node.map = map;
        for column in node.columns.keys().copied().collect::<Vec<_>>() {
            let role = self.role(id, column);
            self.tell(id, column, osd::engine::replication::Event::Map(role));
        }
    }

    fn evidence(&mut self, node: u64, life: u64) {
        let known = self.dir.map.osds.iter().find(|entry| entry.osd == node).map(|entry| entry.life);
        if !self.lives(node, life) && known == Some(life) {
            self.dir_sets(node, false, life);
        }
    }

    fn lease_check(&mut self, node: u64) {
        let over = self.dir.lease_until.get(&node).is_none_or(|until| *until <= self.world.now());
        let known = self.dir.map.osds.iter().find(|entry| entry.osd == node).map(|entry| entry.life);
        if let (true, Some(life)) = (over, known) {
            self.dir_sets(node, false, life);
        }
    }

    fn begin_quiet(&mut self) {
        self.world.note(format_args!("quiet"));
        self.quiet = true;
        self.quiet_since = self.world.now();
        self.net.heal();
        self.net.weather = Weather::FAIR;
        if self.blackout {
            self.checks.blackout();
        }
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            if self.blackout {
                self.end_process(id, true);
            }
            let node = self.node(id);
            (node.paused, node.full) = (false, false);
            if !self.nodes[&id].runs {
                self.world.after(Duration::from_millis(200), Event::Start { node: id });
            }
        }
        for client in &mut self.clients {
            client.reads_all();
            // The client's machine goes too: answers on their way are for nobody.
            if self.blackout && client.op.take().is_some() {
                let begin = Event::Begin { client: client.id };
                self.world.after(Duration::from_millis(300), begin);
            }
        }
        self.world.after(Duration::from_millis(100), Event::Quiet);
    }

    /// Every client has read all blocks, and all columns agree.
    fn is_over(&self) -> Result<bool, Violation> {
        if self.world.now() > self.quiet_since + PATIENCE {
            return Err(Violation::new("liveness", self.describe()));
        }
        let begun = self.world.now() > self.quiet_since + Duration::from_secs(3);
        if !begun || self.clients.iter().any(|client| !client.is_through()) {
            return Ok(false);
        }
        let mended = self.nodes.values().all(|node| node.damaged.is_empty());
        let settled = self.lists.values().all(|lists| lists.previous.is_empty() && lists.learners.is_empty());
        Ok(mended && settled && self.lists.keys().all(|column| self.converged(*column).is_ok()))
    }

    fn converged(&self, column: u64) -> Result<(), Violation> {
        let list = &self.lists[&column].list;
        let replicas: Vec<_> = list.iter().map(|osd| (*osd, self.nodes[osd].objects_of(column))).collect();
        let lag = list
            .iter()
            .filter_map(|osd| self.nodes[osd].columns.get(&column))
            .filter(|column| column.is_serving())
            .map(osd::engine::replication::Column::lag)
            .next()
            // A column that is in sync and that nobody uses may be forgotten.
            .unwrap_or_default();
        crate::invariants::replicas_converge::converged(column, &replicas, lag)
    }

    fn finish(&mut self) -> Result<(), Violation> {
        self.world.note(format_args!("over"));
        for (column, lists) in &self.lists {
            self.converged(*column)?;
            let node = &self.nodes[&lists.list[0]];
            for object in 0..OBJECTS {
                let content = node.content(*column, object);
                for block in 0..BLOCKS {
                    let value = content.map_or(0, |content: &Content| content.value(block));
                    self.checks.lost.finally(block_id(*column, object, block), value)?;
                }
            }
        }
        Ok(())
    }

    fn describe(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::from("not all agree and answer:");
        for (column, lists) in &self.lists {
            let _ = write!(text, " [column {column} {lists:?}]");
            if let Err(why) = self.converged(*column) {
                // Writing to a string cannot fail.
                let _ = write!(text, " [{why}]");
            }
        }
        for node in self.nodes.values() {
            let (id, runs, epoch) = (node.id, node.runs, node.map.epoch);
            let _ = write!(text, " [OSD {id} runs {runs} map {epoch} damaged {:?}]", node.damaged);
        }
        for client in &self.clients {
            let _ =
                write!(text, " [client {} op {:?} through {}]", client.id, client.op, client.is_through());
        }
        text
    }
}

#[cfg(test)]
mod tests;
