//! Checking and mending the volume's metadata, and collecting lost objects. See docs/protocols/fsck.md.

use std::time::Duration;

use proto::fsck::{
    CollectLost, CollectedLost, Finding, FsckMend, FsckProgress, FsckRun, LostCollect, MendFindings, Mended,
    RunFsck,
};

use super::Volume;
use crate::config::Creds;
use crate::error::Result;

impl Volume {
    /// Starts a check (`check` 0), or asks how one goes: findings after the first `after`, waiting up to `wait` for news.
    pub async fn fsck(&self, creds: &Creds, check: u64, after: u64, wait: Duration) -> Result<FsckProgress> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let request = RunFsck { head: self.head(creds), check, after, wait_ms };
        self.session().group().call_for::<FsckRun>(&request, self.patience(), wait).await.0
    }

    /// Mends findings of a check that had seen `seen` repairs.
    pub async fn mend(&self, creds: &Creds, seen: u64, findings: Vec<Finding>) -> Result<Mended> {
        let head = self.head(creds);
        self.session().mutate::<FsckMend>(|origin| MendFindings { head, origin, seen, findings }).await
    }

    /// A page of the lost objects of this volume at an OSD, which are removed unless `dry_run`.
    pub async fn collect_lost(
        &self,
        creds: &Creds,
        osd: u64,
        after: u64,
        older_than: Duration,
        dry_run: bool,
    ) -> Result<CollectedLost> {
        let older_than_ms = u64::try_from(older_than.as_millis()).unwrap_or(u64::MAX);
        let request = CollectLost { head: self.head(creds), osd, after, older_than_ms, dry_run };
        self.session().call::<LostCollect>(&request).await
    }
}
