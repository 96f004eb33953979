//! File handles that the kernel holds. A handle that this process does not know was made by one that died: it is
//! opened again by its inode, with the rights that its number tells.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use crate::file::File;

/// Most inodes whose last seen change is remembered.
const SEEN_MAX: usize = 65_536;
/// Bit of a handle's number: it may write.
const WRITES: u64 = 1;

/// Open handles of one mount.
pub(super) struct Handles {
    next: AtomicU64,
    /// order: a leaf.
    files: RwLock<HashMap<u64, Arc<File>>>,
    /// Who took record locks through which handle of which inode. order: a leaf.
    lockers: Mutex<HashMap<u64, (u64, BTreeSet<u64>)>>,
    /// Files that were looked after since the mount was taken up. order: a leaf.
    looked_at: RwLock<HashSet<u64>>,
    /// Files that were made since the mount was taken up: no earlier process wrote or locked them. order: a leaf.
    made: RwLock<HashSet<u64>>,
    /// The change number of each inode when this mount last had it open. order: a leaf.
    seen: RwLock<HashMap<u64, u64>>,
}

impl Handles {
    /// Numbers start at the time, so that those of an earlier process do not come again.
    pub(super) fn new(now: Duration) -> Self {
        let start = u64::try_from(now.as_micros()).unwrap_or(1) << 8;
        Self {
            next: AtomicU64::new(start),
            files: RwLock::new(HashMap::new()),
            lockers: Mutex::new(HashMap::new()),
            looked_at: RwLock::new(HashSet::new()),
            made: RwLock::new(HashSet::new()),
            seen: RwLock::new(HashMap::new()),
        }
    }

    pub(super) fn insert(&self, file: Arc<File>) -> u64 {
        let number = self.next.fetch_add(2, Ordering::Relaxed) & !WRITES;
        let handle = number | u64::from(file.is_writable());
        self.files.write().insert(handle, file);
        handle
    }

    /// Puts a file back under a number that an earlier process gave. The first one stays.
    pub(super) fn restore(&self, handle: u64, file: Arc<File>) -> Arc<File> {
        self.files.write().entry(handle).or_insert(file).clone()
    }

    pub(super) fn get(&self, handle: u64) -> Option<Arc<File>> {
        self.files.read().get(&handle).cloned()
    }

    pub(super) fn remove(&self, handle: u64) -> Option<Arc<File>> {
        self.files.write().remove(&handle)
    }

    /// `owner` takes a record lock through `handle`.
    pub(super) fn locks(&self, ino: u64, handle: u64, owner: u64) {
        self.lockers.lock().entry(handle).or_insert_with(|| (ino, BTreeSet::new())).1.insert(owner);
    }

    /// A process closed a descriptor of the inode: none of its locks is left.
    pub(super) fn owner_closed(&self, ino: u64, owner: u64) {
        self.lockers.lock().retain(|_, (of, owners)| {
            if *of == ino {
                owners.remove(&owner);
            }
            !owners.is_empty()
        });
    }

    /// The handle is closed. Owners that are still there are no processes but the open file itself (`F_OFD_SETLK`), of
    /// whose end the kernel says nothing else.
    pub(super) fn locked_through(&self, handle: u64) -> BTreeSet<u64> {
        self.lockers.lock().remove(&handle).map(|(_, owners)| owners).unwrap_or_default()
    }

    pub(super) fn may_write(handle: u64) -> bool {
        handle & WRITES != 0
    }

    /// Whether this inode is asked for the first time since the mount was taken up.
    pub(super) fn is_first_look(&self, ino: u64) -> bool {
        if self.looked_at.read().contains(&ino) || self.is_made_here(ino) {
            return false;
        }
        let mut looked_at = self.looked_at.write();
        if looked_at.len() >= SEEN_MAX {
            looked_at.clear();
        }
        looked_at.insert(ino)
    }

    /// A file was made by this process. What is forgotten of many is asked for again.
    pub(super) fn made(&self, ino: u64) {
        let mut made = self.made.write();
        if made.len() >= SEEN_MAX {
            made.clear();
        }
        made.insert(ino);
    }

    /// Whether no earlier process of the mount can have used a file.
    pub(super) fn is_made_here(&self, ino: u64) -> bool {
        self.made.read().contains(&ino)
    }

    /// Remembers what an inode was when it was last open here.
    pub(super) fn saw(&self, ino: u64, change: u64) {
        let mut seen = self.seen.write();
        if seen.len() >= SEEN_MAX {
            seen.clear();
        }
        seen.insert(ino, change);
    }

    /// Whether the kernel's pages of this inode are still what the servers have.
    pub(super) fn is_unchanged(&self, ino: u64, change: u64) -> bool {
        self.seen.read().get(&ino) == Some(&change)
    }

    pub(super) fn count(&self) -> usize {
        self.files.read().len()
    }
}
