//! What a caller may see of a tree as it is now: directories that it may list and reach.

use std::collections::BTreeMap;

use proto::id::Ino;
use proto::mrc::Head;
use rt::table::Reader;

use crate::namespace::inode::{self, Inode};
use crate::namespace::{Outcome, access};

/// Directories remembered in one request.
const REMEMBERED_MAX: usize = 16_384;

/// Answers for one caller.
pub struct Eyes<'a, R: Reader + ?Sized> {
    reader: &'a R,
    head: &'a Head,
    /// Directory -> whether every directory above and itself may be searched.
    reached: BTreeMap<u64, bool>,
}

impl<'a, R: Reader + ?Sized> Eyes<'a, R> {
    /// The caller of `head`.
    pub fn new(reader: &'a R, head: &'a Head) -> Self {
        Self { reader, head, reached: BTreeMap::new() }
    }

    /// Whether the names in a directory may be seen.
    pub fn may_list(&mut self, directory: u64) -> Outcome<bool> {
        if self.head.permission_checked || self.head.uid == 0 {
            return Ok(true);
        }
        let Some(inode) = inode::find(self.reader, self.head.volume, directory)? else { return Ok(false) };
        Ok(inode.is_dir() && self.allows(&inode, access::R | access::X) && self.reaches(&inode)?)
    }

    fn allows(&self, inode: &Inode, mask: u32) -> bool {
        access::require(inode, self.head, mask).is_ok()
    }

    /// Walks up until something is known.
    fn reaches(&mut self, directory: &Inode) -> Outcome<bool> {
        let mut passed = Vec::new();
        let mut at = directory.clone();
        let reached = loop {
            if let Some(known) = self.reached.get(&at.attr.ino) {
                break *known;
            }
            passed.push(at.attr.ino);
            if !self.allows(&at, access::X) {
                break false;
            }
            if at.attr.ino == Ino::ROOT.0 {
                break true;
            }
            match inode::find(self.reader, self.head.volume, at.parent)? {
                Some(parent) if parent.is_dir() && !passed.contains(&parent.attr.ino) => at = parent,
                _ => break false,
            }
        };
        if self.reached.len() > REMEMBERED_MAX {
            self.reached.clear();
        }
        // When the walk ended with a refusal, only those below it are known not to be reached; all of them are.
        self.reached.extend(passed.into_iter().map(|ino| (ino, reached)));
        Ok(reached)
    }
}
