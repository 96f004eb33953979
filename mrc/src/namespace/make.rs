//! New inodes: mkdir, mknod, symlink, create.

use prost::Message;
use proto::error::Code;
use proto::id::Ino;
use proto::limits::{LINKS_MAX, SYMLINK_BYTES_MAX};
use proto::mrc::{Head, MakeRequest, Time, kind};
use proto::stripe::Layout;
use rt::table::Txn;

use super::entry::{self, Entry};
use super::inode::{self, Body, FIRST_COOKIE, FLAG_IMMUTABLE, Inode};
use super::name::Name;
use super::{Outcome, access, refuse, volume};

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
pub fn create(
    txn: &mut Txn<'_>,
    now: Time,
    request: &MakeRequest,
    layout: &Layout,
    exclusive: bool,
    write: bool,
) -> Outcome<Created> {
    let name = Name::parse_new(&request.name)?;
    let volume = request.head.volume;
    let mut parent = inode::directory(txn, volume, request.parent)?;
    access::require(&parent, &request.head, access::X)?;
    if let Some(found) = entry::find(txn, volume, request.parent, name)? {
        if exclusive {
            return refuse(Code::Exists, format!("{name} exists in directory {}", Ino(request.parent)));
        }
        let inode = inode::get(txn, volume, found.ino)?;
        may_open(&inode, &request.head, write)?;
        return Ok(Created { inode, created: false });
    }
    let inode = add(txn, now, request, name, &mut parent, Some(layout))?;
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
pub fn may_open(inode: &Inode, head: &Head, write: bool) -> Outcome<()> {
    is_openable(inode)?;
    let what = Ino(inode.attr.ino);
    if write && inode.has_flag(FLAG_IMMUTABLE) {
        return refuse(Code::NotPermitted, format!("{what} is immutable"));
    }
    access::require(inode, head, if write { access::W } else { access::R })
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
    let (mode, gid) = inherit(parent, head, mode);
    let mut inode = Inode::new(ino, mode, (head.uid, gid), now, body);
    if matches!(mode >> 12, kind::CHAR | kind::BLOCK) {
        inode.attr.rdev = request.rdev;
    }
    if inode.is_dir() {
        if parent.attr.nlink >= LINKS_MAX {
            return refuse(
                Code::TooManyLinks,
                format!("directory {} has {LINKS_MAX} links, the limit", Ino(request.parent)),
            );
        }
        parent.attr.nlink += 1;
    }
    let cookie = entry::take_cookie(parent);
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
        kind::DIR => Ok(Body::Directory { parent: request.parent, next_cookie: FIRST_COOKIE }),
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
