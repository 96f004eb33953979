//! Applying committed entries: one transaction per batch with the position and the sessions' answers in it.

use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType};
use rt::table::{Batch, Table, TableError, Txn};

use super::command::Command;
use super::rows::{MEMBERS, Members, POSITION, Position};
use super::sessions::{Seen, Sessions};
use super::transfer::Transfer;
use crate::engine::Engine;
use crate::machine::{Applied, StateMachine};

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Its answer.
    Answer(Bytes),
    /// It was applied before and its answer acknowledged; it had no effect now.
    Forgotten,
}

/// See the module.
pub(super) struct Applier {
    table: Arc<dyn Table>,
    machine: Arc<dyn StateMachine>,
    /// How far the table is.
    pub(super) position: Position,
    /// Who is in the group.
    pub(super) members: Members,
    /// What clients may ask for again.
    pub(super) sessions: Sessions,
    /// Bytes and entries applied since the last flush was begun.
    pub(super) unflushed_bytes: u64,
    /// See above.
    pub(super) unflushed_entries: u64,
}

impl Applier {
    /// Reads what the table says.
    pub(super) fn load(table: Arc<dyn Table>, machine: Arc<dyn StateMachine>) -> Result<Self, TableError> {
        Ok(Self {
            position: Position::read(&*table)?.unwrap_or_default(),
            members: Members::read(&*table)?,
            sessions: Sessions::load(&*table)?,
            table,
            machine,
            unflushed_bytes: 0,
            unflushed_entries: 0,
        })
    }

    /// Applies `entries`; `told` hears of each command: index, term, outcome. Gives whether members changed.
    pub(super) fn apply(
        &mut self,
        entries: &[Entry],
        engine: &mut Engine,
        transfer: Option<&mut Transfer>,
        mut told: impl FnMut(u64, u64, Outcome),
    ) -> Result<bool, TableError> {
        let Some(last) = entries.last() else { return Ok(false) };
        let table = self.table.clone();
        let mut txn = Txn::new(&*table);
        let mut members_changed = false;
        for entry in entries {
            assert!(entry.index > self.position.index, "entry {} was applied before", entry.index);
            self.unflushed_bytes += entry.data.len() as u64 + 64;
            self.unflushed_entries += 1;
            if entry.get_entry_type() == EntryType::EntryNormal {
                if !entry.data.is_empty() {
                    let outcome = self.apply_one(&mut txn, entry)?;
                    told(entry.index, entry.term, outcome);
                }
            } else {
                if let Some(conf) = engine.apply_change(entry) {
                    self.members = self.members.after(&conf, &String::from_utf8_lossy(&entry.context));
                    txn.put(MEMBERS, self.members.encode());
                    members_changed = true;
                }
                told(entry.index, entry.term, Outcome::Answer(Bytes::new()));
            }
        }
        self.position.index = last.index;
        self.position.term = last.term;
        txn.put(POSITION, self.position.encode());
        let batch = txn.into_batch();
        if let Some(transfer) = transfer {
            transfer.before_write(&*table, &batch)?;
        }
        table.write(batch)?;
        Ok(members_changed)
    }

    fn apply_one(&mut self, txn: &mut Txn<'_>, entry: &Entry) -> Result<Outcome, TableError> {
        let command = Command::parse(&entry.data).ok_or_else(|| TableError {
            table: "raft log".into(),
            cause: format!(
                "entry {} holds a command of an unknown version; is this program older?",
                entry.index
            ),
        })?;
        // Never back along the log, whatever the clocks of two leaders say.
        let nanos = command.unix_ms.saturating_mul(1_000_000).saturating_add(u64::from(command.sub_ms_nanos));
        rt::site!("log.time.held_back", nanos < self.position.unix_nanos);
        self.position.unix_nanos = self.position.unix_nanos.max(nanos);
        let unix_ms = self.position.unix_nanos / 1_000_000;
        match self.sessions.look_up(&command.origin) {
            Seen::Answered(answer) => {
                rt::site!("session.repeat.in_log");
                return Ok(Outcome::Answer(answer));
            }
            Seen::Forgotten => return Ok(Outcome::Forgotten),
            Seen::New => {}
        }
        let sub_ms_nanos = u32::try_from(self.position.unix_nanos % 1_000_000).expect("below a million");
        txn.savepoint();
        let answer =
            self.machine.apply(txn, Applied { index: entry.index, unix_ms, sub_ms_nanos }, &command.body)?;
        // The savepoint of the command must not reach into the bookkeeping.
        txn.savepoint();
        if self.machine.is_recorded(&answer) {
            self.sessions.record(txn, &command.origin, unix_ms, &answer);
        }
        self.sessions.expire(txn, unix_ms);
        Ok(Outcome::Answer(answer))
    }

    /// Writes the first rows of a new group, durably.
    pub(super) fn begin(&mut self, position: Position, members: Members) -> Result<(), TableError> {
        let mut batch = Batch::default();
        batch.put(POSITION, position.encode());
        batch.put(MEMBERS, members.encode());
        self.table.write(batch)?;
        self.table.flush()?;
        self.position = position;
        self.members = members;
        Ok(())
    }

    /// Empties the table, but for the members.
    pub(super) fn empty(&mut self, members: &Members) -> Result<(), TableError> {
        self.table.clear(b"", b"")?;
        let mut batch = Batch::default();
        batch.put(MEMBERS, members.encode());
        self.table.write(batch)?;
        self.position = Position::default();
        self.members = members.clone();
        self.sessions = Sessions::default();
        Ok(())
    }

    /// The table.
    pub(super) fn table(&self) -> &Arc<dyn Table> {
        &self.table
    }

    /// The service.
    pub(super) fn machine(&self) -> &Arc<dyn StateMachine> {
        &self.machine
    }
}
