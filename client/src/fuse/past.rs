//! `.snap`: what snapshots show. Found by name in every directory of the present, not listed. `D/.snap/NAME` is the directory
//! D as that snapshot shows it; making and removing directories in `D/.snap` makes and removes snapshots of D.
//!
//! The number of an inode tells the snapshot ([`split_ino`]): a process that takes up a mount understands the numbers that
//! the kernel got from the one before.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proto::mrc::{Attr, kind};

use super::convert::attributes;
use super::dirs::{AFTER_DOT_DOT, Listed, Page};
use super::door::{Door, Shared};
use super::kernel::abi::fopen;
use super::kernel::answer::{Attributes, Entry, Known, Opened};
use crate::config::Creds;
use crate::error::{Code, Error, Result};
use crate::file::File;
use crate::volume::Volume;
use crate::volume::snapshots::{FIRST_OF_PAST, LISTING, names_in, shown_ino, split_ino};

/// The directory's name.
pub(super) const DIRECTORY: &[u8] = b".snap";
/// How long the kernel may believe what never changes.
const KEPT: Duration = Duration::from_secs(3600);
/// Snapshots that are looked at lately.
const VIEWS_MAX: usize = 16;
/// What is removed with a snapshot reads as zeroes, in blocks of this size at least.
const BLOCK: usize = 4096;
/// Bits of access(2).
const READ: u32 = 4;
const WRITE: u32 = 2;
const SEARCH: u32 = 1;

/// Whether a number is of a snapshot, or of a directory of snapshots.
pub(super) const fn is_past(ino: u64) -> bool {
    ino.wrapping_sub(FIRST_OF_PAST) < (1 << 63) - FIRST_OF_PAST
}

/// Why nothing of it changes.
pub(super) fn read_only() -> Error {
    Error::new(
        Code::ReadOnly,
        "a snapshot cannot be changed; `xtfs snapshot restore` brings back what it shows",
    )
}

/// Refuses to move or remove the directory of snapshots, or something to its place.
pub(super) fn not_the_directory(name: &[u8]) -> Result<()> {
    if name == DIRECTORY {
        let why = ".snap is part of its directory: what is in it are snapshots (`xtfs snapshot`)";
        return Err(Error::new(Code::NotPermitted, why));
    }
    Ok(())
}

/// The volume as snapshots show it, those that were looked at last.
#[derive(Default)]
pub(super) struct Views {
    /// The last used one last. order: a leaf.
    views: Mutex<Vec<(u64, Arc<Volume>)>>,
}

impl Views {
    fn get(&self, present: &Volume, snapshot: u64) -> Arc<Volume> {
        let mut views = self.views.lock();
        let found = views.iter().position(|(id, _)| *id == snapshot);
        let view = match found {
            Some(at) => views.remove(at).1,
            None => present.past(snapshot),
        };
        if views.len() >= VIEWS_MAX {
            views.remove(0);
        }
        views.push((snapshot, view.clone()));
        view
    }
}

/// Whether a block of it is nothing but zeroes.
fn has_zero_block(data: &[u8]) -> bool {
    data.chunks(BLOCK).any(|block| block.iter().all(|byte| *byte == 0))
}

impl Shared {
    /// What a number of a snapshot means.
    pub(super) fn view(&self, shown: u64) -> Result<(Arc<Volume>, u64)> {
        let (snapshot, ino) = split_ino(shown);
        if snapshot == LISTING {
            return Err(Error::new(Code::IsDirectory, ".snap lists snapshots; it has no content of its own"));
        }
        Ok((self.views.get(&self.volume, snapshot), ino))
    }

    /// `.snap` of a directory.
    pub(super) async fn snapshots_of(&self, creds: &Creds, directory: u64) -> Result<Entry> {
        let known = self.known_listing(creds, directory).await?;
        Ok(Entry { known, ttl: KEPT })
    }

    /// Attributes of `.snap`: who may list, make and remove snapshots is who may change the directory, as far as the kernel
    /// checks it. Only its owner may, as the MRC knows.
    async fn known_listing(&self, creds: &Creds, directory: u64) -> Result<Known> {
        let attr = self.volume.getattr(creds, directory).await?;
        let Known { attr: shown, ttl } = Self::changed(&attr);
        let attr = Attributes { ino: shown_ino(LISTING, directory), nlink: 2, ..shown };
        Ok(Known { attr, ttl })
    }

    fn known_past(snapshot: u64, attr: &Attr) -> Known {
        let shown = Attributes { ino: shown_ino(snapshot, attr.ino), ..attributes(attr) };
        Known { attr: shown, ttl: KEPT }
    }

    pub(super) async fn past_attr(&self, creds: &Creds, shown: u64) -> Result<Known> {
        let (snapshot, ino) = split_ino(shown);
        if snapshot == LISTING {
            return self.known_listing(creds, ino).await;
        }
        let attr = self.view(shown)?.0.getattr(creds, ino).await?;
        Ok(Self::known_past(snapshot, &attr))
    }

    /// A name in a snapshot, or of one. With it how long the kernel may believe that it is not there.
    pub(super) async fn past_lookup(
        &self,
        creds: &Creds,
        parent: u64,
        name: &[u8],
    ) -> std::result::Result<Entry, (Error, Duration)> {
        let (snapshot, ino) = split_ino(parent);
        if snapshot == LISTING {
            return self.called(creds, ino, name).await.map_err(|error| (error, Duration::ZERO));
        }
        let found = async { self.view(parent)?.0.lookup(creds, ino, name).await };
        match found.await {
            Ok(attr) => Ok(Entry { known: Self::known_past(snapshot, &attr), ttl: KEPT }),
            Err(error) if error.code == Code::NotFound => Err((error, KEPT)),
            Err(error) => Err((error, Duration::ZERO)),
        }
    }

    async fn called(&self, creds: &Creds, directory: u64, name: &[u8]) -> Result<Entry> {
        self.past_access(creds, shown_ino(LISTING, directory), SEARCH).await?;
        let info = self.volume.snapshot_called(creds, directory, name).await?;
        self.snapshot_entry(creds, info.id, directory).await
    }

    async fn snapshot_entry(&self, creds: &Creds, snapshot: u64, directory: u64) -> Result<Entry> {
        let attr = self.views.get(&self.volume, snapshot).getattr(creds, directory).await?;
        // It can be removed, and another one made with its name.
        Ok(Entry { known: Self::known_past(snapshot, &attr), ttl: Duration::ZERO })
    }

    /// Makes a snapshot.
    pub(super) async fn past_mkdir(&self, creds: &Creds, parent: u64, name: &[u8]) -> Result<Entry> {
        let (LISTING, directory) = split_ino(parent) else { return Err(read_only()) };
        let info = self.volume.snapshot(creds, directory, name).await?;
        self.snapshot_entry(creds, info.id, directory).await
    }

    /// Removes one.
    pub(super) async fn past_rmdir(&self, creds: &Creds, parent: u64, name: &[u8]) -> Result<()> {
        let (LISTING, directory) = split_ino(parent) else { return Err(read_only()) };
        let info = self.volume.snapshot_called(creds, directory, name).await?;
        if info.directory != directory {
            let why = format!(
                "snapshot {:?} was made of ino-{}, a directory above: remove it there",
                String::from_utf8_lossy(name),
                info.directory
            );
            return Err(Error::new(Code::NotPermitted, why));
        }
        self.volume.remove_snapshot(creds, directory, name).await
    }

    pub(super) async fn past_access(&self, creds: &Creds, shown: u64, mask: u32) -> Result<()> {
        let (snapshot, ino) = split_ino(shown);
        if snapshot != LISTING {
            if mask & WRITE != 0 {
                return Err(read_only());
            }
            return self.view(shown)?.0.access(creds, ino, mask).await;
        }
        if creds.checked {
            return Ok(());
        }
        self.volume.access(creds, ino, mask).await
    }

    /// Entries behind `offset`.
    pub(super) async fn past_list(
        &self,
        creds: &Creds,
        shown: u64,
        offset: u64,
        limit: u32,
        with_attrs: bool,
    ) -> Result<Page> {
        let (snapshot, ino) = split_ino(shown);
        let mut listed = Vec::new();
        if offset == 0 {
            listed.push(Listed::dot(shown, 1, b"."));
        }
        if offset < AFTER_DOT_DOT {
            listed.push(Listed::dot(self.above(creds, shown).await, AFTER_DOT_DOT, b".."));
        }
        if snapshot == LISTING {
            self.past_access(creds, shown, READ).await?;
            let all = names_in(ino, self.volume.snapshots(creds, ino).await?);
            let of = |(name, info): (Vec<u8>, proto::snapshot::SnapshotInfo)| Listed {
                ino: shown_ino(info.id, ino),
                offset: AFTER_DOT_DOT + info.id,
                kind: kind::DIR,
                name,
                entry: None,
            };
            listed.extend(all.into_iter().map(of).filter(|found| found.offset > offset));
            return Ok(Page { listed, end: true });
        }
        let after = if offset <= AFTER_DOT_DOT { 0 } else { offset };
        let page = self.view(shown)?.0.readdir(creds, ino, after, limit, with_attrs).await?;
        for entry in page.entries {
            let known = entry.attr.as_ref().map(|attr| Self::known_past(snapshot, attr));
            listed.push(Listed {
                ino: shown_ino(snapshot, entry.ino),
                offset: entry.cookie,
                kind: entry.kind,
                name: entry.name,
                entry: known.map(|known| Entry { known, ttl: KEPT }),
            });
        }
        Ok(Page { listed, end: page.end })
    }

    /// What `..` of a directory is: of `.snap` its directory, of what a snapshot shows the directory above in it.
    async fn above(&self, creds: &Creds, shown: u64) -> u64 {
        let (snapshot, ino) = split_ino(shown);
        if snapshot == LISTING {
            return ino;
        }
        let found = async { self.view(shown)?.0.lookup(creds, ino, b"..").await };
        match found.await {
            Ok(attr) if attr.ino != ino => shown_ino(snapshot, attr.ino),
            Ok(_) | Err(_) => shown_ino(LISTING, ino),
        }
    }

    pub(super) async fn past_open(&self, creds: &Creds, shown: u64, flags: i32) -> Result<Opened> {
        if flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0 {
            return Err(read_only());
        }
        let (view, ino) = self.view(shown)?;
        let file = view.open(creds, ino, false).await?;
        Ok(Opened { handle: self.handles.insert(file), flags: fopen::KEEP_CACHE })
    }

    /// A handle that an earlier process of this mount gave.
    pub(super) async fn past_reopen(&self, creds: &Creds, shown: u64) -> Result<Arc<File>> {
        let (view, ino) = self.view(shown)?;
        view.open(creds, ino, false).await
    }

    pub(super) async fn past_read(
        &self,
        creds: &Creds,
        shown: u64,
        handle: u64,
        offset: u64,
        len: u32,
    ) -> Result<bytes::Bytes> {
        let file = self.file(creds, shown, handle).await?;
        let data = file.read_for_kernel(offset, len as usize, true).await?;
        // Data that went with its snapshot reads as a hole: zeroes count only as long as the snapshot is there.
        if has_zero_block(&data) {
            let (view, ino) = self.view(shown)?;
            view.getattr(creds, ino).await?;
        }
        self.record.bytes(data.len() as u64, 0);
        Ok(data)
    }

    pub(super) async fn past_xattr(&self, creds: &Creds, shown: u64, name: &[u8]) -> Result<Vec<u8>> {
        let (snapshot, ino) = split_ino(shown);
        if snapshot == LISTING && name == b"system.posix_acl_access" {
            return self.volume.getxattr(creds, ino, name).await;
        }
        if snapshot == LISTING || name.starts_with(b"xtreemfs.") {
            let why = format!("no attribute {}", String::from_utf8_lossy(name));
            return Err(Error::new(Code::NoAttribute, why));
        }
        self.view(shown)?.0.getxattr(creds, ino, name).await
    }

    pub(super) async fn past_xattrs(&self, creds: &Creds, shown: u64) -> Result<Vec<u8>> {
        let (snapshot, ino) = split_ino(shown);
        if snapshot == LISTING {
            return Ok(Vec::new());
        }
        let mut names = self.view(shown)?.0.listxattr(creds, ino).await?;
        names.iter_mut().for_each(|name| name.push(0));
        Ok(names.concat())
    }
}

#[path = "past/dispatch.rs"]
mod dispatch;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_past_are_neither_of_the_present_nor_inside() {
        for (ino, past) in [
            (1, false),
            (FIRST_OF_PAST - 1, false),
            (FIRST_OF_PAST, true),
            (shown_ino(LISTING, FIRST_OF_PAST - 1), true),
            (1 << 63, false),
            (u64::MAX, false),
        ] {
            assert_eq!(is_past(ino), past, "{ino:x}");
        }
    }

    #[test]
    fn zeroes_that_a_removed_object_would_give_are_noticed() {
        let mut data = vec![1; 3 * BLOCK];
        assert!(!has_zero_block(&data) && !has_zero_block(&[]));
        data[BLOCK..2 * BLOCK].fill(0);
        assert!(has_zero_block(&data));
        data[BLOCK + 7] = 1;
        assert!(!has_zero_block(&data));
        // The end of a file.
        assert!(has_zero_block(&[&data[..], &[0; 5]].concat()));
    }
}
