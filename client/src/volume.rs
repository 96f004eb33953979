//! A volume: names and attributes, by inode. Data is in [`crate::file`]; paths are in [`paths`].

mod ahead;
pub mod attrs;
pub mod backup;
pub mod changes;
pub mod check;
mod early;
pub mod encode;
pub mod inode;
pub mod layout;
pub mod names;
pub mod open;
pub mod paths;
pub mod quota;
pub mod replicas;
pub mod snapshots;
pub mod trash;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use parking_lot::{Mutex, RwLock};
use proto::dir::VolumeEntry;
use proto::mrc::{Head, Time};

use crate::client::Client;
use crate::config::{Creds, Patience};
use crate::engine::ahead::Ahead;
use crate::engine::leases::Key;
use crate::engine::shortage::Shortage;
use crate::engine::together;
use crate::error::Result;
use crate::lease::{KernelCaches, Leasing, NoKernel};
use crate::remote::{Osds, Session};
use inode::Inode;
use open::Rights;

/// How often what was written is reported to the MRC while a file stays open.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Volume numbers have fewer bits than this.
const PAST_BITS: u32 = 40;

/// Files reported at the same time.
const REPORTS_AT_ONCE: usize = 32;

/// A volume of an instance. Cheap to share.
pub struct Volume {
    client: Arc<Client>,
    session: Arc<Session>,
    entry: VolumeEntry,
    /// Shows this snapshot; 0: the present.
    snapshot: u64,
    this: Weak<Volume>,
    /// Files that this client has open or uses right now. order: a leaf.
    inodes: Mutex<HashMap<u64, Weak<Inode>>>,
    /// Files with something unreported. order: a leaf.
    dirty: Mutex<BTreeMap<u64, Arc<Inode>>>,
    /// Rights to files, for opening them under a lease. order: a leaf.
    rights: Mutex<HashMap<u64, Rights>>,
    /// A quota has limited somebody here.
    quota: AtomicBool,
    /// The OSDs have no room. order: a leaf.
    pub(crate) shortage: Mutex<Shortage>,
    /// One attempt for what waits for room at a time.
    pub(crate) turn: tokio::sync::Semaphore,
    /// What programs seem to be about to ask for. order: a leaf.
    ahead: Mutex<Ahead>,
    /// A directory is being listed for its lookups.
    is_listing: AtomicBool,
    /// Who keeps what we answer. order: a leaf.
    kernel: RwLock<Arc<dyn KernelCaches>>,
    runtime: tokio::runtime::Handle,
}

impl Volume {
    pub(crate) fn new(client: Arc<Client>, entry: VolumeEntry, session: Arc<Session>) -> Arc<Self> {
        let volume = Self::at(client, entry, session, 0, tokio::runtime::Handle::current());
        volume.session.leasing().attach(&volume);
        volume.report_in_background();
        volume
    }

    fn at(
        client: Arc<Client>,
        entry: VolumeEntry,
        session: Arc<Session>,
        snapshot: u64,
        runtime: tokio::runtime::Handle,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            client,
            session,
            entry,
            snapshot,
            this: this.clone(),
            inodes: Mutex::new(HashMap::new()),
            dirty: Mutex::default(),
            rights: Mutex::new(HashMap::new()),
            quota: AtomicBool::new(false),
            shortage: Mutex::default(),
            turn: tokio::sync::Semaphore::new(1),
            ahead: Mutex::default(),
            is_listing: AtomicBool::new(false),
            kernel: RwLock::new(Arc::new(NoKernel)),
            runtime,
        })
    }

    /// Its entry at the DIR: id, name, defaults.
    #[must_use]
    pub fn entry(&self) -> &VolumeEntry {
        &self.entry
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.entry.volume
    }

    /// The client it belongs to.
    #[must_use]
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// The session with its metadata group.
    #[must_use]
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    pub(crate) fn found_quota(&self) {
        self.quota.store(true, Ordering::Relaxed);
    }

    /// Whether OSDs had no room lately: then writes wait for them, and hear of it themselves.
    pub(crate) fn is_short(&self) -> bool {
        self.shortage.lock().is_on(self.client.config().clock.monotonic())
    }

    /// Waits a while until nothing waits for room any more; gives how many pieces still do.
    pub(crate) async fn placed(&self, patience: Duration) -> usize {
        const LOOK: Duration = Duration::from_millis(20);
        let until = tokio::time::Instant::now() + patience;
        loop {
            let waiting = self.shortage.lock().waiting();
            if waiting == 0 || tokio::time::Instant::now() >= until {
                return waiting;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn has_quota(&self) -> bool {
        self.quota.load(Ordering::Relaxed)
    }

    pub(crate) fn leasing(&self) -> &Arc<Leasing> {
        self.session.leasing()
    }

    pub(crate) fn key(&self, ino: u64) -> Key {
        // What a snapshot shows is never leased, and must not be taken for what is.
        (self.entry.volume | self.snapshot << PAST_BITS, ino)
    }

    /// From now on this kernel is told what to forget.
    pub(crate) fn set_kernel(&self, kernel: Arc<dyn KernelCaches>) {
        *self.kernel.write() = kernel;
    }

    pub(crate) fn kernel(&self) -> Arc<dyn KernelCaches> {
        self.kernel.read().clone()
    }

    pub(crate) fn runtime(&self) -> &tokio::runtime::Handle {
        &self.runtime
    }

    pub(crate) fn osds(&self) -> &Arc<Osds> {
        self.client.osds()
    }

    pub(crate) fn patience(&self) -> Patience {
        self.client.config().patience
    }

    pub(crate) fn arc(&self) -> Arc<Volume> {
        self.this.upgrade().expect("a method runs while its object lives")
    }

    pub(crate) fn head(&self, creds: &Creds) -> Head {
        Head { snapshot: self.snapshot, ..creds.head(self.entry.volume, self.session.id()) }
    }

    /// Wall time, as it goes into attributes.
    #[must_use]
    pub fn now(&self) -> Time {
        let now = self.client.now();
        Time { seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX), nanos: now.subsec_nanos() }
    }

    /// Whether it shows a snapshot: nothing of it changes.
    #[must_use]
    pub fn is_past(&self) -> bool {
        self.snapshot != 0
    }

    /// The shared state of a file that is in use on this client.
    pub(crate) fn inode(&self, ino: u64) -> Option<Arc<Inode>> {
        self.inodes.lock().get(&ino).and_then(Weak::upgrade)
    }

    pub(crate) fn forget_inode(&self, ino: u64) {
        let mut inodes = self.inodes.lock();
        if inodes.get(&ino).is_some_and(|weak| weak.strong_count() == 0) {
            inodes.remove(&ino);
        }
    }

    pub(crate) fn mark_dirty(&self, inode: Arc<Inode>) {
        self.dirty.lock().insert(inode.ino(), inode);
    }

    /// Tells the MRC about every file with unreported writes.
    pub async fn report_all(&self) {
        let dirty = std::mem::take(&mut *self.dirty.lock());
        let dirty = dirty.into_values();
        let reports = futures::stream::iter(dirty).for_each_concurrent(REPORTS_AT_ONCE, |inode| async move {
            let reported = inode.report_meanwhile().await;
            if let Err(error) = &reported {
                tracing::warn!(ino = inode.ino(), %error, "the size of a file could not be reported; trying again");
            }
            // What came while it was being reported did not make a clean file dirty.
            if reported.is_err() || inode.is_unreported() {
                self.mark_dirty(inode);
            }
        });
        reports.await;
    }

    /// Everything that files in use on this client hold survives the machines (syncfs(2)). Files that were written and
    /// closed before are on OSDs, like everything that was acknowledged, and are not forced to their media.
    pub async fn sync_all(&self, creds: &Creds) -> Result<()> {
        let inodes: Vec<Arc<Inode>> = self.inodes.lock().values().filter_map(Weak::upgrade).collect();
        futures::stream::iter(inodes.into_iter().filter(|inode| inode.may_write()).map(Ok))
            .try_for_each_concurrent(REPORTS_AT_ONCE, |inode| async move {
                inode.report().await?;
                inode.sync_osds().await?;
                inode.check_room()
            })
            .await?;
        self.sync_metadata(creds).await
    }

    /// Until others that have something to report may have come too: what arrives together is replicated together.
    pub(crate) async fn reports_together(&self) {
        tokio::time::sleep(together::until_next(self.client.now())).await;
    }

    fn report_in_background(self: &Arc<Self>) {
        let volume = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(REPORT_EVERY).await;
                let Some(volume) = volume.upgrade() else { return };
                volume.report_all().await;
            }
        });
    }
}
