//! Directories that clients make unheard, under the right to make names in another one, and fill before anybody hears of them. See
//! `docs/protocols/async-create.md`, "A directory".

use std::time::Duration;

use mrc::engine::leases::{Begun, Claim, Claims, Pass};
use proto::mrc::{LEASE_ATTR, LEASE_NAMES, LEASE_WRITE};

use super::leader::{Asked, Pending, VOLUME};
use super::{Answer, Ask, Broken, FILES, Sim};
use crate::invariants::Violation;

/// What the maker of a directory holds of it.
const MAKES: u32 = LEASE_ATTR | LEASE_NAMES | LEASE_WRITE;
/// Inodes at a time, so that clients meet.
const MOST: usize = 2 * FILES as usize;
/// A session that may hold little does without.
const ROOM: usize = 2 * MOST;

/// A request to take a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Making {
    pub(super) of: Asked,
    /// The session's epoch then.
    pub(super) epoch: u64,
    /// Names made in it so far.
    pub(super) upto: u64,
}

impl Sim {
    /// Whether a client can know of an inode: one that another has made and not heard to be taken has no name yet that anybody else could have looked
    /// up. Numbers are learned from names.
    pub(super) fn may_know(&self, id: u64, file: u64) -> bool {
        self.clients.iter().filter(|(other, _)| **other != id).all(|(other, client)| {
            let row = self.durable.sessions.get(other);
            !client.fresh.contains_key(&file) || row.is_none_or(|(epoch, _)| *epoch != client.epoch())
        })
    }

    /// Makes a directory under the right to make names in `parent`.
    pub(super) fn make_directory(&mut self, id: u64, parent: u64) {
        let fresh: usize = self.clients.values().map(|client| client.fresh.len()).sum();
        if self.files.len() + fresh >= MOST || self.times.per_session < ROOM || !self.make(id, parent) {
            return;
        }
        self.durable.numbers += 1;
        let made = 1_000_000 + self.durable.numbers;
        self.clients.get_mut(&id).expect("made at the start").holds_early(made, parent, MAKES);
        *self.faults.entry("directories made").or_default() += 1;
    }

    /// Tells of them, and of what was made in them.
    pub(super) fn tell_directories(&mut self, id: u64) {
        let client = &self.clients[&id];
        let epoch = client.epoch();
        let all: Vec<Ask> = client
            .fresh
            .iter()
            // In their order: what is in a directory after the directory.
            .filter(|(_, parent)| !client.fresh.contains_key(parent))
            .map(|(file, parent)| Ask::Make { file: *file, parent: *parent, epoch, upto: client.made(*file) })
            .collect();
        for ask in all {
            self.ask(id, ask);
        }
    }

    /// At the leader.
    pub(super) fn take_directory(&mut self, making: Making, parent: u64) -> Result<(), Violation> {
        let Making { of: Asked { from, file, .. }, epoch, .. } = making;
        let current = self.durable.sessions.get(&from).is_some_and(|(now, _)| *now == epoch);
        let held = |sim: &Self, file| sim.leader.engine.held(from, (VOLUME, file)) & LEASE_WRITE != 0;
        if !current {
            return Ok(());
        }
        if !held(self, parent) {
            let client = &self.clients[&from];
            if client.epoch() == epoch && client.fresh.contains_key(&file) {
                let what =
                    format!("client {from} made directory {file} in {parent}, which is not its own any more");
                return Err(Violation::new("leases: lost directories", what));
            }
            return Ok(());
        }
        let is_new = !self.durable.made.contains(&file);
        let change = Claim::change((VOLUME, file), MAKES);
        let begun = if is_new || held(self, file) {
            let claim = Claim { new: is_new, ..change };
            self.leader.engine.begin_as_maker(from, Claims::default().with(claim))
        } else if self.files.contains(&file) {
            // A former leader took it: somebody may have asked for it since.
            *self.faults.entry("directories told to the next leader").or_default() += 1;
            let now = self.world.now();
            self.leader.engine.begin(now, from, Claims::default().with(change))
        } else {
            // It was removed since.
            return self.directory_answer(making, None);
        };
        match begun {
            Begun::Free(pass) => self.make_taken(making, &pass)?,
            Begun::Waits(pass) => self.wait(pass.ticket(), Pending::Make { making, pass }),
            Begun::Full | Begun::NotLeading => {}
        }
        Ok(())
    }

    /// It is made, unless it was, and what is in it.
    pub(super) fn make_taken(&mut self, making: Making, pass: &Pass) -> Result<(), Violation> {
        let Making { of, epoch, upto } = making;
        let (from, file) = (of.from, of.file);
        let now = self.world.now();
        if self.durable.sessions.get(&from).is_none_or(|(now, _)| *now != epoch) {
            self.leader.engine.finish(now, pass, false);
            return Ok(());
        }
        if self.durable.made.insert(file) {
            self.files.push(file);
        }
        if !self.files.contains(&file) {
            self.leader.engine.finish(now, pass, false);
            return self.directory_answer(making, None);
        }
        self.finds_all(of)?;
        let told = self.durable.told.entry((from, epoch, file)).or_default();
        let new = upto.saturating_sub(*told);
        *told += new;
        *self.durable.versions.entry(file).or_default() += new;
        self.operations += 1 + new;
        let grant = match self.broken {
            Some(Broken::MadeRight) => self.leader.engine.grant(now, from, (VOLUME, file), MAKES),
            _ => self.leader.engine.grant_made(from, (VOLUME, file), MAKES),
        };
        self.leader.engine.finish(now, pass, true);
        self.directory_answer(making, grant.map(|grant| (grant.bits, grant.number)))
    }

    fn directory_answer(&mut self, making: Making, grant: Option<(u32, u64)>) -> Result<(), Violation> {
        let Making { of: Asked { from: to, file, asked }, epoch, upto } = making;
        let (incarnation, (bits, number)) = (self.leader.incarnation, grant.unwrap_or_default());
        self.answer(to, Answer::Made { asked, incarnation, epoch, file, upto, bits, number });
        Ok(())
    }

    /// At its maker: what the answer does not give was recalled, or comes with the next leader's answer.
    pub(super) fn directory_told(&mut self, id: u64, asked: Duration, of: Told) {
        let Told { incarnation, epoch, file, upto, bits, number } = of;
        let client = self.clients.get_mut(&id).expect("made at the start");
        if epoch != client.epoch() || !client.counts(asked, incarnation) {
            return;
        }
        let Some(parent) = client.fresh.remove(&file) else { return };
        client.confirmed(file, bits, number);
        self.names_told(id, file, upto);
        // The directory's own name is one of those of its parent.
        self.names_told(id, parent, 0);
    }
}

/// The answer to [`Ask::Make`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(super) incarnation: u64,
    pub(super) epoch: u64,
    pub(super) file: u64,
    pub(super) upto: u64,
    pub(super) bits: u32,
    pub(super) number: u64,
}
