//! Clients: one operation at a time, each value written once. Who gets no answer never learns what became of it.

use std::collections::BTreeMap;
use std::time::Duration;

use osd::engine::replication::Lists;
use proto::dir::OsdMap;

use super::reads::Asking;
use super::{BLOCKS, CLIENT_PATIENCE, Event, OBJECTS, Sim, block_id};
use crate::invariants::Violation;

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Write { column: u64, object: u64, block: u32, value: u64 },
    Cut { column: u64, object: u64, value: u64 },
    Read { column: u64, object: u64, block: u32 },
    Sync { column: u64 },
}

impl Op {
    pub(super) fn column(self) -> u64 {
        match self {
            Op::Write { column, .. }
            | Op::Cut { column, .. }
            | Op::Read { column, .. }
            | Op::Sync { column } => column,
        }
    }
}

/// See the module.
pub(super) struct Client {
    pub(super) id: u64,
    pub(super) map: OsdMap,
    /// As its capabilities say.
    pub(super) lists: BTreeMap<u64, Lists>,
    attempt: u64,
    /// Replicas that do not lead are asked.
    pub(super) asking: Option<Asking>,
    pub(super) op: Option<(Op, Duration)>,
    pub(super) done: u64,
    /// It hears nothing of newer maps until then.
    pub(super) deaf_until: Duration,
    /// Reads done in the quiet phase; `None` before it.
    last_reads: Option<u64>,
    /// How often it has read everything since.
    rounds: u64,
}

impl Client {
    pub(super) fn new(id: u64, lists: BTreeMap<u64, Lists>) -> Self {
        Self {
            id,
            lists,
            map: OsdMap::default(),
            attempt: 0,
            asking: None,
            op: None,
            done: 0,
            deaf_until: Duration::ZERO,
            last_reads: None,
            rounds: 0,
        }
    }

    /// From now on it reads every block, again and again.
    pub(super) fn reads_all(&mut self) {
        self.last_reads = Some(0);
    }

    /// Its last attempt.
    pub(super) fn attempt(&self) -> u64 {
        self.attempt
    }

    /// It has read everything at least once.
    pub(super) fn is_through(&self) -> bool {
        self.rounds > 0
    }
}

impl Sim {
    fn client(&mut self, id: u64) -> &mut Client {
        &mut self.clients[usize::try_from(id).expect("few clients")]
    }

    /// What a client wants, if this is still its attempt.
    pub(super) fn op(&self, client: u64, attempt: u64) -> Option<Op> {
        let client = self.clients.iter().find(|known| known.id == client)?;
        client.op.filter(|_| client.attempt == attempt).map(|(op, _)| op)
    }

    pub(super) fn client_learns(&mut self, client: u64, map: OsdMap) {
        let now = self.world.now();
        let client = self.client(client);
        if now < client.deaf_until {
            return;
        }
        if map.epoch > client.map.epoch {
            client.map = map;
        }
    }

    fn choose(&mut self, id: u64) -> Op {
        let columns = self.lists.len() as u64;
        if let Some(next) = self.client(id).last_reads {
            let block = u32::try_from(next % u64::from(BLOCKS)).expect("few blocks");
            let object = next / u64::from(BLOCKS);
            let (column, object) = (object / OBJECTS, object % OBJECTS);
            if column < columns {
                return Op::Read { column, object, block };
            }
            let client = self.client(id);
            (client.last_reads, client.rounds) = (Some(0), client.rounds + 1);
            return Op::Sync { column: 0 };
        }
        let (column, object) = (self.world.below(columns), self.world.below(OBJECTS));
        let block = u32::try_from(self.world.below(u64::from(BLOCKS))).expect("few blocks");
        self.values += 1;
        let value = self.values;
        match self.world.below(100) {
            0..50 => Op::Write { column, object, block, value },
            50..55 => Op::Cut { column, object, value },
            55..62 => Op::Sync { column },
            _ => Op::Read { column, object, block },
        }
    }

    pub(super) fn begin(&mut self, id: u64) {
        if self.client(id).op.is_some() {
            return;
        }
        let op = self.choose(id);
        let now = self.world.now();
        match op {
            Op::Write { column, object, block, value } => {
                self.checks.begin_write(block_id(column, object, block), value, now);
            }
            Op::Cut { column, object, value } => {
                for block in 0..BLOCKS {
                    self.checks.begin_write(block_id(column, object, block), value, now);
                }
            }
            Op::Read { .. } | Op::Sync { .. } => {}
        }
        let client = &mut self.clients[usize::try_from(id).expect("few clients")];
        client.attempt += 1;
        client.op = Some((op, now));
        client.asking = None;
        let attempt = client.attempt;
        self.world.after(CLIENT_PATIENCE, Event::GiveUp { client: id, attempt });
        match op {
            Op::Read { .. } => self.read_somehow(id),
            _ => self.ask_primary(id),
        }
    }

    /// Sends what a client wants to whoever leads, as it knows.
    pub(super) fn ask_primary(&mut self, id: u64) {
        let now = self.world.now();
        let client = &self.clients[usize::try_from(id).expect("few clients")];
        let Some((op, _)) = client.op else { return };
        let attempt = client.attempt;
        let lists = client.lists[&op.column()].clone();
        let primary = osd::engine::replication::role(&client.map, &lists).primary;
        self.world.note(format_args!("client {id} attempt {attempt} {op:?} at {primary:?}"));
        if let Some(node) = primary {
            for delay in self.net.fate(&mut self.world, 2000 + id, node) {
                let lists = lists.clone();
                self.world.after(delay, Event::Request { client: id, attempt, node, sent: now, lists });
            }
        }
    }

    pub(super) fn answer_client(&mut self, node: u64, client: u64, attempt: u64, result: Result<u64, ()>) {
        for delay in self.net.fate(&mut self.world, node, 2000 + client) {
            self.world.after(delay, Event::Answer { client, attempt, result });
        }
    }

    pub(super) fn client_answer(
        &mut self,
        id: u64,
        attempt: u64,
        result: Result<u64, ()>,
    ) -> Result<(), Violation> {
        if self.op(id, attempt).is_none() {
            return Ok(());
        }
        let now = self.world.now();
        let Some((op, begun)) = self.client(id).op.take() else { return Ok(()) };
        self.world.note(format_args!("client {id} attempt {attempt} {op:?}: {result:?}"));
        if let Ok(value) = result {
            self.client(id).done += 1;
            if let (Some(next), Op::Read { .. }) = (&mut self.client(id).last_reads, op) {
                *next += 1;
            }
            match op {
                Op::Write { column, object, block, value } => {
                    self.checks.end_write(block_id(column, object, block), value, now);
                }
                Op::Cut { column, object, value } => {
                    for block in 0..BLOCKS {
                        self.checks.end_write(block_id(column, object, block), value, now);
                    }
                }
                Op::Read { column, object, block } => {
                    self.checks.fresh.read(block_id(column, object, block), value, begun, now)?;
                }
                Op::Sync { column } => self.checks.synced(column, begun),
            }
        }
        self.pause(id, result.is_err());
        Ok(())
    }

    pub(super) fn give_up(&mut self, id: u64, attempt: u64) {
        if self.op(id, attempt).is_some() {
            self.client(id).op = None;
            self.world.note(format_args!("client {id} attempt {attempt} gives up"));
            self.pause(id, true);
        }
    }

    /// The next operation comes soon; who was not served looks for a newer map.
    fn pause(&mut self, id: u64, failed: bool) {
        if failed && self.world.percent(50) {
            let map = self.dir.map.clone();
            self.world.after(Duration::from_micros(500), Event::ClientLearns { client: id, map });
        }
        if failed && self.world.percent(50) {
            let lists = self.lists.clone();
            self.client(id).lists = lists;
        }
        let pause = self.world.micros(600, 20_000);
        self.world.after(pause, Event::Begin { client: id });
    }
}
