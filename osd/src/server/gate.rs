//! Lets a fence wait for the requests that were admitted before it.
//!
//! Two generations: requests enter the current one; a fence opens the other and waits until the old one is empty.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex, Notify};

#[derive(Default)]
pub(super) struct Gate {
    current: AtomicUsize,
    inside: [AtomicUsize; 2],
    left: Notify,
    /// order: held over awaits, outermost.
    turning: Mutex<()>,
}

/// A request that is inside; dropping it lets it out.
pub(super) struct Passage<'a> {
    gate: &'a Gate,
    generation: usize,
}

impl Gate {
    /// Enters; must come before the request's admission is checked.
    pub(super) fn enter(&self) -> Passage<'_> {
        loop {
            let generation = self.current.load(Ordering::SeqCst);
            let passage = Passage { gate: self, generation };
            self.inside[generation].fetch_add(1, Ordering::SeqCst);
            // Otherwise a fence may have counted before we entered.
            if self.current.load(Ordering::SeqCst) == generation {
                return passage;
            }
        }
    }

    /// Waits until everybody who is inside now has left.
    pub(super) async fn drain(&self) {
        let _turn = self.turning.lock().await;
        let old = self.current.load(Ordering::SeqCst);
        self.current.store(1 - old, Ordering::SeqCst);
        loop {
            let left = self.left.notified();
            if self.inside[old].load(Ordering::SeqCst) == 0 {
                return;
            }
            left.await;
        }
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        if self.gate.inside[self.generation].fetch_sub(1, Ordering::SeqCst) == 1 {
            self.gate.left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn waits_for_those_before_and_not_for_those_after() {
        let gate = Gate::default();
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            let before = gate.enter();
            let mut drain = pin!(gate.drain());
            assert!(drain.as_mut().poll(&mut context).is_pending());
            let _after = gate.enter();
            assert!(drain.as_mut().poll(&mut context).is_pending());
            drop(before);
            assert!(drain.as_mut().poll(&mut context).is_ready());
        }
    }
}
