//! Directories: names, listings.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::{FileAttr, FileType, Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus};
use proto::mrc::DirEntry;

use super::convert::{file_attr, file_type};
use super::door::{NAME_TTL, Shared};
use super::inside;
use crate::config::Creds;
use crate::error::Result;

/// Inode numbers are never used again.
pub(super) const GENERATION: Generation = Generation(0);
/// Offsets of the entries that are not the MRC's; its cookies are larger.
const AFTER_DOT: u64 = 1;
const AFTER_DOT_DOT: u64 = 2;
/// Smallest directory entry in the kernel's buffer, bytes; without and with attributes.
const ENTRY_BYTES: u32 = 32;
const ENTRY_PLUS_BYTES: u32 = 160;

/// One entry for the kernel.
pub(super) struct Listed {
    ino: u64,
    offset: u64,
    kind: FileType,
    name: Vec<u8>,
    attr: Option<FileAttr>,
}

impl Shared {
    /// A name's attributes, with the size of a file that is being written here.
    pub(super) async fn lookup(&self, creds: Creds, parent: u64, name: Vec<u8>) -> Result<FileAttr> {
        match inside::lookup(parent, &name) {
            Some(found) => found.map(|ino| inside::attr(self, ino)),
            None => self.find(&creds, parent, &name).await.map(|attr| file_attr(&attr)),
        }
    }

    /// The entries behind `offset` that a buffer of `bytes` may hold.
    pub(super) async fn list(
        &self,
        creds: Creds,
        ino: u64,
        offset: u64,
        bytes: u32,
        with_attrs: bool,
    ) -> Result<Vec<Listed>> {
        let mut listed = Vec::new();
        let dot = |ino, offset, name: &[u8]| Listed {
            ino,
            offset,
            kind: FileType::Directory,
            name: name.to_vec(),
            attr: None,
        };
        if offset < AFTER_DOT {
            listed.push(dot(ino, AFTER_DOT, b"."));
        }
        if inside::is_inside(ino) {
            if offset < AFTER_DOT_DOT {
                listed.push(dot(1, AFTER_DOT_DOT, b".."));
            }
            let skip = usize::try_from(offset.saturating_sub(AFTER_DOT_DOT)).unwrap_or(usize::MAX);
            listed.extend(self.list_inside(skip, with_attrs));
            return Ok(listed);
        }
        if offset < AFTER_DOT_DOT {
            let parent = if ino == 1 {
                1
            } else {
                self.volume.lookup(&creds, ino, b"..").await.map_or(ino, |a| a.ino)
            };
            listed.push(dot(parent, AFTER_DOT_DOT, b".."));
        }
        let after = if offset <= AFTER_DOT_DOT { 0 } else { offset };
        let smallest = if with_attrs { ENTRY_PLUS_BYTES } else { ENTRY_BYTES };
        let limit = bytes / smallest + 1;
        let page = self.volume.readdir(&creds, ino, after, limit, with_attrs).await?;
        for mut entry in page.entries {
            if with_attrs && entry.attr.is_none() {
                entry.attr = self.volume.getattr(&creds, entry.ino).await.ok();
                if entry.attr.is_none() {
                    continue; // removed in the meantime
                }
            }
            listed.push(from_entry(entry));
        }
        Ok(listed)
    }

    fn list_inside(&self, skip: usize, with_attrs: bool) -> impl Iterator<Item = Listed> {
        inside::entries().enumerate().skip(skip).map(move |(at, (ino, kind, name))| Listed {
            ino,
            offset: AFTER_DOT_DOT + 1 + at as u64,
            kind,
            name: name.into(),
            attr: with_attrs.then(|| inside::attr(self, ino)),
        })
    }
}

fn from_entry(entry: DirEntry) -> Listed {
    Listed {
        ino: entry.ino,
        offset: entry.cookie,
        kind: file_type(entry.kind),
        attr: entry.attr.as_ref().map(file_attr),
        name: entry.name,
    }
}

pub(super) fn reply_plain(mut reply: ReplyDirectory, listed: Vec<Listed>) {
    for entry in listed {
        if reply.add(INodeNo(entry.ino), entry.offset, entry.kind, OsStr::from_bytes(&entry.name)) {
            break;
        }
    }
    reply.ok();
}

pub(super) fn reply_plus(mut reply: ReplyDirectoryPlus, listed: Vec<Listed>) {
    for entry in listed {
        // The kernel takes no attributes from `.` and `..`; their type is all that matters.
        let attr = entry.attr.unwrap_or_else(|| only_type(entry.ino, entry.kind));
        let name = OsStr::from_bytes(&entry.name);
        if reply.add(INodeNo(entry.ino), entry.offset, name, &NAME_TTL, &attr, GENERATION) {
            break;
        }
    }
    reply.ok();
}

fn only_type(ino: u64, kind: FileType) -> FileAttr {
    let epoch = std::time::UNIX_EPOCH;
    FileAttr {
        ino: INodeNo(ino),
        size: 0,
        blocks: 0,
        atime: epoch,
        mtime: epoch,
        ctime: epoch,
        crtime: epoch,
        kind,
        perm: 0o755,
        nlink: 2,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}
