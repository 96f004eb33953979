//! The loop: drains the inbox into the replica and does what it wants, on whatever thread is there.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::dir::GroupStatus;
use proto::id::{GroupId, MemberId};
use proto::limits::PROPOSALS_MAX;
use proto::rpc::Origin;
use rt::clock::Clock;
use rt::rpc::Connector;
use rt::table::Table;
use tokio::sync::oneshot;

use super::room::Room;
use super::sender::Senders;
use super::syncer::{Syncer, Task};
use crate::error::QuorumError;
use crate::machine::StateMachine;
use crate::replica::{Input, Now, Output, Replica, Setup, rows::Members};

/// Whoever waits for an answer.
pub(super) type Waiter = oneshot::Sender<Result<Bytes, QuorumError>>;

/// Deliveries and other inputs beside proposals that may wait.
const INBOX_MAX: usize = 4 * PROPOSALS_MAX;

/// A member that paused because its disk was full is looked at so often.
const ROOM_AGAIN: Duration = Duration::from_millis(500);
/// So much must be free for it to start anew.
const ROOM: u64 = 8 << 20;

/// What a member is started from.
pub(super) struct Again {
    pub(super) setup: Setup,
    pub(super) machine: Arc<dyn StateMachine>,
}

/// See the module.
pub(super) struct Driver {
    group: GroupId,
    me: MemberId,
    again: Again,
    room: Room,
    /// When it is looked again whether there is room, nanoseconds of the monotonic clock.
    look_at: AtomicU64,
    clock: Arc<dyn Clock>,
    /// order: before `inbox`, `view`, and the service's own locks (its callbacks run under it).
    replica: Mutex<Replica<Waiter>>,
    /// order: nothing is taken while it is held.
    inbox: Mutex<Vec<Input<Waiter>>>,
    senders: Senders,
    syncer: Syncer,
    table: Arc<dyn Table>,
    /// Nanoseconds of the monotonic clock until which the lease holds; 0: it does not.
    lease_until: AtomicU64,
    leads: AtomicBool,
    /// order: nothing is taken while it is held.
    view: Mutex<View>,
    /// The handle is gone or the member shut down: tasks end.
    pub(super) halted: AtomicBool,
    /// Those who put several things into the inbox before it is looked into.
    gathering: AtomicUsize,
}

#[derive(Default)]
struct View {
    status: GroupStatus,
    members: BTreeMap<u64, String>,
    members_epoch: u64,
}

/// Both clocks.
pub(super) fn now(clock: &dyn Clock) -> Now {
    Now { monotonic: clock.monotonic(), unix: clock.unix() }
}

impl Driver {
    pub(super) fn start(
        replica: Replica<Waiter>,
        again: Again,
        tick: Duration,
        connector: Arc<Connector>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, QuorumError> {
        let (group, me) = (again.setup.group, again.setup.me);
        let table = replica.table().clone();
        let incarnation = replica.incarnation();
        let members = replica.contacts();
        let driver = Arc::new_cyclic(|driver| Self {
            group,
            me,
            again,
            room: Room::default(),
            look_at: AtomicU64::new(0),
            clock,
            senders: Senders::new(group, me, incarnation, connector, driver.clone()),
            table,
            syncer: Syncer::new(driver.clone()),
            replica: Mutex::new(replica),
            inbox: Mutex::new(Vec::new()),
            lease_until: AtomicU64::new(0),
            leads: AtomicBool::new(false),
            view: Mutex::new(View::default()),
            halted: AtomicBool::new(false),
            gathering: AtomicUsize::new(0),
        });
        driver.syncer.start(group).map_err(|error| QuorumError::Stopped {
            group,
            cause: format!("no thread for syncing: {error}"),
        })?;
        driver.senders.reach(&members);
        let weak = Arc::downgrade(&driver);
        tokio::spawn(async move {
            // Ticks that were missed stay missed: a stalled member must not believe that time has flown.
            let mut ticks = rt::clock::ticks(tick);
            loop {
                ticks.tick().await;
                let Some(driver) = weak.upgrade() else { return };
                if driver.halted.load(Ordering::Acquire) {
                    return;
                }
                driver.push(Input::Tick);
                if !driver.again.setup.log.look(driver.monotonic()) {
                    driver.room.has_room();
                }
                driver.drive();
                driver.start_anew();
            }
        });
        driver.turn();
        Ok(driver)
    }

    pub(super) fn table(&self) -> &dyn Table {
        &*self.table
    }

    pub(super) fn group(&self) -> GroupId {
        self.group
    }

    pub(super) fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    pub(super) fn lease_holds(&self) -> bool {
        let until = self.lease_until.load(Ordering::Acquire);
        until == u64::MAX || (until > 0 && self.monotonic().as_nanos() < u128::from(until))
    }

    pub(super) fn leads(&self) -> bool {
        self.leads.load(Ordering::Acquire)
    }

    pub(super) fn status(&self) -> GroupStatus {
        self.view.lock().status.clone()
    }

    pub(super) fn members(&self) -> BTreeMap<u64, String> {
        self.view.lock().members.clone()
    }

    /// Puts something into the inbox; `false`: it is full.
    pub(super) fn push(&self, input: Input<Waiter>) -> bool {
        let mut inbox = self.inbox.lock();
        let room = match input {
            Input::Propose { .. } | Input::Read(_) | Input::Sync(_) => inbox.len() < PROPOSALS_MAX,
            // Lost messages are sent again by their senders.
            Input::Deliver { .. } | Input::Tick => inbox.len() < INBOX_MAX,
            _ => true,
        };
        if room {
            inbox.push(input);
        }
        room
    }

    /// Until [`Driver::gathered`] nobody looks into the inbox on account of what is put there.
    pub(super) fn gather(&self) {
        self.gathering.fetch_add(1, Ordering::AcqRel);
    }

    /// See [`Driver::gather`].
    pub(super) fn gathered(&self) {
        self.gathering.fetch_sub(1, Ordering::AcqRel);
        self.drive();
    }

    /// Works until the inbox is empty, or leaves it to whoever is at work already, or is about to be.
    pub(super) fn drive(&self) {
        loop {
            if self.gathering.load(Ordering::Acquire) > 0 {
                return;
            }
            let Some(mut replica) = self.replica.try_lock() else { return };
            self.turn_locked(&mut replica);
            drop(replica);
            // Whoever pushed while the lock was held relied on this look.
            if self.inbox.lock().is_empty() {
                return;
            }
        }
    }

    /// See [`super::Group::has_room`].
    pub(super) fn has_room(&self) -> bool {
        !self.again.setup.log.look(self.monotonic())
    }

    /// Whether this leader takes a change. Without room it does not, and another member that may have some is to lead.
    /// `in_need`: it may take of what is kept for that. Who repeats what was done hears of that.
    pub(super) fn admit(&self, origin: &Origin, in_need: bool) -> Result<(), QuorumError> {
        let (now, reserve) = (self.monotonic(), &self.again.setup.log);
        if !reserve.look(now) || in_need && reserve.has_some() {
            return Ok(());
        }
        let has_applied_all = {
            let replica = self.replica.lock();
            if replica.answered(origin).is_some() {
                return Ok(());
            }
            replica.has_applied_all()
        };
        let hands_over = self.view.lock().status.voters.len() > 1 && self.room.hands_over(now);
        let alone = !hands_over && has_applied_all;
        if hands_over {
            tracing::warn!(group = %self.group, member = self.me.0, "the log's disk is nearly full; another member is to lead");
            self.push(Input::Transfer(None));
            self.drive();
        }
        let cause = "the disk of its log is nearly full".to_owned();
        Err(QuorumError::Full { group: self.group, cause, alone })
    }

    /// A member that paused for want of room starts anew when there is some: what it had in memory may be ahead of its disk.
    fn start_anew(&self) {
        let Some(mut replica) = self.replica.try_lock() else { return };
        let at = now(&*self.clock);
        let nanos = u64::try_from(at.monotonic.as_nanos()).unwrap_or(u64::MAX);
        let due = nanos >= self.look_at.load(Ordering::Acquire);
        if !due || !replica.may_start_anew() || self.halted.load(Ordering::Acquire) {
            return;
        }
        let pause = u64::try_from(ROOM_AGAIN.as_nanos()).unwrap_or(u64::MAX);
        self.look_at.store(nanos.saturating_add(pause), Ordering::Release);
        if self.again.setup.log.disk().free_bytes().is_ok_and(|free| free < ROOM) {
            return;
        }
        let setup = Setup { seed: rand::random(), ..self.again.setup.clone() };
        match Replica::start(setup, self.again.machine.clone(), at) {
            Ok(fresh) => {
                replica.retire();
                *replica = fresh;
                tracing::info!(group = %self.group, member = self.me.0, "there is room again: the member goes on");
                // Whoever its members are: this one counts their changes anew.
                self.view.lock().members_epoch = 0;
                self.senders.renew(replica.incarnation(), &replica.contacts());
                self.publish(&replica);
            }
            Err(error) => {
                tracing::debug!(group = %self.group, %error, "the member cannot go on yet");
                return;
            }
        }
        drop(replica);
        self.drive();
    }

    fn turn(&self) {
        let mut replica = self.replica.lock();
        self.turn_locked(&mut replica);
        drop(replica);
        self.drive();
    }

    fn turn_locked(&self, replica: &mut Replica<Waiter>) {
        let inputs = std::mem::take(&mut *self.inbox.lock());
        let mut out = Vec::new();
        let at = now(&*self.clock);
        let run = std::panic::catch_unwind(AssertUnwindSafe(|| {
            for input in inputs {
                replica.handle(input, at, &mut out);
            }
            replica.settle(at, &mut out);
        }));
        if let Err(panic) = run {
            // raft-rs panics where its assumptions break (two logs that cannot both be right). The group's other
            // members go on without this one.
            let text = panic.downcast_ref::<String>().map_or("a broken invariant", String::as_str);
            replica.abort(&format!("raft panicked: {text}"), &mut out);
        }
        // Visible before any answer is.
        self.publish(replica);
        self.run(out);
    }

    fn publish(&self, replica: &Replica<Waiter>) {
        let until = replica.lease_until().map_or(0, |until| {
            if until == Duration::MAX {
                u64::MAX
            } else {
                u64::try_from(until.as_nanos()).unwrap_or(u64::MAX - 1)
            }
        });
        self.lease_until.store(until, Ordering::Release);
        let role = replica.role();
        let serves = replica.stopped().is_none() || replica.serves_though_full();
        self.leads.store(role.leading && serves, Ordering::Release);
        let view = &mut *self.view.lock();
        if view.members_epoch != replica.members_epoch() {
            view.members_epoch = replica.members_epoch();
            view.members = replica.members().all();
            list_members(&mut view.status, replica.members());
        }
        let status = &mut view.status;
        status.group = self.group.0;
        status.member = self.me.0;
        status.leader = role.leader;
        status.term = role.term;
        status.committed = replica.engine().committed();
        status.applied = replica.applied();
        let name = match () {
            () if replica.serves_though_full() => "leader",
            () if replica.stopped().is_some() => "stopped",
            () if replica.is_rejoining() => "rejoining",
            () if role.leading => "leader",
            () if role.candidate => "candidate",
            () if replica.members().learners.contains_key(&self.me.0) => "learner",
            () => "follower",
        };
        if status.role != name {
            name.clone_into(&mut status.role);
        }
    }

    fn run(&self, out: Vec<Output<Waiter>>) {
        let mut messages: BTreeMap<u64, Vec<Bytes>> = BTreeMap::new();
        for output in out {
            match output {
                Output::Send { to, message } => messages.entry(to).or_default().push(message),
                // Whoever waited may have gone.
                Output::Answer(waiter, result) => drop(waiter.send(result)),
                Output::Sync(job) => self.syncer.give(Task::Sync(job)),
                Output::Flush(index) => self.syncer.give(Task::Flush(index)),
                Output::Members(members) => {
                    // In order: what was said to a member before it went still goes to it.
                    self.send(std::mem::take(&mut messages));
                    self.senders.reach(&members);
                }
            }
        }
        self.send(messages);
    }

    fn send(&self, messages: BTreeMap<u64, Vec<Bytes>>) {
        for (to, messages) in messages {
            if let Some(lost) = self.senders.send(to, messages) {
                // Whoever drives looks into the inbox again.
                self.push(Input::Unreachable(lost));
            }
        }
    }

    /// As if the process was killed: no further input is taken.
    #[cfg(test)]
    pub(super) fn die(&self) {
        self.halted.store(true, Ordering::Release);
        self.replica.lock().abort("killed", &mut Vec::new());
        self.syncer.stop();
        self.senders.stop();
    }

    /// A proper stop; blocks for syncs.
    pub(super) fn close(&self) -> Result<(), QuorumError> {
        let mut out = Vec::new();
        let mut replica = self.replica.lock();
        let inputs = std::mem::take(&mut *self.inbox.lock());
        let at = now(&*self.clock);
        for input in inputs {
            replica.handle(input, at, &mut out);
        }
        let done = replica.close(&mut out);
        self.publish(&replica);
        drop(replica);
        self.run(out);
        self.halted.store(true, Ordering::Release);
        self.syncer.stop();
        self.senders.stop();
        done
    }
}

fn list_members(status: &mut GroupStatus, members: &Members) {
    let list = |members: &BTreeMap<u64, String>| {
        members.iter().map(|(id, address)| format!("{id}={address}")).collect()
    };
    status.voters = list(&members.voters);
    status.learners = list(&members.learners);
}
