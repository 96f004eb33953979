//! Writes out what a killed process left, within the session that it had.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use proto::error::Code;

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
}

/// Files to which it was written; their sizes are to be reported.
pub(crate) struct Written(BTreeMap<u64, Arc<Inode>>);

impl<'a> Predecessor<'a> {
    pub(crate) fn of(stage: &'a Arc<Stage>) -> io::Result<Self> {
        Ok(Self { stage, left: stage.left()? })
    }

    /// The session that it had; `None`: nothing is left.
    pub(crate) fn session(&self) -> Option<u64> {
        self.left.last().map(|left| left.label.session)
    }

    /// Before the leader hears of the session again: which epoch it had, and that it holds what it wrote under.
    pub(crate) fn prepare(&self, session: &Session) {
        let Some(last) = self.left.last().filter(|left| left.label.session == session.id()) else { return };
        session.had_epoch(last.label.epoch);
        session.leasing().assume(self.left.iter().map(|left| (left.label.volume, left.label.ino)));
    }

    /// Writes it out, into `volume`, which is within the session that it had. When that was expelled meanwhile others may
    /// have written, and what is older must not come over it.
    pub(crate) async fn replay(self, volume: &Arc<Volume>) -> io::Result<Written> {
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
