//! The change stream: what happens below a directory, in order, resumable. See docs/protocols/changes.md.

use std::sync::Arc;
use std::time::Duration;

use proto::changes::{Change, ChangesReply, ChangesRequest, WAIT_MS_MAX};

use super::Volume;
use crate::config::Creds;
use crate::error::Result;

/// A reader's place in the stream of a subtree. Dropping a call under way loses nothing.
pub struct ChangeStream {
    volume: Arc<Volume>,
    creds: Creds,
    subtree: u64,
    cursor: u64,
}

impl Volume {
    /// Events below directory `subtree`: after the cursor `from`, or from now on. Who rescans after this answered and
    /// then reads on misses nothing.
    pub async fn changes(&self, creds: &Creds, subtree: u64, from: Option<u64>) -> Result<ChangeStream> {
        let cursor = match from {
            Some(cursor) => cursor,
            None => self.ask_changes(creds, subtree, None, Duration::ZERO, 0).await?.next,
        };
        Ok(ChangeStream { volume: self.arc(), creds: creds.clone(), subtree, cursor })
    }

    async fn ask_changes(
        &self,
        creds: &Creds,
        subtree: u64,
        from: Option<u64>,
        wait: Duration,
        limit: u32,
    ) -> Result<ChangesReply> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).min(WAIT_MS_MAX);
        let request = ChangesRequest { head: self.head(creds), subtree, from, wait_ms, limit };
        let extra = Duration::from_millis(wait_ms);
        let (reply, _) = (self.session().group())
            .call_for::<proto::changes::Changes>(&request, self.patience(), extra)
            .await;
        reply
    }
}

impl ChangeStream {
    /// Where the stream goes on: everything before was given out.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The next events, `limit` at most (0: as many as fit); waits up to `wait` for the first one. None in that time:
    /// empty.
    pub async fn next(&mut self, wait: Duration, limit: u32) -> Result<Vec<Change>> {
        let reply =
            self.volume.ask_changes(&self.creds, self.subtree, Some(self.cursor), wait, limit).await?;
        self.cursor = reply.next;
        Ok(reply.changes)
    }
}
