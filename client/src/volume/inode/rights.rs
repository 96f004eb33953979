//! The right to a file's objects: fresh capabilities in time.

use std::sync::Arc;

use proto::error::Code;
use proto::mrc::{FileCredentials, OpenRequest};

use super::Inode;
use crate::config::Creds;
use crate::error::Result;

/// A capability is renewed when it has less than this left, milliseconds.
const RENEW_BEFORE_MS: u64 = 60_000;

/// Whose call brought the right that is here now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewed {
    /// This one: it is as new as the call.
    Here,
    /// Another one, which may have been asked for earlier.
    Elsewhere,
}

impl Inode {
    pub(super) async fn renew_in_time(&self) -> Result<()> {
        let credentials = self.credentials();
        let now_ms = u64::try_from(self.volume.client().now().as_millis()).unwrap_or(u64::MAX);
        if now_ms + RENEW_BEFORE_MS < credentials.capability.expires_ms {
            return Ok(());
        }
        match self.renew(&credentials).await {
            // It may still be valid: let the OSD decide.
            Err(error) if now_ms < credentials.capability.expires_ms => {
                tracing::debug!(ino = self.ino, %error, "a capability could not be renewed yet");
                Ok(())
            }
            other => other,
        }
    }

    /// Gets a fresh capability, and with it the layout of now.
    pub(crate) async fn renew_now(&self) -> Result<()> {
        self.renew(&self.credentials()).await
    }

    /// Gets a fresh capability, unless another caller has replaced `old` already.
    pub(super) async fn renew(&self, old: &Arc<FileCredentials>) -> Result<()> {
        self.replace(old).await.map(drop)
    }

    /// The same; says who did it.
    pub(super) async fn replace(&self, old: &Arc<FileCredentials>) -> Result<Renewed> {
        let _one = self.renewing.lock().await;
        if !Arc::ptr_eq(old, &self.credentials()) {
            return Ok(Renewed::Elsewhere);
        }
        let head = self.volume.head(&Creds::checked(0, 0));
        let write = self.may_write();
        let exact = self.exact;
        let request = OpenRequest { head, ino: self.ino, write, renew: true, append: false, exact };
        let asked = self.volume.leasing().ask();
        let reply = self.volume.session().open(&request).await?;
        asked.learn(self.volume.id(), &reply.leases, [&reply.attr]);
        self.volume.keep_rights(&reply, write);
        self.size.lock().learn(&reply.attr);
        *self.credentials.write() = Arc::new(reply.credentials);
        Ok(Renewed::Here)
    }

    /// An OSD refused because a replica that must take everything is down.
    pub(super) async fn demote_down(&self, data: u64, view: u64, seen: &Arc<FileCredentials>) -> Result<()> {
        match self.volume.demote_replicas(data, view).await {
            Ok(layout) => {
                tracing::info!(ino = data, learners = ?layout.learners, "a replica is down: writing goes on without it");
            }
            // Somebody else was faster; or the MRC does not know yet, or has no other replica to go on with.
            Err(error) if matches!(error.code, Code::OldView | Code::Busy | Code::Unavailable) => {
                tracing::debug!(ino = data, %error, "a replica that is down keeps its vote for now");
            }
            Err(error) => return Err(error),
        }
        self.renew(seen).await
    }
}
