//! The namespace: inodes, entries and what hangs on them, as pure functions over a table.
//!
//! Everything here is deterministic: the time and every decision that is not in the table come in as arguments.
//! Reads take any [`Reader`](rt::table::Reader); changes take a [`Txn`](rt::table::Txn) and leave a half-done one to its
//! owner's rollback when they refuse.
//!
//! Ladder: `keys`, `record` (bytes) <- `inode`, `volume`, `entry` (rows) <- one module per group of verbs.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod access;
pub mod acl;
pub mod coding;
pub mod collect;
pub mod content;
pub mod entry;
pub mod home;
pub mod inode;
pub mod keys;
pub mod layers;
pub mod layout;
pub mod link;
pub mod locks;
pub mod make;
pub mod name;
pub mod past;
pub mod read;
pub mod record;
pub mod rename;
pub mod replicas;
pub mod session;
pub mod setattr;
pub mod snapshot;
pub mod volume;
pub mod xattr;

use proto::error::{Code, WireError};
use proto::mrc::Time;
use quorum::Applied;
use rt::table::TableError;

/// Why an operation was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fail {
    /// The rules forbid it: an answer for the caller.
    Refused(WireError),
    /// The table is broken: the replica stops.
    Broken(Broken),
}

/// A table that cannot be read any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which table.
    pub table: String,
    /// What is wrong.
    pub cause: String,
}

impl From<TableError> for Fail {
    fn from(error: TableError) -> Self {
        Fail::Broken(Broken { table: error.table, cause: error.cause })
    }
}

impl From<Broken> for TableError {
    fn from(broken: Broken) -> Self {
        TableError { table: broken.table, cause: broken.cause }
    }
}

impl From<Fail> for WireError {
    fn from(fail: Fail) -> Self {
        match fail {
            Fail::Refused(error) => error,
            Fail::Broken(broken) => WireError::new(
                Code::Io,
                format!(
                    "metadata table {} cannot be read: {}; check this MRC's disk and log",
                    broken.table, broken.cause
                ),
            ),
        }
    }
}

/// Result of namespace functions.
pub type Outcome<T> = Result<T, Fail>;

/// A refusal.
pub(crate) fn refuse<T>(code: Code, text: impl Into<String>) -> Outcome<T> {
    Err(Fail::Refused(WireError::new(code, text)))
}

/// A row that does not parse.
pub(crate) fn corrupt(what: &str, key: &[u8]) -> Fail {
    Fail::Broken(Broken { table: "metadata".into(), cause: format!("{what} row {key:02x?} does not parse") })
}

/// The time of a command.
#[must_use]
pub fn time_of(at: Applied) -> Time {
    let nanos = (at.unix_ms % 1000) * 1_000_000 + u64::from(at.sub_ms_nanos);
    Time {
        seconds: i64::try_from(at.unix_ms / 1000).unwrap_or(i64::MAX),
        nanos: u32::try_from(nanos).unwrap_or(999_999_999).min(999_999_999),
    }
}
