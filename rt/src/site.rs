//! Fault sites: named places where something went wrong or a rare branch is taken: a refused write, a stale epoch, a torn
//! record, a repeat that is answered from the record. The simulator counts which of them its seeds reach, and names those
//! that none does (FoundationDB's `CODE_PROBE`, Antithesis' `sometimes`). See `chaos/README.md`.
//!
//! A site is known by being linked, hit or not. It decides nothing: code that passes one cannot see it, so an engine with
//! sites is as deterministic as without. In production a hit is a load and a store of a number of its own, without a lock
//! prefix: it may miss one of two simultaneous hits. After [`ENOUGH`] of them the store stops, so that a site on a busy
//! path is a number that all cores only read.
//!
//! ```
//! # let (theirs, promised) = (1, 2);
//! // Reached when something has happened ...
//! if theirs < promised {
//!     rt::site!("example.epoch.stale");
//! }
//! // ... or with a condition, which it gives back.
//! if rt::site!("example.epoch.older", theirs < promised) { /* refuse */ }
//! ```

use std::sync::atomic::{AtomicU32, Ordering};

#[doc(hidden)]
pub use linkme;
use linkme::distributed_slice;

/// Hits are not counted beyond.
pub const ENOUGH: u32 = 1_000_000;

/// See the module; made by [`site!`](crate::site!).
#[derive(Debug)]
pub struct Site {
    name: &'static str,
    hits: AtomicU32,
}

/// All that are linked.
#[doc(hidden)]
#[distributed_slice]
pub static SITES: [&'static Site];

impl Site {
    /// A site that was not hit yet.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, hits: AtomicU32::new(0) }
    }

    /// The program came by.
    #[doc(hidden)]
    #[inline]
    pub fn hit(&self) {
        let hits = self.hits.load(Ordering::Relaxed);
        if hits < ENOUGH {
            self.hits.store(hits + 1, Ordering::Relaxed);
        }
    }

    /// What happened: part, thing, event, with dots between.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// How often, in this process; at most [`ENOUGH`].
    #[must_use]
    pub fn hits(&self) -> u32 {
        self.hits.load(Ordering::Relaxed)
    }
}

/// All sites of this program, by name.
#[must_use]
pub fn all() -> Vec<&'static Site> {
    let mut sites: Vec<&'static Site> = SITES.iter().copied().collect();
    sites.sort_by_key(|site| site.name);
    sites
}

/// Marks a fault site; see [`mod@crate::site`]. With a condition it is hit when that holds, and gives it back.
#[macro_export]
macro_rules! site {
    ($name:literal) => {{
        static SITE: $crate::site::Site = $crate::site::Site::new($name);
        #[$crate::site::linkme::distributed_slice($crate::site::SITES)]
        #[linkme(crate = $crate::site::linkme)]
        static ENTRY: &'static $crate::site::Site = &SITE;
        SITE.hit();
    }};
    ($name:literal, $holds:expr) => {{
        let holds: bool = $holds;
        if holds {
            $crate::site!($name);
        }
        holds
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Option<u32> {
        all().iter().find(|site| site.name() == name).map(|site| site.hits())
    }

    #[test]
    fn sites_are_known_before_they_are_hit_and_count() {
        let refuses = |theirs: u32| site!("test.epoch.stale", theirs < 2);
        assert_eq!(of("test.epoch.stale"), Some(0));
        assert!(!refuses(2) && refuses(1) && refuses(0));
        assert_eq!(of("test.epoch.stale"), Some(2));
        assert_eq!(of("test.epoch.nobody"), None);
    }

    #[test]
    fn counting_ends() {
        let site = Site::new("test.busy");
        site.hits.store(ENOUGH - 1, Ordering::Relaxed);
        site.hit();
        site.hit();
        assert_eq!(site.hits(), ENOUGH);
    }
}
