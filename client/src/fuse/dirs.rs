//! Directories: names, listings.

use proto::mrc::{DirEntry, kind};

use super::door::Shared;
use super::inside;
use super::kernel::answer::{Answer, Entry, Listing};
use crate::config::Creds;
use crate::error::Result;

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
    kind: u32,
    name: Vec<u8>,
    entry: Option<Entry>,
}

impl Shared {
    /// A name's attributes, with the size of a file that is being written here.
    pub(super) async fn lookup(&self, creds: Creds, parent: u64, name: &[u8]) -> Result<Entry> {
        match inside::lookup(parent, name) {
            Some(found) => found.map(|ino| inside::entry(self, ino)),
            None => self.find(&creds, parent, name).await.map(|attr| self.entry(parent, &attr)),
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
            kind: kind::DIR,
            name: name.to_vec(),
            entry: None,
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
            listed.push(self.listed(ino, entry));
        }
        Ok(listed)
    }

    fn list_inside(&self, skip: usize, with_attrs: bool) -> impl Iterator<Item = Listed> {
        inside::entries().enumerate().skip(skip).map(move |(at, (ino, kind, name))| Listed {
            ino,
            offset: AFTER_DOT_DOT + 1 + at as u64,
            kind,
            name: name.into(),
            entry: with_attrs.then(|| inside::entry(self, ino)),
        })
    }

    fn listed(&self, directory: u64, entry: DirEntry) -> Listed {
        Listed {
            ino: entry.ino,
            offset: entry.cookie,
            kind: entry.kind,
            entry: entry.attr.as_ref().map(|attr| self.entry(directory, attr)),
            name: entry.name,
        }
    }
}

/// As many entries as a kernel buffer of `bytes` holds.
pub(super) fn answer(listed: &[Listed], bytes: u32, with_attrs: bool) -> Answer {
    let mut listing = Listing::new(bytes, with_attrs);
    for found in listed {
        // `.` and `..` are told without attributes: the kernel has them.
        if !listing.add(found.entry.as_ref(), found.ino, found.offset, found.kind, &found.name) {
            break;
        }
    }
    listing.finish()
}
