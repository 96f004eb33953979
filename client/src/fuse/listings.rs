//! Listings with attributes that the kernel may still be working through.
//!
//! A kernel that is told to forget all names asks again for those that it knew, or had asked for, before. Not so those of a
//! listing: it takes them for learned when it comes to them, which is after it has the answer, so perhaps after it was
//! told to forget. It is through with an answer when the next request on the same handle comes (one at a time reads through a
//! handle). Until then whoever wants the names back waits, and has the kernel forget once more.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Listings {
    next: AtomicU64,
    /// By handle: the directory, and the number of the listing. order: a leaf. Bounded by the directories that the kernel has
    /// open.
    under_way: Mutex<HashMap<u64, (u64, u64)>>,
}

impl Listings {
    /// A page of `directory` is about to be read for the kernel: before anything is decided that it may keep.
    pub(super) fn begins(&self, handle: u64, directory: u64) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.under_way.lock().insert(handle, (directory, number));
    }

    /// The kernel is through with what it was answered before, or was answered nothing that it may keep.
    pub(super) fn over(&self, handle: u64) {
        self.under_way.lock().remove(&handle);
    }

    /// Numbers of those under way.
    pub(super) fn of(&self, directory: u64) -> Vec<u64> {
        let under_way = self.under_way.lock();
        under_way.values().filter(|(of, _)| *of == directory).map(|(_, number)| *number).collect()
    }

    /// Whether all these are over.
    pub(super) fn are_over(&self, numbers: &[u64]) -> bool {
        !self.under_way.lock().values().any(|(_, number)| numbers.contains(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_over_with_the_next_request_on_its_handle() {
        let listings = Listings::default();
        listings.begins(1, 50);
        listings.begins(2, 50);
        listings.begins(3, 51);
        let wanted = listings.of(50);
        assert_eq!((wanted.len(), listings.of(52).len()), (2, 0));
        listings.over(1);
        assert!(!listings.are_over(&wanted));
        // The next page: what was wanted back is worked through, and this one is not what was meant.
        listings.begins(2, 50);
        assert!(listings.are_over(&wanted));
        assert_eq!(listings.of(50).len(), 1);
    }
}
