//! Client sessions as replicated rows: so that a new leader knows for whom it has to wait, and whose locks to release.

use proto::mrc::Time;
use rt::table::{Reader, Txn, prefix_end};

use super::keys::{self, table};
use super::record::{unversioned, versioned};
use super::{Outcome, corrupt, locks, volume};

/// A session's row.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionRow {
    /// For people.
    #[prost(string, tag = "1")]
    pub client: String,
    /// First opened.
    #[prost(message, required, tag = "2")]
    pub opened: Time,
}

/// Whether the session has a row.
pub fn exists(reader: &(impl Reader + ?Sized), session: u64) -> Outcome<bool> {
    Ok(reader.get(&keys::session(session))?.is_some())
}

/// Makes the row.
pub fn open(txn: &mut Txn<'_>, now: Time, session: u64, client: &str) {
    txn.put(keys::session(session), versioned(&SessionRow { client: client.to_owned(), opened: now }));
}

/// The session ended: its row and its locks in every volume go.
pub fn end(txn: &mut Txn<'_>, session: u64) -> Outcome<()> {
    txn.delete(keys::session(session));
    for (id, _) in volume::list(txn)? {
        locks::release_session(txn, id, session)?;
    }
    Ok(())
}

/// All sessions with their clients' names.
pub fn list(reader: &(impl Reader + ?Sized)) -> Outcome<Vec<(u64, String)>> {
    let prefix = keys::of_volume(table::SESSION, 0);
    let rows = reader.scan(&prefix, &prefix_end(&prefix), usize::MAX)?;
    rows.into_iter()
        .map(|(key, value)| {
            let parse = || Some((keys::word(&key, 1)?, unversioned::<SessionRow>(&value)?.client));
            parse().ok_or_else(|| corrupt("session", &key))
        })
        .collect()
}
