//! Client sessions as replicated rows: so that a new leader knows for whom it has to wait, whose locks to release, and
//! which capabilities are void.

use proto::error::Code;
use proto::limits::CAPABILITY_TTL_MS;
use proto::mrc::Time;
use rt::table::{Reader, Txn, prefix_end};

use super::keys::{self, table};
use super::record::{unversioned, versioned};
use super::{Outcome, corrupt, locks, refuse, volume};

/// A session's row.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionRow {
    /// For people.
    #[prost(string, tag = "1")]
    pub client: String,
    /// First opened.
    #[prost(message, required, tag = "2")]
    pub opened: Time,
    /// Fencing epoch: capabilities of a lower one may be refused. Begins with the time, so that a session that ended
    /// and is opened again has a higher one.
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
    /// It may hold leases.
    #[prost(bool, tag = "4")]
    pub leases: bool,
    /// When OSDs were last told to refuse lower epochs, Unix milliseconds; 0: never.
    #[prost(uint64, tag = "5")]
    pub fenced_ms: u64,
    /// It ended; the row is kept until no capability of it is valid any more.
    #[prost(bool, tag = "6")]
    pub ended: bool,
}

/// A session whose older capabilities OSDs have to refuse.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fenced {
    /// The session.
    pub session: u64,
    /// Epochs below are refused.
    pub epoch: u64,
    /// Since when, Unix milliseconds.
    pub at_ms: u64,
    /// The session ended.
    pub ended: bool,
}

fn millis(time: Time) -> u64 {
    u64::try_from(time.seconds).unwrap_or(0).saturating_mul(1000) + u64::from(time.nanos / 1_000_000)
}

fn row(reader: &(impl Reader + ?Sized), session: u64) -> Outcome<Option<SessionRow>> {
    let key = keys::session(session);
    match reader.get(&key)? {
        Some(value) => Ok(Some(unversioned(&value).ok_or_else(|| corrupt("session", &key))?)),
        None => Ok(None),
    }
}

/// The session's row, unless it ended.
pub fn find(reader: &(impl Reader + ?Sized), session: u64) -> Outcome<Option<SessionRow>> {
    Ok(row(reader, session)?.filter(|row| !row.ended))
}

/// Refuses what was done to `name` by a session that was expelled since.
pub fn require_epoch(
    reader: &(impl Reader + ?Sized),
    session: u64,
    epoch: u64,
    name: impl std::fmt::Display,
) -> Outcome<()> {
    if find(reader, session)?.is_some_and(|row| row.epoch == epoch) {
        return Ok(());
    }
    refuse(
        Code::CapabilityExpired,
        format!(
            "{name} was made, changed or removed by a session that has been expelled since: others may have used its directory"
        ),
    )
}

/// Whether the session has a row.
pub fn exists(reader: &(impl Reader + ?Sized), session: u64) -> Outcome<bool> {
    Ok(find(reader, session)?.is_some())
}

/// Makes the row.
pub fn open(txn: &mut Txn<'_>, now: Time, session: u64, client: &str) -> Outcome<()> {
    let old = row(txn, session)?.unwrap_or_default();
    let epoch = millis(now).max(old.epoch + 1);
    let fenced_ms = old.fenced_ms;
    let new =
        SessionRow { client: client.to_owned(), opened: now, epoch, leases: false, fenced_ms, ended: false };
    txn.put(keys::session(session), versioned(&new));
    Ok(())
}

/// The session may hold leases from now on.
pub fn enable_leases(txn: &mut Txn<'_>, session: u64) -> Outcome<()> {
    if let Some(row) = find(txn, session)? {
        txn.put(keys::session(session), versioned(&SessionRow { leases: true, ..row }));
    }
    Ok(())
}

/// Raises the epoch and gives it; `fence`: OSDs are told.
pub fn raise(txn: &mut Txn<'_>, now: Time, session: u64, fence: bool) -> Outcome<u64> {
    let known = row(txn, session)?;
    let mut row = known.unwrap_or_else(|| SessionRow { ended: true, opened: now, ..SessionRow::default() });
    row.epoch = millis(now).max(row.epoch + 1);
    if fence {
        row.fenced_ms = millis(now);
    }
    let epoch = row.epoch;
    if fence || !row.ended {
        txn.put(keys::session(session), versioned(&row));
    }
    Ok(epoch)
}

/// The session ended: its row and its locks in every volume go. The row of a fenced one stays while capabilities of it
/// may be valid.
pub fn end(txn: &mut Txn<'_>, now: Time, session: u64) -> Outcome<()> {
    match row(txn, session)? {
        Some(row) if millis(now) < row.fenced_ms.saturating_add(CAPABILITY_TTL_MS) => {
            txn.put(keys::session(session), versioned(&SessionRow { ended: true, ..row }));
        }
        _ => txn.delete(keys::session(session)),
    }
    for (id, _) in volume::list(txn)? {
        locks::release_session(txn, id, session)?;
    }
    Ok(())
}

fn rows(reader: &(impl Reader + ?Sized)) -> Outcome<Vec<(u64, SessionRow)>> {
    let prefix = keys::of_volume(table::SESSION, 0);
    let rows = reader.scan(&prefix, &prefix_end(&prefix), usize::MAX)?;
    rows.into_iter()
        .map(|(key, value)| {
            let parse = || Some((keys::word(&key, 1)?, unversioned::<SessionRow>(&value)?));
            parse().ok_or_else(|| corrupt("session", &key))
        })
        .collect()
}

/// All sessions that have not ended.
pub fn list(reader: &(impl Reader + ?Sized)) -> Outcome<Vec<(u64, SessionRow)>> {
    Ok(rows(reader)?.into_iter().filter(|(_, row)| !row.ended).collect())
}

/// Sessions that were fenced once.
pub fn fenced(reader: &(impl Reader + ?Sized)) -> Outcome<Vec<Fenced>> {
    let fenced = rows(reader)?.into_iter().filter(|(_, row)| row.fenced_ms > 0);
    Ok(fenced
        .map(|(session, row)| Fenced { session, epoch: row.epoch, at_ms: row.fenced_ms, ended: row.ended })
        .collect())
}
