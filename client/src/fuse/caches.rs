//! The kernel of a mount as somebody who keeps what is leased.

use std::io;
use std::sync::Arc;

use super::kernel::notify::Notifier;
use super::listings::Listings;
use crate::lease::KernelCaches;

/// The kernel of one mount.
pub(super) struct MountCaches {
    pub(super) notifier: Notifier,
    pub(super) listings: Arc<Listings>,
}

fn told(what: &'static str, result: io::Result<bool>) -> bool {
    result.unwrap_or_else(|error| {
        tracing::warn!(what, %error, "the kernel could not be told to forget; it asks again when its time is over");
        false
    })
}

impl KernelCaches for MountCaches {
    fn forget_attr(&self, ino: u64) -> bool {
        told("attributes", self.notifier.inval_inode(ino, -1, 0))
    }

    fn forget_pages(&self, ino: u64, offset: u64, len: u64) {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        told("pages", self.notifier.inval_inode(ino, signed(offset), signed(len)));
    }

    fn forget_names(&self) {
        if self.can_forget_names() {
            told("names", self.notifier.inc_epoch().map(|()| true));
        }
    }

    fn can_forget_names(&self) -> bool {
        self.notifier.supports_inc_epoch()
    }

    fn listings(&self, directory: u64) -> Vec<u64> {
        self.listings.of(directory)
    }

    fn are_over(&self, listings: &[u64]) -> bool {
        self.listings.are_over(listings)
    }
}
