//! The scenario of one Raft group: members, clients that count, faults, and a quiet end in which all must agree.

mod check;
mod client;
mod nemesis;
mod node;
mod state;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proto::id::GroupId;
use proto::rpc::Origin;
use quorum::replica::Input;
use quorum::store::SyncJob;
use quorum::{Durability, QuorumError};

use crate::invariants::Violation;
use crate::net::{Net, Weather};
use crate::world::World;
use check::Checks;
use client::{Client, Task};
use nemesis::Fault;
use node::Node;

/// The group of the scenario.
pub const GROUP: GroupId = GroupId(9);
/// Its tick.
pub const TICK: Duration = Duration::from_millis(50);
/// How long the quiet phase may take until all agree.
const PATIENCE: Duration = Duration::from_secs(30);
/// A client sends again after this.
const CLIENT_PATIENCE: Duration = Duration::from_millis(400);

/// Reads of the clients, in turn.
const READS_PERCENT: [u64; 4] = [10, 100, 40, 100];

/// Who waits for an answer of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpRef {
    /// A client's attempt.
    Client {
        /// Its number.
        client: u64,
        /// Which attempt.
        attempt: u64,
    },
    /// Nobody.
    Nobody,
}

/// What can happen.
pub(crate) enum Event {
    Tick {
        node: u64,
        life: u64,
    },
    Deliver {
        to: u64,
        from: u64,
        incarnation: u64,
        message: Bytes,
    },
    Synced {
        node: u64,
        life: u64,
        job: SyncJob,
    },
    Flushed {
        node: u64,
        life: u64,
        index: u64,
    },
    Request {
        client: u64,
        attempt: u64,
        node: u64,
    },
    Answer {
        client: u64,
        attempt: u64,
        result: Result<Answer, QuorumError>,
    },
    Retry {
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
    Room {
        node: u64,
        life: u64,
    },
    /// A copy of an attempt that was on its way for long: its client may have gone on since.
    Late {
        node: u64,
        origin: Origin,
        command: Bytes,
    },
    Heal,
    Quiet,
}

/// What a client gets.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// The state machine's answer.
    Written(String),
    /// Applied index of the state that was read.
    Read(u64),
}

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// Events in the phase with faults.
    pub steps: u64,
    /// Whether to keep the log.
    pub keep_log: bool,
    /// The faults end with the loss of power of all machines at once. In class `quorum` acknowledged commands may
    /// be lost then; the group must come back all the same, and all members must agree.
    pub blackout: bool,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// What was seen that must not be.
    pub violation: Option<Violation>,
    /// What happened, if it was kept.
    pub log: String,
    /// Events.
    pub events: u64,
    /// Operations answered.
    pub operations: u64,
    /// Faults by name.
    pub faults: BTreeMap<&'static str, u64>,
}

/// See the module.
pub struct Sim {
    world: World<Event>,
    net: Net,
    durability: Durability,
    /// Members change in this run. In class `quorum` then nobody loses power: which losses are a minority would
    /// depend on changes that nobody knows to be committed.
    changes: bool,
    nodes: BTreeMap<u64, Node>,
    clients: Vec<Client>,
    next_op: u64,
    checks: Checks,
    blackout: bool,
    /// Faults are over.
    quiet: bool,
    quiet_since: Duration,
    faults: BTreeMap<&'static str, u64>,
}

/// Runs a plan to its end.
#[must_use]
pub fn run(plan: Plan) -> Outcome {
    let mut sim = Sim::new(plan);
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
        let durability = if world.percent(50) { Durability::Quorum } else { Durability::Disk };
        let changes = world.percent(50);
        let size = [3, 3, 3, 5, 1][usize::try_from(world.below(5)).unwrap_or(0)];
        let first: Vec<u64> = (1..=size).collect();
        let nodes = first.iter().map(|id| (*id, Node::new(&mut world, *id, first.clone()))).collect();
        let clients =
            (0..2 + world.below(4)).map(|id| Client::new(id, READS_PERCENT[id as usize % 4])).collect();
        world.note(format_args!("seed {} size {size} {durability:?}", plan.seed));
        Self {
            world,
            net: Net::default(),
            durability,
            changes,
            nodes,
            clients,
            next_op: 1,
            checks: Checks::default(),
            blackout: plan.blackout,
            quiet: false,
            quiet_since: Duration::ZERO,
            faults: BTreeMap::new(),
        }
    }

    fn run(&mut self, steps: u64) -> Result<(), Violation> {
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.start(node)?;
        }
        for client in 0..self.clients.len() as u64 {
            let delay = self.world.micros(0, 800_000);
            self.world.after(delay, Event::Begin { client });
        }
        self.world.after(Duration::from_millis(700), Event::Fault);
        loop {
            if !self.quiet && self.world.happened() >= steps {
                self.begin_quiet()?;
            }
            let Some(event) = self.world.next_event() else { return Ok(()) };
            self.happen(event)?;
            if self.quiet && self.is_over()? {
                return self.finish();
            }
        }
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Tick { node, life } => {
                if self.lives(node, life) {
                    self.schedule_tick(node);
                    self.tell(node, Input::Tick)?;
                }
            }
            Event::Deliver { to, from, incarnation, message } => {
                if self.world.keeps_log() {
                    let text = quorum::replica::describe(&message);
                    self.world.note(format_args!("{from}.{incarnation} to {to}: {text}"));
                }
                self.tell(to, Input::Deliver { from, incarnation, messages: vec![message] })?;
            }
            Event::Synced { node, life, job } => {
                if self.lives(node, life) {
                    let result = job.run();
                    self.tell(node, Input::Synced(job, result))?;
                }
            }
            Event::Flushed { node, life, index } => {
                if self.lives(node, life) {
                    let result = rt::table::Table::flush(&self.nodes[&node].machine.table);
                    self.tell(node, Input::Flushed(index, result))?;
                }
            }
            Event::Request { client, attempt, node } => self.request(client, attempt, node)?,
            Event::Answer { client, attempt, result } => self.answer(client, attempt, result)?,
            Event::Retry { client, attempt } => self.retry(client, attempt),
            Event::Begin { client } => {
                if self.client(client).is_some_and(|client| client.op.is_none()) {
                    self.begin(client);
                }
            }
            Event::Fault => {
                if !self.quiet {
                    self.fault()?;
                    let pause = self.world.micros(20_000, 900_000);
                    self.world.after(pause, Event::Fault);
                }
            }
            Event::Start { node } => {
                if self.nodes.get(&node).is_some_and(|node| node.replica.is_none()) {
                    self.start(node)?;
                }
            }
            Event::Room { node, life } => self.room(node, life)?,
            Event::Late { node, origin, command } => {
                if !self.quiet && self.nodes.contains_key(&node) {
                    let wait = self.nobody(node);
                    self.tell(node, Input::Propose { origin, command, wait })?;
                }
            }
            Event::Heal => self.net.heal(),
            Event::Quiet => {}
        }
        Ok(())
    }

    fn client(&mut self, id: u64) -> Option<&mut Client> {
        self.clients.iter_mut().find(|client| client.id == id)
    }

    fn lives(&self, node: u64, life: u64) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.replica.is_some() && node.machine.life == life)
    }

    fn start(&mut self, id: u64) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        // Nobody starts a member on a full disk and expects it to run.
        node.set_full(None);
        if let Err(error) = node.start(&mut self.world, self.durability) {
            if rt::site!("disk.dead.at_start", node.dying) {
                return self.lose_disk(id);
            }
            return Err(Violation::new("every start succeeds", format!("node {id}: {error}")));
        }
        let replica = node.replica.as_ref().expect("it was started");
        let (last, applied) = (replica.store().last_index(), replica.applied());
        let (doubt, incarnation) = (replica.is_rejoining(), replica.incarnation());
        self.world.note(format_args!(
            "start {id} incarnation {incarnation} last {last} applied {applied} rejoining {doubt}"
        ));
        self.schedule_tick(id);
        self.tell(id, Input::Unreachable(0))
    }

    fn schedule_tick(&mut self, id: u64) {
        let node = &self.nodes[&id];
        let (life, delay) = (node.machine.life, node.machine.real(TICK));
        self.world.after(delay, Event::Tick { node: id, life });
    }

    /// No more faults: everything heals and starts.
    fn begin_quiet(&mut self) -> Result<(), Violation> {
        self.quiet = true;
        self.quiet_since = self.world.now();
        self.world.note(format_args!("quiet"));
        self.net.heal();
        self.net.weather = Weather::FAIR;
        if self.blackout {
            self.black_out();
        }
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            let now = self.world.now();
            let node = self.nodes.get_mut(&id).expect("listed");
            node.machine.set_rate(now, 1000);
            let life = node.machine.life;
            self.room(id, life)?;
            let node = &self.nodes[&id];
            if node.dying {
                self.lose_disk(id)?;
            } else if node.replica.is_none() {
                self.start(id)?;
            }
        }
        self.world.after(Duration::from_secs(1), Event::Quiet);
        Ok(())
    }

    /// All machines lose power. What was may be gone: the checks begin anew, and so do the clients.
    fn black_out(&mut self) {
        self.world.note(format_args!("blackout"));
        for node in self.nodes.values_mut() {
            node.replica = None;
            node.dying = false;
            node.machine.lose_power(&mut self.world);
        }
        if self.durability == Durability::Quorum {
            self.checks = Checks::default();
            for client in &mut self.clients {
                *client = Client::new(client.id + 100, client.reads_percent);
            }
        }
        for client in self.clients.iter().map(|client| client.id).collect::<Vec<_>>() {
            self.world.after(Duration::from_millis(300), Event::Begin { client });
        }
    }

    /// Every client has been answered since the end of the faults, and all members agree.
    fn is_over(&self) -> Result<bool, Violation> {
        if self.world.now() > self.quiet_since + PATIENCE {
            return Err(Violation::new("liveness", self.describe()));
        }
        let begun = self.world.now() > self.quiet_since + Duration::from_secs(1);
        if !begun || self.clients.iter().any(|client| client.op.is_some()) {
            return Ok(false);
        }
        let Some((leader, members)) = self.leader() else { return Ok(false) };
        let applied = self.nodes[&leader].replica.as_ref().map_or(0, quorum::replica::Replica::applied);
        Ok(members.iter().all(|id| {
            let replica = self.nodes.get(id).and_then(|node| node.replica.as_ref());
            replica.is_some_and(|replica| replica.applied() == applied && !replica.is_rejoining())
        }))
    }

    /// The leader of the highest term and its members.
    fn leader(&self) -> Option<(u64, Vec<u64>)> {
        let leaders = self.nodes.values().filter_map(|node| {
            let replica = node.replica.as_ref().filter(|replica| replica.engine().leads_and_applied())?;
            Some((replica.role().term, node.id, replica))
        });
        let (_, id, replica) = leaders.max_by_key(|(term, id, _)| (*term, *id))?;
        Some((id, replica.members().all().into_keys().collect()))
    }

    fn finish(&mut self) -> Result<(), Violation> {
        let members = self.leader().map(|(_, members)| members).unwrap_or_default();
        let nodes: Vec<&Node> = members.iter().filter_map(|id| self.nodes.get(id)).collect();
        self.world.note(format_args!("over"));
        self.checks.finally(&nodes)
    }

    fn describe(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::from("not all agree and answer:");
        for node in self.nodes.values() {
            let Some(replica) = &node.replica else { continue };
            let (role, engine) = (replica.role(), replica.engine());
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                " [node {}: term {} leader {} leads {} last {} committed {} applied {} rejoining {} members {:?} progress {}]",
                node.id,
                role.term,
                role.leader,
                role.leading,
                engine.last_index(),
                engine.committed(),
                replica.applied(),
                replica.is_rejoining(),
                replica.members(),
                if role.leading { engine.describe_progress() } else { String::new() },
            );
        }
        for client in &self.clients {
            let _ = write!(text, " [client {}: {:?} at {}]", client.id, client.op, client.target);
        }
        text
    }

    fn count(&mut self, fault: &Fault) {
        *self.faults.entry(fault.name()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests;
