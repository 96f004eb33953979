//! A file in use on this client: its layout, the right to its objects, its size. Shared by all its handles.

mod behind;
mod coded;
mod content;
mod early;
mod hedged;
pub(crate) mod kept;
mod layers;
mod rights;
mod sync;
mod ticket;
mod trail;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use proto::error::{Code, WireError};
use proto::id::ObjectNo;
use proto::mrc::{Attr, FileCredentials, LEASE_WRITE, OpenReply, OpenRequest, ReportWrite, WriteDone};
use proto::osd;
use proto::rpc::Method;

use super::Volume;
use super::attrs::Changes;
use crate::config::Creds;
use crate::creates::Early;
use crate::engine::backoff::Backoff;
use crate::engine::leases::{Key, Use};
use crate::engine::room::Room;
use crate::engine::size::Size;
use crate::error::Result;
use crate::file::buffer::Buffer;
use crate::file::latch::Errors;
use crate::lease::Locked;
pub(crate) use behind::Leaving;
pub(crate) use layers::TOP;
use ticket::Attempt;
pub(crate) use ticket::Ticket;
use trail::Trail;

/// A file in use.
pub struct Inode {
    volume: Arc<Volume>,
    ino: u64,
    /// Stands for the data of this number, whatever the file shows.
    exact: bool,
    /// It was made here, and what is needed to write it comes later.
    early: Option<Arc<Early>>,
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
    /// What quotas leave. order: a leaf.
    pub(crate) room: Mutex<Room>,
    /// One report or renewal at a time.
    reporting: tokio::sync::Mutex<()>,
    renewing: tokio::sync::Mutex<()>,
    /// Blocks being filled from below: writers share it, who fills has it alone. Order: after `data`.
    filling: tokio::sync::RwLock<()>,
    /// Blocks of the top that are surely there. order: a leaf.
    filled: Mutex<layers::Filled>,
    /// What is below is being copied up.
    folding: AtomicBool,
    /// What the kernel holds locked for requests that wait for a lease.
    pub(crate) locked: Locked,
    /// One append at a time.
    pub(crate) appending: tokio::sync::Mutex<()>,
    /// Handles for writing that are closed, and told when what they wrote has been reported.
    leaving: AtomicUsize,
}

impl Inode {
    pub(super) fn new(volume: Arc<Volume>, reply: OpenReply, write: bool) -> Arc<Self> {
        Self::with(volume, reply, write, false, None)
    }

    /// The data of a number, for who looks after its replicas; nobody else shares it.
    pub(super) async fn of_data(volume: Arc<Volume>, creds: &Creds, ino: u64) -> Result<Arc<Self>> {
        let head = volume.head(creds);
        let request = OpenRequest { head, ino, write: false, renew: true, append: false, exact: true };
        let reply = volume.session().open(&request).await?;
        Ok(Self::with(volume, reply, false, true, None))
    }

    fn with(
        volume: Arc<Volume>,
        reply: OpenReply,
        write: bool,
        exact: bool,
        early: Option<Arc<Early>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            volume,
            ino: reply.attr.ino,
            exact,
            early,
            room: Mutex::new(Room::new(reply.room)),
            credentials: RwLock::new(Arc::new(reply.credentials)),
            write: AtomicBool::new(write),
            size: Mutex::new(Size::new(&reply.attr)),
            data: tokio::sync::RwLock::new(()),
            buffer: Buffer::default(),
            errors: Errors::default(),
            reporting: tokio::sync::Mutex::new(()),
            renewing: tokio::sync::Mutex::new(()),
            filling: tokio::sync::RwLock::new(()),
            filled: Mutex::default(),
            folding: AtomicBool::new(false),
            locked: Locked::default(),
            appending: tokio::sync::Mutex::new(()),
            leaving: AtomicUsize::new(0),
        })
    }

    /// Takes over what a later open brought, unless it has fewer rights or was overtaken: what the file showed when it was
    /// answered may be frozen by now.
    pub(super) fn adopt(&self, reply: OpenReply, write: bool) {
        let overtaken = {
            let mut size = self.size.lock();
            size.learn(&reply.attr);
            size.shows().0 != reply.attr.layer
        };
        if write {
            let mark = self.room.lock().mark();
            self.granted(reply.room, mark);
        }
        let moved = reply.credentials.capability.ino != self.credentials().capability.ino;
        if write || !self.may_write() || moved {
            if !(overtaken && moved) {
                *self.credentials.write() = Arc::new(reply.credentials);
            }
            self.write.fetch_or(write, Ordering::AcqRel);
        }
    }

    /// Its number.
    #[must_use]
    pub fn ino(&self) -> u64 {
        self.ino
    }

    pub(crate) fn key(&self) -> Key {
        self.volume.key(self.ino)
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
            self.wrote(u64::MAX, end, false, false);
            self.report().await?;
        }
        Ok(())
    }

    /// Attributes that the MRC sent.
    pub(crate) fn learn(&self, attr: &Attr) {
        self.size.lock().learn(attr);
    }

    /// Whether what was written and not reported made the file longer.
    pub(crate) fn grows(&self) -> bool {
        self.size.lock().grows()
    }

    pub(super) fn learn_and_show(&self, attr: &mut Attr) {
        let change = attr.change;
        {
            let mut size = self.size.lock();
            size.learn(attr);
            size.newest(attr);
        }
        if attr.change != change {
            self.volume.leasing().show_names(self.key(), attr);
        }
    }

    /// Bytes from `offset` up to `end` are at the OSDs, and were `gathered` before or are written by a program now.
    pub(crate) fn wrote(self: &Arc<Self>, offset: u64, end: u64, gathered: bool, clear_setid: bool) {
        let became_dirty = {
            let mut size = self.size.lock();
            size.begins_at(offset);
            if gathered {
                size.landed(end, clear_setid)
            } else {
                size.wrote(end, self.volume.now(), clear_setid)
            }
        };
        self.dirty_if(became_dirty);
    }

    /// A hole was made: the content changed, its time must too. The size does not grow by it.
    pub(crate) fn punched(self: &Arc<Self>) {
        let became_dirty = {
            let mut size = self.size.lock();
            size.punched();
            size.wrote(0, self.volume.now(), false)
        };
        self.dirty_if(became_dirty);
    }

    /// Bytes that a write may allocate.
    pub(crate) fn may_allocate(&self, offset: u64, len: u64) -> u64 {
        self.size.lock().may_allocate(offset, len)
    }

    /// An answer of the MRC says what quotas leave; it knows of everything up to `mark`.
    fn granted(&self, room: Option<u64>, mark: u64) {
        if room.is_some() {
            self.volume.found_quota();
        }
        self.room.lock().granted(room, mark);
    }

    /// Reports what was written and asks for room for `want` bytes.
    pub(crate) async fn ask_room(self: &Arc<Self>, want: u64) -> Result<()> {
        self.report().await?;
        let truncate_epoch = self.size.lock().truncate_epoch();
        let (ino, head) = (self.ino, self.volume.head(&Creds::checked(0, 0)));
        let mark = self.room.lock().mark();
        let make = |origin| ReportWrite { head, origin, ino, truncate_epoch, want, ..ReportWrite::default() };
        let reply = self.volume.session().mutate_of_own::<WriteDone>(make).await?;
        self.granted(reply.room, mark);
        Ok(())
    }

    fn dirty_if(self: &Arc<Self>, became_dirty: bool) {
        if became_dirty {
            self.volume.mark_dirty(self.clone());
        }
    }

    /// Bytes from `offset` up to `end` wait in the buffer.
    pub(crate) fn gathered(self: &Arc<Self>, offset: u64, end: u64) {
        let first = self.size.lock().gathered(offset, end, self.volume.now());
        if first {
            // The background report writes the buffer out.
            self.volume.mark_dirty(self.clone());
        }
    }

    /// Whether the MRC, as far as known, takes the file to be shorter than this.
    pub(crate) fn is_beyond(&self, end: u64) -> bool {
        self.size.lock().is_beyond(end)
    }

    /// A write up to `end` is at the OSDs, and nobody has reported it; where it began, and whether it left a hole, nobody
    /// knows any more.
    pub(crate) fn reaches(self: &Arc<Self>, end: u64) {
        self.wrote(u64::MAX, end, false, false);
    }

    pub(crate) fn piece_begins(&self) {
        self.size.lock().piece_begins();
    }

    /// A piece waits for room from now on.
    pub(crate) fn piece_is_held(&self) {
        self.size.lock().piece_is_held();
    }

    pub(crate) fn piece_is_out(&self, held: bool) {
        self.size.lock().piece_is_out(held);
    }

    /// The MRC has set the time of the last write.
    pub(super) fn mtime_set(&self, attr: &Attr) {
        self.size.lock().mtime_set(attr.mtime);
    }

    pub(crate) fn is_gathering(&self) -> bool {
        self.size.lock().is_gathering()
    }

    /// Writes out what was gathered and tells the MRC what was written, if anything.
    pub async fn report(self: &Arc<Self>) -> Result<()> {
        self.flush_buffer().await;
        self.report_written().await?;
        self.report_holes().await
    }

    /// Like [`Inode::report`] while the file stays in use: does not ask the OSDs what is allocated.
    pub(crate) async fn report_meanwhile(self: &Arc<Self>) -> Result<()> {
        self.flush_buffer().await;
        self.report_written().await?;
        // Under a quota what is not really allocated must not be counted for long.
        let limited = self.room.lock().is_limited();
        if limited { self.report_holes().await } else { Ok(()) }
    }

    /// Tells the MRC what is allocated when writing left or filled holes. What was written is reported already.
    async fn report_holes(self: &Arc<Self>) -> Result<()> {
        if !self.size.lock().take_holes_changed() {
            return Ok(());
        }
        let told = self.tell_blocks().await;
        if told.is_err() {
            self.size.lock().punched();
        }
        told
    }

    async fn tell_blocks(self: &Arc<Self>) -> Result<()> {
        let truncate_epoch = self.size.lock().truncate_epoch();
        let mark = self.room.lock().mark();
        let blocks = Some(self.allocated_at_osds().await? / 512);
        let (ino, head) = (self.ino, self.volume.head(&Creds::checked(0, 0)));
        let make =
            |origin| ReportWrite { head, origin, ino, truncate_epoch, blocks, ..ReportWrite::default() };
        let mut changing = self.volume.leasing().change(self.volume.id(), vec![(ino, None)]);
        match self.volume.session().mutate_of_own::<WriteDone>(make).await {
            Ok(reply) => {
                changing.done(&reply.leases, &[&reply.attr], &[]);
                self.granted(reply.room, mark);
                self.size.lock().learn(&reply.attr);
                // The kernel did not ask for this change.
                self.volume.kernel().forget_attr(ino);
                Ok(())
            }
            Err(error) if matches!(error.code, Code::NotFound | Code::Stale) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn report_written(&self) -> Result<()> {
        if !self.size.lock().is_dirty() {
            return Ok(());
        }
        let _one = self.reporting.lock().await;
        self.give_up_kept_of_another_epoch();
        let mark = self.room.lock().mark();
        let (what, kept, truncate_epoch) = {
            let mut size = self.size.lock();
            (size.report(), size.report_kept(), size.truncate_epoch())
        };
        if what.is_none() && kept.is_none() {
            return Ok(());
        }
        let (ino, head) = (self.ino, self.volume.head(&Creds::checked(0, 0)));
        let make = |origin| ReportWrite {
            head,
            origin,
            ino,
            size: what.map_or(0, |what| what.end),
            truncate_epoch: what.map_or(truncate_epoch, |what| what.truncate_epoch),
            mtime: what.map(|what| what.mtime),
            blocks: None,
            clear_setid: what.is_some_and(|what| what.clear_setid),
            want: 0,
            kept,
        };
        let reporting = NotReported { inode: self, armed: true };
        let mut changing = self.volume.leasing().change(self.volume.id(), vec![(ino, None)]);
        let session = self.volume.session();
        // It is there: what was written has landed. And the answer tells of all its names.
        let leasing = self.volume.leasing();
        let ours = leasing.bits(self.key()) & LEASE_WRITE != 0
            && self.is_confirmed()
            && !leasing.is_untold(self.key());
        let answer = match ours {
            true => session.mutate_ahead::<WriteDone>(make).await,
            false => session.mutate_of_own::<WriteDone>(make).await,
        };
        match answer {
            Ok(reply) => {
                changing.done(&reply.leases, &[&reply.attr], &[]);
                reporting.disarm();
                self.granted(reply.room, mark);
                // The MRC took it only if the session was the same still.
                self.give_up_kept_of_another_epoch();
                self.buffer.told(&self.size, &reply.attr, kept.is_some());
                Ok(())
            }
            // The file is gone: there is nothing left to report.
            Err(error) if matches!(error.code, Code::NotFound | Code::Stale) => {
                reporting.disarm();
                self.size.lock().forget_unreported();
                self.forget_mark();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Sets the size (and whatever else `changes` says). Writers wait meanwhile.
    pub(crate) async fn resize(self: &Arc<Self>, creds: &Creds, size: u64, changes: Changes) -> Result<Attr> {
        let _using = self.take_lease(Use::Write, 0, 0).await?;
        let _alone = self.data.write().await;
        self.resize_alone(creds, size, changes).await
    }

    /// Makes the file at least `size` bytes long.
    pub(crate) async fn grow(self: &Arc<Self>, creds: &Creds, size: u64) -> Result<()> {
        let using = self.take_lease(Use::Write, 0, 0).await?;
        let _alone = self.data.write().await;
        self.flush_buffer_alone().await;
        let known = if using.is_held() { self.size() } else { self.known_or_asked_size(creds).await? };
        if known < size {
            self.resize_alone(creds, size, Changes::default()).await?;
        }
        Ok(())
    }

    /// For callers that hold the lease and `data` alone.
    async fn resize_alone(self: &Arc<Self>, creds: &Creds, size: u64, changes: Changes) -> Result<Attr> {
        self.flush_buffer_alone().await;
        self.give_up_behind(size).await?;
        self.report_written().await?;
        let mut blocks = None;
        if size < self.known_or_asked_size(creds).await?.max(1) {
            self.cut(size).await?;
            if size > 0 && self.size.lock().has_holes() {
                blocks = Some(self.allocated_at_osds().await? / 512);
            }
        } else {
            // What was written before is counted before the hole at the end comes.
            self.report_holes().await?;
        }
        let changes = Changes { size: Some(size), ..changes };
        let attr = self.volume.setattr_raw(creds, self.ino, changes, blocks).await?;
        self.size.lock().truncated(&attr);
        self.forget_mark();
        Ok(attr)
    }

    /// The larger of what we know and what the MRC says now: others may have written more.
    async fn known_or_asked_size(&self, creds: &Creds) -> Result<u64> {
        let attr = self.volume.getattr(creds, self.ino).await?;
        Ok(attr.size.max(self.size()))
    }

    /// Cuts the objects at all OSDs.
    async fn cut(self: &Arc<Self>, size: u64) -> Result<()> {
        self.confirmed().await?;
        self.leave_the_mrc().await?;
        let layout = self.credentials().layout.clone();
        let stripe = u64::from(layout.stripe_bytes.max(1));
        let object = size / stripe;
        let keep = u32::try_from(size % stripe).expect("less than a stripe");
        let cuts = (0..layout.columns.len()).map(|column| {
            let make = move |ticket: &Ticket<'_>| osd::TruncateRequest { head: ticket.head(object), keep };
            self.call_column::<osd::Truncate>(column, make, Bytes::new())
        });
        futures::future::try_join_all(cuts).await.map(|_| ())
    }

    /// Calls the OSD of an object until it answers or patience ends.
    pub(crate) async fn call_object<M: Method>(
        &self,
        object: ObjectNo,
        make: impl Fn(&Ticket<'_>) -> M::Request,
        payload: Bytes,
    ) -> Result<(M::Reply, Bytes)> {
        self.call_object_of::<M>(TOP, object, make, payload).await
    }

    /// The same of other data of the file: its number, or [`TOP`].
    pub(crate) async fn call_object_of<M: Method>(
        &self,
        data: u64,
        object: ObjectNo,
        make: impl Fn(&Ticket<'_>) -> M::Request,
        payload: Bytes,
    ) -> Result<(M::Reply, Bytes)> {
        self.confirmed().await?;
        let credentials = self.credentials();
        let columns = &self.right_to(&credentials, data)?.1.columns;
        if columns.is_empty() {
            return Err(WireError::new(
                Code::NoSpace,
                format!("ino-{} has no OSDs: none was up when it was made; see `xtfs osd ls`", self.ino),
            ));
        }
        let column = usize::try_from(object.0 % columns.len() as u64).expect("less than a length");
        self.call_column_of::<M>(data, column, make, payload).await
    }

    /// Calls the first OSD of a column that is up until it answers or patience ends.
    pub(crate) async fn call_column<M: Method>(
        &self,
        column: usize,
        make: impl Fn(&Ticket<'_>) -> M::Request,
        payload: Bytes,
    ) -> Result<(M::Reply, Bytes)> {
        self.call_column_of::<M>(TOP, column, make, payload).await
    }

    /// The same of other data of the file: its number, or [`TOP`].
    pub(crate) async fn call_column_of<M: Method>(
        &self,
        data: u64,
        column: usize,
        make: impl Fn(&Ticket<'_>) -> M::Request,
        payload: Bytes,
    ) -> Result<(M::Reply, Bytes)> {
        let mut backoff = Backoff::with_data(self.volume.patience(), payload.len());
        let mut corrupt_once = false;
        let generation = self.volume.leasing().generation();
        let mut trail = Trail::new(self.volume.client().config().clock.monotonic());
        self.confirmed().await?;
        self.renew_in_time().await?;
        loop {
            let map = self.volume.osds().map();
            let credentials = self.credentials();
            let (capability, layout) = self.right_to(&credentials, data)?;
            let osds = layout.columns.get(column).map_or(&[][..], |column| &column.osds);
            let osd = map.primary(osds).ok_or_else(|| {
                WireError::new(Code::Internal, format!("a column of ino-{} has no OSD", self.ino))
            })?;
            let leasing = self.volume.leasing();
            let turn = if M::MUTATES { leasing.turn(self.key()) } else { None };
            let ticket = Ticket { capability, map_epoch: map.epoch, turn, layout, column };
            let request = make(&ticket);
            let doubt = turn.map(|_| Attempt::begins(leasing, self.key()));
            let attempt = self.volume.osds().call_once::<M>(osd, &map, &request, payload.clone());
            let result = if osds.len() > 1 {
                // Another OSD takes over when this one hangs: the map says so before the attempt's time is up.
                tokio::select! {
                    result = attempt => result,
                    () = self.volume.osds().deposed(osds, osd) => {
                        trail.deposed(osd);
                        continue;
                    }
                }
            } else {
                attempt.await
            };
            if let Some(doubt) = doubt {
                doubt.answered(result.as_ref().err());
            }
            let error = match result {
                Ok(answer) => {
                    trail.end::<M>(self.ino, self.volume.client().config().clock.monotonic());
                    return Ok(answer);
                }
                Err(error) => error,
            };
            trail.failed(osd, &error);
            match error.code {
                Code::CapabilityExpired | Code::OldView => {
                    let view = layout.view;
                    self.renew(&credentials).await?;
                    if M::MUTATES {
                        self.must_be_of(generation)?;
                    }
                    // A newer view is what was lacking: there is nothing to wait for. Views only grow, so this ends.
                    let renewed = self.credentials();
                    if self.right_to(&renewed, data).is_ok_and(|(_, layout)| layout.view > view) {
                        continue;
                    }
                }
                Code::Unavailable | Code::DeadlineExceeded | Code::OldEpoch => {
                    // Whoever finds out first that another OSD leads: nobody waits for the slower one.
                    tokio::select! {
                        () = self.volume.osds().suspect(osd, &map, &error) => {}
                        () = self.volume.osds().deposed(osds, osd), if osds.len() > 1 => continue,
                    }
                }
                Code::ReplicaDown => self.demote_down(capability.ino, layout.view, &credentials).await?,
                Code::Busy => {}
                Code::Superseded => {
                    self.must_be_of(generation)?;
                    if let Some(seen) = osd::Turn::of_hint(&error.hint) {
                        self.volume.leasing().outrun(self.key(), seen);
                    }
                    // Refused again only by what came later still.
                    continue;
                }
                // Damaged on the way there: the bytes that we hold are good.
                Code::Corrupt if M::MUTATES && !corrupt_once => corrupt_once = true,
                _ => return Err(error),
            }
            match backoff.failed(self.volume.client().config().clock.monotonic()) {
                Some(pause) => tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.volume.osds().deposed(osds, osd), if osds.len() > 1 => {}
                },
                None => return Err(self.out_of_patience::<M>(osd, &error)),
            }
        }
    }

    /// Refuses writing when all leases were lost since `generation`: others may have written meanwhile.
    pub(crate) fn must_be_of(&self, generation: u64) -> Result<()> {
        if self.volume.leasing().generation() == generation {
            return Ok(());
        }
        Err(WireError::new(
            Code::Io,
            format!(
                "ino-{} was being written when this client lost its session at the MRC (it did not answer in time); \
                 the write was not done",
                self.ino
            ),
        ))
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
}

impl Drop for Inode {
    fn drop(&mut self) {
        self.volume.forget_inode(self.ino);
        // The end of the process drops also what is not told yet: that is the successor's.
        if !self.is_unreported() {
            self.forget_mark();
        }
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
