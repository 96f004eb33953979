//! New inodes: mkdir, mknod, symlink, create, files without a name.

use prost::Message;
use proto::error::Code;
use proto::id::Ino;
use proto::limits::{LINKS_MAX, SYMLINK_BYTES_MAX};
use proto::mrc::{CreateRequest, EarlyFile, Head, MakeRequest, Time, kind};
use proto::stripe::Layout;
use rt::table::Txn;

use super::acl::Acls;
use super::entry::{self, Entry};
use super::inode::{self, Body, FIRST_COOKIE, FLAG_APPEND, FLAG_IMMUTABLE, Inode};
use super::name::Name;
use super::{Outcome, access, collect, content, home, refuse, session, volume};
use crate::quota;

const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;

/// Makes an inode and its entry. `layout` is the leader's placement for a regular file.
pub fn make(txn: &mut Txn<'_>, now: Time, request: &MakeRequest, layout: Option<&Layout>) -> Outcome<Inode> {
    let name = Name::parse_new(&request.name)?;
    let volume = request.head.volume;
    let mut parent = inode::directory(txn, volume, request.parent)?;
    access::require(&parent, &request.head, access::X)?;
    if entry::find(txn, volume, request.parent, name)?.is_some() {
        return refuse(Code::Exists, format!("{name} exists in directory {}", Ino(request.parent)));
    }
    add(txn, now, request, name, &mut parent, layout)
}

/// What `create` found or made.
#[derive(Clone, PartialEq, Debug)]
pub struct Created {
    /// The file.
    pub inode: Inode,
    /// Whether it is new.
    pub created: bool,
}

/// Makes a regular file, or finds the existing one unless `exclusive`.
pub fn create(txn: &mut Txn<'_>, now: Time, ask: &CreateRequest, layout: &Layout) -> Outcome<Created> {
    let request = &ask.make;
    let name = Name::parse_new(&request.name)?;
    let volume = request.head.volume;
    let mut parent = inode::directory(txn, volume, request.parent)?;
    access::require(&parent, &request.head, access::X)?;
    if let Some(found) = entry::find(txn, volume, request.parent, name)? {
        if ask.exclusive {
            return refuse(Code::Exists, format!("{name} exists in directory {}", Ino(request.parent)));
        }
        let inode = inode::get(txn, volume, found.ino)?;
        may_open(&inode, &request.head, ask.write, ask.append)?;
        return Ok(Created { inode, created: false });
    }
    let inode = add(txn, now, request, name, &mut parent, Some(layout))?;
    Ok(Created { inode, created: true })
}

/// Makes a regular file (`layout`) or a directory that a session has made under its lease of the directory: as it has shown it, unless
/// it was expelled since. What was promised is not refused for a quota.
pub fn create_as(
    txn: &mut Txn<'_>,
    head: &Head,
    file: &EarlyFile,
    layout: Option<&Layout>,
) -> Outcome<Created> {
    let (volume, name) = (head.volume, Name::parse_new(&file.name)?);
    session::require_epoch(txn, head.session, file.epoch, name)?;
    let mut parent = inode::directory(txn, volume, file.parent)?;
    let taken = match entry::find(txn, volume, file.parent, name)? {
        Some(found) if found.ino == file.ino => {
            let inode = inode::get(txn, volume, file.ino)?;
            return Ok(Created { inode, created: false });
        }
        found => found.is_some(),
    };
    if let Some(inode) = inode::find(txn, volume, file.ino)?.filter(|inode| inode.attr.btime == file.at) {
        // A repeat; it has another name since.
        return Ok(Created { inode, created: false });
    }
    let mut record = volume::live(txn, volume)?;
    if taken || file.ino >= record.next_ino || inode::find_any(txn, volume, file.ino)?.is_some() {
        return refuse(
            Code::Exists,
            format!(
                "{name} as {} in {}: the name or the number is another's",
                Ino(file.ino),
                Ino(file.parent)
            ),
        );
    }
    if parent.attr.nlink == 0 {
        return refuse(Code::NotFound, format!("directory {} is removed", Ino(file.parent)));
    }
    let at = Time { nanos: file.at.nanos.min(999_999_999), ..file.at };
    let (kind, body) = match layout {
        Some(layout) => (kind::FILE, Body::File(layout.encode_to_vec())),
        None => (kind::DIR, Body::Directory { next_cookie: FIRST_COOKIE }),
    };
    let mut inode = Inode::new(file.ino, kind << 12 | file.mode & 0o7777, (file.uid, file.gid), at, body);
    inode.tell_lists();
    quota::created(txn, volume, &record, &inode)?;
    let cookie = entry::take_cookie(&mut parent);
    home::add(txn, volume, &mut inode, (file.parent, cookie))?;
    entry::put(txn, volume, file.parent, name, Entry { ino: file.ino, kind, cookie });
    parent.attr.size += 1;
    parent.attr.nlink += u32::from(layout.is_none());
    parent.named_at(at);
    inode::put(txn, volume, &parent);
    inode::put(txn, volume, &inode);
    record.inodes += 1;
    volume::put(txn, volume, &record);
    if layout.is_some_and(Layout::is_inline)
        && let Some(told) = &file.content
    {
        content::put(txn, volume, file.ino, &told.data);
    }
    Ok(Created { inode, created: true })
}

/// Whether there is anything to open: only regular files have data.
pub fn is_openable(inode: &Inode) -> Outcome<()> {
    let what = Ino(inode.attr.ino);
    match inode.kind() {
        kind::FILE => Ok(()),
        kind::DIR => refuse(Code::IsDirectory, format!("{what} is a directory")),
        kind::SYMLINK => refuse(Code::Loop, format!("{what} is a symbolic link")),
        _ => refuse(Code::NotSupported, format!("{what} is a special file; it has no data here")),
    }
}

/// Whether a file may be opened.
pub fn may_open(inode: &Inode, head: &Head, write: bool, append: bool) -> Outcome<()> {
    is_openable(inode)?;
    let what = Ino(inode.attr.ino);
    if write && inode.has_flag(FLAG_IMMUTABLE) {
        return refuse(Code::NotPermitted, format!("{what} is immutable"));
    }
    if write && !append && inode.has_flag(FLAG_APPEND) {
        return refuse(Code::NotPermitted, format!("{what} is append-only: open it with O_APPEND"));
    }
    access::require(inode, head, if write { access::W } else { access::R })
}

/// Makes a file without a name in a directory: an orphan from the start, open until its maker closes it. Unless it is
/// `exclusive` it may get a name by [`super::link::link`].
pub fn tmpfile(txn: &mut Txn<'_>, now: Time, request: &CreateRequest, layout: &Layout) -> Outcome<Inode> {
    let make = &request.make;
    let volume = make.head.volume;
    let parent = inode::directory(txn, volume, make.parent)?;
    access::may_add(&parent, &make.head)?;
    let mut record = volume::live(txn, volume)?;
    if parent.attr.nlink == 0 {
        return refuse(Code::NotFound, format!("directory {} is removed", Ino(make.parent)));
    }
    let body = body_of(kind::FILE << 12, make, Some(layout))?;
    let mut inode = blank(&parent, make, kind::FILE << 12 | make.mode & 0o7777, record.next_ino, now, body);
    inode.attr.nlink = 0;
    quota::admit_new(txn, volume, &record, (inode.attr.uid, inode.attr.gid), None)?;
    quota::created(txn, volume, &record, &inode)?;
    inode::put(txn, volume, &inode);
    collect::put_orphan(txn, volume, inode.attr.ino, !request.exclusive);
    record.next_ino += 1;
    record.inodes += 1;
    volume::put(txn, volume, &record);
    Ok(inode)
}

/// A new inode with what its directory hands down.
fn blank(parent: &Inode, request: &MakeRequest, mode: u32, ino: u64, now: Time, body: Body) -> Inode {
    let head = &request.head;
    let (mode, acls) = acl_of(parent, mode, request.umask);
    let (mode, gid) = inherit(parent, head, mode);
    let mut inode = Inode::new(ino, mode, (head.uid, gid), now, body);
    if matches!(mode >> 12, kind::CHAR | kind::BLOCK) {
        inode.attr.rdev = request.rdev;
    }
    inode.acls = acls;
    inode.tell_lists();
    inode
}

fn add(
    txn: &mut Txn<'_>,
    now: Time,
    request: &MakeRequest,
    name: Name<'_>,
    parent: &mut Inode,
    layout: Option<&Layout>,
) -> Outcome<Inode> {
    let (volume, head) = (request.head.volume, &request.head);
    access::may_add(parent, head)?;
    let mut record = volume::live(txn, volume)?;
    let mode = if request.mode >> 12 == 0 { request.mode | kind::FILE << 12 } else { request.mode };
    let body = body_of(mode, request, layout)?;
    if parent.attr.nlink == 0 {
        return refuse(Code::NotFound, format!("directory {} is removed", Ino(request.parent)));
    }
    let ino = record.next_ino;
    let mut inode = blank(parent, request, mode, ino, now, body);
    if inode.is_dir() {
        if parent.attr.nlink >= LINKS_MAX {
            return refuse(
                Code::TooManyLinks,
                format!("directory {} has {LINKS_MAX} links, the limit", Ino(request.parent)),
            );
        }
        parent.attr.nlink += 1;
    }
    quota::admit_new(txn, volume, &record, (inode.attr.uid, inode.attr.gid), Some(request.parent))?;
    quota::created(txn, volume, &record, &inode)?;
    let cookie = entry::take_cookie(parent);
    home::add(txn, volume, &mut inode, (request.parent, cookie))?;
    entry::put(txn, volume, request.parent, name, Entry { ino, kind: inode.kind(), cookie });
    parent.attr.size += 1;
    parent.modified(now);
    inode::put(txn, volume, parent);
    inode::put(txn, volume, &inode);
    record.next_ino += 1;
    record.inodes += 1;
    volume::put(txn, volume, &record);
    Ok(inode)
}

fn body_of(mode: u32, request: &MakeRequest, layout: Option<&Layout>) -> Outcome<Body> {
    match mode >> 12 {
        kind::DIR => Ok(Body::Directory { next_cookie: FIRST_COOKIE }),
        kind::FILE => match layout {
            Some(layout) => Ok(Body::File(layout.encode_to_vec())),
            None => refuse(Code::Internal, "the leader chose no place for a new file"),
        },
        kind::SYMLINK if request.target.is_empty() => refuse(Code::NotFound, "the symlink's target is empty"),
        kind::SYMLINK if request.target.len() > SYMLINK_BYTES_MAX => refuse(
            Code::NameTooLong,
            format!("a symlink target of {} bytes; {SYMLINK_BYTES_MAX} is the limit", request.target.len()),
        ),
        kind::SYMLINK => Ok(Body::Symlink(request.target.clone())),
        kind::FIFO | kind::SOCKET => Ok(Body::Special),
        kind::CHAR | kind::BLOCK => {
            access::require_root(&request.head, "make device nodes")?;
            Ok(Body::Special)
        }
        other => refuse(Code::InvalidArgument, format!("file type {other:#o} does not exist")),
    }
}

/// Mode and access control lists of a new inode: the directory's default list takes the place of the umask.
fn acl_of(parent: &Inode, mode: u32, umask: u32) -> (u32, Acls) {
    let kind = mode >> 12;
    let Some(default) = parent.acls.default.as_ref().filter(|_| kind != kind::SYMLINK) else {
        return (mode & !(umask & 0o777), Acls::default());
    };
    let access = default.inherited(mode);
    let mode = mode & !0o777 | access.mode_bits();
    let default = (kind == kind::DIR).then(|| default.clone());
    (mode, Acls { access: Some(access).filter(|acl| !acl.is_minimal()), default })
}

/// Mode and group of a new inode: a setgid directory hands down its group, and itself to directories.
fn inherit(parent: &Inode, head: &Head, mode: u32) -> (u32, u32) {
    let (kind, mut bits) = (mode >> 12, mode & 0o7777);
    if kind == kind::SYMLINK {
        bits = 0o777;
    }
    let inherited = parent.attr.mode & SETGID != 0;
    let gid = if inherited { parent.attr.gid } else { head.gid };
    if kind == kind::DIR {
        // mkdir gives neither bit by itself, only by inheritance.
        bits &= !(SETUID | SETGID);
        if inherited {
            bits |= SETGID;
        }
    } else if bits & (SETGID | GROUP_EXECUTE) == SETGID | GROUP_EXECUTE
        && !head.permission_checked
        && head.uid != 0
        && !access::in_group(head, gid)
    {
        bits &= !SETGID;
    }
    (kind << 12 | bits, gid)
}
