//! Directories as they were when the kernel was told of them last. One that another mount removed has attributes still for
//! who has it open or works in it, as a local one: what it was, and no links.

use std::collections::HashMap;

use parking_lot::Mutex;
use proto::mrc::{Attr, kind};

/// Directories remembered. With more than that all are forgotten: one that is removed then is `ESTALE`.
const KNOWN_MAX: usize = 16_384;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Directories {
    /// order: a leaf.
    known: Mutex<HashMap<u64, Attr>>,
}

impl Directories {
    /// The kernel is told of these attributes.
    pub(super) fn told(&self, attr: &Attr) {
        if attr.mode >> 12 != kind::DIR {
            return;
        }
        let mut known = self.known.lock();
        if known.len() >= KNOWN_MAX && !known.contains_key(&attr.ino) {
            known.clear();
        }
        known.insert(attr.ino, attr.clone());
    }

    /// The attributes of a directory that is not there any more.
    pub(super) fn removed(&self, ino: u64) -> Option<Attr> {
        self.known.lock().get(&ino).map(|attr| Attr { nlink: 0, ..attr.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_directory_is_what_it_was_without_links_and_files_are_not_known() {
        let directories = Directories::default();
        let attr = |ino, kind: u32| Attr { ino, mode: kind << 12 | 0o751, nlink: 2, ..Attr::default() };
        directories.told(&attr(5, kind::DIR));
        directories.told(&attr(6, kind::FILE));
        let removed = directories.removed(5).unwrap();
        assert_eq!((removed.mode & 0o777, removed.nlink), (0o751, 0));
        assert!(directories.removed(6).is_none());
        for ino in 100..=100 + KNOWN_MAX as u64 {
            directories.told(&attr(ino, kind::DIR));
        }
        assert!(directories.known.lock().len() <= KNOWN_MAX && directories.removed(5).is_none());
    }
}
