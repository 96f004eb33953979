//! One member: a machine and, while it runs, a replica.

use std::sync::{Arc, Mutex};

use quorum::replica::{Replica, Setup, Sizes};
use quorum::{Durability, engine::Timing};

use super::state::{Counters, Seen};
use super::{GROUP, OpRef, TICK};
use crate::machine::Machine;
use crate::world::World;

/// See the module.
pub(super) struct Node {
    /// Its id.
    pub(super) id: u64,
    /// What it runs on.
    pub(super) machine: Machine,
    /// The running process.
    pub(super) replica: Option<Replica<OpRef>>,
    /// What the running process applied and the checkers have not seen.
    pub(super) seen: Arc<Mutex<Vec<Seen>>>,
    /// The first members as it is configured.
    pub(super) first: Vec<u64>,
    /// It lost power and may have forgotten acknowledgements (class `Quorum`), and has not caught up.
    pub(super) unsound: bool,
    /// Its disk is about to fail: from some write or sync on every one does, and what was not synced is gone.
    pub(super) dying: bool,
    /// Its disk has no room.
    pub(super) full: bool,
    /// Its member has paused for that, and has not started anew.
    pub(super) paused: bool,
    /// A copy of its table from earlier.
    backup: Vec<rt::table::Pair>,
}

/// Sizes with which a short run compacts, rolls segments and sends snapshots.
const SMALL: Sizes = Sizes {
    keep_entries: 12,
    flush_bytes: 4 << 10,
    flush_entries: 25,
    part_bytes: 300,
    segment_bytes: 3 << 10,
};

impl Node {
    /// A node that does not run.
    pub(super) fn new<E>(world: &mut World<E>, id: u64, first: Vec<u64>) -> Self {
        Self {
            id,
            machine: Machine::new(world),
            replica: None,
            seen: Arc::default(),
            first,
            unsound: false,
            dying: false,
            full: false,
            paused: false,
            backup: Vec::new(),
        }
    }

    /// Both clocks of the node.
    pub(super) fn now<E>(&self, world: &World<E>) -> quorum::replica::Now {
        let unix = std::time::Duration::from_secs(1_700_000_000) + world.now() + self.machine.ahead;
        quorum::replica::Now { monotonic: self.machine.monotonic(world.now()), unix }
    }

    /// Keeps a copy of the table.
    pub(super) fn back_up(&mut self) {
        self.backup = self.machine.table.dump();
    }

    /// The table is gone, or an older one is put in its place.
    pub(super) fn lose_table(&mut self, restores: bool) {
        let table = rt::table::memory::MemoryTable::new();
        if restores {
            let mut batch = rt::table::Batch::default();
            self.backup.iter().for_each(|(key, value)| batch.put(key.clone(), value.clone()));
            rt::table::Table::write(&table, batch).expect("a table in memory");
        }
        rt::table::Table::flush(&table).expect("a table in memory");
        self.machine.table = table;
    }

    /// Whether the disk has room for more. One that has none gives some back only to whoever starts anew.
    pub(super) fn set_full(&mut self, spare: Option<u64>) {
        self.full = spare.is_some();
        self.machine.disk.leave_room(spare);
        self.machine.table.set_full(self.full);
    }

    /// Starts the process. An error is what an operator would read.
    pub(super) fn start<E>(&mut self, world: &mut World<E>, durability: Durability) -> Result<(), String> {
        let (machine, seen) = Counters::new();
        self.seen = seen;
        let setup = Setup {
            group: GROUP,
            me: proto::id::MemberId(self.id),
            members: self.first.iter().map(|id| (*id, format!("sim://{id}"))).collect(),
            durability,
            boot_id: format!("boot {}", self.machine.boot),
            timing: Timing::of(TICK),
            sizes: SMALL,
            seed: world.below(u64::MAX),
            log: quorum::reserve::Reserve::open(self.machine.disk.clone(), 0),
            table: Arc::new(self.machine.table.clone()),
        };
        let replica = Replica::start(setup, machine, self.now(world)).map_err(|error| error.to_string())?;
        self.replica = Some(replica);
        self.paused = false;
        Ok(())
    }
}
