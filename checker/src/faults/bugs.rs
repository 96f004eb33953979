//! The bugs.

use crate::workload::Class;

/// A bug, with the workload that meets it.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Which.
    pub bug: Bug,
    /// What is wrong, in a line.
    pub what: &'static str,
    /// Calls that meet it.
    pub classes: &'static [Class],
    /// Power is lost now and then.
    pub power_losses: bool,
    /// Clients are shut out now and then.
    pub fences: bool,
}

macro_rules! bugs {
    ($($bug:ident $class:ident $($extra:ident)? : $what:literal;)*) => {
        /// Something that a file system does wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Bug { $(#[doc = $what] $bug,)* }

        /// Every bug.
        pub const CASES: &[Case] = &[$(Case {
            bug: Bug::$bug,
            what: $what,
            classes: &[Class::$class],
            power_losses: bugs!(@power $($extra)?),
            fences: bugs!(@fence $($extra)?),
        },)*];
    };
    (@power power) => { true };
    (@power $($other:ident)?) => { false };
    (@fence fence) => { true };
    (@fence $($other:ident)?) => { false };
}

bugs! {
    WriteLost Cells: "a write is acknowledged and dropped";
    WriteTorn Cells: "the parts of a write over several cells become visible one after the other";
    WriteTornInCell Cells: "a reader sees half of a write in one cell";
    WriteMisdirected Cells: "a write goes to the next cell";
    WriteUndone Cells: "a write is visible and later gone";
    WriteLate Cells: "a write is acknowledged before anybody else can see it";
    WriteFailedApplies Cells: "a write fails with ENOSPC and takes effect";
    WriteAfterFence Cells fence: "a write of a client that was shut out lands";
    WriteTakesNeighbour Cells: "a write writes back the stale cell beside it";
    ReadStale Cells: "a client reads from its cache after another wrote";
    ReadGarbage Sizes: "a hole reads as garbage";
    ReadZeroes Cells: "written data reads as zeroes";
    ReadShort Sizes: "a read ends before the end of the file";
    AppendOverwrites Grow: "an append goes where the client thinks that the end is";
    AppendInFileLost Grow: "an append to a file is acknowledged and dropped";
    TruncateKeepsBytes Sizes: "bytes that were cut off come back when the file grows";
    TruncateIgnored Sizes: "a truncation is acknowledged and not done";
    TruncateTooFar Sizes: "a truncation takes one cell too many";
    TruncateKeepsRemotePages Sizes: "another client's pages outlive a truncation";
    SizeStale Sizes: "a client shows the size that it knew";
    SizeGoesBack Sizes: "a writer sets the size that it knew";
    AllocateClears Sizes: "preallocation clears data";
    AllocateKeepsSize Sizes: "preallocation does not move the end";
    AllocateShrinks Sizes: "preallocation cuts the file";
    PunchIgnored Sizes: "a punched hole keeps its data";
    PunchTooFar Sizes: "a punched hole takes the next cell too";
    PunchGrows Sizes: "a hole beyond the end moves the end";
    SeekDataSkips Sizes: "SEEK_DATA passes over data";
    SeekHoleInData Sizes: "SEEK_HOLE finds a hole in data";
    SyncLosesData Cells power: "synced data is lost with the power";
    SyncLosesSize Sizes power: "a synced size is lost with the power";
    LogOverwrites Append: "an append overwrites the last record";
    LogLoses Append: "an appended record is dropped";
    LogTwice Append: "a repeated append is done twice";
    LogTears Append: "two records are mixed";
    LogReorders Append: "a record is put before one that was there";
    LogLate Append: "an appended record becomes visible late";
    LogFailedApplies Append: "an append fails and is there";
    LogReadStale Append: "a client reads the log that it knew";
    LockTwice Locks: "an exclusive lock is granted twice";
    LockSharedBesideExclusive Locks: "a shared lock is granted beside an exclusive one";
    LockExclusiveBesideShared Locks: "an exclusive lock is granted beside a shared one";
    LockKindsMixed Locks: "flock and fcntl locks exclude one another";
    LockPerClient Locks: "a client does not know the other's locks";
    LockRangeShort Locks: "a lock covers one cell less";
    LockRangeLong Locks: "a lock excludes the cell after it";
    LockLost Locks: "a lock is forgotten while it is held";
    UnlockTakesAll Locks: "an unlock releases every range of its owner";
    UnlockTakesOthers Locks: "an unlock releases the locks of others";
    UnlockIgnored Locks: "an unlock is acknowledged and not done";
    RenameShowsNeither Names: "while a file is renamed, neither name is there";
    RenameShowsBoth Names: "while a file is renamed, both names are there";
    RenameIgnored Names: "a rename is acknowledged and not done";
    RenameNoReplaceReplaces Names: "RENAME_NOREPLACE replaces";
    RenameExchangeReplaces Names: "RENAME_EXCHANGE moves one of the two";
    RenameExchangeInSteps Names: "RENAME_EXCHANGE is done in two steps";
    RenameSameFileRemoves Names: "a rename between two links of one file removes one";
    RenameFreesOpenFile Names: "a rename over an open file frees its data";
    RenameKeepsLinkCount Names: "a rename over a link does not lower the count";
    RenameRetried Names: "a repeated rename fails with ENOENT though it was done";
    CreateTwoWinners Names: "two exclusive creations succeed";
    CreateLate Names: "a created file becomes visible late";
    CreateRetried Names: "a repeated exclusive creation fails with EEXIST though it was done";
    CreateInRemoved Names: "a file is created in a directory that is not there";
    MkdirTwoWinners Names: "two mkdirs of one name succeed";
    MkdirRetried Names: "a repeated mkdir fails with EEXIST though it was done";
    RmdirNotEmpty Names: "a directory with entries is removed";
    UnlinkIgnored Names: "an unlink is acknowledged and not done";
    UnlinkResurrects Names: "a removed name comes back";
    UnlinkFreesOpenFile Names: "an unlink frees the data of an open file";
    UnlinkKeepsLinkCount Names: "an unlink does not lower the link count";
    UnlinkRetried Names: "a repeated unlink fails with ENOENT though it was done";
    LinkDiverges Names: "a hard link becomes a copy";
    LinkKeepsLinkCount Names: "a link does not raise the link count";
    LinkReplaces Names: "a link replaces what is there";
    ListMisses Names: "a listing lacks a name";
    ListTwice Names: "a listing has a name twice";
    ListGhost Names: "a listing has a name that was removed";
    NegativeStale Names: "a client does not find a name that another made";
    PositiveStale Names: "a client finds a name that another removed";
    AttributesStale Names: "a client shows the attributes that it knew";
    OpenStale Names: "a name leads to the file that it named before a rename";
    ReadlinkStale Names: "a client shows the target of a symlink that was replaced";
    ChmodLost Names: "a chmod is acknowledged and not done";
    ChmodLate Names: "a chmod is visible late";
    InodeChanges Names: "a file changes its inode number";
    PutLost Names: "a write through a handle is dropped";
    PutLate Names: "a write through a handle is visible late";
    GetStale Names: "a handle reads what it knew";
    TimeGoesBack Names: "a modification time goes back";
    TimeStands Names: "a write does not move the modification time";
    SyncLosesContent Names power: "the content of a synced file is lost with the power";
    SyncNamesLosesName Names power: "a synced name is lost with the power";
}
