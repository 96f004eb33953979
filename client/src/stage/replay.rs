//! Writes out what a killed process left, within the session that it had.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use proto::error::Code;
use proto::mrc::{LEASE_LOCKS, LEASE_WRITE};

use super::locks::LeftLocks;
use super::records::LeftFile;
use super::{Left, Stage};
use crate::config::Creds;
use crate::error::{Error, Result};
use crate::remote::Session;
use crate::volume::Volume;
use crate::volume::inode::Inode;

/// What an earlier process of a mount left.
pub(crate) struct Predecessor<'a> {
    stage: &'a Arc<Stage>,
    left: Vec<Left>,
    /// Files that it made, moved or removed and did not tell.
    files: Vec<LeftFile>,
    /// Files about whose locks it decided.
    locks: Vec<LeftLocks>,
}

/// Files to which it was written; their sizes are to be reported.
pub(crate) struct Written(BTreeMap<u64, Arc<Inode>>);

impl<'a> Predecessor<'a> {
    pub(crate) fn of(stage: &'a Arc<Stage>) -> io::Result<Self> {
        Ok(Self { stage, left: stage.left()?, files: stage.left_files()?, locks: stage.left_locks()? })
    }

    /// The session that it had; `None`: nothing is left.
    pub(crate) fn session(&self) -> Option<u64> {
        let of_files = self.files.last().map(|left| left.session);
        let of_locks = self.locks.last().map(|left| left.of.session);
        self.left.last().map(|left| left.label.session).or(of_files).or(of_locks)
    }

    /// Before the leader hears of the session again: which epoch it had, and that it holds what it wrote under.
    pub(crate) fn prepare(&self, session: &Session) {
        let ours = self.left.iter().map(|left| left.label).filter(|label| label.session == session.id());
        let files = self.files.iter().filter(|left| left.session == session.id());
        let locked = self.locks.iter().map(|left| left.of).filter(|of| of.session == session.id());
        let epochs = ours.clone().map(|label| label.epoch).chain(files.clone().map(|left| left.file.epoch));
        let epochs = epochs.chain(locked.clone().map(|of| of.epoch));
        let Some(last) = epochs.max() else { return };
        session.had_epoch(last);
        // Of a file that was made and not told nobody holds anything yet.
        let made = |left: &LeftFile, ino| left.file.ino == ino && left.file.is_made();
        let is_told = |key: &(u64, u64)| !self.files.iter().any(|left| made(left, key.1));
        let written = ours.map(|label| (label.volume, label.ino)).filter(is_told);
        let changed = files
            .flat_map(|left| left.file.directories().chain(left.file.known()).map(|ino| (left.volume, ino)));
        session.leasing().assume(written.chain(changed.filter(is_told)), LEASE_WRITE);
        session.leasing().assume(locked.map(|of| (of.volume, of.ino)), LEASE_LOCKS);
    }

    /// Writes it out, into `volume`, which is within the session that it had. When that was expelled meanwhile others may
    /// have written, and what is older must not come over it.
    pub(crate) async fn replay(self, volume: &Arc<Volume>) -> io::Result<Written> {
        self.tell_files(volume).await?;
        self.tell_locks(volume).await?;
        let session = volume.session();
        let (pieces, mut lost, mut held) = (self.left.len(), 0, 0);
        let mut written = BTreeMap::new();
        for left in &self.left {
            let label = left.label;
            let same = (label.session, label.epoch) == (session.id(), session.epoch());
            let result = match same && label.volume == volume.id() {
                true => self.write_out(volume, left).await,
                false => Err(Error::new(Code::Io, "its session ended meanwhile: nobody answered in time")),
            };
            match result {
                Ok((inode, false)) => {
                    // It goes on waiting for room as it did before; the mount does not wait for it.
                    inode.hold_left(label.offset, left.data.clone().into(), self.stage.keep(left));
                    held += 1;
                }
                Ok((inode, true)) => drop(written.insert(label.ino, inode)),
                // Nobody can miss what is removed.
                Err(error) if matches!(error.code, Code::NotFound | Code::Stale) => {}
                Err(error) => {
                    tracing::error!(ino = label.ino, offset = label.offset, %error, "acknowledged writes were lost");
                    lost += 1;
                }
            }
        }
        if pieces > 0 {
            tracing::info!(
                pieces,
                files = written.len(),
                lost,
                held,
                "wrote out what an earlier process left"
            );
            self.stage.clear()?;
        }
        Ok(Written(written))
    }

    /// First the files: what was written to them follows. Each is made once, however often it is told.
    async fn tell_files(&self, volume: &Arc<Volume>) -> io::Result<()> {
        let session = volume.session();
        let (mut told, mut lost) = (0, 0);
        for left in &self.files {
            let file = &left.file;
            let same =
                (left.session, file.epoch, left.volume) == (session.id(), session.epoch(), volume.id());
            let result = match same {
                true => volume.tell_file(file.clone()).await,
                false => Err(Error::new(Code::Io, "its session ended meanwhile: nobody answered in time")),
            };
            match result {
                Ok(()) => told += 1,
                Err(error) => {
                    let name = String::from_utf8_lossy(&file.name).into_owned();
                    tracing::error!(ino = file.ino, parent = file.parent, name, %error, "what an earlier process did to a file was lost");
                    lost += 1;
                }
            }
        }
        if !self.files.is_empty() {
            tracing::info!(told, lost, "told of files that an earlier process made, moved or removed");
            self.stage.clear_files(&self.files)?;
        }
        Ok(())
    }

    /// Before anybody else may have them.
    async fn tell_locks(&self, volume: &Arc<Volume>) -> io::Result<()> {
        let session = volume.session();
        for left in &self.locks {
            let of = &left.of;
            let result = match (of.session, of.volume) == (session.id(), volume.id()) {
                true => session.tell_left(of, &left.locks).await,
                false => Err(Error::new(Code::Io, "its session ended meanwhile: nobody answered in time")),
            };
            match result {
                Ok(()) => {}
                // Nobody can miss what is removed.
                Err(error) if matches!(error.code, Code::NotFound | Code::Stale) => {}
                Err(error) if left.locks.is_empty() => {
                    tracing::debug!(ino = of.ino, %error, "that there are no locks was not told");
                }
                Err(error) => {
                    let locks = left.locks.len();
                    tracing::error!(ino = of.ino, locks, %error, "locks of an earlier process were lost");
                }
            }
            self.stage.clear_locks(left)?;
        }
        Ok(())
    }

    /// What the MRC has yet to hear of stays marked until then: this process may be killed too. False: there is no room for it.
    async fn write_out(&self, volume: &Arc<Volume>, left: &Left) -> Result<(Arc<Inode>, bool)> {
        let (label, data) = (left.label, &left.data);
        let inode = volume.acquire(&Creds::checked(0, 0), label.ino, true).await?;
        if let Some(kept) = label.kept {
            // It stays in its slot: what it comes after may wait for room.
            inode.kept_before(kept, self.stage.keep(left));
            return Ok((inode, true));
        }
        if data.is_empty() {
            inode.reaches(label.offset);
            inode.mark(self.stage.keep(left));
            return Ok((inode, true));
        }
        if inode.is_short() {
            // Behind what waits already: it may overlap that.
            return Ok((inode, false));
        }
        match inode.write_range(label.offset, data.clone().into(), false, false).await {
            Err(error) if error.code == Code::NoSpace => {
                tracing::warn!(ino = label.ino, %error, "what an earlier process left waits for room");
                Ok((inode, false))
            }
            written => {
                written?;
                inode.mark(self.stage.keep(left));
                Ok((inode, true))
            }
        }
    }
}

impl Written {
    pub(crate) async fn report(self) {
        for (ino, inode) in self.0 {
            if let Err(error) = inode.report().await {
                tracing::warn!(ino, %error, "the size of a file could not be reported");
            }
        }
    }
}
