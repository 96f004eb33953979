//! What was removed and is kept for a while: names that move into a directory of their own, and rows that remember
//! where they were.
//!
//! Pure and deterministic. The rules are docs/protocols/trash.md.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use proto::error::Code;
use proto::id::Ino;
use proto::mrc::{Head, MakeRequest, RENAME_NOREPLACE, RemoveEntry, RenameRequest, Time, kind};
use proto::trash::{ListTrash, TrashList, TrashRequest, Trashed};
use rt::table::{Reader, Txn, prefix_end};

use crate::changes::subtree::path_of;
use crate::namespace::acl::{Acl, Acls};
use crate::namespace::entry::{self, Entry};
use crate::namespace::inode::{self, Inode};
use crate::namespace::keys::{self, table};
use crate::namespace::name::Name;
use crate::namespace::record::{unversioned, versioned};
use crate::namespace::volume::{self, Volume};
use crate::namespace::{Outcome, access, corrupt, home, link, make, refuse, rename};

/// The directory of what was removed, in the root.
pub const DIRECTORY: &[u8] = b".xtfs-trash";
/// Rows in one answer.
const PAGE: usize = 512;

/// What is remembered of something that was removed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Row {
    #[prost(bytes = "vec", tag = "1")]
    path: Vec<u8>,
    #[prost(uint32, tag = "2")]
    removed_by: u32,
    /// Type and permission bits; the rest is for directories, whose inode is gone.
    #[prost(uint32, tag = "3")]
    mode: u32,
    #[prost(uint32, tag = "4")]
    uid: u32,
    #[prost(uint32, tag = "5")]
    gid: u32,
    #[prost(bytes = "vec", tag = "6")]
    acl: Vec<u8>,
    #[prost(bytes = "vec", tag = "7")]
    default_acl: Vec<u8>,
    #[prost(message, required, tag = "8")]
    mtime: Time,
}

impl Row {
    fn is_dir(&self) -> bool {
        self.mode >> 12 == kind::DIR
    }
}

fn millis(time: Time) -> u64 {
    u64::try_from(time.seconds).unwrap_or(0).saturating_mul(1000) + u64::from(time.nanos / 1_000_000)
}

/// Sets how long a volume keeps what is removed, and makes the directory for it.
pub fn keep(txn: &mut Txn<'_>, now: Time, volume: u64, keep_ms: u64) -> Outcome<()> {
    let mut record = volume::live(txn, volume)?;
    record.keep_ms = keep_ms;
    if keep_ms > 0 && directory(txn, volume, &record)?.is_none() {
        record.trash_dir = make_directory(txn, now, volume)?;
        // The directory's number came from the row.
        record.next_ino = volume::live(txn, volume)?.next_ino;
        record.inodes = volume::live(txn, volume)?.inodes;
    }
    volume::put(txn, volume, &record);
    Ok(())
}

fn make_directory(txn: &mut Txn<'_>, now: Time, volume: u64) -> Outcome<u64> {
    let name = Name::parse(DIRECTORY)?;
    if let Some(found) = entry::find(txn, volume, Ino::ROOT.0, name)? {
        if found.kind == kind::DIR {
            return Ok(found.ino);
        }
        return refuse(Code::Exists, format!("{name} in the root is no directory; rename it first"));
    }
    let request = MakeRequest {
        head: Head { volume, permission_checked: true, ..Head::default() },
        parent: Ino::ROOT.0,
        name: DIRECTORY.to_vec(),
        mode: kind::DIR << 12 | 0o700,
        ..MakeRequest::default()
    };
    Ok(make::make(txn, now, &request, None)?.attr.ino)
}

/// The directory of the trash, while there is one.
fn directory(reader: &(impl Reader + ?Sized), volume: u64, record: &Volume) -> Outcome<Option<Inode>> {
    if record.trash_dir == 0 {
        return Ok(None);
    }
    let found = inode::find(reader, volume, record.trash_dir)?;
    Ok(found.filter(|inode| inode.is_dir() && inode.attr.nlink > 0))
}

/// The directory of the trash if what is removed from `parent` goes there.
fn open(txn: &Txn<'_>, volume: u64, parent: u64) -> Outcome<Option<Inode>> {
    let Some(record) = volume::find(txn, volume)?.filter(|record| record.keep_ms > 0) else {
        return Ok(None);
    };
    Ok(directory(txn, volume, &record)?.filter(|trash| trash.attr.ino != parent))
}

/// Whether removals of a volume may go to its trash; the leader asks. Gives the trash's directory.
pub fn is_kept(reader: &(impl Reader + ?Sized), volume: u64) -> Outcome<Option<u64>> {
    let record = volume::find(reader, volume)?.filter(|record| record.keep_ms > 0);
    Ok(record.map(|record| record.trash_dir).filter(|directory| *directory != 0))
}

fn remember(
    txn: &mut Txn<'_>,
    now: Time,
    head: &Head,
    inode: &Inode,
    (parent, name): (u64, &[u8]),
) -> Outcome<()> {
    let Some(mut path) = path_of(txn, head.volume, parent)? else {
        return refuse(Code::NotFound, format!("directory {} has no path", Ino(parent)));
    };
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    let value = |list: &Option<Acl>| list.as_ref().map(Acl::to_value).unwrap_or_default();
    let is_dir = inode.is_dir();
    let row = Row {
        path,
        removed_by: head.uid,
        mode: inode.attr.mode,
        uid: inode.attr.uid,
        gid: inode.attr.gid,
        acl: if is_dir { value(&inode.acls.access) } else { Vec::new() },
        default_acl: if is_dir { value(&inode.acls.default) } else { Vec::new() },
        mtime: inode.attr.mtime,
    };
    txn.put(keys::trash(head.volume, millis(now), inode.attr.ino), versioned(&row));
    Ok(())
}

/// The last name of something that is no directory was taken out of its directory: true when it went to the trash.
pub fn take(
    txn: &mut Txn<'_>,
    now: Time,
    head: &Head,
    inode: &mut Inode,
    was: (u64, &[u8], u64),
) -> Outcome<bool> {
    let (volume, (parent, name, cookie)) = (head.volume, was);
    if inode.attr.nlink != 1 {
        return Ok(false);
    }
    let Some(mut trash) = open(txn, volume, parent)? else { return Ok(false) };
    let text = inode.attr.ino.to_string();
    let there = Name::parse(text.as_bytes())?;
    if entry::find(txn, volume, trash.attr.ino, there)?.is_some() {
        return Ok(false);
    }
    remember(txn, now, head, inode, (parent, name))?;
    let to = entry::take_cookie(&mut trash);
    let entry = Entry { ino: inode.attr.ino, kind: inode.kind(), cookie: to };
    entry::put(txn, volume, trash.attr.ino, there, entry);
    trash.attr.size += 1;
    trash.modified(now);
    inode::put(txn, volume, &trash);
    home::shift(txn, volume, inode, (parent, cookie), (trash.attr.ino, to))?;
    inode.touch(now);
    inode::put(txn, volume, inode);
    Ok(true)
}

/// An empty directory is removed: it is remembered if the volume keeps what is removed.
pub fn take_directory(
    txn: &mut Txn<'_>,
    now: Time,
    head: &Head,
    inode: &Inode,
    was: (u64, &[u8]),
) -> Outcome<()> {
    match open(txn, head.volume, was.0)? {
        Some(trash) if trash.attr.ino != inode.attr.ino => remember(txn, now, head, inode, was),
        _ => Ok(()),
    }
}

fn row(reader: &(impl Reader + ?Sized), request: &TrashRequest) -> Outcome<Row> {
    let key = keys::trash(request.head.volume, request.removed_ms, request.ino);
    let Some(value) = reader.get(&key)? else {
        return refuse(Code::NotFound, format!("{} is not in the trash", Ino(request.ino)));
    };
    let row: Row = unversioned(&value).ok_or_else(|| corrupt("trash", &key))?;
    let head = &request.head;
    if head.uid != 0 && head.uid != row.removed_by {
        return refuse(Code::NotPermitted, format!("{} was removed by somebody else", Ino(request.ino)));
    }
    Ok(row)
}

/// Where something would come back: directory and name.
pub fn destination(reader: &(impl Reader + ?Sized), request: &TrashRequest) -> Outcome<(u64, Vec<u8>)> {
    let row = row(reader, request)?;
    let mut names: Vec<&[u8]> = row.path.split(|byte| *byte == b'/').collect();
    let name = names.pop().unwrap_or_default().to_vec();
    let (volume, mut at) = (request.head.volume, Ino::ROOT.0);
    for step in names {
        let directory = inode::directory(reader, volume, at)?;
        access::require(&directory, &request.head, access::X)?;
        let found = entry::find(reader, volume, at, Name::parse(step)?)?;
        let Some(found) = found.filter(|found| found.kind == kind::DIR) else {
            return refuse(
                Code::NotFound,
                format!(
                    "/{}: its directory {:?} is not there; restore or make it first",
                    String::from_utf8_lossy(&row.path),
                    String::from_utf8_lossy(step)
                ),
            );
        };
        at = found.ino;
    }
    Ok((at, name))
}

/// Gives something its name back. Gives the inode, its directory and name.
pub fn restore(txn: &mut Txn<'_>, now: Time, request: &TrashRequest) -> Outcome<(Inode, u64, Vec<u8>)> {
    let row = row(txn, request)?;
    let (parent, name) = destination(txn, request)?;
    let head = &request.head;
    access::may_add(&inode::directory(txn, head.volume, parent)?, head)?;
    if entry::find(txn, head.volume, parent, Name::parse_new(&name)?)?.is_some() {
        return refuse(
            Code::Exists,
            format!("/{} exists; rename or remove it first", String::from_utf8_lossy(&row.path)),
        );
    }
    let ino = match row.is_dir() {
        true => restore_directory(txn, now, head, &row, (parent, &name))?,
        false => restore_file(txn, now, request, (parent, &name))?,
    };
    txn.delete(keys::trash(head.volume, request.removed_ms, request.ino));
    Ok((inode::get(txn, head.volume, ino)?, parent, name))
}

fn restore_directory(
    txn: &mut Txn<'_>,
    now: Time,
    head: &Head,
    row: &Row,
    (parent, name): (u64, &[u8]),
) -> Outcome<u64> {
    let owner = Head { uid: row.uid, gid: row.gid, permission_checked: true, ..head.clone() };
    let (name, mode) = (name.to_vec(), row.mode);
    let request = MakeRequest { head: owner, parent, name, mode, ..MakeRequest::default() };
    let mut inode = make::make(txn, now, &request, None)?;
    inode.attr.mode = row.mode;
    inode.acls = Acls { access: Acl::parse(&row.acl)?, default: Acl::parse(&row.default_acl)? };
    inode.tell_lists();
    inode.attr.mtime = row.mtime;
    inode::put(txn, head.volume, &inode);
    Ok(inode.attr.ino)
}

fn restore_file(
    txn: &mut Txn<'_>,
    now: Time,
    request: &TrashRequest,
    (new_parent, new_name): (u64, &[u8]),
) -> Outcome<u64> {
    let head = Head { permission_checked: true, ..request.head.clone() };
    let record = volume::live(txn, head.volume)?;
    let name = request.ino.to_string().into_bytes();
    let held = entry::find(txn, head.volume, record.trash_dir, Name::parse(&name)?)?;
    if held.is_none_or(|held| held.ino != request.ino) {
        return refuse(Code::NotFound, format!("{} is not in the trash any more", Ino(request.ino)));
    }
    let (parent, new_name, flags) = (record.trash_dir, new_name.to_vec(), RENAME_NOREPLACE);
    let rename =
        RenameRequest { head, parent, name, new_parent, new_name, flags, ..RenameRequest::default() };
    rename::rename(txn, now, &rename, 0)?;
    Ok(request.ino)
}

/// Removes something for good; a file goes when nobody has it open any more.
pub fn remove(txn: &mut Txn<'_>, now: Time, request: &TrashRequest) -> Outcome<()> {
    let row = row(txn, request)?;
    let head = Head { permission_checked: true, ..request.head.clone() };
    txn.delete(keys::trash(head.volume, request.removed_ms, request.ino));
    let record = volume::live(txn, head.volume)?;
    let name = request.ino.to_string().into_bytes();
    let held = entry::find(txn, head.volume, record.trash_dir, Name::parse(&name)?)?;
    if row.is_dir() || held.is_none_or(|held| held.ino != request.ino) {
        return Ok(());
    }
    let entry = RemoveEntry { head, parent: record.trash_dir, name, ..RemoveEntry::default() };
    link::unlink(txn, now, &entry, 0).map(|_| ())
}

fn rows(
    reader: &(impl Reader + ?Sized),
    volume: u64,
    after: (u64, u64),
    limit: usize,
) -> Outcome<Vec<(u64, u64, Row)>> {
    let from = keys::after(&keys::trash(volume, after.0, after.1));
    let rows = reader.scan(&from, &prefix_end(&keys::of_volume(table::TRASH, volume)), limit)?;
    rows.iter()
        .map(|(key, value)| {
            let parse = || Some((keys::word(key, 1)?, keys::word(key, 2)?, unversioned(value)?));
            parse().ok_or_else(|| corrupt("trash", key))
        })
        .collect()
}

/// A page of what the asker may see.
pub fn list(reader: &(impl Reader + ?Sized), request: &ListTrash) -> Outcome<TrashList> {
    let head = &request.head;
    let record = volume::live(reader, head.volume)?;
    let rows = rows(reader, head.volume, (request.after_ms, request.after_ino), PAGE)?;
    let mut list = TrashList { end: rows.len() < PAGE, keep_ms: record.keep_ms, ..TrashList::default() };
    for (removed_ms, ino, row) in rows {
        (list.after_ms, list.after_ino) = (removed_ms, ino);
        if head.uid != 0 && head.uid != row.removed_by {
            continue;
        }
        let inode = match row.is_dir() {
            true => None,
            false => inode::find(reader, head.volume, ino)?.filter(|inode| inode.parent == record.trash_dir),
        };
        if !row.is_dir() && inode.is_none() {
            // Root removed it by hand; its row goes when its time is over.
            continue;
        }
        let size = inode.map_or(0, |inode| inode.attr.size);
        let Row { path, removed_by, mode, uid, gid, mtime, .. } = row;
        list.trashed.push(Trashed { ino, removed_ms, path, removed_by, mode, uid, gid, size, mtime });
    }
    Ok(list)
}

/// Up to `limit` things that were removed longer ago than the volume keeps them: inode and time.
pub fn due(
    reader: &(impl Reader + ?Sized),
    volume: u64,
    record: &Volume,
    now_ms: u64,
    limit: usize,
) -> Outcome<Vec<(u64, u64)>> {
    let before = now_ms.saturating_sub(record.keep_ms);
    let rows = rows(reader, volume, (0, 0), limit)?;
    Ok(rows.into_iter().filter(|row| row.0 < before).map(|(ms, ino, _)| (ino, ms)).collect())
}
