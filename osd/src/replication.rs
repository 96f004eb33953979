//! Replicated columns: carries out what the engines ask, between the store and the other OSDs.
//!
//! [`cell`] one column in memory · [`carry`] effects · [`calls`] to other OSDs · [`clients`] requests of clients ·
//! [`clean`] reads without the primary · [`peers`] requests of other OSDs · [`resync`] what a replica lacks, in [`slots`] ·
//! [`mend`] damaged blocks.

mod calls;
mod carry;
mod cell;
mod clean;
mod clients;
mod mend;
mod peers;
mod resync;
mod slots;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use proto::capability::{Capability, CapabilityKey, REPLICATE};
use proto::dir::OsdMap;
use proto::error::{Code, WireError};
use proto::id::{Ino, ObjectKey, ObjectNo, VolumeId};
use proto::limits::{CAPABILITY_TTL_MS, OSD_LEASE_MS};
use proto::osd::ColumnOf;
use proto::stripe::Replication;
use rt::clock::{Clock, Witness};
use rt::rpc::Connector;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::engine::replication::{self as engine, Outcome};
use crate::engine::slowness::Slowness;
use crate::engine::throttle::{Kind, Throttle};
use crate::store::{Copied, Delta, Store};
use cell::Cell;
pub(crate) use clients::Asked;
pub use resync::Moved;

/// Columns kept in memory; beyond it those that are idle are dropped.
const COLUMNS_MAX: usize = 65_536;
/// Maps whose arrival is remembered.
const HEARD_MAX: usize = 64;
/// How long a request waits for a map that its sender has already.
const MAP_PATIENCE: Duration = Duration::from_secs(1);
/// What a lease is believed to last: a tenth less than at the DIR.
const LEASE_BELIEVED: Duration = Duration::from_millis(OSD_LEASE_MS * 9 / 10);
/// Evidence that waits for being told; more is dropped.
const EVIDENCE_MAX: usize = 16;

/// A new life without a new process begins no sooner than so long after the one before, milliseconds.
const NEW_LIFE_AGAIN_MS: u64 = 1_000;

/// Draws the name of a life: no two runs of an OSD have the same.
pub(crate) fn new_life() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0.max(1)
}

/// Why a request in an older view is refused.
pub(crate) fn outdated(ino: u64, asked: u64, now: u64) -> WireError {
    WireError::new(
        Code::OldView,
        format!(
            "the replica lists of ino-{ino} have changed (view {now}, the request has {asked}); reopen the file"
        ),
    )
}

/// What a change of an object is.
#[derive(Debug)]
pub(crate) enum Change {
    /// Data at an offset.
    Write { offset: u32, data: Bytes, sums: Vec<u32>, crc: u32, sync: bool },
    /// A hole.
    Punch { offset: u32, len: u32 },
    /// The length becomes this if it is more.
    Cut { keep: u32 },
    /// The whole object, or none.
    Copy(Option<Copied>),
    /// What differs from another version.
    Patch(Delta),
}

type Payload = Arc<Change>;
type Waiter = oneshot::Sender<Outcome>;
/// Volume, inode, column.
type ColumnKey = (u64, u64, u32);

/// A connection to another OSD was refused or lost.
#[derive(Debug)]
pub(crate) struct Evidence {
    pub(crate) osd: u64,
    pub(crate) addr: String,
    /// Nobody listens there.
    pub(crate) refused: bool,
}

/// What the agent tells.
#[derive(Debug, Default, Clone)]
struct Known {
    map: Arc<OsdMap>,
    /// This OSD's number; 0: not registered.
    me: u64,
    /// Since when the map shows this life; 0: it does not.
    since: u64,
}

/// See the module.
pub struct Replicas {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    /// The DIR's wall clock.
    pub(crate) witness: Witness,
    /// Names this run of the process, or a part of it.
    life: AtomicU64,
    /// When a new life began without a new process, monotonic milliseconds.
    renewed_ms: AtomicU64,
    /// order: a leaf.
    known: RwLock<Known>,
    known_changes: watch::Sender<u64>,
    /// End of the lease, monotonic milliseconds.
    lease_until_ms: AtomicU64,
    /// This OSD is about to stop.
    given_up: AtomicBool,
    connector: OnceLock<Arc<Connector>>,
    runtime: OnceLock<tokio::runtime::Handle>,
    /// A newer map is wanted.
    pub(crate) refresh: Notify,
    evidence: mpsc::Sender<Evidence>,
    evidence_out: Mutex<Option<mpsc::Receiver<Evidence>>>,
    /// order: before a cell's engine.
    columns: Mutex<BTreeMap<ColumnKey, Arc<Cell>>>,
    /// The last number that a column gave which is not in memory any more.
    numbers: AtomicU64,
    /// The right that other OSDs are shown. order: a leaf.
    right: Mutex<Option<Capability>>,
    newest_key: Mutex<Option<CapabilityKey>>,
    resync: resync::Resync,
    /// Lagging columns that somebody else is to open, by whom. order: a leaf.
    nudged: Mutex<BTreeMap<u64, usize>>,
    /// Maps of the last while and when they were heard of. order: a leaf.
    heard: Mutex<VecDeque<(u64, Duration)>>,
    /// What others say of this OSD's pace. order: a leaf.
    slowness: Mutex<Slowness>,
    /// How many objects may be on their way. order: a leaf, before the slots.
    throttle: Mutex<Throttle>,
}

/// What is not in sync, as far as the columns that this OSD leads know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lag {
    /// Columns in memory.
    pub columns: usize,
    /// Columns led from here.
    pub leading: usize,
    /// Replicas of them that lag or whose state is not known, and columns that lag and that another OSD has yet to open.
    pub replicas: usize,
    /// Objects known to differ.
    pub objects: usize,
    /// Of whom: OSD -> (columns, objects known to differ).
    pub behind: BTreeMap<u64, (usize, usize)>,
}

impl Replicas {
    pub(crate) fn new(store: Arc<Store>, clock: Arc<dyn Clock>, life: u64) -> Arc<Self> {
        let (evidence, evidence_out) = mpsc::channel(EVIDENCE_MAX);
        Arc::new(Self {
            store,
            clock,
            life: AtomicU64::new(life),
            renewed_ms: AtomicU64::new(0),
            known: RwLock::default(),
            known_changes: watch::Sender::new(0),
            lease_until_ms: AtomicU64::new(0),
            given_up: AtomicBool::new(false),
            connector: OnceLock::new(),
            runtime: OnceLock::new(),
            refresh: Notify::new(),
            evidence,
            evidence_out: Mutex::new(Some(evidence_out)),
            witness: Witness::default(),
            columns: Mutex::default(),
            numbers: AtomicU64::new(0),
            right: Mutex::default(),
            newest_key: Mutex::default(),
            resync: resync::Resync::default(),
            nudged: Mutex::default(),
            heard: Mutex::default(),
            slowness: Mutex::default(),
            throttle: Mutex::default(),
        })
    }

    /// Names this run of the process; not 0.
    #[must_use]
    pub fn life(&self) -> u64 {
        self.life.load(Ordering::Acquire)
    }

    /// A column broke here: a new life gives all columns a new epoch, in which it is opened from what the stores
    /// hold. At most once in a while, because all columns that this OSD leads are opened anew.
    fn begin_new_life(&self) {
        let now = u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX);
        let before = self.renewed_ms.load(Ordering::Acquire);
        let due = before == 0 || now.saturating_sub(before) >= NEW_LIFE_AGAIN_MS;
        let mine = self.renewed_ms.compare_exchange(before, now.max(1), Ordering::AcqRel, Ordering::Acquire);
        if due && mine.is_ok() {
            tracing::warn!(
                "a change of a replicated column failed here; the columns of this OSD are opened anew"
            );
            self.life.store(new_life(), Ordering::Release);
            self.refresh.notify_one();
        }
    }

    /// The agent started: others can be reached.
    pub(crate) fn connect(&self, connector: &Arc<Connector>) -> Option<mpsc::Receiver<Evidence>> {
        // A second agent of the same OSD keeps what the first one gave.
        let _ = self.connector.set(connector.clone());
        let _ = self.runtime.set(tokio::runtime::Handle::current());
        self.evidence_out.lock().take()
    }

    pub(crate) fn set_key(&self, key: Option<CapabilityKey>) {
        let mut newest = self.newest_key.lock();
        if *newest != key {
            *newest = key;
            *self.right.lock() = None;
        }
    }

    /// The DIR heard of us: the lease counts from when the heartbeat was sent.
    pub(crate) fn renew_lease(&self, sent: Duration) {
        let until = u64::try_from((sent + LEASE_BELIEVED).as_millis()).unwrap_or(0);
        self.lease_until_ms.fetch_max(until, Ordering::AcqRel);
    }

    /// Reads are served no more; there is no next lease in this life.
    pub(crate) fn give_up_lease(&self) {
        self.given_up.store(true, Ordering::Release);
    }

    fn is_leased(&self) -> bool {
        if self.given_up.load(Ordering::Acquire) {
            return false;
        }
        self.clock.monotonic().as_millis() < u128::from(self.lease_until_ms.load(Ordering::Acquire))
    }

    /// A newer map.
    pub(crate) fn learn(self: &Arc<Self>, map: OsdMap, me: u64) {
        let epoch;
        self.hears(map.epoch);
        {
            let mut known = self.known.write();
            // Heartbeats and long polls race: an older map must not come after a newer one.
            let map = if known.map.epoch > map.epoch { known.map.clone() } else { Arc::new(map) };
            let me = if me == 0 { known.me } else { me };
            let shown = map.osds.iter().find(|entry| entry.osd == me && entry.life == self.life());
            let since = shown.map_or(0, |entry| entry.since_epoch);
            epoch = map.epoch;
            if (known.map.epoch, known.me, known.since) == (epoch, me, since) {
                return;
            }
            *known = Known { map, me, since };
        }
        self.known_changes.send_replace(epoch);
        let cells: Vec<Arc<Cell>> = self.columns.lock().values().cloned().collect();
        for cell in cells {
            self.map_changed(&cell);
        }
    }

    fn hears(&self, epoch: u64) {
        let mut heard = self.heard.lock();
        if heard.back().is_none_or(|(last, _)| *last < epoch) {
            heard.push_back((epoch, self.clock.monotonic()));
        }
        if heard.len() > HEARD_MAX {
            heard.pop_front();
        }
    }

    /// What a map makes of a column, with the time at which it was heard of.
    fn role(&self, map: &OsdMap, lists: &engine::Lists) -> engine::Role {
        let role = engine::role(map, lists);
        let made = engine::map_part(role.epoch);
        let heard = self.heard.lock().iter().find(|(epoch, _)| *epoch >= made).map(|(_, at)| *at);
        role.heard_at(heard)
    }

    /// Another OSD tells how it finds this one.
    pub(crate) fn told_slow(&self, by: u64, slow: bool) {
        self.slowness.lock().told(by, slow, self.clock.monotonic());
    }

    /// Whether others should lead columns rather than this OSD.
    pub(crate) fn is_slow(&self) -> bool {
        self.slowness.lock().is_slow(self.clock.monotonic())
    }

    /// A client's request was answered: what is copied meanwhile makes way for such.
    pub(crate) fn served(&self, kind: Kind, took: Duration) {
        let (limit, copying) = self.resync.slots.state();
        let now = self.clock.monotonic();
        let mut throttle = self.throttle.lock();
        throttle.served(kind, took, copying, now);
        let wanted = throttle.limit(now);
        if wanted != limit {
            self.resync.slots.resize(wanted);
        }
    }

    /// How many objects may be on their way to other replicas now.
    #[must_use]
    pub fn copies_at_once(&self) -> usize {
        let mut throttle = self.throttle.lock();
        let wanted = throttle.limit(self.clock.monotonic());
        // Nobody works any more: nobody else would say so.
        self.resync.slots.resize(wanted);
        wanted
    }

    fn known(&self) -> Known {
        self.known.read().clone()
    }

    /// The map when it is as new as `epoch` and shows this life; waits a moment for it.
    async fn known_at(&self, epoch: u64) -> Result<Known, WireError> {
        let fits = |known: &Known| known.since != 0 && known.map.epoch >= epoch;
        let known = self.known();
        if fits(&known) {
            return Ok(known);
        }
        let mut changes = self.known_changes.subscribe();
        self.refresh.notify_one();
        let waiting = async {
            loop {
                let known = self.known();
                if fits(&known) {
                    return known;
                }
                if changes.changed().await.is_err() {
                    return self.known();
                }
            }
        };
        tokio::time::timeout(MAP_PATIENCE, waiting).await.map_err(|_| {
            // Not `Unavailable`: that is what a dead OSD looks like.
            WireError::new(
                Code::Busy,
                format!("this OSD has not heard of OSD map {epoch} yet; is a DIR running?"),
            )
        })
    }

    /// Checks what a caller says of a column and finds it in memory. In a view that is newer than the one known here
    /// [`Replicas::raise`] must follow, an older one is refused.
    fn cell(
        self: &Arc<Self>,
        known: &Known,
        volume: u64,
        ino: u64,
        of: &ColumnOf,
    ) -> Result<Arc<Cell>, WireError> {
        let bad = |what: String| {
            WireError::new(Code::BadRequest, format!("column {} of ino-{ino} {what}", of.column))
        };
        let lists = engine::Lists::of(&of.layout, of.column);
        if !of.layout.is_all() && of.layout.replication != Replication::Quorum as i32 {
            return Err(bad(format!(
                "has several replicas by policy {}; this version knows quorum (1) and all (2)",
                of.layout.replication
            )));
        }
        if lists.list.len() < 2 || !lists.names(known.me) {
            return Err(bad(format!("has no replica at osd#{}", known.me)));
        }
        let key = (volume, ino, of.column);
        let mut columns = self.columns.lock();
        if let Some(cell) = columns.get(&key) {
            let shape = cell.shape();
            if lists.view == shape.lists.view && lists != shape.lists {
                return Err(bad(format!("came with other lists in the same view {}", lists.view)));
            }
            return Ok(cell.clone());
        }
        if columns.len() >= COLUMNS_MAX {
            self.forget_idle(&mut columns);
            if columns.len() >= COLUMNS_MAX {
                return Err(WireError::new(
                    Code::Busy,
                    format!("{COLUMNS_MAX} replicated columns are in use here; try again"),
                ));
            }
        }
        let kept = self.store.column(VolumeId(volume), Ino(ino), u64::from(of.column))?;
        if kept.view > lists.view {
            return Err(outdated(ino, lists.view, kept.view));
        }
        let role = self.role(&known.map, &lists);
        let numbers = self.numbers.load(Ordering::Acquire);
        let engine = engine::Column::new(known.me, role, numbers);
        // The first view needs no promise: there is none before it.
        let cell = Arc::new(Cell::new(key, of.clone(), kept.view.max(1), engine));
        columns.insert(key, cell.clone());
        Ok(cell)
    }

    /// A column is asked for in a view that is newer than what was promised: that nothing of an older one is accepted any
    /// more is on the medium before anything is told or done in it.
    async fn raise(self: &Arc<Self>, cell: &Arc<Cell>, of: &ColumnOf) -> Result<(), WireError> {
        let view = of.layout.view;
        if cell.promised_view.load(Ordering::Acquire) < view {
            let _one = cell.raising.lock().await;
            let (volume, ino, column) = cell.key;
            self.store.promise_view(VolumeId(volume), Ino(ino), u64::from(column), view).await?;
            cell.promised_view.fetch_max(view, Ordering::AcqRel);
        }
        if cell.reshape(of.clone()) {
            tracing::info!(
                ino = cell.key.1,
                column = cell.key.2,
                view,
                "a column has other replica lists from now on"
            );
            self.map_changed(cell);
        }
        Ok(())
    }

    fn forget_idle(&self, columns: &mut BTreeMap<ColumnKey, Arc<Cell>>) {
        columns.retain(|_, cell| {
            // Nobody else holds it, and nobody can get it while the map is locked.
            let idle = Arc::strong_count(cell) == 1 && cell.engine.lock().is_idle();
            if idle {
                self.numbers.fetch_max(cell.engine.lock().numbers(), Ordering::AcqRel);
            }
            !idle
        });
    }

    /// A file is being removed: its columns are of no interest any more.
    pub(crate) fn forget_file(&self, volume: u64, ino: u64) {
        let mut columns = self.columns.lock();
        let keys: Vec<ColumnKey> =
            columns.range((volume, ino, 0)..=(volume, ino, u32::MAX)).map(|(key, _)| *key).collect();
        for key in keys {
            if let Some(cell) = columns.remove(&key) {
                self.numbers.fetch_max(cell.engine.lock().numbers(), Ordering::AcqRel);
            }
        }
    }

    /// What is not in sync.
    #[must_use]
    pub fn lag(&self) -> Lag {
        let columns = self.columns.lock();
        let mut lag = Lag { columns: columns.len(), ..Lag::default() };
        for cell in columns.values() {
            let engine = cell.engine.lock();
            let (replicas, objects) = engine.lag();
            lag.leading += usize::from(engine.is_serving());
            lag.replicas += replicas;
            lag.objects += objects;
            for (osd, objects) in engine.behind() {
                let behind = lag.behind.entry(osd).or_default();
                (behind.0, behind.1) = (behind.0 + 1, behind.1 + objects);
            }
        }
        drop(columns);
        for (osd, columns) in &*self.nudged.lock() {
            lag.replicas += columns;
            lag.behind.entry(*osd).or_default().0 += columns;
        }
        lag
    }

    /// The right shown to other OSDs.
    pub(crate) fn right(&self) -> Result<Capability, WireError> {
        let now_ms = self.witness.later_ms(&*self.clock);
        let key = self.newest_key.lock().clone();
        let mut right = self.right.lock();
        if let Some(right) = right.as_ref().filter(|right| right.expires_ms > now_ms + CAPABILITY_TTL_MS / 2)
        {
            return Ok(right.clone());
        }
        let key = key.ok_or_else(|| {
            WireError::new(Code::Unavailable, "this OSD knows no capability keys yet; try again shortly")
        })?;
        let expires_ms = now_ms + CAPABILITY_TTL_MS;
        let fresh = Capability { rights: REPLICATE, expires_ms, ..Capability::default() }.sign(&key);
        *right = Some(fresh.clone());
        Ok(fresh)
    }

    fn object(&self, cell: &Cell, object: u64) -> ObjectKey {
        ObjectKey { volume: VolumeId(cell.key.0), ino: Ino(cell.key.1), object: ObjectNo(object) }
    }
}
