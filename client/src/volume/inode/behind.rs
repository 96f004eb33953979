//! What may happen before what was written is at the OSDs and reported: a close. See
//! `docs/protocols/write-behind.md`, "Closing".

use std::sync::atomic::Ordering;

use proto::mrc::LEASE_WRITE;

use super::Inode;
use crate::engine::kept;
use crate::stage::Stage;

/// A handle for writing on its way out.
pub(crate) struct Leaving<'a>(&'a Inode);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.leaving.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Inode {
    /// A handle for writing is closed and will be told.
    pub(crate) fn leave(&self) -> Leaving<'_> {
        self.leaving.fetch_add(1, Ordering::AcqRel);
        Leaving(self)
    }

    /// Handles for writing of which the session knows although nothing is written through them any more.
    pub(crate) fn leaving(&self) -> usize {
        self.leaving.load(Ordering::Acquire)
    }

    /// Whether there is something to tell the MRC.
    pub(crate) fn is_unreported(&self) -> bool {
        let size = self.size.lock();
        size.is_gathering() || size.is_dirty()
    }

    /// Whether attributes were set here and not told.
    pub(crate) fn keeps(&self) -> bool {
        self.size.lock().kept().is_some()
    }

    /// Whether some of them have to be told before the file is written again.
    pub(crate) fn keeps_what_comes_last(&self) -> bool {
        self.size.lock().kept().is_some_and(|kept| !kept::may_be_overtaken(&kept))
    }

    /// Whether close(2) may be answered before what was written is at the OSDs and reported. Nobody misses it, for only this
    /// client may look; a successor of this process finds it and where the file ends; nothing can refuse it: there is room.
    pub(crate) fn may_land_later(&self, stage: &Stage) -> bool {
        let ours = self.volume.leasing().bits(self.key()) & LEASE_WRITE != 0;
        ours && self.is_end_kept()
            && !self.room.lock().is_limited()
            && !stage.is_scarce()
            && !self.volume.is_short()
            && match self.is_confirmed() {
                true => self.volume.osds().have_room(&self.credentials().layout),
                // Any of them may get it.
                false => self.volume.osds().all_have_room(),
            }
    }

    /// Whether a slot or a mark of the stage says where the file ends, and the MRC does not.
    fn is_end_kept(&self) -> bool {
        // In this order: a piece that lands leaves its mark before it counts as out.
        let (end, gathered, knows_blocks, is_written) = {
            let size = self.size.lock();
            (size.size(), size.gathered_end(), size.knows_blocks(), size.is_written())
        };
        let has_mark = || gathered == Some(end) || self.buffer.marked_end() == Some(end);
        // Attributes that were set have a slot of their own.
        knows_blocks && (!is_written || self.is_beyond(end) && has_mark())
    }
}
