//! `fcntl` and `flock` locks.

use proto::mrc::{LockReply, LockRequest};

use super::door::Shared;
use super::signals;
use crate::config::Creds;
use crate::error::{Code, Error, Result};

/// One question to the MRC waits at most so long; in between the waiting thread's signals are looked after.
const WAIT_MS: u64 = 500;
/// `F_UNLCK` on the wire.
const UNLOCK: u32 = 2;
/// The last byte of a whole-file lock (`OFFSET_MAX`).
const LAST_BYTE: u64 = i64::MAX as u64;

/// A lock as the kernel tells it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) ino: u64,
    pub(super) owner: u64,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) kind: i32,
    pub(super) pid: u32,
    pub(super) flock: bool,
    /// The thread that asks.
    pub(super) thread: u32,
}

impl Wanted {
    fn request(self) -> LockRequest {
        LockRequest {
            ino: self.ino,
            owner: self.owner,
            start: self.start,
            end: self.end,
            kind: wire_kind(self.kind),
            pid: self.pid,
            flock: self.flock,
            ..LockRequest::default()
        }
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
    pub(super) async fn test_lock(&self, creds: Creds, wanted: Wanted) -> Result<LockReply> {
        self.volume.lock(&creds, LockRequest { test: true, ..wanted.request() }).await
    }

    pub(super) async fn set_lock(&self, creds: Creds, wanted: Wanted, sleep: bool) -> Result<()> {
        let mut request = wanted.request();
        loop {
            match self.volume.lock(&creds, request.clone()).await {
                // The first question does not wait, so that a free lock is had at once.
                Err(error) if error.code == Code::WouldBlock && sleep => {
                    if signals::is_interrupted(wanted.thread) {
                        let why = format!("a signal ended the wait for a lock on ino-{}", wanted.ino);
                        return Err(Error::new(Code::Cancelled, why));
                    }
                    request.wait_ms = WAIT_MS;
                }
                other => return other.map(|_| ()),
            }
        }
    }

    /// Frees every lock of an owner, if it has any.
    pub(super) async fn unlock_all(&self, creds: &Creds, ino: u64, owner: u64, flock: bool) -> Result<()> {
        if !self.volume.session().holds_lock(self.volume.id(), ino, owner, flock) && !self.resumed {
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
