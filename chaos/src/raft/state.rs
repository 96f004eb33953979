//! The replicated state of the scenario: counters, a running hash over all commands, a row per operation.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use quorum::{Applied, StateMachine};
use rt::table::{Reader, Result, Txn};

/// Key of the running hash.
pub(super) const HASH: &[u8] = b"hash";
/// Prefix of the rows that say at which index an operation took effect.
pub(super) const OPERATION: &[u8] = b"op";

/// A command: adds to a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Add {
    /// Identifies the operation.
    pub(super) op: u64,
    /// Which counter.
    pub(super) key: u8,
    /// How much.
    pub(super) by: u64,
}

impl Add {
    /// The command's bytes.
    #[must_use]
    pub(super) fn encode(self) -> Bytes {
        let mut bytes = self.op.to_be_bytes().to_vec();
        bytes.push(self.key);
        bytes.extend_from_slice(&self.by.to_be_bytes());
        bytes.into()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes);
        Some(Self { op: word(0)?, key: *bytes.get(8)?, by: word(9)? })
    }
}

/// What a node applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// Index of the entry.
    pub(super) index: u64,
    /// Time of the log.
    pub(super) unix_ms: u64,
    /// Hash of the state after it.
    pub(super) hash: u64,
    /// The operation.
    pub(super) op: u64,
}

/// The state machine of one process. Tells the simulator what it applied and whether it leads.
#[derive(Default)]
pub(super) struct Counters {
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Counters {
    /// A state machine and the list that it fills.
    #[must_use]
    pub(super) fn new() -> (Arc<Self>, Arc<Mutex<Vec<Seen>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        (Arc::new(Self { seen: seen.clone() }), seen)
    }
}

/// Reads a number row.
pub(super) fn number(reader: &(impl Reader + ?Sized), key: &[u8]) -> Result<u64> {
    let value = reader.get(key)?;
    Ok(value.and_then(|value| value.try_into().ok()).map_or(0, u64::from_be_bytes))
}

fn mix(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

impl StateMachine for Counters {
    fn apply(&self, txn: &mut Txn<'_>, at: Applied, command: &[u8]) -> Result<Bytes> {
        let Some(add) = Add::parse(command) else { return Ok(Bytes::from_static(b"bad")) };
        let key = [b"counter".as_slice(), &[add.key]].concat();
        let value = number(txn, &key)?.wrapping_add(add.by);
        let hash = [at.index, at.unix_ms, add.op, value].into_iter().fold(number(txn, HASH)?, mix);
        txn.put(key, value.to_be_bytes());
        txn.put(HASH, hash.to_be_bytes());
        txn.put([OPERATION, &add.op.to_be_bytes()].concat(), at.index.to_be_bytes());
        let seen = Seen { index: at.index, unix_ms: at.unix_ms, hash, op: add.op };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
        Ok(format!("{} {value}", at.index).into())
    }
}
