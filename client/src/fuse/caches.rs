//! The kernel of a mount as somebody who keeps what is leased.

use std::io;

use super::kernel::notify::Notifier;
use crate::lease::KernelCaches;

/// The kernel of one mount.
pub(super) struct MountCaches(pub(super) Notifier);

fn told(what: &'static str, result: io::Result<bool>) -> bool {
    result.unwrap_or_else(|error| {
        tracing::warn!(what, %error, "the kernel could not be told to forget; it asks again when its time is over");
        false
    })
}

impl KernelCaches for MountCaches {
    fn forget_attr(&self, ino: u64) -> bool {
        told("attributes", self.0.inval_inode(ino, -1, 0))
    }

    fn forget_pages(&self, ino: u64, offset: u64, len: u64) {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        told("pages", self.0.inval_inode(ino, signed(offset), signed(len)));
    }

    fn forget_names(&self) {
        if self.can_forget_names() {
            told("names", self.0.inc_epoch().map(|()| true));
        }
    }

    fn can_forget_names(&self) -> bool {
        self.0.supports_inc_epoch()
    }
}
