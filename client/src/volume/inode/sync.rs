//! What `fsync` forces: data at the OSDs, and the group's log.

use std::sync::Arc;

use bytes::Bytes;
use proto::osd;

use super::{Inode, Ticket};
use crate::config::Creds;
use crate::error::Result;

impl Inode {
    /// Everything of this file that OSDs acknowledged goes to disk.
    pub(crate) async fn sync_osds(self: &Arc<Self>) -> Result<()> {
        self.hurry().await;
        self.confirmed().await?;
        let layout = self.credentials().layout.clone();
        if layout.is_fixed() && !self.exact {
            // It was synced before the file showed it, and is never written.
            return Ok(());
        }
        let syncs = (0..layout.columns.len()).map(|column| {
            let make = |ticket: &Ticket<'_>| osd::SyncRequest {
                capability: ticket.capability.clone(),
                replicas: ticket.replicas(),
                map_epoch: ticket.map_epoch,
            };
            self.call_column::<osd::Sync>(column, make, Bytes::new())
        });
        futures::future::try_join_all(syncs).await.map(|_| ())
    }

    /// Forces the group's log, if something of this inode that a sync promises may not be on its media yet.
    pub(crate) async fn force_metadata(&self, creds: &Creds, data_only: bool) -> Result<()> {
        let Some(covered) = self.size.lock().must_force(data_only) else { return Ok(()) };
        self.volume.sync_metadata(creds).await?;
        self.size.lock().forced(covered);
        Ok(())
    }
}
