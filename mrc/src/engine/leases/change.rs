//! Changes: from before the recall of what they make untrue until they are applied.

use std::time::Duration;

use proto::mrc::LEASE_WRITE;

use super::{ALL_BITS, Effect, Leases, Mark, WAITING_MAX, Waiting};
use crate::engine::sessions::FileId;

/// What a change needs on one inode.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Claim {
    /// The inode.
    pub file: FileId,
    /// Bits that no other session may hold.
    pub recall: u32,
    /// Bits that are not given to other sessions while it is under way.
    pub block: u32,
    /// The changing session's own bits count like others'.
    pub own: bool,
    /// Returns must tell open handles.
    pub tell: bool,
    /// It is being made: nobody can hold anything.
    pub new: bool,
}

impl Claim {
    /// A change of the inode.
    #[must_use]
    pub fn change(file: FileId, recall: u32) -> Self {
        Self { file, recall, block: ALL_BITS, own: false, tell: false, new: false }
    }
}

/// Claims of one request; at most those of a rename: two directories, what moves, what is replaced and
/// the directory of the trash where that goes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Claims {
    all: [Claim; Self::MAX],
    count: usize,
}

impl Claims {
    /// Most inodes of one request.
    pub const MAX: usize = 5;

    /// Adds a claim; one inode's claims become one.
    #[must_use]
    pub fn with(mut self, claim: Claim) -> Self {
        if let Some(same) = self.all[..self.count].iter_mut().find(|one| one.file == claim.file) {
            same.recall |= claim.recall;
            same.block |= claim.block;
            same.own |= claim.own;
            same.tell |= claim.tell;
            same.new &= claim.new;
            return self;
        }
        assert!(self.count < Self::MAX, "no operation touches more inodes: {claim:?}");
        self.all[self.count] = claim;
        self.count += 1;
        self
    }

    /// The claims.
    pub fn iter(&self) -> impl Iterator<Item = &Claim> {
        self.all[..self.count].iter()
    }
}

/// A change that has begun; give it to [`Leases::finish`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pass {
    generation: u64,
    /// `None`: without a mark.
    ticket: Option<u64>,
    session: u64,
    claims: Claims,
}

impl Pass {
    /// For [`Leases::standing`], when it has to wait.
    #[must_use]
    pub fn ticket(&self) -> Option<u64> {
        self.ticket
    }
}

/// Answer to [`Leases::begin`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begun {
    /// Nothing stands against it.
    Free(Pass),
    /// Others have to return theirs first; ask [`Leases::standing`] when woken.
    Waits(Pass),
    /// Too many wait.
    Full,
    /// This member does not lead.
    NotLeading,
}

impl Leases {
    /// Begins a change.
    pub fn begin(&mut self, now: Duration, session: u64, claims: Claims) -> Begun {
        if !self.leading {
            return Begun::NotLeading;
        }
        let mut pass = Pass { generation: self.generation, ticket: None, session, claims };
        if self.awaited.is_empty() && self.joining.is_empty() {
            let own = self.parts > 0 && self.takes_part(session);
            let others = self.parts - usize::from(own);
            if others == 0 && !(own && claims.iter().any(|claim| claim.own)) {
                rt::site!("lease.change.nobody_else");
                self.unmarked += 1;
                return Begun::Free(pass);
            }
        }
        let ticket = self.number();
        let blocked = rt::site!("lease.change.waits", self.is_blocked(session, &claims));
        rt::site!("lease.change.waits_for_grace", !self.awaited.is_empty());
        rt::site!("lease.change.session_joining", !self.joining.is_empty());
        if blocked {
            if self.waiting.len() >= WAITING_MAX {
                return Begun::Full;
            }
            self.waiting.insert(ticket, Waiting::Change { session, claims, ready: false });
            self.counts.waits += 1;
        }
        pass.ticket = Some(ticket);
        for claim in claims.iter() {
            let entry = self.inodes.entry(claim.file).or_default();
            rt::site!("lease.change.beside_another", !entry.marks.is_empty());
            entry.marks.push(Mark { ticket, session, claim: *claim });
            if blocked {
                self.press(now, claim.file);
            }
        }
        if blocked { Begun::Waits(pass) } else { Begun::Free(pass) }
    }

    /// Begins a change of directories in which the session alone may make names: nobody else holds anything there (nor where it makes a directory), whatever is
    /// not known of others after a change of leader, so it waits for nobody. The others of the claims are left out.
    pub fn begin_as_maker(&mut self, session: u64, claims: Claims) -> Begun {
        if !self.leading {
            return Begun::NotLeading;
        }
        let held = |claim: &&Claim| claim.new || self.held(session, claim.file) & LEASE_WRITE != 0;
        let claims = claims.iter().filter(held).fold(Claims::default(), |all, claim| all.with(*claim));
        let ticket = self.number();
        for claim in claims.iter() {
            let entry = self.inodes.entry(claim.file).or_default();
            entry.marks.push(Mark { ticket, session, claim: *claim });
        }
        Begun::Free(Pass { generation: self.generation, ticket: Some(ticket), session, claims })
    }

    /// Whether the pass still stands: this member has led all the time since.
    #[must_use]
    pub fn is_valid(&self, pass: &Pass) -> bool {
        self.leading && pass.generation == self.generation
    }

    /// The change is applied (`changed`) or surely will not be.
    pub fn finish(&mut self, now: Duration, pass: &Pass, changed: bool) {
        if rt::site!("lease.change.of_former_leader", !self.is_valid(pass)) {
            return;
        }
        let Some(ticket) = pass.ticket else {
            self.unmarked -= 1;
            if rt::site!("lease.session.joins_after_changes", self.unmarked == 0 && !self.joining.is_empty())
            {
                self.join();
            }
            return;
        };
        self.waiting.remove(&ticket);
        for claim in pass.claims.iter() {
            let Some(entry) = self.inodes.get_mut(&claim.file) else { continue };
            entry.marks.retain(|mark| mark.ticket != ticket);
            if changed && claim.block == ALL_BITS {
                entry.remember_change(pass.session, now);
                self.cooling.push_back((now, claim.file));
            }
            self.settle(now, claim.file);
        }
        self.cool_down(now);
    }

    /// Forgets changes of which nobody needs to know any more.
    pub(super) fn cool_down(&mut self, now: Duration) {
        while let Some((at, file)) = self.cooling.front().copied()
            && now.saturating_sub(at) >= self.times.cool
        {
            self.cooling.pop_front();
            self.forget_if_idle(now, file);
        }
    }

    /// Whether others hold what the claims want gone.
    pub(super) fn is_blocked(&self, session: u64, claims: &Claims) -> bool {
        !self.awaited.is_empty()
            || claims.iter().any(|claim| {
                self.inodes.get(&claim.file).is_some_and(|entry| {
                    let theirs = entry.holders.iter().filter(|holder| holder.session != session || claim.own);
                    theirs.fold(0, |bits, one| bits | one.bits) & claim.recall != 0
                })
            })
    }

    /// Recalls what the changes that wait on an inode want gone.
    pub(super) fn press(&mut self, now: Duration, file: FileId) {
        let Some(entry) = self.inodes.get(&file) else { return };
        let mut wanted = Vec::new();
        for mark in &entry.marks {
            for holder in entry.holders.iter().filter(|holder| mark.against(holder.session)) {
                if holder.bits & mark.claim.recall != 0 {
                    wanted.push((holder.session, mark.claim.recall, mark.claim.tell));
                }
            }
        }
        for (session, bits, tell) in wanted {
            self.recall(now, file, session, bits, tell);
        }
    }

    /// Lets a waiting change go when nothing stands against it any more.
    pub(super) fn settle_change(&mut self, ticket: u64) {
        let Some(Waiting::Change { session, claims, ready: false }) = self.waiting.get(&ticket) else {
            return;
        };
        if self.is_blocked(*session, claims) {
            return;
        }
        if let Some(Waiting::Change { ready, .. }) = self.waiting.get_mut(&ticket) {
            rt::site!("lease.change.free_now");
            *ready = true;
            self.effects.push(Effect::Wake(ticket));
        }
    }
}
