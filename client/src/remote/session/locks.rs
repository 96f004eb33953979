//! Locks of this client's programs: asked for at the MRC, or decided here under the lease for it. See `docs/protocols/locks.md`;
//! decisions are in [`crate::engine::locks`].

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use proto::error::Code;
use proto::locks::UNLOCK;
use proto::mrc::{Head, HeldLock, LEASE_LOCKS, Lock, LockReply, LockRequest, TellLocks, TellLocksRequest};
use proto::rpc::Origin;

use super::Session;
use crate::engine::locks::{Decision, Key, LOCKS_PAUSE, Locks};
use crate::error::{Error, Result};
use crate::stage::Stage;
use crate::stage::locks::{Decided, Page};

/// With fewer free pages the idlest file is given up.
const PAGES_LOW: usize = 8;
/// Turns remembered; those that nobody holds go.
const TURNS_MAX: usize = 1024;

/// What a session knows of locks.
#[derive(Default)]
pub(super) struct Locking {
    /// order: before the engine of the leases and the pages of the stage.
    table: Mutex<Locks<Page>>,
    /// order: a leaf. Whoever asks the MRC about a file's locks, or tells it, does so one after the other.
    turns: Mutex<BTreeMap<Key, Weak<tokio::sync::Mutex<()>>>>,
    stage: OnceLock<Arc<Stage>>,
}

impl Locking {
    fn turn(&self, key: Key) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock();
        if turns.len() >= TURNS_MAX {
            turns.retain(|_, turn| turn.strong_count() > 0);
        }
        let known = turns.get(&key).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let turn = Arc::default();
            turns.insert(key, Arc::downgrade(&turn));
            turn
        })
    }
}

/// Somebody waits at the MRC.
struct Waiting<'a>(&'a Locking, Key);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.table.lock().wait_end(self.1);
    }
}

fn key_of(request: &LockRequest) -> Key {
    (request.head.volume, request.ino)
}

impl Session {
    /// Lists of locks outlive this process there: from now on some may be decided here.
    pub(crate) fn keep_locks_in(&self, stage: &Arc<Stage>) {
        // Of two the first stays, which is one as well.
        let _ = self.locking.stage.set(stage.clone());
    }

    /// Takes, frees or tests a lock. One attempt waits at most `wait_ms`; who wants to wait longer asks again.
    pub async fn lock(&self, request: &LockRequest) -> Result<LockReply> {
        let key = key_of(request);
        if request.wait_ms > 0 {
            return self.wait_for_lock(key, request).await;
        }
        if let Some(answer) = self.decide_lock(key, request) {
            return answer;
        }
        let turn = self.locking.turn(key);
        let _turn = turn.lock().await;
        if let Some(answer) = self.decide_lock(key, request) {
            return answer;
        }
        self.tell_locks(key).await?;
        self.ask_lock(key, request).await
    }

    fn wanted(&self, request: &LockRequest) -> HeldLock {
        let (start, end) = if request.flock { (0, u64::MAX) } else { (request.start, request.end) };
        let LockRequest { owner, kind, pid, flock, .. } = *request;
        HeldLock { session: self.id, owner, start, end, kind, pid, flock }
    }

    /// `None`: the MRC has to be asked.
    fn decide_lock(&self, key: Key, request: &LockRequest) -> Option<Result<LockReply>> {
        let wanted = self.wanted(request);
        if wanted.kind > UNLOCK || wanted.start > wanted.end {
            return None;
        }
        let reply = |kind, start, end, pid| LockReply { start, end, kind, pid, ..LockReply::default() };
        let now = self.clock.monotonic();
        let mut table = self.locking.table.lock();
        let may = self.leasing.bits(key) & LEASE_LOCKS != 0;
        match table.decide(key, &wanted, request.test, may, now) {
            Decision::There => None,
            Decision::Stopped(held) if request.test => {
                Some(Ok(reply(held.kind, held.start, held.end, held.pid)))
            }
            Decision::Stopped(held) => {
                let text = format!("ino-{} is locked by process {}", request.ino, held.pid);
                Some(Err(Error::new(Code::WouldBlock, text)))
            }
            Decision::Free if request.test => Some(Ok(reply(UNLOCK, request.start, request.end, 0))),
            Decision::Free => Some(Ok(reply(request.kind, request.start, request.end, request.pid))),
            Decision::Becomes(list) => {
                let (page, epoch) = table.page(key)?;
                let of = Decided { session: self.id, epoch, volume: key.0, ino: key.1 };
                if let Err(error) = page.write(&of, &list) {
                    tracing::debug!(ino = key.1, %error, "locks are the MRC's again");
                    return None;
                }
                table.commit(key, list);
                Some(Ok(reply(request.kind, request.start, request.end, request.pid)))
            }
        }
    }

    /// Whoever waits does so at the MRC, and until it does not any more nothing is decided here.
    async fn wait_for_lock(&self, key: Key, request: &LockRequest) -> Result<LockReply> {
        self.locking.table.lock().wait_begin(key);
        let _waiting = Waiting(&self.locking, key);
        let turn = self.locking.turn(key);
        let told = {
            let _turn = turn.lock().await;
            self.tell_locks(key).await
        };
        self.pause_locks(key);
        told?;
        // For the leader that dies meanwhile no gate is held: it may wait for as long as that stays.
        let wait = Duration::from_millis(request.wait_ms);
        self.creates().told().await;
        loop {
            let known = self.opened();
            match self.group.call_for::<Lock>(request, self.patience, wait).await.0 {
                Err(error) if error.code == Code::SessionUnknown => self.reopen_past(known).await?,
                Ok(reply) => {
                    if !request.test {
                        self.locking.table.lock().done(key, &self.wanted(request));
                    }
                    return Ok(reply);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn pause_locks(&self, key: Key) {
        self.locking.table.lock().pause(key, self.clock.monotonic() + LOCKS_PAUSE);
    }

    /// In its turn, while nothing is decided here.
    async fn ask_lock(&self, key: Key, request: &LockRequest) -> Result<LockReply> {
        self.creates().told().await;
        let mut page = self.page_for(key, request).await;
        let request = LockRequest { want: page.is_some(), ..request.clone() };
        loop {
            let gate = self.gate.read().await;
            let (known, epoch) = (self.opened(), self.epoch());
            let asked = self.leasing.ask();
            let (result, _) = self.group.call_for::<Lock>(&request, self.patience, Duration::ZERO).await;
            if let Ok(reply) = &result
                && !request.test
            {
                asked.learn(key.0, &reply.leases, []);
                self.locking.table.lock().done(key, &self.wanted(&request));
                if let Some(page) = page.take() {
                    self.take_over_locks(key, reply, page, epoch);
                }
            }
            drop(asked);
            drop(gate);
            match result {
                Err(error) if error.code == Code::SessionUnknown => self.reopen_past(known).await?,
                other => return other,
            }
        }
    }

    /// Where the list would be, if it is wanted to decide here.
    async fn page_for(&self, key: Key, request: &LockRequest) -> Option<Page> {
        let stage = self.locking.stage.get()?;
        let takes = !request.test && request.kind != UNLOCK;
        let now = self.clock.monotonic();
        if !takes || !self.leasing.is_on() || !self.locking.table.lock().is_wanted(key, now) {
            return None;
        }
        if stage.free_pages() < PAGES_LOW {
            let idle = self.locking.table.lock().idlest();
            // Not its turn: somebody uses it.
            if let Some(idle) = idle
                && let Ok(_turn) = self.locking.turn(idle).try_lock_owned()
                && let Err(error) = self.tell_locks(idle).await
            {
                tracing::debug!(ino = idle.1, %error, "locks of an idle file could not be told");
            }
        }
        stage.take_page()
    }

    /// The answer may have brought the right to decide.
    fn take_over_locks(&self, key: Key, reply: &LockReply, mut page: Page, epoch: u64) {
        let mut table = self.locking.table.lock();
        let given = reply.leases.iter().any(|grant| grant.bits & LEASE_LOCKS != 0);
        // A recall may have overtaken the answer.
        if !given || self.leasing.bits(key) & LEASE_LOCKS == 0 {
            return;
        }
        let of = Decided { session: self.id, epoch, volume: key.0, ino: key.1 };
        match page.write(&of, &reply.held) {
            Ok(()) => table.take_over(key, reply.held.clone(), page, epoch, self.clock.monotonic()),
            Err(error) => tracing::debug!(ino = key.1, %error, "locks stay the MRC's"),
        }
    }

    /// Somebody else wants the right to decide.
    pub(crate) async fn give_up_locks(&self, key: Key) -> Result<()> {
        let turn = self.locking.turn(key);
        let _turn = turn.lock().await;
        self.pause_locks(key);
        self.tell_locks(key).await
    }

    /// In its turn: the MRC hears what was decided here, and decides from now on.
    async fn tell_locks(&self, key: Key) -> Result<()> {
        let Some(untold) = self.locking.table.lock().leave(key) else { return Ok(()) };
        if untold.same {
            self.locks_left(key, untold.locks);
            return Ok(());
        }
        let answering = self.own_number().await;
        let request = self.telling(key, untold.epoch, &untold.locks, answering.numbered.origin);
        loop {
            let gate = self.gate.read().await;
            let known = self.opened();
            let (result, _) = self.group.call_for::<TellLocks>(&request, self.patience, Duration::ZERO).await;
            match result {
                Ok(_) => self.locks_left(key, untold.locks),
                // The session was expelled since, or another leader hears of it first.
                Err(error) if matches!(error.code, Code::CapabilityExpired | Code::WouldBlock) => {
                    self.retake_locks(key).await?;
                }
                Err(error) if matches!(error.code, Code::NotFound | Code::Stale) => {
                    self.locks_left(key, Vec::new());
                }
                Err(error) if error.code == Code::SessionUnknown => {
                    drop(gate);
                    self.reopen_past(known).await?;
                    // That may have told it.
                    if self.locking.table.lock().leave(key).is_none() {
                        return Ok(());
                    }
                    continue;
                }
                Err(error) => {
                    self.locking.table.lock().stay(key);
                    return Err(error);
                }
            }
            return Ok(());
        }
    }

    fn telling(&self, key: Key, epoch: u64, locks: &[HeldLock], origin: Origin) -> TellLocksRequest {
        let head = Head { volume: key.0, session: self.id, ..Head::default() };
        TellLocksRequest { head, origin, ino: key.1, epoch, locks: locks.to_vec() }
    }

    fn locks_left(&self, key: Key, locks: Vec<HeldLock>) {
        if let Some(page) = self.locking.table.lock().left(key, locks) {
            page.cross_out();
        }
    }

    /// Whether this client holds a lock of that owner on the file.
    #[must_use]
    pub fn holds_lock(&self, volume: u64, ino: u64, owner: u64, flock: bool) -> bool {
        self.locking.table.lock().holds((volume, ino), owner, flock)
    }

    /// A leader that does not know this session is told its locks, and what was decided without the right to do so any more.
    /// The gate is held.
    pub(super) async fn replay_locks(&self, to_new_leader: bool) -> Result<()> {
        let all: Vec<(Key, bool)> = self.locking.table.lock().all().collect();
        for (key, here) in all {
            if here && self.leasing.held_bits(key) & LEASE_LOCKS == 0 {
                self.retake_locks(key).await?;
            } else if !here && to_new_leader {
                self.repeat_locks(key).await;
            }
        }
        Ok(())
    }

    /// What the MRC decided once: it has the row still, unless it took this session for ended. An earlier process may have
    /// locks there of which this one does not know.
    async fn repeat_locks(&self, key: Key) {
        let locks = self.locking.table.lock().of(key);
        for lock in locks {
            let head = Head { volume: key.0, session: self.id, ..Head::default() };
            let HeldLock { owner, start, end, kind, pid, flock, .. } = lock;
            let ask = LockRequest {
                head,
                ino: key.1,
                owner,
                start,
                end,
                kind,
                pid,
                flock,
                ..LockRequest::default()
            };
            if let Err(error) = self.group.call::<Lock>(&ask).await {
                tracing::warn!(ino = key.1, %error, "a lock was lost in a change of leader");
            }
        }
    }

    /// The MRC is told the locks of a file that was decided here as if they were new; what others have taken meanwhile is lost. The gate is held.
    async fn retake_locks(&self, key: Key) -> Result<()> {
        let locks = self.locking.table.lock().of(key);
        let mut kept = Vec::new();
        match self.tell_now(key, &locks).await {
            Ok(()) => kept = locks,
            Err(error) if matches!(error.code, Code::NotFound | Code::Stale) => {}
            Err(error) if error.code == Code::WouldBlock => {
                self.tell_now(key, &[]).await?;
                for lock in locks {
                    let mut more = kept.clone();
                    more.push(lock);
                    match self.tell_now(key, &more).await {
                        Ok(()) => kept = more,
                        Err(error) if error.code == Code::WouldBlock => {
                            tracing::error!(ino = key.1, pid = lock.pid, %error, "a lock was lost: this client did not answer in time");
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
            // Expelled once more: the next opening comes here again.
            Err(error) if error.code == Code::CapabilityExpired => return Ok(()),
            Err(error) => return Err(error),
        }
        self.locks_left(key, kept);
        Ok(())
    }

    /// One attempt with the present epoch.
    async fn tell_now(&self, key: Key, locks: &[HeldLock]) -> Result<()> {
        let answering = self.own_number().await;
        let request = self.telling(key, self.epoch(), locks, answering.numbered.origin);
        self.group.call::<TellLocks>(&request).await.map(|_| ())
    }

    /// Tells what an earlier process of this session decided about a file.
    pub(crate) async fn tell_left(&self, of: &Decided, locks: &[HeldLock]) -> Result<()> {
        let tell = |origin| self.telling((of.volume, of.ino), of.epoch, locks, origin);
        self.mutate_ahead::<TellLocks>(tell).await.map(|_| ())
    }
}
