//! A file that was made here before the MRC heard of it: rights and layout come with its answer. See
//! `docs/protocols/async-create.md`.

use std::sync::Arc;

use proto::mrc::{Attr, OpenReply};

use super::Inode;
use crate::creates::Early;
use crate::error::Result;
use crate::volume::Volume;

impl Inode {
    /// A file of which the MRC hears later.
    pub(crate) fn made(volume: Arc<Volume>, attr: Attr, early: Arc<Early>) -> Arc<Self> {
        let reply = OpenReply { attr, ..OpenReply::default() };
        Self::with(volume, reply, true, false, Some(early))
    }

    /// Until the MRC has answered with rights and layout. An error: the file was lost.
    pub(crate) async fn confirmed(&self) -> Result<()> {
        match &self.early {
            None => Ok(()),
            Some(early) => early.wait().await,
        }
    }

    /// Somebody waits for what is at the OSDs, or has to get there: the MRC hears of the file now, and not at the next common moment.
    pub(crate) async fn hurry(&self) {
        if let Some(early) = self.early.as_ref().filter(|early| !early.is_over()) {
            self.volume().session().creates().told_upto(early.number()).await;
        }
    }

    /// Whether rights and layout are known.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.early.as_ref().is_none_or(|early| early.is_over())
    }

    /// The answer brought them.
    pub(crate) fn confirm(&self, reply: OpenReply) {
        self.adopt(reply, true);
    }
}
