//! All that can happen to a column.

use std::collections::BTreeSet;

use super::effect::Reply;
use super::{Range, Role, Version};

/// Why somebody waiting gets no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Failure {
    /// The column has a newer epoch, or another primary.
    OldEpoch(u64),
    /// Too many wait.
    Busy,
    /// No room at a majority.
    NoSpace,
    /// Policy `all`: this voter is down.
    VoterDown(u64),
    /// A change failed here after it was numbered: this OSD cannot lead the column in this epoch.
    Broken,
}

/// What became of a call to another OSD, when it is not an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Trouble {
    /// No answer: it may have been done.
    Lost,
    /// It has promised this epoch.
    OldEpoch(u64),
    /// It has no room.
    NoSpace,
    /// What was to be sent to it is damaged here.
    Damaged,
}

/// What a replica tells of itself when it is asked.
#[derive(Clone, PartialEq, Eq, Debug, Default, Hash)]
pub struct Told {
    /// The epoch that it adopted last.
    pub adopted: u64,
    /// It may have forgotten what it acknowledged.
    pub doubtful: bool,
    /// Its objects, ascending.
    pub objects: Vec<(u64, Version)>,
    /// Objects of them whose bytes are damaged here: it knows their version and cannot give them.
    pub damaged: BTreeSet<u64>,
}

/// See the module. `P` is what a change carries, `W` whoever waits for an answer.
#[derive(Debug)]
pub enum Event<P, W> {
    /// The map as this OSD knows it makes this of the column.
    Map(Role),
    /// A client changes an object; `local` is the version here, `damaged`: some of its bytes are not (both looked up in
    /// the same step).
    Change { object: u64, range: Range, payload: P, local: Version, damaged: bool, waiter: W },
    /// A client wants to read a range of an object: may this OSD look into its store?
    Read { object: u64, range: Range, waiter: W },
    /// It looked, in this epoch. `leased`: the lease at the DIR still holds. May the client have it?
    Looked { epoch: u64, object: u64, range: Range, leased: bool, waiter: W },
    /// A client wants all that was acknowledged on disk.
    Sync { waiter: W },
    /// A primary asks for promise and state; `map` is the map epoch that it knows.
    Ask { epoch: u64, map: u64, waiter: W },
    /// A primary's change.
    Apply { epoch: u64, object: u64, base: Version, number: u64, payload: P, local: Version, waiter: W },
    /// A primary replaces an object; `version` is the default when it shall not exist. `base`: only if it has this version.
    /// `damaged`: what is here is.
    Install {
        epoch: u64,
        object: u64,
        base: Option<Version>,
        version: Version,
        payload: P,
        local: Version,
        damaged: bool,
        waiter: W,
    },
    /// A primary says that this replica has all; it is to be written down.
    Adopt { epoch: u64, waiter: W },
    /// A primary wants all on disk.
    SyncFor { epoch: u64, waiter: W },
    /// A primary wants to know whether somebody promised more.
    Confirm { epoch: u64, waiter: W },
    /// Work here ended. `None`: it failed.
    Worked { work: u64, done: Option<Reply> },
    /// A call ended. `mine`: this OSD's own objects now, for the answer to a question about state, and when what was to be
    /// sent is damaged.
    Called { call: u64, result: Result<Reply, Trouble>, mine: Vec<(u64, Version)> },
    /// A fetch ended: an object as another OSD has it.
    Fetched { call: u64, result: Result<(Version, P), Trouble> },
    /// Time passed.
    Tick,
}
