//! The group: the smallest consensus that loses and reorders what Raft may.

use quorum::replica::sessions::Seen;

use super::replay::Replay;
use super::{Answer, Fault, MEMBERS, Mutation, Sessions, State, broken};

/// An entry of a log; without a mutation: a leader's first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Entry {
    pub(crate) term: u8,
    pub(crate) mutation: Option<Mutation>,
}

/// A member: the log and the term outlive its process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Member {
    pub(super) down: bool,
    pub(super) term: u8,
    /// It believes so.
    pub(super) leads: bool,
    pub(super) log: Vec<Entry>,
    /// As a leader: how much of its log the others have.
    pub(super) matched: [usize; MEMBERS],
    /// As a leader: committed and applied up to here.
    pub(super) commit: usize,
    /// As a leader: who waits, ascending.
    pub(super) waiting: Vec<(usize, u64)>,
}

impl Member {
    /// What only a leader's memory has.
    pub(super) fn forget(&mut self) {
        (self.matched, self.commit) = ([0; MEMBERS], 0);
        self.waiting.clear();
    }

    /// How new the log is.
    fn newness(&self) -> (u8, usize) {
        (self.log.last().map_or(0, |entry| entry.term), self.log.len())
    }
}

impl State {
    /// Whether a follower would hear something new of a leader, or a leader of its successor.
    pub(super) fn lags(&self, leader: usize, follower: usize) -> bool {
        let (one, other) = (&self.members[leader], &self.members[follower]);
        !other.down
            && (other.term != one.term || other.log != one.log || one.matched[follower] != one.log.len())
    }

    /// Who votes for a member: those that run and are not ahead of it. `cut` hears of nothing.
    fn voters(&self, model: &Sessions, member: usize, cut: Option<usize>) -> Vec<usize> {
        let anybody = model.fault == Some(Fault::VoteForAnybody);
        let votes = |voter: &usize| {
            let one = &self.members[*voter];
            Some(*voter) != cut && !one.down && (anybody || one.newness() <= self.members[member].newness())
        };
        (0..MEMBERS).filter(votes).collect()
    }

    pub(super) fn would_win(&self, model: &Sessions, member: usize, cut: Option<usize>) -> bool {
        let voters = self.voters(model, member, cut);
        voters.contains(&member) && voters.len() > MEMBERS / 2
    }

    pub(super) fn elect(&mut self, model: &Sessions, member: usize, cut: Option<usize>) {
        let term = self.members.iter().map(|one| one.term).max().unwrap_or(0) + 1;
        for voter in self.voters(model, member, cut) {
            let one = &mut self.members[voter];
            (one.term, one.leads) = (term, false);
            one.forget();
        }
        let leader = &mut self.members[member];
        leader.leads = true;
        leader.log.push(Entry { term, mutation: None });
        self.commit(model, member);
    }

    /// A command comes to a member that believes to lead.
    pub(super) fn arrive(&mut self, model: &Sessions, member: usize, mutation: Mutation) {
        let leader = &mut self.members[member];
        let Mutation { client, sequence, .. } = mutation;
        let applied = Replay::of(&leader.log[..leader.commit], model.fault);
        let known = match applied.look_up(&mutation) {
            _ if model.fault == Some(Fault::NoDedup) => None,
            Seen::New => None,
            Seen::Forgotten => Some(None),
            Seen::Answered(answer) => Some(answer.first().copied()),
        };
        if let Some(effect) = known {
            return self.answer(Answer { from: member, to: client, sequence, effect });
        }
        leader.log.push(Entry { term: leader.term, mutation: Some(mutation) });
        let waits = (client, sequence);
        if let Err(at) = leader.waiting.binary_search(&waits) {
            leader.waiting.insert(at, waits);
        }
        if model.fault == Some(Fault::AnswerBeforeCommit) {
            let effect = Replay::of(&leader.log, model.fault).effect_of(client, sequence);
            self.answer(Answer { from: member, to: client, sequence, effect });
        }
        self.commit(model, member);
    }

    pub(super) fn replicate(&mut self, model: &Sessions, leader: usize, follower: usize) {
        let (term, log) = (self.members[leader].term, self.members[leader].log.clone());
        let other = &mut self.members[follower];
        if other.term > term {
            // It hears that it leads no more.
            let newer = other.term;
            let deposed = &mut self.members[leader];
            (deposed.leads, deposed.term) = (false, newer);
            return deposed.forget();
        }
        let length = log.len();
        (other.term, other.log, other.leads) = (term, log, false);
        other.forget();
        self.members[leader].matched[follower] = length;
        self.commit(model, leader);
    }

    /// A leader commits what a majority has, if it is of its own term, applies it, and answers who waits.
    fn commit(&mut self, model: &Sessions, member: usize) {
        let leader = &mut self.members[member];
        let mut have: Vec<usize> = (0..MEMBERS)
            .map(|other| if other == member { leader.log.len() } else { leader.matched[other] })
            .collect();
        have.sort_unstable();
        let alone = model.fault == Some(Fault::CommitAlone);
        let upto = if alone { leader.log.len() } else { have[MEMBERS / 2] };
        if upto <= leader.commit || leader.log[upto - 1].term != leader.term {
            return;
        }
        leader.commit = upto;
        let log = leader.log[..upto].to_vec();
        let applied = Replay::of(&log, model.fault);
        let (answered, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut leader.waiting)
            .into_iter()
            .partition(|(client, sequence)| applied.answer_to(*client, *sequence).is_some());
        leader.waiting = waiting;
        for (client, sequence) in answered {
            let effect = applied.answer_to(client, sequence).flatten();
            self.answer(Answer { from: member, to: client, sequence, effect });
        }
        let shorter = upto.min(self.committed.len());
        if log[..shorter] != self.committed[..shorter] {
            self.broken = Some(broken::FORKED);
        } else if upto > self.committed.len() {
            self.committed = log;
        }
        if applied.does_twice() {
            self.broken = Some(broken::TWICE);
        }
    }
}
