//! `fcntl` and `flock` locks.

use proto::mrc::{LockReply, LockRequest};

use super::door::Shared;
use super::kernel::operation::Lock;
use crate::config::Creds;
use crate::error::{Code, Error, Result};

/// One wait at the MRC; then it is asked again, so that a new leader hears of it.
const WAIT_MS: u64 = 10_000;
/// `F_UNLCK` on the wire.
const UNLOCK: u32 = 2;
/// The last byte of a whole-file lock (`OFFSET_MAX`).
const LAST_BYTE: u64 = i64::MAX as u64;

fn request(ino: u64, lock: &Lock) -> LockRequest {
    LockRequest {
        ino,
        owner: lock.owner,
        start: lock.start,
        end: lock.end,
        kind: wire_kind(lock.kind),
        pid: lock.pid,
        flock: lock.flock,
        ..LockRequest::default()
    }
}

fn wire_kind(kind: i32) -> u32 {
    match kind {
        libc::F_RDLCK => 0,
        libc::F_WRLCK => 1,
        _ => UNLOCK,
    }
}

/// The kernel's number of a lock kind.
pub(super) fn kernel_kind(kind: u32) -> i32 {
    match kind {
        0 => libc::F_RDLCK,
        1 => libc::F_WRLCK,
        _ => libc::F_UNLCK,
    }
}

impl Shared {
    pub(super) async fn test_lock(&self, creds: Creds, ino: u64, lock: Lock) -> Result<LockReply> {
        self.volume.lock(&creds, LockRequest { test: true, ..request(ino, &lock) }).await
    }

    /// Takes or frees a lock. With `wait` it waits until nothing is in the way, or a signal comes for the caller (of the
    /// kernel's request `unique`). Waiting takes nothing, so giving it up leaves nothing behind.
    pub(super) async fn set_lock(
        &self,
        creds: Creds,
        ino: u64,
        lock: Lock,
        wait: bool,
        unique: u64,
    ) -> Result<()> {
        let take = request(ino, &lock);
        if !lock.flock && take.kind != UNLOCK {
            self.handles.locks(ino, lock.handle, lock.owner);
        }
        let mut watch = None;
        loop {
            match self.volume.lock(&creds, take.clone()).await {
                Err(error) if error.code == Code::WouldBlock && wait => {}
                other => return other.map(|_| ()),
            }
            let watch = watch.get_or_insert_with(|| self.interrupts.watch(unique));
            let until_free = LockRequest { test: true, wait_ms: WAIT_MS, ..take.clone() };
            tokio::select! {
                biased;
                () = watch.interrupted() => {
                    return Err(Error::new(
                        Code::Cancelled,
                        format!("a signal ended the wait for a lock on ino-{ino}"),
                    ));
                }
                waited = self.volume.lock(&creds, until_free) => match waited {
                    Err(error) if error.code != Code::WouldBlock => return Err(error),
                    _ => {}
                }
            }
        }
    }

    /// Frees every lock of an owner, if it has any.
    pub(super) async fn unlock_all(&self, creds: &Creds, ino: u64, owner: u64, flock: bool) -> Result<()> {
        let earlier = self.resumed && !self.handles.is_made_here(ino);
        if !earlier && !self.volume.session().holds_lock(self.volume.id(), ino, owner, flock) {
            return Ok(());
        }
        let request = LockRequest {
            ino,
            owner,
            flock,
            kind: UNLOCK,
            start: 0,
            end: LAST_BYTE,
            ..LockRequest::default()
        };
        self.volume.lock(creds, request).await.map(|_| ())
    }
}
