//! What each kind of change makes untrue at other clients (the table "Changes" of `docs/protocols/leases.md`).

use proto::error::WireError;
use proto::mrc::{LEASE_ATTR, LEASE_NAMES, LEASE_READ, LEASE_WRITE, kind};
use rt::table::Reader;

use crate::engine::leases::{Claim, Claims};
use crate::namespace::entry::Entry;
use crate::namespace::inode;

/// Names and attributes of a directory; whoever makes names there tells them first.
pub(crate) const DIRECTORY: u32 = LEASE_ATTR | LEASE_NAMES | LEASE_WRITE;
/// Attributes; whoever writes reports first.
pub(crate) const ATTRIBUTES: u32 = LEASE_ATTR | LEASE_WRITE;
/// Attributes and data.
pub(crate) const DATA: u32 = LEASE_ATTR | LEASE_READ | LEASE_WRITE;

/// A change of one inode.
pub(crate) fn one(volume: u64, ino: u64, bits: u32) -> Claims {
    Claims::default().with(Claim::change((volume, ino), bits))
}

/// An inode that loses a name: with its last one everything goes, and whoever has it open must say so. `known`: the
/// changing client names this inode and has told its own handles.
pub(crate) fn victim(
    reader: &(impl Reader + ?Sized),
    volume: u64,
    entry: Entry,
    known: bool,
) -> Result<Claim, WireError> {
    if entry.kind == kind::DIR {
        return Ok(Claim::change((volume, entry.ino), DIRECTORY));
    }
    let links = inode::find(reader, volume, entry.ino)?.map_or(0, |inode| inode.attr.nlink);
    let claim = Claim::change((volume, entry.ino), if links > 1 { ATTRIBUTES } else { DATA });
    Ok(Claim { own: !known, tell: true, ..claim })
}

/// A name that moves: attributes of what it leads to, and of a directory where `..` leads.
pub(crate) fn moved(volume: u64, entry: Entry) -> Claim {
    let bits = if entry.kind == kind::DIR { DIRECTORY } else { ATTRIBUTES };
    Claim::change((volume, entry.ino), bits)
}
