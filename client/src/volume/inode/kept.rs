//! Attributes that are answered here while the file is ours to write, and reported with what was written. See
//! `docs/protocols/write-behind.md`, "Attributes".

use std::sync::Arc;

use proto::error::{Code, WireError};
use proto::mrc::{Attr, KeptAttributes, LEASE_WRITE};

use super::Inode;
use crate::config::Creds;
use crate::engine::kept;
use crate::engine::leases::Use;
use crate::error::Result;
use crate::stage::{Slot, Stage};
use crate::volume::attrs::Changes;

/// Attributes that a change of rights or owner changes too, by rules of the MRC.
const TOUCHED: [&[u8]; 2] = [b"system.posix_acl_access", b"security.capability"];

/// What is set.
#[derive(Clone, Copy)]
pub(crate) enum Setting<'a> {
    Attributes(&'a Changes),
    /// `system.posix_acl_access`.
    AccessList(&'a [u8]),
}

impl Inode {
    /// Sets attributes without asking. `None`: that is the MRC's to decide, or a successor of this process would not know.
    pub(crate) async fn keep(
        self: &Arc<Self>,
        creds: &Creds,
        what: Setting<'_>,
        stage: &Arc<Stage>,
    ) -> Option<Attr> {
        let leasing = self.volume.leasing();
        let ours = || leasing.bits(self.key()) & LEASE_WRITE != 0;
        if !creds.checked || stage.is_scarce() || !ours() {
            return None;
        }
        // The lease stays while this runs; nobody reports, cuts or grows the file meanwhile.
        let using = self.take_held(Use::Write)?;
        let _reporting = self.reporting.try_lock().ok()?;
        let _shared = self.data.try_read().ok()?;
        let touched = TOUCHED.iter().any(|name| matches!(leasing.xattr(self.key(), name), Some(Some(_))));
        let mut attr = leasing.attr(self.key()).filter(|_| !touched)?;
        self.learn_and_show(&mut attr);
        let epoch = self.volume.session().epoch();
        let now = self.volume.now();
        let set = match what {
            Setting::Attributes(changes) => kept::keep(&attr, changes, now, epoch),
            Setting::AccessList(value) => kept::keep_plain_acl(&attr, value, now, epoch),
        }?;
        let became_dirty = {
            let mut size = self.size.lock();
            let all = kept::join(size.kept(), set);
            // Before it counts: what is answered outlives this process.
            if !self.keep_for_successors(stage, all) {
                return None;
            }
            let became_dirty = size.keep(all);
            size.show(&mut attr);
            became_dirty
        };
        drop(using);
        self.dirty_if(became_dirty);
        Some(attr)
    }

    /// An earlier process of this mount had answered this, and it is in this slot.
    pub(crate) fn kept_before(self: &Arc<Self>, attributes: KeptAttributes, slot: Slot) {
        self.keep_slot(slot);
        let became_dirty = self.size.lock().keep(attributes);
        self.dirty_if(became_dirty);
    }

    /// What is kept is told before anything that needs the MRC to know it, and before the file changes again: then it is
    /// always what came last. Ends also when some of the file waits for room ([`crate::engine::size::Size::report_kept`]).
    pub(crate) async fn settle(self: &Arc<Self>) -> Result<()> {
        // What was written before it goes first; who writes now waits here too.
        while self.keeps() {
            self.report().await?;
        }
        Ok(())
    }

    /// What was kept in a session that ended meanwhile: others may have changed the file, so it is lost.
    pub(super) fn give_up_kept_of_another_epoch(&self) {
        let lost = {
            let mut size = self.size.lock();
            let lost = size.kept().filter(|kept| kept.epoch != self.volume.session().epoch());
            if lost.is_some() {
                size.forget_kept();
            }
            lost
        };
        if lost.is_some() {
            self.unkeep();
            tracing::error!(ino = self.ino, "attributes that were set are lost: the session ended meanwhile");
            let text = format!(
                "rights or times of ino-{} were being set when this client lost its session at the MRC (it did not \
                 answer in time); they were not set",
                self.ino
            );
            self.errors.add(WireError::new(Code::Io, text));
        }
    }
}
