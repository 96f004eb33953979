//! Erasure coding: finds closed files that are to be encoded, or encoded anew, and does it, the damaged ones first. See
//! docs/protocols/erasure-coding.md.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Volume};
use futures::StreamExt;
use parking_lot::Mutex;
use proto::coding::EncodableFile;
use proto::error::Code;

use crate::{queue, root};

/// Pause between two looks, at least; a look may take a twentieth of the time.
const LOOK: Duration = Duration::from_secs(2);
const SHARE: u32 = 20;
/// Files encoded at the same time: each holds a step of a whole group in memory.
const AT_ONCE: usize = 2;
/// Files taken up by one look; the rest is found by the next one.
const FILES_MAX: usize = 4096;

/// What it is doing, for status pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Files that were found encoded as they should be by the last look.
    pub encoded: u64,
    /// Files that wait to be encoded.
    pub waiting: u64,
    /// Files that will be encoded when they are closed and quiet.
    pub busy: u64,
    /// Files encoded since the start.
    pub done: u64,
    /// Attempts that failed since the start; they are made again.
    pub failed: u64,
    /// Why files are not encoded, as the last look found.
    pub trouble: Option<String>,
}

/// Looks and encodes until it is dropped.
pub(crate) async fn run(client: Arc<Client>, status: Arc<Mutex<Status>>, quiet: Duration) {
    loop {
        let begun = tokio::time::Instant::now();
        let looked = look(&client, &status, quiet).await;
        let took = begun.elapsed();
        let files = match looked {
            Ok(files) => files,
            Err(error) => {
                tracing::warn!(%error, "what is to be encoded could not be looked for; trying again");
                status.lock().trouble = Some(error.to_string());
                Vec::new()
            }
        };
        if !files.is_empty() {
            encode(&status, files).await;
        }
        tokio::time::sleep(LOOK.max(took * SHARE)).await;
    }
}

type Found = (Arc<Volume>, EncodableFile);

/// What is to be encoded, the damaged ones first.
async fn look(
    client: &Arc<Client>,
    status: &Arc<Mutex<Status>>,
    quiet: Duration,
) -> client::Result<Vec<Found>> {
    let leaving: Vec<u64> = queue::leaving(&client.osd_map().await?).into_iter().collect();
    let quiet_ms = u64::try_from(quiet.as_millis()).unwrap_or(u64::MAX);
    let mut found: Vec<Found> = Vec::new();
    let (mut encoded, mut busy, mut more) = (0, 0, 0);
    for entry in client.volumes().await?.into_iter().filter(|entry| !entry.removed) {
        let volume = client.volume(&entry.name).await?;
        let mut after = 0;
        loop {
            let page = volume.list_encodable(&root(), after, leaving.clone(), quiet_ms).await?;
            (encoded, busy, after) = (encoded + page.encoded, busy + page.busy, page.next);
            for file in page.files {
                // Room for those that are damaged.
                if found.len() < FILES_MAX || file.repair && found.len() < 2 * FILES_MAX {
                    found.push((volume.clone(), file));
                } else {
                    more += 1;
                }
            }
            if after == 0 {
                break;
            }
        }
    }
    found.sort_by_key(|(_, file)| !file.repair);
    let mut status = status.lock();
    (status.encoded, status.busy, status.waiting) = (encoded, busy, found.len() as u64 + more);
    if found.is_empty() {
        status.trouble = None;
    }
    Ok(found)
}

async fn encode(status: &Arc<Mutex<Status>>, files: Vec<Found>) {
    let trouble = &Mutex::new(None);
    futures::stream::iter(files)
        .for_each_concurrent(AT_ONCE, |(volume, file)| async move {
            let done = volume.encode(&root(), file.ino, file.coding).await;
            let mut status = status.lock();
            match done {
                Ok(_) => {
                    tracing::debug!(volume = volume.entry().name, ino = file.ino, coding = %file.coding, "a file was encoded");
                    status.done += 1;
                    status.encoded += 1;
                    status.waiting = status.waiting.saturating_sub(1);
                }
                // It is in use again, or gone.
                Err(error) if matches!(error.code, Code::WouldBlock | Code::Stale | Code::NotFound | Code::Busy) => {
                    status.busy += 1;
                    status.waiting = status.waiting.saturating_sub(1);
                }
                Err(error) => {
                    tracing::warn!(volume = volume.entry().name, ino = file.ino, %error, "a file is not encoded yet");
                    status.failed += 1;
                    *trouble.lock() = Some(format!("volume {}: {}", volume.entry().name, error.text));
                }
            }
        })
        .await;
    status.lock().trouble = trouble.lock().take();
}
