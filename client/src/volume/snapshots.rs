//! Snapshots of directories, and clones of files. See docs/protocols/snapshots.md.

use std::sync::Arc;

use proto::error::{Code, WireError};
use proto::limits::NAME_BYTES_MAX;
use proto::mrc::{Attr, OpenRequest};
use proto::snapshot::{
    CloneData, CloneRequest, ListSnapshots, SnapshotCreate, SnapshotInfo, SnapshotLs, SnapshotRemove,
    SnapshotRequest,
};

use super::Volume;
use crate::config::Creds;
use crate::engine::leases::Use;
use crate::error::Result;

/// Bits of the volume's inode numbers in those that mounts show.
const INO_BITS: u32 = 43;
/// Numbers below this are of the present.
pub const FIRST_OF_PAST: u64 = 1 << INO_BITS;
/// Stands for a snapshot in the number of a directory of snapshots (`.snap`). No snapshot has this number.
pub const LISTING: u64 = (1 << 20) - 1;

/// The inode number that a mount shows for something in a snapshot: nothing need be remembered to understand it.
#[must_use]
pub const fn shown_ino(snapshot: u64, ino: u64) -> u64 {
    snapshot << INO_BITS | ino
}

/// The snapshot (0: the present) and the inode of a number that a mount showed.
#[must_use]
pub const fn split_ino(shown: u64) -> (u64, u64) {
    (shown >> INO_BITS, shown & (FIRST_OF_PAST - 1))
}

/// What snapshots that show a directory are called there. Its own have their names, those of directories above too unless
/// another one that is listed has the name: then the number follows it.
#[must_use]
pub fn names_in(directory: u64, snapshots: Vec<SnapshotInfo>) -> Vec<(Vec<u8>, SnapshotInfo)> {
    let is_alone = |info: &SnapshotInfo| {
        info.directory == directory || snapshots.iter().filter(|other| other.name == info.name).count() == 1
    };
    let name = |info: &SnapshotInfo| {
        let number = format!("@{}", info.id).into_bytes();
        match is_alone(info) {
            true => info.name.clone(),
            false if info.name.len() + number.len() > NAME_BYTES_MAX => number,
            false => [info.name.clone(), number].concat(),
        }
    };
    let names: Vec<Vec<u8>> = snapshots.iter().map(name).collect();
    names.into_iter().zip(snapshots).collect()
}

impl Volume {
    /// The volume as a snapshot shows it (its number: [`SnapshotInfo::id`]). Nothing can be changed through it.
    #[must_use]
    pub fn past(&self, snapshot: u64) -> Arc<Volume> {
        let (client, entry, session) = (self.client.clone(), self.entry.clone(), self.session.clone());
        Self::at(client, entry, session, snapshot, self.runtime.clone())
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

    /// The snapshot that is called so in a directory ([`names_in`]).
    pub async fn snapshot_called(&self, creds: &Creds, directory: u64, name: &[u8]) -> Result<SnapshotInfo> {
        let all = names_in(directory, self.snapshots(creds, directory).await?);
        all.into_iter().find(|(called, _)| called == name).map(|(_, info)| info).ok_or_else(|| {
            let name = String::from_utf8_lossy(name);
            let why =
                format!("no snapshot {name:?} shows ino-{directory}; `xtfs snapshot ls` lists those that do");
            WireError::new(Code::NotFound, why)
        })
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
        let mut changing = self.leasing().change(self.id(), touched);
        let reply = self.session().mutate::<CloneData>(make).await?;
        changing.done(&reply.leases, &[&reply.attr], &[]);
        if let Some(inode) = self.inode(to) {
            inode.learn(&reply.attr);
            // What comes next may not take a lease, and must not ask for the data that is given up. If this fails, the next
            // read or write tries again.
            if let Err(error) = inode.follow_top(Use::Read).await {
                tracing::debug!(ino = to, %error, "no right to what was cloned yet");
            }
        }
        self.kernel().forget_attr(to);
        Ok(self.shown(reply.attr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_mounts_show_tell_snapshot_and_inode() {
        for (snapshot, ino) in [(0, 1), (1, 1), (7, (1 << 43) - 1), (LISTING - 1, 5), (LISTING, 5)] {
            let shown = shown_ino(snapshot, ino);
            assert_eq!(split_ino(shown), (snapshot, ino));
            assert_eq!(shown >= FIRST_OF_PAST, snapshot != 0);
            assert!(shown < 1 << 63, "those are of `.xtfs`");
        }
    }

    #[test]
    fn every_snapshot_has_a_name_of_its_own_in_a_directory() {
        let info = |id, name: &str, directory| SnapshotInfo {
            id,
            name: name.into(),
            directory,
            ..SnapshotInfo::default()
        };
        let long = "x".repeat(NAME_BYTES_MAX);
        let all =
            vec![info(1, "a", 1), info(2, "a", 5), info(3, "b", 1), info(4, &long, 1), info(5, &long, 3)];
        let names: Vec<String> =
            names_in(5, all).iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
        assert_eq!(names, ["a@1", "a", "b", "@4", "@5"]);
    }
}
