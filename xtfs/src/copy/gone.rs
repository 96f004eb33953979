//! What must go. It is put aside first: its inodes may be wanted elsewhere, and its names are needed at once.

use std::sync::atomic::Ordering;

use client::volume::names::Move;
use proto::mrc::kind;

use super::{Copy, add};

impl Copy {
    /// Puts an entry aside.
    pub(super) async fn displace(&self, parent: u64, name: &[u8]) -> client::Result<()> {
        let mut holding = self.holding.lock().await;
        let aside = match *holding {
            Some(ino) => ino,
            None => {
                let name = format!(".xtfs-restore-{:08x}", rand::random::<u32>());
                let made = self.to.mkdir(&self.creds, self.root, name.as_bytes(), 0o700).await?;
                *holding.insert(made.ino)
            }
        };
        let new_name = self.displaced.fetch_add(1, Ordering::Relaxed).to_string();
        let what = Move {
            parent,
            name,
            new_parent: aside,
            new_name: new_name.as_bytes(),
            flags: 0,
            only_if_no_writer: false,
        };
        self.to.rename(&self.creds, what).await
    }

    /// Removes all that was put aside.
    pub(super) async fn remove_displaced(&self) -> client::Result<()> {
        let Some(aside) = *self.holding.lock().await else { return Ok(()) };
        let mut directories = Vec::new();
        for entry in self.to.entries(&self.creds, self.root, false).await? {
            if entry.ino == aside {
                directories.push((self.root, entry.name, aside));
            }
        }
        let mut at = 0;
        while let Some((_, _, ino)) = directories.get(at).cloned() {
            for entry in self.to.entries(&self.creds, ino, false).await? {
                if entry.kind == kind::DIR {
                    directories.push((ino, entry.name, entry.ino));
                    continue;
                }
                match self.to.unlink(&self.creds, ino, &entry.name).await {
                    Ok(()) => add(&self.totals.removed, 1),
                    Err(error) => self.problem(&String::from_utf8_lossy(&entry.name), error)?,
                }
                self.voice.far(&self.totals);
            }
            at += 1;
        }
        for (parent, name, ino) in directories.into_iter().rev() {
            match self.to.rmdir(&self.creds, parent, &name).await {
                Ok(()) if ino != aside => add(&self.totals.removed, 1),
                Ok(()) => {}
                Err(error) => self.problem(&String::from_utf8_lossy(&name), error)?,
            }
        }
        Ok(())
    }
}
