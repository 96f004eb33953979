//! The follower's side of a snapshot: pulls the parts into its emptied table, then starts anew from there.
//!
//! From the mark `installing` in the log until the last part is flushed the table is not to be believed
//! (`hollow`): nothing is applied, the member does not campaign, and a restart empties the table again and asks
//! for another snapshot. Its log stays whole until then, so it may vote.

use bytes::Bytes;
use raft::eraftpb::Message;
use rt::table::Batch;

use super::apply::Applier;
use super::input::{Now, Output};
use super::note::{InstalledNote, Kind, PartNote, PullNote};
use super::rows::Members;
use super::{Fatal, Replica};
use crate::engine::Event;

/// Ask again after this many ticks.
const ASK_TICKS: u64 = 4;
/// A leader that gives nothing for this many ticks has gone.
const SILENT_TICKS: u64 = 60;
/// A hollow member asks the leader for a snapshot every this many ticks.
const REQUEST_TICKS: u64 = 10;

/// See the module.
pub(super) struct Install {
    message: Message,
    leader: u64,
    index: u64,
    transfer: u64,
    next: Bytes,
    asked_at_tick: u64,
    heard_at_tick: u64,
}

impl<W> Replica<W> {
    pub(super) fn begin_install(&mut self, message: Message, out: &mut Vec<Output<W>>) {
        if let Err(fatal) = self.try_begin_install(message, out) {
            // Full: it pauses, and starts anew when there is room.
            self.fail(&fatal, out);
        }
    }

    fn try_begin_install(&mut self, message: Message, out: &mut Vec<Output<W>>) -> Result<(), Fatal> {
        let meta = message.get_snapshot().get_metadata();
        let (index, term) = (meta.index, meta.term);
        let data = message.get_snapshot().get_data();
        let Some((id, members)) = data.split_first_chunk::<8>() else { return Ok(()) };
        let transfer = u64::from_be_bytes(*id);
        if message.term < self.engine.role().term {
            return Ok(());
        }
        let same =
            |one: &Install| one.leader == message.from && one.index == index && one.transfer == transfer;
        if rt::site!("snapshot.offer.again", self.install.as_ref().is_some_and(same)) {
            return Ok(());
        }
        let has_it = index <= self.engine.committed() || self.engine.term_of(index) == term;
        if has_it && !self.hollow {
            rt::site!("snapshot.offer.not_needed");
            // raft-rs tells the leader how far this member is.
            let now = std::time::Duration::ZERO;
            let _ = self.engine.handle(Event::Step(message), now);
            return Ok(());
        }
        let Some(members) = Members::parse(members) else { return Ok(()) };
        tracing::info!(group = %self.group, member = self.me, index, "installs a snapshot");
        rt::site!("snapshot.install.begun");
        rt::site!("snapshot.install.begun_anew", self.install.is_some());
        self.empty_table(&members)?;
        let leader = message.from;
        let heard_at_tick = self.ticks;
        self.install = Some(Install {
            message,
            leader,
            index,
            transfer,
            next: Bytes::new(),
            asked_at_tick: 0,
            heard_at_tick,
        });
        self.pull(out);
        Ok(())
    }

    fn pull(&mut self, out: &mut Vec<Output<W>>) {
        let ticks = self.ticks;
        let Some(install) = &mut self.install else { return };
        install.asked_at_tick = ticks;
        let note = PullNote { index: install.index, transfer: install.transfer, from: install.next.clone() };
        let leader = install.leader;
        self.send_note(leader, Kind::Pull(note), out);
    }

    pub(super) fn take_part(
        &mut self,
        from: u64,
        part: PartNote,
        now: Now,
        out: &mut Vec<Output<W>>,
    ) -> Result<(), Fatal> {
        let ticks = self.ticks;
        let Some(install) = &mut self.install else { return Ok(()) };
        if install.leader != from || install.index != part.index || install.transfer != part.transfer {
            return Ok(());
        }
        if rt::site!("snapshot.part.gone", part.gone) {
            self.install = None;
            return Ok(());
        }
        if install.next != part.from || part.keys.len() != part.values.len() {
            rt::site!("snapshot.part.again");
            return Ok(());
        }
        install.heard_at_tick = ticks;
        install.next = part.next.clone();
        let mut batch = Batch::default();
        for (key, value) in part.keys.iter().zip(&part.values) {
            batch.put(key.to_vec(), value.to_vec());
        }
        self.applier.table().write(batch)?;
        if part.next.is_empty() {
            return self.finish_install(now, out);
        }
        self.pull(out);
        Ok(())
    }

    fn finish_install(&mut self, now: Now, out: &mut Vec<Output<W>>) -> Result<(), Fatal> {
        let Some(install) = self.install.take() else { return Ok(()) };
        let Install { message, leader, index, transfer, .. } = install;
        let table = self.applier.table().clone();
        table.flush()?;
        let term = message.get_snapshot().get_metadata().term;
        let loaded = Applier::load(table, self.applier.machine().clone())?;
        let complete = loaded.position.index == index && loaded.position.term == term;
        // The engine first: when it refuses (it has committed more meanwhile), another snapshot must come.
        let ok = complete && self.engine.restore(message, now.monotonic);
        if rt::site!("snapshot.install.done", ok) {
            self.applier = loaded;
            self.store.reset(index, term, |state| state.installing = false)?;
            self.store.sync_now()?;
            self.hollow = false;
            self.engine.set_hollow(false);
            self.applier.machine().applied(index);
            self.tell_members(out);
        }
        tracing::info!(group = %self.group, member = self.me, index, ok, "snapshot is installed");
        self.send_note(leader, Kind::Installed(InstalledNote { index, transfer, ok }), out);
        Ok(())
    }

    /// A restored snapshot counts as applied once raft-rs has seen it persisted.
    pub(super) fn finish_restore(&mut self, now: Now) {
        let index = self.applier.position.index;
        if !self.hollow && self.engine.applied() < index && self.engine.may_apply(index) {
            let _ = self.engine.handle(Event::Applied(index), now.monotonic);
        }
    }

    pub(super) fn tick_install(&mut self, out: &mut Vec<Output<W>>) {
        match &self.install {
            Some(install) if install.heard_at_tick + SILENT_TICKS < self.ticks => {
                self.install = None;
            }
            Some(install) if install.asked_at_tick + ASK_TICKS <= self.ticks => {
                rt::site!("snapshot.part.asked_again");
                self.pull(out);
            }
            Some(_) => {}
            None if self.hollow && self.ticks.is_multiple_of(REQUEST_TICKS) => {
                rt::site!("snapshot.requested", self.engine.request_snapshot());
            }
            None => {}
        }
    }
}
