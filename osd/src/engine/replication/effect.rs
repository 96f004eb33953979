//! All that a column can ask for.

use super::Version;
use super::event::{Failure, Told};

/// Something to do in this OSD's own store; `Event::Worked` follows.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Work<P> {
    /// The change; the object's version becomes this.
    Apply { object: u64, version: Version, payload: P },
    /// The object becomes what the payload says (removed when `version` is the default). `NeedsObject`: what is here is
    /// not what the payload was made for.
    Install { object: u64, version: Version, payload: P },
    /// Lists the column's objects. Answers `Reply::Told`.
    List,
    /// Writes down the adopted epoch.
    Adopt { epoch: u64 },
    /// All of the column on disk.
    Sync,
}

/// Something to ask of another OSD; `Event::Called` follows.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Request<P> {
    /// Promise and state. Answers `Reply::Told`.
    Ask,
    /// The change. Answers `Applied` or `NeedsObject`.
    Apply { object: u64, base: Version, number: u64, payload: P },
    /// The object as it is here now, or what of it the other one lacks: it told that it has the version `has`. Answers
    /// `Reply::Version` with what was sent, or `NeedsObject`.
    Push { object: u64, has: Option<Version> },
    /// The object as it is there, or what of it this OSD lacks. `whole`: that was tried in vain. `urgent`: somebody waits.
    /// `Event::Fetched` follows instead of `Event::Called`.
    Fetch { object: u64, whole: bool, urgent: bool },
    /// The epoch is to be adopted.
    Adopt,
    /// All on disk.
    Sync,
    /// Nobody promised more?
    Confirm,
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Reply {
    /// It was done.
    Done,
    /// The change was applied (here: already).
    Applied,
    /// The base of the change is not there.
    NeedsObject,
    /// An object has this version now.
    Version(Version),
    /// State of a replica.
    Told(Told),
    /// There is no room.
    NoSpace,
}

/// What somebody waiting gets.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Outcome {
    /// The change is committed, with this number.
    Committed(u64),
    /// The store may be looked into, in this epoch; or: what was seen there may be shown.
    Readable(u64),
    /// The column serves, or the object is here, only now: ask again.
    Again,
    /// Everything acknowledged before is on disk at a majority.
    Synced,
    /// To another OSD.
    Replied(Reply),
    /// No.
    Failed(Failure),
}

/// See the module.
#[derive(Clone, Debug, Hash)]
pub enum Effect<P, W> {
    /// Do this here.
    Work { work: u64, what: Work<P> },
    /// Ask this of another OSD, in this epoch.
    Call { call: u64, osd: u64, epoch: u64, what: Request<P> },
    /// Answer.
    Answer { waiter: W, outcome: Outcome },
}
