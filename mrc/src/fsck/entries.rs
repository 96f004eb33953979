//! Entries: both rows, the directory, the inode, and that the inode knows of them. Directories' counts by the way.

use proto::fsck::{Fault, Finding};
use proto::id::Ino;
use rt::table::Pair;

use super::{Check, Row, rows};
use crate::namespace::entry::{self, Entry};
use crate::namespace::inode::{Body, Inode};
use crate::namespace::keys::{self, table};
use crate::namespace::{Outcome, corrupt};
use crate::usage::{self, Amount};

/// What the entries of one directory come to.
#[derive(Default)]
struct Sum {
    directory: u64,
    entries: u64,
    subdirectories: u32,
    last_cookie: u64,
    /// Own amounts of what has its home here, and what was carried through the directories among it.
    usage: Amount,
}

/// An entry as its listing row says it.
pub(super) struct Listed<'a> {
    pub(super) parent: u64,
    pub(super) entry: Entry,
    pub(super) name: &'a [u8],
}

impl Listed<'_> {
    pub(super) fn finding(&self, fault: Fault, text: String) -> Finding {
        Finding {
            fault: fault as i32,
            ino: self.entry.ino,
            parent: self.parent,
            cookie: self.entry.cookie,
            name: self.name.to_vec(),
            text,
            ..Finding::default()
        }
    }
}

impl Check<'_> {
    /// Listing rows, directory by directory.
    pub(super) fn entries(&mut self) -> Outcome<()> {
        let mut sum = Sum::default();
        self.each_row(table::ORDER, |check, row| {
            let parent = keys::word(&row.0, 1).ok_or_else(|| corrupt("listing", &row.0))?;
            if parent != sum.directory {
                let done = std::mem::replace(&mut sum, Sum { directory: parent, ..Sum::default() });
                check.directory(&done)?;
            }
            check.entry(row, &mut sum)
        })?;
        // Of a check that was ended the last directory is not summed up whole.
        if self.stopped { Ok(()) } else { self.directory(&sum) }
    }

    fn entry(&mut self, (key, value): &Pair, sum: &mut Sum) -> Outcome<()> {
        if !rows::parses(key, value) {
            self.bad_row(key, "listing");
            self.unnamed.insert(sum.directory);
            return Ok(());
        }
        let (entry, name) = entry::parse_order(key, value)?;
        let at = Listed { parent: sum.directory, entry, name: &name };
        sum.entries += 1;
        sum.last_cookie = entry.cookie;
        let shown = String::from_utf8_lossy(&name).into_owned();
        if !self.is_directory(at.parent)? {
            self.unnamed.insert(at.parent);
            let text = format!("entry {shown:?} lies in {}, which is no directory", Ino(at.parent));
            self.tell(at.finding(Fault::EntryLost, text));
            return Ok(());
        }
        self.by_name(&at)?;
        match self.look(entry.ino)? {
            Row::Bad => {}
            Row::Missing => {
                let text = format!(
                    "{shown:?} in {} leads to {}, which does not exist",
                    self.path(at.parent),
                    Ino(entry.ino)
                );
                self.tell(at.finding(Fault::EntryLost, text));
            }
            Row::Here(inode) => self.target(&at, &inode, sum)?,
        }
        Ok(())
    }

    fn by_name(&mut self, at: &Listed<'_>) -> Outcome<()> {
        let key = keys::dentry(self.volume, at.parent, at.name);
        let known = match self.reader.get(&key)? {
            Some(value) if rows::parses(&key, &value) => Some(entry::parse(&key, &value)?),
            _ => None,
        };
        let same = known.is_some_and(|known| (known.ino, known.cookie) == (at.entry.ino, at.entry.cookie));
        if !same {
            self.unnamed.insert(at.parent);
            let shown = String::from_utf8_lossy(at.name);
            let text =
                format!("{shown:?} is listed in {} and cannot be looked up as such", self.path(at.parent));
            self.tell(at.finding(Fault::EntryUnnamed, text));
        } else if known.is_some_and(|known| known.kind != at.entry.kind) {
            self.wrong_kind(at);
        }
        Ok(())
    }

    fn wrong_kind(&mut self, at: &Listed<'_>) {
        let shown = String::from_utf8_lossy(at.name);
        let text =
            format!("the rows of {shown:?} in {} name another kind than the inode has", self.path(at.parent));
        self.tell(at.finding(Fault::EntryKind, text));
    }

    fn target(&mut self, at: &Listed<'_>, inode: &Inode, sum: &mut Sum) -> Outcome<()> {
        if inode.kind() != at.entry.kind {
            self.wrong_kind(at);
        }
        let link = (at.parent, at.entry.cookie);
        let is_home = (inode.parent, inode.cookie) == link && inode.attr.ino != Ino::ROOT.0;
        let is_link = || -> Outcome<bool> {
            let key = keys::link(self.volume, inode.attr.ino, link.0, link.1);
            Ok(!inode.is_dir() && self.reader.get(&key)?.is_some())
        };
        if is_home {
            sum.usage = sum.usage + Amount::of(&inode.attr);
            if inode.is_dir() {
                let total = keys::total(self.volume, inode.attr.ino);
                sum.usage = sum.usage + usage::read_or_nothing(self.reader, &total)?;
            }
        } else if !is_link()? {
            let shown = String::from_utf8_lossy(at.name);
            let text = format!(
                "{shown:?} in {} is a name of {} that it does not know",
                self.path(at.parent),
                Ino(inode.attr.ino)
            );
            self.tell(at.finding(Fault::EntryUnknown, text));
        }
        if inode.is_dir() {
            sum.subdirectories += 1;
        }
        Ok(())
    }

    /// A directory without entries: what its counts have to be.
    pub(super) fn empty_directory(&mut self, ino: u64) -> Outcome<()> {
        self.directory(&Sum { directory: ino, ..Sum::default() })
    }

    fn directory(&mut self, sum: &Sum) -> Outcome<()> {
        let Row::Here(inode) = self.look(sum.directory)? else { return Ok(()) };
        let Body::Directory { next_cookie } = inode.body else { return Ok(()) };
        let blank = Finding { ino: sum.directory, ..Finding::default() };
        if next_cookie <= sum.last_cookie {
            let text = format!("the next cookie of {} is given out already", self.path(sum.directory));
            let fault = Fault::NextCookie as i32;
            self.tell(Finding { fault, cookie: sum.last_cookie, text, ..blank.clone() });
        }
        let difference =
            |should: u64, is: u64| i64::try_from(i128::from(should) - i128::from(is)).unwrap_or(0);
        let add = vec![
            difference(sum.entries, inode.attr.size),
            difference(2 + u64::from(sum.subdirectories), inode.attr.nlink.into()),
        ];
        if add.iter().any(|difference| *difference != 0) {
            let text = format!(
                "{} says that it has {} entries and {} links; it has {} and {}",
                self.path(sum.directory),
                inode.attr.size,
                inode.attr.nlink,
                sum.entries,
                2 + sum.subdirectories
            );
            self.tell(Finding { fault: Fault::DirectoryCounts as i32, add, text, ..blank.clone() });
        }
        let said = usage::read_or_nothing(self.reader, &keys::total(self.volume, sum.directory))?
            + usage::read_or_nothing(self.reader, &keys::pending(self.volume, sum.directory))?;
        let add = sum.usage + -said;
        if add != Amount::default() {
            let text = format!("the usage of {} is off by {add:?}", self.path(sum.directory));
            let add = vec![add.blocks, add.bytes, add.files, add.directories];
            self.tell(Finding { fault: Fault::Usage as i32, add, text, ..blank });
        }
        Ok(())
    }
}
