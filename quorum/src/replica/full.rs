//! A member whose disk is full. It takes nothing more, the others go on without it, and when there is room again it starts
//! anew from what is on its disk, as after a kill. One that is alone goes on answering reads meanwhile. See
//! `docs/protocols/raft.md`, "A full disk".

use bytes::Bytes;

use super::{Fatal, Input, Output, Replica};
use crate::error::QuorumError;
use crate::store::{CUT, StoreError};

/// Ticks until a flush that found no room is tried again.
pub(super) const FLUSH_AGAIN: u64 = 20;
/// While there is little room the table is written after so many bytes: not when it has to, then there may be none.
pub(super) const FLUSH_BYTES: u64 = 1 << 20;
/// About the most that a table keeps in memory, and so what a flush takes.
pub(super) const TABLE_BYTES: u64 = 16 << 20;
/// What a flush takes beside that: a manifest, an index.
pub(super) const TABLE_SLACK: u64 = 256 << 10;

impl Fatal {
    /// Whether there was no room, and nothing else is wrong. A sync that failed is not of this kind: what it should have
    /// brought to the medium may be gone.
    fn is_full(&self) -> bool {
        match self {
            Self::Store(StoreError::Io { doing, cause }) => {
                doing != "sync" && doing != CUT && rt::disk::is_full(cause)
            }
            Self::Store(_) => false,
            Self::Table(error) => error.is_full(),
        }
    }
}

impl<W> Replica<W> {
    /// It cannot go on as it is.
    pub(super) fn fail(&mut self, fatal: &Fatal, out: &mut Vec<Output<W>>) {
        let cause = fatal.to_string();
        if !fatal.is_full() {
            return self.stop(&cause, out);
        }
        rt::site!("member.full.paused");
        let error = self.full(&cause);
        tracing::error!(group = %self.group, member = self.me, %error, "the member pauses");
        self.stopped = Some(cause);
        self.full = true;
        if !self.serves_though_full() {
            self.retire();
        }
        self.waits.fail_all(&error, out);
    }

    /// The service hears that it does not lead any more.
    pub fn retire(&mut self) {
        if let Some(term) = self.announced.take() {
            self.applier.machine().leadership(false, term);
        }
    }

    /// Alone it knows all there is, and nobody else can lead.
    #[must_use]
    pub fn serves_though_full(&self) -> bool {
        self.full && self.announced.is_some() && self.is_alone_in_table()
    }

    fn is_alone_in_table(&self) -> bool {
        self.applier.members.voters.keys().eq([&self.me])
    }

    /// Whether it paused for want of room and can be started anew. Not while something of it is under way: what comes of
    /// that must not be taken for something of its successor.
    #[must_use]
    pub fn may_start_anew(&self) -> bool {
        self.full && !self.syncing && !self.flushing
    }

    /// Whether all that is in the log is applied. If not, what is refused may be the repeat of something that is done after all: it
    /// must not be told that it was not.
    #[must_use]
    pub fn has_applied_all(&self) -> bool {
        self.store.last_written() <= self.applier.position.index
    }

    fn full(&self, cause: &str) -> QuorumError {
        let alone = self.is_alone_in_table() && self.has_applied_all();
        QuorumError::Full { group: self.group, cause: cause.to_owned(), alone }
    }

    /// The table keeps in memory what it could not write, and the log has it.
    pub(super) fn flush_again(&mut self, error: &rt::table::TableError) {
        tracing::warn!(group = %self.group, %error, "the table cannot be written; trying again");
        self.applier.unflushed_entries = self.sizes.flush_entries + 1;
        self.flush_after = self.ticks + FLUSH_AGAIN;
    }

    pub(super) fn refuse_full(&mut self, input: Input<W>, cause: &str, out: &mut Vec<Output<W>>) {
        match input {
            Input::Synced(_, Ok(())) => self.syncing = false,
            Input::Synced(_, Err(error)) => {
                let cause = format!("raft log: sync: {error}");
                self.stop(&cause, out);
            }
            Input::Flushed(..) => self.flushing = false,
            Input::Read(wait) if self.serves_though_full() => {
                rt::site!("member.full.read_alone");
                out.push(Output::Answer(wait.waiter, Ok(Bytes::new())));
            }
            Input::Propose { origin, wait, .. } => {
                rt::site!("member.full.write_refused");
                let answer = self.answered(&origin).unwrap_or_else(|| Err(self.full(cause)));
                out.push(Output::Answer(wait.waiter, answer));
            }
            Input::Add { wait, .. }
            | Input::Admit { wait, .. }
            | Input::Remove { wait, .. }
            | Input::Read(wait)
            | Input::Sync(wait) => out.push(Output::Answer(wait.waiter, Err(self.full(cause)))),
            Input::Deliver { .. } | Input::Unreachable(_) | Input::Tick | Input::Transfer(_) => {}
        }
    }
}
