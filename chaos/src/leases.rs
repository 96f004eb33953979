//! The scenario of client leases: the MRC's engine, model clients that keep what they are given, OSDs that fence; under
//! message delay, reordering and loss, clients that hang, and changes of leader. See `docs/protocols/leases.md`.
//!
//! The model client is the smallest one that obeys the page: it keeps the version of each inode that it was told under a
//! lease, answers reads from it within its time, writes data under `W`, and returns what is recalled.

mod client;
mod leader;
mod made;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mrc::engine::leases::Times;
use proto::mrc::LeaseGrant;

use crate::invariants::Violation;
use crate::world::World;
use client::Client;
use leader::{Asked, Leader};
use snapshot::Snapshots;

const CLIENTS: u64 = 4;
const FILES: u64 = 6;
pub(crate) const TIMES: Times = Times {
    ttl: Duration::from_millis(6000),
    margin: Duration::from_millis(500),
    cool: Duration::from_millis(100),
    per_session: 64,
};
/// Expelling takes a command and a call to each OSD, which may take long. Microseconds.
const EXPEL: (u64, u64) = (500, 20_000);
const EXPEL_LONG: (u64, u64) = (1_000_000, 8_000_000);
/// How long after the end of a recall's time it may still be open: expelling, and one tick.
const SLACK: Duration = Duration::from_millis(200);
const TICK: Duration = Duration::from_millis(50);

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Events.
    pub steps: u64,
    /// Whether to keep the log.
    pub keep_log: bool,
    /// A part of the protocol that is left out, to see that the invariants notice.
    pub broken: Option<Broken>,
}

/// Parts of the protocol that a meta test leaves out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// Clients answer from leases after their time.
    Time,
    /// Clients keep what a recall overtook.
    LateAnswer,
    /// OSDs are not told of expelled sessions.
    Fence,
    /// A new leader waits for nobody.
    Grace,
    /// Changes do not recall.
    Recall,
    /// Nobody is ever expelled.
    Expel,
    /// Returns that were overtaken by an opening count.
    LateReturn,
    /// The right to make names is given back before those that were made are told.
    UntoldNames,
    /// Names count whatever became of the session that made them.
    LateNames,
    /// A leader takes a first opening of a session that another leader has opened since.
    FirstOpening,
    /// Clients take an answer with fewer bits for the loss of the others.
    Lapse,
    /// Snapshots are taken while others may write.
    Hush,
    /// Who gets the right to write after a snapshot writes into what the snapshot shows.
    Thaw,
    /// Who has made a directory is given what costs nobody anything of it, like anybody.
    MadeRight,
    /// The right to make names is given back before directories that were made under it are told.
    UntoldDirectories,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was seen that must not be.
    pub violation: Option<Violation>,
    /// Changes applied, reads answered from leases, data written.
    pub operations: u64,
    /// Reads answered from leases.
    pub cached: u64,
    /// Events.
    pub events: u64,
    /// How often what happened.
    pub faults: BTreeMap<&'static str, u64>,
    /// What happened.
    pub log: String,
}

/// From a client.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Open {
        number: u64,
        meant_for: u64,
        epoch: u64,
        told: Vec<(u64, u32)>,
    },
    Renew,
    /// With `others`: with rows of other inodes, as a directory is listed.
    Get {
        file: u64,
        others: bool,
    },
    Acquire {
        file: u64,
        bits: u32,
    },
    /// With `remove` the inode is gone after it, and another one takes its place.
    Change {
        file: u64,
        incarnation: u64,
        remove: bool,
    },
    Await,
    /// Names that were made in an inode, all so far, and the epoch in which.
    Tell {
        file: u64,
        epoch: u64,
        upto: u64,
    },
    /// A directory that was made in `parent`, and so many names in it.
    Make {
        file: u64,
        parent: u64,
        epoch: u64,
        upto: u64,
    },
    Return {
        opening: u64,
        file: u64,
        bits: u32,
        number: u64,
    },
}

/// To a client. `asked`: when the client sent what this answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Opened {
        asked: Duration,
        number: u64,
        ttl: Duration,
        epoch: u64,
        incarnation: u64,
    },
    Renewed {
        asked: Duration,
        ttl: Duration,
        epoch: u64,
        incarnation: u64,
    },
    Unknown {
        incarnation: u64,
    },
    /// `asked`: before this no answer may bring leases any more, when the client has opened its session since.
    Row {
        asked: Duration,
        incarnation: u64,
        file: u64,
        version: u64,
        bits: u32,
        number: u64,
        changed: bool,
        /// The data that whoever writes the file writes to.
        top: u64,
    },
    Refused {
        incarnation: u64,
        file: u64,
    },
    /// So many names are known.
    Told {
        epoch: u64,
        file: u64,
        upto: u64,
    },
    /// A directory is taken, with so many names in it, and what its maker holds of it.
    Made {
        asked: Duration,
        incarnation: u64,
        epoch: u64,
        file: u64,
        upto: u64,
        bits: u32,
        number: u64,
    },
    Recalls {
        incarnation: u64,
        recalls: Vec<(u64, u64, u32, u64)>,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    ToLeader {
        from: u64,
        asked: Duration,
        ask: Ask,
    },
    ToClient {
        to: u64,
        answer: Answer,
    },
    Client(u64),
    Tick,
    Expelled {
        session: u64,
        number: u64,
        incarnation: u64,
        epoch: Option<u64>,
        wrote: bool,
    },
    NewLeader,
    /// The group has decided on a change that was free to go.
    Apply {
        process: u64,
        incarnation: u64,
        number: u64,
    },
    /// The right to write was given, and the file has data that no snapshot shows.
    Thawed {
        incarnation: u64,
        of: Asked,
        grant: LeaseGrant,
    },
    /// Who waits for a lease waits no longer.
    GiveUp {
        incarnation: u64,
        ticket: u64,
    },
    /// The row of a session that opens was read a while ago.
    Open {
        from: u64,
        asked: Duration,
        incarnation: u64,
        read: u64,
        number: u64,
        epoch: u64,
        told: Vec<(u64, u32)>,
    },
    Snapshot,
    /// The group has decided on a snapshot.
    SnapshotApply {
        incarnation: u64,
        number: u64,
    },
    Hang,
    /// A client that hung goes on: what it had taken on to write goes out before it hears anything.
    Resumed(u64),
}

/// What survives leaders: the replicated table and the OSDs.
#[derive(Default)]
pub(crate) struct Durable {
    /// Version of each inode's attributes.
    pub(crate) versions: BTreeMap<u64, u64>,
    /// (epoch, takes part).
    pub(crate) sessions: BTreeMap<u64, (u64, bool)>,
    /// OSDs refuse lower epochs.
    pub(crate) fences: BTreeMap<u64, u64>,
    /// Names that sessions have told, by session, epoch and inode.
    pub(crate) told: BTreeMap<(u64, u64, u64), u64>,
    /// Directories that clients have made and a leader has taken; how many were made.
    pub(crate) made: BTreeSet<u64>,
    pub(crate) numbers: u64,
    /// The last number that took the place of another.
    pub(crate) last: u64,
    /// Snapshots, and the data that files show.
    pub(crate) snapshots: Snapshots,
}

pub(crate) struct Sim {
    pub(crate) world: World<Event>,
    pub(crate) leader: Leader,
    pub(crate) clients: BTreeMap<u64, Client>,
    pub(crate) durable: Durable,
    pub(crate) broken: Option<Broken>,
    pub(crate) times: Times,
    /// The inodes that exist.
    pub(crate) files: Vec<u64>,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) operations: u64,
    pub(crate) cached: u64,
}

impl Sim {
    /// Sends with delay, sometimes very late, sometimes never. A change and its answer always arrive: a real client
    /// repeats them under their sequence until it knows the outcome.
    pub(crate) fn send(&mut self, event: Event) {
        let certain = matches!(
            event,
            Event::ToLeader { ask: Ask::Change { .. }, .. }
                | Event::ToClient { answer: Answer::Row { changed: true, .. } | Answer::Refused { .. }, .. }
        );
        if !certain && self.world.percent(3) {
            *self.faults.entry("lost").or_default() += 1;
            return;
        }
        let late = self.world.percent(5);
        let delay = if late { self.world.micros(1000, 900_000) } else { self.world.micros(50, 2000) };
        self.world.after(delay, event);
    }

    /// The version that a read which begins now has to show: with the names that others have made, answered, and may still tell.
    pub(crate) fn truth(&self, file: u64) -> u64 {
        let untold = self.clients.keys().map(|id| self.untold(*id, file)).sum::<u64>();
        self.durable.versions.get(&file).copied().unwrap_or(0) + untold
    }

    /// Names that a client has made and the table does not have. Those of an expelled session are lost.
    pub(crate) fn untold(&self, id: u64, file: u64) -> u64 {
        let (client, row) = (&self.clients[&id], self.durable.sessions.get(&id).copied());
        if row.is_none_or(|(epoch, _)| epoch != client.epoch()) {
            return 0;
        }
        let told = self.durable.told.get(&(id, client.epoch(), file)).copied().unwrap_or(0);
        client.made(file).saturating_sub(told)
    }

    fn step(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::ToLeader { from, asked, ask } => self.serve(from, asked, ask)?,
            Event::ToClient { to, answer } => self.hear(to, answer),
            Event::Client(id) => self.act(id)?,
            Event::Tick => {
                self.tick()?;
                self.world.after(TICK, Event::Tick);
            }
            Event::Expelled { session, number, incarnation, epoch, wrote } => {
                self.expelled(session, number, incarnation, epoch, wrote)?;
            }
            Event::NewLeader => {
                *self.faults.entry("leader").or_default() += 1;
                self.new_leader();
                let next = self.world.micros(3_000_000, 40_000_000);
                self.world.after(next, Event::NewLeader);
            }
            Event::Apply { process, incarnation, number } => self.apply(process, incarnation, number)?,
            Event::Thawed { incarnation, of, grant } => self.thawed(incarnation, of, grant),
            Event::GiveUp { incarnation, ticket } => self.give_up(incarnation, ticket)?,
            Event::Open { from, asked, incarnation, read, number, epoch, told } => {
                if incarnation == self.leader.incarnation {
                    self.opened(from, asked, read, (number, epoch, &told));
                    self.effects()?;
                }
            }
            Event::Snapshot => {
                let next = self.world.micros(1_000_000, 12_000_000);
                self.world.after(next, Event::Snapshot);
                self.snapshot()?;
            }
            Event::SnapshotApply { incarnation, number } => self.snapshot_apply(incarnation, number)?,
            Event::Hang => {
                *self.faults.entry("hang").or_default() += 1;
                let id = 1 + self.world.below(CLIENTS);
                let until = self.world.now() + self.world.micros(100_000, 12_000_000);
                self.clients.get_mut(&id).expect("made at the start").hangs_until = until;
                self.world.after(until - self.world.now(), Event::Resumed(id));
                let next = self.world.micros(500_000, 15_000_000);
                self.world.after(next, Event::Hang);
            }
            Event::Resumed(id) => {
                for file in self.files.clone() {
                    self.write(id, file)?;
                }
                self.tell_late(id);
            }
        }
        self.leader.engine.invariants();
        Ok(())
    }
}

/// Before anything has happened.
fn begin(plan: Plan) -> Sim {
    let mut world = World::new(plan.seed, plan.keep_log);
    // Now and then a session may hold so little that it has to do without.
    let per_session = if world.percent(30) { 3 } else { TIMES.per_session };
    let times = Times { per_session, ..TIMES };
    let clients = (1..=CLIENTS).map(|id| (id, Client::new(&mut world))).collect();
    Sim {
        world,
        leader: Leader::new(times),
        times,
        files: (1..=FILES).collect(),
        clients,
        durable: Durable::default(),
        broken: plan.broken,
        faults: BTreeMap::new(),
        operations: 0,
        cached: 0,
    }
}

/// Runs a plan.
#[must_use]
pub fn run(plan: Plan) -> Outcome {
    let mut sim = begin(plan);
    sim.new_leader();
    for id in 1..=CLIENTS {
        // Mounts come one after the other.
        let later = sim.world.micros(1, 6_000_000);
        sim.world.after(later * u32::try_from(id - 1).expect("few clients"), Event::Client(id));
    }
    for (delay, event) in [(1, Event::Tick), (5_000, Event::NewLeader), (2_000, Event::Hang)] {
        sim.world.after(Duration::from_millis(delay), event);
    }
    // Another part that is left out is to be noticed by its own invariant.
    if matches!(plan.broken, None | Some(Broken::Hush | Broken::Thaw | Broken::Lapse | Broken::MadeRight)) {
        sim.world.after(Duration::from_millis(3_000), Event::Snapshot);
    }
    let mut violation = None;
    while sim.world.happened() < plan.steps {
        let Some(event) = sim.world.next_event() else { break };
        if sim.world.keeps_log() && !matches!(event, Event::Tick | Event::Client(_)) {
            sim.world.note(format_args!("{event:?}"));
        }
        if let Err(seen) = sim.step(event) {
            sim.world.note(format_args!("{seen}"));
            violation = Some(seen);
            break;
        }
    }
    Outcome {
        violation,
        operations: sim.operations,
        cached: sim.cached,
        events: sim.world.happened(),
        faults: sim.faults,
        log: sim.world.log().to_owned(),
    }
}
