//! An open file: reading, writing, cutting, syncing. Data goes straight to the OSDs; the MRC hears of the size.

pub mod buffer;
mod held;
pub mod latch;
pub mod read;
pub(crate) mod room;
pub mod space;
pub mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use proto::mrc::{Attr, CloseRequest, LEASE_WRITE};

use crate::config::Creds;
use crate::engine::readahead::ReadAhead;
use crate::error::Result;
use crate::stage::Stage;
use crate::volume::Volume;
use crate::volume::attrs::Changes;
use crate::volume::inode::{Inode, Leaving};
use latch::Told;

/// An open file. Cheap to share; closed by [`File::close`] or when the last share is dropped.
pub struct File {
    inode: Arc<Inode>,
    creds: Creds,
    write: bool,
    closed: AtomicBool,
    /// Nothing that is written through it waits (`O_SYNC`, `O_DIRECT`).
    at_once: AtomicBool,
    told: Told,
    /// order: a leaf.
    ahead: Mutex<Option<read::Ahead>>,
}

impl File {
    pub(crate) fn new(inode: Arc<Inode>, creds: Creds, write: bool) -> Arc<Self> {
        Arc::new(Self {
            told: Told::from_now(&inode.errors),
            inode,
            creds,
            write,
            closed: AtomicBool::new(false),
            at_once: AtomicBool::new(false),
            ahead: Mutex::new(None),
        })
    }

    /// Its inode number.
    #[must_use]
    pub fn ino(&self) -> u64 {
        self.inode.ino()
    }

    /// The volume it is in.
    #[must_use]
    pub fn volume(&self) -> &Arc<Volume> {
        self.inode.volume()
    }

    /// Whether it was opened for writing.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.write
    }

    /// Nobody counts this handle.
    pub(crate) fn needs_no_close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// What is written through this handle has to be at the OSDs before it is answered.
    pub(crate) fn write_at_once(&self) {
        self.at_once.store(true, Ordering::Release);
    }

    pub(crate) fn writes_at_once(&self) -> bool {
        self.at_once.load(Ordering::Acquire)
    }

    pub(crate) fn inode(&self) -> &Arc<Inode> {
        &self.inode
    }

    /// The size as this client knows it, without asking.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.inode.size()
    }

    /// Attributes.
    pub async fn attr(&self) -> Result<Attr> {
        self.volume().getattr(&self.creds, self.ino()).await
    }

    /// Reads ahead of sequential readers, holding at most `bytes` for this handle. For readers that accept data which
    /// was current when it was fetched (logs, whole files); other writers' changes may be seen one window late.
    pub fn set_readahead(&self, bytes: u64) {
        *self.ahead.lock() = (bytes > 0).then(|| read::Ahead::new(ReadAhead::new(bytes)));
    }

    /// Sets the size.
    pub async fn truncate(&self, size: u64) -> Result<()> {
        self.forget_ahead();
        self.inode.resize(&self.creds, size, Changes::default()).await.map(|_| ())
    }

    /// Everything written is at the OSDs, the MRC knows the size, and errors of earlier writes are told.
    pub async fn flush(&self) -> Result<()> {
        self.inode.report().await?;
        if self.write {
            // Who only reads has nothing that could have found no room.
            self.inode.check_room()?;
        }
        self.told.check(&self.inode.errors)
    }

    /// `close(2)` of one descriptor of a mount: answered while what was written is on its way, when nothing can come of
    /// that (see [`Inode::may_land_later`]); else like [`File::flush`].
    pub(crate) async fn flush_behind(&self, stage: Option<&Arc<Stage>>) -> Result<()> {
        if !stage.is_some_and(|stage| self.inode.may_land_later(stage)) {
            return self.flush().await;
        }
        self.inode.send_off_buffer().await;
        self.told.check(&self.inode.errors)
    }

    /// Whether what was written through it is on its way and has slots of the stage: so many at most.
    pub(crate) fn lands_behind(&self) -> bool {
        self.write && !self.writes_at_once() && self.inode.is_gathering()
    }

    /// Like [`File::close`] when nobody waits for the answer: what was written is told together with that of other files.
    pub(crate) async fn close_behind(&self) -> Result<()> {
        if !self.write || self.closed.load(Ordering::Acquire) {
            return self.close().await;
        }
        let leaving = self.inode.leave();
        if self.inode.is_unreported() {
            // Nobody waits for it: the MRC hears of the file at the common moment. When it was lost, so is what was written.
            let _ = self.inode.confirmed().await;
            self.inode.flush_buffer().await;
            if self.inode.is_unreported() {
                self.volume().reports_together().await;
            }
        }
        self.close_left(Some(leaving)).await
    }

    /// Everything written, by whom ever, survives the machines: data on the OSDs' media, metadata on a majority's. The
    /// time of the last write is reported, and is on the media with the next change that is forced.
    pub async fn fsync(&self) -> Result<()> {
        self.sync(false).await
    }

    /// Like [`File::fsync`] for data and what it takes to read it back: rights and times do not count.
    pub async fn fdatasync(&self) -> Result<()> {
        self.sync(true).await
    }

    async fn sync(&self, data_only: bool) -> Result<()> {
        self.inode.flush_buffer().await;
        let metadata = async {
            // While others cannot see the file without our reporting first, only a new size has to be told now.
            let ours = self.volume().leasing().bits(self.inode.key()) & LEASE_WRITE != 0;
            if !ours || self.inode.grows() || !data_only && self.inode.keeps() {
                self.inode.report().await?;
            }
            self.inode.force_metadata(&self.creds, data_only).await
        };
        futures::future::try_join(self.inode.sync_osds(), metadata).await?;
        self.inode.check_room()?;
        self.told.check(&self.inode.errors)
    }

    /// Flushes and gives the handle back. A second close does nothing.
    pub async fn close(&self) -> Result<()> {
        self.close_left(None).await
    }

    async fn close_left(&self, leaving: Option<Leaving<'_>>) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let flushed = self.flush().await;
        // Before the session forgets it: never may more leave than it knows.
        drop(leaving);
        let closed = self.volume().session().close(&self.close_request()).await;
        flushed.and(closed)
    }

    fn close_request(&self) -> CloseRequest {
        CloseRequest { head: self.volume().head(&self.creds), ino: self.ino(), write: self.write }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if *self.closed.get_mut() {
            return;
        }
        let (inode, request) = (self.inode.clone(), self.close_request());
        self.inode.volume().runtime().spawn(async move {
            let reported = inode.report().await;
            if let Err(error) = reported.and(inode.volume().session().close(&request).await) {
                tracing::warn!(ino = inode.ino(), %error, "a dropped file was not closed");
            }
        });
    }
}
