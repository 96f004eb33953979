//! A computer: a disk, a table, a clock that runs at its own speed, and a life that can end in several ways.
//!
//! | Fault | Kept | Must be survived |
//! |---|---|---|
//! | process killed | page cache, a prefix of the table's batches from the last flush on | always |
//! | power lost | what was synced; of the rest any sectors; a prefix of the table's batches | `Disk`: always; `Quorum`: a minority at a time |
//! | proper stop | everything | always |
//! | bits flipped in synced bytes | - | must be detected (tests of the stores) |

use std::sync::Arc;
use std::time::Duration;

use rt::disk::sim::SimDisk;
use rt::table::memory::MemoryTable;

use crate::world::World;

/// See the module.
pub struct Machine {
    /// The disk.
    pub disk: Arc<SimDisk>,
    /// The table, beside the disk.
    pub table: MemoryTable,
    /// Grows with each loss of power: names the boot.
    pub boot: u64,
    /// Grows with each end of the process: events for an earlier life are void.
    pub life: u64,
    /// Local seconds per thousand real ones.
    rate: u64,
    /// Local monotonic time at `since`.
    local: Duration,
    since: Duration,
    /// What the wall clock is ahead of the truth.
    pub ahead: Duration,
}

impl Machine {
    /// A new machine with its own idea of time.
    pub fn new<E>(world: &mut World<E>) -> Self {
        Self {
            disk: Arc::new(SimDisk::new()),
            table: MemoryTable::new(),
            boot: 1,
            life: 0,
            rate: 1000,
            local: Duration::from_secs(1000 + world.below(1000)),
            since: Duration::ZERO,
            ahead: Duration::from_millis(world.below(2000)),
        }
    }

    /// The local monotonic clock.
    #[must_use]
    pub fn monotonic(&self, now: Duration) -> Duration {
        let real = u64::try_from((now - self.since).as_nanos()).expect("a run is short");
        self.local + Duration::from_nanos(real / 1000 * self.rate)
    }

    /// From now on the clock runs at `rate` thousandths of the true speed.
    pub fn set_rate(&mut self, now: Duration, rate: u64) {
        rt::site!("clock.fast", rate > 1000);
        rt::site!("clock.slow", rate < 1000);
        self.local = self.monotonic(now);
        self.since = now;
        self.rate = rate;
    }

    /// How long `local` takes in truth.
    #[must_use]
    pub fn real(&self, local: Duration) -> Duration {
        local * 1000 / u32::try_from(self.rate).expect("about a thousand")
    }

    /// The process is killed.
    pub fn kill<E>(&mut self, world: &mut World<E>) {
        self.life += 1;
        self.table.crash(|batches| world.below(batches));
    }

    /// The power goes, and comes back.
    pub fn lose_power<E>(&mut self, world: &mut World<E>) {
        self.kill(world);
        self.boot += 1;
        self.disk.lose_power(|choices| world.below(choices));
    }
}
