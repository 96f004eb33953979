//! One file or directory: made, filled, and given its attributes.

use client::volume::attrs::{Changes, NewTime};
use client::{Code, Volume};
use proto::mrc::{Attr, kind};

use super::{Copy, UNFINISHED};

/// Permission bits.
const MODE: u32 = 0o7777;

/// Which data a file shows.
fn top(attr: &Attr) -> u64 {
    if attr.layer == 0 { attr.ino } else { attr.layer }
}

/// Names and values of extended attributes and access lists, by name.
pub(crate) async fn xattrs(
    volume: &Volume,
    creds: &client::Creds,
    attr: &Attr,
) -> client::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    if attr.bare || attr.mode >> 12 == kind::SYMLINK {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    for name in volume.listxattr(creds, attr.ino).await? {
        match volume.getxattr(creds, attr.ino, &name).await {
            Ok(value) => all.push((name, value)),
            // Removed meanwhile.
            Err(error) if error.code == Code::NoAttribute => {}
            Err(error) => return Err(error),
        }
    }
    all.sort();
    Ok(all)
}

impl Copy {
    /// Makes something that is no directory, empty and nobody else's yet.
    pub(super) async fn make(&self, source: &Attr, parent: u64, name: &[u8]) -> client::Result<u64> {
        let made = if source.mode >> 12 == kind::SYMLINK {
            let target = self.from.readlink(&self.creds, source.ino).await?;
            self.to.symlink(&self.creds, parent, name, &target).await?
        } else {
            let mode = source.mode & !MODE | UNFINISHED & 0o600;
            self.to.mknod(&self.creds, parent, name, mode, source.rdev).await?
        };
        Ok(made.ino)
    }

    /// Gives a file the content.
    pub(super) async fn fill(&self, source: &Attr, ino: u64) -> client::Result<()> {
        if source.mode >> 12 == kind::FILE && source.size > 0 {
            self.to.clone_data(&self.creds, (source.ino, self.snapshot), ino).await?;
        }
        Ok(())
    }

    /// Whether something of the present has surely the same content.
    pub(super) async fn has_content_of(&self, source: &Attr, now: &Attr) -> client::Result<bool> {
        match source.mode >> 12 {
            kind::FILE => Ok(source.size == now.size && (source.size == 0 || top(source) == top(now))),
            kind::SYMLINK => {
                let target = self.from.readlink(&self.creds, source.ino).await?;
                Ok(target == self.to.readlink(&self.creds, now.ino).await?)
            }
            _ => Ok(source.rdev == now.rdev),
        }
    }

    /// Gives an inode of the present what another one was in the snapshot; mostly it is the same.
    pub(super) async fn bring_back(&self, then: &Attr, ino: u64) -> client::Result<()> {
        let mut now = self.to.getattr(&self.creds, ino).await?;
        if ino == then.ino && now.ctime == then.ctime && now.size == then.size {
            return Ok(());
        }
        if now.flags != then.flags && now.flags != 0 {
            // Immutable and append-only files change nothing else.
            let changes = Changes { flags: Some(0), ..Changes::default() };
            now = self.to.setattr(&self.creds, ino, changes).await?;
        }
        if then.mode >> 12 == kind::FILE && (top(&now), now.size) != (top(then), then.size) {
            self.to.clone_data(&self.creds, (then.ino, self.snapshot), ino).await?;
        }
        self.dress(then, ino).await
    }

    /// Owner, access lists, extended attributes, mode, times, flags.
    pub(super) async fn dress(&self, source: &Attr, ino: u64) -> client::Result<()> {
        let now = self.to.getattr(&self.creds, ino).await?;
        let owned = (now.uid, now.gid) == (source.uid, source.gid);
        if !owned {
            let changes = Changes {
                uid: (now.uid != source.uid).then_some(source.uid),
                gid: (now.gid != source.gid).then_some(source.gid),
                ..Changes::default()
            };
            self.to.setattr(&self.creds, ino, changes).await?;
        }
        let listed = self.dress_xattrs(source, &now).await?;
        let link = source.mode >> 12 == kind::SYMLINK;
        let times = (now.mtime, now.atime) != (source.mtime, source.atime);
        let mode = !link && (!owned || listed || (now.mode ^ source.mode) & MODE != 0);
        let changes = Changes {
            mode: mode.then_some(source.mode & MODE),
            atime: times.then_some(NewTime::At(source.atime)),
            mtime: times.then_some(NewTime::At(source.mtime)),
            flags: (now.flags != source.flags).then_some(source.flags),
            ..Changes::default()
        };
        if changes != Changes::default() {
            self.to.setattr(&self.creds, ino, changes).await?;
        }
        Ok(())
    }

    /// True: something was changed, which may have changed the mode too.
    async fn dress_xattrs(&self, source: &Attr, now: &Attr) -> client::Result<bool> {
        let wanted = xattrs(&self.from, &self.creds, source).await?;
        let there = xattrs(&self.to, &self.creds, now).await?;
        let mut changed = false;
        for (name, value) in &wanted {
            if !there.iter().any(|have| have.0 == *name && have.1 == *value) {
                self.to.setxattr(&self.creds, now.ino, name, Some(value), 0).await?;
                changed = true;
            }
        }
        for (name, _) in there {
            if !wanted.iter().any(|want| want.0 == name) {
                self.to.setxattr(&self.creds, now.ino, &name, None, 0).await?;
                changed = true;
            }
        }
        Ok(changed)
    }
}
