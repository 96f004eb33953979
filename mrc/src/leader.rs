//! The leader's memory behind its locks: sessions, open files, waiting lock requests.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use proto::error::{Code, WireError};
use proto::limits::SESSION_TTL_MS;
use proto::locks::Owner;
use proto::mrc::kind;
use proto::rpc::Origin;
use rt::clock::Clock;
use tokio::sync::Notify;

use crate::engine::leases::Counts;
use crate::engine::sessions::{FileId, Sessions};
use crate::engine::waiting::{Refused, Waiting};
use crate::leasing::{Leasing, unknown_session};
use crate::machine::Leading;
use crate::namespace::entry::Entry;

/// See the module.
pub struct Leader {
    clock: Arc<dyn Clock>,
    /// order: before the locks of `leasing`, which are never held while another lock is taken.
    sessions: Mutex<Sessions>,
    /// order: never held while another lock is taken.
    waiting: Mutex<Waiting<Arc<Notify>>>,
    /// Term in which this member leads but has not yet read from the table whom it has to wait for; 0: none.
    unread_term: AtomicU64,
    /// Seed of the next placement.
    placements: AtomicU64,
    keeper: Notify,
    leasing: Arc<Leasing>,
    /// The newest index that the table shows.
    applied: AtomicU64,
    /// Rung after each batch.
    bell: Notify,
    /// Requests that wait for the bell.
    watchers: AtomicUsize,
    /// Files freed not long ago. order: never held while another lock is taken.
    freed: Mutex<Freed>,
}

/// Files whose objects were removed, the oldest first, and since when it is known of all.
#[derive(Default)]
struct Freed {
    since: Duration,
    order: VecDeque<(FileId, Duration)>,
}

/// Files remembered as freed; of older ones it is only known that they were freed before these.
const FREED_MAX: usize = 65_536;
/// Numbers of leases that a leader may give, as a power of two.
const NUMBERS_BITS: u32 = 40;

/// Most requests that wait for changes.
const WATCHERS_MAX: usize = 1024;

impl Leader {
    /// Nobody leads yet. `seed` differs between members, so that they do not place alike.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            leasing: Leasing::new(clock.clone()),
            clock,
            sessions: Mutex::new(Sessions::new(Duration::from_millis(SESSION_TTL_MS))),
            waiting: Mutex::default(),
            unread_term: AtomicU64::new(0),
            placements: AtomicU64::new(seed),
            keeper: Notify::new(),
            applied: AtomicU64::new(0),
            bell: Notify::new(),
            watchers: AtomicUsize::new(0),
            freed: Mutex::default(),
        })
    }

    /// Leases.
    pub(crate) fn leasing(&self) -> &Arc<Leasing> {
        &self.leasing
    }

    /// Sums over the leases, for metrics.
    #[must_use]
    pub fn lease_counts(&self) -> Counts {
        self.leasing.counts()
    }

    /// Sessions and open files.
    pub fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock()
    }

    /// The term whose sessions have to be read from the table before anything else, if any.
    pub(crate) fn unread_term(&self) -> Option<u64> {
        Some(self.unread_term.load(Ordering::Acquire)).filter(|term| *term != 0)
    }

    /// The table's sessions as of `term`: from here on this member leads.
    /// `true` marks the sessions that may hold leases.
    pub(crate) fn lead(&self, term: u64, member: u64, known: &[(u64, bool)]) {
        let mut sessions = self.sessions.lock();
        if self.unread_term.compare_exchange(term, 0, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return;
        }
        let started = u64::try_from(self.clock.unix().as_nanos()).unwrap_or(u64::MAX);
        *self.freed.lock() = Freed { since: self.clock.monotonic(), order: VecDeque::new() };
        let incarnation = (started ^ term.rotate_left(48) ^ member.rotate_left(56)).max(1);
        let leased = known.iter().filter(|(_, leases)| *leases).map(|(id, _)| *id);
        // By the term, not by a clock: OSDs compare numbers of different leaders.
        self.leasing.with(|engine, now| engine.lead(now, term << NUMBERS_BITS, leased));
        sessions.lead(self.clock.monotonic(), incarnation, known.iter().map(|(id, _)| *id));
        // The time that those who do not come back are waited for has begun.
        self.leasing.wake();
        drop(sessions);
        self.keeper.notify_one();
    }

    /// Whether some client may still have files open that this leader does not know of.
    pub fn in_grace(&self) -> bool {
        let now = self.clock.monotonic();
        self.sessions.lock().in_grace(now)
    }

    /// Refuses sessions that this leader does not know. Session 0 holds nothing and needs nothing.
    pub(crate) fn require_session(&self, id: u64) -> Result<(), WireError> {
        if id == 0 {
            return Ok(());
        }
        if self.sessions.lock().knows(id) {
            return match self.leasing.with(|engine, _| engine.is_expelled(id)) {
                true => Err(unknown_session(id)),
                false => Ok(()),
            };
        }
        Err(WireError::new(
            Code::SessionUnknown,
            format!("session {id:016x} is not known to this leader; open it again"),
        ))
    }

    /// Counts the handle that a `Create` gave.
    pub(crate) fn count_created(
        &self,
        id: u64,
        file: FileId,
        write: bool,
        origin: Origin,
    ) -> Result<(), WireError> {
        if id == 0 {
            return Ok(());
        }
        self.sessions.lock().open_created(id, file, write, origin.sequence, origin.acked_below)
    }

    /// When nobody has the file behind `entry` open: a guard that keeps it so while the command is under way.
    pub(crate) fn begin_free(self: &Arc<Self>, volume: u64, entry: Option<Entry>) -> Option<Freeing> {
        let file = (volume, entry.filter(|entry| entry.kind == kind::FILE)?.ino);
        let now = self.clock.monotonic();
        let begun = self.sessions.lock().begin_free(now, file);
        begun.then(|| Freeing { leader: self.clone(), file })
    }

    /// When nobody without leases has the file open: a guard that keeps it so while the command is under way.
    pub(crate) fn begin_closed(self: &Arc<Self>, file: FileId) -> Result<Freeing, WireError> {
        let now = self.clock.monotonic();
        let takes_part = |id| self.leasing.with(|engine, _| engine.takes_part(id));
        if self.sessions.lock().begin_closed(now, file, takes_part) {
            return Ok(Freeing { leader: self.clone(), file });
        }
        Err(WireError::new(
            Code::WouldBlock,
            format!(
                "ino-{} is open at a client that takes no leases, or may be (a new leader does not know yet)",
                file.1
            ),
        ))
    }

    /// A rename is about to put another file in the place of the one behind `entry`.
    pub(crate) fn replaces(&self, volume: u64, entry: Option<Entry>) {
        if let Some(entry) = entry.filter(|entry| entry.kind == kind::FILE) {
            let now = self.clock.monotonic();
            self.sessions.lock().replaces(now, (volume, entry.ino));
        }
    }

    /// A file without a name is about to be made in `volume`, with number `floor` or a higher one: a guard that keeps it
    /// from being collected until its handle is counted.
    pub(crate) fn begin_nameless(self: &Arc<Self>, volume: u64, floor: u64) -> Nameless {
        self.sessions.lock().begin_nameless((volume, floor));
        Nameless { leader: self.clone(), floor: (volume, floor) }
    }

    /// The objects of a file were removed just now.
    pub(crate) fn remember_freed(&self, file: FileId) {
        let now = self.clock.monotonic();
        let mut freed = self.freed.lock();
        if freed.order.len() >= FREED_MAX
            && let Some((_, at)) = freed.order.pop_front()
        {
            freed.since = at;
        }
        freed.order.push_back((file, now));
    }

    /// Whether a file that does not exist was freed at least this long ago, as far as this leader knows.
    pub(crate) fn was_freed_before(&self, file: FileId, age: Duration) -> bool {
        let Some(limit) = self.clock.monotonic().checked_sub(age) else { return false };
        let freed = self.freed.lock();
        match freed.order.iter().rev().find(|(known, _)| *known == file) {
            Some((_, at)) => *at <= limit,
            None => freed.since <= limit,
        }
    }

    /// The next placement's seed.
    pub(crate) fn next_placement(&self) -> u64 {
        self.placements.fetch_add(1, Ordering::Relaxed)
    }

    /// Enters the queue for a file's locks.
    pub(crate) fn wait_for(
        self: &Arc<Self>,
        file: FileId,
        owner: Owner,
        fcntl: bool,
        blockers: BTreeSet<Owner>,
        wake: Arc<Notify>,
    ) -> Result<Waiter, Refused> {
        let number = self.waiting.lock().enter(file, owner, fcntl, blockers, wake.clone())?;
        Ok(Waiter { leader: self.clone(), number, wake })
    }

    /// Requests that wait for locks, for status pages.
    pub fn waiting_requests(&self) -> usize {
        self.waiting.lock().all().count()
    }

    /// Locks of a file changed.
    pub(crate) fn wake_waiters(&self, file: FileId) {
        for wake in self.waiting.lock().of_file(file) {
            wake.notify_one();
        }
    }

    /// Locks of any file may have changed.
    pub(crate) fn wake_all_waiters(&self) {
        for wake in self.waiting.lock().all() {
            wake.notify_one();
        }
    }

    /// The newest index that was applied since this member started; 0: none yet.
    pub(crate) fn applied_index(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// A place among those who wait for changes; freed when dropped.
    pub(crate) fn begin_watch(self: &Arc<Self>) -> Result<Watcher, WireError> {
        if self.watchers.fetch_add(1, Ordering::AcqRel) >= WATCHERS_MAX {
            self.watchers.fetch_sub(1, Ordering::AcqRel);
            let text = format!("{WATCHERS_MAX} readers wait for changes, the limit; try again later");
            return Err(WireError::new(Code::Busy, text));
        }
        Ok(Watcher { leader: self.clone() })
    }

    /// Until something after `index` is applied or leadership changes, at most this long.
    pub(crate) async fn applied_beyond(&self, index: u64, at_most: Duration) {
        let rung = self.bell.notified();
        tokio::pin!(rung);
        // Entered before looking: a batch in between is not missed.
        rung.as_mut().enable();
        if self.applied_index() > index {
            return;
        }
        // Out of patience is no error here: the caller looks at its clock.
        let _ = tokio::time::timeout(at_most, rung).await;
    }

    /// There may be orphans, dead sessions or dropped volumes.
    pub(crate) fn wake_keeper(&self) {
        self.keeper.notify_one();
    }

    /// Until someone has work for the keeper.
    pub(crate) async fn keeper_woken(&self) {
        self.keeper.notified().await;
    }
}

impl Leading for Leader {
    fn leadership(&self, leading: bool, term: u64) {
        {
            let mut sessions = self.sessions.lock();
            sessions.follow();
            self.leasing.follow();
            self.unread_term.store(if leading { term.max(1) } else { 0 }, Ordering::Release);
        }
        self.wake_all_waiters();
        self.keeper.notify_one();
        self.bell.notify_waiters();
    }

    fn applied(&self, index: u64) {
        self.applied.store(index, Ordering::Release);
        self.bell.notify_waiters();
    }
}

/// See [`Leader::begin_watch`].
pub(crate) struct Watcher {
    leader: Arc<Leader>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.leader.watchers.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Nobody may open the file while this lives.
pub(crate) struct Freeing {
    leader: Arc<Leader>,
    file: FileId,
}

impl Freeing {
    pub(crate) fn ino(&self) -> u64 {
        self.file.1
    }
}

impl Drop for Freeing {
    fn drop(&mut self) {
        self.leader.sessions.lock().freed(self.file);
    }
}

/// See [`Leader::begin_nameless`].
pub(crate) struct Nameless {
    leader: Arc<Leader>,
    floor: FileId,
}

impl Drop for Nameless {
    fn drop(&mut self) {
        self.leader.sessions.lock().end_nameless(self.floor);
        // It may have held the reaper off from others.
        self.leader.wake_keeper();
    }
}

/// A place in the queue for a lock; leaves when dropped.
pub(crate) struct Waiter {
    leader: Arc<Leader>,
    number: u64,
    wake: Arc<Notify>,
}

impl Waiter {
    /// Until woken, at most this long.
    pub(crate) async fn wait(&self, at_most: Duration) {
        // Out of patience is no error here: the caller looks at the locks and its clock again.
        let _ = tokio::time::timeout(at_most, self.wake.notified()).await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.leader.waiting.lock().leave(self.number);
    }
}
