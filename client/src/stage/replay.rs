//! Writes out what a killed process left, within the session that it had.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use proto::error::Code;

use super::{Label, Left, Stage};
use crate::config::Creds;
use crate::error::{Error, Result};
use crate::remote::Session;
use crate::volume::Volume;
use crate::volume::inode::Inode;

/// What an earlier process of a mount left.
pub(crate) struct Predecessor<'a> {
    stage: &'a Stage,
    left: Vec<Left>,
}

/// Files to which it was written; their sizes are to be reported.
pub(crate) struct Written(BTreeMap<u64, Arc<Inode>>);

impl<'a> Predecessor<'a> {
    pub(crate) fn of(stage: &'a Stage) -> io::Result<Self> {
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
        let (pieces, mut lost) = (self.left.len(), 0);
        let mut written = BTreeMap::new();
        for Left { label, data } in self.left {
            let same = (label.session, label.epoch) == (session.id(), session.epoch());
            let result = match same && label.volume == volume.id() {
                true => write_out(volume, &label, data).await,
                false => Err(Error::new(Code::Io, "its session ended meanwhile: nobody answered in time")),
            };
            match result {
                Ok(inode) => drop(written.insert(label.ino, inode)),
                // Nobody can miss what is removed.
                Err(error) if matches!(error.code, Code::NotFound | Code::Stale) => {}
                Err(error) => {
                    tracing::error!(ino = label.ino, offset = label.offset, %error, "acknowledged writes were lost");
                    lost += 1;
                }
            }
        }
        if pieces > 0 {
            tracing::info!(pieces, files = written.len(), lost, "wrote out what an earlier process left");
            self.stage.clear()?;
        }
        Ok(Written(written))
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

async fn write_out(volume: &Arc<Volume>, label: &Label, data: Vec<u8>) -> Result<Arc<Inode>> {
    let inode = volume.acquire(&Creds::checked(0, 0), label.ino, true).await?;
    if let Some(kept) = label.kept {
        inode.kept_before(kept);
    } else if data.is_empty() {
        inode.reaches(label.offset);
    } else {
        inode.write_range(label.offset, data.into(), false, false).await?;
    }
    Ok(inode)
}
