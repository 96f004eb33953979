//! Which events lie below a directory: ancestors as they were at the event.
//!
//! `moved` rows tell where a directory was before each change of its parent, so the chain of ancestors at a cursor is
//! rebuilt exactly from the table as it is now.

use std::collections::BTreeMap;

use proto::id::Ino;
use rt::table::Reader;

use super::ANYWHERE;
use crate::namespace::record::Cursor;
use crate::namespace::{Outcome, corrupt, inode, keys};

/// Directories remembered in one request.
const REMEMBERED_MAX: usize = 16_384;
/// Names in a path that is shown.
const PATH_NAMES_MAX: usize = 4096;

/// Answers for one subtree. Ask with cursors that do not fall: what is known of a directory holds up to its next move.
pub struct Subtree<'a, R: Reader + ?Sized> {
    reader: &'a R,
    volume: u64,
    root: u64,
    /// Directory -> whether inside, for cursors below the second.
    known: BTreeMap<u64, (bool, u64)>,
}

impl<'a, R: Reader + ?Sized> Subtree<'a, R> {
    /// The subtree below (and with) directory `root`.
    pub fn new(reader: &'a R, volume: u64, root: u64) -> Self {
        Self { reader, volume, root, known: BTreeMap::new() }
    }

    /// Whether `directory` lay inside at `cursor`.
    pub fn contains(&mut self, directory: u64, cursor: u64) -> Outcome<bool> {
        if self.root == Ino::ROOT.0 || directory == ANYWHERE {
            return Ok(true);
        }
        let mut passed = Vec::new();
        let (mut at, mut until) = (directory, u64::MAX);
        let inside = loop {
            if at == self.root {
                break true;
            }
            if at == Ino::ROOT.0 {
                break false;
            }
            if let Some((inside, holds_until)) = self.known.get(&at)
                && cursor < *holds_until
            {
                until = until.min(*holds_until);
                break *inside;
            }
            let (parent, moves_at) = self.parent_at(at, cursor)?;
            until = until.min(moves_at);
            passed.push(at);
            // A directory of which nothing is known any more: rather an event too many than one too few.
            let Some(parent) = parent else { break true };
            if passed.contains(&parent) {
                return Err(corrupt("circle of directories at", &keys::inode(self.volume, parent)));
            }
            at = parent;
        };
        if self.known.len() + passed.len() > REMEMBERED_MAX {
            self.known.clear();
        }
        self.known.extend(passed.into_iter().map(|directory| (directory, (inside, until))));
        Ok(inside)
    }

    /// The parent that a directory had at `cursor`, and the cursor at which it left it.
    fn parent_at(&self, directory: u64, cursor: u64) -> Outcome<(Option<u64>, u64)> {
        // The row of the event itself says where the directory was before: that is where the event saw it.
        let from = keys::moved(self.volume, directory, cursor);
        let to = keys::moved(self.volume, directory, u64::MAX);
        if let Some((key, value)) = self.reader.scan(&from, &to, 1)?.into_iter().next() {
            let parse = || Some((Cursor::new(&value)?.u64()?, keys::word(&key, 2)?));
            let (parent, moved_at) = parse().ok_or_else(|| corrupt("moved", &key))?;
            return Ok((Some(parent), moved_at.saturating_add(1)));
        }
        let now = inode::find(self.reader, self.volume, directory)?;
        Ok((now.map(|inode| inode.parent), u64::MAX))
    }
}

/// Path of a directory from the root, without a leading slash, as the names are now; `None` when it is gone.
pub fn path_of(reader: &(impl Reader + ?Sized), volume: u64, directory: u64) -> Outcome<Option<Vec<u8>>> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut at = directory;
    while at != Ino::ROOT.0 {
        let Some(inode) = inode::find(reader, volume, at)? else { return Ok(None) };
        match name_of(reader, volume, (inode.parent, inode.cookie))? {
            Some(name) if names.len() < PATH_NAMES_MAX => names.push(name),
            _ => return Ok(None),
        }
        at = inode.parent;
    }
    names.reverse();
    Ok(Some(names.join(&b'/')))
}

/// The name of a link as it is now.
pub fn name_of(
    reader: &(impl Reader + ?Sized),
    volume: u64,
    (parent, cookie): (u64, u64),
) -> Outcome<Option<Vec<u8>>> {
    let key = keys::order(volume, parent, cookie);
    match reader.get(&key)? {
        Some(value) => Ok(Some(crate::namespace::entry::parse_order(&key, &value)?.1)),
        None => Ok(None),
    }
}
