//! Between the MRC's attributes and the kernel's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};
use proto::mrc::{Attr, Time, kind};

use crate::volume::attrs::NewTime;

/// `st_blksize`.
pub(super) const BLOCK_SIZE: u32 = 4096;

pub(super) fn file_type(kind_number: u32) -> FileType {
    match kind_number {
        kind::FIFO => FileType::NamedPipe,
        kind::CHAR => FileType::CharDevice,
        kind::DIR => FileType::Directory,
        kind::BLOCK => FileType::BlockDevice,
        kind::SYMLINK => FileType::Symlink,
        kind::SOCKET => FileType::Socket,
        _ => FileType::RegularFile,
    }
}

pub(super) fn system_time(time: Time) -> SystemTime {
    let nanos = Duration::from_nanos(u64::from(time.nanos));
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let base =
        if time.seconds >= 0 { UNIX_EPOCH.checked_add(seconds) } else { UNIX_EPOCH.checked_sub(seconds) };
    base.and_then(|base| base.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}

fn wire_time(time: SystemTime) -> Time {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => {
            Time { seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: since.subsec_nanos() }
        }
        Err(before) => {
            let before = before.duration();
            let seconds = -i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            match before.subsec_nanos() {
                0 => Time { seconds, nanos: 0 },
                nanos => Time { seconds: seconds - 1, nanos: 1_000_000_000 - nanos },
            }
        }
    }
}

/// A time to set. fuser 0.18 mirrors the nanoseconds of times before 1970; this mirrors them back.
pub(super) fn new_time(time: TimeOrNow) -> NewTime {
    match time {
        TimeOrNow::Now => NewTime::Now,
        TimeOrNow::SpecificTime(time) => match time.duration_since(UNIX_EPOCH) {
            Ok(_) => NewTime::At(wire_time(time)),
            Err(before) => {
                let before = before.duration();
                let seconds = -i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
                NewTime::At(Time { seconds, nanos: before.subsec_nanos() })
            }
        },
    }
}

pub(super) fn file_attr(attr: &Attr) -> FileAttr {
    let has_data = matches!(attr.mode >> 12, kind::FILE | kind::SYMLINK);
    let blocks = if attr.blocks == 0 && has_data { attr.size.div_ceil(512) } else { attr.blocks };
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks,
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: system_time(attr.btime),
        kind: file_type(attr.mode >> 12),
        perm: u16::try_from(attr.mode & 0o7777).expect("twelve bits"),
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: BLOCK_SIZE,
        flags: attr.flags,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_way_to_the_kernel_and_back() {
        for time in [(0, 0), (1_700_000_000, 999_999_999), (-1, 500_000_000), (-86_400, 0)] {
            let time = Time { seconds: time.0, nanos: time.1 };
            assert_eq!(wire_time(system_time(time)), time);
        }
    }
}
