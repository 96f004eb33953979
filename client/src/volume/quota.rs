//! Quotas. See docs/protocols/quota.md.

use proto::quota::{ListQuotas, Quota, QuotaKind, QuotaLimits, QuotaLs, QuotaSet, SetQuota};

use super::Volume;
use crate::config::Creds;
use crate::error::Result;

impl Volume {
    /// Sets the quota of a user, a group or a directory (by inode); without limits removes it. Only root may.
    pub async fn set_quota(
        &self,
        creds: &Creds,
        kind: QuotaKind,
        id: u64,
        limits: Option<QuotaLimits>,
    ) -> Result<Quota> {
        let head = self.head(creds);
        let make = |origin| SetQuota { head, origin, kind: kind as i32, id, limits };
        self.session().mutate::<QuotaSet>(make).await
    }

    /// All quotas of the volume that the caller may see, or (not 0) those that apply to an inode.
    pub async fn quotas(&self, creds: &Creds, applying_to: u64) -> Result<Vec<Quota>> {
        let mut request = ListQuotas { head: self.head(creds), applying_to, ..ListQuotas::default() };
        let mut all = Vec::new();
        loop {
            let page = self.session().call::<QuotaLs>(&request).await?;
            all.extend(page.quotas);
            if page.end {
                return Ok(all);
            }
            (request.after_kind, request.after_id) = (page.after_kind, page.after_id);
        }
    }
}
