//! Closed handles that the leader still has to hear of: told together, a moment later.
//!
//! Nobody waits for that: a handle that counts a moment longer only delays what waits for the last close.

use std::time::Duration;

use parking_lot::Mutex;
use proto::mrc::{CloseManyRequest, CloseRequest, ClosedHandle, Head};
use tokio::sync::Notify;

/// So many are told at once.
pub(super) const AT_ONCE: usize = 64;

/// See the module.
#[derive(Default)]
pub(super) struct Closes {
    /// order: a leaf. Bounded: who adds the last one that fits tells them.
    waiting: Mutex<Vec<CloseRequest>>,
    some: Notify,
}

impl Closes {
    /// Adds one; true when they should be told now.
    pub(super) fn add(&self, closed: CloseRequest) -> bool {
        let count = {
            let mut waiting = self.waiting.lock();
            waiting.push(closed);
            waiting.len()
        };
        if count == 1 {
            self.some.notify_one();
        }
        count >= AT_ONCE
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.lock().is_empty()
    }

    /// Until there are some.
    pub(super) async fn begun(&self) {
        self.some.notified().await;
    }

    /// All of them, one call per volume.
    pub(super) fn take(&self) -> Vec<CloseManyRequest> {
        let mut calls: Vec<CloseManyRequest> = Vec::new();
        for CloseRequest { head, ino, write } in std::mem::take(&mut *self.waiting.lock()) {
            let closed = ClosedHandle { ino, write };
            match calls.iter_mut().find(|call| call.head.volume == head.volume) {
                Some(call) => call.closed.push(closed),
                None => {
                    let head = Head { volume: head.volume, session: head.session, ..Head::default() };
                    calls.push(CloseManyRequest { head, closed: vec![closed] });
                }
            }
        }
        calls
    }
}

/// Something that tells the leader of closes.
pub(super) async fn keep_telling(session: std::sync::Weak<super::Session>) {
    loop {
        let Some(closes) = session.upgrade().map(|session| session.closes()) else { return };
        // A session that is gone has nothing to tell: the leader ends it with everything it had open.
        if tokio::time::timeout(IDLE, closes.begun()).await.is_err() {
            continue;
        }
        // Others may come too.
        let Some(until) = session.upgrade().map(|session| session.until_together()) else { return };
        tokio::time::sleep(until).await;
        let Some(session) = session.upgrade() else { return };
        if let Err(error) = session.tell_closes().await {
            tracing::warn!(%error, "closed handles could not be told; the session will be opened anew");
        }
    }
}

/// How often it is looked whether the session is still there.
const IDLE: Duration = Duration::from_secs(2);
