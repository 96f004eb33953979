//! One member without its environment: engine, log, table and sessions behind `handle(input, now) -> outputs`.
//!
//! The daemon's driver (`group`) and the simulator (`chaos`) run this same code; they differ in who calls it, what
//! carries messages, and what disks and clocks are. Writes to the log (page cache) and to the table happen inside;
//! syncs and flushes, which can take long, are outputs and come back as inputs.
//!
//! Ladder: `input` (what comes in and goes out) <- `rows`, `command`, `sessions` (what is in table and log) <-
//! `apply` <- `start`, `waits`, `rejoin`, `transfer`, `install`, `members` (the parts) <- this file (the loop).

mod apply;
pub mod command;
mod full;
mod input;
mod install;
mod members;
mod note;
mod rejoin;
pub mod rows;
pub mod sessions;
mod start;
mod transfer;
mod waits;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::id::GroupId;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};

use crate::engine::{Effects, Engine, Event, Persist, Role, Timing};
use crate::error::QuorumError;
use crate::reserve::Reserve;
use crate::store::format::Place;
use crate::store::{Store, StoreError};
use apply::Applier;
use install::Install;
use note::Arrived;
use rejoin::Rejoin;
use transfer::Transfer;
use waits::Waits;

pub use input::{Input, Now, Output, Wait};
pub use note::describe;
pub use start::Setup;

/// The log keeps at least this many entries for followers that lag.
const KEEP_ENTRIES: u64 = 10_000;
/// The table is flushed after this much was applied, bytes of commands.
const FLUSH_BYTES: u64 = 64 << 20;
/// The table is flushed after this many entries.
const FLUSH_ENTRIES: u64 = 200_000;

/// When a command counts as acknowledged (design.md section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A majority holds it in its page cache or better.
    Quorum,
    /// A majority has synced it.
    Disk,
}

/// Something that cannot go on.
#[derive(Debug, thiserror::Error)]
enum Fatal {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Table(#[from] rt::table::TableError),
}

/// A persist that is written and waits for what it must survive.
struct Pending {
    number: u64,
    after: Vec<Message>,
    /// The log must be on the medium up to here.
    needs: Option<Place>,
}

/// How big things are before they are cut.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// See [`KEEP_ENTRIES`].
    pub keep_entries: u64,
    /// See [`FLUSH_BYTES`].
    pub flush_bytes: u64,
    /// See [`FLUSH_ENTRIES`].
    pub flush_entries: u64,
    /// Bytes of a part of a snapshot.
    pub part_bytes: usize,
    /// Bytes of a segment of the log.
    pub segment_bytes: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            keep_entries: KEEP_ENTRIES,
            flush_bytes: FLUSH_BYTES,
            flush_entries: FLUSH_ENTRIES,
            part_bytes: 512 << 10,
            segment_bytes: crate::store::SEGMENT_BYTES,
        }
    }
}

/// See the module.
pub struct Replica<W> {
    group: GroupId,
    me: u64,
    durability: Durability,
    sizes: Sizes,
    timing: Timing,
    seed: u64,
    boot_id: String,
    /// The first members as configured: whom to answer before the log has said who is there.
    first: BTreeMap<u64, String>,
    engine: Engine,
    store: Store,
    applier: Applier,
    pending: VecDeque<Pending>,
    waits: Waits<W>,
    rejoin: Option<Rejoin>,
    /// Leader's side of a snapshot under way.
    transfer: Option<Transfer>,
    transfers: u64,
    /// Follower's side.
    install: Option<Install>,
    /// The table is not to be believed: a snapshot must come.
    hollow: bool,
    /// Term for which the service was told that it leads.
    announced: Option<u64>,
    /// Grows whenever members change.
    members_epoch: u64,
    ticks: u64,
    /// Ticks since this member leads.
    leading_ticks: u64,
    syncing: bool,
    flushing: bool,
    /// The log needs a sync for its own sake (segments to drop).
    tidy: bool,
    /// Nothing has happened yet.
    starting: bool,
    stopped: Option<String>,
    /// Room that is kept for a full disk.
    reserve: Arc<Reserve>,
    /// It stopped because its disk is full.
    full: bool,
    /// A flush that found no room is tried again at this tick.
    flush_after: u64,
}

impl<W> Replica<W> {
    /// Takes an input in. Call [`Replica::settle`] after the last one of a batch.
    pub fn handle(&mut self, input: Input<W>, now: Now, out: &mut Vec<Output<W>>) {
        if let Some(cause) = self.stopped.clone() {
            rt::site!("member.stopped.input");
            self.refuse_stopped(input, &cause, out);
            return;
        }
        if let Err(fatal) = self.try_handle(input, now, out) {
            self.fail(&fatal, out);
        }
    }

    /// Does everything that follows from the inputs so far.
    pub fn settle(&mut self, now: Now, out: &mut Vec<Output<W>>) {
        if self.stopped.is_some() {
            return;
        }
        if let Err(fatal) = self.try_settle(now, out) {
            self.fail(&fatal, out);
        }
    }

    fn try_handle(&mut self, input: Input<W>, now: Now, out: &mut Vec<Output<W>>) -> Result<(), Fatal> {
        match input {
            Input::Propose { origin, command, wait } => self.stage(&origin, &command, wait, now, out),
            Input::Read(wait) => self.read(wait, out),
            Input::Sync(wait) => self.sync(wait, out),
            Input::Deliver { from, incarnation, messages } => {
                if self.engine.heard(from, incarnation) {
                    for message in &messages {
                        self.deliver(from, message, now, out)?;
                    }
                }
            }
            Input::Unreachable(member) => {
                let _ = self.engine.handle(Event::Unreachable(member), now.monotonic);
            }
            Input::Tick => self.tick(now, out)?,
            Input::Synced(job, result) => {
                self.syncing = false;
                rt::site!("log.sync.failed", result.is_err());
                // A failed sync is final: what was written since the last good one may be lost.
                result.map_err(|cause| StoreError::Io { doing: "sync".into(), cause })?;
                self.store.synced(&job)?;
            }
            Input::Flushed(index, result) => {
                self.flushing = false;
                match result {
                    Err(error) if rt::site!("table.flush.no_room", error.is_full()) => {
                        self.flush_again(&error)
                    }
                    flushed => {
                        flushed?;
                        self.compact(index)?;
                    }
                }
            }
            Input::Add { member, address, wait } => self.add_member(member, address, wait, now, out),
            Input::Admit { address, wait } => self.admit(address, wait, now, out),
            Input::Remove { member, wait } => self.remove_member(member, wait, now, out),
            Input::Transfer(to) => self.hand_over(to, now),
        }
        Ok(())
    }

    fn try_settle(&mut self, now: Now, out: &mut Vec<Output<W>>) -> Result<(), Fatal> {
        self.propose_staged(now, out);
        self.do_effects(now, out)?;
        if std::mem::take(&mut self.starting) && self.engine.is_alone() {
            // Nobody to wait for.
            let _ = self.engine.handle(Event::Campaign, now.monotonic);
            self.do_effects(now, out)?;
        }
        self.serve_snapshot_wishes(now);
        self.announce();
        self.answer_reads(now, out);
        self.answer_syncs(out);
        self.want_sync(out);
        self.want_flush(out);
        Ok(())
    }

    fn do_effects(&mut self, now: Now, out: &mut Vec<Output<W>>) -> Result<(), Fatal> {
        loop {
            let effects = self.engine.settle(now.monotonic);
            let mut progress = self.run_effects(effects, now, out)?;
            progress |= self.complete_persisted(now, out);
            if !progress {
                return Ok(());
            }
        }
    }

    fn run_effects(&mut self, effects: Effects, now: Now, out: &mut Vec<Output<W>>) -> Result<bool, Fatal> {
        let mut progress = false;
        for message in &effects.messages {
            self.send_raft(message, out);
        }
        for persist in effects.persist {
            progress = true;
            self.persist(persist)?;
        }
        if !effects.committed.is_empty() {
            progress = true;
            self.apply(&effects.committed, now, out)?;
        }
        for fetch in effects.fetch {
            progress = true;
            let entries = if fetch.low < self.store.first_index() {
                Vec::new()
            } else {
                self.store.read(fetch.low, fetch.high, fetch.bytes_max)?
            };
            let event = Event::Fetched { context: fetch.context, low: fetch.low, entries };
            let _ = self.engine.handle(event, now.monotonic);
        }
        if let Some(role) = effects.role {
            self.role_changed(&role, now, out);
        }
        Ok(progress)
    }

    fn send_raft(&self, message: &Message, out: &mut Vec<Output<W>>) {
        out.push(Output::Send { to: message.to, message: note::wrap_raft(message) });
    }

    fn send_note(&self, to: u64, kind: note::Kind, out: &mut Vec<Output<W>>) {
        out.push(Output::Send { to, message: note::wrap_note(kind) });
    }

    fn persist(&mut self, persist: Persist) -> Result<(), Fatal> {
        let state = persist.hard.filter(|_| persist.vote_changed).map(|(term, vote, commit)| {
            let mut state = self.store.state().clone();
            state.term = term;
            state.vote = vote;
            state.commit = commit;
            state
        });
        self.store.append(state, &persist.entries)?;
        let lasting =
            persist.vote_changed || (self.durability == Durability::Disk && !persist.entries.is_empty());
        let needs = lasting.then(|| self.store.end());
        self.pending.push_back(Pending { number: persist.number, after: persist.after, needs });
        Ok(())
    }

    /// Tells the engine of what survives what it must, in order.
    fn complete_persisted(&mut self, now: Now, out: &mut Vec<Output<W>>) -> bool {
        let synced = self.store.synced_upto();
        let mut done = None;
        while self.pending.front().is_some_and(|front| front.needs.is_none_or(|place| place <= synced)) {
            let front = self.pending.pop_front().expect("it has a first one");
            for message in &front.after {
                self.send_raft(message, out);
            }
            done = Some(front.number);
        }
        let Some(number) = done else { return false };
        let _ = self.engine.handle(Event::Persisted(number), now.monotonic);
        self.finish_restore(now);
        true
    }

    fn apply(&mut self, entries: &[Entry], now: Now, out: &mut Vec<Output<W>>) -> Result<(), Fatal> {
        let last = entries.last().map_or(0, |entry| entry.index);
        if self.hollow {
            rt::site!("snapshot.install.commit_passed_by");
            // A snapshot with all of this comes.
            let _ = self.engine.handle(Event::Applied(last), now.monotonic);
            return Ok(());
        }
        if let Some(change) = entries.iter().rfind(|entry| entry.get_entry_type() != EntryType::EntryNormal) {
            // After a restart this member must not stand for election, or count votes, by the former members: it
            // must know that the change is committed even if the table has forgotten it.
            rt::site!("member.change.committed");
            let index = change.index;
            self.store.change_state(|state| state.commit = state.commit.max(index))?;
            self.store.sync_now()?;
        }
        let mut told = Vec::new();
        let transfer = self.transfer.as_mut();
        let members_changed =
            self.applier.apply(entries, &mut self.engine, transfer, |index, term, outcome| {
                told.push((index, term, outcome));
            })?;
        self.applier.machine().applied(last);
        let _ = self.engine.handle(Event::Applied(last), now.monotonic);
        for (index, term, outcome) in told {
            self.waits.applied(self.group, index, term, outcome, out);
        }
        if members_changed {
            self.tell_members(out);
            self.answer_member_changes(out);
        }
        Ok(())
    }

    fn tell_members(&mut self, out: &mut Vec<Output<W>>) {
        self.members_epoch += 1;
        out.push(Output::Members(self.contacts()));
    }

    fn role_changed(&mut self, role: &Role, now: Now, out: &mut Vec<Output<W>>) {
        let lost = self.waits.leading_term.is_some_and(|term| !role.leading || term != role.term);
        self.waits.leading_term = role.leading.then_some(role.term);
        if lost {
            rt::site!("snapshot.transfer.leader_lost", self.transfer.is_some());
            let leader = self.leader_address();
            self.waits.leadership_lost(self.group, leader.as_deref(), now.monotonic, out);
            self.transfer = None;
            self.engine.offer_snapshot(None);
        }
    }

    /// Tells the service whether it leads.
    fn announce(&mut self) {
        let leads = self.engine.leads_and_applied().then(|| self.engine.role().term);
        if leads == self.announced {
            return;
        }
        if let Some(term) = self.announced {
            self.applier.machine().leadership(false, term);
        }
        if let Some(term) = leads {
            self.applier.machine().leadership(true, term);
        }
        self.announced = leads;
    }

    fn want_sync(&mut self, out: &mut Vec<Output<W>>) {
        let synced = self.store.synced_upto();
        let wanted = self.tidy
            || self.pending.iter().any(|pending| pending.needs.is_some_and(|place| place > synced))
            || self.waits.wants_sync(&self.store);
        if wanted && !self.syncing {
            self.tidy = false;
            if let Some(job) = self.store.sync_job() {
                self.syncing = true;
                out.push(Output::Sync(job));
            }
        }
    }

    fn want_flush(&mut self, out: &mut Vec<Output<W>>) {
        let applier = &mut self.applier;
        let due = applier.unflushed_bytes > self.sizes.flush_bytes
            || applier.unflushed_entries > self.sizes.flush_entries
            || self.reserve.is_tight() && applier.unflushed_bytes > full::FLUSH_BYTES;
        let due = due && self.ticks >= self.flush_after;
        if due && !self.flushing && !self.hollow {
            if !self.reserve.must_have(applier.unflushed_bytes.min(full::TABLE_BYTES) + full::TABLE_SLACK) {
                // One that finds no room would end all writing of the table.
                rt::site!("table.flush.put_off");
                self.flush_after = self.ticks + full::FLUSH_AGAIN;
                return;
            }
            self.flushing = true;
            applier.unflushed_bytes = 0;
            applier.unflushed_entries = 0;
            out.push(Output::Flush(applier.position.index));
        }
    }

    /// The table is durable up to `flushed`: the log may begin later.
    fn compact(&mut self, flushed: u64) -> Result<(), Fatal> {
        let upto = flushed.min(self.engine.last_index().saturating_sub(self.sizes.keep_entries));
        let worth = upto > self.store.state().base_index + self.sizes.keep_entries / 4;
        if worth && !rt::site!("log.compact.transfer_first", self.transfer.is_some()) && !self.hollow {
            rt::site!("log.compacted");
            self.engine.compacted(upto);
            self.store.compact(upto)?;
            self.tidy = true;
        }
        Ok(())
    }

    fn tick(&mut self, now: Now, out: &mut Vec<Output<W>>) -> Result<(), Fatal> {
        self.ticks += 1;
        let _ = self.engine.handle(Event::Tick, now.monotonic);
        self.leading_ticks = if self.engine.role().leading { self.leading_ticks + 1 } else { 0 };
        self.waits.expire(self.group, now.monotonic, out);
        self.tick_rejoin(now, out)?;
        self.tick_transfer(now);
        self.tick_install(out);
        self.tick_members(now);
        self.tick_syncs(out);
        Ok(())
    }

    fn deliver(&mut self, from: u64, bytes: &Bytes, now: Now, out: &mut Vec<Output<W>>) -> Result<(), Fatal> {
        match note::unwrap(bytes) {
            Some(Arrived::Raft(message)) if message.from == from && message.to == self.me => {
                if rt::site!(
                    "rejoin.entries_not_taken",
                    self.rejoin.as_ref().is_some_and(|rejoin| !rejoin.takes(&message))
                ) {
                    return Ok(());
                }
                match message.get_msg_type() {
                    MessageType::MsgSnapshot => self.begin_install(message, out),
                    // Nobody proposes, reads or hands over for another member.
                    MessageType::MsgPropose | MessageType::MsgReadIndex | MessageType::MsgTransferLeader => {}
                    _ => {
                        let _ = self.engine.handle(Event::Step(message), now.monotonic);
                    }
                }
                Ok(())
            }
            Some(Arrived::Note(kind)) => self.take_note(from, kind, now, out),
            _ => Ok(()),
        }
    }

    fn take_note(
        &mut self,
        from: u64,
        kind: note::Kind,
        now: Now,
        out: &mut Vec<Output<W>>,
    ) -> Result<(), Fatal> {
        match kind {
            note::Kind::SyncWanted(wanted) => self.waits.sync_wanted(from, wanted),
            note::Kind::SyncDone(done) => self.waits.sync_done(from, done),
            note::Kind::Rejoin(question) => self.answer_rejoin(from, question, out),
            note::Kind::RejoinAnswer(answer) => self.take_rejoin_answer(from, answer, now)?,
            note::Kind::Pull(pull) => self.serve_part(from, &pull, now, out)?,
            note::Kind::Part(part) => self.take_part(from, part, now, out)?,
            note::Kind::Installed(installed) => self.transfer_done(from, installed, now),
        }
        Ok(())
    }

    fn stop(&mut self, cause: &str, out: &mut Vec<Output<W>>) {
        rt::site!("member.stopped");
        tracing::error!(group = %self.group, member = self.me, cause, "the member stops");
        self.stopped = Some(cause.to_owned());
        self.full = false;
        if let Some(term) = self.announced.take() {
            self.applier.machine().leadership(false, term);
        }
        let error = QuorumError::Stopped { group: self.group, cause: cause.to_owned() };
        self.waits.fail_all(&error, out);
    }

    /// Stops after an error outside (a panic in raft-rs).
    pub fn abort(&mut self, cause: &str, out: &mut Vec<Output<W>>) {
        if self.stopped.is_none() {
            self.stop(cause, out);
        }
    }

    /// Puts everything on the medium, notes that this was a proper stop, and stops.
    pub fn close(&mut self, out: &mut Vec<Output<W>>) -> Result<(), QuorumError> {
        if self.stopped.is_some() {
            return Ok(());
        }
        rt::site!("member.closed.hollow", self.hollow);
        rt::site!("member.closed.rejoining", self.rejoin.is_some());
        rt::site!("member.closed.leading", self.announced.is_some());
        let done = self.write_clean_mark();
        let cause = done.as_ref().map_or_else(ToString::to_string, |()| "shut down".to_owned());
        let error = QuorumError::Stopped { group: self.group, cause: cause.clone() };
        if let Some(term) = self.announced.take() {
            self.applier.machine().leadership(false, term);
        }
        self.waits.fail_all(&error, out);
        self.stopped = Some(cause);
        done.map_err(|_| error)
    }

    fn write_clean_mark(&mut self) -> Result<(), Fatal> {
        if !self.hollow {
            self.applier.table().flush()?;
        }
        let commit = self.engine.committed();
        let sound = self.rejoin.is_none();
        self.store.change_state(|state| {
            state.clean = sound;
            state.commit = commit;
        })?;
        self.store.sync_now()?;
        Ok(())
    }

    fn refuse_stopped(&mut self, input: Input<W>, cause: &str, out: &mut Vec<Output<W>>) {
        if self.full {
            return self.refuse_full(input, cause, out);
        }
        let wait = match input {
            Input::Propose { wait, .. }
            | Input::Add { wait, .. }
            | Input::Admit { wait, .. }
            | Input::Remove { wait, .. } => wait,
            Input::Read(wait) | Input::Sync(wait) => wait,
            _ => return,
        };
        let error = QuorumError::Stopped { group: self.group, cause: cause.to_owned() };
        out.push(Output::Answer(wait.waiter, Err(error)));
    }

    /// Address of the leader, if another member is known to lead.
    fn leader_address(&self) -> Option<String> {
        let leader = self.engine.role().leader;
        if leader == 0 || leader == self.me {
            return None;
        }
        self.applier.members.address(leader).cloned()
    }

    fn not_leader(&self) -> QuorumError {
        QuorumError::NotLeader { group: self.group, leader: self.leader_address() }
    }

    /// Until when reads at this member are safe without asking anyone.
    #[must_use]
    pub fn lease_until(&self) -> Option<Duration> {
        if self.serves_though_full() {
            return Some(Duration::MAX);
        }
        self.stopped.is_none().then(|| self.engine.lease_until()).flatten()
    }

    /// Role, term and leader.
    #[must_use]
    pub fn role(&self) -> Role {
        self.engine.role()
    }

    /// The engine, for looking.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The log, for looking.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Applied index.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applier.position.index
    }

    /// Members and addresses.
    #[must_use]
    pub fn members(&self) -> &rows::Members {
        &self.applier.members
    }

    /// Everyone who may be spoken to.
    #[must_use]
    pub fn contacts(&self) -> BTreeMap<u64, String> {
        let known = self.applier.members.all();
        if known.is_empty() { self.first.clone() } else { known }
    }

    /// Grows whenever members change.
    #[must_use]
    pub fn members_epoch(&self) -> u64 {
        self.members_epoch
    }

    /// How often this member was started: goes with every message it sends.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.store.state().incarnation
    }

    /// Whether it is still finding out what it may have forgotten, or has no table.
    #[must_use]
    pub fn is_rejoining(&self) -> bool {
        self.rejoin.is_some() || self.hollow
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> &Arc<dyn rt::table::Table> {
        self.applier.table()
    }

    /// Why it stopped.
    #[must_use]
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }
}
