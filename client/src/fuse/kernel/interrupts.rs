//! Which waiting requests the kernel has interrupted. Only requests that wait are entered: one that is answered by the
//! thread that read it costs nothing here.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Interrupts kept for requests that another thread has read and not entered yet.
const EARLY_MAX: usize = 64;

/// The table of one mount.
#[derive(Default, Debug)]
pub(in crate::fuse) struct Interrupts {
    /// order: a leaf.
    table: Mutex<Table>,
}

#[derive(Default, Debug)]
struct Table {
    waiting: HashMap<u64, Arc<Flag>>,
    /// Of requests that are not waiting (yet, or any more), oldest first.
    early: VecDeque<u64>,
}

#[derive(Default, Debug)]
struct Flag {
    set: AtomicBool,
    changed: Notify,
}

/// One wait of a request; several may exist at the same time.
#[derive(Debug)]
pub(in crate::fuse) struct Watch {
    interrupts: Arc<Interrupts>,
    unique: u64,
    flag: Arc<Flag>,
}

impl Interrupts {
    /// Starts to look after a request that waits.
    pub(in crate::fuse) fn watch(self: &Arc<Self>, unique: u64) -> Watch {
        let mut table = self.table.lock();
        let flag = table.waiting.entry(unique).or_default().clone();
        if let Some(at) = table.early.iter().position(|early| *early == unique) {
            table.early.remove(at);
            flag.set.store(true, Ordering::Release);
        }
        Watch { interrupts: self.clone(), unique, flag }
    }

    /// The kernel says that a signal came for the caller of `unique`.
    pub(in crate::fuse) fn interrupt(&self, unique: u64) {
        let mut table = self.table.lock();
        if let Some(flag) = table.waiting.get(&unique) {
            flag.set.store(true, Ordering::Release);
            flag.changed.notify_waiters();
            return;
        }
        if table.early.len() == EARLY_MAX {
            table.early.pop_front();
        }
        table.early.push_back(unique);
    }
}

impl Watch {
    /// Ends when the request is interrupted, at once when it was.
    pub(in crate::fuse) async fn interrupted(&self) {
        loop {
            let changed = self.flag.changed.notified();
            tokio::pin!(changed);
            // Registered before the flag is read: an interrupt in between is not missed.
            changed.as_mut().enable();
            if self.flag.set.load(Ordering::Acquire) {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut table = self.interrupts.table.lock();
        // The table's and ours: nobody else watches it, and nobody can begin to while the table is locked.
        if Arc::strong_count(&self.flag) == 2 {
            table.waiting.remove(&self.unique);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn an_interrupt_finds_its_request_before_and_after_it_waits() {
        let interrupts = Arc::new(Interrupts::default());
        let (first, second) = (interrupts.watch(2), interrupts.watch(4));
        let twice = interrupts.watch(2);
        assert!(first.interrupted().now_or_never().is_none());
        let mut waiting = Box::pin(first.interrupted());
        assert!((&mut waiting).now_or_never().is_none());
        interrupts.interrupt(2);
        assert!(waiting.now_or_never().is_some() && twice.interrupted().now_or_never().is_some());
        assert!(second.interrupted().now_or_never().is_none());
        interrupts.interrupt(6);
        assert!(interrupts.watch(6).interrupted().now_or_never().is_some(), "it came early");
        drop((first, second, twice));
        assert!(interrupts.table.lock().waiting.is_empty());
        assert!(interrupts.watch(6).interrupted().now_or_never().is_none(), "and it counts once");
        (0..1000).for_each(|unique| interrupts.interrupt(unique));
        assert_eq!(interrupts.table.lock().early.len(), EARLY_MAX);
    }
}
