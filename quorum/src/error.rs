//! Why a member did not do what it was asked.

use proto::error::WireError;
use proto::id::GroupId;

/// Why a proposal or read was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// Another member leads; its address if known.
    #[error("not the leader of {group}; {}", .leader.as_deref().map_or("no leader is known yet".to_owned(), |at| format!("the leader is at {at}")))]
    NotLeader {
        /// The group.
        group: GroupId,
        /// Where the leader is.
        leader: Option<String>,
    },
    /// Too many proposals wait.
    #[error("{group} has too many proposals waiting; try again shortly")]
    Busy {
        /// The group.
        group: GroupId,
    },
    /// No majority answered in time; whether the command will take effect is not known.
    #[error(
        "{group} had no majority within {after_ms} ms; the outcome is unknown, repeat with the same origin"
    )]
    Timeout {
        /// The group.
        group: GroupId,
        /// How long was waited.
        after_ms: u64,
    },
    /// The session's record of that sequence is gone: the caller acknowledged it already.
    #[error("the answer to sequence {sequence} was acknowledged before and is no longer kept")]
    Forgotten {
        /// The sequence.
        sequence: u64,
    },
    /// It must not be done.
    #[error("{group}: {why}")]
    Refused {
        /// The group.
        group: GroupId,
        /// Why, and what to do instead.
        why: String,
    },
    /// Its disk is full. It goes on by itself when there is room.
    #[error(
        "{group} takes no changes here, its disk is full: {cause}; free some room there, it goes on by itself"
    )]
    Full {
        /// The group.
        group: GroupId,
        /// What found no room.
        cause: String,
        /// There is no other member that could do it, as far as is known.
        alone: bool,
    },
    /// The member stopped (shutdown, or its disk failed).
    #[error("{group} stopped here: {cause}")]
    Stopped {
        /// The group.
        group: GroupId,
        /// Why.
        cause: String,
    },
}

impl From<QuorumError> for WireError {
    fn from(error: QuorumError) -> Self {
        use proto::error::Code;
        let text = error.to_string();
        match error {
            QuorumError::NotLeader { leader, .. } => {
                WireError::new(Code::NotLeader, text).with_hint(leader.unwrap_or_default())
            }
            QuorumError::Busy { .. } => WireError::new(Code::Busy, text),
            QuorumError::Timeout { .. } => WireError::new(Code::DeadlineExceeded, text),
            QuorumError::Forgotten { .. } => WireError::new(Code::BadRequest, text),
            QuorumError::Refused { .. } => WireError::new(Code::InvalidArgument, text),
            QuorumError::Full { alone: true, .. } => WireError::new(Code::NoSpace, text),
            // Others lead, or will in a moment.
            QuorumError::Full { alone: false, .. } | QuorumError::Stopped { .. } => {
                WireError::new(Code::Unavailable, text)
            }
        }
    }
}
