//! Keys of the table. All integers are big-endian, so that a scan goes in numeric order. See docs/formats/mrc-store.md.
//!
//! No key without its volume: a volume can move to another group by copying key ranges.

/// First byte of every key. 0x00 belongs to `quorum`. Numbers are never reused.
pub mod table {
    /// Volume records.
    pub const VOLUME: u8 = 0x10;
    /// Inodes.
    pub const INODE: u8 = 0x11;
    /// Directory entries by name.
    pub const DENTRY: u8 = 0x12;
    /// Directory entries by cookie, the order of listings.
    pub const ORDER: u8 = 0x13;
    /// Extended attributes.
    pub const XATTR: u8 = 0x14;
    /// Unlinked files that may still be open.
    pub const ORPHAN: u8 = 0x15;
    /// Freed files whose objects have to be removed.
    pub const GARBAGE: u8 = 0x16;
    /// Locks of an inode.
    pub const LOCK: u8 = 0x17;
    /// Inodes on which a session has locks.
    pub const LOCK_SESSION: u8 = 0x18;
    /// Client sessions.
    pub const SESSION: u8 = 0x19;
    /// The change log.
    pub const CHANGE: u8 = 0x20;
    /// Where directories were before they moved or went.
    pub const MOVED: u8 = 0x21;
    /// How far the change log was cut.
    pub const FLOOR: u8 = 0x22;
    /// Links of an inode besides its home.
    pub const LINK: u8 = 0x23;
    /// What was carried up to a directory from below it.
    pub const TOTAL: u8 = 0x24;
    /// What a directory still has to carry.
    pub const PENDING: u8 = 0x25;
    /// Limits of users, groups and directories.
    pub const QUOTA: u8 = 0x26;
    /// What they take.
    pub const OWNED: u8 = 0x27;
    /// What was removed and is kept for a while.
    pub const TRASH: u8 = 0x28;
    /// Defaults of directories for new files.
    pub const LAYOUT: u8 = 0x29;
    /// Snapshots.
    pub const SNAPSHOT: u8 = 0x2a;
    /// Rows as they were when a snapshot was made.
    pub const PAST: u8 = 0x2b;
    /// Data that nobody writes any more.
    pub const FROZEN: u8 = 0x2c;
    /// Encoded data that is being written.
    pub const ENCODING: u8 = 0x2d;
    /// What is in small files.
    pub const CONTENT: u8 = 0x2e;
}

/// Tables that hold one volume's rows, in the order in which a dropped volume loses them: inodes last, because
/// while one exists a command may still write beside it.
pub const VOLUME_TABLES: [u8; 21] = [
    table::DENTRY,
    table::ORDER,
    table::XATTR,
    table::LOCK_SESSION,
    table::LOCK,
    table::ORPHAN,
    table::CHANGE,
    table::MOVED,
    table::FLOOR,
    table::LINK,
    table::TOTAL,
    table::PENDING,
    table::QUOTA,
    table::OWNED,
    table::TRASH,
    table::LAYOUT,
    table::SNAPSHOT,
    table::PAST,
    table::FROZEN,
    table::ENCODING,
    table::CONTENT,
];

fn key(table: u8, words: &[u64], tail: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + 8 * words.len() + tail.len());
    out.push(table);
    for word in words {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(tail);
    out
}

/// Every row of `table` that belongs to `volume` starts with this.
#[must_use]
pub fn of_volume(table: u8, volume: u64) -> Vec<u8> {
    key(table, &[volume], &[])
}

/// The volume record.
#[must_use]
pub fn volume(volume: u64) -> Vec<u8> {
    key(table::VOLUME, &[volume], &[])
}

/// An inode.
#[must_use]
pub fn inode(volume: u64, ino: u64) -> Vec<u8> {
    key(table::INODE, &[volume, ino], &[])
}

/// An entry by name.
#[must_use]
pub fn dentry(volume: u64, parent: u64, name: &[u8]) -> Vec<u8> {
    key(table::DENTRY, &[volume, parent], name)
}

/// An entry by cookie.
#[must_use]
pub fn order(volume: u64, parent: u64, cookie: u64) -> Vec<u8> {
    key(table::ORDER, &[volume, parent, cookie], &[])
}

/// Start of all of a directory's entries by cookie.
#[must_use]
pub fn listing_of(volume: u64, parent: u64) -> Vec<u8> {
    key(table::ORDER, &[volume, parent], &[])
}

/// An extended attribute; with an empty name the start of all of the inode's.
#[must_use]
pub fn xattr(volume: u64, ino: u64, name: &[u8]) -> Vec<u8> {
    key(table::XATTR, &[volume, ino], name)
}

/// An unlinked file.
#[must_use]
pub fn orphan(volume: u64, ino: u64) -> Vec<u8> {
    key(table::ORPHAN, &[volume, ino], &[])
}

/// A freed file.
#[must_use]
pub fn garbage(volume: u64, ino: u64) -> Vec<u8> {
    key(table::GARBAGE, &[volume, ino], &[])
}

/// The locks of an inode.
#[must_use]
pub fn lock(volume: u64, ino: u64) -> Vec<u8> {
    key(table::LOCK, &[volume, ino], &[])
}

/// That a session has locks on an inode.
#[must_use]
pub fn lock_session(volume: u64, session: u64, ino: u64) -> Vec<u8> {
    key(table::LOCK_SESSION, &[volume, session, ino], &[])
}

/// Start of all lock rows of a session in a volume.
#[must_use]
pub fn locks_of_session(volume: u64, session: u64) -> Vec<u8> {
    key(table::LOCK_SESSION, &[volume, session], &[])
}

/// A session; sessions belong to no volume, which is written as volume 0.
#[must_use]
pub fn session(session: u64) -> Vec<u8> {
    key(table::SESSION, &[0, session], &[])
}

/// An event of the change log.
#[must_use]
pub fn change(volume: u64, cursor: u64) -> Vec<u8> {
    key(table::CHANGE, &[volume, cursor], &[])
}

/// Where a directory was before the event at `cursor`.
#[must_use]
pub fn moved(volume: u64, directory: u64, cursor: u64) -> Vec<u8> {
    key(table::MOVED, &[volume, directory, cursor], &[])
}

/// The newest event that was cut off.
#[must_use]
pub fn floor(volume: u64) -> Vec<u8> {
    key(table::FLOOR, &[volume], &[])
}

/// A further link of an inode.
#[must_use]
pub fn link(volume: u64, ino: u64, parent: u64, cookie: u64) -> Vec<u8> {
    key(table::LINK, &[volume, ino, parent, cookie], &[])
}

/// Start of all further links of an inode.
#[must_use]
pub fn links_of(volume: u64, ino: u64) -> Vec<u8> {
    key(table::LINK, &[volume, ino], &[])
}

/// What was carried up to a directory.
#[must_use]
pub fn total(volume: u64, directory: u64) -> Vec<u8> {
    key(table::TOTAL, &[volume, directory], &[])
}

/// What a directory still has to carry.
#[must_use]
pub fn pending(volume: u64, directory: u64) -> Vec<u8> {
    key(table::PENDING, &[volume, directory], &[])
}

/// Limits (`table` [`table::QUOTA`]) or sum ([`table::OWNED`]) of a user, group or directory.
#[must_use]
pub fn quota(table: u8, volume: u64, kind: u64, id: u64) -> Vec<u8> {
    key(table, &[volume, kind, id], &[])
}

/// Something that was removed, at a time in Unix milliseconds.
#[must_use]
pub fn trash(volume: u64, removed_ms: u64, ino: u64) -> Vec<u8> {
    key(table::TRASH, &[volume, removed_ms, ino], &[])
}

/// Defaults of a directory for new files.
#[must_use]
pub fn layout(volume: u64, directory: u64) -> Vec<u8> {
    key(table::LAYOUT, &[volume, directory], &[])
}

/// A snapshot.
#[must_use]
pub fn snapshot(volume: u64, id: u64) -> Vec<u8> {
    key(table::SNAPSHOT, &[volume, id], &[])
}

/// Data that nobody writes any more.
#[must_use]
pub fn frozen(volume: u64, ino: u64) -> Vec<u8> {
    key(table::FROZEN, &[volume, ino], &[])
}

/// Encoded data that is being written.
#[must_use]
pub fn encoding(volume: u64, data: u64) -> Vec<u8> {
    key(table::ENCODING, &[volume, data], &[])
}

/// What is in a small file: the bytes of the data of a number.
#[must_use]
pub fn content(volume: u64, data: u64) -> Vec<u8> {
    key(table::CONTENT, &[volume, data], &[])
}

/// The `index`-th integer of a key.
#[must_use]
pub fn word(key: &[u8], index: usize) -> Option<u64> {
    let at = 1 + 8 * index;
    Some(u64::from_be_bytes(key.get(at..at + 8)?.try_into().ok()?))
}

/// The smallest key after `key`.
#[must_use]
pub fn after(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}
