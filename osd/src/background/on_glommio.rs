//! The background engine on a glommio executor. No glommio type leaves this file.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use glommio::io::DmaFile;
use glommio::{Latency, LocalExecutorBuilder, Placement, Shares};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Background, Host, Rhythm, maintain, scrub};
use crate::store::{ScrubRead, Store, data_file_parts};

/// Locked memory that an executor's rings need.
const MEMLOCK_BYTES: u64 = 512 << 10;
/// Registered buffers of the executor.
const IO_MEMORY_BYTES: usize = 4 << 20;
/// What maintenance gets of the executor's time when a scrub wants some too.
const MAINTAIN_SHARES: usize = 900;
/// What the scrub gets.
const SCRUB_SHARES: usize = 100;

pub(super) struct GlommioBackground {
    stop: watch::Sender<bool>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// Starts the executor; the error says what to do.
pub(super) fn start(store: &Arc<Store>, dir: &Path, rhythm: Rhythm) -> Result<GlommioBackground, String> {
    check_memlock()?;
    let (stop, stopped) = watch::channel(false);
    let (store, dir) = (store.clone(), dir.to_path_buf());
    let (ready, answer) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name("osd-background".to_owned())
        .spawn(move || {
            let made = LocalExecutorBuilder::new(Placement::Unbound)
                .name("osd-background")
                .io_memory(IO_MEMORY_BYTES)
                .ring_depth(64)
                .make();
            match made {
                Ok(executor) => {
                    let _ = ready.send(Ok(()));
                    executor.run(run(store, dir, rhythm, stopped));
                }
                Err(error) => {
                    let _ = ready.send(Err(format!("its glommio executor cannot start: {error}")));
                }
            }
        })
        .map_err(|error| format!("its thread cannot start: {error}"))?;
    answer.recv().unwrap_or_else(|_| Err("its glommio executor ended at once".to_owned()))?;
    Ok(GlommioBackground { stop, thread: Mutex::new(Some(thread)) })
}

fn check_memlock() -> Result<(), String> {
    use nix::sys::resource::{Resource, getrlimit};
    let (soft, _) =
        getrlimit(Resource::RLIMIT_MEMLOCK).map_err(|error| format!("RLIMIT_MEMLOCK is unknown: {error}"))?;
    if soft < MEMLOCK_BYTES {
        return Err(format!(
            "RLIMIT_MEMLOCK is {} KiB and glommio needs {} KiB; raise it (systemd: LimitMEMLOCK=64M, shell: ulimit -l)",
            soft >> 10,
            MEMLOCK_BYTES >> 10
        ));
    }
    Ok(())
}

async fn run(store: Arc<Store>, dir: PathBuf, rhythm: Rhythm, stop: watch::Receiver<bool>) {
    let queue = |shares, name| {
        glommio::executor().create_task_queue(Shares::Static(shares), Latency::NotImportant, name)
    };
    let host = Rc::new(GlommioHost { dir, files: RefCell::new(BTreeMap::new()) });
    let (scrub_host, scrub_store, scrub_stop) = (host.clone(), store.clone(), stop.clone());
    let scrubbing = glommio::spawn_local_into(
        async move { scrub(&*scrub_host, &scrub_store, rhythm, scrub_stop).await },
        queue(SCRUB_SHARES, "scrub"),
    );
    let maintaining = glommio::spawn_local_into(
        async move { maintain(&*host, &store, rhythm, stop).await },
        queue(MAINTAIN_SHARES, "maintain"),
    );
    for started in [scrubbing, maintaining] {
        match started {
            Ok(task) => task.await,
            Err(error) => tracing::error!("a background task of the OSD cannot start: {error}"),
        }
    }
}

struct GlommioHost {
    dir: PathBuf,
    /// Open data files.
    files: RefCell<BTreeMap<PathBuf, Rc<DmaFile>>>,
}

impl GlommioHost {
    async fn file(&self, path: PathBuf) -> io::Result<Rc<DmaFile>> {
        if let Some(file) = self.files.borrow().get(&path) {
            return Ok(file.clone());
        }
        let file = Rc::new(DmaFile::open(&path).await?);
        self.files.borrow_mut().insert(path, file.clone());
        Ok(file)
    }
}

impl Host for GlommioHost {
    async fn sleep(&self, time: Duration) {
        glommio::timer::sleep(time).await;
    }

    async fn read(&self, shard: u16, read: ScrubRead, check: impl FnOnce(io::Result<&[u8]>)) {
        let mut data = Vec::new();
        for (path, offset, bytes) in data_file_parts(&self.dir, shard, read.start, read.count) {
            let part = match self.file(path).await {
                Ok(file) => file.read_at_aligned(offset, bytes).await.map_err(io::Error::from),
                Err(error) => Err(error),
            };
            match part {
                Ok(part) => data.extend_from_slice(&part),
                Err(error) => return check(Err(error)),
            }
        }
        check(Ok(&data));
    }
}

impl Background for GlommioBackground {
    fn runs_on(&self) -> &'static str {
        "a glommio executor"
    }

    fn stop(&self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl Drop for GlommioBackground {
    fn drop(&mut self) {
        self.stop();
    }
}
