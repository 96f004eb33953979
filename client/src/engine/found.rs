//! By which name a kernel found an inode last. It resolves the old name of a link(2) before it asks for the new one; with this the MRC
//! can tell whether that name was moved in between.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::HashMap;

use proto::mrc::FoundAs;

/// Names kept at most; then all are forgotten, which costs nothing but the check.
const NAMES_MAX: usize = 65_536;

/// See the module.
#[derive(Debug, Default)]
pub struct Found(HashMap<u64, FoundAs>);

impl Found {
    /// A name led to an inode.
    pub fn learn(&mut self, ino: u64, parent: u64, name: &[u8]) {
        if self.0.len() >= NAMES_MAX && !self.0.contains_key(&ino) {
            self.0.clear();
        }
        self.0.insert(ino, FoundAs { parent, name: name.to_vec() });
    }

    /// The name by which it was found last.
    #[must_use]
    pub fn name_of(&self, ino: u64) -> Option<FoundAs> {
        self.0.get(&ino).cloned()
    }

    /// That name leads elsewhere: the kernel looks again, or has it open and needs no name.
    pub fn forget(&mut self, ino: u64) {
        self.0.remove(&ino);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_name_counts_and_the_table_has_an_end() {
        let mut found = Found::default();
        found.learn(7, 1, b"a");
        found.learn(7, 2, b"b");
        assert_eq!(found.name_of(7), Some(FoundAs { parent: 2, name: b"b".to_vec() }));
        found.forget(7);
        assert_eq!(found.name_of(7), None);
        for ino in 0..=NAMES_MAX as u64 {
            found.learn(ino, 1, b"x");
        }
        assert_eq!((found.0.len(), found.name_of(0)), (1, None));
    }
}
