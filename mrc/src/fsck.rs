//! Checking a volume's rows against one another, and mending them.
//!
//! Pure. Entries in [`entries`], names without a listing in [`names`], inodes in [`inodes`], what hangs on them in
//! [`hanging`], sums in [`sums`]; what is done about it, as a command, in [`mend`]. The rules are docs/formats/mrc-store.md, the argument docs/protocols/fsck.md.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod entries;
pub mod hanging;
pub mod inodes;
pub mod mend;
pub mod names;
mod near;
mod rows;
pub mod sums;

use std::collections::{BTreeMap, BTreeSet};

use proto::fsck::{FINDINGS_MAX, Fault, Finding};
use proto::id::Ino;
use rt::table::{Pair, Reader, prefix_end};

use crate::changes::subtree::path_of;
use crate::namespace::entry::{self, Entry};
use crate::namespace::inode::{self, Inode};
use crate::namespace::volume::{self, Volume};
use crate::namespace::{Fail, Outcome, keys};
use crate::quota::{Subject, Taken};

/// Rows read at once.
const CHUNK: usize = 1024;
/// Directories remembered as reachable from the root.
const ROOTED_MAX: usize = 1 << 20;

/// Told of everything that is found, and asked whether to go on.
pub trait Told {
    /// Something does not fit together.
    fn found(&mut self, finding: Finding);
    /// So many further rows were looked at; false ends the check.
    fn looked_at(&mut self, rows: u64) -> bool;
    /// What is looked at from now on, for people.
    fn phase(&mut self, _phase: &'static str) {}
}

/// What an inode's row is.
#[derive(Clone, Debug)]
pub enum Row {
    /// There is none.
    Missing,
    /// It does not parse.
    Bad,
    /// The inode.
    Here(Box<Inode>),
}

/// A check of one volume on one reader.
pub struct Check<'a> {
    reader: &'a dyn Reader,
    volume: u64,
    record: Volume,
    told: &'a mut dyn Told,
    found: usize,
    /// Findings beyond the limit of a pass.
    cut: bool,
    /// The asker went away.
    stopped: bool,
    rooted: BTreeSet<u64>,
    /// Directories with a listing row whose row by name was not as it should be; bounded by what is told.
    unnamed: BTreeSet<u64>,
    /// The directory looked at last: neighbours lie in the same one.
    directory: Option<(u64, Row)>,
    inodes: u64,
    bytes: u64,
    owned: BTreeMap<Subject, Taken>,
}

/// How a check ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Repairs that the volume had seen.
    pub seen: u64,
    /// There is more than was told.
    pub cut: bool,
    /// It was ended before its time: what was told is not all.
    pub stopped: bool,
}

/// Checks a volume. Refuses when there is none.
pub fn check(reader: &dyn Reader, volume: u64, told: &mut dyn Told) -> Outcome<Ended> {
    let record = volume::live(reader, volume)?;
    let seen = record.repairs;
    let mut check = Check {
        reader,
        volume,
        record,
        told,
        found: 0,
        cut: false,
        stopped: false,
        rooted: BTreeSet::from([Ino::ROOT.0]),
        unnamed: BTreeSet::new(),
        directory: None,
        inodes: 0,
        bytes: 0,
        owned: BTreeMap::new(),
    };
    check.phase("entries", Check::entries)?;
    check.phase("names", Check::names)?;
    check.phase("inodes", Check::inodes)?;
    check.phase("attributes, links and locks", Check::hanging)?;
    check.phase("sums", Check::sums)?;
    Ok(Ended { seen, cut: check.cut, stopped: check.stopped })
}

impl Check<'_> {
    fn phase(&mut self, name: &'static str, run: impl FnOnce(&mut Self) -> Outcome<()>) -> Outcome<()> {
        if self.stopped {
            return Ok(());
        }
        self.told.phase(name);
        run(self)
    }

    fn tell(&mut self, finding: Finding) {
        if self.found >= FINDINGS_MAX {
            self.cut = true;
            return;
        }
        self.found += 1;
        self.told.found(finding);
    }

    /// Calls `look` with each row of a table of the volume, in order.
    fn each_row(&mut self, table: u8, look: impl FnMut(&mut Self, &Pair) -> Outcome<()>) -> Outcome<()> {
        self.each_row_of(keys::of_volume(table, self.volume), 1, look)
    }

    /// Calls `look` with each row that begins with `prefix`, in order; each counts as `weight` rows.
    fn each_row_of(
        &mut self,
        prefix: Vec<u8>,
        weight: u64,
        mut look: impl FnMut(&mut Self, &Pair) -> Outcome<()>,
    ) -> Outcome<()> {
        let end = prefix_end(&prefix);
        let mut from = prefix;
        while !self.stopped && !self.cut {
            let rows = self.reader.scan(&from, &end, CHUNK)?;
            for row in &rows {
                look(self, row)?;
            }
            self.stopped |= !self.told.looked_at(rows.len() as u64 * weight);
            match rows.last() {
                Some((key, _)) if rows.len() == CHUNK => from = keys::after(key),
                _ => break,
            }
        }
        Ok(())
    }

    fn look(&self, ino: u64) -> Outcome<Row> {
        look(self.reader, self.volume, ino)
    }

    /// A directory's row; that of the last one is kept.
    fn look_in(&mut self, directory: u64) -> Outcome<&Row> {
        if self.directory.as_ref().is_none_or(|(known, _)| *known != directory) {
            self.directory = Some((directory, self.look(directory)?));
        }
        Ok(self.directory.as_ref().map(|(_, row)| row).expect("set above"))
    }

    fn is_directory(&mut self, ino: u64) -> Outcome<bool> {
        Ok(matches!(self.look_in(ino)?, Row::Here(inode) if inode.is_dir()))
    }

    fn bad_row(&mut self, key: &[u8], what: &str) {
        let hopeless = key.first() == Some(&keys::table::INODE);
        let text = format!("the {what} row {key:02x?} does not parse");
        self.tell(Finding {
            fault: Fault::BadRow as i32,
            key: key.to_vec(),
            text,
            hopeless,
            ..Finding::default()
        });
    }

    /// `/a/b`, or the number where there is no path.
    fn path(&self, directory: u64) -> String {
        match path_of(self.reader, self.volume, directory) {
            Ok(Some(path)) => format!("/{}", String::from_utf8_lossy(&path)),
            _ => format!("directory {}", Ino(directory)),
        }
    }
}

/// The row of an inode, whatever it is.
pub(crate) fn look(reader: &(impl Reader + ?Sized), volume: u64, ino: u64) -> Outcome<Row> {
    match inode::find(reader, volume, ino) {
        Ok(Some(inode)) => Ok(Row::Here(Box::new(inode))),
        Ok(None) => Ok(Row::Missing),
        Err(Fail::Broken(_)) => Ok(Row::Bad),
        Err(refused) => Err(refused),
    }
}

/// The entry that the listing row at a link leads to, with its name; `None` when there is none or it does not parse.
pub(crate) fn listed(
    reader: &(impl Reader + ?Sized),
    volume: u64,
    (parent, cookie): (u64, u64),
) -> Outcome<Option<(Entry, Vec<u8>)>> {
    let key = keys::order(volume, parent, cookie);
    Ok(reader.get(&key)?.and_then(|value| entry::parse_order(&key, &value).ok()))
}

/// Whether a link leads to an inode, from a directory that exists.
pub(crate) fn leads_to(
    reader: &(impl Reader + ?Sized),
    volume: u64,
    link: (u64, u64),
    ino: u64,
) -> Outcome<bool> {
    let leads = listed(reader, volume, link)?.is_some_and(|(entry, _)| entry.ino == ino);
    Ok(leads && matches!(look(reader, volume, link.0)?, Row::Here(directory) if directory.is_dir()))
}
