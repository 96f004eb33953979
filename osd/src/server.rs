//! The door: opens the store, admits requests, answers them.

mod delay;
mod gate;
mod ops;
mod scrubbing;
mod turns;
mod verified;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use proto::capability::{Capability, CapabilityKey};
use proto::error::{Code, WireError};
use proto::id::ObjectKey;
use proto::limits::INFLIGHT_PER_SERVER;
use proto::osd::{Behind, OsdStatus};
use rt::clock::Clock;
use rt::disk::Disk;
use rt::disk::fault::{FaultDisk, Faults};
use rt::disk::os::OsDisk;
use rt::rpc::{BoxFuture, Peer, Request, Response, Service};
use rt::table::rocks::{RocksTable, Sizes};

use crate::background::{Background, Rhythm};
use crate::engine::admission::Admission;
use crate::engine::room::Kept;
use crate::engine::throttle::Kind;
use crate::replication::Replicas;
use crate::store::{Committed, Parts, ReadOutcome, Result, Stamp, Store, StoreError, Tuning};

const FENCES: &str = "fences";

/// What an OSD is started with.
#[derive(Clone)]
pub struct OsdConfig {
    /// Its directory.
    pub path: PathBuf,
    /// Its UUID; kept in the directory and compared at every start.
    pub uuid: String,
    /// Bytes that it may use for data; 0: what the file system has.
    pub capacity_bytes: u64,
    /// OSDs that share this file system, this one included: each offers its part of it.
    pub sharers: u32,
    /// Shards of a new store; 0 chooses min(cores, 4). An existing store keeps its number.
    pub shards: u16,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Sizes.
    pub tuning: Tuning,
}

impl OsdConfig {
    /// The usual: all of the file system, shards by cores.
    pub fn new(path: impl Into<PathBuf>, uuid: impl Into<String>, clock: Arc<dyn Clock>) -> Self {
        let (path, uuid) = (path.into(), uuid.into());
        Self { path, uuid, capacity_bytes: 0, sharers: 1, shards: 0, clock, tuning: Tuning::default() }
    }
}

/// See [`Osd::load`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    /// Reads answered.
    pub reads: u64,
    /// Writes answered.
    pub writes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Of the reads, those given without leading the column.
    pub replica_reads: u64,
}

/// Requests served since the start.
#[derive(Default)]
struct Counters {
    reads: AtomicU64,
    writes: AtomicU64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    replica_reads: AtomicU64,
}

/// An OSD: the store behind the service's door.
pub struct Osd {
    store: Arc<Store>,
    disk: Arc<dyn Disk>,
    /// OSDs on the same file system.
    sharers: u64,
    uuid: String,
    clock: Arc<dyn Clock>,
    /// order: never held over an await.
    admission: RwLock<Admission>,
    counters: Counters,
    in_flight: AtomicUsize,
    gate: gate::Gate,
    order: turns::Order,
    verified: verified::Verified,
    scrubbing: scrubbing::Scrubbing,
    /// Columns with more than one copy.
    replicas: Arc<Replicas>,
    background: Mutex<Option<Box<dyn Background>>>,
    delay: delay::Delay,
    /// Something found no room: those who choose where new files go should know before the next heartbeat.
    pub(crate) refused: tokio::sync::Notify,
}

impl Osd {
    /// Opens the store in `config.path`, making it when the directory is empty.
    pub fn open(config: OsdConfig) -> Result<Arc<Self>> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            StoreError::Failed(format!("{what} {} failed: {error}", config.path.display()))
        };
        let disk =
            OsDisk::open(&config.path).map_err(|error| StoreError::opening("the OSD's directory", &error))?;
        let faults = Faults::asked_for(&config.path);
        let disk: Arc<dyn Disk> = match &faults {
            Some(faults) => FaultDisk::over(disk, faults.clone()),
            None => disk,
        };
        let sharers = u64::from(config.sharers.max(1));
        let capacity_bytes = match config.capacity_bytes {
            0 => {
                let whole = file_system_bytes(&config.path)
                    .map_err(|error| failed("asking for the size of", &error))?;
                whole / sharers
            }
            bytes => bytes,
        };
        let shards = match config.shards {
            0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4)) as u16,
            shards => shards,
        };
        let mut tuning = config.tuning.clone();
        if tuning.grow_bytes == 0 {
            let step = capacity_bytes / (16 * u64::from(shards));
            tuning.grow_bytes = step.next_multiple_of(1 << 20).clamp(16 << 20, 1 << 30);
        }
        keep_some(&mut tuning, capacity_bytes, (sharers, shards));
        let table = open_table(&*disk, &config.path, tuning.reserve_bytes)?;
        let scrub_every = std::time::Duration::from_secs(tuning.scrub_seconds);
        let (background, idle) = (tuning.background, std::time::Duration::from_millis(tuning.idle_ms));
        let rhythm = Rhythm { idle, scrub_every };
        let (path, opening) = (config.path.clone(), tuning.clone());
        let store = Arc::new(Store::open(Parts {
            disk: disk.clone(),
            table,
            open_blocks: &|shard| crate::store::open_data_files(&path, shard, &opening, faults.as_ref()),
            uuid: config.uuid.clone(),
            shards,
            capacity_blocks: capacity_bytes / 4096,
            tuning,
            machine: machine_mark(),
        })?);
        let mut admission = Admission::default();
        let fences = rt::disk::read(&*disk, FENCES)
            .map_err(|error| failed("reading the session fences in", &error))?;
        if let Some(fences) = fences {
            admission.fences = Admission::decode_fences(&fences)
                .map_err(|why| StoreError::Corrupt(format!("{}/{FENCES}: {why}", config.path.display())))?;
        }
        let background = background.then(|| crate::background::start(&store, &config.path, rhythm));
        let replicas = Replicas::new(store.clone(), config.clock.clone(), crate::replication::new_life());
        let delay = delay::Delay::asked_for(&config.path);
        Ok(Arc::new(Self {
            replicas,
            store,
            disk,
            sharers,
            uuid: config.uuid,
            clock: config.clock,
            admission: RwLock::new(admission),
            counters: Counters::default(),
            in_flight: AtomicUsize::new(0),
            gate: gate::Gate::default(),
            order: turns::Order::default(),
            verified: verified::Verified::default(),
            scrubbing: scrubbing::Scrubbing::default(),
            background: Mutex::new(background),
            delay,
            refused: tokio::sync::Notify::new(),
        }))
    }

    /// The OSD's UUID.
    #[must_use]
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// The keys that capabilities may be signed with.
    pub fn set_keys(&self, keys: Vec<CapabilityKey>) {
        self.replicas.set_key(keys.iter().max_by_key(|key| key.number).cloned());
        let mut admission = self.admission.write();
        if admission.keys != keys {
            admission.keys = keys;
            self.verified.clear();
        }
    }

    /// A newer OSD map is known; an older epoch is ignored.
    pub fn set_map_epoch(&self, epoch: u64) {
        let mut admission = self.admission.write();
        admission.map_epoch = admission.map_epoch.max(epoch);
    }

    /// The newest map epoch known.
    #[must_use]
    pub fn map_epoch(&self) -> u64 {
        self.admission.read().map_epoch
    }

    /// Writes without a capability: for benchmarks and for moves between OSDs of one process.
    pub async fn write_object(
        &self,
        key: ObjectKey,
        offset: u32,
        data: Bytes,
        sync: bool,
    ) -> Result<Committed> {
        let committed = self.store.write(key, offset, data, Vec::new(), Stamp::default()).await?;
        if sync {
            self.store.sync_object(key, committed.seq).await?;
        }
        Ok(committed)
    }

    /// Reads without a capability.
    pub async fn read_object(&self, key: ObjectKey, offset: u32, len: u32) -> Result<ReadOutcome> {
        self.store.read(key, offset, len).await
    }

    /// Columns with more than one copy.
    #[must_use]
    pub fn replicas(&self) -> &Arc<Replicas> {
        &self.replicas
    }

    /// The store itself.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Reads everything that is in extents and compares it with its checksums; the damaged blocks.
    pub async fn scrub(&self) -> Result<Vec<(ObjectKey, u32)>> {
        crate::background::scrub_now(&self.store, 0, &AtomicU64::new(0)).await?;
        Ok(self.store.damage())
    }

    /// Bytes that it may use, and that are free of them.
    #[must_use]
    pub fn space(&self) -> (u64, u64) {
        let usage = self.store.usage();
        // The file system may be fuller than the OSD's own books say.
        (usage.total_bytes, usage.free_bytes.min(self.store.room_bytes(self.sharers)))
    }

    /// What was done since the start.
    #[must_use]
    pub fn load(&self) -> Load {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Load {
            reads: count(&self.counters.reads),
            writes: count(&self.counters.writes),
            read_bytes: count(&self.counters.read_bytes),
            written_bytes: count(&self.counters.written_bytes),
            replica_reads: count(&self.counters.replica_reads),
        }
    }

    /// Space, load, and what is not in sync.
    #[must_use]
    pub fn status(&self) -> OsdStatus {
        let (total_bytes, free_bytes) = self.space();
        let (lag, damage) = (self.replicas.lag(), self.store.damage_count());
        let moved = self.replicas.moved();
        let behind = |(osd, (columns, objects)): (&u64, &(usize, usize))| Behind {
            osd: *osd,
            columns: *columns as u64,
            objects: *objects as u64,
        };
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        OsdStatus {
            uuid: self.uuid.clone(),
            total_bytes,
            free_bytes,
            objects: self.store.usage().objects,
            reads: count(&self.counters.reads),
            writes: count(&self.counters.writes),
            read_bytes: count(&self.counters.read_bytes),
            written_bytes: count(&self.counters.written_bytes),
            columns_led: lag.leading as u64,
            behind: lag.behind.iter().map(behind).collect(),
            damage_found: damage.found,
            damage_mended: damage.mended,
            damaged_blocks: damage.left,
            resync_bytes: moved.bytes,
            resync_objects: moved.objects,
            resync_patches: moved.patches,
            replica_reads: count(&self.counters.replica_reads),
        }
    }

    /// Ends the background engine, makes a last checkpoint, refuses everything from then on.
    pub async fn shutdown(&self) -> Result<()> {
        let background = self.background.lock().take();
        if let Some(background) = background {
            background.stop();
        }
        self.store.close().await
    }

    fn admit(&self, capability: &Capability, need: u32) -> std::result::Result<(), WireError> {
        let admission = self.admission.read();
        if !self.verified.contains(capability) {
            admission.check_signature(capability)?;
            // Under the read lock: the keys cannot change in between.
            self.verified.insert(capability);
        }
        admission.check(capability, need, self.now_ms())
    }

    /// Time since some fixed point.
    pub(crate) fn now(&self) -> std::time::Duration {
        self.clock.monotonic()
    }

    /// The DIR's wall clock showed this a moment ago.
    pub(crate) fn hear_clock(&self, unix_ms: u64) {
        if let Some(ahead_ms) = self.replicas.witness.told(unix_ms, &*self.clock) {
            let uuid = &self.uuid;
            tracing::warn!(
                "OSD {uuid}: its clock is {ahead_ms} ms ahead of the DIR's; set the clocks of both machines"
            );
        }
    }

    /// What rights are judged by, Unix milliseconds: a clock of one machine that is wrong must not take all rights away.
    fn now_ms(&self) -> u64 {
        self.replicas.witness.earlier_ms(&*self.clock)
    }
}

impl Service for Osd {
    fn call(
        self: Arc<Self>,
        _peer: Peer,
        request: Request,
    ) -> BoxFuture<'static, std::result::Result<Response, WireError>> {
        Box::pin(async move {
            let _slot = Slot::take(&self.in_flight)?;
            self.delay.wait(&*self.clock).await;
            let begun = self.clock.monotonic();
            let done = ops::dispatch(&self, &request).await;
            if let Ok(response) = &done
                && let Some(verb) = ops::verb(request.method)
            {
                let bytes = request.payload.len().max(response.payload.len());
                let took = self.clock.monotonic().saturating_sub(begun);
                self.replicas.served(Kind::of(verb, bytes), took);
            }
            if matches!(&done, Err(error) if error.code == Code::NoSpace) {
                self.refused.notify_one();
            }
            done
        })
    }
}

/// One of the requests that may run at the same time.
struct Slot<'a>(&'a AtomicUsize);

impl<'a> Slot<'a> {
    fn take(in_flight: &'a AtomicUsize) -> std::result::Result<Self, WireError> {
        if in_flight.fetch_add(1, Ordering::AcqRel) >= INFLIGHT_PER_SERVER {
            in_flight.fetch_sub(1, Ordering::AcqRel);
            return Err(WireError::new(
                Code::Busy,
                format!("the OSD has {INFLIGHT_PER_SERVER} requests in flight; try again"),
            ));
        }
        Ok(Self(in_flight))
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What is kept for a full disk; and on a small disk journal, folds and checkpoints have to do with that.
fn keep_some(tuning: &mut Tuning, capacity: u64, (sharers, shards): (u64, u16)) {
    let kept = Kept::of(capacity, sharers);
    if tuning.reserve_bytes == 0 {
        tuning.reserve_bytes = kept.reserve;
    }
    if tuning.floor_bytes == 0 {
        tuning.floor_bytes = kept.floor;
    }
    let part = (capacity / (64 * u64::from(shards.max(1)))).max(1 << 20);
    tuning.segment_bytes = tuning.segment_bytes.min(u32::try_from(part / 2).unwrap_or(u32::MAX));
    tuning.checkpoint_bytes = tuning.checkpoint_bytes.min(part);
    tuning.fold_bytes = tuning.fold_bytes.min(part);
    tuning.dirty_objects = tuning.dirty_objects.min(usize::try_from(part / 4096).unwrap_or(usize::MAX));
}

/// Opens the metadata table. Its write buffer is what it needs at least of a full disk, and of the reserve.
fn open_table(disk: &dyn Disk, path: &Path, reserve: u64) -> Result<Arc<RocksTable>> {
    let mut sizes = Sizes::default();
    let buffer = usize::try_from(reserve / 2).unwrap_or(usize::MAX);
    sizes.write_buffer_bytes = sizes.write_buffer_bytes.min(buffer.max(1 << 20));
    crate::store::give_up_for_opening(disk, sizes.write_buffer_bytes as u64);
    Ok(RocksTable::open(path.join("table"), sizes)?)
}

/// Bytes of the file system under a path.
fn file_system_bytes(path: &Path) -> std::io::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(path).map_err(std::io::Error::from)?;
    Ok(stat.blocks() * stat.fragment_size())
}

/// What changes when the machine restarts. Unreadable: a value of its own, so that nothing is trusted.
fn machine_mark() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or_else(
        |_| format!("unknown-{}-{:?}", std::process::id(), std::time::SystemTime::now()),
        |id| id.trim().to_owned(),
    )
}
