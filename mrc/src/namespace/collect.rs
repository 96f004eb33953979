//! The end of inodes: dropping links, orphans (unlinked but perhaps open), garbage (objects to be removed at OSDs).

use prost::Message;
use proto::limits::XATTR_LIST_BYTES_MAX;
use proto::mrc::{Time, kind};
use proto::stripe::Layout;
use rt::table::{Reader, Txn, prefix_end};

use super::inode::{self, Body, Inode};
use super::keys::{self, table};
use super::record::{Cursor, Writer};
use super::{Outcome, content, corrupt, layers, locks, replicas, volume};
use crate::quota;

/// One link of `inode` (no directory) went away. With the last one a file whose number is not `closed` (nobody
/// vouched that it is not open) becomes an orphan; everything else is freed.
pub fn drop_link(txn: &mut Txn<'_>, now: Time, volume: u64, inode: &mut Inode, closed: u64) -> Outcome<()> {
    assert!(inode.attr.nlink > 0 && !inode.is_dir(), "an entry led to {inode:?}");
    inode.attr.nlink -= 1;
    inode.touch(now);
    if inode.attr.nlink > 0 {
        inode::put(txn, volume, inode);
        return Ok(());
    }
    if inode.kind() == kind::FILE && closed != inode.attr.ino {
        inode::put(txn, volume, inode);
        put_orphan(txn, volume, inode.attr.ino, false);
        return Ok(());
    }
    free(txn, volume, inode)
}

/// Removes an inode and everything that hangs on it.
pub fn free(txn: &mut Txn<'_>, volume: u64, inode: &Inode) -> Outcome<()> {
    let ino = inode.attr.ino;
    if inode.xattrs > 0 {
        let prefix = keys::xattr(volume, ino, &[]);
        for (key, _) in txn.scan(&prefix, &prefix_end(&prefix), XATTR_LIST_BYTES_MAX)? {
            txn.delete(key);
        }
    }
    if inode.kind() == kind::FILE {
        locks::remove_all(txn, volume, ino)?;
    }
    if inode.kind() != kind::FILE || !layers::freed(txn, volume, inode)? {
        txn.delete(keys::inode(volume, ino));
        discard(txn, volume, inode)?;
    }
    if let Some(mut record) = volume::find(txn, volume)? {
        quota::freed(txn, volume, &mut record, inode)?;
        if inode.is_dir() && record.layouts {
            txn.delete(keys::layout(volume, ino));
        }
        record.inodes = record.inodes.saturating_sub(1);
        if inode.kind() == kind::FILE {
            record.used_bytes = record.used_bytes.saturating_sub(inode.attr.size);
        }
        volume::put(txn, volume, &record);
    }
    Ok(())
}

/// Remembers that a file's objects have to be removed at its OSDs.
pub fn discard(txn: &mut Txn<'_>, volume: u64, inode: &Inode) -> Outcome<()> {
    if !matches!(inode.body, Body::File(_)) {
        return Ok(());
    }
    let layout = inode.layout()?;
    if layout.is_inline() {
        // No objects were ever made of it.
        content::delete(txn, volume, inode.attr.ino);
        return Ok(());
    }
    if !layout.columns.is_empty() {
        let layout = replicas::with_dropped(txn, volume, inode.attr.ino, layout)?.encode_to_vec();
        txn.put(keys::garbage(volume, inode.attr.ino), Writer::new(1 + layout.len()).tail(&layout));
    }
    Ok(())
}

/// Frees an orphan that nobody has open any more; anything else is left alone.
pub fn reap(txn: &mut Txn<'_>, volume: u64, ino: u64) -> Outcome<()> {
    let key = keys::orphan(volume, ino);
    if txn.get(&key)?.is_none() {
        return Ok(());
    }
    txn.delete(key);
    match inode::find(txn, volume, ino)? {
        Some(inode) if inode.attr.nlink == 0 => free(txn, volume, &inode),
        _ => Ok(()),
    }
}

/// Remembers a file without a name. `linkable`: it never had one and may get one (`O_TMPFILE`).
pub fn put_orphan(txn: &mut Txn<'_>, volume: u64, ino: u64, linkable: bool) {
    txn.put(keys::orphan(volume, ino), Writer::new(2).u8(u8::from(linkable)).0);
}

/// A file without a name is about to get its first one: false when it may not.
pub fn take_linkable(txn: &mut Txn<'_>, volume: u64, ino: u64) -> Outcome<bool> {
    let key = keys::orphan(volume, ino);
    let Some(value) = txn.get(&key)? else { return Ok(false) };
    let parse = || Cursor::new(&value)?.u8();
    let linkable = parse().ok_or_else(|| corrupt("orphan", &key))? != 0;
    if linkable {
        txn.delete(key);
    }
    Ok(linkable)
}

/// Whether the file is unlinked and waits for its last close.
pub fn is_orphan(reader: &(impl Reader + ?Sized), volume: u64, ino: u64) -> Outcome<bool> {
    Ok(reader.get(&keys::orphan(volume, ino))?.is_some())
}

/// Whether the file is freed and its objects are still to be removed.
pub fn is_garbage(reader: &(impl Reader + ?Sized), volume: u64, ino: u64) -> Outcome<bool> {
    Ok(reader.get(&keys::garbage(volume, ino))?.is_some())
}

/// The objects of these files are gone.
pub fn forget_garbage(txn: &mut Txn<'_>, volume: u64, inos: &[u64]) {
    for ino in inos {
        txn.delete(keys::garbage(volume, *ino));
    }
}

/// Up to `limit` orphans (volume, inode) after `after`, over all volumes.
pub fn orphans(reader: &(impl Reader + ?Sized), after: (u64, u64), limit: usize) -> Outcome<Vec<(u64, u64)>> {
    let from = keys::after(&keys::orphan(after.0, after.1));
    let rows = reader.scan(&from, &prefix_end(&[table::ORPHAN]), limit)?;
    rows.into_iter()
        .map(|(key, _)| {
            let parse = || Some((keys::word(&key, 0)?, keys::word(&key, 1)?));
            parse().ok_or_else(|| corrupt("orphan", &key))
        })
        .collect()
}

/// A freed file.
#[derive(Clone, PartialEq, Debug)]
pub struct Garbage {
    /// Volume.
    pub volume: u64,
    /// Inode.
    pub ino: u64,
    /// Where its objects are.
    pub layout: Layout,
}

/// Up to `limit` freed files after `after`, over all volumes.
pub fn garbage(reader: &(impl Reader + ?Sized), after: (u64, u64), limit: usize) -> Outcome<Vec<Garbage>> {
    let from = keys::after(&keys::garbage(after.0, after.1));
    let rows = reader.scan(&from, &prefix_end(&[table::GARBAGE]), limit)?;
    rows.into_iter()
        .map(|(key, value)| {
            let parse = || {
                let layout = prost::Message::decode(Cursor::new(&value)?.rest()).ok()?;
                Some(Garbage { volume: keys::word(&key, 0)?, ino: keys::word(&key, 1)?, layout })
            };
            parse().ok_or_else(|| corrupt("garbage", &key))
        })
        .collect()
}
