//! Snapshots of the volume: the leader hushes it, recalls every right to write, and lets the group decide. See
//! `docs/protocols/snapshots.md`, "The moment".
//!
//! A snapshot shows the data that a file had: whoever gets the right to write afterwards gets other data (a new *top*)
//! before it hears of it. OSDs know nothing of snapshots: a write goes where its sender believes the file to be.

use std::collections::{BTreeMap, BTreeSet};

use mrc::engine::leases::{Begun, Claim, Claims, Pass};
use proto::mrc::LEASE_WRITE;

use super::leader::{Pending, VOLUME};
use super::{Broken, Event, Sim};
use crate::invariants::Violation;

/// What the volume's table says of snapshots.
#[derive(Default)]
pub(crate) struct Snapshots {
    /// So many were asked for.
    asked: u64,
    /// The data that a file shows; 0 when nothing was given to it since it was made.
    tops: BTreeMap<u64, u64>,
    /// (file, data) that a snapshot shows.
    frozen: BTreeSet<(u64, u64)>,
}

impl Snapshots {
    /// The data of a file. `thaws`: somebody is about to write it.
    pub(crate) fn top(&mut self, file: u64, thaws: bool) -> u64 {
        let top = self.tops.entry(file).or_default();
        if thaws && rt::site!("snapshot.volume.file_thawed", self.frozen.contains(&(file, *top))) {
            *top += 1;
        }
        *top
    }

    /// An OSD takes data.
    pub(crate) fn written(&self, client: u64, data: (u64, u64)) -> Result<(), Violation> {
        if self.frozen.contains(&data) {
            let what =
                format!("client {client} writes data {} of file {}, which a snapshot shows", data.1, data.0);
            return Err(Violation::new("snapshots: nothing later shows", what));
        }
        Ok(())
    }
}

impl Sim {
    /// Somebody asks for a snapshot.
    pub(crate) fn snapshot(&mut self) -> Result<(), Violation> {
        self.durable.snapshots.asked += 1;
        let (number, now) = (self.durable.snapshots.asked, self.world.now());
        let generation = self.leader.engine.hush(VOLUME);
        rt::site!("snapshot.volume.two_at_once", !self.leader.snapshots.is_empty());
        self.leader.snapshots.insert(number, generation);
        if self.broken == Some(Broken::Hush) {
            self.propose_snapshot(number);
            return Ok(());
        }
        // Leases of a former leader's time are not known before its clients have told them.
        match self.leader.engine.begin(now, 0, Claims::default()) {
            Begun::Free(pass) => self.silent(number, &pass)?,
            Begun::Waits(pass) => {
                rt::site!("snapshot.volume.waits_for_grace");
                self.wait(pass.ticket(), Pending::Quiet { snapshot: number, pass });
            }
            Begun::Full | Begun::NotLeading => {}
        }
        self.effects()
    }

    /// What a snapshot waited for is over: it goes on with the files that somebody may write still.
    pub(super) fn silent(&mut self, number: u64, pass: &Pass) -> Result<(), Violation> {
        let now = self.world.now();
        self.leader.engine.finish(now, pass, false);
        let writers = self.leader.engine.writers(VOLUME, Claims::MAX);
        if writers.is_empty() {
            self.propose_snapshot(number);
            return Ok(());
        }
        rt::site!("snapshot.volume.recalls_writers");
        let claim = |file| Claim { file, recall: LEASE_WRITE, block: LEASE_WRITE, ..Claim::default() };
        let claims = writers.into_iter().fold(Claims::default(), |all, file| all.with(claim(file)));
        match self.leader.engine.begin(now, 0, claims) {
            Begun::Free(pass) => self.silent(number, &pass),
            Begun::Waits(pass) => {
                self.wait(pass.ticket(), Pending::Quiet { snapshot: number, pass });
                Ok(())
            }
            Begun::Full | Begun::NotLeading => Ok(()),
        }
    }

    fn propose_snapshot(&mut self, number: u64) {
        let most = if self.world.percent(10) { 2_000_000 } else { 20_000 };
        let (delay, incarnation) = (self.world.micros(500, most), self.leader.incarnation);
        self.world.after(delay, Event::SnapshotApply { incarnation, number });
    }

    /// The group has decided on it.
    pub(crate) fn snapshot_apply(&mut self, incarnation: u64, number: u64) -> Result<(), Violation> {
        if rt::site!("snapshot.volume.leader_lost", incarnation != self.leader.incarnation) {
            return Ok(());
        }
        let Some(generation) = self.leader.snapshots.remove(&number) else { return Ok(()) };
        for file in self.files.clone() {
            let untold: u64 = self.clients.keys().map(|id| self.untold(*id, file)).sum();
            if untold > 0 {
                let what =
                    format!("snapshot {number} is without {untold} names that were made in file {file}");
                return Err(Violation::new("snapshots: everything before shows", what));
            }
            let top = self.durable.snapshots.top(file, false);
            self.durable.snapshots.frozen.insert((file, top));
        }
        *self.faults.entry("snapshots").or_default() += 1;
        self.leader.engine.unhush(self.world.now(), VOLUME, generation);
        self.effects()
    }
}
