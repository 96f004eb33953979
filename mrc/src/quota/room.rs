//! How much may still be written, and what `df` shows below a quota.

use proto::quota::QuotaKind;
use rt::table::Reader;

use super::{Subject, chain, limits, owned, owners};
use crate::namespace::inode::Inode;
use crate::namespace::volume::{self, Volume};
use crate::namespace::{Outcome, inode};

/// Room of one file at least, if the quotas leave so much, bytes.
const ROOM_MIN: u64 = 1 << 20;
/// Room of one file at most, bytes.
const ROOM_MAX: u64 = 64 << 20;

/// Bytes that may be allocated for a file before its writer reports next; `None`: no quota limits it. `want` is given
/// when the quotas leave so much.
pub fn room(reader: &(impl Reader + ?Sized), volume: u64, inode: &Inode, want: u64) -> Outcome<Option<u64>> {
    let Some(record) = volume::find(reader, volume)?.filter(Volume::has_quota) else { return Ok(None) };
    let left = left(reader, volume, &record, inode)?;
    Ok(left.map(|left| share(left).max(want.min(left))))
}

/// What one file gets of what is left: the nearer the limit, the less.
#[must_use]
pub fn share(left: u64) -> u64 {
    left.min((left / 4).clamp(ROOM_MIN, ROOM_MAX))
}

fn left(
    reader: &(impl Reader + ?Sized),
    volume: u64,
    record: &Volume,
    inode: &Inode,
) -> Outcome<Option<u64>> {
    let mut subjects: Vec<Subject> = Vec::new();
    if record.owners_bind() {
        subjects.extend(owners(inode.attr.uid, inode.attr.gid));
    }
    if inode.parent != 0 {
        let directories = chain(reader, volume, record, inode.parent)?;
        subjects.extend(directories.into_iter().map(|directory| (QuotaKind::Directory, directory)));
    }
    let mut least = None;
    for subject in subjects {
        let Some(bytes) = limits(reader, volume, subject)?.map(|limits| limits.bytes) else { continue };
        if bytes > 0 {
            let left = bytes.saturating_sub(owned(reader, volume, subject)?.bytes());
            least = Some(least.map_or(left, |least: u64| least.min(left)));
        }
    }
    Ok(least)
}

/// A limit and what is used of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// The limit.
    pub limit: u64,
    /// Used.
    pub used: u64,
}

impl Share {
    /// What is left.
    #[must_use]
    pub fn left(self) -> u64 {
        self.limit.saturating_sub(self.used)
    }
}

/// Of the directory quotas above an inode (or on it) the byte limit and the inode limit with the least left.
pub fn shares(
    reader: &(impl Reader + ?Sized),
    volume: u64,
    record: &Volume,
    ino: u64,
) -> Outcome<(Option<Share>, Option<Share>)> {
    if record.directory_quotas == 0 {
        return Ok((None, None));
    }
    let inode = inode::get(reader, volume, ino)?;
    let directory = if inode.is_dir() { ino } else { inode.parent };
    let (mut bytes, mut inodes): (Option<Share>, Option<Share>) = (None, None);
    let tighter = |known: Option<Share>, limit: u64, used: u64| {
        let new = Share { limit, used };
        if limit == 0 || known.is_some_and(|known| known.left() <= new.left()) { known } else { Some(new) }
    };
    for directory in chain(reader, volume, record, directory)? {
        let subject = (QuotaKind::Directory, directory);
        let limits = limits(reader, volume, subject)?.unwrap_or_default();
        let used = owned(reader, volume, subject)?;
        bytes = tighter(bytes, limits.bytes, used.bytes());
        inodes = tighter(inodes, limits.inodes, used.count());
    }
    Ok((bytes, inodes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_shrinks_towards_the_limit_and_never_passes_it() {
        assert_eq!(share(0), 0);
        assert_eq!(share(4096), 4096);
        assert_eq!(share(2 << 20), 1 << 20);
        assert_eq!(share(100 << 20), 25 << 20);
        assert_eq!(share(u64::MAX), 64 << 20);
        let mut left: u64 = 1 << 40;
        let mut reports = 0;
        while left > 0 {
            left -= share(left);
            reports += 1;
        }
        assert!(reports < 17_000, "a file of 1 TiB under a quota of as much needs {reports} reports");
    }
}
