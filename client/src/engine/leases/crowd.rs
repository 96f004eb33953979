//! The names of a directory that has more of them than are kept: enough is kept of each to say of any other name that it is
//! not there, which is what whoever makes files has to know of every one of them.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher};

/// Names of all crowds of a client together: about 45 MB. One directory may have half of it.
pub(super) const CROWDS_MAX: usize = 4 * 1024 * 1024;

/// Hashes of names. A name whose hash is not here was not put here. One that is here may be there or not: another name
/// may have the same hash, and nothing is ever taken out, for that would take the other one as well.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    hashes: BTreeSet<u64>,
}

fn hash(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(name);
    hasher.finish()
}

impl Crowd {
    pub(super) fn len(&self) -> usize {
        self.hashes.len()
    }

    pub(super) fn may_have(&self, name: &[u8]) -> bool {
        !self.hashes.is_empty() && self.hashes.contains(&hash(name))
    }

    pub(super) fn add(&mut self, name: &[u8]) {
        self.hashes.insert(hash(name));
    }
}
