//! Reading: lookup, walk, listings, symlinks, access.

use proto::error::Code;
use proto::id::Ino;
use proto::limits::READDIR_ENTRIES_MAX;
use proto::mrc::{
    AccessRequest, Attr, DirEntry, EntryRequest, Head, ReadDirReply, ReadDirRequest, WalkRequest,
};
use rt::table::{Reader, prefix_end};

use super::inode::{self, Body, Inode};
use super::name::Name;
use super::{Outcome, access, entry, keys, refuse};

/// Most names that one walk resolves.
const WALK_NAMES_MAX: usize = 4096;

/// Attributes of an inode.
pub fn getattr(reader: &(impl Reader + ?Sized), volume: u64, ino: u64) -> Outcome<Attr> {
    Ok(inode::get(reader, volume, ino)?.attr)
}

/// Finds a name; understands `.` and `..`.
pub fn lookup(reader: &(impl Reader + ?Sized), request: &EntryRequest) -> Outcome<Attr> {
    Ok(step(reader, &request.head, request.parent, &request.name)?.attr)
}

fn step(reader: &(impl Reader + ?Sized), head: &Head, parent: u64, name: &[u8]) -> Outcome<Inode> {
    let volume = head.volume;
    if name == b"." || name == b".." {
        let directory = inode::directory(reader, volume, parent)?;
        access::require(&directory, head, access::X)?;
        if name == b"." {
            return Ok(directory);
        }
        return inode::get(
            reader,
            volume,
            entry::parent_of(&directory).expect("inode::directory gives directories"),
        );
    }
    let name = Name::parse(name)?;
    if !head.permission_checked {
        access::require(&inode::directory(reader, volume, parent)?, head, access::X)?;
    }
    match entry::find(reader, volume, parent, name)? {
        Some(found) => inode::get(reader, volume, found.ino),
        None => {
            inode::directory(reader, volume, parent)?;
            refuse(Code::NotFound, format!("{name} does not exist in directory {}", Ino(parent)))
        }
    }
}

/// Resolves names in a row; stops after the first that is no directory.
pub fn walk(reader: &(impl Reader + ?Sized), request: &WalkRequest) -> Outcome<Vec<Attr>> {
    if request.names.len() > WALK_NAMES_MAX {
        return refuse(
            Code::NameTooLong,
            format!("a path of {} names; {WALK_NAMES_MAX} is the limit", request.names.len()),
        );
    }
    let mut attrs = Vec::with_capacity(request.names.len());
    let mut at = request.parent;
    for name in &request.names {
        let inode = step(reader, &request.head, at, name)?;
        at = inode.attr.ino;
        let is_dir = inode.is_dir();
        attrs.push(inode.attr);
        if !is_dir {
            break;
        }
    }
    Ok(attrs)
}

/// A page of a listing.
pub fn readdir(reader: &(impl Reader + ?Sized), request: &ReadDirRequest) -> Outcome<ReadDirReply> {
    let volume = request.head.volume;
    let directory = match inode::get(reader, volume, request.ino)? {
        directory if directory.is_dir() => directory,
        _ => return refuse(Code::NotDirectory, format!("{} is not a directory", Ino(request.ino))),
    };
    access::require(&directory, &request.head, access::R)?;
    let limit = match request.limit {
        0 => READDIR_ENTRIES_MAX,
        limit => limit.min(READDIR_ENTRIES_MAX),
    } as usize;
    let from = keys::order(volume, request.ino, request.after.saturating_add(1));
    let end = prefix_end(&from[..from.len() - 8]);
    let rows = reader.scan(&from, &end, limit + 1)?;
    let more = rows.len() > limit;
    let mut entries = Vec::with_capacity(rows.len().min(limit));
    for (key, value) in rows.iter().take(limit) {
        let (entry, name) = entry::parse_order(key, value)?;
        let attr = match request.with_attrs {
            true => inode::find(reader, volume, entry.ino)?.map(|inode| inode.attr),
            false => None,
        };
        entries.push(DirEntry { name, ino: entry.ino, kind: entry.kind, cookie: entry.cookie, attr });
    }
    Ok(ReadDirReply { entries, end: !more, leases: Vec::new() })
}

/// A symlink's target.
pub fn readlink(reader: &(impl Reader + ?Sized), volume: u64, ino: u64) -> Outcome<Vec<u8>> {
    match inode::get(reader, volume, ino)?.body {
        Body::Symlink(target) => Ok(target),
        _ => refuse(Code::InvalidArgument, format!("{} is not a symbolic link", Ino(ino))),
    }
}

/// access(2): always checks, whoever checked before.
pub fn access(reader: &(impl Reader + ?Sized), request: &AccessRequest) -> Outcome<()> {
    let inode = inode::get(reader, request.head.volume, request.ino)?;
    let head = Head { permission_checked: false, ..request.head.clone() };
    if request.mask & access::W != 0 && inode.has_flag(inode::FLAG_IMMUTABLE) {
        return refuse(Code::NotPermitted, format!("{} is immutable", Ino(request.ino)));
    }
    access::require(&inode, &head, request.mask & 7)
}
