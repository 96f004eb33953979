//! Dumps that run at this leader: a thread reads a snapshot, a bounded queue holds pages, the caller fetches them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use proto::backup::DumpPage;
use proto::error::{Code, WireError};
use rt::clock::Clock;
use rt::table::Table;
use tokio::sync::mpsc;

use crate::dump::dump;
use crate::namespace::Outcome;

/// Dumps at the same time.
const RUNNING_MAX: usize = 2;
/// Nobody fetched a page for this long: the dump ends.
const FETCHED_WITHIN: Duration = Duration::from_secs(60);
/// Pages that wait to be fetched.
const PAGES_AHEAD: usize = 4;

/// See the module.
pub(crate) struct Dumps {
    clock: Arc<dyn Clock>,
    next: AtomicU64,
    /// order: before a dump's pages.
    running: Mutex<BTreeMap<u64, Arc<Running>>>,
}

struct Running {
    /// Held while a page is fetched.
    pages: tokio::sync::Mutex<Pages>,
    /// order: a leaf.
    fetched: Mutex<Duration>,
    stop: Arc<AtomicBool>,
}

struct Pages {
    queue: mpsc::Receiver<Outcome<DumpPage>>,
    /// The last one given out, and its number.
    last: Option<(u64, DumpPage)>,
}

impl Dumps {
    /// None runs. `seed` makes the numbers differ from those of other leaders.
    pub(crate) fn new(clock: Arc<dyn Clock>, seed: u64) -> Self {
        Self { clock, next: AtomicU64::new(seed | 1), running: Mutex::default() }
    }

    /// Starts a dump and gives its number.
    pub(crate) fn start(&self, table: Arc<dyn Table>, volume: u64) -> Result<u64, WireError> {
        let now = self.clock.monotonic();
        let mut running = self.running.lock();
        running.retain(|_, dump| {
            let kept = now.saturating_sub(*dump.fetched.lock()) <= FETCHED_WITHIN;
            if !kept {
                dump.stop.store(true, Ordering::Relaxed);
            }
            kept
        });
        if running.len() >= RUNNING_MAX {
            let text = format!("{RUNNING_MAX} dumps are under way at this MRC; try again in a minute");
            return Err(WireError::new(Code::Busy, text));
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (give, queue) = mpsc::channel(PAGES_AHEAD);
        let stop = Arc::new(AtomicBool::new(false));
        let pages = tokio::sync::Mutex::new(Pages { queue, last: None });
        running.insert(number, Arc::new(Running { pages, fetched: Mutex::new(now), stop: stop.clone() }));
        drop(running);
        tokio::task::spawn_blocking(move || {
            table.at_one_moment(&mut |moment| {
                // Fails when the receiver is gone: forgotten, or the service stops.
                let mut take = |page| !stop.load(Ordering::Relaxed) && give.blocking_send(Ok(page)).is_ok();
                if let Err(fail) = dump(moment, volume, &mut take) {
                    // Nobody may be there to hear it.
                    let _ = give.blocking_send(Err(fail));
                }
            });
        });
        Ok(number)
    }

    /// A page; the one given out last may be asked for again.
    pub(crate) async fn fetch(&self, number: u64, page: u64) -> Result<DumpPage, WireError> {
        let dump = self.running.lock().get(&number).cloned();
        let Some(dump) = dump else {
            let text = "this member knows no such dump (the leader changed, or nobody asked for a minute); start anew";
            return Err(WireError::new(Code::Stale, text));
        };
        *dump.fetched.lock() = self.clock.monotonic();
        let mut pages = dump.pages.lock().await;
        if let Some((at, last)) = &pages.last
            && *at == page
        {
            return Ok(last.clone());
        }
        if page != pages.last.as_ref().map_or(0, |(at, _)| at + 1) {
            let text = format!("page {page} of the dump is not the next one; start anew");
            return Err(WireError::new(Code::Stale, text));
        }
        let Some(next) = pages.queue.recv().await else {
            return Err(WireError::new(Code::Stale, "the dump ended without its last page; start anew"));
        };
        let next = DumpPage { dump: number, ..next? };
        // The last page stays to be asked for again until the dump is forgotten.
        pages.last = Some((page, next.clone()));
        Ok(next)
    }
}
