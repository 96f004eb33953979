//! This client's session with one metadata group: what it has open, which locks it holds, and the numbers that make
//! mutations safe to repeat.
//!
//! The leader keeps open files and locks in memory. When it changes (`incarnation`) or forgot the session
//! (`SessionUnknown`), everything is told again before anything else goes on.

mod locks;
mod telling;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use proto::error::{Code, WireError};
use proto::limits::LEASE_RENEW_MS;
use proto::mrc::{
    CloseMany, CloseRequest, Open, OpenFile, OpenReply, OpenRequest, OpenSession, RenewSession, SessionClose,
    SessionOpen, SessionRenew, SessionReply,
};
use proto::rpc::{Method, Origin};
use rt::clock::Clock;
use tokio::sync::{Notify, RwLock};

use super::Group;
use super::closes::{self, Closes};
use crate::config::Patience;
use crate::creates::{self, Numbered, Waiting};
use crate::engine::backoff::Backoff;
use crate::engine::forced::Forced;
use crate::engine::kernel::KernelNumbers;
use crate::engine::sequence::Sequence;
use crate::engine::together;
use crate::error::Result;
use crate::lease::Leasing;
pub(crate) use telling::Telling;

/// Handles of one file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Handles {
    reading: u32,
    writing: u32,
    /// Opened here under a lease; the leader has not heard of them.
    untold_reading: u32,
    untold_writing: u32,
}

impl Handles {
    /// The leader hears of all: how many it did not know, reading and writing.
    fn tell(&mut self) -> (u32, u32) {
        let untold = (std::mem::take(&mut self.untold_reading), std::mem::take(&mut self.untold_writing));
        self.reading += untold.0;
        self.writing += untold.1;
        untold
    }
}

/// Before the first answer of a leader.
const EPOCH_UNKNOWN: u64 = u64::MAX;

/// How long the end of a session waits for requests that hold off an opening.
const ENDING: Duration = Duration::from_millis(500);

/// A session with one metadata group.
pub struct Session {
    id: u64,
    name: String,
    clock: Arc<dyn Clock>,
    patience: Patience,
    group: Arc<Group>,
    leasing: Arc<Leasing>,
    incarnation: AtomicU64,
    /// The fencing epoch that the leader said last.
    epoch: AtomicU64,
    /// Number of the last opening.
    opening: AtomicU64,
    /// The leader that the next opening is meant for; 0: any.
    meant_for: AtomicU64,
    /// Openings begun, and the last one of them that the leader took.
    openings: AtomicU64,
    opened: AtomicU64,
    /// order: a leaf.
    sequence: Mutex<Sequence>,
    /// order: a leaf.
    kernel: Mutex<KernelNumbers>,
    /// order: a leaf.
    open: Mutex<BTreeMap<(u64, u64), Handles>>,
    locking: locks::Locking,
    /// Readers change the leader's view of open files and locks; the writer tells it anew.
    gate: RwLock<()>,
    ended: Notify,
    closes: Arc<Closes>,
    /// order: before `open`.
    told: Mutex<telling::Told>,
    /// It was ended on purpose: nothing opens it again.
    over: AtomicBool,
    /// order: a leaf.
    forced: Mutex<Forced>,
}

tokio::task_local! {
    /// The kernel's request that the current task works for.
    static REQUEST: KernelRequest;
}

/// Numbers the mutations of one request of the kernel.
pub struct KernelRequest {
    unique: u64,
    next: AtomicU64,
}

/// Runs `work` for the kernel's request `unique`: its mutations are numbered after it.
pub fn for_kernel<F: Future>(unique: u64, work: F) -> impl Future<Output = F::Output> {
    REQUEST.scope(KernelRequest { unique, next: AtomicU64::new(0) }, work)
}

/// A mutation's number; the answer has arrived when this is dropped.
struct Answering<'a> {
    session: &'a Session,
    numbered: Numbered,
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        // Answered or given up: it may have been made.
        self.session.forced.lock().changed();
        let Numbered { origin, kernel } = self.numbered;
        if kernel {
            self.session.kernel.lock().end(origin.sequence);
        } else {
            self.session.sequence.lock().end(origin.sequence);
            self.session.ended.notify_waiters();
        }
    }
}

impl Session {
    /// A session with this id (random, not 0); the group hears of it at [`Session::reopen`].
    /// `own_numbers` is another random id, for mutations that no kernel asked for.
    pub fn new(
        id: u64,
        own_numbers: u64,
        name: String,
        group: Arc<Group>,
        clock: Arc<dyn Clock>,
        patience: Patience,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            name,
            patience,
            group,
            leasing: Leasing::new(clock.clone()),
            incarnation: AtomicU64::new(0),
            epoch: AtomicU64::new(EPOCH_UNKNOWN),
            opening: AtomicU64::new(0),
            meant_for: AtomicU64::new(0),
            openings: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            sequence: Mutex::new(Sequence::new(own_numbers)),
            kernel: Mutex::new(KernelNumbers::new(id)),
            clock,
            open: Mutex::new(BTreeMap::new()),
            locking: locks::Locking::default(),
            gate: RwLock::new(()),
            ended: Notify::new(),
            over: AtomicBool::new(false),
            closes: Arc::default(),
            told: Mutex::default(),
            forced: Mutex::default(),
        })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The group it is with.
    #[must_use]
    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// What it may keep.
    #[must_use]
    pub fn leasing(&self) -> &Arc<Leasing> {
        &self.leasing
    }

    /// The leader's incarnation as last heard of.
    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::Acquire)
    }

    /// The fencing epoch as last heard of.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// An earlier process heard of this epoch: what it did counts only when no other one has begun since.
    pub(crate) fn had_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Release);
    }

    /// What was made and not told.
    pub(crate) fn creates(&self) -> &Arc<Waiting> {
        self.leasing.creates()
    }

    /// A number for a mutation that is told later; `None`: there is none at this moment.
    pub(crate) fn number_now(&self) -> Option<Numbered> {
        if let Some(origin) = self.kernel_number() {
            return Some(Numbered { origin, kernel: true });
        }
        let origin = self.sequence.lock().begin()?;
        Some(Numbered { origin, kernel: false })
    }

    /// It was told, or is lost.
    pub(crate) fn number_is_over(&self, numbered: Numbered) {
        drop(Answering { session: self, numbered });
    }

    /// A call that changes nothing at the leader.
    pub async fn call<M: Method>(&self, request: &M::Request) -> Result<M::Reply> {
        self.call_for::<M>(request, Duration::ZERO).await
    }

    /// Likewise; the leader may take `extra` to answer.
    pub(crate) async fn call_for<M: Method>(
        &self,
        request: &M::Request,
        extra: Duration,
    ) -> Result<M::Reply> {
        self.creates().told().await;
        self.call_ahead::<M>(request, extra).await
    }

    /// Likewise, before the leader hears of files that were made earlier.
    pub(crate) async fn call_ahead<M: Method>(
        &self,
        request: &M::Request,
        extra: Duration,
    ) -> Result<M::Reply> {
        loop {
            let known = self.opened();
            match self.group.call_for::<M>(request, self.patience, extra).await.0 {
                Err(error) if error.code == Code::SessionUnknown => self.reopen_past(known).await?,
                other => return other,
            }
        }
    }

    /// What of its changes is on the media.
    pub(crate) fn forced(&self) -> &Mutex<Forced> {
        &self.forced
    }

    /// A mutation: `make` gets the origin, which stays the same however often it is sent.
    pub async fn mutate<M: Method>(&self, make: impl FnOnce(Origin) -> M::Request) -> Result<M::Reply> {
        let answering = self.number().await;
        self.call::<M>(&make(answering.numbered.origin)).await
    }

    /// A mutation that the client makes for itself, also while it works for a kernel's request: a successor of this process, to
    /// which the request is sent again, may not have to make it, and must number those of the request alike.
    pub(crate) async fn mutate_of_own<M: Method>(
        &self,
        make: impl FnOnce(Origin) -> M::Request,
    ) -> Result<M::Reply> {
        let answering = self.own_number().await;
        self.call::<M>(&make(answering.numbered.origin)).await
    }

    /// Likewise about a file of which nobody else can see anything before this session has returned its lease: it is not
    /// held up by files that were made earlier, and does not hurry them.
    pub(crate) async fn mutate_ahead<M: Method>(
        &self,
        make: impl FnOnce(Origin) -> M::Request,
    ) -> Result<M::Reply> {
        let answering = self.own_number().await;
        self.call_ahead::<M>(&make(answering.numbered.origin), Duration::ZERO).await
    }

    async fn number(&self) -> Answering<'_> {
        match self.kernel_number() {
            Some(origin) => Answering { session: self, numbered: Numbered { origin, kernel: true } },
            None => self.own_number().await,
        }
    }

    fn kernel_number(&self) -> Option<Origin> {
        let next = |request: &KernelRequest| (request.unique, request.next.fetch_add(1, Ordering::Relaxed));
        let (unique, step) = REQUEST.try_with(next).ok()?;
        Some(self.kernel.lock().begin(unique, step, self.clock.monotonic()))
    }

    async fn own_number(&self) -> Answering<'_> {
        let numbered = |origin| Answering { session: self, numbered: Numbered { origin, kernel: false } };
        loop {
            if let Some(origin) = self.sequence.lock().begin() {
                return numbered(origin);
            }
            let ended = self.ended.notified();
            // Checked again after registering, so that an end in between is not missed.
            if let Some(origin) = self.sequence.lock().begin() {
                return numbered(origin);
            }
            ended.await;
        }
    }

    /// A mutation that also opens a file (create).
    pub async fn mutate_open<M: Method<Reply = OpenReply>>(
        &self,
        volume: u64,
        writing: bool,
        make: impl FnOnce(Origin) -> M::Request,
    ) -> Result<OpenReply> {
        let answering = self.number().await;
        let request = make(answering.numbered.origin);
        self.opening::<M>(volume, writing, &request).await
    }

    /// Opens a file and counts the handle; with `renew` only gets a fresh capability.
    pub async fn open(&self, request: &OpenRequest) -> Result<OpenReply> {
        if request.renew {
            return self.call::<Open>(request).await;
        }
        self.opening::<Open>(request.head.volume, request.write, request).await
    }

    async fn opening<M: Method<Reply = OpenReply>>(
        &self,
        volume: u64,
        writing: bool,
        request: &M::Request,
    ) -> Result<OpenReply> {
        self.creates().told().await;
        loop {
            let gate = self.gate.read().await;
            let known = self.opened();
            let (result, attempts) = self.group.call_for::<M>(request, self.patience, Duration::ZERO).await;
            if let Ok(reply) = &result {
                let mut open = self.open.lock();
                let handles = open.entry((volume, reply.attr.ino)).or_default();
                if writing { handles.writing += 1 } else { handles.reading += 1 }
            }
            drop(gate);
            match result {
                Err(error) if error.code == Code::SessionUnknown => self.reopen_past(known).await?,
                Ok(reply) => {
                    if attempts.uncertain {
                        // The leader may have counted the handle twice.
                        self.reopen().await?;
                    }
                    return Ok(reply);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Opens a file here, under a lease, without a call.
    pub(crate) fn open_untold(&self, volume: u64, ino: u64, writing: bool) {
        let mut open = self.open.lock();
        let handles = open.entry((volume, ino)).or_default();
        if writing { handles.untold_writing += 1 } else { handles.untold_reading += 1 }
    }

    /// Handles open here that may write.
    pub(crate) fn writers(&self, volume: u64, ino: u64) -> usize {
        let open = self.open.lock();
        open.get(&(volume, ino)).map_or(0, |handles| (handles.writing + handles.untold_writing) as usize)
    }

    /// Handles open here.
    pub(crate) fn handles(&self, key: (u64, u64)) -> usize {
        let open = self.open.lock();
        let all = |of: &Handles| of.reading + of.writing + of.untold_reading + of.untold_writing;
        open.get(&key).map_or(0, all) as usize
    }

    /// Closes a handle that the leader has not heard of. False when it has.
    fn close_untold(&self, request: &CloseRequest) -> bool {
        self.forget_untold((request.head.volume, request.ino), request.write)
    }

    /// Takes a handle back that the leader has not heard of. False when it has heard of all.
    pub(crate) fn forget_untold(&self, key: (u64, u64), writing: bool) -> bool {
        let mut open = self.open.lock();
        let Some(handles) = open.get_mut(&key) else { return false };
        let count = if writing { &mut handles.untold_writing } else { &mut handles.untold_reading };
        if *count == 0 {
            return false;
        }
        *count -= 1;
        if *handles == Handles::default() {
            open.remove(&key);
        }
        true
    }

    /// A handle that an earlier process of this mount opened is in use here: the leader knows it already.
    pub(crate) fn found_open(&self, volume: u64, ino: u64, writing: bool) {
        let mut open = self.open.lock();
        let handles = open.entry((volume, ino)).or_default();
        if writing { handles.writing += 1 } else { handles.reading += 1 }
    }

    /// Takes up the session of an earlier process; what the leader knows of it stays. False when it is over.
    pub(crate) async fn take_up(&self) -> Result<bool> {
        match self.group.call::<SessionRenew>(&RenewSession { session: self.id }).await {
            Ok(reply) => {
                self.incarnation.store(reply.incarnation, Ordering::Release);
                self.epoch.store(reply.session_epoch, Ordering::Release);
                Ok(true)
            }
            Err(error) if error.code == Code::SessionUnknown => self.reopen().await.map(|()| false),
            Err(error) => Err(error),
        }
    }

    /// Closes one handle.
    pub async fn close(&self, request: &CloseRequest) -> Result<()> {
        if self.close_untold(request) {
            return Ok(());
        }
        let gate = self.gate.read().await;
        self.forget(request);
        if self.told.lock().defer(request) {
            return Ok(());
        }
        let many = self.closes.add(request.clone());
        drop(gate);
        // Whoever has to know of it recalls the lease first, and hears of closes before it comes back.
        let leased = self.leasing.bits((request.head.volume, request.ino)) != 0;
        if many || !leased { self.tell_closes().await } else { Ok(()) }
    }

    /// The leader hears of handles that were closed.
    pub(crate) async fn tell_closes(&self) -> Result<()> {
        if self.closes.is_empty() {
            return Ok(());
        }
        let gate = self.gate.read().await;
        let mut told = Ok(());
        for request in self.closes.take() {
            let (result, attempts) =
                self.group.call_for::<CloseMany>(&request, self.patience, Duration::ZERO).await;
            match result {
                Ok(_) if !attempts.uncertain => {}
                // Perhaps it heard of them and perhaps not: it is told what is open.
                Ok(_) => told = Err(None),
                Err(error) => told = Err(Some(error)),
            }
        }
        drop(gate);
        let Err(why) = told else { return Ok(()) };
        let reopened = self.reopen().await;
        if reopened.is_err() {
            // The next renewal finds another incarnation and opens the session anew.
            self.incarnation.store(0, Ordering::Release);
        }
        match why {
            Some(error) if error.code != Code::SessionUnknown => Err(error),
            _ => reopened,
        }
    }

    /// Does `work`, which may take away a file's last name; closes that wait are told before: who holds a file no more
    /// must not keep it.
    pub(crate) async fn removing<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        if self.closes.is_empty() {
            return work.await;
        }
        // Both are sent at once, in this order.
        let (told, done) = futures::join!(self.tell_closes(), work);
        if let Err(error) = told {
            tracing::debug!(%error, "closes before a removal could not be told");
        }
        done
    }

    pub(super) fn closes(&self) -> Arc<Closes> {
        self.closes.clone()
    }

    fn forget(&self, request: &CloseRequest) {
        let key = (request.head.volume, request.ino);
        let mut open = self.open.lock();
        if let Some(handles) = open.get_mut(&key) {
            let count = if request.write { &mut handles.writing } else { &mut handles.reading };
            *count = count.saturating_sub(1);
            if *handles == Handles::default() {
                open.remove(&key);
            }
        }
    }

    /// The last opening that a leader took. What fails as `SessionUnknown` after it was asked for asks for a later one.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Acquire)
    }

    /// Tells the leader everything it should know of this client, as it is now.
    pub async fn reopen(&self) -> Result<()> {
        self.reopen_past(self.openings.load(Ordering::Acquire)).await
    }

    /// Opens the session unless an opening after the one with this number was taken: whatever was under way when a leader
    /// went hears so at once, and one opening is enough for all of it. Each tells of thousands of leases, and nothing is
    /// heard of recalls meanwhile.
    pub(crate) async fn reopen_past(&self, opening: u64) -> Result<()> {
        let _gate = self.gate.write().await;
        if self.opened() > opening {
            return Ok(());
        }
        if self.is_over() {
            let text = format!("session {:016x} of this client was ended; start the client again", self.id);
            return Err(WireError::new(Code::SessionUnknown, text));
        }
        let mut backoff = Backoff::new(self.patience);
        let (reply, start) = loop {
            let start = self.clock.monotonic();
            match self.try_open().await {
                Ok(reply) => break (reply, start),
                Err(error) => {
                    let pause = match error.code {
                        Code::Busy | Code::Unavailable | Code::DeadlineExceeded | Code::NotLeader => true,
                        Code::SessionUnknown => self.was_overtaken(&error.hint),
                        _ => false,
                    };
                    match backoff.failed(self.clock.monotonic()).filter(|_| pause) {
                        Some(pause) => tokio::time::sleep(pause).await,
                        None => {
                            self.leasing.told(false);
                            return Err(error);
                        }
                    }
                }
            }
        };
        self.opened.store(self.openings.load(Ordering::Acquire), Ordering::Release);
        // What is open was told without them.
        drop(self.closes.take());
        self.told.lock().forget_closes();
        self.meant_for.store(reply.incarnation, Ordering::Release);
        let before = self.incarnation.swap(reply.incarnation, Ordering::AcqRel);
        self.leasing.told(before != reply.incarnation);
        let lost = self.heard(&reply, start);
        self.leasing.opened(reply.number);
        let is_new = before != 0 && before != reply.incarnation;
        if is_new || lost {
            self.replay_locks(is_new).await?;
        }
        Ok(())
    }

    /// One attempt to open the session. Each tells what is so at its time and has a number of its own: one that arrives
    /// after a later one must not count.
    async fn try_open(&self) -> Result<SessionReply> {
        let known = self.epoch.load(Ordering::Acquire);
        let now = u64::try_from(self.clock.unix().as_nanos()).unwrap_or(u64::MAX);
        let opening = now.max(self.opening.load(Ordering::Acquire) + 1);
        self.opening.store(opening, Ordering::Release);
        self.openings.fetch_add(1, Ordering::AcqRel);
        // First the leases: a handle that is told with a return of before is among those that are open.
        let leases = self.leasing.to_tell(opening);
        let request = OpenSession {
            session: self.id,
            client: self.name.clone(),
            open_files: self.open_files(),
            leases,
            session_epoch: if known == EPOCH_UNKNOWN { 0 } else { known },
            opening,
            incarnation: self.meant_for.load(Ordering::Acquire),
        };
        self.group.call_for::<SessionOpen>(&request, Patience::For(Duration::ZERO), Duration::ZERO).await.0
    }

    /// The leader's incarnation and the highest opening that it knows: the next attempt is meant for it. False when
    /// the hint says nothing.
    fn was_overtaken(&self, hint: &str) -> bool {
        let numbers = hint.split_once(' ').and_then(|(incarnation, highest)| {
            Some((incarnation.parse::<u64>().ok()?, highest.parse::<u64>().ok()?))
        });
        let Some((incarnation, highest)) = numbers else { return false };
        self.meant_for.store(incarnation, Ordering::Release);
        self.opening.fetch_max(highest, Ordering::AcqRel);
        true
    }

    /// The leader knows the session: what that means for leases. True: all were lost.
    fn heard(&self, reply: &SessionReply, start: Duration) -> bool {
        self.group.set_addrs(reply.members.clone());
        let epoch = self.epoch.swap(reply.session_epoch, Ordering::AcqRel);
        let lost = epoch != EPOCH_UNKNOWN && epoch != reply.session_epoch;
        if lost {
            self.leasing.expelled();
            self.creates().lost(self);
        }
        self.leasing.renewed(start, reply.lease_ttl_ms);
        lost
    }

    fn open_files(&self) -> Vec<OpenFile> {
        let mut open = self.open.lock();
        open.values_mut().for_each(|handles| {
            handles.tell();
        });
        let entry = |(volume, ino), writing, count| OpenFile { volume, ino, writing, count };
        open.iter()
            .flat_map(|(key, handles)| {
                [entry(*key, false, handles.reading), entry(*key, true, handles.writing)]
            })
            .filter(|file| file.count > 0)
            .collect()
    }

    /// Keeps the session alive until nobody uses it any more.
    pub fn keep_alive(self: &Arc<Self>) {
        let session = Arc::downgrade(self);
        tokio::spawn(closes::keep_telling(session.clone()));
        tokio::spawn(creates::keep_telling(session.clone()));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(LEASE_RENEW_MS)).await;
                let Some(session) = session.upgrade().filter(|session| !session.is_over()) else { return };
                if let Err(error) = session.renew().await {
                    tracing::warn!(session = session.id, %error, "the session could not be renewed; trying again");
                }
            }
        });
    }

    /// One renewal.
    pub(crate) async fn renew(&self) -> Result<()> {
        let request = RenewSession { session: self.id };
        let patience = Patience::For(Duration::from_millis(LEASE_RENEW_MS));
        let (start, known) = (self.clock.monotonic(), self.opened());
        match self.group.call_for::<SessionRenew>(&request, patience, Duration::ZERO).await.0 {
            // Opened meanwhile: what was asked before says less than that, and its epoch may be an older one, under which nothing held now is known.
            Ok(_) if self.opened() != known => Ok(()),
            Ok(reply) if reply.incarnation == self.incarnation() => {
                if !self.heard(&reply, start) {
                    return Ok(());
                }
                let _gate = self.gate.write().await;
                self.replay_locks(false).await
            }
            Ok(_) => self.reopen_past(known).await,
            Err(error) if error.code == Code::SessionUnknown => self.reopen_past(known).await,
            Err(error) => Err(error),
        }
    }

    /// How long what was done here and answered gathers before the MRC is told.
    pub(crate) fn until_together(&self) -> Duration {
        together::until_next(self.clock.unix())
    }

    /// Whether it was ended on purpose.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Ends the session: the group closes what it had open and frees its locks.
    pub async fn end(&self) -> Result<()> {
        self.over.store(true, Ordering::Release);
        // An opening that is under way comes first: a row that nobody renews holds up the changes of others under a new leader.
        drop(tokio::time::timeout(ENDING, self.gate.write()).await);
        let patience = Patience::For(Duration::from_secs(2));
        let request = RenewSession { session: self.id };
        self.group.call_for::<SessionClose>(&request, patience, Duration::ZERO).await.0.map(|_| ())
    }
}

#[cfg(test)]
mod tests;
