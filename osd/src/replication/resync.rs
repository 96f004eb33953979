//! What a replica lacks on its way to it: only the blocks that differ where they are known or can be found, else the
//! whole object. `docs/protocols/replication.md`, "Resync".

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use proto::error::{Code, WireError};
use proto::id::ObjectKey;
use proto::osd::{
    CompareReplica, CompareReply, CompareRequest, DeltaReply, DeltaRequest, FetchDelta, FetchReplica,
    InstallReplica, ObjectDelta, PatchReplica, ReplicaFetch, ReplicaInstall, ReplicaPatch, ReplicaPatched,
};
use proto::rpc::Method;
use tokio::sync::{Semaphore, oneshot};

use super::calls::{parse_copy, wire_copy};
use super::cell::Cell;
use super::peers::replied;
use super::slots::Slots;
use super::{Change, Payload, Replicas};
use crate::engine::replication::{Event, Reply, Version};
use crate::engine::throttle;
use crate::store::delta::differing;
use crate::store::{Copied, Delta, Outline, StoreError};

/// Questions for states on their way at the same time, over all columns, that nobody waits for.
const AT_ONCE: usize = 64;
/// Whole objects may take so long.
const LONG_PATIENCE: Duration = Duration::from_secs(10);
/// Objects with so many blocks of data or fewer go whole.
const WHOLE_BLOCKS: u32 = 1;

/// How much went by bringing replicas into sync.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Bytes of comparing, pushing and fetching: messages and data.
    pub bytes: u64,
    /// Objects.
    pub objects: u64,
    /// Of them only the blocks that differed.
    pub patches: u64,
}

/// See the module.
pub(super) struct Resync {
    /// Objects that nobody waits for; as many as the throttle lets.
    pub(super) slots: Slots,
    /// Questions for states.
    pub(super) asks: Semaphore,
    /// The same for columns that somebody else is to open.
    pub(super) openings: Semaphore,
    bytes: AtomicU64,
    objects: AtomicU64,
    patches: AtomicU64,
}

impl Default for Resync {
    fn default() -> Self {
        let zero = AtomicU64::default;
        let (asks, openings) = (Semaphore::new(AT_ONCE), Semaphore::new(AT_ONCE));
        Self {
            slots: Slots::new(throttle::AT_ONCE),
            asks,
            openings,
            bytes: zero(),
            objects: zero(),
            patches: zero(),
        }
    }
}

impl Resync {
    fn object(&self, patch: bool) {
        self.objects.fetch_add(1, Ordering::Relaxed);
        self.patches.fetch_add(u64::from(patch), Ordering::Relaxed);
    }
}

fn pair(version: Version) -> (u64, u64) {
    (version.epoch, version.number)
}

impl Replicas {
    /// What went by bringing replicas of columns led from here into sync, since the start.
    #[must_use]
    pub fn moved(&self) -> Moved {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let resync = &self.resync;
        Moved {
            bytes: count(&resync.bytes),
            objects: count(&resync.objects),
            patches: count(&resync.patches),
        }
    }

    /// A call whose bytes count as moved.
    async fn moving<M: Method>(
        &self,
        addr: &str,
        request: &M::Request,
        payload: Bytes,
    ) -> Result<(M::Reply, Bytes), WireError> {
        let sent = request.encoded_len() + payload.len();
        let done = self.send::<M>(addr, request, payload, LONG_PATIENCE).await;
        let got = done.as_ref().map_or(0, |(reply, data)| reply.encoded_len() + data.len());
        self.resync.bytes.fetch_add((sent + got) as u64, Ordering::Relaxed);
        done
    }

    /// Brings an object of another replica to what it is here. `has`: the version that it told of.
    pub(super) async fn push(
        &self,
        cell: &Cell,
        osd: u64,
        epoch: u64,
        object: u64,
        has: Option<Version>,
    ) -> Result<Reply, NotSent> {
        let delta = match self.delta_for(cell, osd, epoch, object, has).await {
            // An older OSD, or one that says what makes no sense: the object says it all.
            Err(error) if matches!(error.code, Code::UnknownMethod | Code::BadRequest) => None,
            delta => delta?,
        };
        if let Some((version, delta)) = delta {
            let (head, addr) = self.head(cell, osd, epoch)?;
            let (delta, payload) = wire_delta(object, version, delta);
            let request = ReplicaPatch { head, delta };
            let (done, _) = self.moving::<PatchReplica>(&addr, &request, payload).await?;
            if !done.needs_object {
                self.resync.object(true);
                return Ok(Reply::Version(Version { epoch: done.epoch, number: done.number }));
            }
        }
        let copy = self.whole(self.object(cell, object)).await.map_err(|error| match error {
            StoreError::Corrupt(why) => NotSent::Damaged(why),
            error => NotSent::Refused(error.into()),
        })?;
        let (copy, payload) = wire_copy(object, copy);
        let (head, addr) = self.head(cell, osd, epoch)?;
        let request = ReplicaInstall { head, copy };
        let (done, _) = self.moving::<InstallReplica>(&addr, &request, payload).await?;
        self.resync.object(false);
        Ok(Reply::Version(Version { epoch: done.epoch, number: done.number }))
    }

    /// What another replica lacks of an object; `None`: it must go whole.
    async fn delta_for(
        &self,
        cell: &Cell,
        osd: u64,
        epoch: u64,
        object: u64,
        has: Option<Version>,
    ) -> Result<Option<((u64, u64), Delta)>, WireError> {
        let key = self.object(cell, object);
        let Some(here) = self.store.outline(key)?.filter(|here| here.data_blocks > WHOLE_BLOCKS) else {
            return Ok(None);
        };
        if let Some(has) = has {
            if has == Version::default() {
                return Ok(None);
            }
            if let Some(delta) = undamaged(self.store.delta_since(key, pair(has)).await)? {
                return Ok(Some(delta));
            }
        }
        let Some((theirs, sums)) = self.compare(cell, osd, epoch, object, &here).await? else {
            return Ok(None);
        };
        if has.is_none()
            && let Some(delta) = undamaged(self.store.delta_since(key, theirs).await)?
        {
            return Ok(Some(delta));
        }
        let changed = differing(&here.sums, &sums);
        let delta = undamaged(self.store.delta_at(key, here.version, theirs, changed).await)?;
        Ok(delta.map(|delta| (here.version, delta)))
    }

    /// Version and checksums of an object at another replica; `None`: there is none, or it is damaged.
    async fn compare(
        &self,
        cell: &Cell,
        osd: u64,
        epoch: u64,
        object: u64,
        here: &Outline,
    ) -> Result<Option<((u64, u64), Vec<u32>)>, WireError> {
        let (head, addr) = self.head(cell, osd, epoch)?;
        let request = CompareRequest { head, object, groups: here.groups() };
        let (theirs, _) = self.moving::<CompareReplica>(&addr, &request, Bytes::new()).await?;
        let version = (theirs.epoch, theirs.number);
        if theirs.damaged || version == (0, 0) || theirs.bytes > proto::limits::STRIPE_BYTES_MAX {
            return Ok(None);
        }
        let sums = here.others(theirs.bytes, &theirs.groups, &theirs.checksums);
        let sums = sums.ok_or_else(|| {
            WireError::new(Code::BadRequest, format!("osd#{osd} compared object {object} in a senseless way"))
        })?;
        Ok(Some((version, sums)))
    }

    /// Gets an object as another replica has it, or what of it is lacking here.
    pub(super) async fn fetch(
        &self,
        cell: &Cell,
        osd: u64,
        epoch: u64,
        object: u64,
        whole: bool,
    ) -> Result<(Version, Payload), WireError> {
        let key = self.object(cell, object);
        let here = if whole || self.store.is_damaged(key) { None } else { self.store.outline(key)? };
        if let Some(here) = here.filter(|here| here.data_blocks > WHOLE_BLOCKS) {
            let got = match self.fetch_delta(cell, osd, epoch, object, &here).await {
                Err(error) if matches!(error.code, Code::UnknownMethod | Code::BadRequest) => None,
                got => got?,
            };
            if let Some((version, delta)) = got {
                self.resync.object(true);
                return Ok((version, Arc::new(Change::Patch(delta))));
            }
        }
        let (head, addr) = self.head(cell, osd, epoch)?;
        let request = ReplicaFetch { head, object };
        let (copy, payload) = self.moving::<FetchReplica>(&addr, &request, Bytes::new()).await?;
        let version = Version { epoch: copy.epoch, number: copy.number };
        let copied = parse_copy(&copy, payload)?.map(|copied| copied.check(key)).transpose()?;
        self.resync.object(false);
        Ok((version, Arc::new(Change::Copy(copied))))
    }

    async fn fetch_delta(
        &self,
        cell: &Cell,
        osd: u64,
        epoch: u64,
        object: u64,
        here: &Outline,
    ) -> Result<Option<(Version, Delta)>, WireError> {
        let key = self.object(cell, object);
        let (head, addr) = self.head(cell, osd, epoch)?;
        let (base_epoch, base_number) = here.version;
        let mut request = DeltaRequest { head, object, base_epoch, base_number, ..DeltaRequest::default() };
        let (known, data) = self.moving::<FetchDelta>(&addr, &request, Bytes::new()).await?;
        if let Some(delta) = known.delta {
            return parse_delta(key, &delta, data).map(Some);
        }
        let Some((theirs, sums)) = self.compare(cell, osd, epoch, object, here).await? else {
            return Ok(None);
        };
        (request.epoch, request.number) = theirs;
        request.changed = flat(&differing(&sums, &here.sums));
        request.compared = true;
        let (found, data) = self.moving::<FetchDelta>(&addr, &request, Bytes::new()).await?;
        found.delta.map(|delta| parse_delta(key, &delta, data)).transpose()
    }

    /// Another OSD compares an object with its own.
    pub(crate) async fn compare_for(
        self: &Arc<Self>,
        request: CompareRequest,
    ) -> Result<CompareReply, WireError> {
        let cell = self.of_peer(&request.head).await?;
        let key = self.object(&cell, request.object);
        let Some(here) = self.store.outline(key)? else { return Ok(CompareReply::default()) };
        let (groups, checksums) = here.unlike(&request.groups);
        let (epoch, number) = here.version;
        let damaged = self.store.is_damaged(key);
        Ok(CompareReply { epoch, number, bytes: here.bytes, groups, checksums, damaged })
    }

    /// Another OSD, which leads the column, lacks something of an object.
    pub(crate) async fn delta_of(
        self: &Arc<Self>,
        request: DeltaRequest,
    ) -> Result<(DeltaReply, Bytes), WireError> {
        let cell = self.of_peer(&request.head).await?;
        let key = self.object(&cell, request.object);
        let base = (request.base_epoch, request.base_number);
        let found = if request.compared {
            let at = (request.epoch, request.number);
            let changed = pairs(&request.changed)?;
            self.store.delta_at(key, at, base, changed).await?.map(|delta| (at, delta))
        } else {
            self.store.delta_since(key, base).await?
        };
        let Some((version, delta)) = found else { return Ok((DeltaReply { delta: None }, Bytes::new())) };
        let (delta, data) = wire_delta(request.object, version, delta);
        Ok((DeltaReply { delta: Some(delta) }, data))
    }

    /// The primary sends what this replica lacks of an object.
    pub(crate) async fn patch_for(
        self: &Arc<Self>,
        request: ReplicaPatch,
        data: Bytes,
    ) -> Result<ReplicaPatched, WireError> {
        let cell = self.of_peer(&request.head).await?;
        let (object, epoch) = (request.delta.object, request.head.epoch);
        let key = self.object(&cell, object);
        let (version, delta) = parse_delta(key, &request.delta, data)?;
        let (base_epoch, base_number) = delta.base;
        let base = Some(Version { epoch: base_epoch, number: base_number });
        let payload = Arc::new(Change::Patch(delta));
        let (waiter, answer) = oneshot::channel();
        self.tell_with(&cell, |this| {
            let local = this.version(&cell, object);
            let damaged = this.store.is_damaged(key);
            Event::Install { epoch, object, base, version, payload, local, damaged, waiter }
        });
        match replied(answer).await? {
            Reply::Version(Version { epoch, number }) => {
                Ok(ReplicaPatched { epoch, number, needs_object: false })
            }
            Reply::NeedsObject => Ok(ReplicaPatched { needs_object: true, ..ReplicaPatched::default() }),
            other => Err(super::peers::unexpected(&other)),
        }
    }
}

/// Why an object did not get to another OSD.
pub(super) enum NotSent {
    /// It is damaged here, and nobody gave what is lost.
    Damaged(String),
    Refused(WireError),
}

impl From<WireError> for NotSent {
    fn from(error: WireError) -> Self {
        Self::Refused(error)
    }
}

/// Nothing can be said about what is damaged here: the object goes whole, which is when it is mended.
fn undamaged<T>(delta: Result<Option<T>, StoreError>) -> Result<Option<T>, WireError> {
    match delta {
        Err(StoreError::Corrupt(_)) => Ok(None),
        delta => Ok(delta?),
    }
}

fn flat(ranges: &[(u32, u32)]) -> Vec<u32> {
    ranges.iter().flat_map(|(first, count)| [*first, *count]).collect()
}

fn pairs(flat: &[u32]) -> Result<Vec<(u32, u32)>, WireError> {
    if !flat.len().is_multiple_of(2) {
        return Err(WireError::new(Code::BadRequest, "ranges of blocks come in pairs"));
    }
    Ok(flat.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

fn wire_delta(object: u64, (epoch, number): (u64, u64), delta: Delta) -> (ObjectDelta, Bytes) {
    let Delta { base: (base_epoch, base_number), changed, copied, digest } = delta;
    let wire = ObjectDelta {
        object,
        base_epoch,
        base_number,
        epoch,
        number,
        bytes: copied.bytes,
        changed: flat(&changed),
        runs: flat(&copied.runs),
        checksums: copied.sums,
        digest: digest.map(Vec::from).unwrap_or_default(),
    };
    (wire, copied.data)
}

/// A patch from the wire, checked.
fn parse_delta(key: ObjectKey, wire: &ObjectDelta, data: Bytes) -> Result<(Version, Delta), WireError> {
    let digest = match wire.digest.len() {
        0 => None,
        _ => Some(<[u8; 32]>::try_from(wire.digest.as_slice()).map_err(|_| {
            WireError::new(Code::BadRequest, "the digest of a patch has another length than 32 bytes")
        })?),
    };
    if wire.bytes > proto::limits::STRIPE_BYTES_MAX || (wire.epoch, wire.number) == (0, 0) {
        return Err(WireError::new(Code::BadRequest, "a patch makes an object too long, or none"));
    }
    let (runs, changed) = (pairs(&wire.runs)?, pairs(&wire.changed)?);
    let copied = Copied { bytes: wire.bytes, runs, sums: wire.checksums.clone(), data };
    let delta = Delta { base: (wire.base_epoch, wire.base_number), changed, copied, digest };
    let version = Version { epoch: wire.epoch, number: wire.number };
    Ok((version, delta.check(key)?))
}
