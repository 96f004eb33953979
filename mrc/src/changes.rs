//! The change log: what applying a command did to names and inodes, as rows written in the same batch.
//!
//! Pure and deterministic. Rows here, who sees which in [`subtree`], answers in [`page`], bounds in [`trim`]. The
//! protocol is docs/protocols/changes.md.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod eyes;
pub mod page;
pub mod subtree;
pub mod trim;

use proto::changes::event;
use proto::mrc::{Head, RENAME_EXCHANGE, RenameRequest, Time, kind};
use quorum::Applied;
use rt::table::{Reader, Txn};

use crate::namespace::entry::Entry;
use crate::namespace::inode::Inode;
use crate::namespace::record::{Cursor, Writer};
use crate::namespace::rename::Renamed;
use crate::namespace::{Outcome, corrupt, home, keys, time_of};

/// Bits of a cursor that number the events of one command.
const SUB_BITS: u32 = 4;
/// Directories to which one event of an inode is written; the one after these says "anywhere".
const PARENTS_MAX: usize = 14;
/// As a parent: inside of every subtree.
pub const ANYWHERE: u64 = 0;

/// The cursor behind everything that the command at `index` and those before it did.
#[must_use]
pub fn cursor_after(index: u64) -> u64 {
    (index << SUB_BITS) | ((1 << SUB_BITS) - 1)
}

/// The index of the command that a cursor lies in.
#[must_use]
pub fn index_of(cursor: u64) -> u64 {
    cursor >> SUB_BITS
}

/// A row of the log.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// See [`event`].
    pub kind: u32,
    /// The inode.
    pub ino: u64,
    /// Its type.
    pub file_kind: u32,
    /// Directory of the name.
    pub parent: u64,
    /// The name; empty for events of an inode.
    pub name: Vec<u8>,
    /// Of a rename: where to; else the cookie of the link that led to the inode.
    pub new_parent: u64,
    /// Of a rename: its new name.
    pub new_name: Vec<u8>,
    /// When.
    pub time: Time,
    /// Acting user.
    pub uid: u32,
    /// Session that asked.
    pub session: u64,
}

impl Row {
    fn encode(&self) -> Vec<u8> {
        let byte = |number: u32| u8::try_from(number).expect("kinds have one byte");
        Writer::new(52 + self.name.len() + self.new_name.len())
            .u8(byte(self.kind))
            .u8(byte(self.file_kind))
            .u64(self.ino)
            .u64(self.parent)
            .u64(self.new_parent)
            .time(self.time)
            .u32(self.uid)
            .u64(self.session)
            .bytes(&self.name)
            .tail(&self.new_name)
    }

    /// Parses a row: its cursor and itself.
    pub fn parse(key: &[u8], value: &[u8]) -> Outcome<(u64, Self)> {
        let parse = || {
            let cursor = keys::word(key, 1)?;
            let mut c = Cursor::new(value)?;
            let (kind, file_kind) = (u32::from(c.u8()?), u32::from(c.u8()?));
            let (ino, parent, new_parent) = (c.u64()?, c.u64()?, c.u64()?);
            let (time, uid, session) = (c.time()?, c.u32()?, c.u64()?);
            let name = c.bytes()?.to_vec();
            let new_name = c.rest().to_vec();
            Some((
                cursor,
                Self { kind, ino, file_kind, parent, name, new_parent, new_name, time, uid, session },
            ))
        };
        parse().ok_or_else(|| corrupt("change", key))
    }

    /// Whether it is a rename, with a second end.
    #[must_use]
    pub fn has_two_ends(&self) -> bool {
        self.kind == event::RENAMED
    }
}

/// Writes the events of one command.
pub struct Log<'h> {
    at: Applied,
    head: &'h Head,
    sub: u64,
}

impl<'h> Log<'h> {
    /// The log of the command applied at `at`, asked for by `head`.
    #[must_use]
    pub fn new(at: Applied, head: &'h Head) -> Self {
        Self { at, head, sub: 0 }
    }

    fn put(&mut self, txn: &mut Txn<'_>, kind: u32, entry: Entry, from: (u64, &[u8]), to: (u64, &[u8])) {
        assert!(self.sub < 1 << SUB_BITS, "a command has at most 16 events");
        let cursor = (self.at.index << SUB_BITS) | self.sub;
        self.sub += 1;
        let row = Row {
            kind,
            ino: entry.ino,
            file_kind: entry.kind,
            parent: from.0,
            name: from.1.to_vec(),
            new_parent: to.0,
            new_name: to.1.to_vec(),
            time: time_of(self.at),
            uid: self.head.uid,
            session: self.head.session,
        };
        txn.put(keys::change(self.head.volume, cursor), row.encode());
        let leaves = match kind {
            event::REMOVED => true,
            event::RENAMED => from.0 != to.0,
            _ => false,
        };
        if leaves && entry.kind == kind::DIR {
            txn.put(keys::moved(self.head.volume, entry.ino, cursor), Writer::new(9).u64(from.0).0);
        }
    }

    /// A name came to be: of a new inode, or (`linked`) another one.
    pub fn named(&mut self, txn: &mut Txn<'_>, inode: &Inode, parent: u64, name: &[u8], linked: bool) {
        let kind = if linked { event::LINKED } else { event::CREATED };
        let entry = Entry { ino: inode.attr.ino, kind: inode.kind(), cookie: 0 };
        self.put(txn, kind, entry, (parent, name), (0, &[]));
    }

    /// A name went away.
    pub fn removed(&mut self, txn: &mut Txn<'_>, entry: Entry, parent: u64, name: &[u8]) {
        self.put(txn, event::REMOVED, entry, (parent, name), (0, &[]));
    }

    /// A name moved, perhaps over another one, or two changed places.
    pub fn renamed(&mut self, txn: &mut Txn<'_>, request: &RenameRequest, done: Renamed) {
        let from = (request.parent, request.name.as_slice());
        let to = (request.new_parent, request.new_name.as_slice());
        match done.target {
            Some(other) if request.flags == RENAME_EXCHANGE => {
                self.put(txn, event::RENAMED, other, to, from);
            }
            Some(victim) => self.put(txn, event::REMOVED, victim, to, (0, &[])),
            None => {}
        }
        self.put(txn, event::RENAMED, done.moved, from, to);
    }

    /// Something about an inode changed: one event for each directory that has a link of it.
    /// A file without a name lies below nothing and has none.
    pub fn changed(&mut self, txn: &mut Txn<'_>, kind: u32, inode: &Inode) -> Outcome<()> {
        if inode.parent == 0 {
            return Ok(());
        }
        let entry = Entry { ino: inode.attr.ino, kind: inode.kind(), cookie: inode.cookie };
        self.put(txn, kind, entry, (inode.parent, &[]), (inode.cookie, &[]));
        if inode.attr.nlink < 2 || inode.is_dir() {
            return Ok(());
        }
        let others = home::others(txn, self.head.volume, inode.attr.ino, usize::MAX)?;
        let mut told = vec![inode.parent];
        for (parent, cookie) in others {
            if told.contains(&parent) {
                continue;
            }
            if told.len() >= PARENTS_MAX {
                self.put(txn, kind, entry, (ANYWHERE, &[]), (0, &[]));
                break;
            }
            told.push(parent);
            self.put(txn, kind, entry, (parent, &[]), (cookie, &[]));
        }
        Ok(())
    }

    /// Beside [`Log::changed`], by the same command: one event, as there may be no numbers left for more.
    pub fn changed_too(&mut self, txn: &mut Txn<'_>, kind: u32, inode: &Inode) {
        let entry = Entry { ino: inode.attr.ino, kind: inode.kind(), cookie: inode.cookie };
        let only = inode.attr.nlink < 2;
        match inode.parent {
            0 => {}
            parent if only => self.put(txn, kind, entry, (parent, &[]), (inode.cookie, &[])),
            _ => self.put(txn, kind, entry, (ANYWHERE, &[]), (0, &[])),
        }
    }
}

/// The newest event that was cut off; 0: none.
pub fn floor(reader: &(impl Reader + ?Sized), volume: u64) -> Outcome<u64> {
    let key = keys::floor(volume);
    let Some(value) = reader.get(&key)? else { return Ok(0) };
    Cursor::new(&value).and_then(|mut c| c.u64()).ok_or_else(|| corrupt("floor", &key))
}
