//! The background engine on a plain thread.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Background, Host, Rhythm, maintain, scrub};
use crate::store::{ScrubRead, Store};

pub(super) struct ThreadBackground {
    stop: watch::Sender<bool>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

pub(super) struct ThreadHost<'a> {
    pub(super) store: &'a Store,
}

impl Host for ThreadHost<'_> {
    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    async fn read(&self, shard: u16, read: ScrubRead, check: impl FnOnce(io::Result<&[u8]>)) {
        match self.store.scrub_read(shard, read).await {
            Ok(data) => check(Ok(&data)),
            Err(error) => check(Err(error)),
        }
    }
}

pub(super) fn start(store: &Arc<Store>, rhythm: Rhythm) -> ThreadBackground {
    let (stop, stopped) = watch::channel(false);
    let store = store.clone();
    let thread = std::thread::Builder::new()
        .name("osd-background".to_owned())
        .spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
                Ok(runtime) => runtime,
                Err(error) => return tracing::error!("the OSD's background engine cannot start: {error}"),
            };
            let host = ThreadHost { store: &store };
            let maintain = maintain(&host, &store, rhythm, stopped.clone());
            let scrub = scrub(&host, &store, rhythm, stopped.clone());
            runtime.block_on(async { tokio::join!(maintain, scrub) });
        })
        .map_err(|error| tracing::error!("the OSD's background thread cannot start: {error}"))
        .ok();
    ThreadBackground { stop, thread: Mutex::new(thread) }
}

impl Background for ThreadBackground {
    fn runs_on(&self) -> &'static str {
        "a thread"
    }

    fn stop(&self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl Drop for ThreadBackground {
    fn drop(&mut self) {
        self.stop();
    }
}
