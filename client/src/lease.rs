//! Leases at work: what [`crate::engine::leases`] decides, connected to the calls of a session, to the files in use and
//! to the kernel. See `docs/protocols/leases.md`.
//!
//! `recalls` hears what the leader wants back and gives it back; `data` takes leases for reads and writes.

mod data;
mod early;
mod made;
mod recalls;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use proto::mrc::{Attr, HeldLease, LEASE_ATTR, LEASE_NAMES, LeaseGrant, ReadDirReply, ReturnedLease, kind};
use proto::osd::Turn;
use rt::clock::Clock;
use tokio::sync::Notify;

use crate::creates::Waiting;
use crate::engine::leases::{Cached, Key, Leases, Ticket};
use crate::volume::Volume;
pub(crate) use data::Locked;
pub use data::Using;

/// A kernel that keeps what we answered, told when it must forget. Each call returns when the kernel has done it.
pub trait KernelCaches: Send + Sync {
    /// Attributes of an inode. False: the kernel does not know the inode (yet).
    fn forget_attr(&self, ino: u64) -> bool;
    /// Pages of an inode in `[offset, offset + len)`, to the end with `len` 0; modified ones are written first. Waits
    /// for requests on these pages: call it from a thread that serves none.
    fn forget_pages(&self, ino: u64, offset: u64, len: u64);
    /// All names.
    fn forget_names(&self);
    /// Whether [`KernelCaches::forget_names`] works; else names must not be given any time to live.
    fn can_forget_names(&self) -> bool;
    /// Listings of a directory that the kernel may be working through: it learns their names when it comes to them, also
    /// when it was told to forget all names meanwhile.
    fn listings(&self, _directory: u64) -> Vec<u64> {
        Vec::new()
    }
    /// Whether it is through with them.
    fn are_over(&self, _listings: &[u64]) -> bool {
        true
    }
}

/// Nobody keeps anything: users of the library.
pub struct NoKernel;

impl KernelCaches for NoKernel {
    fn forget_attr(&self, _ino: u64) -> bool {
        true
    }

    fn forget_pages(&self, _ino: u64, _offset: u64, _len: u64) {}

    fn forget_names(&self) {}

    fn can_forget_names(&self) -> bool {
        false
    }
}

/// Threads that have the kernel drop pages when everything is lost: tens of thousands of inodes, some of which wait.
const FORGETTERS: usize = 4;

/// The leases of one session.
pub struct Leasing {
    clock: Arc<dyn Clock>,
    /// order: a leaf.
    engine: Mutex<Leases>,
    /// order: a leaf. Whose files recalls are about.
    volumes: Mutex<HashMap<u64, Weak<Volume>>>,
    /// order: a leaf. What is to be sent back, with the opening before it; bounded by what is held.
    returns: Mutex<Vec<(u64, Return)>>,
    /// order: a leaf. Recalls that are being worked off, by number; bounded by what is held.
    at_work: Mutex<HashSet<u64>>,
    /// Something is to be sent back.
    owing: Notify,
    /// An operation that a recall may wait for has ended.
    released: Notify,
    /// Enough leases to give some back.
    many: AtomicBool,
    /// order: a leaf. Files that were just made: their kernel may not know them yet.
    made: Mutex<made::Made>,
    /// Files that were made here and not told.
    creates: Arc<Waiting>,
}

/// A lease that was given up.
#[derive(Debug, Clone)]
pub(crate) struct Return {
    pub(crate) lease: ReturnedLease,
    /// The leader is to hear with it of handles that were opened under it.
    pub(crate) tells: bool,
}

/// A call that may bring leases.
pub(crate) struct Asked<'a> {
    leasing: &'a Leasing,
    ticket: Ticket,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.leasing.engine.lock().end(self.ticket);
    }
}

/// A change of one or more inodes by this session, under way.
pub(crate) struct Changing<'a> {
    asked: Asked<'a>,
    volume: u64,
    /// Inode, and in a directory the name.
    what: Vec<(u64, Option<Vec<u8>>)>,
    /// What each of the names meant, where that was known under a lease.
    before: Vec<Cached<u64>>,
}

impl Leasing {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            engine: Mutex::default(),
            volumes: Mutex::default(),
            returns: Mutex::default(),
            at_work: Mutex::default(),
            owing: Notify::new(),
            released: Notify::new(),
            many: AtomicBool::new(false),
            made: Mutex::default(),
            creates: Arc::default(),
        })
    }

    fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Recalls for this volume go to `volume`.
    pub(crate) fn attach(&self, volume: &Arc<Volume>) {
        self.volumes.lock().insert(volume.id(), Arc::downgrade(volume));
    }

    fn volume(&self, id: u64) -> Option<Arc<Volume>> {
        self.volumes.lock().get(&id).and_then(Weak::upgrade)
    }

    /// Files in use learn what an answer tells of them, before anybody can rely on the leases that it brings: who reads
    /// under a lease does not ask for the size.
    fn teach(&self, volume: u64, attrs: &[&Attr]) {
        let Some(volume) = self.volume(volume) else { return };
        for attr in attrs {
            if let Some(inode) = volume.inode(attr.ino) {
                inode.learn(attr);
            }
        }
    }

    fn all_volumes(&self) -> Vec<Arc<Volume>> {
        self.volumes.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// Whether leases are kept at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.engine.lock().is_on()
    }

    /// Leases held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.engine.lock().len()
    }

    /// What the leader is to be told when the session is opened. To be followed by [`Leasing::told`].
    /// `opening`: its number.
    pub(crate) fn to_tell(&self, opening: u64) -> Vec<HeldLease> {
        self.engine.lock().tell_begin(opening)
    }

    /// The leader was told, or could not be.
    pub(crate) fn told(&self, new_leader: bool) {
        self.engine.lock().tell_end(new_leader);
        self.released.notify_waiters();
        self.owing.notify_one();
    }

    /// The leader answered a renewal that began at `start`.
    pub(crate) fn renewed(&self, start: Duration, ttl_ms: u64) {
        if ttl_ms > 0 {
            self.engine.lock().renewed(start + Duration::from_millis(ttl_ms));
        }
    }

    /// The session lost all its leases: nothing that the kernel or we keep may be believed.
    pub(crate) fn expelled(&self) {
        let held = self.engine.lock().expelled();
        if !held.is_empty() {
            tracing::warn!(leases = held.len(), "all leases were lost: this client did not answer in time");
        }
        self.forget_in_kernel(held);
        self.released.notify_waiters();
    }

    fn turn_off(&self) {
        let held = self.engine.lock().turn_off();
        self.forget_in_kernel(held);
        self.released.notify_waiters();
    }

    fn forget_in_kernel(&self, held: Vec<Key>) {
        for volume in self.all_volumes() {
            volume.kernel().forget_names();
        }
        let volumes: HashMap<u64, Arc<Volume>> =
            self.all_volumes().into_iter().map(|volume| (volume.id(), volume)).collect();
        let held = held.into_iter().filter_map(|(id, ino)| Some((volumes.get(&id)?.kernel(), ino)));
        let held: Vec<(Arc<dyn KernelCaches>, u64)> = held.collect();
        for (kernel, ino) in &held {
            kernel.forget_attr(*ino);
        }
        let Some(volume) = volumes.values().next() else { return };
        for share in held.chunks(held.len().div_ceil(FORGETTERS).max(1)) {
            let share = share.to_vec();
            // May wait for requests on the pages.
            volume.runtime().spawn_blocking(move || {
                for (kernel, ino) in share {
                    kernel.forget_pages(ino, 0, 0);
                }
            });
        }
    }

    /// An earlier process of this session held these: a leader that knows nothing of them is told.
    pub(crate) fn assume(&self, held: impl Iterator<Item = Key>, bits: u32) {
        let mut engine = self.engine.lock();
        held.for_each(|key| engine.assume(key, bits));
    }

    /// Bits held, whether they may be used at this moment or not.
    pub(crate) fn held_bits(&self, key: Key) -> u32 {
        self.engine.lock().held_bits(key)
    }

    /// What the earlier process held is recalled when somebody wants it; nothing is answered from it.
    pub(crate) fn assume_nothing(&self) {
        self.engine.lock().assume_nothing();
    }

    /// Grows with each loss of everything.
    pub(crate) fn generation(&self) -> u64 {
        self.engine.lock().generation()
    }

    /// A call that may bring leases begins.
    pub(crate) fn ask(&self) -> Asked<'_> {
        Asked { leasing: self, ticket: self.engine.lock().begin() }
    }

    /// A change begins.
    pub(crate) fn change(&self, volume: u64, what: Vec<(u64, Option<Vec<u8>>)>) -> Changing<'_> {
        let now = self.now();
        let mut engine = self.engine.lock();
        let begin =
            |(ino, name): &(u64, Option<Vec<u8>>)| engine.change_begin((volume, *ino), name.as_deref(), now);
        let before = what.iter().map(begin).collect();
        let ticket = engine.begin();
        drop(engine);
        Changing { asked: Asked { leasing: self, ticket }, volume, what, before }
    }

    /// The session was opened; see [`Leases::opened`].
    pub(crate) fn opened(&self, number: u64) {
        self.engine.lock().opened(number);
    }

    /// What orders changes of a file at its OSDs.
    pub(crate) fn turn(&self, key: Key) -> Option<Turn> {
        self.engine.lock().turn(key)
    }

    /// An attempt to change a file was given up.
    pub(crate) fn doubted(&self, key: Key) {
        self.engine.lock().doubted(key);
    }

    /// An OSD refuses what is older than `seen`.
    pub(crate) fn outrun(&self, key: Key, seen: Turn) {
        self.engine.lock().outrun(key, seen);
    }

    fn changed(&self, volume: u64, attrs: &[&Attr]) {
        let mut engine = self.engine.lock();
        for attr in attrs {
            engine.changed(volume, attr);
        }
    }

    /// Attributes in an answer: newer ones, if an own change was told while it was on its way.
    pub(crate) fn newest(&self, key: Key, attr: &mut Attr) {
        self.engine.lock().newest(key, attr);
    }

    /// Attributes that may be answered without a call.
    pub(crate) fn attr(&self, key: Key) -> Option<Attr> {
        self.engine.lock().attr(key, self.now())
    }

    pub(crate) fn target(&self, key: Key) -> Option<Vec<u8>> {
        self.engine.lock().target(key, self.now())
    }

    pub(crate) fn xattr(&self, key: Key, name: &[u8]) -> Cached<Vec<u8>> {
        self.engine.lock().xattr(key, name, self.now())
    }

    /// What a name means, with the attributes.
    pub(crate) fn name(&self, dir: Key, name: &[u8]) -> Cached<Attr> {
        let now = self.now();
        let mut engine = self.engine.lock();
        match engine.name(dir, name, now)? {
            None => Some(None),
            Some(ino) => engine.attr((dir.0, ino), now).map(Some),
        }
    }

    /// The inode that a name means here, also when its attributes are not kept.
    pub(crate) fn named(&self, dir: Key, name: &[u8]) -> Option<u64> {
        self.engine.lock().name(dir, name, self.now()).flatten()
    }

    /// A page of a directory that may be answered without a call.
    pub(crate) fn page(&self, dir: Key, after: u64, limit: usize, with_attrs: bool) -> Option<ReadDirReply> {
        self.engine.lock().page(dir, after, limit, with_attrs, self.now())
    }

    /// Where `..` of a directory leads, likewise.
    pub(crate) fn parent(&self, key: Key) -> Option<u64> {
        self.engine.lock().parent(key, self.now())
    }

    /// Whether it is kept that a name is not there.
    pub(crate) fn is_absent(&self, dir: Key, name: &[u8]) -> bool {
        self.engine.lock().name(dir, name, self.now()) == Some(None)
    }

    /// The answer that a file was made is about to go to the kernel, with a time for which it may believe it.
    pub(crate) fn made(&self, key: Key) {
        self.made.lock().add(key, self.now());
    }

    fn was_just_made(&self, key: Key) -> bool {
        self.made.lock().has(key, self.now())
    }

    /// An inode ceased to exist by a change of this session (0: none did). What is still being written to it ends first.
    pub(crate) fn freed(&self, volume: u64, ino: u64) {
        let is_in_use = || self.volume(volume).is_some_and(|volume| volume.inode(ino).is_some());
        if ino != 0 && !is_in_use() {
            self.engine.lock().freed((volume, ino));
        }
    }

    /// How long a kernel may believe attributes, and names of a directory.
    pub(crate) fn times_to_live(&self, volume: u64, ino: u64) -> (Duration, Duration) {
        let now = self.now();
        let engine = self.engine.lock();
        let (bits, left) = (engine.bits((volume, ino), now), engine.time_left(now));
        let under = |bit: u32| if bits & bit != 0 { left } else { Duration::ZERO };
        (under(LEASE_ATTR | proto::mrc::LEASE_WRITE), under(LEASE_NAMES))
    }

    /// Bits that may be used now.
    pub(crate) fn bits(&self, key: Key) -> u32 {
        self.engine.lock().bits(key, self.now())
    }

    fn after_grants(&self, waits: bool, engine: &Leases) {
        if waits {
            self.released.notify_waiters();
        }
        if engine.is_crowded() && !self.many.swap(true, Ordering::AcqRel) {
            self.owing.notify_one();
        }
    }
}

impl Asked<'_> {
    pub(crate) fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// The answer: grants, and the attributes that it brought.
    pub(crate) fn learn<'a>(
        &self,
        volume: u64,
        grants: &[LeaseGrant],
        attrs: impl IntoIterator<Item = &'a Attr>,
    ) {
        if grants.is_empty() {
            return;
        }
        let attrs: Vec<&Attr> = attrs.into_iter().collect();
        self.leasing.teach(volume, &attrs);
        let mut engine = self.leasing.engine.lock();
        let mut waits = false;
        for grant in grants {
            waits |= engine.granted(volume, grant, self.ticket);
        }
        for attr in attrs {
            if let Some(grant) = grants.iter().find(|grant| grant.ino == attr.ino) {
                engine.keep_attr(volume, attr, grant, self.ticket);
            }
        }
        self.leasing.after_grants(waits, &engine);
    }

    /// A name of a directory that the answer told, or told to be absent. After [`Asked::learn`].
    pub(crate) fn learn_name(&self, dir: Key, name: &[u8], ino: Option<u64>, grants: &[LeaseGrant]) {
        if let Some(grant) = grants.iter().find(|grant| grant.ino == dir.1) {
            self.leasing.engine.lock().keep_name(dir, name, ino, grant, self.ticket);
        }
    }

    /// A page of a directory, after the cookie `after`. After [`Asked::learn`].
    pub(crate) fn learn_page(&self, dir: Key, after: u64, page: &ReadDirReply) {
        let mut engine = self.leasing.engine.lock();
        if let Some(grant) = page.leases.iter().find(|grant| grant.ino == dir.1) {
            let last = page.entries.last().map_or(after, |entry| entry.cookie);
            engine.keep_page(dir, &page.entries, (after, last, page.end), grant, self.ticket);
        }
        let directories = page.entries.iter().filter(|entry| entry.kind == kind::DIR);
        let directories: BTreeSet<u64> = directories.map(|entry| entry.ino).collect();
        for grant in page.leases.iter().filter(|grant| directories.contains(&grant.ino)) {
            engine.keep_parent((dir.0, grant.ino), dir.1, grant, self.ticket);
        }
    }

    /// Where `..` leads. After [`Asked::learn`].
    pub(crate) fn learn_parent(&self, key: Key, parent: u64, grants: &[LeaseGrant]) {
        if let Some(grant) = grants.iter().find(|grant| grant.ino == key.1) {
            self.leasing.engine.lock().keep_parent(key, parent, grant, self.ticket);
        }
    }

    /// A name was not there.
    pub(crate) fn learn_absent(&self, dir: Key, name: &[u8]) {
        self.leasing.engine.lock().keep_absent(dir, name, self.ticket);
    }

    pub(crate) fn learn_target(&self, key: Key, target: &[u8]) {
        self.leasing.engine.lock().keep_target(key, target, self.ticket);
    }

    pub(crate) fn learn_xattr(&self, key: Key, name: &[u8], value: Option<&[u8]>) {
        self.leasing.engine.lock().keep_xattr(key, name, value, self.ticket);
    }
}

impl Changing<'_> {
    /// What a name meant when the change began, and means until it is done.
    pub(crate) fn before(&self, at: usize) -> Cached<u64> {
        self.before.get(at).copied().flatten()
    }

    /// The change was done. Attributes of changed inodes as the answer tells them, and what the names mean now, in the
    /// order of `what`; inodes of which nothing is said are asked for again. The call counts as under way until this is
    /// dropped: what is done with its answer may be overtaken.
    pub(crate) fn done(&mut self, grants: &[LeaseGrant], attrs: &[&Attr], names: &[Option<u64>]) {
        let what = std::mem::take(&mut self.what);
        // In this order: who finds no file in use finds what was told.
        self.asked.leasing.changed(self.volume, attrs);
        self.asked.leasing.teach(self.volume, attrs);
        let mut engine = self.asked.leasing.engine.lock();
        let mut waits = false;
        for grant in grants {
            waits |= engine.granted(self.volume, grant, self.asked.ticket);
        }
        let mut names = names.iter();
        for (ino, name) in &what {
            let attr = attrs.iter().find(|attr| attr.ino == *ino).copied();
            let name = name.as_deref().map(|name| (name, names.next().copied()));
            let fresh = grants.iter().any(|grant| grant.ino == *ino);
            engine.change_end((self.volume, *ino), self.asked.ticket, (attr, fresh), name);
        }
        // What the change did not touch but made: a new inode.
        for attr in attrs.iter().filter(|attr| what.iter().all(|(ino, _)| *ino != attr.ino)) {
            if let Some(grant) = grants.iter().find(|grant| grant.ino == attr.ino) {
                engine.keep_attr(self.volume, attr, grant, self.asked.ticket);
            }
        }
        self.asked.leasing.after_grants(waits, &engine);
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        // Failed or given up: nobody knows what holds now.
        let mut engine = self.asked.leasing.engine.lock();
        for (ino, name) in std::mem::take(&mut self.what) {
            let name = name.as_deref().map(|name| (name, None));
            engine.change_end((self.volume, ino), self.asked.ticket, (None, false), name);
        }
    }
}
