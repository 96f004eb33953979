//! Snapshots of directories, and clones of files. See docs/protocols/snapshots.md.

use std::sync::Arc;

use proto::error::{Code, WireError};
use proto::mrc::{Attr, OpenRequest};
use proto::snapshot::{
    CloneData, CloneRequest, ListSnapshots, SnapshotCreate, SnapshotInfo, SnapshotLs, SnapshotRemove,
    SnapshotRequest,
};

use super::Volume;
use crate::config::Creds;
use crate::error::Result;

impl Volume {
    /// The volume as a snapshot shows it (its number: [`SnapshotInfo::id`]). Nothing can be changed through it.
    #[must_use]
    pub fn past(&self, snapshot: u64) -> Arc<Volume> {
        Self::at(self.client.clone(), self.entry.clone(), self.session.clone(), snapshot)
    }

    /// Refuses changes of what a snapshot shows.
    pub(super) fn must_be_present(&self) -> Result<()> {
        if self.is_past() {
            return Err(WireError::new(
                Code::ReadOnly,
                "a snapshot cannot be changed; `xtfs snapshot restore` brings back what it shows",
            ));
        }
        Ok(())
    }

    /// Makes a snapshot of what lies below a directory: everything that was answered before this call, on every mount.
    pub async fn snapshot(&self, creds: &Creds, directory: u64, name: &[u8]) -> Result<SnapshotInfo> {
        self.must_be_present()?;
        let (head, name) = (self.head(creds), name.to_vec());
        let make = |origin| SnapshotRequest { head, origin, ino: directory, name };
        Ok(self.session().mutate::<SnapshotCreate>(make).await?.snapshot)
    }

    /// Removes a snapshot of a directory.
    pub async fn remove_snapshot(&self, creds: &Creds, directory: u64, name: &[u8]) -> Result<()> {
        self.must_be_present()?;
        let (head, name) = (self.head(creds), name.to_vec());
        let make = |origin| SnapshotRequest { head, origin, ino: directory, name };
        self.session().mutate::<SnapshotRemove>(make).await.map(|_| ())
    }

    /// Snapshots that show a directory (made of it or of one above it), the oldest first; with 0 all of the volume.
    pub async fn snapshots(&self, creds: &Creds, directory: u64) -> Result<Vec<SnapshotInfo>> {
        let head = proto::mrc::Head { snapshot: 0, ..self.head(creds) };
        Ok(self.session().call::<SnapshotLs>(&ListSnapshots { head, ino: directory }).await?.snapshots)
    }

    /// How much data lies below that which a file writes, one upon the other.
    pub async fn layers(&self, creds: &Creds, ino: u64) -> Result<usize> {
        let request = OpenRequest {
            head: self.head(creds),
            ino,
            write: false,
            renew: true,
            append: false,
            exact: false,
        };
        Ok(self.session().open(&request).await?.credentials.bases.len())
    }

    /// Gives the file `to` the content that `from` has now, or had in a snapshot (0: now), however large it is, at once.
    pub async fn clone_data(&self, creds: &Creds, from: (u64, u64), to: u64) -> Result<Attr> {
        self.must_be_present()?;
        // What was written here goes to the OSDs and the MRC first; others are asked by the leader.
        for ino in [from.0, to] {
            if let Some(inode) = self.inode(ino) {
                inode.report().await?;
                inode.settle().await?;
            }
        }
        let head = self.head(creds);
        let make = |origin| CloneRequest { head, origin, from: from.0, from_snapshot: from.1, to };
        let mut touched = vec![(to, None)];
        if from.1 == 0 {
            touched.push((from.0, None));
        }
        let changing = self.leasing().change(self.id(), touched);
        let reply = self.session().mutate::<CloneData>(make).await?;
        changing.done(&reply.leases, &[&reply.attr], &[]);
        if let Some(inode) = self.inode(to) {
            inode.learn(&reply.attr);
        }
        self.kernel().forget_attr(to);
        Ok(self.shown(reply.attr))
    }
}
