//! A file in use on this client: its layout, the right to its objects, its size. Shared by all its handles.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use proto::capability::Capability;
use proto::error::{Code, WireError};
use proto::id::ObjectNo;
use proto::mrc::{Attr, FileCredentials, OpenReply, OpenRequest, ReportWrite, WriteDone};
use proto::osd;
use proto::rpc::Method;

use super::Volume;
use super::attrs::Changes;
use crate::config::Creds;
use crate::engine::backoff::Backoff;
use crate::engine::size::Size;
use crate::error::Result;
use crate::file::buffer::Buffer;
use crate::file::latch::Errors;

/// A capability is renewed when it has less than this left, milliseconds.
const RENEW_BEFORE_MS: u64 = 60_000;

/// A file in use.
pub struct Inode {
    volume: Arc<Volume>,
    ino: u64,
    /// order: a leaf.
    credentials: RwLock<Arc<FileCredentials>>,
    write: AtomicBool,
    /// order: a leaf.
    size: Mutex<Size>,
    /// Writers share it, truncation has it alone.
    pub(crate) data: tokio::sync::RwLock<()>,
    /// Write-back.
    pub(crate) buffer: Buffer,
    /// Errors of writing out what was gathered.
    pub(crate) errors: Errors,
    /// One report or renewal at a time.
    reporting: tokio::sync::Mutex<()>,
    renewing: tokio::sync::Mutex<()>,
}

impl Inode {
    pub(super) fn new(volume: Arc<Volume>, reply: OpenReply, write: bool) -> Arc<Self> {
        Arc::new(Self {
            volume,
            ino: reply.attr.ino,
            credentials: RwLock::new(Arc::new(reply.credentials)),
            write: AtomicBool::new(write),
            size: Mutex::new(Size::new(&reply.attr)),
            data: tokio::sync::RwLock::new(()),
            buffer: Buffer::default(),
            errors: Errors::default(),
            reporting: tokio::sync::Mutex::new(()),
            renewing: tokio::sync::Mutex::new(()),
        })
    }

    /// Takes over what a later open brought, unless it has fewer rights.
    pub(super) fn adopt(&self, reply: OpenReply, write: bool) {
        self.size.lock().learn(&reply.attr);
        if write || !self.may_write() {
            *self.credentials.write() = Arc::new(reply.credentials);
            self.write.fetch_or(write, Ordering::AcqRel);
        }
    }

    /// Its number.
    #[must_use]
    pub fn ino(&self) -> u64 {
        self.ino
    }

    /// The volume it is in.
    #[must_use]
    pub fn volume(&self) -> &Arc<Volume> {
        &self.volume
    }

    pub(crate) fn may_write(&self) -> bool {
        self.write.load(Ordering::Acquire)
    }

    pub(crate) fn credentials(&self) -> Arc<FileCredentials> {
        self.credentials.read().clone()
    }

    /// The size as this client knows it.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size.lock().size()
    }

    /// The change number that this client knows last.
    pub(crate) fn change(&self) -> u64 {
        self.size.lock().change()
    }

    /// A process that wrote this file died before it reported the size: finds it at the OSDs and reports it.
    pub(crate) async fn recover_size(self: &Arc<Self>) -> Result<()> {
        let end = self.end_at_osds().await?;
        if end > self.size() {
            tracing::info!(ino = self.ino, end, "found data behind the reported end of a file");
            self.wrote(end, false);
            self.report().await?;
        }
        Ok(())
    }

    pub(super) fn learn_and_show(&self, attr: &mut Attr) {
        let mut size = self.size.lock();
        size.learn(attr);
        size.show(attr);
    }

    /// Bytes up to `end` are at the OSDs.
    pub(crate) fn wrote(self: &Arc<Self>, end: u64, clear_setid: bool) {
        let became_dirty = self.size.lock().wrote(end, self.volume.now(), clear_setid);
        if became_dirty {
            self.volume.mark_dirty(self.clone());
        }
    }

    /// Bytes up to `end` wait in the buffer.
    pub(crate) fn gathered(self: &Arc<Self>, end: u64) {
        let first = self.size.lock().gathered(end, self.volume.now());
        if first {
            // The background report writes the buffer out.
            self.volume.mark_dirty(self.clone());
        }
    }

    pub(crate) fn gathered_is_out(&self) {
        self.size.lock().gathered_is_out();
    }

    /// Writes out what was gathered and tells the MRC what was written, if anything.
    pub async fn report(self: &Arc<Self>) -> Result<()> {
        self.flush_buffer().await;
        self.report_written().await
    }

    async fn report_written(&self) -> Result<()> {
        if !self.size.lock().is_dirty() {
            return Ok(());
        }
        let _one = self.reporting.lock().await;
        let Some(what) = self.size.lock().report() else { return Ok(()) };
        let (ino, head) = (self.ino, self.volume.head(&Creds::checked(0, 0)));
        let make = |origin| ReportWrite {
            head,
            origin,
            ino,
            size: what.end,
            truncate_epoch: what.truncate_epoch,
            mtime: Some(what.mtime),
            blocks: 0,
            clear_setid: what.clear_setid,
        };
        let reporting = NotReported { inode: self, armed: true };
        match self.volume.session().mutate::<WriteDone>(make).await {
            Ok(reply) => {
                reporting.disarm();
                self.size.lock().reported(&reply.attr);
                Ok(())
            }
            // The file is gone: there is nothing left to report.
            Err(error) if matches!(error.code, Code::NotFound | Code::Stale) => {
                reporting.disarm();
                self.size.lock().forget_unreported();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Sets the size (and whatever else `changes` says). Writers wait meanwhile.
    pub(crate) async fn resize(self: &Arc<Self>, creds: &Creds, size: u64, changes: Changes) -> Result<Attr> {
        let _alone = self.data.write().await;
        self.flush_buffer_alone().await;
        self.report_written().await?;
        if size < self.known_or_asked_size(creds).await?.max(1) {
            self.cut(size).await?;
        }
        let attr = self.volume.setattr_raw(creds, self.ino, Changes { size: Some(size), ..changes }).await?;
        self.size.lock().truncated(&attr);
        Ok(attr)
    }

    /// The larger of what we know and what the MRC says now: others may have written more.
    async fn known_or_asked_size(&self, creds: &Creds) -> Result<u64> {
        let attr = self.volume.getattr(creds, self.ino).await?;
        Ok(attr.size.max(self.size()))
    }

    /// Cuts the objects at all OSDs.
    async fn cut(self: &Arc<Self>, size: u64) -> Result<()> {
        let layout = self.credentials().layout.clone();
        let stripe = u64::from(layout.stripe_bytes.max(1));
        let object = size / stripe;
        let keep = u32::try_from(size % stripe).expect("less than a stripe");
        let cuts = layout.columns.iter().map(|column| {
            let make = move |capability: &Capability, map_epoch| osd::TruncateRequest {
                head: osd::ObjectHead { capability: capability.clone(), object, map_epoch },
                keep,
            };
            self.call_osds::<osd::Truncate>(&column.osds, make, Bytes::new())
        });
        futures::future::try_join_all(cuts).await.map(|_| ())
    }

    /// Everything of this file that OSDs acknowledged goes to disk.
    pub(crate) async fn sync_osds(self: &Arc<Self>) -> Result<()> {
        let layout = self.credentials().layout.clone();
        let syncs = layout.columns.iter().map(|column| {
            let make = |capability: &Capability, _| osd::SyncRequest { capability: capability.clone() };
            self.call_osds::<osd::Sync>(&column.osds, make, Bytes::new())
        });
        futures::future::try_join_all(syncs).await.map(|_| ())
    }

    /// Calls the OSD of an object until it answers or patience ends.
    pub(crate) async fn call_object<M: Method>(
        &self,
        object: ObjectNo,
        make: impl Fn(&Capability, u64) -> M::Request,
        payload: Bytes,
    ) -> Result<(M::Reply, Bytes)> {
        let credentials = self.credentials();
        let columns = &credentials.layout.columns;
        if columns.is_empty() {
            return Err(WireError::new(
                Code::NoSpace,
                format!("ino-{} has no OSDs: none was up when it was made; see `xtfs osd ls`", self.ino),
            ));
        }
        let column = usize::try_from(object.0 % columns.len() as u64).expect("less than a length");
        self.call_osds::<M>(&columns[column].osds, make, payload).await
    }

    /// Calls the first of `osds` that is up until it answers or patience ends.
    pub(crate) async fn call_osds<M: Method>(
        &self,
        osds: &[u64],
        make: impl Fn(&Capability, u64) -> M::Request,
        payload: Bytes,
    ) -> Result<(M::Reply, Bytes)> {
        let mut backoff = Backoff::new(self.volume.patience());
        let mut corrupt_once = false;
        self.renew_in_time().await?;
        loop {
            let map = self.volume.osds().map();
            let osd = map.primary(osds).ok_or_else(|| {
                WireError::new(Code::Internal, format!("a column of ino-{} has no OSD", self.ino))
            })?;
            let credentials = self.credentials();
            let request = make(&credentials.capability, map.epoch);
            let result = self.volume.osds().call_once::<M>(osd, &map, &request, payload.clone()).await;
            let error = match result {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match error.code {
                Code::CapabilityExpired | Code::OldView => self.renew(&credentials).await?,
                Code::Unavailable | Code::DeadlineExceeded | Code::OldEpoch => {
                    self.volume.osds().suspect(osd, &map, &error).await;
                }
                Code::Busy => {}
                // Damaged on the way there: the bytes that we hold are good.
                Code::Corrupt if M::MUTATES && !corrupt_once => corrupt_once = true,
                _ => return Err(error),
            }
            match backoff.failed(self.volume.client().config().clock.monotonic()) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(self.out_of_patience::<M>(osd, &error)),
            }
        }
    }

    fn out_of_patience<M: Method>(&self, osd: u64, last: &WireError) -> WireError {
        WireError::new(
            last.code,
            format!(
                "osd#{osd} did not do {} on ino-{} in time: {}; see `xtfs osd ls`",
                M::NAME,
                self.ino,
                last.text
            ),
        )
    }

    async fn renew_in_time(&self) -> Result<()> {
        let credentials = self.credentials();
        let now_ms = u64::try_from(self.volume.client().now().as_millis()).unwrap_or(u64::MAX);
        if now_ms + RENEW_BEFORE_MS < credentials.capability.expires_ms {
            return Ok(());
        }
        match self.renew(&credentials).await {
            // It may still be valid: let the OSD decide.
            Err(error) if now_ms < credentials.capability.expires_ms => {
                tracing::debug!(ino = self.ino, %error, "a capability could not be renewed yet");
                Ok(())
            }
            other => other,
        }
    }

    /// Gets a fresh capability, unless another caller has replaced `old` already.
    async fn renew(&self, old: &Arc<FileCredentials>) -> Result<()> {
        let _one = self.renewing.lock().await;
        if !Arc::ptr_eq(old, &self.credentials()) {
            return Ok(());
        }
        let head = self.volume.head(&Creds::checked(0, 0));
        let write = self.may_write();
        let request = OpenRequest { head, ino: self.ino, write, renew: true };
        let reply = self.volume.session().open(&request).await?;
        self.size.lock().learn(&reply.attr);
        *self.credentials.write() = Arc::new(reply.credentials);
        Ok(())
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        self.volume.forget_inode(self.ino);
    }
}

/// Puts a report back when it is given up half-way (an error, or the caller went away).
struct NotReported<'a> {
    inode: &'a Inode,
    armed: bool,
}

impl NotReported<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for NotReported<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.inode.size.lock().not_reported();
        }
    }
}
