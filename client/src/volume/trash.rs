//! What was removed and is kept for a while. See docs/protocols/trash.md.

use std::time::Duration;

use proto::trash::{
    KeepTrash, ListTrash, TrashKeep, TrashLs, TrashRemove, TrashRequest, TrashRestore, Trashed,
};

use super::Volume;
use crate::config::Creds;
use crate::error::Result;

impl Volume {
    /// Sets how long what is removed is kept; nothing is with zero. Only root may.
    pub async fn keep_trash(&self, creds: &Creds, keep: Duration) -> Result<()> {
        let head = self.head(creds);
        let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        self.session().mutate::<TrashKeep>(|origin| KeepTrash { head, origin, keep_ms }).await.map(|_| ())
    }

    /// What is in the trash and the caller may see, the oldest first; and how long it is kept.
    pub async fn trash(&self, creds: &Creds) -> Result<(Vec<Trashed>, Duration)> {
        let mut request = ListTrash { head: self.head(creds), after_ms: 0, after_ino: 0 };
        let mut all = Vec::new();
        loop {
            let page = self.session().call::<TrashLs>(&request).await?;
            all.extend(page.trashed);
            if page.end {
                return Ok((all, Duration::from_millis(page.keep_ms)));
            }
            (request.after_ms, request.after_ino) = (page.after_ms, page.after_ino);
        }
    }

    /// Gives something in the trash its name back; never overwrites.
    pub async fn restore_trash(&self, creds: &Creds, what: &Trashed) -> Result<()> {
        let (head, ino, removed_ms) = (self.head(creds), what.ino, what.removed_ms);
        let make = |origin| TrashRequest { head, origin, ino, removed_ms };
        self.session().mutate::<TrashRestore>(make).await.map(|_| ())
    }

    /// Removes something in the trash for good.
    pub async fn remove_trash(&self, creds: &Creds, what: &Trashed) -> Result<()> {
        let (head, ino, removed_ms) = (self.head(creds), what.ino, what.removed_ms);
        let make = |origin| TrashRequest { head, origin, ino, removed_ms };
        self.session().mutate::<TrashRemove>(make).await.map(|_| ())
    }
}
