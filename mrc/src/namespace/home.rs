//! Which entries lead to an inode: its home in its own row, the others as rows of the links table.
//!
//! Nearly every file has one name, so nearly nothing is in the table; a change of a file finds its directories without
//! a search all the same.

use rt::table::{Reader, Txn, prefix_end};

use super::inode::Inode;
use super::record::Writer;
use super::{Outcome, corrupt, keys};
use crate::{quota, usage};

/// A link: directory and cookie.
pub type Link = (u64, u64);

/// A new link. The first one becomes the home.
pub fn add(txn: &mut Txn<'_>, volume: u64, inode: &mut Inode, link: Link) -> Outcome<()> {
    if inode.parent == 0 {
        (inode.parent, inode.cookie) = link;
        quota::entered(txn, volume, link.0, inode)?;
        return usage::enter(txn, volume, link.0, inode);
    }
    txn.put(keys::link(volume, inode.attr.ino, link.0, link.1), Writer::new(1).0);
    Ok(())
}

/// A link goes. When it is the home, another one takes its place.
pub fn remove(txn: &mut Txn<'_>, volume: u64, inode: &mut Inode, link: Link) -> Outcome<()> {
    let ino = inode.attr.ino;
    if (inode.parent, inode.cookie) != link {
        txn.delete(keys::link(volume, ino, link.0, link.1));
        return Ok(());
    }
    quota::left(txn, volume, link.0, inode)?;
    usage::leave(txn, volume, link.0, inode)?;
    let Some(next) = others(txn, volume, ino, 1)?.first().copied() else {
        (inode.parent, inode.cookie) = (0, 0);
        return Ok(());
    };
    txn.delete(keys::link(volume, ino, next.0, next.1));
    (inode.parent, inode.cookie) = next;
    quota::entered(txn, volume, next.0, inode)?;
    usage::enter(txn, volume, next.0, inode)
}

/// A link moves.
pub fn shift(txn: &mut Txn<'_>, volume: u64, inode: &mut Inode, from: Link, to: Link) -> Outcome<()> {
    if (inode.parent, inode.cookie) != from {
        txn.delete(keys::link(volume, inode.attr.ino, from.0, from.1));
        txn.put(keys::link(volume, inode.attr.ino, to.0, to.1), Writer::new(1).0);
        return Ok(());
    }
    (inode.parent, inode.cookie) = to;
    if from.0 != to.0 {
        quota::moved(txn, volume, (from.0, to.0), inode)?;
        usage::leave(txn, volume, from.0, inode)?;
        usage::enter(txn, volume, to.0, inode)?;
    }
    Ok(())
}

/// Up to `limit` links besides the home.
pub fn others(reader: &(impl Reader + ?Sized), volume: u64, ino: u64, limit: usize) -> Outcome<Vec<Link>> {
    let prefix = keys::links_of(volume, ino);
    let rows = reader.scan(&prefix, &prefix_end(&prefix), limit)?;
    rows.iter()
        .map(|(key, _)| {
            let parse = || Some((keys::word(key, 2)?, keys::word(key, 3)?));
            parse().ok_or_else(|| corrupt("link", key))
        })
        .collect()
}
