//! What a replica is told and what it wants done.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use proto::id::{GroupId, MemberId};
use proto::rpc::Origin;

use crate::error::QuorumError;
use crate::store::SyncJob;

/// Both clocks at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Monotonic time.
    pub monotonic: Duration,
    /// Wall time since 1970.
    pub unix: Duration,
}

/// Who waits for an answer, since when and for how long (monotonic time).
#[derive(Debug)]
pub struct Wait<W> {
    /// Whom [`Output::Answer`] names.
    pub waiter: W,
    /// When it began.
    pub since: Duration,
    /// When it ends.
    pub deadline: Duration,
}

impl<W> Wait<W> {
    pub(super) fn timeout(&self, group: GroupId, now: Duration) -> QuorumError {
        let after_ms = now.saturating_sub(self.since).as_millis();
        QuorumError::Timeout { group, after_ms: u64::try_from(after_ms).unwrap_or(u64::MAX) }
    }
}

/// What a replica is told. `W` names whoever waits for an answer.
pub enum Input<W> {
    /// A command is to be replicated.
    Propose {
        /// Who may repeat it.
        origin: Origin,
        /// The service's bytes.
        command: Bytes,
        /// Gets the answer.
        wait: Wait<W>,
    },
    /// A read wants to be sure that nothing newer was acknowledged.
    Read(Wait<W>),
    /// Everything applied so far shall be on the medium at a majority.
    Sync(Wait<W>),
    /// Messages of another member, in sending order.
    Deliver {
        /// The sender.
        from: u64,
        /// The sender's incarnation.
        incarnation: u64,
        /// The messages, as [`Output::Send`] gave them.
        messages: Vec<Bytes>,
    },
    /// A message to this member was lost.
    Unreachable(u64),
    /// Time has passed.
    Tick,
    /// A job has run.
    Synced(SyncJob, io::Result<()>),
    /// The table was flushed when it had applied up to this index.
    Flushed(u64, rt::table::Result<()>),
    /// A member is to be added (as a learner first).
    Add {
        /// The member.
        member: u64,
        /// Its address.
        address: String,
        /// Gets the answer when it votes.
        wait: Wait<W>,
    },
    /// Whoever is at an address is to become a learner, under an id that nobody had.
    Admit {
        /// The address.
        address: String,
        /// Gets the id (u64, big endian) when it is a member.
        wait: Wait<W>,
    },
    /// A member is to be removed.
    Remove {
        /// The member.
        member: u64,
        /// Gets the answer when it is gone.
        wait: Wait<W>,
    },
    /// Leadership is to go to a member, or to the most advanced one.
    Transfer(Option<MemberId>),
}

/// What a replica wants done.
pub enum Output<W> {
    /// Send to a member.
    Send {
        /// The member.
        to: u64,
        /// For [`Input::Deliver`].
        message: Bytes,
    },
    /// Tell whoever waits.
    Answer(W, Result<Bytes, QuorumError>),
    /// Run it, then tell [`Input::Synced`]. One at a time.
    Sync(SyncJob),
    /// Flush the table, then tell [`Input::Flushed`] with this index.
    Flush(u64),
    /// These are the members and their addresses now.
    Members(BTreeMap<u64, String>),
}
