//! All that can happen to the engine and all that it can ask for.

use bytes::Bytes;
use raft::GetEntriesContext;
use raft::eraftpb::{ConfChangeV2, Entry, Message};

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A tick of the driver's clock.
    Tick,
    /// Something is to go into the log.
    Propose(Proposal),
    /// A message of another member.
    Step(Message),
    /// The [`Persist`] of this number, and all before, survive what they must survive.
    Persisted(u64),
    /// The table shows everything up to this index.
    Applied(u64),
    /// A message to this member was lost.
    Unreachable(u64),
    /// A snapshot has arrived there, or will not.
    SnapshotSent {
        /// The follower.
        to: u64,
        /// Whether it arrived.
        ok: bool,
    },
    /// Old entries that were asked for by a [`Fetch`].
    Fetched {
        /// From the request.
        context: GetEntriesContext,
        /// Index of the first one.
        low: u64,
        /// The entries; empty when they are gone.
        entries: Vec<Entry>,
    },
    /// Stand for election now.
    Campaign,
    /// Hand leadership to this member.
    Transfer(u64),
}

/// What is to go into the log.
#[derive(Debug)]
pub enum Proposal {
    /// Commands, one entry each.
    Normal(Vec<Bytes>),
    /// A change of members.
    Change {
        /// The change.
        change: ConfChangeV2,
        /// Address of the member concerned.
        address: String,
    },
}

/// Why a proposal was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Another member leads.
    NotLeader,
    /// Leadership is being handed over.
    Transferring,
    /// Too much is under way.
    Busy,
}

/// What is to be done, in this order: messages, persists, committed entries.
#[derive(Debug, Default)]
pub struct Effects {
    /// Send now.
    pub messages: Vec<Message>,
    /// Write in order; each ends with [`Event::Persisted`].
    pub persist: Vec<Persist>,
    /// Apply in order; ends with [`Event::Applied`].
    pub committed: Vec<Entry>,
    /// Read from the log; each ends with [`Event::Fetched`].
    pub fetch: Vec<Fetch>,
    /// Role, term or leader are new.
    pub role: Option<Role>,
}

/// What must be written before what.
#[derive(Debug)]
pub struct Persist {
    /// For [`Event::Persisted`].
    pub number: u64,
    /// Term, vote and commit index.
    pub hard: Option<(u64, u64, u64)>,
    /// Term or vote changed: this must be on the medium, in every durability class.
    pub vote_changed: bool,
    /// Entries to append, cutting the log off at the first one's index.
    pub entries: Vec<Entry>,
    /// Messages that may leave only when this is persisted.
    pub after: Vec<Message>,
}

/// Old entries are wanted.
#[derive(Debug)]
pub struct Fetch {
    /// First index.
    pub low: u64,
    /// Index after the last one.
    pub high: u64,
    /// About how much at most.
    pub bytes_max: u64,
    /// To be given back.
    pub context: GetEntriesContext,
}

/// What this member is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Role {
    /// It leads (perhaps without having applied everything yet).
    pub leading: bool,
    /// It stands for election.
    pub candidate: bool,
    /// The leader (0: not known).
    pub leader: u64,
    /// Term.
    pub term: u64,
}
