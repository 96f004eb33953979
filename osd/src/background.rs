//! The background engine: folds, checkpoints and scrubs beside the requests, on a thread of its own.
//!
//! It runs on a glommio executor, whose shares keep a scrub from slowing down the folds that writers wait for, and
//! whose own ring keeps its reads out of the shards' queues. Where the executor cannot start, a plain thread does
//! the same work through the shards' I/O.

mod on_glommio;
mod on_thread;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::store::{Cursor, ScrubRead, Store};

/// Longest pause between two reads of a scrub.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A running background engine.
pub trait Background: Send + Sync {
    /// What it runs on, for people.
    fn runs_on(&self) -> &'static str;
    /// Ends it and waits for what it is doing.
    fn stop(&self);
}

/// How often things happen.
#[derive(Clone, Copy)]
pub(crate) struct Rhythm {
    /// Nothing changed for this long: fold all there is.
    pub(crate) idle: Duration,
    /// A whole scrub takes about this long, and starts this often.
    pub(crate) scrub_every: Duration,
}

/// Starts the engine for a store whose data files lie in `dir`.
pub(crate) fn start(store: &Arc<Store>, dir: &Path, rhythm: Rhythm) -> Box<dyn Background> {
    match on_glommio::start(store, dir, rhythm) {
        Ok(background) => Box::new(background),
        Err(why) => {
            tracing::warn!("the OSD's background engine runs on a plain thread: {why}");
            Box::new(on_thread::start(store, rhythm))
        }
    }
}

/// What the loops need of the executor that they run on.
trait Host {
    async fn sleep(&self, time: Duration);
    /// Reads blocks of a shard and hands them to `check`.
    async fn read(&self, shard: u16, read: ScrubRead, check: impl FnOnce(io::Result<&[u8]>));
}

/// Waits for `time` or until the engine shall stop; `true` when it shall.
async fn pause(host: &impl Host, stop: &mut watch::Receiver<bool>, time: Duration) -> bool {
    let sleep = std::pin::pin!(host.sleep(time));
    let stopped = std::pin::pin!(stop.wait_for(|stop| *stop));
    matches!(futures::future::select(sleep, stopped).await, futures::future::Either::Right(_))
}

/// Folds and checkpoints when the store asks for it or when nothing happened for a while.
async fn maintain(host: &impl Host, store: &Store, rhythm: Rhythm, mut stop: watch::Receiver<bool>) {
    let mut seen = store.activity();
    let mut failures = 0u32;
    loop {
        let pressed = {
            let pressed = std::pin::pin!(store.pressed());
            let waited = std::pin::pin!(pause(host, &mut stop, rhythm.idle));
            match futures::future::select(pressed, waited).await {
                futures::future::Either::Left(_) => true,
                futures::future::Either::Right((true, _)) => return,
                futures::future::Either::Right((false, _)) => false,
            }
        };
        if *stop.borrow() {
            return;
        }
        let now = store.activity();
        let quiet = !pressed && now == seen;
        seen = now;
        let done = store.maintain(quiet).await;
        if failures > 0 && done.is_ok() {
            tracing::info!("the OSD's background work goes on after {failures} failed attempts");
        }
        failures = if done.is_ok() { 0 } else { failures.saturating_add(1) };
        if let Err(error) = done {
            if failures.is_power_of_two() {
                tracing::warn!(failures, "the OSD's background work stopped, and is tried again: {error}");
            }
            if pause(host, &mut stop, PAUSE_MAX).await {
                return;
            }
        }
    }
}

/// Scrubs again and again.
async fn scrub(host: &impl Host, store: &Store, rhythm: Rhythm, mut stop: watch::Receiver<bool>) {
    let seen = AtomicU64::new(0);
    if store.take_files_cut()
        && let Err(error) = scrub_round(host, store, 0, &seen, None).await
    {
        tracing::warn!("the scrub after the loss of data files ended early: {error}");
    }
    while !pause(host, &mut stop, rhythm.scrub_every).await {
        if let Err(error) = scrub_round(host, store, 0, &seen, Some((rhythm.scrub_every, &mut stop))).await {
            tracing::warn!("a scrub of the OSD ended early: {error}");
        }
        if *stop.borrow() {
            return;
        }
    }
}

/// Reads everything once and compares it with its checksums; paced so that it takes about the given time.
async fn scrub_round(
    host: &impl Host,
    store: &Store,
    volume: u64,
    seen: &AtomicU64,
    mut pace: Option<(Duration, &mut watch::Receiver<bool>)>,
) -> crate::store::Result<()> {
    let usage = store.usage();
    let blocks = ((usage.total_bytes - usage.free_bytes) / 4096).max(1) as f64;
    let mut cursor = Cursor::of(volume);
    while let Some(units) = store.scrub_next(&mut cursor)? {
        for unit in units {
            for read in unit.reads() {
                host.read(unit.shard, read, |data| store.scrub_check(&unit, &read, data)).await;
                seen.fetch_add(u64::from(read.count) * 4096, Ordering::Relaxed);
                if let Some((time, stop)) = &mut pace {
                    let share = time.mul_f64(f64::from(read.count) / blocks).min(PAUSE_MAX);
                    if pause(host, stop, share).await {
                        return Ok(());
                    }
                }
            }
        }
    }
    Ok(())
}

/// Scrubs a volume, or everything (0), now and at full speed; counts the bytes in `seen`.
pub(crate) async fn scrub_now(store: &Store, volume: u64, seen: &AtomicU64) -> crate::store::Result<()> {
    // What still lies in the journal is compared on its way to where a scrub looks.
    store.fold(0).await?;
    scrub_round(&on_thread::ThreadHost { store }, store, volume, seen, None).await
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto::id::{Ino, ObjectKey, ObjectNo, VolumeId};
    use rt::clock::SystemClock;

    use super::*;
    use crate::{Osd, OsdConfig, Tuning};

    fn key(object: u64) -> ObjectKey {
        ObjectKey { volume: VolumeId(1), ino: Ino(1), object: ObjectNo(object) }
    }

    /// Flips a byte in the data file; finds by itself (as scheduled) and on demand.
    #[test]
    fn both_executors_find_damage() {
        for glommio in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let tuning = Tuning { background: false, grow_bytes: 4 << 20, ..Tuning::default() };
            let config =
                OsdConfig { shards: 1, tuning, ..OsdConfig::new(dir.path(), "a", SystemClock::new()) };
            let osd = Osd::open(config).unwrap();
            for object in 0..5 {
                let data = Bytes::from(vec![object as u8 + 1; 1 << 20]);
                futures::executor::block_on(osd.write_object(key(object), 0, data, true)).unwrap();
            }
            futures::executor::block_on(scrub_now(osd.store(), 0, &AtomicU64::new(0))).unwrap();
            assert_eq!(osd.store().damage(), []);

            let path = dir.path().join("shard-00.data-0000");
            let mut content = std::fs::read(&path).unwrap();
            let at = content.windows(4).position(|window| window == [3; 4]).unwrap() + 5 * 4096;
            content[at] ^= 4;
            std::fs::write(&path, &content).unwrap();
            let rhythm = Rhythm { idle: Duration::from_millis(5), scrub_every: Duration::from_millis(50) };
            let background: Box<dyn Background> = if glommio {
                Box::new(on_glommio::start(osd.store(), dir.path(), rhythm).unwrap())
            } else {
                Box::new(on_thread::start(osd.store(), rhythm))
            };
            let begun = std::time::Instant::now();
            while osd.store().damage().is_empty() && begun.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(10));
            }
            background.stop();
            assert_eq!(osd.store().damage(), [(key(2), 5)], "on {}", background.runs_on());
        }
    }
}
