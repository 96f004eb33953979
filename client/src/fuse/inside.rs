//! `.xtfs`: the mount's own state as text files. Found by name at the root, not listed, so that `rm -r`, `tar` and
//! `diff -r` do not meet it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::mrc::kind;

use super::convert::{BLOCK_SIZE, instant};
use super::door::Shared;
use super::kernel::answer::{Attributes, Entry, Known};
use crate::config::{Creds, Patience};
use crate::error::{Code, Error, Result};

/// Inodes from here on are not the MRC's.
const FIRST: u64 = 1 << 63;
/// The directory's name.
const DIRECTORY: &[u8] = b".xtfs";
/// Its files, in inode order behind the directory.
const FILES: [&str; 4] = ["stats", "config", "accesslog", "whoami"];

pub(super) fn is_inside(ino: u64) -> bool {
    ino >= FIRST
}

/// What a name means when it lies inside; `None` leaves it to the MRC.
pub(super) fn lookup(parent: u64, name: &[u8]) -> Option<Result<u64>> {
    if parent == 1 && name == DIRECTORY {
        return Some(Ok(FIRST));
    }
    if !is_inside(parent) {
        return None;
    }
    let at = FILES.iter().position(|file| file.as_bytes() == name);
    let missing = || Error::new(Code::NotFound, format!(".xtfs has only {}", FILES.join(", ")));
    Some(at.map(|at| FIRST + 1 + at as u64).ok_or_else(missing))
}

/// What a name inside means. Never to be believed without asking: the texts are made when they are opened.
pub(super) fn entry(shared: &Shared, ino: u64) -> Entry {
    Entry { known: attr(shared, ino), ttl: Duration::ZERO }
}

/// Attributes of something inside.
pub(super) fn attr(shared: &Shared, ino: u64) -> Known {
    let is_directory = ino == FIRST;
    let now = instant(shared.volume.now());
    let attr = Attributes {
        ino,
        atime: now,
        mtime: now,
        ctime: now,
        btime: now,
        mode: if is_directory { libc::S_IFDIR | 0o555 } else { libc::S_IFREG | 0o444 },
        nlink: if is_directory { 2 } else { 1 },
        block_size: BLOCK_SIZE,
        ..Attributes::default()
    };
    Known { attr, ttl: Duration::ZERO }
}

/// Entries of the directory: inode, type, name.
pub(super) fn entries() -> impl Iterator<Item = (u64, u32, &'static str)> {
    FILES.iter().enumerate().map(|(at, name)| (FIRST + 1 + at as u64, kind::FILE, *name))
}

/// Texts of open files: one is made when its file is opened, for it is read in pieces. order: a leaf.
pub(super) struct Texts(Mutex<(u64, BTreeMap<u64, Bytes>)>);

/// Files that are open at once with a text of their own; of more each piece is made anew.
const TEXTS_MAX: usize = 256;

impl Texts {
    /// Handles start at the time, so that those of an earlier process do not come again.
    pub(super) fn new(now: Duration) -> Self {
        Self(Mutex::new((u64::try_from(now.as_micros()).unwrap_or(1) << 8, BTreeMap::new())))
    }

    /// Keeps a text; gives its handle, 0 when there is no room.
    pub(super) fn keep(&self, text: String) -> u64 {
        let mut texts = self.0.lock();
        if texts.1.len() >= TEXTS_MAX {
            return 0;
        }
        texts.0 += 1;
        let handle = texts.0;
        texts.1.insert(handle, Bytes::from(text));
        handle
    }

    pub(super) fn get(&self, handle: u64) -> Option<Bytes> {
        self.0.lock().1.get(&handle).cloned()
    }

    pub(super) fn forget(&self, handle: u64) {
        self.0.lock().1.remove(&handle);
    }
}

/// The text of a file.
pub(super) fn text(shared: &Shared, ino: u64, creds: &Creds) -> Result<String> {
    match ino.checked_sub(FIRST + 1) {
        Some(0) => {
            let reads = shared.volume.osds().hedged_reads();
            Ok(format!(
                "open_handles {}\nhedged_reads {}\nreplica_reads {}\n{}",
                shared.handles.count(),
                reads.hedged,
                reads.by_replicas,
                shared.record.stats()
            ))
        }
        Some(1) => Ok(config(shared)),
        Some(2) => Ok(shared.record.access_log()),
        Some(3) => Ok(format!("uid {}\ngid {}\n", creds.uid, creds.gid)),
        _ => Err(Error::new(Code::IsDirectory, ".xtfs is a directory")),
    }
}

fn config(shared: &Shared) -> String {
    let (volume, options) = (&shared.volume, &shared.options);
    let entry = volume.entry();
    let patience = match volume.client().config().patience {
        Patience::Forever => "forever".to_owned(),
        Patience::For(limit) => format!("{} ms", limit.as_millis()),
    };
    format!(
        "volume {}\nvolume_id {}\nmrc {}\ndir {}\nstripe_bytes {}\nstripe_width {}\nreplicas {}\nsession {:016x}\n\
         client {}\npatience {patience}\nread_only {}\nwriteback {}\ndefault_permissions {}\nsurvivable {}\n\
         transport {}\nresumed {}\nosd_map_epoch {}\nversion {}\n",
        entry.name,
        entry.volume,
        volume.session().group().addrs().join(","),
        volume.client().dir().addrs().join(","),
        entry.striping.stripe_bytes,
        entry.striping.width,
        entry.striping.replicas,
        volume.session().id(),
        volume.client().config().name,
        options.read_only,
        shared.stage.is_some(),
        options.default_permissions,
        options.survivable,
        if shared.ring { "io_uring" } else { "read" },
        shared.resumed,
        volume.client().osds().map().epoch,
        env!("CARGO_PKG_VERSION"),
    )
}
