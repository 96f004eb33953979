//! The OSD map and calls to OSDs. The map comes from the DIR by long poll; evidence of dead OSDs goes back to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use proto::dir::{GetMap, Map, OsdMap, OsdState, Report, ReportDown, digest};
use proto::error::{Code, WireError};
use proto::rpc::Method;
use proto::stripe::Layout;
use rt::clock::Clock;
use rt::rpc::{CallOptions, Connector, call_with};
use tokio::sync::watch;

use super::Group;
use crate::config::Patience;
use crate::engine::hedging::Hedging;
use crate::error::Result;

/// One attempt at one OSD.
const ATTEMPT: Duration = Duration::from_secs(10);
/// The same while OSDs have not told of their space.
const POLL_AT_FIRST: Duration = Duration::from_secs(1);
/// So much free space is not used up within a [`POLL`]: what is written behind callers' backs fits.
const PLENTY: u64 = 4 << 30;
/// How long a long poll for the map waits at the DIR.
const POLL: Duration = Duration::from_secs(10);
/// The same OSD is reported at most so often.
const REPORT_AGAIN: Duration = Duration::from_secs(1);

/// The OSD map, ready to use.
#[derive(Debug, Default)]
pub struct MapView {
    /// Grows with each change.
    pub epoch: u64,
    /// Address and whether it serves, by OSD number.
    pub osds: BTreeMap<u64, (String, bool)>,
    /// Of these, those that lead only when nobody else can.
    pub slow: BTreeSet<u64>,
}

impl MapView {
    fn new(map: OsdMap) -> Self {
        let slow = map.osds.iter().filter(|osd| osd.slow).map(|osd| osd.osd).collect();
        let osds = map.osds.iter().map(|osd| (osd.osd, (osd.addr.clone(), osd.serves()))).collect();
        Self { epoch: map.epoch, osds, slow }
    }

    /// The first of `osds` that serves and is not slow, else the first that serves, else the first (which may be back before
    /// the map says so). The same rule as the OSDs' own: `docs/protocols/replication.md`.
    #[must_use]
    pub fn primary(&self, osds: &[u64]) -> Option<u64> {
        let up = |osd: &&u64| self.osds.get(osd).is_some_and(|(_, up)| *up);
        let quick = |osd: &&u64| up(osd) && !self.slow.contains(osd);
        osds.iter().find(quick).or_else(|| osds.iter().find(up)).or_else(|| osds.first()).copied()
    }
}

/// Everything about OSDs that a client shares.
pub struct Osds {
    connector: Arc<Connector>,
    clock: Arc<dyn Clock>,
    dir: Arc<Group>,
    reporter: String,
    map: watch::Sender<Arc<MapView>>,
    /// order: a leaf. When each OSD was last reported: as lost, as refusing.
    reported: Mutex<BTreeMap<(u64, bool), Duration>>,
    /// order: a leaf.
    space: Mutex<Space>,
    /// order: a leaf.
    hedging: Mutex<Hedging>,
    reads: ReadCounters,
}

/// See [`HedgedReads`].
#[derive(Debug, Default)]
struct ReadCounters {
    hedged: AtomicU64,
    by_replicas: AtomicU64,
}

/// How reads of replicated files were answered, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HedgedReads {
    /// Times that a read was asked of replicas as well, because the primary took long.
    pub hedged: u64,
    /// Reads that replicas answered.
    pub by_replicas: u64,
}

/// What the OSDs told of their space when the map was last heard of.
#[derive(Debug, Default)]
struct Space {
    /// Those with plenty of it.
    roomy: BTreeSet<u64>,
    /// All that take files have, and there is one.
    all_roomy: bool,
    /// Some have not told yet.
    is_unknown: bool,
}

impl Osds {
    pub(crate) fn new(
        connector: Arc<Connector>,
        clock: Arc<dyn Clock>,
        dir: Arc<Group>,
        reporter: String,
    ) -> Arc<Self> {
        let map = watch::Sender::new(Arc::new(MapView::default()));
        let (reported, space) = (Mutex::default(), Mutex::default());
        let (hedging, reads) = (Mutex::default(), ReadCounters::default());
        Arc::new(Self { connector, clock, dir, reporter, map, reported, space, hedging, reads })
    }

    /// When reads are asked of replicas that do not lead. Not to be held.
    pub(crate) fn hedging(&self) -> MutexGuard<'_, Hedging> {
        self.hedging.lock()
    }

    pub(crate) fn count_hedged(&self) {
        self.reads.hedged.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_by_replicas(&self) {
        self.reads.by_replicas.fetch_add(1, Ordering::Relaxed);
    }

    /// How reads of replicated files were answered.
    #[must_use]
    pub fn hedged_reads(&self) -> HedgedReads {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HedgedReads { hedged: count(&self.reads.hedged), by_replicas: count(&self.reads.by_replicas) }
    }

    /// The map as known now.
    #[must_use]
    pub fn map(&self) -> Arc<MapView> {
        self.map.borrow().clone()
    }

    /// Reads the map if a newer one exists.
    pub async fn refresh(&self) -> Result<()> {
        let known_epoch = self.map().epoch;
        let map = self.dir.call::<Map>(&GetMap { known_epoch, wait_ms: 0, dirs: 0, full: 0 }).await?;
        self.learn(map);
        Ok(())
    }

    /// Whether every OSD of a file had plenty of free space when the map was last heard of.
    #[must_use]
    pub fn have_room(&self, layout: &Layout) -> bool {
        let space = self.space.lock();
        layout.columns.iter().flat_map(|column| &column.osds).all(|osd| space.roomy.contains(osd))
    }

    /// Whether every OSD that new files may go to had plenty of free space then, and there is one.
    #[must_use]
    pub fn all_have_room(&self) -> bool {
        self.space.lock().all_roomy
    }

    fn learn(&self, mut map: OsdMap) {
        let takes_files = |osd: &&proto::dir::OsdEntry| osd.state() == OsdState::Up && osd.weight() > 0;
        let is_full = |osd: &proto::dir::OsdEntry| osd.free_bytes < PLENTY;
        let mut takers = map.osds.iter().filter(takes_files).peekable();
        let all_roomy = takers.peek().is_some() && !takers.any(is_full);
        let roomy = map.osds.iter().filter(|osd| osd.free_bytes >= PLENTY).map(|osd| osd.osd).collect();
        let is_unknown = map.osds.iter().any(|osd| osd.total_bytes == 0);
        *self.space.lock() = Space { roomy, all_roomy, is_unknown };
        self.dir.set_addrs(std::mem::take(&mut map.dirs));
        self.map.send_if_modified(|current| {
            let newer = map.epoch > current.epoch;
            if newer {
                *current = Arc::new(MapView::new(map));
            }
            newer
        });
    }

    /// Follows the map until nobody uses it any more.
    pub(crate) fn watch(self: &Arc<Self>) {
        let osds = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                let Some(this) = osds.upgrade() else { return };
                let dir = this.dir.clone();
                let known_epoch = this.map().epoch;
                let poll = if this.space.lock().is_unknown { POLL_AT_FIRST } else { POLL };
                drop(this);
                let wait_ms = u64::try_from(poll.as_millis()).expect("seconds");
                let patience = Patience::For(Duration::from_secs(1));
                let question = GetMap { known_epoch, wait_ms, dirs: digest(&dir.addrs()), full: 0 };
                let answer = dir.call_for::<Map>(&question, patience, poll).await.0;
                match (answer, osds.upgrade()) {
                    (_, None) => return,
                    (Ok(map), Some(this)) => {
                        let waited = map.epoch > known_epoch;
                        this.learn(map);
                        if !waited {
                            // A DIR that answers at once with nothing new must not be asked in a tight loop.
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                    }
                    (Err(error), Some(_)) => {
                        tracing::warn!(%error, "no OSD map from the DIR; trying again");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        });
    }

    /// One attempt at one OSD.
    pub async fn call_once<M: Method>(
        &self,
        osd: u64,
        map: &MapView,
        request: &M::Request,
        payload: Bytes,
    ) -> Result<(M::Reply, Bytes)> {
        let Some((addr, _)) = map.osds.get(&osd) else {
            return Err(WireError::new(
                Code::Unavailable,
                format!("osd#{osd} is not in the OSD map (epoch {}); see `xtfs osd ls`", map.epoch),
            ));
        };
        let channel = self.connector.channel(addr)?;
        let options = CallOptions { deadline: ATTEMPT, trace: 0 };
        call_with::<M>(&*channel, request, payload, &options).await
    }

    /// Waits until the map names another primary than `osd` for a list of OSDs.
    pub(crate) async fn deposed(&self, osds: &[u64], osd: u64) {
        let mut map = self.map.subscribe();
        // The sender lives as long as `self`.
        let _ = map.wait_for(|map| map.primary(osds) != Some(osd)).await;
    }

    /// An attempt at `osd` failed: reports evidence of its death and looks for a newer map.
    pub async fn suspect(&self, osd: u64, map: &MapView, error: &WireError) {
        let patience = Patience::For(Duration::from_millis(200));
        // What an OSD itself answers is no evidence that it is dead.
        let refused = error.hint == "refused";
        if error.code == Code::Unavailable
            && (refused || error.hint == "reset")
            && let Some((addr, true)) = map.osds.get(&osd)
            && self.may_report(osd, refused)
        {
            let report = ReportDown { osd, addr: addr.clone(), reporter: self.reporter.clone(), refused };
            if let Err(error) = self.dir.call_for::<Report>(&report, patience, Duration::ZERO).await.0 {
                tracing::debug!(osd, %error, "the death of an OSD could not be reported");
            }
        }
        let request = GetMap { known_epoch: map.epoch, wait_ms: 0, dirs: 0, full: 0 };
        if let Ok(map) = self.dir.call_for::<Map>(&request, patience, Duration::ZERO).await.0 {
            self.learn(map);
        }
    }

    fn may_report(&self, osd: u64, refused: bool) -> bool {
        let now = self.clock.monotonic();
        let mut reported = self.reported.lock();
        let due = reported.get(&(osd, refused)).is_none_or(|at| now.saturating_sub(*at) >= REPORT_AGAIN);
        if due {
            reported.insert((osd, refused), now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use proto::dir::OsdEntry;

    use super::*;

    #[test]
    fn the_primary_is_the_first_that_is_up_and_not_slow() {
        let osd =
            |osd, state: OsdState, slow| OsdEntry { osd, state: state as i32, slow, ..OsdEntry::default() };
        let view = |osds| MapView::new(OsdMap { epoch: 1, osds, ..OsdMap::default() });
        let (up, down) = (OsdState::Up, OsdState::Down);
        let one_slow = view(vec![osd(1, down, false), osd(2, up, true), osd(3, up, false)]);
        assert_eq!(one_slow.primary(&[1, 2, 3]), Some(3));
        assert_eq!(one_slow.primary(&[2, 1]), Some(2), "rather slow than none");
        let all_slow = view(vec![osd(1, down, false), osd(2, up, true), osd(3, OsdState::Draining, true)]);
        assert_eq!(all_slow.primary(&[1, 2, 3]), Some(2));
        let none_up = view(vec![osd(1, down, false), osd(2, down, true)]);
        assert_eq!((none_up.primary(&[2, 1]), none_up.primary(&[])), (Some(2), None));
    }
}
