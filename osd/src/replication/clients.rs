//! Requests of clients at the primary.

use std::sync::Arc;

use proto::error::{Code, WireError};
use proto::id::{Ino, ObjectKey, VolumeId};
use proto::osd::{ColumnOf, ColumnStatusReply, ReplicaStanding};
use tokio::sync::oneshot;

use super::cell::Cell;
use super::peers::refusal;
use super::{Change, Payload, Replicas, outdated};
use crate::engine::replication::{Event, Failure, Outcome, Range, view_of};
use crate::store::{Listed, ReadOutcome, StoreError};

/// Objects cut at the same time.
const CUTS_AT_ONCE: usize = 256;

/// How long a question for the state of a column waits for its opening.
const OPENING: std::time::Duration = std::time::Duration::from_secs(1);

/// A column that a client means.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(super) cell: Arc<Cell>,
}

impl Replicas {
    /// Finds the column that a client means. The caller has checked the capability; this checks what it says of
    /// the layout.
    pub(crate) async fn of_client(
        self: &Arc<Self>,
        capability: &proto::capability::Capability,
        of: &ColumnOf,
        map_epoch: u64,
    ) -> Result<Asked, WireError> {
        if capability.layout == 0 || of.layout.digest() != capability.layout {
            return Err(WireError::new(
                Code::OldView,
                format!(
                    "the layout of ino-{} is not the one that its capability was made for",
                    capability.ino
                ),
            ));
        }
        let known = self.known_at(map_epoch).await?;
        let cell = self.cell(&known, capability.volume, capability.ino, of)?;
        if of.layout.view < cell.view() {
            return Err(outdated(capability.ino, of.layout.view, cell.view()));
        }
        self.raise(&cell, of).await?;
        Ok(Asked { cell })
    }

    /// Changes one object; gives the number of the change.
    pub(crate) async fn change_object(
        self: &Arc<Self>,
        asked: &Asked,
        object: u64,
        change: Change,
    ) -> Result<u64, WireError> {
        let cell = &asked.cell;
        in_column(cell, object)?;
        let (range, bytes) = match &change {
            Change::Write { offset, data, .. } => {
                let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
                (Range { from: *offset, to: offset.saturating_add(len) }, data.len() as u64)
            }
            Change::Punch { offset, len } => (Range { from: *offset, to: offset.saturating_add(*len) }, 0),
            Change::Cut { .. } | Change::Copy(_) | Change::Patch(_) => (Range::ALL, 0),
        };
        if bytes > u64::from(proto::limits::STRIPE_BYTES_MAX)
            || u64::from(range.from) + bytes > u64::from(proto::limits::STRIPE_BYTES_MAX)
        {
            return Err(WireError::new(Code::InvalidArgument, "a write reaches beyond the largest object"));
        }
        let key = self.object(cell, object);
        let _promise = match bytes {
            0 => None,
            bytes => {
                if cell.engine.lock().lacks_room(self.clock.monotonic()) {
                    return Err(refusal(Failure::NoSpace));
                }
                Some(self.store.promise_room(key, bytes).await?)
            }
        };
        let payload: Payload = Arc::new(change);
        loop {
            let (waiter, answer) = oneshot::channel();
            self.tell_with(cell, |this| {
                let (local, damaged) = (this.version(cell, object), this.store.is_damaged(key));
                Event::Change { object, range, payload: payload.clone(), local, damaged, waiter }
            });
            match outcome(cell, answer).await? {
                Outcome::Committed(number) => return Ok(number),
                Outcome::Again => {}
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Waits until this OSD serves the column and has the object, with all that it has numbered of the range; gives the epoch.
    async fn readable(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        object: u64,
        range: Range,
    ) -> Result<u64, WireError> {
        loop {
            let (waiter, answer) = oneshot::channel();
            self.tell(cell, Event::Read { object, range, waiter });
            match outcome(cell, answer).await? {
                Outcome::Readable(epoch) => return Ok(epoch),
                Outcome::Again => {}
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Waits until what was seen in the store may be shown.
    async fn showable(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        epoch: u64,
        object: u64,
        range: Range,
    ) -> Result<(), WireError> {
        let (waiter, answer) = oneshot::channel();
        let leased = self.is_leased();
        self.tell(cell, Event::Looked { epoch, object, range, leased, waiter });
        match outcome(cell, answer).await? {
            Outcome::Readable(_) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Reads part of an object.
    pub(crate) async fn read_object(
        self: &Arc<Self>,
        asked: &Asked,
        key: ObjectKey,
        (offset, len): (u32, u32),
        check: bool,
    ) -> Result<ReadOutcome, WireError> {
        let cell = &asked.cell;
        in_column(cell, key.object.0)?;
        let block = proto::limits::BLOCK_BYTES as u32;
        // Whole blocks are shown.
        let from = offset / block * block;
        let range = Range { from, to: offset.saturating_add(len).saturating_add(block) };
        let epoch = self.readable(cell, key.object.0, range).await?;
        let read = || self.read_stored(key, (offset, len), check);
        let outcome = match read().await {
            Err(StoreError::Corrupt(_)) if self.mend(key).await? => read().await?,
            read => read?,
        };
        self.showable(cell, epoch, key.object.0, range).await?;
        Ok(outcome)
    }

    /// Cuts the column: `keep` bytes stay of `first` if it lies in the column, all higher objects go.
    pub(crate) async fn truncate_column(
        self: &Arc<Self>,
        asked: &Asked,
        first: u64,
        keep: u32,
    ) -> Result<u64, WireError> {
        let objects = self.objects_from(asked, first).await?;
        let mut last = 0;
        let cut = |(object, length): &(u64, Option<u32>)| {
            let keep = if *object == first { keep } else { 0 };
            // What is short enough already needs no number.
            length.is_none_or(|length| length > keep).then_some((*object, keep))
        };
        let cuts: Vec<(u64, u32)> = objects.iter().filter_map(cut).collect();
        for chunk in cuts.chunks(CUTS_AT_ONCE) {
            let chunk = chunk
                .iter()
                .map(|(object, keep)| self.change_object(asked, *object, Change::Cut { keep: *keep }));
            let done = futures::future::try_join_all(chunk).await?;
            last = done.into_iter().fold(last, u64::max);
        }
        Ok(last)
    }

    /// Objects from `first` on with their length; `None`: a change of it is under way.
    async fn objects_from(
        self: &Arc<Self>,
        asked: &Asked,
        first: u64,
    ) -> Result<Vec<(u64, Option<u32>)>, WireError> {
        let cell = &asked.cell;
        let epoch = self.all_here(cell).await?;
        // In this order: what is no longer under way is in the store.
        let busy = cell.engine.lock().busy_objects();
        let mut objects: std::collections::BTreeMap<u64, Option<u32>> =
            self.listed(cell)?.into_iter().map(|(object, record)| (object.0, Some(record.length))).collect();
        objects.extend(busy.into_iter().map(|object| (object, None)));
        objects.retain(|object, _| *object >= first);
        self.showable(cell, epoch, 0, Range::NONE).await?;
        Ok(objects.into_iter().collect())
    }

    /// What this OSD has of an object; `check`: all of it is compared with its checksums.
    pub(super) async fn read_stored(
        &self,
        key: ObjectKey,
        (offset, len): (u32, u32),
        check: bool,
    ) -> Result<ReadOutcome, StoreError> {
        match check {
            true => self.store.read_checked(key, offset, len).await,
            false => self.store.read(key, offset, len).await,
        }
    }

    /// Waits until this OSD has every object of the column.
    async fn all_here(self: &Arc<Self>, cell: &Arc<Cell>) -> Result<u64, WireError> {
        let mut epoch = self.readable(cell, 0, Range::NONE).await?;
        loop {
            let lacking = cell.engine.lock().lacking();
            let Some(object) = lacking else { return Ok(epoch) };
            epoch = self.readable(cell, object, Range::NONE).await?;
        }
    }

    fn listed(&self, cell: &Cell) -> Result<Vec<Listed>, WireError> {
        let (volume, ino, column) = cell.key;
        Ok(self.store.list_column(VolumeId(volume), Ino(ino), (u64::from(column), cell.width))?)
    }

    /// The column's objects that hold something, from `first` on, at most `limit`, and whether there are more.
    pub(crate) async fn stat_column(
        self: &Arc<Self>,
        asked: &Asked,
        first: u64,
        limit: usize,
    ) -> Result<(Vec<Listed>, bool), WireError> {
        let cell = &asked.cell;
        let epoch = self.all_here(cell).await?;
        let mut found = self.listed(cell)?;
        self.showable(cell, epoch, 0, Range::NONE).await?;
        found.retain(|(object, record)| object.0 >= first && record.length > 0);
        let more = found.len() > limit;
        found.truncate(limit);
        Ok((found, more))
    }

    /// How far the replicas of a column are; opens it when it is not open.
    pub(crate) async fn column_status(
        self: &Arc<Self>,
        asked: &Asked,
    ) -> Result<ColumnStatusReply, WireError> {
        let cell = &asked.cell;
        let (waiter, answer) = oneshot::channel();
        self.tell(cell, Event::Read { object: 0, range: Range::NONE, waiter });
        // It may lack a majority for long: then this says so.
        if let Ok(outcome) = tokio::time::timeout(OPENING, outcome(cell, answer)).await {
            outcome?;
        }
        let view = cell.view();
        let engine = cell.engine.lock();
        let behind: std::collections::BTreeMap<u64, usize> = engine.behind().into_iter().collect();
        let members = engine.role().members.iter().map(|member| ReplicaStanding {
            osd: member.osd,
            up: member.up,
            in_sync: engine.is_serving() && !behind.contains_key(&member.osd),
            behind: behind.get(&member.osd).map_or(0, |objects| *objects as u64),
        });
        Ok(ColumnStatusReply {
            view,
            serving: engine.is_serving(),
            complete: engine.is_complete(),
            members: members.collect(),
        })
    }

    /// All that was acknowledged of the column is on disk at a majority.
    pub(crate) async fn sync_column(self: &Arc<Self>, asked: &Asked) -> Result<(), WireError> {
        loop {
            let (waiter, answer) = oneshot::channel();
            let cell = &asked.cell;
            self.tell(cell, Event::Sync { waiter });
            match outcome(cell, answer).await? {
                Outcome::Synced => return Ok(()),
                Outcome::Again => {}
                other => return Err(unexpected(&other)),
            }
        }
    }
}

pub(super) fn in_column(cell: &Cell, object: u64) -> Result<(), WireError> {
    if object % cell.width.max(1) == u64::from(cell.key.2) {
        return Ok(());
    }
    Err(WireError::new(
        Code::BadRequest,
        format!("object {object} does not lie in column {} of {}", cell.key.2, cell.width),
    ))
}

fn unexpected(outcome: &Outcome) -> WireError {
    WireError::new(Code::Internal, format!("a column's answer {outcome:?} does not fit the question"))
}

async fn outcome(cell: &Cell, answer: oneshot::Receiver<Outcome>) -> Result<Outcome, WireError> {
    match answer.await {
        // Another OSD promised a view that this one has not heard of: the client must get it from the MRC.
        Ok(Outcome::Failed(Failure::OldEpoch(epoch))) if view_of(epoch) > cell.view() => {
            Err(outdated(cell.key.1, cell.view(), view_of(epoch)))
        }
        Ok(Outcome::Failed(failure)) => Err(refusal(failure)),
        Ok(outcome) => Ok(outcome),
        Err(_) => Err(WireError::new(Code::Busy, "the column was dropped from memory; try again")),
    }
}
