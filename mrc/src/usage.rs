//! Recursive usage: one row changes per mutation, totals are carried up lazily, sums are exact all the same.
//!
//! Pure and deterministic. The argument is docs/protocols/usage.md.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::ops::{Add, Neg};

use proto::id::Ino;
use proto::mrc::Attr;
use rt::table::{Reader, Txn, prefix_end};

use crate::changes::subtree::Subtree;
use crate::namespace::inode::{self, Inode};
use crate::namespace::keys::{self, table};
use crate::namespace::record::{Cursor, Writer};
use crate::namespace::{Outcome, corrupt, volume};
use crate::quota::{self, Taken};

/// Directories folded by one command at most.
pub const FOLDS_PER_STEP: u32 = 1024;
/// Pending rows that a reader adds up; more are folded first.
pub const PENDING_MAX: usize = 4096;
/// A cursor behind all moves: ancestors as they are now.
const NOW: u64 = u64::MAX - 1;

/// An amount, or a change of one.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Amount {
    /// 512-byte units.
    pub blocks: i64,
    /// Sum of sizes, bytes.
    pub bytes: i64,
    /// Inodes that are no directories.
    pub files: i64,
    /// Directories.
    pub directories: i64,
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Amount {
    /// What one inode takes. A directory's size is a number of entries and counts as nothing.
    #[must_use]
    pub fn of(attr: &Attr) -> Self {
        if attr.mode >> 12 == proto::mrc::kind::DIR {
            return Self { directories: 1, ..Self::default() };
        }
        Self { blocks: signed(attr.blocks), bytes: signed(attr.size), files: 1, directories: 0 }
    }

    fn is_zero(self) -> bool {
        self == Self::default()
    }

    pub(crate) fn parse(key: &[u8], value: &[u8]) -> Outcome<Self> {
        let parse = || {
            let mut c = Cursor::new(value)?;
            let mut next = || c.u64().map(u64::cast_signed);
            Some(Self { blocks: next()?, bytes: next()?, files: next()?, directories: next()? })
        };
        parse().ok_or_else(|| corrupt("usage", key))
    }

    fn encode(self) -> Vec<u8> {
        let numbers = [self.blocks, self.bytes, self.files, self.directories];
        numbers.into_iter().fold(Writer::new(33), |out, number| out.u64(number.cast_unsigned())).0
    }
}

/// A damaged row may hold any number: the arithmetic wraps, so that what a repair adds leads exactly to what it counted.
impl Add for Amount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            blocks: self.blocks.wrapping_add(other.blocks),
            bytes: self.bytes.wrapping_add(other.bytes),
            files: self.files.wrapping_add(other.files),
            directories: self.directories.wrapping_add(other.directories),
        }
    }
}

impl Neg for Amount {
    type Output = Self;

    fn neg(self) -> Self {
        Self {
            blocks: self.blocks.wrapping_neg(),
            bytes: self.bytes.wrapping_neg(),
            files: self.files.wrapping_neg(),
            directories: self.directories.wrapping_neg(),
        }
    }
}

fn read(reader: &(impl Reader + ?Sized), key: &[u8]) -> Outcome<Amount> {
    match reader.get(key)? {
        Some(value) => Amount::parse(key, &value),
        None => Ok(Amount::default()),
    }
}

/// For a check: a row that does not parse counts as nothing.
pub(crate) fn read_or_nothing(reader: &(impl Reader + ?Sized), key: &[u8]) -> Outcome<Amount> {
    Ok(reader.get(key)?.and_then(|value| Amount::parse(key, &value).ok()).unwrap_or_default())
}

/// A repair: what a directory has to carry was off by `amount`.
pub(crate) fn correct(txn: &mut Txn<'_>, volume: u64, directory: u64, amount: Amount) -> Outcome<()> {
    add(txn, keys::pending(volume, directory), amount)
}

fn add(txn: &mut Txn<'_>, key: Vec<u8>, amount: Amount) -> Outcome<()> {
    if amount.is_zero() {
        return Ok(());
    }
    let sum = read(txn, &key)? + amount;
    if sum.is_zero() {
        txn.delete(key);
    } else {
        txn.put(key, sum.encode());
    }
    Ok(())
}

/// Everything that an inode brings along: a directory what was carried through it.
fn whole(txn: &Txn<'_>, volume: u64, inode: &Inode) -> Outcome<Amount> {
    let own = Amount::of(&inode.attr);
    if !inode.is_dir() {
        return Ok(own);
    }
    Ok(own + read(txn, &keys::total(volume, inode.attr.ino))?)
}

/// An inode came to a directory.
pub fn enter(txn: &mut Txn<'_>, volume: u64, directory: u64, inode: &Inode) -> Outcome<()> {
    let amount = whole(txn, volume, inode)?;
    add(txn, keys::pending(volume, directory), amount)
}

/// An inode left a directory.
pub fn leave(txn: &mut Txn<'_>, volume: u64, directory: u64, inode: &Inode) -> Outcome<()> {
    let amount = whole(txn, volume, inode)?;
    add(txn, keys::pending(volume, directory), -amount)
}

/// A directory is removed: it is empty, so what it still has to carry cancels what it carried.
pub fn end(txn: &mut Txn<'_>, volume: u64, directory: u64, inode: &Inode) -> Outcome<()> {
    let (pending, total) = (keys::pending(volume, inode.attr.ino), keys::total(volume, inode.attr.ino));
    let left = read(txn, &pending)?;
    txn.delete(pending);
    txn.delete(total);
    quota::charge(txn, volume, directory, -Taken::of(&inode.attr))?;
    add(txn, keys::pending(volume, directory), left + -Amount::of(&inode.attr))
}

/// A file's attributes changed.
pub fn changed(txn: &mut Txn<'_>, volume: u64, before: &Attr, inode: &Inode) -> Outcome<()> {
    if inode.parent == 0 || inode.is_dir() {
        return Ok(());
    }
    let more = Amount::of(&inode.attr) + -Amount::of(before);
    if more.is_zero() {
        return Ok(());
    }
    quota::charge(txn, volume, inode.parent, more.into())?;
    add(txn, keys::pending(volume, inode.parent), more)
}

/// Whether anything waits to be carried up.
pub fn is_pending(reader: &(impl Reader + ?Sized), volume: u64) -> Outcome<bool> {
    let prefix = keys::of_volume(table::PENDING, volume);
    Ok(!reader.scan(&prefix, &prefix_end(&prefix), 1)?.is_empty())
}

/// Carries up to `limit` directories' pending amounts one level up, deepest numbers first.
pub fn fold(txn: &mut Txn<'_>, volume: u64, limit: u32) -> Outcome<()> {
    if volume::find(txn, volume)?.is_none_or(|record| record.dropping) {
        return Ok(());
    }
    let prefix = keys::of_volume(table::PENDING, volume);
    let limit = limit as usize;
    let mut open: BTreeMap<u64, ()> = BTreeMap::new();
    for (key, _) in txn.scan(&prefix, &prefix_end(&prefix), limit)? {
        open.insert(keys::word(&key, 1).ok_or_else(|| corrupt("pending", &key))?, ());
    }
    // Children have greater numbers than their parents unless moved: most amounts meet on the way.
    for _ in 0..limit {
        let Some((directory, ())) = open.pop_last() else { return Ok(()) };
        let key = keys::pending(volume, directory);
        let amount = read(txn, &key)?;
        txn.delete(key);
        add(txn, keys::total(volume, directory), amount)?;
        if directory == Ino::ROOT.0 {
            continue;
        }
        // The directory exists as long as fsck finds nothing; a sum is not worth stopping a replica.
        if let Some(inode) = inode::find(txn, volume, directory)? {
            add(txn, keys::pending(volume, inode.parent), amount)?;
            open.insert(inode.parent, ());
        }
    }
    Ok(())
}

/// What lies below a directory; of anything else what it takes itself. `None`: too much is pending, fold first.
pub fn below(reader: &(impl Reader + ?Sized), volume: u64, ino: u64) -> Outcome<Option<Amount>> {
    below_of(reader, volume, ino, PENDING_MAX)
}

/// The same, looking at no more than `pending_max` directories with something pending.
pub fn below_of(
    reader: &(impl Reader + ?Sized),
    volume: u64,
    ino: u64,
    pending_max: usize,
) -> Outcome<Option<Amount>> {
    let inode = inode::get(reader, volume, ino)?;
    if !inode.is_dir() {
        return Ok(Some(Amount::of(&inode.attr)));
    }
    let mut sum = read(reader, &keys::total(volume, ino))?;
    let prefix = keys::of_volume(table::PENDING, volume);
    let rows = reader.scan(&prefix, &prefix_end(&prefix), pending_max.saturating_add(1))?;
    if rows.len() > pending_max {
        return Ok(None);
    }
    let mut subtree = Subtree::new(reader, volume, ino);
    for (key, value) in rows {
        let directory = keys::word(&key, 1).ok_or_else(|| corrupt("pending", &key))?;
        if subtree.contains(directory, NOW)? {
            sum = sum + Amount::parse(&key, &value)?;
        }
    }
    Ok(Some(sum))
}

/// What lies below a directory, inside of a command: folds first when too much is pending.
pub fn below_folded(txn: &mut Txn<'_>, volume: u64, ino: u64) -> Outcome<Amount> {
    loop {
        if let Some(amount) = below(txn, volume, ino)? {
            return Ok(amount);
        }
        // Each step carries something up: the number of levels bounds the rounds.
        fold(txn, volume, FOLDS_PER_STEP)?;
    }
}

#[cfg(test)]
mod tests {
    use super::Amount;

    #[test]
    fn a_correction_leads_from_any_number_to_the_right_one() {
        let right = Amount { blocks: 8, bytes: 4096, files: 1, directories: 0 };
        for wrong in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX] {
            let damaged = Amount { blocks: wrong, bytes: wrong, files: wrong, directories: wrong };
            assert_eq!(damaged + (right + -damaged), right);
        }
    }
}
