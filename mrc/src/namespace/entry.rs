//! Directory entries: one row by name, one by cookie.
//!
//! A cookie is taken from a counter in the directory's inode, which only grows: listings go in cookie order, an
//! entry keeps its cookie for life, a removed one leaves a gap, and what is made during a listing comes later in it.

use rt::table::{Reader, Txn};

use super::inode::{Body, Inode};
use super::name::Name;
use super::record::{Cursor, Writer};
use super::{Outcome, corrupt, keys};

/// What an entry leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Inode.
    pub ino: u64,
    /// Its kind.
    pub kind: u32,
    /// Position in listings.
    pub cookie: u64,
}

fn kind_byte(kind: u32) -> u8 {
    u8::try_from(kind).expect("a file type has four bits")
}

/// The entry of that name, if any.
pub fn find(
    reader: &(impl Reader + ?Sized),
    volume: u64,
    parent: u64,
    name: Name<'_>,
) -> Outcome<Option<Entry>> {
    let key = keys::dentry(volume, parent, name.bytes());
    let Some(value) = reader.get(&key)? else { return Ok(None) };
    parse(&key, &value).map(Some)
}

/// Parses a row by name.
pub fn parse(key: &[u8], value: &[u8]) -> Outcome<Entry> {
    let parse = || {
        let mut c = Cursor::new(value)?;
        Some(Entry { ino: c.u64()?, kind: u32::from(c.u8()?), cookie: c.u64()? })
    };
    parse().ok_or_else(|| corrupt("entry", key))
}

/// Parses a row of the listing order: the entry and its name.
pub fn parse_order(key: &[u8], value: &[u8]) -> Outcome<(Entry, Vec<u8>)> {
    let parse = || {
        let cookie = keys::word(key, 2)?;
        let mut c = Cursor::new(value)?;
        Some((Entry { ino: c.u64()?, kind: u32::from(c.u8()?), cookie }, c.rest().to_vec()))
    };
    parse().ok_or_else(|| corrupt("listing", key))
}

/// Writes both rows of an entry.
pub fn put(txn: &mut Txn<'_>, volume: u64, parent: u64, name: Name<'_>, entry: Entry) {
    let kind = kind_byte(entry.kind);
    txn.put(
        keys::dentry(volume, parent, name.bytes()),
        Writer::new(18).u64(entry.ino).u8(kind).u64(entry.cookie).0,
    );
    txn.put(
        keys::order(volume, parent, entry.cookie),
        Writer::new(10 + name.bytes().len()).u64(entry.ino).u8(kind).tail(name.bytes()),
    );
}

/// Removes both rows of an entry.
pub fn remove(txn: &mut Txn<'_>, volume: u64, parent: u64, name: Name<'_>, entry: Entry) {
    txn.delete(keys::dentry(volume, parent, name.bytes()));
    txn.delete(keys::order(volume, parent, entry.cookie));
}

/// The next cookie of a directory.
pub fn take_cookie(directory: &mut Inode) -> u64 {
    let Body::Directory { next_cookie } = &mut directory.body else {
        unreachable!("callers pass what inode::directory gave them");
    };
    let cookie = *next_cookie;
    assert!(cookie < i64::MAX as u64, "2^63 entries were made in one directory");
    *next_cookie += 1;
    cookie
}

/// Where `..` of a directory leads.
pub fn parent_of(directory: &Inode) -> Option<u64> {
    directory.is_dir().then_some(directory.parent)
}
