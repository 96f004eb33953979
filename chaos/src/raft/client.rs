//! Clients: each does one operation after another, repeats it with the same origin wherever a leader may be, and
//! never gives up.

use proto::rpc::Origin;

use super::state::Add;

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// Changes a counter.
    Write(Add),
    /// Reads the state.
    Read,
}

impl Task {
    /// What is sent to change something.
    pub(super) fn command(self) -> Option<bytes::Bytes> {
        match self {
            Task::Write(add) => Some(add.encode()),
            Task::Read => None,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Client {
    /// Its number; its session is one more.
    pub(super) id: u64,
    /// Operations done.
    pub(super) done: u64,
    sequence: u64,
    /// The operation under way.
    pub(super) op: Option<(u64, Task)>,
    /// Grows with each sending: late answers are told from awaited ones.
    pub(super) attempt: u64,
    /// How many of its operations are reads. One that only reads stays with a leader that has lost its majority.
    pub(super) reads_percent: u64,
    /// Where it believes the leader to be.
    pub(super) target: u64,
}

impl Client {
    /// A client that has not begun.
    #[must_use]
    pub(super) fn new(id: u64, reads_percent: u64) -> Self {
        Self { id, done: 0, sequence: 0, op: None, attempt: 0, reads_percent, target: 1 }
    }

    /// Begins a write.
    pub(super) fn write(&mut self, op: u64, key: u8, by: u64) {
        self.sequence += 1;
        self.op = Some((op, Task::Write(Add { op, key, by })));
    }

    /// Begins a read.
    pub(super) fn read(&mut self, op: u64) {
        self.op = Some((op, Task::Read));
    }

    /// Who may repeat the present write.
    #[must_use]
    pub(super) fn origin(&self) -> Origin {
        Origin { session: self.id + 1, sequence: self.sequence, acked_below: self.sequence }
    }
}
