//! All metadata of the volume: read page by page, and loaded into an empty one. See docs/formats/dump.md.

use proto::backup::{DumpLoad, DumpPage, DumpRead, LoadPage, ReadDump};

use super::Volume;
use crate::config::Creds;
use crate::error::Result;

impl Volume {
    /// A page of a dump; `dump` 0 with page 0 starts one.
    pub async fn dump_page(&self, creds: &Creds, dump: u64, page: u64) -> Result<DumpPage> {
        self.session().call::<DumpRead>(&ReadDump { head: self.head(creds), dump, page }).await
    }

    /// Puts a page into the volume; head and origin are filled in.
    pub async fn load_page(&self, creds: &Creds, page: LoadPage) -> Result<()> {
        let head = self.head(creds);
        let make = |origin| LoadPage { head, origin, ..page };
        self.session().mutate::<DumpLoad>(make).await.map(|_| ())
    }
}
