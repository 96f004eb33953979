//! Calls to the other OSDs of a column.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::error::{Code, WireError};
use proto::id::ObjectKey;
use proto::osd::{
    self, ApplyReplica, AskReplica, ChangeKind, ObjectCopy, OrderKind, OrderReplica, ReplicaApply,
    ReplicaAsk, ReplicaHead, ReplicaOrder,
};
use proto::rpc::Method;
use rt::rpc::{CallOptions, call_with};

use super::cell::Cell;
use super::resync::NotSent;
use super::slots::Slot;
use super::{Change, Evidence, Payload, Replicas, Waiter};
use crate::engine::replication::{Event, Reply, Request, Told, Trouble, Version, view_of};
use crate::store::{Copied, StoreError};

/// A replica that does not answer for so long is asked for its state again.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same for whole objects and syncs.
const LONG_PATIENCE: Duration = Duration::from_secs(10);
/// How often and how long the heir of a lagging column is told of it.
const NUDGES: u32 = 20;
const NUDGE_AGAIN: Duration = Duration::from_millis(500);

type Called = Result<Reply, Trouble>;

impl Replicas {
    /// Asks another OSD and gives what came of it.
    pub(super) async fn call(
        self: Arc<Self>,
        cell: &Cell,
        call: u64,
        osd: u64,
        epoch: u64,
        what: Request<Payload>,
    ) -> Event<Payload, Waiter> {
        let moves = matches!(what, Request::Push { .. } | Request::Fetch { .. });
        let waits = self.may_wait(cell, &what);
        let _slot = if waits && moves { self.slot().await } else { None };
        let _ask = if waits && !moves { self.resync.asks.acquire().await.ok() } else { None };
        let begun = self.clock.monotonic();
        if let Request::Fetch { object, whole, .. } = what {
            let result = self.fetch(cell, osd, epoch, object, whole).await;
            self.copied(begun);
            return Event::Fetched { call, result: result.map_err(|error| self.trouble(osd, &error)) };
        }
        if let Request::Push { object, has } = what {
            let result = self.push(cell, osd, epoch, object, has).await.map_err(|error| match error {
                NotSent::Damaged(why) => {
                    tracing::warn!(osd, object, %why, "an object that another replica lacks is damaged here");
                    Trouble::Damaged
                }
                NotSent::Refused(error) => self.trouble(osd, &error),
            });
            self.copied(begun);
            return Event::Called { call, result, mine: Vec::new() };
        }
        let result: Result<Reply, WireError> = match what {
            Request::Ask => self.ask(cell, osd, epoch).await,
            Request::Apply { object, base, number, payload } => {
                self.apply(cell, osd, epoch, (object, base, number), &payload).await
            }
            Request::Adopt => self.order(cell, osd, epoch, OrderKind::Adopt).await,
            Request::Sync => self.order(cell, osd, epoch, OrderKind::Sync).await,
            Request::Confirm => self.order(cell, osd, epoch, OrderKind::Confirm).await,
            Request::Fetch { .. } | Request::Push { .. } => {
                Err(WireError::new(Code::Internal, "what moves objects was taken care of above"))
            }
        };
        let result: Called = result.map_err(|error| self.trouble(osd, &error));
        Event::Called { call, result, mine: Vec::new() }
    }

    /// A place for an object on its way. How many there are is looked at now: who would have said that nobody works any more?
    async fn slot(&self) -> Option<Slot<'_>> {
        let _ = self.copies_at_once();
        let slot = self.resync.slots.acquire().await;
        let pause = self.throttle.lock().pause(self.clock.monotonic());
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        slot
    }

    /// An object is where it is to be, or will not come there.
    fn copied(&self, begun: Duration) {
        let took = self.clock.monotonic().saturating_sub(begun);
        self.throttle.lock().copied(took);
    }

    /// Nobody waits for it: when an OSD comes back there may be very many of these at once.
    fn may_wait(&self, cell: &Cell, what: &Request<Payload>) -> bool {
        match what {
            Request::Push { object, .. } => !cell.engine.lock().is_awaited(*object),
            Request::Fetch { urgent, .. } => !urgent,
            Request::Ask => cell.engine.lock().is_serving(),
            Request::Apply { .. } | Request::Adopt | Request::Sync | Request::Confirm => false,
        }
    }

    fn trouble(&self, osd: u64, error: &WireError) -> Trouble {
        match error.code {
            Code::OldEpoch => error.hint.parse().map_or(Trouble::Lost, Trouble::OldEpoch),
            Code::NoSpace => Trouble::NoSpace,
            code => {
                if code == Code::Unavailable && matches!(error.hint.as_str(), "refused" | "reset") {
                    self.suspect(osd, error.hint == "refused");
                }
                tracing::debug!(osd, %error, "a call to another replica failed");
                Trouble::Lost
            }
        }
    }

    /// Tells the DIR that a connection to an OSD was refused or lost.
    fn suspect(&self, osd: u64, refused: bool) {
        let known = self.known();
        let addr = known.map.osds.iter().find(|entry| entry.osd == osd).map(|entry| entry.addr.clone());
        if let Some(addr) = addr {
            // When many are waiting to be told, one less does no harm.
            let _ = self.evidence.try_send(Evidence { osd, addr, refused });
        }
    }

    pub(super) fn head(&self, cell: &Cell, osd: u64, epoch: u64) -> Result<(ReplicaHead, String), WireError> {
        let known = self.known();
        let entry =
            known.map.osds.iter().find(|entry| entry.osd == osd).ok_or_else(|| {
                WireError::new(Code::Unavailable, format!("osd#{osd} is not in the OSD map"))
            })?;
        let head = ReplicaHead {
            capability: self.right()?,
            volume: cell.key.0,
            ino: cell.key.1,
            of: cell.shape().of.clone(),
            epoch,
            to_since: entry.since_epoch,
        };
        Ok((head, entry.addr.clone()))
    }

    pub(super) async fn send<M: Method>(
        &self,
        addr: &str,
        request: &M::Request,
        payload: Bytes,
        deadline: Duration,
    ) -> Result<(M::Reply, Bytes), WireError> {
        let connector = self.connector.get().ok_or_else(|| {
            WireError::new(Code::Unavailable, "this OSD has not started its heartbeats yet")
        })?;
        let channel = connector.channel(addr)?;
        let options = CallOptions { deadline, ..CallOptions::default() };
        call_with::<M>(&*channel, request, payload, &options).await
    }

    async fn ask(&self, cell: &Cell, osd: u64, epoch: u64) -> Result<Reply, WireError> {
        let (head, addr) = self.head(cell, osd, epoch)?;
        let ask = ReplicaAsk { head, map_epoch: self.known().map.epoch };
        let (state, _) = self.send::<AskReplica>(&addr, &ask, Bytes::new(), PATIENCE).await?;
        if !state.objects.len().is_multiple_of(3) {
            return Err(WireError::new(Code::Internal, "a replica's state is not a list of triples"));
        }
        let triples = state.objects.chunks_exact(3);
        let objects = triples.map(|t| (t[0], Version { epoch: t[1], number: t[2] })).collect();
        let damaged = state.damaged.into_iter().collect();
        Ok(Reply::Told(Told { adopted: state.adopted, doubtful: state.doubtful, objects, damaged }))
    }

    async fn apply(
        &self,
        cell: &Cell,
        osd: u64,
        epoch: u64,
        (object, base, number): (u64, Version, u64),
        change: &Change,
    ) -> Result<Reply, WireError> {
        let (head, addr) = self.head(cell, osd, epoch)?;
        let mut request = ReplicaApply {
            head,
            object,
            base_epoch: base.epoch,
            base_number: base.number,
            number,
            kind: ChangeKind::Write as i32,
            offset: 0,
            len: 0,
            checksums: Vec::new(),
            crc: 0,
            sync: false,
        };
        let mut payload = Bytes::new();
        match change {
            Change::Write { offset, data, sums, crc, sync } => {
                (request.offset, request.crc, request.sync) = (*offset, *crc, *sync);
                request.checksums.clone_from(sums);
                payload = data.clone();
            }
            Change::Punch { offset, len } => {
                request.kind = ChangeKind::Punch as i32;
                (request.offset, request.len) = (*offset, *len);
            }
            Change::Cut { keep } => {
                request.kind = ChangeKind::Cut as i32;
                request.len = *keep;
            }
            Change::Copy(_) | Change::Patch(_) => {
                return Err(WireError::new(Code::Internal, "a copy is not a numbered change"));
            }
        }
        let (applied, _) = self.send::<ApplyReplica>(&addr, &request, payload, PATIENCE).await?;
        Ok(if applied.needs_object { Reply::NeedsObject } else { Reply::Applied })
    }

    /// An object as it is here; mends it first when it is damaged.
    pub(super) async fn whole(&self, key: ObjectKey) -> Result<Option<((u64, u64), Copied)>, StoreError> {
        match self.store.copy(key).await {
            Err(StoreError::Corrupt(_)) if self.mend(key).await? => self.store.copy(key).await,
            copy => copy,
        }
    }

    async fn order(&self, cell: &Cell, osd: u64, epoch: u64, kind: OrderKind) -> Result<Reply, WireError> {
        let (head, addr) = self.head(cell, osd, epoch)?;
        let request = ReplicaOrder { head, kind: kind as i32 };
        let patience = if kind == OrderKind::Sync { LONG_PATIENCE } else { PATIENCE };
        self.send::<OrderReplica>(&addr, &request, Bytes::new(), patience).await?;
        Ok(Reply::Done)
    }

    /// Tells whoever leads now that this column lags; gives up when the map has moved on.
    pub(super) async fn nudge(&self, cell: &Cell, heir: u64) {
        for _ in 0..NUDGES {
            let known = self.known();
            let lists = cell.shape().lists.clone();
            let role = crate::engine::replication::role(&known.map, &lists);
            if role.primary != Some(heir) {
                return;
            }
            let slot = self.resync.openings.acquire().await;
            match self.order(cell, heir, role.epoch, OrderKind::Open).await {
                Ok(_) => return,
                // Its list has changed: whoever changed it has the column opened.
                Err(error) if view_promised(&error) > lists.view => return,
                Err(error) => {
                    tracing::debug!(heir, %error, "whoever leads a lagging column now did not open it")
                }
            }
            drop(slot);
            tokio::time::sleep(NUDGE_AGAIN).await;
        }
    }
}

/// The view that an OSD has promised which refused; 0 when that was not why.
fn view_promised(error: &WireError) -> u64 {
    match error.code {
        Code::OldEpoch => error.hint.parse().map_or(0, view_of),
        _ => 0,
    }
}

/// An object for the wire.
pub(super) fn wire_copy(object: u64, copy: Option<((u64, u64), Copied)>) -> (ObjectCopy, Bytes) {
    let Some(((epoch, number), copied)) = copy else {
        return (ObjectCopy { object, ..ObjectCopy::default() }, Bytes::new());
    };
    let runs = copied.runs.iter().flat_map(|(first, count)| [*first, *count]).collect();
    let copy = ObjectCopy { object, epoch, number, bytes: copied.bytes, runs, checksums: copied.sums };
    (copy, copied.data)
}

/// An object from the wire, its shape checked; the checksums are [`Copied::check`]'s business.
pub(super) fn parse_copy(copy: &osd::ObjectCopy, data: Bytes) -> Result<Option<Copied>, WireError> {
    if (copy.epoch, copy.number) == (0, 0) {
        return Ok(None);
    }
    if !copy.runs.len().is_multiple_of(2) || copy.bytes > proto::limits::STRIPE_BYTES_MAX {
        return Err(WireError::new(Code::BadRequest, "a copy of an object has odd runs or is too long"));
    }
    let runs = copy.runs.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    Ok(Some(Copied { bytes: copy.bytes, runs, sums: copy.checksums.clone(), data }))
}
