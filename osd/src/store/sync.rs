//! Group commit: one thread per shard syncs; everybody who asks while it does waits for the next round together.

use std::sync::{Arc, Weak};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::error::{Result, StoreError};
use super::shard::Shard;
use crate::failpoint;

#[derive(Default)]
struct Queue {
    waiters: Vec<(u64, oneshot::Sender<Result<()>>)>,
    stopped: bool,
}

/// See the module.
pub(crate) struct SyncGroup {
    shared: Arc<Shared>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    /// order: innermost.
    queue: Mutex<Queue>,
    asked: Condvar,
}

impl SyncGroup {
    /// Starts the thread. It holds the shard only while it syncs.
    pub(crate) fn start(number: u16, shard: Weak<Shard>) -> Self {
        let shared = Arc::new(Shared::default());
        let inner = shared.clone();
        let thread = std::thread::Builder::new()
            .name(format!("osd-sync-{number}"))
            .spawn(move || run(&inner, &shard))
            .map_err(|error| tracing::error!("cannot start the sync thread of shard {number}: {error}"))
            .ok();
        if thread.is_none() {
            shared.queue.lock().stopped = true;
        }
        Self { shared, thread: Mutex::new(thread) }
    }

    /// Waits until everything up to entry `seq` is on the medium.
    pub(crate) async fn wait(&self, seq: u64) -> Result<()> {
        let (done, answer) = oneshot::channel();
        {
            let mut queue = self.shared.queue.lock();
            if queue.stopped {
                return Err(StoreError::Failed(
                    "the OSD is shutting down, nothing can be synced any more".to_owned(),
                ));
            }
            queue.waiters.push((seq, done));
            self.shared.asked.notify_one();
        }
        answer.await.unwrap_or_else(|_| Err(StoreError::Failed("the OSD's sync thread ended".to_owned())))
    }

    /// Ends the thread after what was asked for so far.
    pub(crate) fn stop(&self) {
        self.shared.queue.lock().stopped = true;
        self.shared.asked.notify_one();
        let Some(thread) = self.thread.lock().take() else { return };
        // The last owner of a shard may be its own sync thread.
        if thread.thread().id() != std::thread::current().id() {
            let _ = thread.join();
        }
    }
}

impl Drop for SyncGroup {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(shared: &Shared, shard: &Weak<Shard>) {
    loop {
        let waiters = {
            let mut queue = shared.queue.lock();
            while queue.waiters.is_empty() && !queue.stopped {
                shared.asked.wait(&mut queue);
            }
            if queue.waiters.is_empty() {
                return;
            }
            std::mem::take(&mut queue.waiters)
        };
        let Some(shard) = shard.upgrade() else { return };
        let wanted = waiters.iter().map(|(seq, _)| *seq).max().unwrap_or_default();
        let result = shard.sync_to(wanted);
        drop(shard);
        for (_, waiter) in waiters {
            // A waiter that no longer waits has no interest in the answer.
            let _ = waiter.send(result.clone());
        }
    }
}

impl Shard {
    /// Puts everything up to now on the medium, unless `wanted` is there already: data first, because the journal
    /// refers to it. A failure is final for the store.
    pub(crate) fn sync_to(&self, wanted: u64) -> Result<()> {
        let (upto, data_dirty, segments, names_dirty) = {
            let mut state = self.lock();
            if state.synced >= wanted {
                return Ok(());
            }
            self.env.health.check()?;
            let segments = std::mem::take(&mut state.journal.unsynced);
            let names_dirty = std::mem::take(&mut state.journal.names_dirty);
            (state.seq, std::mem::take(&mut state.data_dirty), segments, names_dirty)
        };
        let failed = |what: &str, error: &std::io::Error| {
            self.env.health.fail(&format!("{what} of shard {}", self.number), error)
        };
        if data_dirty {
            self.blocks.sync().map_err(|error| failed("syncing the data files", &error))?;
        }
        failpoint::hit(failpoint::SYNC_DATA);
        for segment in segments {
            segment.file.sync().map_err(|error| failed("syncing the journal", &error))?;
        }
        if names_dirty {
            self.env.disk.sync_dir().map_err(|error| failed("syncing the directory", &error))?;
        }
        failpoint::hit(failpoint::SYNC_JOURNAL);
        let mut state = self.lock();
        state.synced = state.synced.max(upto);
        state.unsynced_files.retain(|_, seq| *seq > upto);
        Ok(())
    }
}
