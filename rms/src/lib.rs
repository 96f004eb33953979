//! RMS, the replica management service: watches the OSD map and the replica lists, and gives files of OSDs that are
//! out or draining another OSD, the least redundant first. It also ends changes of lists that somebody else began.
//!
//! A client of volumes (tier 1). It keeps nothing: what is to be done is in the map and in the layouts, and every step may
//! be repeated, so any number of them may run and be killed at any instant.
//!
//! [`queue`] decides what is next (pure) · this file looks and does · [`coding`] does erasure coding.

pub mod coding;
pub mod queue;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use client::engine::replicas;
use client::{Client, Creds, Volume};
use futures::StreamExt;
use parking_lot::Mutex;
use proto::dir::OsdMap;
use proto::error::Code;
use proto::stripe::{Column, Layout};
use queue::{Queue, Task};
use tokio::task::JoinHandle;

/// Between two looks at the map at least.
const LOOK: Duration = Duration::from_secs(2);
/// How long the DIR may wait for a change of the map.
const POLL: Duration = Duration::from_secs(10);
/// Without a change of the map all is looked at again after this: others may have left a change unfinished.
const LOOK_ANYWAY: Duration = Duration::from_secs(60);
/// Files changed at the same time. How much is copied at the same time the OSDs decide, who know what it costs those who work; this is how many
/// files may be without a primary for a moment.
const AT_ONCE: usize = 4;
/// How often it is looked whether learners have everything.
const LEARNING: Duration = Duration::from_millis(200);
/// How long one file may take before the next one gets its turn; it goes on by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// What it is doing, for status pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Files that wait for another OSD.
    pub waiting: usize,
    /// Changes of lists that were ended since the start.
    pub done: u64,
    /// Attempts that failed since the start; they are made again.
    pub failed: u64,
    /// OSDs that files still have to leave.
    pub leaving: Vec<u64>,
    /// Why the last attempt failed.
    pub trouble: Option<String>,
}

/// The running service; dropping it ends it.
pub struct Rms {
    /// order: a leaf.
    status: Arc<Mutex<Status>>,
    /// order: a leaf.
    coding: Arc<Mutex<coding::Status>>,
    tasks: [JoinHandle<()>; 2],
}

impl Rms {
    /// Starts on the current runtime. The client must act for root.
    /// Files are erasure-coded when their last change is `quiet` ago.
    #[must_use]
    pub fn start(client: Arc<Client>, quiet: Duration) -> Self {
        let status = Arc::new(Mutex::new(Status::default()));
        let coding = Arc::new(Mutex::new(coding::Status::default()));
        let replicas = tokio::spawn(run(client.clone(), status.clone()));
        let codes = tokio::spawn(coding::run(client, coding.clone(), quiet));
        Self { status, coding, tasks: [replicas, codes] }
    }

    /// What it is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.lock().clone()
    }

    /// What it does about erasure coding.
    #[must_use]
    pub fn coding(&self) -> coding::Status {
        self.coding.lock().clone()
    }
}

impl Drop for Rms {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Whoever it acts for.
pub(crate) fn root() -> Creds {
    Creds::checked(0, 0)
}

async fn run(client: Arc<Client>, status: Arc<Mutex<Status>>) {
    let mut looked: Option<(u64, tokio::time::Instant)> = None;
    let mut asked = tokio::time::Instant::now();
    loop {
        // When nothing happened for a while, a change is heard of at once; when much happens, not each one is looked at.
        tokio::time::sleep_until(asked + LOOK).await;
        asked = tokio::time::Instant::now();
        let known = looked.filter(|(_, when)| when.elapsed() <= LOOK_ANYWAY).map(|(epoch, _)| epoch);
        let map = match known {
            Some(epoch) => client.osd_map_after(epoch, POLL).await,
            None => client.osd_map().await,
        };
        let done = match map {
            Ok(map) if known == Some(map.epoch) => continue,
            Ok(map) => {
                let begun = tokio::time::Instant::now();
                round(&client, &status, &map).await.map(|whole| whole.then_some((map.epoch, begun)))
            }
            Err(error) => Err(error),
        };
        match done {
            Ok(whole) => looked = whole,
            Err(error) => {
                tracing::warn!(%error, "the replica lists could not be looked at; trying again");
                status.lock().trouble = Some(error.to_string());
            }
        }
    }
}

/// Looks at all volumes and does what is due. False when something has to be tried again.
async fn round(client: &Arc<Client>, status: &Arc<Mutex<Status>>, map: &OsdMap) -> client::Result<bool> {
    let leaving = queue::leaving(map);
    status.lock().leaving = leaving.iter().copied().collect();
    let mut queue = Queue::default();
    let mut volumes = Vec::new();
    for entry in client.volumes().await?.into_iter().filter(|entry| !entry.removed) {
        let volume = client.volume(&entry.name).await?;
        look(&volume, volumes.len(), map, &leaving, &mut queue).await?;
        volumes.push(volume);
    }
    let idle = queue.is_empty();
    let failed = {
        let mut status = status.lock();
        status.waiting = queue.len();
        status.failed
    };
    let tasks = std::iter::from_fn(|| queue.take_first());
    futures::stream::iter(tasks)
        .for_each_concurrent(AT_ONCE, |task| {
            let (volume, leaving) = (&volumes[task.volume], &leaving);
            async move {
                let done = one(volume, &task, map, leaving).await;
                let mut status = status.lock();
                status.waiting = status.waiting.saturating_sub(1);
                match done {
                    Ok(()) => status.done += 1,
                    Err(error) => {
                        tracing::warn!(ino = task.ino, %error, "a file did not get another replica yet");
                        status.failed += 1;
                        status.trouble = Some(error.to_string());
                    }
                }
            }
        })
        .await;
    // After work it looks once more: what did not fit into the queue, and what changed meanwhile.
    Ok(idle && status.lock().failed == failed)
}

/// Puts what concerns the leaving OSDs of one volume into the queue.
async fn look(
    volume: &Arc<Volume>,
    index: usize,
    map: &OsdMap,
    leaving: &BTreeSet<u64>,
    queue: &mut Queue,
) -> client::Result<()> {
    // Without a filter all files would be told: 0 is no OSD.
    let osds: Vec<u64> = leaving.iter().copied().chain([0]).collect();
    let mut after = 0;
    loop {
        let page = volume.list_replicas(&root(), after, osds.clone()).await?;
        for file in page.files {
            queue.push(map, leaving, Task { volume: index, ino: file.ino, layout: file.layout });
        }
        after = page.next;
        if after == 0 {
            return Ok(());
        }
    }
}

/// One file: new lists if it needs some, then until they have everything; voters again when learners have it.
async fn one(volume: &Arc<Volume>, task: &Task, map: &OsdMap, leaving: &BTreeSet<u64>) -> client::Result<()> {
    let ino = task.ino;
    if !task.layout.previous.is_empty() {
        let layout = volume.finish_replicas(&root(), ino, PATIENCE).await?;
        return promote(volume, ino, &layout, map).await;
    }
    let Some(columns) = replicas::replace(map, &task.layout, leaving) else {
        return promote(volume, ino, &task.layout, map).await;
    };
    tracing::info!(
        volume = volume.entry().name,
        ino,
        from = ?task.layout.columns,
        to = ?columns,
        "a file gets another replica: an OSD of its lists is out or draining"
    );
    let layout = change(volume, ino, &task.layout, columns, task.layout.learners.clone()).await?;
    promote(volume, ino, &layout, map).await
}

/// New lists, until they have everything.
async fn change(
    volume: &Arc<Volume>,
    ino: u64,
    layout: &Layout,
    columns: Vec<Column>,
    learners: Vec<u64>,
) -> client::Result<Layout> {
    match volume.set_replicas(&root(), ino, layout.view, columns, learners).await {
        Ok(_) => {}
        // Removed meanwhile, or somebody else was faster: the next look tells.
        Err(error) if matches!(error.code, Code::Stale | Code::NotFound | Code::OldView) => {
            return Ok(Layout::default());
        }
        Err(error) => return Err(error),
    }
    volume.finish_replicas(&root(), ino, PATIENCE).await
}

/// Policy `all`: learners that are up get everything, and vote again then.
async fn promote(volume: &Arc<Volume>, ino: u64, layout: &Layout, map: &OsdMap) -> client::Result<()> {
    let back = replicas::voters_again(map, layout);
    if back.is_empty() {
        return Ok(());
    }
    let begun = tokio::time::Instant::now();
    loop {
        let states = volume.replica_states(&root(), ino).await?;
        if states.layout.view != layout.view {
            return Ok(());
        }
        if states.have_all(&back) {
            let learners = layout.learners.iter().copied().filter(|osd| !back.contains(osd)).collect();
            tracing::info!(
                volume = volume.entry().name,
                ino,
                ?back,
                "replicas have everything and count again"
            );
            return change(volume, ino, layout, layout.columns.clone(), learners).await.map(drop);
        }
        if begun.elapsed() > PATIENCE {
            let why = format!("osd#{} has not got everything of ino-{ino} yet", back[0]);
            return Err(client::Error::new(Code::DeadlineExceeded, why));
        }
        tokio::time::sleep(LEARNING).await;
    }
}
