//! Checking and mending a volume's metadata, and collecting lost objects. Answered by MRCs; method numbers 0x0268 to
//! 0x026f. See docs/protocols/fsck.md.

use crate::mrc::Head;
use crate::rpc::Origin;

/// What does not fit together. Numbers are never reused; those from [`Fault::FIRST_SUM`] on are sums.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum Fault {
    /// The row under `key` does not parse.
    BadRow = 1,
    /// An entry (`parent`, `cookie`, `name`) leads to nothing or lies in nothing.
    EntryLost = 2,
    /// An entry names another kind than its inode has.
    EntryKind = 3,
    /// A listing row without its row by name.
    EntryUnnamed = 4,
    /// A row by name without its listing row.
    EntryUnlisted = 5,
    /// An entry of which its inode does not know.
    EntryUnknown = 6,
    /// An inode whose home does not lead to it.
    HomeLost = 7,
    /// A link row that no entry belongs to.
    LinkLost = 8,
    /// `nlink` is not the number of names.
    Links = 9,
    /// A file without names is not among the orphans.
    OrphanMissing = 10,
    /// An orphan has names.
    OrphanWrong = 11,
    /// Number or length of extended attributes.
    Xattrs = 12,
    /// Access control lists and mode do not fit.
    Acl = 13,
    /// A directory's next cookie was given out already.
    NextCookie = 14,
    /// The volume's next inode number was given out already.
    NextIno = 15,
    /// Directories that lie in one another.
    Circle = 16,
    /// A row (`key`) of an inode that is gone.
    Hanging = 17,
    /// A file that exists is to have its objects removed.
    GarbageInUse = 18,
    /// A lock that its session's end would forget.
    LockIndex = 19,
    /// The bytes of a small file that the MRC has are missing or damaged.
    ContentLost = 20,
    /// Entries and subdirectories of a directory.
    DirectoryCounts = 64,
    /// What lies below a directory.
    Usage = 65,
    /// Inodes and bytes of the volume, and how many quotas it has.
    VolumeCounts = 66,
    /// What a user, group or directory (`parent` is the kind, `ino` the id) takes.
    QuotaSum = 67,
}

impl Fault {
    /// Sums begin here.
    pub const FIRST_SUM: i32 = 64;
}

/// Something that does not fit together.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Finding {
    /// [`Fault`].
    #[prost(enumeration = "Fault", tag = "1")]
    pub fault: i32,
    /// Inode.
    #[prost(uint64, tag = "2")]
    pub ino: u64,
    /// Directory of an entry.
    #[prost(uint64, tag = "3")]
    pub parent: u64,
    /// Cookie of an entry.
    #[prost(uint64, tag = "4")]
    pub cookie: u64,
    /// Name of an entry.
    #[prost(bytes = "vec", tag = "5")]
    pub name: Vec<u8>,
    /// A row.
    #[prost(bytes = "vec", tag = "6")]
    pub key: Vec<u8>,
    /// What has to be added to sums.
    #[prost(sint64, repeated, tag = "7")]
    pub add: Vec<i64>,
    /// In words.
    #[prost(string, tag = "8")]
    pub text: String,
    /// It cannot be mended.
    #[prost(bool, tag = "9")]
    pub hopeless: bool,
}

/// Starts a check, or asks how one goes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RunFsck {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Its number. 0 starts one whose number the answer tells; a repeat of that starts another.
    #[prost(uint64, tag = "2")]
    pub check: u64,
    /// Findings that the asker has.
    #[prost(uint64, tag = "3")]
    pub after: u64,
    /// Wait this long for more, milliseconds.
    #[prost(uint64, tag = "4")]
    pub wait_ms: u64,
    /// Starts the check `check`, a random number of the asker's, unless it runs already: so a start may be repeated.
    #[prost(bool, tag = "5")]
    pub begin: bool,
}

/// How a check goes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FsckProgress {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub check: u64,
    /// Findings after those that the asker has.
    #[prost(message, repeated, tag = "2")]
    pub findings: Vec<Finding>,
    /// Rows looked at.
    #[prost(uint64, tag = "3")]
    pub rows: u64,
    /// It is at its end and these were the last findings.
    #[prost(bool, tag = "4")]
    pub done: bool,
    /// There is more than is told in one pass.
    #[prost(bool, tag = "5")]
    pub cut: bool,
    /// Repairs that the volume had seen, for [`MendFindings::seen`].
    #[prost(uint64, tag = "6")]
    pub seen: u64,
    /// What it looks at, for people.
    #[prost(string, tag = "7")]
    pub phase: String,
    /// Inodes that the volume says it has.
    #[prost(uint64, tag = "8")]
    pub inodes: u64,
}

/// Mends what was found.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MendFindings {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Makes a repeat safe.
    #[prost(message, required, tag = "2")]
    pub origin: Origin,
    /// Repairs that the volume had seen; refused when there were others since.
    #[prost(uint64, tag = "3")]
    pub seen: u64,
    /// At most [`MEND_MAX`].
    #[prost(message, repeated, tag = "4")]
    pub findings: Vec<Finding>,
}

/// What became of it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Mended {
    /// For the next [`MendFindings::seen`].
    #[prost(uint64, tag = "1")]
    pub seen: u64,
    /// Findings that were still there and are mended.
    #[prost(uint64, tag = "2")]
    pub mended: u64,
}

/// Findings in one command.
pub const MEND_MAX: usize = 256;
/// Findings of one pass.
pub const FINDINGS_MAX: usize = 10_000;

/// Looks for lost objects of a volume at one OSD and removes them.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CollectLost {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// The OSD.
    #[prost(uint64, tag = "2")]
    pub osd: u64,
    /// Go on after this file; 0 begins.
    #[prost(uint64, tag = "3")]
    pub after: u64,
    /// Leave files whose objects changed within this time, milliseconds.
    #[prost(uint64, tag = "4")]
    pub older_than_ms: u64,
    /// Tell only.
    #[prost(bool, tag = "5")]
    pub dry_run: bool,
}

/// A file with lost objects.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct LostFile {
    /// The number that it had.
    #[prost(uint64, tag = "1")]
    pub ino: u64,
    /// Objects.
    #[prost(uint64, tag = "2")]
    pub objects: u64,
    /// Bytes allocated for them.
    #[prost(uint64, tag = "3")]
    pub bytes: u64,
    /// Too young; left for later.
    #[prost(bool, tag = "4")]
    pub young: bool,
    /// A number that was never given out: not touched.
    #[prost(bool, tag = "5")]
    pub unknown: bool,
}

/// A page of the collection.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CollectedLost {
    /// Lost files of this page.
    #[prost(message, repeated, tag = "1")]
    pub lost: Vec<LostFile>,
    /// The next [`CollectLost::after`].
    #[prost(uint64, tag = "2")]
    pub after: u64,
    /// Nothing follows.
    #[prost(bool, tag = "3")]
    pub end: bool,
    /// Files looked at.
    #[prost(uint64, tag = "4")]
    pub files: u64,
}

crate::methods! {
    /// Starts a check of a volume's metadata, or tells how it goes.
    FsckRun = 0x0268 reads (RunFsck) -> FsckProgress,
    /// Mends findings.
    FsckMend = 0x0269 mutates (MendFindings) -> Mended,
    /// Collects lost objects at one OSD.
    LostCollect = 0x026a reads (CollectLost) -> CollectedLost,
}
