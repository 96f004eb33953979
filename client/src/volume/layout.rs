//! Defaults for new files below a directory.

use proto::layout::{LayoutDefault, LayoutGet, LayoutSet, SetLayout};
use proto::mrc::InoRequest;
use proto::stripe::Striping;

use super::Volume;
use crate::config::Creds;
use crate::error::Result;

impl Volume {
    /// Sets what new files below a directory get; without a striping its own defaults go.
    pub async fn set_default_layout(
        &self,
        creds: &Creds,
        ino: u64,
        striping: Option<Striping>,
    ) -> Result<()> {
        let head = self.head(creds);
        let make = |origin| SetLayout { head, origin, ino, striping };
        self.session().mutate::<LayoutSet>(make).await.map(|_| ())
    }

    /// What new files in a directory get.
    pub async fn default_layout(&self, creds: &Creds, ino: u64) -> Result<LayoutDefault> {
        self.session().call::<LayoutGet>(&InoRequest { head: self.head(creds), ino }).await
    }
}
