//! Directories: names, listings.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use proto::mrc::{DirEntry, kind};

use super::door::Shared;
use super::inside;
use super::kernel::answer::{Answer, Entry, Listing};
use super::past;
use crate::config::Creds;
use crate::error::Result;

/// Offsets of the entries that are not the MRC's; its cookies are larger.
const AFTER_DOT: u64 = 1;
pub(super) const AFTER_DOT_DOT: u64 = 2;
/// Smallest directory entry in the kernel's buffer, bytes; without and with attributes.
const ENTRY_BYTES: u32 = 32;
const ENTRY_PLUS_BYTES: u32 = 160;

/// One entry for the kernel.
pub(super) struct Listed {
    pub(super) ino: u64,
    pub(super) offset: u64,
    pub(super) kind: u32,
    pub(super) name: Vec<u8>,
    pub(super) entry: Option<Entry>,
}

impl Listed {
    /// `.` or `..`.
    pub(super) fn dot(ino: u64, offset: u64, name: &[u8]) -> Self {
        Self { ino, offset, kind: kind::DIR, name: name.to_vec(), entry: None }
    }
}

/// Entries in a row.
#[derive(Default)]
pub(super) struct Page {
    pub(super) listed: Vec<Listed>,
    /// Nothing came after them.
    pub(super) end: bool,
}

/// Where listings ended, by handle of their directory. A reader asks once more after the last entry: what was made or
/// moved meanwhile must not come twice, and nobody need be asked.
pub(super) struct Ends {
    next: AtomicU64,
    /// order: a leaf. Bounded by the directories that the kernel has open and read to their end.
    ends: Mutex<HashMap<u64, u64>>,
}

impl Ends {
    /// Numbers start at `now`, so that those of an earlier process do not come again.
    pub(super) fn new(now: Duration) -> Self {
        let start = u64::try_from(now.as_micros()).unwrap_or(1) << 8;
        Self { next: AtomicU64::new(start), ends: Mutex::default() }
    }

    /// A handle.
    pub(super) fn begin(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn is_end(&self, handle: u64, offset: u64) -> bool {
        offset != 0 && self.ends.lock().get(&handle) == Some(&offset)
    }

    /// The page that was answered ended the directory behind this offset, or did not.
    pub(super) fn remember(&self, handle: u64, end: Option<u64>) {
        let mut ends = self.ends.lock();
        match end {
            Some(end) => ends.insert(handle, end),
            None => ends.remove(&handle),
        };
    }

    pub(super) fn forget(&self, handle: u64) {
        self.ends.lock().remove(&handle);
    }
}

impl Shared {
    /// A name's attributes, with the size of a file that is being written here.
    pub(super) async fn lookup(&self, creds: Creds, parent: u64, name: &[u8]) -> Result<Entry> {
        if name == past::DIRECTORY && !inside::is_inside(parent) {
            return self.snapshots_of(&creds, parent).await;
        }
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
    ) -> Result<Page> {
        let mut listed = Vec::new();
        if offset < AFTER_DOT {
            listed.push(Listed::dot(ino, AFTER_DOT, b"."));
        }
        if inside::is_inside(ino) {
            if offset < AFTER_DOT_DOT {
                listed.push(Listed::dot(1, AFTER_DOT_DOT, b".."));
            }
            let skip = usize::try_from(offset.saturating_sub(AFTER_DOT_DOT)).unwrap_or(usize::MAX);
            listed.extend(self.list_inside(skip, with_attrs));
            return Ok(Page { listed, end: true });
        }
        if offset < AFTER_DOT_DOT {
            let parent = if ino == 1 { 1 } else { self.volume.parent_of(&creds, ino).await.unwrap_or(ino) };
            listed.push(Listed::dot(parent, AFTER_DOT_DOT, b".."));
        }
        let after = if offset <= AFTER_DOT_DOT { 0 } else { offset };
        let page = self.volume.readdir(&creds, ino, after, limit(bytes, with_attrs), with_attrs).await?;
        for mut entry in page.entries {
            if with_attrs && entry.attr.is_none() {
                entry.attr = self.volume.getattr(&creds, entry.ino).await.ok();
                if entry.attr.is_none() {
                    continue; // removed in the meantime
                }
            }
            listed.push(self.listed(ino, entry));
        }
        Ok(Page { listed, end: page.end })
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

/// Entries that a kernel buffer of `bytes` may hold, and one more.
pub(super) fn limit(bytes: u32, with_attrs: bool) -> u32 {
    bytes / if with_attrs { ENTRY_PLUS_BYTES } else { ENTRY_BYTES } + 1
}

/// As many entries as a kernel buffer of `bytes` holds, and the offset of the last one when it is the directory's last.
pub(super) fn answer(page: &Page, bytes: u32, with_attrs: bool) -> (Answer, Option<u64>) {
    let mut listing = Listing::new(bytes, with_attrs);
    let mut last = None;
    for found in &page.listed {
        // `.` and `..` are told without attributes: the kernel has them.
        if !listing.add(found.entry.as_ref(), found.ino, found.offset, found.kind, &found.name) {
            return (listing.finish(), None);
        }
        last = Some(found.offset);
    }
    (listing.finish(), last.filter(|_| page.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(end: bool) -> Page {
        let listed = |offset: u64| Listed {
            ino: offset + 10,
            offset,
            kind: kind::FILE,
            name: format!("name-{offset}").into_bytes(),
            entry: None,
        };
        Page { listed: (3..6).map(listed).collect(), end }
    }

    #[test]
    fn only_a_whole_page_at_the_end_of_the_directory_ends_a_listing() {
        let end = |page: &Page, bytes| answer(page, bytes, false).1;
        assert_eq!(end(&page(true), 4096), Some(5));
        assert_eq!(end(&page(false), 4096), None);
        assert_eq!(end(&page(true), 80), None, "not all of it fits");
        assert_eq!(end(&Page { listed: Vec::new(), end: true }, 4096), None);
    }

    #[test]
    fn an_end_belongs_to_one_handle_until_it_is_read_anew() {
        let ends = Ends::new(Duration::from_secs(1));
        let (first, second) = (ends.begin(), ends.begin());
        ends.remember(first, Some(5));
        assert!(ends.is_end(first, 5) && !ends.is_end(first, 4) && !ends.is_end(second, 5));
        ends.remember(first, None);
        assert!(!ends.is_end(first, 5));
        ends.remember(second, Some(7));
        ends.forget(second);
        assert!(!ends.is_end(second, 7));
    }
}
