//! Hard links and the removal of names: link, unlink, rmdir.

use proto::error::Code;
use proto::id::Ino;
use proto::limits::LINKS_MAX;
use proto::mrc::{EarlyFile, Head, LinkRequest, RemoveEntry, Time, kind};
use rt::table::{Reader, Txn};

use super::entry::{self, Entry};
use super::inode::{self, FLAG_APPEND, FLAG_IMMUTABLE, Inode};
use super::name::Name;
use super::{Outcome, access, collect, home, refuse, session};
use crate::{quota, trash, usage};

/// Gives an inode another name.
pub fn link(txn: &mut Txn<'_>, now: Time, request: &LinkRequest) -> Outcome<Inode> {
    let name = Name::parse_new(&request.name)?;
    let volume = request.head.volume;
    let mut inode = inode::get(txn, volume, request.ino)?;
    let mut parent = inode::directory(txn, volume, request.parent)?;
    access::require(&parent, &request.head, access::X)?;
    if entry::find(txn, volume, request.parent, name)?.is_some() {
        return refuse(Code::Exists, format!("{name} exists in directory {}", Ino(request.parent)));
    }
    access::may_add(&parent, &request.head)?;
    if inode.is_dir() || inode.has_flag(FLAG_IMMUTABLE | FLAG_APPEND) {
        return refuse(
            Code::NotPermitted,
            format!("{} is a directory, immutable or append-only: it gets no further name", Ino(request.ino)),
        );
    }
    if inode.attr.nlink == 0 && !collect::take_linkable(txn, volume, request.ino)? {
        return refuse(Code::NotFound, format!("{} is removed already", Ino(request.ino)));
    }
    if inode.attr.nlink >= LINKS_MAX {
        return refuse(Code::TooManyLinks, format!("{} has {LINKS_MAX} links, the limit", Ino(request.ino)));
    }
    quota::admit_link(txn, volume, &inode, request.parent)?;
    inode.attr.nlink += 1;
    inode.touch(now);
    let cookie = entry::take_cookie(&mut parent);
    home::add(txn, volume, &mut inode, (request.parent, cookie))?;
    entry::put(txn, volume, request.parent, name, Entry { ino: request.ino, kind: inode.kind(), cookie });
    parent.attr.size += 1;
    parent.modified(now);
    inode::put(txn, volume, &parent);
    inode::put(txn, volume, &inode);
    Ok(inode)
}

/// Gives a file another name as a session has given it under its leases, at the time that it tells; `None`: it was given before, and may
/// be gone again. The kernel of the mount has checked the rights.
pub fn link_as(txn: &mut Txn<'_>, head: &Head, file: &EarlyFile) -> Outcome<Option<Inode>> {
    let name = Name::parse_new(&file.name)?;
    session::require_epoch(txn, head.session, file.epoch, name)?;
    let is_there = inode::find(txn, head.volume, file.ino)?.is_some_and(|inode| inode.attr.nlink > 0);
    if !is_there || entry::find(txn, head.volume, file.parent, name)?.is_some() {
        return Ok(None);
    }
    let now = inode::not_before(txn, head.volume, file.at, &[file.parent], file.ino)?;
    let (head, parent, name) = (head.clone(), file.parent, file.name.clone());
    let request = LinkRequest { head, ino: file.ino, parent, name, ..LinkRequest::default() };
    link(txn, now, &request).map(Some)
}

/// The inode that a removal would hit; the leader asks before it decides about open files.
pub fn victim(
    reader: &(impl Reader + ?Sized),
    volume: u64,
    parent: u64,
    name: &[u8],
) -> Outcome<Option<Entry>> {
    entry::find(reader, volume, parent, Name::parse(name)?)
}

/// Removes a name of anything but a directory. `closed` is the inode that the leader vouches nobody has open. Gives
/// the entry that was there.
pub fn unlink(txn: &mut Txn<'_>, now: Time, request: &RemoveEntry, closed: u64) -> Outcome<Entry> {
    let (mut parent, entry, mut inode) = removal(txn, request)?;
    access::may_remove(&parent, &inode, &request.head)?;
    if inode.is_dir() {
        return refuse(Code::IsDirectory, format!("{} is a directory", Ino(entry.ino)));
    }
    finish(txn, now, request, &mut parent, entry)?;
    if !trash::take(txn, now, &request.head, &mut inode, (request.parent, &request.name, entry.cookie))? {
        home::remove(txn, request.head.volume, &mut inode, (request.parent, entry.cookie))?;
        collect::drop_link(txn, now, request.head.volume, &mut inode, closed)?;
    }
    Ok(entry)
}

/// Removes a file or an empty directory that a session has removed under its leases, as [`unlink`] and [`rmdir`] do, at the time that
/// it tells; `None`: it is gone already. The kernel of the mount has checked the rights.
pub fn remove_as(txn: &mut Txn<'_>, head: &Head, file: &EarlyFile, closed: u64) -> Outcome<Option<Entry>> {
    let name = Name::parse(&file.name)?;
    session::require_epoch(txn, head.session, file.epoch, name)?;
    let there = entry::find(txn, head.volume, file.parent, name)?;
    if there.is_none_or(|entry| entry.ino != file.ino) {
        return Ok(None);
    }
    let now = inode::not_before(txn, head.volume, file.at, &[file.parent], file.ino)?;
    let (head, parent, name) = (head.clone(), file.parent, file.name.clone());
    let request = RemoveEntry { head, parent, name, victim: file.ino, ..RemoveEntry::default() };
    let removed = match there.is_some_and(|entry| entry.kind == kind::DIR) {
        true => rmdir(txn, now, &request),
        false => unlink(txn, now, &request, closed),
    };
    removed.map(Some)
}

/// Removes an empty directory. Gives the entry that was there.
pub fn rmdir(txn: &mut Txn<'_>, now: Time, request: &RemoveEntry) -> Outcome<Entry> {
    if request.name == b".." {
        return refuse(Code::NotEmpty, "\"..\" is never empty");
    }
    let (mut parent, entry, inode) = removal(txn, request)?;
    access::may_remove(&parent, &inode, &request.head)?;
    if !inode.is_dir() {
        return refuse(Code::NotDirectory, format!("{} is not a directory", Ino(entry.ino)));
    }
    if inode.attr.size > 0 {
        return refuse(
            Code::NotEmpty,
            format!("directory {} has {} entries", Ino(entry.ino), inode.attr.size),
        );
    }
    trash::take_directory(txn, now, &request.head, &inode, (request.parent, &request.name))?;
    parent.attr.nlink -= 1;
    finish(txn, now, request, &mut parent, entry)?;
    usage::end(txn, request.head.volume, request.parent, &inode)?;
    collect::free(txn, request.head.volume, &inode)?;
    Ok(entry)
}

fn removal(txn: &Txn<'_>, request: &RemoveEntry) -> Outcome<(Inode, Entry, Inode)> {
    let name = Name::parse(&request.name)?;
    let volume = request.head.volume;
    let parent = inode::directory(txn, volume, request.parent)?;
    access::require(&parent, &request.head, access::X)?;
    let Some(entry) = entry::find(txn, volume, request.parent, name)? else {
        return refuse(Code::NotFound, format!("{name} does not exist in directory {}", Ino(request.parent)));
    };
    let inode = inode::get(txn, volume, entry.ino)?;
    Ok((parent, entry, inode))
}

fn finish(
    txn: &mut Txn<'_>,
    now: Time,
    request: &RemoveEntry,
    parent: &mut Inode,
    entry: Entry,
) -> Outcome<()> {
    entry::remove(txn, request.head.volume, request.parent, Name::parse(&request.name)?, entry);
    parent.attr.size -= 1;
    parent.modified(now);
    inode::put(txn, request.head.volume, parent);
    Ok(())
}
