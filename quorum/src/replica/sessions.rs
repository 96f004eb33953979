//! Exactly-once: the answers that clients may ask for again, in memory and as rows of the table.
//!
//! Everything here follows from the log alone, so all replicas hold the same. A row keeps `acked_below` as its
//! command said it; a session's own `acked_below` is the highest of its rows, and the row that said so is never
//! below it, so it needs no row of its own.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proto::limits::ANSWERS_PER_SESSION;
use proto::rpc::Origin;
use rt::table::{Table, Txn, prefix_end};

use super::rows::{ANSWERS, answer_key, parse_answer_key};

/// A session without a command for this long (time of the log) is forgotten, milliseconds.
pub const IDLE_MS: u64 = 3_600_000;
/// More sessions than this push out the one that was idle longest.
pub const SESSIONS_MAX: usize = 65_536;

#[derive(Debug, Default, PartialEq, Eq)]
struct Session {
    last_ms: u64,
    acked_below: u64,
    answers: BTreeMap<u64, Bytes>,
}

/// What is known of a command before it is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nothing: apply it.
    New,
    /// It was applied; this was the answer.
    Answered(Bytes),
    /// It was applied and its answer acknowledged.
    Forgotten,
}

/// See the module.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sessions {
    sessions: BTreeMap<u64, Session>,
    /// (last command's time, session).
    by_age: BTreeSet<(u64, u64)>,
}

impl Sessions {
    /// Reads all rows.
    pub fn load(table: &dyn Table) -> rt::table::Result<Self> {
        const CHUNK: usize = 1024;
        let mut loaded = Self::default();
        let mut from = ANSWERS.to_vec();
        let end = prefix_end(ANSWERS);
        loop {
            let rows = table.scan(&from, &end, CHUNK)?;
            let full = rows.len() == CHUNK;
            for (key, value) in rows {
                loaded.load_row(&key, &value);
                from = key;
                from.push(0);
            }
            if !full {
                break;
            }
        }
        loaded.by_age = loaded.sessions.iter().map(|(id, session)| (session.last_ms, *id)).collect();
        Ok(loaded)
    }

    fn load_row(&mut self, key: &[u8], value: &[u8]) {
        let word = |at: usize| value.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes);
        let (Some((id, sequence)), Some(unix_ms), Some(acked)) = (parse_answer_key(key), word(0), word(8))
        else {
            return;
        };
        let session = self.sessions.entry(id).or_default();
        session.last_ms = session.last_ms.max(unix_ms);
        session.acked_below = session.acked_below.max(acked);
        session.answers.insert(sequence, Bytes::copy_from_slice(&value[16..]));
    }

    /// Looks a command up.
    #[must_use]
    pub fn look_up(&self, origin: &Origin) -> Seen {
        if origin.session == 0 {
            return Seen::New;
        }
        let Some(session) = self.sessions.get(&origin.session) else { return Seen::New };
        if let Some(answer) = session.answers.get(&origin.sequence) {
            return Seen::Answered(answer.clone());
        }
        if origin.sequence < session.acked_below { Seen::Forgotten } else { Seen::New }
    }

    /// Records the answer of a command that was applied now.
    pub fn record(&mut self, txn: &mut Txn<'_>, origin: &Origin, unix_ms: u64, answer: &Bytes) {
        if origin.session == 0 {
            return;
        }
        let id = origin.session;
        let session = self.sessions.entry(id).or_default();
        self.by_age.remove(&(session.last_ms, id));
        session.last_ms = session.last_ms.max(unix_ms);
        self.by_age.insert((session.last_ms, id));
        session.answers.insert(origin.sequence, answer.clone());
        // An `acked_below` beyond the command itself is a client's error; it must not hide the row made now.
        let mut acked = session.acked_below.max(origin.acked_below.min(origin.sequence));
        if session.answers.len() > ANSWERS_PER_SESSION {
            let second = session.answers.keys().nth(1).copied().unwrap_or(origin.sequence);
            acked = acked.max(second.min(origin.sequence));
        }
        session.acked_below = acked;
        let kept = session.answers.split_off(&acked);
        for sequence in std::mem::replace(&mut session.answers, kept).into_keys() {
            rt::site!("session.answer.acknowledged");
            txn.delete(answer_key(id, sequence));
        }
        let mut row = Vec::with_capacity(16 + answer.len());
        row.extend_from_slice(&session.last_ms.to_be_bytes());
        row.extend_from_slice(&acked.to_be_bytes());
        row.extend_from_slice(answer);
        txn.put(answer_key(id, origin.sequence), row);
    }

    /// Forgets sessions that were idle for too long at `unix_ms`, and too many of them.
    pub fn expire(&mut self, txn: &mut Txn<'_>, unix_ms: u64) {
        while let Some((last_ms, id)) = self.by_age.first().copied() {
            if last_ms.saturating_add(IDLE_MS) >= unix_ms && self.by_age.len() <= SESSIONS_MAX {
                return;
            }
            self.by_age.pop_first();
            for sequence in self.sessions.remove(&id).unwrap_or_default().answers.into_keys() {
                txn.delete(answer_key(id, sequence));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rt::table::memory::MemoryTable;

    fn origin(session: u64, sequence: u64, acked_below: u64) -> Origin {
        Origin { session, sequence, acked_below }
    }

    fn commit(table: &MemoryTable, change: impl FnOnce(&mut Txn<'_>)) {
        let mut txn = Txn::new(table);
        change(&mut txn);
        table.write(txn.into_batch()).unwrap();
    }

    #[test]
    fn answers_are_kept_until_acknowledged_and_a_reload_knows_the_same() {
        let table = MemoryTable::new();
        let mut sessions = Sessions::default();
        let answer = |sequence: u64| Bytes::from(format!("answer {sequence}"));
        for (sequence, acked) in [(1, 0), (3, 0), (2, 0), (5, 3), (4, 3)] {
            commit(&table, |txn| {
                sessions.record(txn, &origin(7, sequence, acked), sequence, &answer(sequence))
            });
            assert_eq!(Sessions::load(&table).unwrap(), sessions);
        }
        assert_eq!(sessions.look_up(&origin(7, 2, 0)), Seen::Forgotten);
        assert_eq!(sessions.look_up(&origin(7, 3, 0)), Seen::Answered(answer(3)));
        assert_eq!(sessions.look_up(&origin(7, 6, 0)), Seen::New);
        assert_eq!(sessions.look_up(&origin(8, 1, 0)), Seen::New);
        assert_eq!(sessions.look_up(&origin(0, 1, 0)), Seen::New);
    }

    #[test]
    fn a_session_that_never_acknowledges_is_bounded_and_an_idle_one_is_forgotten() {
        let table = MemoryTable::new();
        let mut sessions = Sessions::default();
        let many = ANSWERS_PER_SESSION as u64 + 10;
        for sequence in 1..=many {
            commit(&table, |txn| sessions.record(txn, &origin(7, sequence, 0), 5, &Bytes::new()));
        }
        assert_eq!(sessions.sessions[&7].answers.len(), ANSWERS_PER_SESSION);
        assert_eq!(sessions.look_up(&origin(7, 10, 0)), Seen::Forgotten);
        assert_eq!(Sessions::load(&table).unwrap(), sessions);
        commit(&table, |txn| sessions.expire(txn, 5 + IDLE_MS));
        assert_eq!(sessions.look_up(&origin(7, many, 0)), Seen::Answered(Bytes::new()));
        commit(&table, |txn| sessions.expire(txn, 6 + IDLE_MS));
        assert_eq!(sessions, Sessions::default());
        assert!(table.dump().is_empty());
    }
}
