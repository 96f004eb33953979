//! Rows by name, each of which must have its listing row.
//!
//! The listing rows were looked at before ([`super::entries`]): each has its own row by name, or its directory is
//! remembered. So where a directory has as many rows of both kinds, all of them belong together, and none has to be
//! looked up.

use proto::fsck::Fault;
use rt::table::Pair;

use super::entries::Listed;
use super::{Check, listed, rows};
use crate::namespace::entry;
use crate::namespace::keys::{self, table};
use crate::namespace::{Outcome, corrupt};

/// The rows by name of one directory.
#[derive(Clone, Copy, Default)]
struct Group {
    directory: u64,
    rows: u64,
}

impl Check<'_> {
    /// All rows by name, directory by directory.
    pub(super) fn names(&mut self) -> Outcome<()> {
        let mut group = Group::default();
        self.each_row(table::DENTRY, |check, (key, value)| {
            let Some(parent) = keys::word(key, 1) else {
                check.bad_row(key, "entry");
                return Ok(());
            };
            if parent != group.directory {
                let done = std::mem::replace(&mut group, Group { directory: parent, rows: 0 });
                check.names_in(done)?;
            }
            group.rows += 1;
            if !rows::parses(key, value) {
                check.unnamed.insert(parent);
                check.bad_row(key, "entry");
            }
            Ok(())
        })?;
        self.names_in(group)
    }

    fn names_in(&mut self, group: Group) -> Outcome<()> {
        if group.rows == 0 || self.stopped || self.cut {
            return Ok(());
        }
        let (volume, directory) = (self.volume, group.directory);
        if !self.unnamed.contains(&directory) {
            let mut count = 0;
            // Looked at before: these rows count once.
            self.each_row_of(keys::listing_of(volume, directory), 0, |_, _| {
                count += 1;
                Ok(())
            })?;
            if count == group.rows || self.stopped {
                return Ok(());
            }
        }
        self.each_row_of(keys::dentry(volume, directory, &[]), 0, Self::name)
    }

    fn name(&mut self, (key, value): &Pair) -> Outcome<()> {
        if !rows::parses(key, value) {
            return Ok(());
        }
        let (parent, name) = (keys::word(key, 1).ok_or_else(|| corrupt("entry", key))?, &key[17..]);
        let entry = entry::parse(key, value)?;
        let listed = listed(self.reader, self.volume, (parent, entry.cookie))?;
        // The same name with another inode was told of with the listing.
        if listed.is_none_or(|(_, other)| other != name) {
            let shown = String::from_utf8_lossy(name);
            let text = format!("{shown:?} can be looked up in {} and is not listed", self.path(parent));
            self.tell(Listed { parent, entry, name }.finding(Fault::EntryUnlisted, text));
        }
        Ok(())
    }
}
