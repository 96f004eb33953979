//! Effects carried out: on the thread that has them as far as they go at once, the rest as a task.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proto::id::{Ino, VolumeId};

use super::cell::Cell;
use super::{Change, Payload, Replicas, Waiter};
use crate::engine::replication::{Effect, Event, Reply, Told, Trouble, Version, Work};
use crate::store::{Result, Stamp, StoreError};

type Cause = Event<Payload, Waiter>;
type Ending = Pin<Box<dyn Future<Output = Cause> + Send>>;

impl Replicas {
    /// Gives an event to a column and carries out what follows.
    pub(super) fn tell(self: &Arc<Self>, cell: &Arc<Cell>, event: Cause) {
        self.tell_with(cell, |_| event);
    }

    /// The same for an event that is made under the column's lock: what it says of the store holds when it is handled.
    pub(super) fn tell_with(self: &Arc<Self>, cell: &Arc<Cell>, make: impl FnOnce(&Self) -> Cause) {
        let now = self.clock.monotonic();
        let broken;
        let effects = {
            let mut engine = cell.engine.lock();
            let event = make(self);
            let effects = engine.handle(event, now);
            self.plan_tick(cell, engine.next_tick(), now);
            broken = engine.is_broken();
            effects
        };
        if broken {
            self.begin_new_life();
        }
        self.carry_out(cell, effects);
    }

    fn carry_out(self: &Arc<Self>, cell: &Arc<Cell>, effects: Vec<Effect<Payload, Waiter>>) {
        let mut queue = VecDeque::from(effects);
        while let Some(effect) = queue.pop_front() {
            let ending: Ending = match effect {
                Effect::Answer { waiter, outcome } => {
                    // Who does not wait any more has no interest.
                    let _ = waiter.send(outcome);
                    continue;
                }
                Effect::Work { work, what } => {
                    let (this, cell) = (self.clone(), cell.clone());
                    Box::pin(async move { Event::Worked { work, done: this.work(&cell, what).await } })
                }
                Effect::Call { call, osd, epoch, what } => {
                    let (this, cell) = (self.clone(), cell.clone());
                    Box::pin(async move { this.call(&cell, call, osd, epoch, what).await })
                }
            };
            if let Some(event) = self.start(cell, ending) {
                let now = self.clock.monotonic();
                let mut engine = cell.engine.lock();
                queue.extend(engine.handle(self.complete(cell, event), now));
                self.plan_tick(cell, engine.next_tick(), now);
            }
        }
    }

    /// What has ended when it returns, or nothing: then a task goes on with it.
    fn start(self: &Arc<Self>, cell: &Arc<Cell>, mut ending: Ending) -> Option<Cause> {
        let runtime = self.runtime.get()?;
        // Callers of the same process may come from threads of their own.
        let _inside = runtime.enter();
        if let Poll::Ready(event) = ending.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Some(event);
        }
        let (this, cell) = (self.clone(), cell.clone());
        runtime.spawn(async move {
            let event = ending.await;
            this.tell_with(&cell.clone(), |this| this.complete(&cell, event));
        });
        None
    }

    /// Answers about state are compared with what is here now.
    fn complete(&self, cell: &Cell, event: Cause) -> Cause {
        match event {
            Event::Called { call, result: result @ (Ok(Reply::Told(_)) | Err(Trouble::Damaged)), .. } => {
                let mine = self.versions(cell).unwrap_or_else(|error| {
                    tracing::warn!(%error, "a column could not be listed");
                    Vec::new()
                });
                Event::Called { call, result, mine }
            }
            other => other,
        }
    }

    /// The column's objects and their versions.
    fn versions(&self, cell: &Cell) -> Result<Vec<(u64, Version)>> {
        let (volume, ino, column) = cell.key;
        let of_column = (u64::from(column), cell.width);
        let objects = self.store.list_column(VolumeId(volume), Ino(ino), of_column)?;
        let version = |(epoch, number)| Version { epoch, number };
        Ok(objects.into_iter().map(|(object, r)| (object.0, version((r.epoch, r.version)))).collect())
    }

    /// The version of an object here. An unreadable row counts as none: the object is then pushed or fetched.
    pub(super) fn version(&self, cell: &Cell, object: u64) -> Version {
        let (epoch, number) = self.store.stamp_of(self.object(cell, object)).unwrap_or_default();
        Version { epoch, number }
    }

    async fn work(&self, cell: &Cell, what: Work<Payload>) -> Option<Reply> {
        let (volume, ino, column) = cell.key;
        let view = cell.view();
        let done = match what {
            Work::Apply { object, version, payload } | Work::Install { object, version, payload } => {
                let done = match self.change(cell, object, version, &payload).await {
                    // A change of part of a block needs the rest of it. Nothing was changed yet.
                    Err(StoreError::Corrupt(why)) => match self.mend(self.object(cell, object)).await {
                        Ok(true) => self.change(cell, object, version, &payload).await,
                        _ => Err(StoreError::Corrupt(why)),
                    },
                    done => done,
                };
                done.map(|done| if done { Reply::Done } else { Reply::NeedsObject })
            }
            Work::List => self.state(cell).map(Reply::Told),
            Work::Adopt { epoch } => self
                .store
                .adopt(VolumeId(volume), Ino(ino), u64::from(column), epoch, view)
                .map(|()| Reply::Done),
            Work::Sync => self.store.sync_file(VolumeId(volume), Ino(ino)).await.map(|()| Reply::Done),
        };
        match done {
            Ok(reply) => Some(reply),
            Err(StoreError::NoSpace(_)) => Some(Reply::NoSpace),
            Err(error) => {
                tracing::warn!(%error, volume, ino, column, "a step of replication failed in the own store");
                None
            }
        }
    }

    fn state(&self, cell: &Cell) -> Result<Told> {
        let (volume, ino, column) = cell.key;
        let kept = self.store.column(VolumeId(volume), Ino(ino), u64::from(column))?;
        let damaged =
            self.store.damaged_of_column(VolumeId(volume), Ino(ino), (u64::from(column), cell.width));
        Ok(Told {
            adopted: kept.adopted,
            doubtful: kept.doubtful,
            objects: self.versions(cell)?,
            damaged: damaged.into_iter().collect(),
        })
    }

    /// False: the object is not what the change was made for.
    async fn change(&self, cell: &Cell, object: u64, version: Version, change: &Change) -> Result<bool> {
        let key = self.object(cell, object);
        let stamp = Stamp { epoch: version.epoch, view: cell.view(), version: version.number };
        match change {
            Change::Write { offset, data, sums, sync, .. } => {
                let done = self.store.write(key, *offset, data.clone(), sums.clone(), stamp).await?;
                if *sync {
                    self.store.sync_object(key, done.seq).await?;
                }
            }
            Change::Punch { offset, len } => {
                self.store.punch(key, *offset, (*len).max(1), stamp).await?;
            }
            Change::Cut { keep } => drop(self.store.cut(key, *keep, stamp).await?),
            Change::Copy(copied) => self.store.install(key, stamp, copied.as_ref()).await?,
            Change::Patch(delta) => return self.store.patch(key, stamp, delta).await,
        }
        Ok(true)
    }

    pub(super) fn map_changed(self: &Arc<Self>, cell: &Arc<Cell>) {
        let known = self.known();
        let now_role = self.role(&known.map, &cell.shape().lists);
        let heir = now_role.primary.filter(|primary| *primary != known.me);
        let lagged = cell.engine.lock().lag().0 > 0;
        self.tell(cell, Event::Map(now_role));
        if let (true, Some(heir), Some(runtime)) = (lagged, heir, self.runtime.get()) {
            // Whoever leads now may not hear of this column from a client for long: it lags.
            let (this, cell) = (self.clone(), cell.clone());
            // Until it is open there it counts as lagging here: nobody else knows of it.
            *self.nudged.lock().entry(heir).or_default() += 1;
            runtime.spawn(async move {
                this.nudge(&cell, heir).await;
                let mut nudged = this.nudged.lock();
                if let Some(count) = nudged.get_mut(&heir) {
                    *count -= 1;
                }
                nudged.retain(|_, count| *count > 0);
            });
        }
    }

    fn plan_tick(self: &Arc<Self>, cell: &Arc<Cell>, due: Option<Duration>, now: Duration) {
        let Some(due) = due else { return };
        let micros = u64::try_from(due.as_micros()).unwrap_or(u64::MAX).max(1);
        let planned = cell.tick_at.load(Ordering::Acquire);
        if planned != 0 && planned <= micros {
            return;
        }
        let Some(runtime) = self.runtime.get() else { return };
        cell.tick_at.store(micros, Ordering::Release);
        let (this, cell) = (self.clone(), cell.clone());
        let pause = due.saturating_sub(now) + Duration::from_millis(1);
        runtime.spawn(async move {
            tokio::time::sleep(pause).await;
            // An earlier one may have been planned since; then this one is superfluous and harmless.
            let _ = cell.tick_at.compare_exchange(micros, 0, Ordering::AcqRel, Ordering::Acquire);
            this.tell(&cell, Event::Tick);
        });
    }
}
