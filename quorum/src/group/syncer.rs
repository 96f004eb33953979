//! The member's own threads for what blocks: one that syncs the log, now and then one that flushes the table.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use proto::id::GroupId;

use super::driver::Driver;
use crate::replica::Input;
use crate::store::SyncJob;

/// What blocks.
pub(super) enum Task {
    Sync(SyncJob),
    Flush(u64),
}

/// One sync, one flush and the end may wait.
const TASKS_MAX: usize = 4;

/// See the module.
pub(super) struct Syncer {
    /// order: nothing is taken while it is held.
    tasks: Mutex<Option<SyncSender<Task>>>,
    /// order: nothing is taken while it is held.
    waiting: Mutex<Option<Receiver<Task>>>,
    driver: Weak<Driver>,
}

impl Syncer {
    pub(super) fn new(driver: Weak<Driver>) -> Self {
        let (sender, receiver) = sync_channel(TASKS_MAX);
        Self { tasks: Mutex::new(Some(sender)), waiting: Mutex::new(Some(receiver)), driver }
    }

    pub(super) fn start(&self, group: GroupId) -> io::Result<()> {
        let Some(tasks) = self.waiting.lock().take() else { return Ok(()) };
        let driver = self.driver.clone();
        std::thread::Builder::new().name(format!("sync-{}", group.0)).spawn(move || work(&tasks, &driver))?;
        Ok(())
    }

    pub(super) fn give(&self, task: Task) {
        // At most one of each kind is out, so there is room; after `stop` nobody waits for it.
        if let Some(tasks) = &*self.tasks.lock() {
            let _ = tasks.try_send(task);
        }
    }

    pub(super) fn stop(&self) {
        self.tasks.lock().take();
    }
}

fn work(tasks: &Receiver<Task>, driver: &Weak<Driver>) {
    while let Ok(task) = tasks.recv() {
        let Some(driver) = driver.upgrade() else { return };
        match task {
            Task::Sync(job) => {
                let result = job.run();
                driver.push(Input::Synced(job, result));
                driver.drive();
            }
            Task::Flush(index) => flush(driver, index),
        }
    }
}

/// A flush takes long and is rare: it must not hold up syncs, for which clients wait.
fn flush(driver: Arc<Driver>, index: u64) {
    let work = {
        let driver = driver.clone();
        move || {
            let result = driver.table().flush();
            driver.push(Input::Flushed(index, result));
            driver.drive();
        }
    };
    if std::thread::Builder::new().name("flush".into()).spawn(work.clone()).is_err() {
        // No thread to be had: then here.
        work();
    }
}
