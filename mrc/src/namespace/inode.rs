//! Inodes: attributes, and in the same row what belongs to the kind (a file's layout, a symlink's target, a
//! directory's parent and cookie counter), so that `open` and `readlink` cost one point get.

use prost::Message;
use proto::error::Code;
use proto::id::{Ino, VolumeId};
use proto::mrc::{ACL_ACCESS, ACL_DEFAULT, Attr, Time, kind};
use proto::stripe::Layout;
use rt::table::{Reader, Txn};

use super::acl::{Acl, Acls};
use super::record::{Cursor, Writer};
use super::{Outcome, corrupt, keys, refuse};

/// `FS_IMMUTABLE_FL`: nothing about the inode may change.
pub const FLAG_IMMUTABLE: u32 = 0x10;
/// `FS_APPEND_FL`: a file may only grow, a directory may only gain entries.
pub const FLAG_APPEND: u32 = 0x20;
/// Cookies below are never given out (`.`, `..` and the start).
pub const FIRST_COOKIE: u64 = 3;

const BODY_AT: usize = 130;
/// Beside the bits of the access control lists: [`Layers`] follow.
const LAYERED: u8 = 0x80;

/// What belongs to the kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// A directory.
    Directory {
        /// The next entry's cookie. Only grows.
        next_cookie: u64,
    },
    /// A regular file: its layout as prost bytes.
    File(Vec<u8>),
    /// A symlink: its target.
    Symlink(Vec<u8>),
    /// A fifo, socket or device node.
    Special,
}

/// An inode.
#[derive(Clone, PartialEq, Debug)]
pub struct Inode {
    /// Attributes.
    pub attr: Attr,
    /// Extended attributes that it has.
    pub xattrs: u32,
    /// Bytes of their names with a terminator each (what `listxattr` would give).
    pub xattr_list_bytes: u32,
    /// Directory of one of its links, its home; of a directory where `..` leads, of the root itself. 0: no link.
    pub parent: u64,
    /// Cookie of that link; 0 for the root and without a link.
    pub cookie: u64,
    /// Access control lists.
    pub acls: Acls,
    /// What a file shares with others; `None`: nothing.
    pub layers: Option<Box<Layers>>,
    /// What belongs to the kind.
    pub body: Body,
}

/// How a file's data hangs together with that of others. See docs/protocols/snapshots.md.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Layers {
    /// The data that the file shows; 0: its own, which is that of its number.
    #[prost(uint64, tag = "1")]
    pub top: u64,
    /// Others that need the data of this number: files whose top it is, and data that it shows through.
    #[prost(uint32, tag = "2")]
    pub refs: u32,
    /// The newest snapshot when the data of this number was last given up by somebody: snapshots up to it may show it.
    #[prost(uint64, tag = "3")]
    pub died: u64,
    /// The data below that of this number; 0: none.
    #[prost(uint64, tag = "4")]
    pub base: u64,
    /// From here on `base` does not show through, bytes.
    #[prost(uint64, tag = "5")]
    pub base_bytes: u64,
    /// No file: only data that others need.
    #[prost(bool, tag = "6")]
    pub hidden: bool,
    /// The data of this number is given up for good; the file shows other data.
    #[prost(bool, tag = "7")]
    pub gone: bool,
    /// Encoded data that is being written for this file; 0: none.
    #[prost(uint64, tag = "8")]
    pub encoding: u64,
    /// Encoded data that is not whole yet: no file shows it.
    #[prost(bool, tag = "9")]
    pub pending: bool,
    /// Encoded data of which objects are damaged.
    #[prost(bool, tag = "10")]
    pub damaged: bool,
}

impl Inode {
    /// A new inode with one link (directories: two) and all times `now`.
    #[must_use]
    pub fn new(ino: u64, mode: u32, owner: (u32, u32), now: Time, body: Body) -> Self {
        let size = if let Body::Symlink(target) = &body { target.len() as u64 } else { 0 };
        let attr = Attr {
            ino,
            mode,
            nlink: if matches!(body, Body::Directory { .. }) { 2 } else { 1 },
            uid: owner.0,
            gid: owner.1,
            rdev: 0,
            size,
            blocks: 0,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            flags: 0,
            truncate_epoch: 0,
            change: 1,
            acl: 0,
            bare: true,
            layer: 0,
        };
        let acls = Acls::default();
        Self { attr, xattrs: 0, xattr_list_bytes: 0, parent: 0, cookie: 0, acls, layers: None, body }
    }

    /// File type, see [`kind`].
    #[must_use]
    pub fn kind(&self) -> u32 {
        self.attr.mode >> 12
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.kind() == kind::DIR
    }

    /// Whether an inode flag is set.
    #[must_use]
    pub fn has_flag(&self, flag: u32) -> bool {
        self.attr.flags & flag != 0
    }

    /// The same inode with this link as its home.
    #[must_use]
    pub fn at_home(mut self, parent: u64, cookie: u64) -> Self {
        (self.parent, self.cookie) = (parent, cookie);
        self
    }

    /// Attributes say which lists there are, and whether anything is there that has to be asked for.
    pub fn tell_lists(&mut self) {
        self.attr.acl = self.acls.bits();
        self.attr.bare = self.attr.acl == 0 && self.xattrs == 0;
    }

    /// Attributes changed.
    pub fn touch(&mut self, now: Time) {
        self.attr.ctime = now;
        self.attr.change += 1;
    }

    /// Content changed.
    pub fn modified(&mut self, now: Time) {
        self.attr.mtime = now;
        self.touch(now);
    }

    /// A name was made in the directory at a time that its maker tells; times do not go back by it.
    pub fn named_at(&mut self, at: Time) {
        self.attr.mtime = self.attr.mtime.max(at);
        let ctime = self.attr.ctime.max(at);
        self.touch(ctime);
    }

    /// What it shares; default: nothing.
    #[must_use]
    pub fn shares(&self) -> Layers {
        self.layers.as_deref().copied().unwrap_or_default()
    }

    /// Sets what it shares, and what its attributes say of that.
    pub fn set_shares(&mut self, layers: Layers) {
        self.attr.layer = layers.top;
        self.layers = (layers != Layers::default()).then(|| Box::new(layers));
    }

    /// The number of the data that it shows.
    #[must_use]
    pub fn top(&self) -> u64 {
        match self.attr.layer {
            0 => self.attr.ino,
            top => top,
        }
    }

    /// Whether it is no file but data that others need.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.layers.as_ref().is_some_and(|layers| layers.hidden)
    }

    /// The layout of a file.
    pub fn layout(&self) -> Outcome<Layout> {
        match &self.body {
            Body::File(bytes) => Layout::decode(bytes.as_slice())
                .map_err(|_| corrupt("layout of inode", &self.attr.ino.to_be_bytes())),
            _ => refuse(Code::InvalidArgument, format!("{} is not a regular file", Ino(self.attr.ino))),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let a = &self.attr;
        let writer = Writer::new(BODY_AT + 40)
            .u32(a.mode)
            .u32(a.nlink)
            .u32(a.uid)
            .u32(a.gid)
            .u32(a.rdev)
            .u32(a.flags)
            .u64(a.size)
            .u64(a.blocks)
            .u64(a.truncate_epoch)
            .u64(a.change)
            .time(a.atime)
            .time(a.mtime)
            .time(a.ctime)
            .time(a.btime)
            .u32(self.xattrs)
            .u32(self.xattr_list_bytes)
            .u64(self.parent)
            .u64(self.cookie)
            .u8(u8::try_from(self.acls.bits()).expect("two bits")
                | if self.layers.is_some() { LAYERED } else { 0 });
        let lists = [&self.acls.access, &self.acls.default].into_iter().flatten();
        let writer = lists.map(Acl::to_value).fold(writer, |writer, value| {
            writer.u32(u32::try_from(value.len()).expect("bounded by its entries")).raw(&value)
        });
        let writer = match &self.layers {
            Some(layers) => writer.bytes(&layers.encode_to_vec()),
            None => writer,
        };
        match &self.body {
            Body::Directory { next_cookie } => writer.u64(*next_cookie).0,
            Body::File(bytes) | Body::Symlink(bytes) => writer.tail(bytes),
            Body::Special => writer.0,
        }
    }

    fn decode(ino: u64, bytes: &[u8]) -> Option<Self> {
        let mut c = Cursor::new(bytes)?;
        let (mode, nlink, uid, gid, rdev, flags) =
            (c.u32()?, c.u32()?, c.u32()?, c.u32()?, c.u32()?, c.u32()?);
        let (size, blocks, truncate_epoch, change) = (c.u64()?, c.u64()?, c.u64()?, c.u64()?);
        let (atime, mtime, ctime, btime) = (c.time()?, c.time()?, c.time()?, c.time()?);
        let (xattrs, xattr_list_bytes) = (c.u32()?, c.u32()?);
        let (parent, cookie, acl) = (c.u64()?, c.u64()?, u32::from(c.u8()?));
        let mut list = |bit: u32| {
            if acl & bit == 0 {
                return Some(None);
            }
            let bytes = usize::try_from(c.u32()?).ok()?;
            Some(Some(Acl::parse(c.raw(bytes)?).ok()??))
        };
        let acls = Acls { access: list(ACL_ACCESS)?, default: list(ACL_DEFAULT)? };
        let layers = match acl & u32::from(LAYERED) {
            0 => None,
            _ => Some(Box::new(Layers::decode(c.bytes()?).ok()?)),
        };
        let acl = acl & (ACL_ACCESS | ACL_DEFAULT);
        let body = match mode >> 12 {
            kind::DIR => Body::Directory { next_cookie: c.u64()? },
            kind::FILE => Body::File(c.rest().to_vec()),
            kind::SYMLINK => Body::Symlink(c.rest().to_vec()),
            _ => Body::Special,
        };
        let attr = Attr {
            ino,
            mode,
            nlink,
            uid,
            gid,
            rdev,
            size,
            blocks,
            atime,
            mtime,
            ctime,
            btime,
            flags,
            truncate_epoch,
            change,
            acl,
            bare: acl == 0 && xattrs == 0,
            layer: layers.as_ref().map_or(0, |layers| layers.top),
        };
        Some(Self { attr, xattrs, xattr_list_bytes, parent, cookie, acls, layers, body })
    }
}

/// Parses an inode's row.
pub fn parse(key: &[u8], value: &[u8]) -> Outcome<Inode> {
    keys::word(key, 1).and_then(|ino| Inode::decode(ino, value)).ok_or_else(|| corrupt("inode", key))
}

/// An inode, if it exists.
pub fn find(reader: &(impl Reader + ?Sized), volume: u64, ino: u64) -> Outcome<Option<Inode>> {
    Ok(find_any(reader, volume, ino)?.filter(|inode| !inode.is_hidden()))
}

/// Likewise, also data that only others need.
pub fn find_any(reader: &(impl Reader + ?Sized), volume: u64, ino: u64) -> Outcome<Option<Inode>> {
    let key = keys::inode(volume, ino);
    match reader.get(&key)? {
        Some(value) => Ok(Some(parse(&key, &value)?)),
        None => Ok(None),
    }
}

/// An inode that a caller holds a number of: `Stale` when it is gone.
pub fn get(reader: &(impl Reader + ?Sized), volume: u64, ino: u64) -> Outcome<Inode> {
    match find(reader, volume, ino)? {
        Some(inode) => Ok(inode),
        None => refuse(Code::Stale, format!("{} of {} does not exist any more", Ino(ino), VolumeId(volume))),
    }
}

/// Likewise, also data that only others need.
pub fn get_any(reader: &(impl Reader + ?Sized), volume: u64, ino: u64) -> Outcome<Inode> {
    match find_any(reader, volume, ino)? {
        Some(inode) => Ok(inode),
        None => get(reader, volume, ino),
    }
}

/// A directory in which a name is looked up or changed: `NotFound` when it is gone.
pub fn directory(reader: &(impl Reader + ?Sized), volume: u64, ino: u64) -> Outcome<Inode> {
    match find(reader, volume, ino)? {
        Some(inode) if inode.is_dir() => Ok(inode),
        Some(_) => {
            refuse(Code::NotDirectory, format!("{} of {} is not a directory", Ino(ino), VolumeId(volume)))
        }
        None => {
            refuse(Code::NotFound, format!("directory {} of {} does not exist", Ino(ino), VolumeId(volume)))
        }
    }
}

/// The time of a change that its maker tells, so that no time of what it changes goes back: of directories in which names change, and of
/// a file.
pub fn not_before(
    reader: &(impl Reader + ?Sized),
    volume: u64,
    at: Time,
    directories: &[u64],
    file: u64,
) -> Outcome<Time> {
    let mut time = Time { nanos: at.nanos.min(999_999_999), ..at };
    for ino in directories {
        let attr = directory(reader, volume, *ino)?.attr;
        time = time.max(attr.mtime).max(attr.ctime);
    }
    Ok(time.max(get(reader, volume, file)?.attr.ctime))
}

/// Writes an inode's row.
pub fn put(txn: &mut Txn<'_>, volume: u64, inode: &Inode) {
    txn.put(keys::inode(volume, inode.attr.ino), inode.encode());
}
