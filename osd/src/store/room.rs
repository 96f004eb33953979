//! The room below the store, and the file that keeps some of it. The rules are in [`crate::engine::room`].

use std::sync::Arc;

use parking_lot::Mutex;
use rt::disk::{Disk, DiskFile};

use super::error::{Result, StoreError};
use crate::engine::room::{Kept, Refusal, Room as Rules};

/// The file whose bytes are the reserve.
const RESERVE: &str = "reserve";

struct Inner {
    rules: Rules,
    /// `None`: it could not be made yet.
    file: Option<Arc<dyn DiskFile>>,
}

/// See the module.
pub(crate) struct Room {
    disk: Arc<dyn Disk>,
    /// order: a leaf.
    inner: Mutex<Inner>,
}

/// Before anything else of a store is opened on a disk that is full: gives its reserve up, so that the rest can open.
pub(crate) fn give_up_for_opening(disk: &dyn Disk, needed: u64) {
    if disk.free_bytes().is_ok_and(|free| free < needed)
        && let Ok(file) = disk.open(RESERVE, false)
    {
        match file.set_len(0) {
            Ok(()) => {
                tracing::warn!("the disk of the OSD is full; its reserve is given up so that it can start")
            }
            Err(error) => tracing::warn!(%error, "the reserve of the OSD cannot be given up"),
        }
    }
}

impl Room {
    pub(crate) fn open(disk: Arc<dyn Disk>, kept: Kept) -> Self {
        let file = if kept.reserve > 0 { disk.open(RESERVE, true).ok() } else { None };
        let held = file.as_ref().and_then(|file| file.len().ok()).unwrap_or(0);
        let rules = Rules::new(kept, held.min(kept.reserve), free(&*disk));
        let room = Self { disk, inner: Mutex::new(Inner { rules, file }) };
        room.restore();
        room
    }

    /// Looks how much is free.
    pub(crate) fn look(&self) {
        let free = free(&*self.disk);
        self.inner.lock().rules.saw(free);
    }

    /// Something was written that needed room.
    pub(crate) fn took(&self, bytes: u64) {
        let mut inner = self.inner.lock();
        if inner.rules.took(bytes) {
            inner.rules.saw(free(&*self.disk));
        }
    }

    pub(crate) fn settle(&self) {
        self.inner.lock().rules.settle();
    }

    /// Bytes by which data of clients may grow.
    pub(crate) fn growable(&self) -> u64 {
        self.inner.lock().rules.growable()
    }

    pub(crate) fn is_tight(&self) -> bool {
        self.inner.lock().rules.is_tight()
    }

    pub(crate) fn promisable(&self) -> u64 {
        self.inner.lock().rules.promisable()
    }

    pub(crate) fn sharers(&self) -> u64 {
        self.inner.lock().rules.sharers()
    }

    /// Whether clients may write at all. What was refused before is looked at anew.
    pub(crate) fn admit(&self) -> Result<()> {
        self.unless(Rules::refusal)
    }

    /// The same for data that a primary has numbered.
    pub(crate) fn admit_numbered(&self) -> Result<()> {
        self.unless(Rules::refusal_of_numbered)
    }

    fn unless(&self, refusal: impl Fn(&Rules) -> Option<Refusal>) -> Result<()> {
        let mut inner = self.inner.lock();
        if refusal(&inner.rules).is_none() {
            return Ok(());
        }
        inner.rules.saw(free(&*self.disk));
        match refusal(&inner.rules) {
            None => Ok(()),
            Some(refusal) => Err(StoreError::NoSpace(told(refusal))),
        }
    }

    /// Makes sure of `bytes` for work that must go on, from the reserve if need be.
    pub(crate) fn must_have(&self, bytes: u64, what: &str) -> Result<()> {
        self.look();
        while !self.inner.lock().rules.has(bytes) {
            if !self.give_up() {
                return Err(StoreError::NoSpace(format!(
                    "the file system under the OSD is full and its reserve is used up: no {bytes} bytes for {what}; free some \
                     room there, it goes on by itself"
                )));
            }
        }
        Ok(())
    }

    /// There is no room for work that must go on: a part of the reserve is given up for it. False: nothing is left.
    pub(crate) fn give_up(&self) -> bool {
        self.shrink(Rules::smaller)
    }

    /// The same for data that a primary has numbered, which may take a part only.
    pub(crate) fn give_up_for_numbered(&self) -> bool {
        self.shrink(Rules::smaller_for_numbered)
    }

    fn shrink(&self, smaller: impl Fn(&Rules) -> Option<u64>) -> bool {
        let mut inner = self.inner.lock();
        let (Some(smaller), Some(file)) = (smaller(&inner.rules), inner.file.clone()) else { return false };
        if let Err(error) = file.set_len(smaller) {
            tracing::warn!(%error, "the reserve of the OSD cannot be given up");
            return false;
        }
        tracing::warn!(left = smaller, "the disk of the OSD is full: a part of its reserve is used");
        inner.rules.holds(smaller);
        inner.rules.saw(free(&*self.disk));
        true
    }

    /// Takes back of the reserve what there is room for.
    pub(crate) fn restore(&self) {
        let mut inner = self.inner.lock();
        inner.rules.saw(free(&*self.disk));
        let Some(larger) = inner.rules.larger() else { return };
        if inner.file.is_none() {
            inner.file = self.disk.open(RESERVE, true).ok();
        }
        let Some(file) = inner.file.clone() else { return };
        match file.allocate(larger) {
            Ok(()) => inner.rules.holds(larger),
            // Somebody was quicker.
            Err(error) => tracing::debug!(%error, "the reserve of the OSD is not whole yet"),
        }
        inner.rules.saw(free(&*self.disk));
    }
}

fn told(refusal: Refusal) -> String {
    match refusal {
        Refusal::Unsettled => {
            "the OSD started on a full disk and takes no data before its metadata table is written; free \
                               some room there, it goes on by itself"
                .to_owned()
        }
        Refusal::Reserve { missing } => format!(
            "the file system under the OSD is full: {missing} bytes of the OSD's reserve are missing; delete files or free \
             room there, it goes on by itself"
        ),
        Refusal::Floor { free } => format!(
            "the file system under the OSD is full: {free} bytes are left, which journal and deletes need; delete files or \
             free room there, it goes on by itself"
        ),
    }
}

/// An unknown amount counts as plenty: then the writes themselves find out.
fn free(disk: &dyn Disk) -> u64 {
    disk.free_bytes().unwrap_or(u64::MAX)
}
