//! Changing attributes, and size reports of writers.

use proto::error::Code;
use proto::id::Ino;
use proto::limits::{BLOCK_BYTES, FILE_BYTES_MAX};
use proto::mrc::{Attr, EarlyFile, Head, KeptAttributes, ReportWrite, SetAttrRequest, Time, kind};
use rt::table::Txn;

use super::inode::{self, FLAG_APPEND, FLAG_IMMUTABLE, Inode, Layers};
use super::{Outcome, access, coding, content, layers, refuse, session, volume, xattr};
use crate::{quota, usage};

const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;
/// A caller's "unchanged" for owner and group, as in chown(2).
const UNCHANGED: u32 = u32::MAX;

/// Changes the attributes that are present.
pub fn setattr(txn: &mut Txn<'_>, now: Time, request: &SetAttrRequest) -> Outcome<Inode> {
    let volume = request.head.volume;
    let mut inode = inode::get(txn, volume, request.ino)?;
    parse_times(request)?;
    respect_flags(&inode, request)?;
    permitted(&inode, request)?;
    let before = inode.attr.clone();
    change_owner(&mut inode, request);
    quota::admit_owner(txn, &request.head, &before, &inode.attr)?;
    change_mode(&mut inode, request);
    if let Some(size) = request.size {
        if coding::shows_coded(txn, volume, &inode)? {
            return refuse(
                Code::Busy,
                format!("{} is erasure-coded: it is to be opened for writing first", Ino(request.ino)),
            );
        }
        content::cut(txn, volume, &mut inode, size)?;
        inode.set_shares(Layers { encoding: 0, ..inode.shares() });
        if size < inode.attr.size {
            layers::cut(txn, volume, &mut inode, size)?;
        }
        resize(&mut inode, size, request.blocks, now)?;
        if !request.head.permission_checked && request.head.uid != 0 {
            clear_setid(&mut inode.attr);
        }
    }
    change_times(&mut inode.attr, request, now);
    if let Some(flags) = request.flags {
        inode.attr.flags = flags;
    }
    if request.size.is_some() || request.uid.is_some() || request.gid.is_some() {
        xattr::drop_capability(txn, volume, &mut inode)?;
    }
    inode.touch(now);
    if request.size.is_some() {
        // Before the row is written: that one says already that nothing is being encoded.
        coding::forget(txn, volume, request.ino)?;
    }
    inode::put(txn, volume, &inode);
    volume::resized(txn, volume, before.size, inode.attr.size)?;
    usage::changed(txn, volume, &before, &inode)?;
    quota::changed(txn, volume, &before, &inode.attr)?;
    Ok(inode)
}

fn parse_times(request: &SetAttrRequest) -> Outcome<()> {
    [request.atime, request.mtime, request.btime].into_iter().flatten().try_for_each(checked_time)
}

fn checked_time(time: Time) -> Outcome<()> {
    if time.nanos < 1_000_000_000 {
        return Ok(());
    }
    refuse(Code::InvalidArgument, format!("{} nanoseconds are more than a second", time.nanos))
}

/// Immutable and append-only inodes let only their flags change, and their times to now.
fn respect_flags(inode: &Inode, request: &SetAttrRequest) -> Outcome<()> {
    let changes_others = request.mode.is_some()
        || request.uid.is_some()
        || request.gid.is_some()
        || request.size.is_some()
        || request.atime.is_some()
        || request.mtime.is_some()
        || request.btime.is_some()
        || (inode.has_flag(FLAG_IMMUTABLE) && (request.atime_now || request.mtime_now));
    if changes_others && inode.has_flag(FLAG_IMMUTABLE | FLAG_APPEND) {
        return refuse(Code::NotPermitted, format!("{} is immutable or append-only", Ino(inode.attr.ino)));
    }
    Ok(())
}

fn permitted(inode: &Inode, request: &SetAttrRequest) -> Outcome<()> {
    let (head, attr) = (&request.head, &inode.attr);
    if head.permission_checked || head.uid == 0 {
        return Ok(());
    }
    if request.mode.is_some() || request.btime.is_some() || request.flags.is_some() {
        access::require_owner(inode, head)?;
    }
    if request.flags.is_some_and(|flags| (flags ^ attr.flags) & (FLAG_IMMUTABLE | FLAG_APPEND) != 0) {
        access::require_root(head, "change the immutable and append-only flags")?;
    }
    if request.uid.is_some_and(|uid| uid != UNCHANGED && (uid != attr.uid || head.uid != attr.uid)) {
        access::require_root(head, "give files away")?;
    }
    if let Some(gid) = request.gid.filter(|gid| *gid != UNCHANGED) {
        access::require_owner(inode, head)?;
        if gid != attr.gid && !access::in_group(head, gid) {
            access::require_root(head, "give files to a group that it is not in")?;
        }
    }
    if request.atime.is_some() || request.mtime.is_some() {
        access::require_owner(inode, head)?;
    }
    if (request.atime_now || request.mtime_now) && head.uid != attr.uid {
        access::require(inode, head, access::W)?;
    }
    if request.size.is_some() {
        access::require(inode, head, access::W)?;
    }
    Ok(())
}

fn change_owner(inode: &mut Inode, request: &SetAttrRequest) {
    let is_dir = inode.is_dir();
    let attr = &mut inode.attr;
    let given = |id: Option<u32>| id.filter(|id| *id != UNCHANGED);
    if let Some(uid) = given(request.uid) {
        attr.uid = uid;
    }
    if let Some(gid) = given(request.gid) {
        attr.gid = gid;
    }
    let chown = request.uid.is_some() || request.gid.is_some();
    if (chown || request.clear_setid) && !is_dir {
        clear_setid(attr);
    }
}

fn clear_setid(attr: &mut Attr) {
    attr.mode &= !SETUID;
    if attr.mode & GROUP_EXECUTE != 0 {
        attr.mode &= !SETGID;
    }
}

fn change_mode(inode: &mut Inode, request: &SetAttrRequest) {
    let Some(mode) = request.mode else { return };
    let head = &request.head;
    let mut bits = mode & 0o7777;
    if !head.permission_checked && head.uid != 0 && !access::in_group(head, inode.attr.gid) {
        bits &= !SETGID;
    }
    set_mode(inode, bits);
}

fn set_mode(inode: &mut Inode, bits: u32) {
    inode.attr.mode = inode.kind() << 12 | bits;
    if let Some(acl) = &mut inode.acls.access {
        acl.chmod(bits);
    }
}

fn change_times(attr: &mut Attr, request: &SetAttrRequest, now: Time) {
    if request.atime_now {
        attr.atime = now;
    }
    if request.mtime_now {
        attr.mtime = now;
    }
    attr.atime = request.atime.unwrap_or(attr.atime);
    attr.mtime = request.mtime.unwrap_or(attr.mtime);
    attr.btime = request.btime.unwrap_or(attr.btime);
}

/// Allocated 512-byte units of a file without holes: OSDs allocate whole blocks.
fn dense(size: u64) -> u64 {
    size.div_ceil(BLOCK_BYTES as u64) * (BLOCK_BYTES as u64 / 512)
}

fn checked_size(inode: &Inode, size: u64) -> Outcome<()> {
    match inode.kind() {
        kind::FILE if size > FILE_BYTES_MAX => refuse(
            Code::FileTooLarge,
            format!("{size} bytes for {}; {FILE_BYTES_MAX} is the limit", Ino(inode.attr.ino)),
        ),
        kind::FILE => Ok(()),
        kind::DIR => refuse(
            Code::IsDirectory,
            format!("{} is a directory; it has no size to set", Ino(inode.attr.ino)),
        ),
        _ => refuse(Code::InvalidArgument, format!("{} is not a regular file", Ino(inode.attr.ino))),
    }
}

fn resize(inode: &mut Inode, size: u64, blocks: Option<u64>, now: Time) -> Outcome<()> {
    checked_size(inode, size)?;
    let attr = &mut inode.attr;
    if size < attr.size {
        attr.truncate_epoch += 1;
        attr.blocks = blocks.unwrap_or(attr.blocks).min(dense(size));
    }
    attr.size = size;
    attr.mtime = now;
    Ok(())
}

/// Takes a writer's report: the size only grows, and not by a report from before a truncation. Gives the inode and
/// what changed.
pub fn report_write(txn: &mut Txn<'_>, now: Time, request: &ReportWrite) -> Outcome<(Inode, Reported)> {
    let volume = request.head.volume;
    let mut inode = inode::get(txn, volume, request.ino)?;
    checked_size(&inode, request.size)?;
    let before = inode.attr.clone();
    let attr = &mut inode.attr;
    if request.truncate_epoch >= attr.truncate_epoch {
        if request.size > attr.size {
            attr.size = request.size;
            attr.mtime = now;
        }
        let grown = dense(attr.size) - dense(before.size);
        attr.blocks = request.blocks.unwrap_or(attr.blocks + grown).min(dense(attr.size));
    }
    if let Some(mtime) = request.mtime {
        attr.mtime = Time { nanos: mtime.nanos.min(999_999_999), ..mtime };
    }
    if request.clear_setid {
        clear_setid(attr);
    }
    let written = request.mtime.is_some() || inode.attr.size != before.size;
    // The change was the write, not its report: whoever looked between the two has seen this time at the writer.
    let written_at = if written { request.mtime.map(|_| inode.attr.mtime) } else { None };
    let kept = valid_kept(txn, request, &inode)?;
    if let Some(kept) = kept {
        set_kept(&mut inode, kept);
    }
    let drops = written || kept.is_some_and(|kept| kept.chown);
    let lost_capability = drops && xattr::drop_capability(txn, volume, &mut inode)?;
    if inode.attr == before && !lost_capability && kept.is_none() {
        return Ok((inode, Reported::default()));
    }
    // What changes nothing but this time may have been set before the last write.
    let changed_at = kept.map(|kept| kept.ctime).max(written_at).unwrap_or(now);
    inode.touch(changed_at.min(now).max(before.ctime));
    inode::put(txn, volume, &inode);
    volume::resized(txn, volume, before.size, inode.attr.size)?;
    usage::changed(txn, volume, &before, &inode)?;
    quota::changed(txn, volume, &before, &inode.attr)?;
    let written = written || kept.is_none();
    Ok((inode, Reported { written, attributes: kept.is_some() }))
}

/// Sets attributes of a directory that a session has set under its lease of it, as it has shown them; `None`: it is gone, or they may not be
/// set any more. The kernel of the mount has checked the rights.
pub fn directory_as(
    txn: &mut Txn<'_>,
    head: &Head,
    file: &EarlyFile,
    kept: KeptAttributes,
) -> Outcome<Option<Inode>> {
    session::require_epoch(txn, head.session, file.epoch, Ino(file.ino))?;
    for time in [kept.atime, kept.mtime, Some(kept.ctime)].into_iter().flatten() {
        checked_time(time)?;
    }
    let found = inode::find(txn, head.volume, file.ino)?.filter(Inode::is_dir);
    let Some(mut inode) = found.filter(|inode| !inode.has_flag(FLAG_IMMUTABLE | FLAG_APPEND)) else {
        return Ok(None);
    };
    set_kept(&mut inode, kept);
    inode.touch(kept.ctime.max(inode.attr.ctime));
    inode::put(txn, head.volume, &inode);
    Ok(Some(inode))
}

/// What a report changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reported {
    /// Content.
    pub written: bool,
    /// Attributes that the writer had set and kept.
    pub attributes: bool,
}

/// What the writer kept, if nobody else can have changed the inode since: its session was not expelled.
fn valid_kept(txn: &Txn<'_>, request: &ReportWrite, inode: &Inode) -> Outcome<Option<KeptAttributes>> {
    let Some(kept) = request.kept else { return Ok(None) };
    for time in [kept.atime, kept.mtime, Some(kept.ctime)].into_iter().flatten() {
        checked_time(time)?;
    }
    let row = session::find(txn, request.head.session)?;
    let is_theirs = row.is_some_and(|row| row.epoch == kept.epoch);
    Ok(Some(kept).filter(|_| is_theirs && !inode.has_flag(FLAG_IMMUTABLE | FLAG_APPEND)))
}

fn set_kept(inode: &mut Inode, kept: KeptAttributes) {
    if kept.chown {
        clear_setid(&mut inode.attr);
    }
    if kept.plain_acl {
        inode.acls.access = None;
        inode.tell_lists();
    }
    if let Some(mode) = kept.mode {
        set_mode(inode, mode & 0o7777);
    }
    inode.attr.atime = kept.atime.unwrap_or(inode.attr.atime);
    inode.attr.mtime = kept.mtime.unwrap_or(inode.attr.mtime);
}
