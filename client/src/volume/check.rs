//! Checking and mending the volume's metadata, and collecting lost objects. See docs/protocols/fsck.md.

use std::time::Duration;

use proto::fsck::{
    CollectLost, CollectedLost, Finding, FsckMend, FsckProgress, FsckRun, LostCollect, MendFindings, Mended,
    RunFsck,
};

use super::Volume;
use crate::config::{Creds, Patience};
use crate::error::Result;

/// A question about a check.
#[derive(Debug, Clone, Copy)]
pub struct CheckAsk {
    /// Its number, random, not 0.
    pub check: u64,
    /// Findings that the asker has.
    pub after: u64,
    /// Waits so long for news.
    pub wait: Duration,
    /// Starts it if it does not run.
    pub begin: bool,
}

impl Volume {
    /// Starts a check (`check` 0), or asks how one goes: findings after the first `after`, waiting up to `wait` for news.
    pub async fn fsck(&self, creds: &Creds, check: u64, after: u64, wait: Duration) -> Result<FsckProgress> {
        self.ask_check(creds, CheckAsk { check, after, wait, begin: false }, self.patience()).await
    }

    /// The same for callers that choose the number, so that a start may be repeated, and that tell somebody while they wait:
    /// what fails is told after `patience`.
    pub async fn ask_check(&self, creds: &Creds, ask: CheckAsk, patience: Patience) -> Result<FsckProgress> {
        let CheckAsk { check, after, wait, begin } = ask;
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let request = RunFsck { head: self.head(creds), check, after, wait_ms, begin };
        self.session().group().call_for::<FsckRun>(&request, patience, wait).await.0
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
