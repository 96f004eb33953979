//! Replication of a column: who leads, what is committed, who lags. `docs/protocols/replication.md` has the states and the
//! argument; a driver (the OSD's, the simulator's) carries out the effects and tells what came of them.
//!
//! Module ladder: [`epoch`] from the map to an epoch · [`event`], [`effect`] all that can happen and be asked ·
//! [`column`] one column at one OSD: promise, replica · [`primary`] opening, members · [`operations`] changes, reads,
//! syncs · [`clean`] what a replica says of an object to who reads without the primary.

pub mod clean;
pub mod column;
pub mod effect;
pub mod epoch;
pub mod event;
mod member;
mod operations;
mod primary;

use std::time::Duration;

pub use clean::{Doubt, Kept, Word};
pub use column::Column;
pub use effect::{Effect, Outcome, Reply, Request, Work};
pub use epoch::{Lists, Role, Standing, first_of, map_part, role, view_of};
pub use event::{Event, Failure, Told, Trouble};

/// Changes and reads that wait for an opening, and changes not yet committed, per column; more are refused.
pub const WAITING_MAX: usize = 1024;
/// Changes that wait for their base at a replica, per column.
pub const PARKED_MAX: usize = 1024;
/// How long they wait.
pub const PARKED: Duration = Duration::from_millis(200);
/// A member that was lost is asked again after this.
pub const ASK_AGAIN: Duration = Duration::from_millis(50);
/// A former primary that has not heard of the new epoch answers reads no longer than this.
pub const LEASE: Duration = Duration::from_millis(proto::limits::OSD_LEASE_MS);
/// Objects pushed to one member, or fetched, at the same time.
pub const REPAIRS_AT_ONCE: usize = 4;

/// Which change an object has seen last. The default stands for "there is no object".
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Default, Hash)]
pub struct Version {
    /// Epoch of the column.
    pub epoch: u64,
    /// Counts within it.
    pub number: u64,
}

/// Bytes of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Range {
    /// First byte.
    pub from: u32,
    /// One past the last one.
    pub to: u32,
}

impl Range {
    /// Nothing.
    pub const NONE: Self = Self { from: 0, to: 0 };
    /// All that an object can have.
    pub const ALL: Self = Self { from: 0, to: u32::MAX };

    /// Whether a byte is in both.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.from < other.to && other.from < self.to
    }
}

#[cfg(test)]
#[path = "replication/clean_test.rs"]
mod clean_test;
#[cfg(test)]
#[path = "replication/column_test.rs"]
mod column_test;
