//! What a service provides: a deterministic state machine over a table.

use bytes::Bytes;
use rt::table::{Result, Txn};

/// Where and when a command is applied: the same on every replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Index of the entry in the log.
    pub index: u64,
    /// The proposer's clock when it proposed, milliseconds since 1970, never going back along the log.
    pub unix_ms: u64,
    /// The same instant's nanoseconds within the millisecond (0..1_000_000).
    pub sub_ms_nanos: u32,
}

/// A service's replicated state.
///
/// Keys starting with byte 0x00 belong to `quorum` (applied index, sessions); the service uses the rest.
pub trait StateMachine: Send + Sync + 'static {
    /// Applies one command: reads and changes `txn`, returns the answer. Deterministic: no clock, no randomness,
    /// no state outside `txn` that differs between replicas. A refusal is an answer too, and must leave `txn`
    /// unchanged (the driver sets a savepoint before; call `txn.rollback()`).
    ///
    /// An `Err` is a broken table: the replica stops.
    fn apply(&self, txn: &mut Txn<'_>, at: Applied, command: &[u8]) -> Result<Bytes>;

    /// Whether the answer of a command is recorded for repeats. `false`: it changed nothing, and the same command sent
    /// again is decided anew. A function of the answer alone, so that all replicas agree.
    fn is_recorded(&self, _answer: &[u8]) -> bool {
        true
    }

    /// After a batch of commands has become visible in the table, on every replica: for caches and wake-ups
    /// outside the replicated state. Called with the last index of the batch.
    fn applied(&self, _index: u64) {}

    /// This member became leader (`true`) or stopped being it (`false`).
    fn leadership(&self, _leading: bool, _term: u64) {}
}
