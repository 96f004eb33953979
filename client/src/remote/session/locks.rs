//! Locks that the session holds: told again to a leader that does not know them.

use std::time::Duration;

use proto::error::Code;
use proto::mrc::{Lock, LockReply, LockRequest};

use super::Session;
use crate::error::Result;

/// `F_UNLCK` of [`LockRequest::kind`].
const UNLOCK: u32 = 2;

impl Session {
    /// Takes, frees or tests a lock. One attempt waits at most `wait_ms`; who wants to wait longer asks again.
    pub async fn lock(&self, request: &LockRequest) -> Result<LockReply> {
        let wait = Duration::from_millis(request.wait_ms);
        self.creates().told().await;
        loop {
            // A waiting lock does not hold the gate: it may wait for as long as the leader stays.
            let gate = if request.wait_ms == 0 { Some(self.gate.read().await) } else { None };
            let known = self.opened();
            let (result, _) = self.group.call_for::<Lock>(request, self.patience, wait).await;
            if result.is_ok() && !request.test {
                self.remember_lock(request);
            }
            drop(gate);
            match result {
                Err(error) if error.code == Code::SessionUnknown => self.reopen_past(known).await?,
                other => return other,
            }
        }
    }

    /// Whether this client holds a lock of that owner on the file.
    #[must_use]
    pub fn holds_lock(&self, volume: u64, ino: u64, owner: u64, flock: bool) -> bool {
        self.locks.lock().contains_key(&(volume, ino, owner, flock))
    }

    fn remember_lock(&self, request: &LockRequest) {
        let key = (request.head.volume, request.ino, request.owner, request.flock);
        let mut locks = self.locks.lock();
        let held = locks.entry(key).or_default();
        // What lies inside the new range is superseded by it; so the list is bounded by distinct ranges.
        held.retain(|lock| lock.start < request.start || lock.end > request.end);
        if request.kind == UNLOCK && held.is_empty() {
            locks.remove(&key);
            return;
        }
        // Replayed in order at a new leader, the later ones win as they did the first time.
        held.push(LockRequest { wait_ms: 0, ..request.clone() });
    }

    pub(super) async fn replay_locks(&self) -> Result<()> {
        let held: Vec<LockRequest> = self.locks.lock().values().flatten().cloned().collect();
        for lock in held {
            if let Err(error) = self.group.call::<Lock>(&lock).await {
                tracing::warn!(ino = lock.ino, %error, "a lock was lost in a change of leader");
            }
        }
        Ok(())
    }
}
