//! Between the MRC's attributes and the kernel's.

use proto::mrc::{Attr, Time};

use super::kernel::answer::{Attributes, Instant};
use super::kernel::operation::SetTime;
use crate::volume::attrs::NewTime;

/// `st_blksize`.
pub(super) const BLOCK_SIZE: u32 = 4096;

pub(super) fn instant(time: Time) -> Instant {
    Instant { seconds: time.seconds, nanos: time.nanos }
}

/// A time to set.
pub(super) fn new_time(time: SetTime) -> NewTime {
    match time {
        SetTime::Now => NewTime::Now,
        SetTime::At(seconds, nanos) => NewTime::At(Time { seconds, nanos }),
    }
}

pub(super) fn attributes(attr: &Attr) -> Attributes {
    Attributes {
        ino: attr.ino,
        size: attr.size,
        blocks: attr.blocks,
        atime: instant(attr.atime),
        mtime: instant(attr.mtime),
        ctime: instant(attr.ctime),
        btime: instant(attr.btime),
        mode: attr.mode & 0o177_777,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        block_size: BLOCK_SIZE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_way_to_the_kernel_and_back() {
        for (seconds, nanos) in [(0, 0), (1_700_000_000, 999_999_999), (-1, 500_000_000), (-86_400, 0)] {
            let time = instant(Time { seconds, nanos });
            assert_eq!(new_time(SetTime::At(time.seconds, time.nanos)), NewTime::At(Time { seconds, nanos }));
        }
    }
}
