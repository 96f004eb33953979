//! Requests of other OSDs.

use std::sync::Arc;

use bytes::Bytes;
use proto::error::{Code, WireError};
use proto::id::{Ino, VolumeId};
use proto::osd::{
    ChangeKind, ObjectCopy, OrderKind, ReplicaApplied, ReplicaApply, ReplicaAsk, ReplicaFetch, ReplicaHead,
    ReplicaInstall, ReplicaInstalled, ReplicaOrder, ReplicaState,
};
use proto::rpc::Empty;
use tokio::sync::oneshot;

use super::calls::{parse_copy, wire_copy};
use super::cell::Cell;
use super::{Change, Replicas};
use crate::engine::replication::{Event, Failure, Outcome, Range, Reply, Version, first_of, map_part};

/// How long whoever orders an opening waits for it.
const OPENING: std::time::Duration = std::time::Duration::from_secs(1);

impl Replicas {
    /// Finds the column; refuses what is meant for another life of this process.
    pub(super) async fn of_peer(self: &Arc<Self>, head: &ReplicaHead) -> Result<Arc<Cell>, WireError> {
        let known = self.known_at(0).await?;
        if known.since != head.to_since {
            self.refresh.notify_one();
            return Err(WireError::new(
                Code::Busy,
                format!("this OSD lives since map {}, the caller means {}", known.since, head.to_since),
            ));
        }
        let cell = match self.cell(&known, head.volume, head.ino, &head.of) {
            // What is promised on the medium is above whatever epoch the caller has.
            Err(error) if error.code == Code::OldView => {
                let column = u64::from(head.of.column);
                let kept = self.store.column(VolumeId(head.volume), Ino(head.ino), column)?;
                return Err(refusal(Failure::OldEpoch(first_of(kept.view))));
            }
            cell => cell?,
        };
        if head.of.layout.view < cell.view() {
            let promised = cell.engine.lock().promised();
            return Err(refusal(Failure::OldEpoch(promised.max(first_of(cell.view())))));
        }
        self.raise(&cell, &head.of).await?;
        Ok(cell)
    }

    pub(crate) async fn told_state(self: &Arc<Self>, request: ReplicaAsk) -> Result<ReplicaState, WireError> {
        let cell = self.of_peer(&request.head).await?;
        let (waiter, answer) = oneshot::channel();
        self.tell(&cell, Event::Ask { epoch: request.head.epoch, map: request.map_epoch, waiter });
        match replied(answer).await? {
            Reply::Told(told) => {
                let flat = |(object, version): (u64, Version)| [object, version.epoch, version.number];
                let objects = told.objects.into_iter().flat_map(flat).collect();
                let damaged = told.damaged.into_iter().collect();
                Ok(ReplicaState { adopted: told.adopted, doubtful: told.doubtful, objects, damaged })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// The payload was compared with its checksums.
    pub(crate) async fn apply_for(
        self: &Arc<Self>,
        request: ReplicaApply,
        data: Bytes,
    ) -> Result<ReplicaApplied, WireError> {
        let ReplicaApply { head, object, number, offset, len, checksums, crc, sync, .. } = request;
        let cell = self.of_peer(&head).await?;
        let change = match ChangeKind::try_from(request.kind) {
            Ok(ChangeKind::Write) => Change::Write { offset, data, sums: checksums, crc, sync },
            Ok(ChangeKind::Punch) => Change::Punch { offset, len },
            Ok(ChangeKind::Cut) => Change::Cut { keep: len },
            Err(_) => {
                let what = format!("a change of kind {} is not known to this version of xtfs", request.kind);
                return Err(WireError::new(Code::BadRequest, what));
            }
        };
        let base = Version { epoch: request.base_epoch, number: request.base_number };
        let (payload, epoch) = (Arc::new(change), head.epoch);
        let (waiter, answer) = oneshot::channel();
        self.tell_with(&cell, |this| {
            let local = this.version(&cell, object);
            Event::Apply { epoch, object, base, number, payload, local, waiter }
        });
        match replied(answer).await? {
            Reply::Applied => Ok(ReplicaApplied { needs_object: false }),
            Reply::NeedsObject => Ok(ReplicaApplied { needs_object: true }),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) async fn install_for(
        self: &Arc<Self>,
        request: ReplicaInstall,
        data: Bytes,
    ) -> Result<ReplicaInstalled, WireError> {
        let cell = self.of_peer(&request.head).await?;
        let (copy, epoch) = (request.copy, request.head.epoch);
        let (object, version) = (copy.object, Version { epoch: copy.epoch, number: copy.number });
        let key = self.object(&cell, object);
        let copied = parse_copy(&copy, data)?.map(|copied| copied.check(key)).transpose()?;
        let payload = Arc::new(Change::Copy(copied));
        let (waiter, answer) = oneshot::channel();
        self.tell_with(&cell, |this| {
            let local = this.version(&cell, object);
            let damaged = this.store.is_damaged(key);
            Event::Install { epoch, object, base: None, version, payload, local, damaged, waiter }
        });
        match replied(answer).await? {
            Reply::Version(Version { epoch, number }) => Ok(ReplicaInstalled { epoch, number }),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) async fn fetch_for(
        self: &Arc<Self>,
        request: ReplicaFetch,
    ) -> Result<(ObjectCopy, Bytes), WireError> {
        let cell = self.of_peer(&request.head).await?;
        let copy = self.whole(self.object(&cell, request.object)).await?;
        Ok(wire_copy(request.object, copy))
    }

    pub(crate) async fn order_for(self: &Arc<Self>, request: ReplicaOrder) -> Result<Empty, WireError> {
        let cell = self.of_peer(&request.head).await?;
        let epoch = request.head.epoch;
        let (waiter, answer) = oneshot::channel();
        let event = match OrderKind::try_from(request.kind) {
            Ok(OrderKind::Adopt) => Event::Adopt { epoch, waiter },
            Ok(OrderKind::Sync) => Event::SyncFor { epoch, waiter },
            Ok(OrderKind::Confirm) => Event::Confirm { epoch, waiter },
            // Any read opens the column. The sender waits for it only so that not all are opened at once.
            Ok(OrderKind::Open) => {
                self.known_at(map_part(epoch)).await?;
                self.tell(&cell, Event::Read { object: 0, range: Range::NONE, waiter });
                // Whatever comes of it: it was touched, and goes on by itself.
                let _ = tokio::time::timeout(OPENING, answer).await;
                return Ok(Empty {});
            }
            Err(_) => {
                let what = format!("an order of kind {} is not known to this version of xtfs", request.kind);
                return Err(WireError::new(Code::BadRequest, what));
            }
        };
        self.tell(&cell, event);
        match replied(answer).await? {
            Reply::Done => Ok(Empty {}),
            other => Err(unexpected(&other)),
        }
    }
}

pub(super) fn unexpected(reply: &Reply) -> WireError {
    if *reply == Reply::NoSpace {
        return WireError::new(Code::NoSpace, "this replica has no room");
    }
    WireError::new(Code::Internal, format!("a replica's answer {reply:?} does not fit the question"))
}

/// What the column answered to another OSD.
pub(super) async fn replied(answer: oneshot::Receiver<Outcome>) -> Result<Reply, WireError> {
    match answer.await {
        Ok(Outcome::Replied(reply)) => Ok(reply),
        Ok(Outcome::Failed(failure)) => Err(refusal(failure)),
        Ok(_) | Err(_) => Err(WireError::new(Code::Busy, "the column was dropped from memory; try again")),
    }
}

/// A failure for the wire.
pub(super) fn refusal(failure: Failure) -> WireError {
    match failure {
        Failure::OldEpoch(epoch) => WireError::new(
            Code::OldEpoch,
            format!("this OSD does not lead the column, or promised epoch {epoch}; fetch the OSD map"),
        )
        .with_hint(epoch.to_string()),
        Failure::Busy => WireError::new(Code::Busy, "too many requests wait for one column; try again"),
        Failure::NoSpace => WireError::new(Code::NoSpace, "no majority of the replicas has room left"),
        Failure::VoterDown(osd) => WireError::new(
            Code::ReplicaDown,
            format!(
                "osd#{osd} is down, and every replica must have the change (policy all): the MRC has to take its vote away first"
            ),
        ),
        Failure::Broken => WireError::new(
            Code::Unavailable,
            "a change of this column failed in the primary's own store; it opens its columns anew (see its log)",
        ),
    }
}
