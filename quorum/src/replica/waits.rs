//! Who waits for what: proposals, reads, syncs, changes of members.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use proto::id::GroupId;
use proto::limits::PROPOSALS_MAX;
use proto::rpc::Origin;

use super::Replica;
use super::apply::Outcome;
use super::command::Command;
use super::input::{Now, Output, Wait};
use super::note::{Kind, SyncNote};
use super::sessions::Seen;
use crate::engine::{Event, Proposal, Refusal};
use crate::error::QuorumError;
use crate::store::Store;

/// Requests of other members to sync that are remembered at most; more are repeated by whoever wants them.
const REMOTE_SYNCS_MAX: usize = 256;

/// A proposal in the log.
pub(super) struct Waiting<W> {
    index: u64,
    term: u64,
    sequence: u64,
    wait: Wait<W>,
}

/// A proposal not in the log yet.
struct Staged<W> {
    data: Bytes,
    sequence: u64,
    wait: Wait<W>,
}

struct SyncWait<W> {
    note: SyncNote,
    done: BTreeSet<u64>,
    wait: Wait<W>,
}

/// A change of members under way.
pub(super) struct ChangeWait<W> {
    pub(super) member: u64,
    pub(super) goal: Goal,
    pub(super) wait: Wait<W>,
}

/// What a member shall become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// In the group, voting or not.
    Member,
    /// A voter.
    Voter,
    /// Out of the group.
    Gone,
}

/// See the module.
pub(super) struct Waits<W> {
    staged: Vec<Staged<W>>,
    proposals: VecDeque<Waiting<W>>,
    reads: Vec<Wait<W>>,
    syncs: Vec<SyncWait<W>>,
    pub(super) changes: Vec<ChangeWait<W>>,
    /// Syncs that a leader asked this member for.
    remote_syncs: BTreeMap<u64, SyncNote>,
    /// Term in which this member leads.
    pub(super) leading_term: Option<u64>,
}

impl<W> Default for Waits<W> {
    fn default() -> Self {
        Self {
            staged: Vec::new(),
            proposals: VecDeque::new(),
            reads: Vec::new(),
            syncs: Vec::new(),
            changes: Vec::new(),
            remote_syncs: BTreeMap::new(),
            leading_term: None,
        }
    }
}

impl<W> Waits<W> {
    /// The entry at `index` was applied.
    pub(super) fn applied(
        &mut self,
        group: GroupId,
        index: u64,
        term: u64,
        outcome: Outcome,
        out: &mut Vec<Output<W>>,
    ) {
        while self.proposals.front().is_some_and(|front| front.index <= index) {
            let front = self.proposals.pop_front().expect("it has a first one");
            let result = if front.index == index && front.term == term {
                match &outcome {
                    Outcome::Answer(answer) => Ok(answer.clone()),
                    Outcome::Forgotten => Err(QuorumError::Forgotten { sequence: front.sequence }),
                }
            } else {
                // Another leader's entry took its place: it will never be applied.
                Err(QuorumError::NotLeader { group, leader: None })
            };
            out.push(Output::Answer(front.wait.waiter, result));
        }
    }

    /// This member leads no more: what is in the log may or may not be committed by the next leader.
    pub(super) fn leadership_lost(
        &mut self,
        group: GroupId,
        leader: Option<&str>,
        now: Duration,
        out: &mut Vec<Output<W>>,
    ) {
        rt::site!("raft.read.leader_lost", !self.reads.is_empty());
        rt::site!("raft.sync.leader_lost", !self.syncs.is_empty());
        rt::site!("member.change.leader_lost", !self.changes.is_empty());
        for waiting in self.proposals.drain(..) {
            rt::site!("raft.proposal.leader_lost");
            let error = waiting.wait.timeout(group, now);
            out.push(Output::Answer(waiting.wait.waiter, Err(error)));
        }
        let not_leader = || QuorumError::NotLeader { group, leader: leader.map(str::to_owned) };
        let staged = self.staged.drain(..).map(|staged| staged.wait);
        let syncs = self.syncs.drain(..).map(|sync| sync.wait);
        let others = staged.chain(self.reads.drain(..)).chain(syncs);
        out.extend(others.map(|wait| Output::Answer(wait.waiter, Err(not_leader()))));
        for change in self.changes.drain(..) {
            let error = change.wait.timeout(group, now);
            out.push(Output::Answer(change.wait.waiter, Err(error)));
        }
    }

    pub(super) fn fail_all(&mut self, error: &QuorumError, out: &mut Vec<Output<W>>) {
        let staged = self.staged.drain(..).map(|staged| staged.wait);
        let proposals = self.proposals.drain(..).map(|waiting| waiting.wait);
        let syncs = self.syncs.drain(..).map(|sync| sync.wait);
        let changes = self.changes.drain(..).map(|change| change.wait);
        let all = staged.chain(proposals).chain(self.reads.drain(..)).chain(syncs).chain(changes);
        out.extend(all.map(|wait| Output::Answer(wait.waiter, Err(error.clone()))));
    }

    /// Answers whoever has waited to the end.
    pub(super) fn expire(&mut self, group: GroupId, now: Duration, out: &mut Vec<Output<W>>) {
        let mut late: Vec<Wait<W>> = Vec::new();
        if self.proposals.iter().any(|waiting| waiting.wait.deadline <= now) {
            let (gone, kept): (VecDeque<_>, VecDeque<_>) =
                self.proposals.drain(..).partition(|waiting| waiting.wait.deadline <= now);
            self.proposals = kept;
            rt::site!("raft.proposal.timeout");
            late.extend(gone.into_iter().map(|waiting| waiting.wait));
        }
        let over = late.len();
        late.extend(self.reads.extract_if(.., |wait| wait.deadline <= now));
        rt::site!("raft.read.timeout", late.len() > over);
        let over = late.len();
        late.extend(self.syncs.extract_if(.., |sync| sync.wait.deadline <= now).map(|sync| sync.wait));
        rt::site!("raft.sync.timeout", late.len() > over);
        let over = late.len();
        late.extend(
            self.changes.extract_if(.., |change| change.wait.deadline <= now).map(|change| change.wait),
        );
        rt::site!("member.change.timeout", late.len() > over);
        for wait in late {
            let error = wait.timeout(group, now);
            out.push(Output::Answer(wait.waiter, Err(error)));
        }
    }

    pub(super) fn sync_wanted(&mut self, from: u64, wanted: SyncNote) {
        if self.remote_syncs.len() < REMOTE_SYNCS_MAX {
            let newest = self.remote_syncs.entry(from).or_insert(wanted);
            if (wanted.term, wanted.index) > (newest.term, newest.index) {
                *newest = wanted;
            }
        }
    }

    pub(super) fn sync_done(&mut self, from: u64, done: SyncNote) {
        for sync in &mut self.syncs {
            // Terms grow along the log, and the leader's log has `done` only if the entry is the same.
            if done.index >= sync.note.index && done.term >= sync.note.term {
                sync.done.insert(from);
            }
        }
    }

    pub(super) fn wants_sync(&self, store: &Store) -> bool {
        let unsynced = |note: &SyncNote| note.index <= store.last_index() && !store.is_synced(note.index);
        self.syncs.iter().any(|sync| unsynced(&sync.note)) || self.remote_syncs.values().any(unsynced)
    }

    fn proposals_waiting(&self) -> usize {
        self.staged.len() + self.proposals.len()
    }
}

impl<W> Replica<W> {
    /// Takes a proposal in, or answers it at once.
    pub(super) fn stage(
        &mut self,
        origin: &Origin,
        command: &[u8],
        wait: Wait<W>,
        now: Now,
        out: &mut Vec<Output<W>>,
    ) {
        let at_once = if rt::site!("raft.propose.not_leader", self.waits.leading_term.is_none()) {
            Some(Err(self.not_leader()))
        } else if self.waits.proposals_waiting() >= PROPOSALS_MAX {
            Some(Err(QuorumError::Busy { group: self.group }))
        } else {
            self.answered(origin)
        };
        if let Some(result) = at_once {
            out.push(Output::Answer(wait.waiter, result));
            return;
        }
        let data = Command::encode(now.unix, origin, command);
        self.waits.staged.push(Staged { data, sequence: origin.sequence, wait });
    }

    /// What a repeat gets.
    pub fn answered(&self, origin: &Origin) -> Option<Result<Bytes, QuorumError>> {
        match self.applier.sessions.look_up(origin) {
            Seen::New => None,
            Seen::Answered(answer) => {
                rt::site!("session.repeat.answered");
                Some(Ok(answer))
            }
            Seen::Forgotten => {
                rt::site!("session.forgotten.refused");
                Some(Err(QuorumError::Forgotten { sequence: origin.sequence }))
            }
        }
    }

    /// Puts the staged proposals into the log as one batch.
    pub(super) fn propose_staged(&mut self, now: Now, out: &mut Vec<Output<W>>) {
        if self.waits.staged.is_empty() {
            return;
        }
        let staged = std::mem::take(&mut self.waits.staged);
        let term = self.engine.role().term;
        let first = self.engine.last_index() + 1;
        let commands = staged.iter().map(|one| one.data.clone()).collect();
        match self.engine.handle(Event::Propose(Proposal::Normal(commands)), now.monotonic) {
            Ok(()) => {
                for (index, one) in (first..).zip(staged) {
                    let Staged { sequence, wait, .. } = one;
                    self.waits.proposals.push_back(Waiting { index, term, sequence, wait });
                }
            }
            Err(refusal) => {
                let error = match refusal {
                    Refusal::NotLeader => self.not_leader(),
                    Refusal::Transferring | Refusal::Busy => QuorumError::Busy { group: self.group },
                };
                out.extend(staged.into_iter().map(|one| Output::Answer(one.wait.waiter, Err(error.clone()))));
            }
        }
    }

    pub(super) fn read(&mut self, wait: Wait<W>, out: &mut Vec<Output<W>>) {
        if rt::site!("raft.read.not_leader", self.waits.leading_term.is_none()) {
            out.push(Output::Answer(wait.waiter, Err(self.not_leader())));
        } else if self.waits.reads.len() >= PROPOSALS_MAX {
            out.push(Output::Answer(wait.waiter, Err(QuorumError::Busy { group: self.group })));
        } else {
            if self.waits.reads.is_empty()
                && self.engine.lease_until().is_none_or(|until| until <= wait.since)
            {
                rt::site!("raft.read.without_lease");
                self.engine.ping();
            }
            self.waits.reads.push(wait);
        }
    }

    /// A read may go on when the lease covers this instant, or a majority answered a heartbeat sent after it began.
    pub(super) fn answer_reads(&mut self, now: Now, out: &mut Vec<Output<W>>) {
        if self.waits.reads.is_empty()
            || rt::site!("raft.read.before_own_term", !self.engine.leads_and_applied())
        {
            return;
        }
        let leased = self.engine.lease_until().is_some_and(|until| now.monotonic < until);
        let heard = self.engine.echoed_by_majority();
        rt::site!("raft.read.no_majority_yet", !leased && heard.is_none());
        let ready =
            self.waits.reads.extract_if(.., |wait| leased || heard.is_some_and(|at| at >= wait.since));
        out.extend(ready.map(|wait| Output::Answer(wait.waiter, Ok(Bytes::new()))));
    }

    pub(super) fn sync(&mut self, wait: Wait<W>, out: &mut Vec<Output<W>>) {
        if rt::site!("raft.sync.not_leader", !self.engine.leads_and_applied()) {
            out.push(Output::Answer(wait.waiter, Err(self.not_leader())));
            return;
        }
        let index = self.applied();
        let note = SyncNote { index, term: self.engine.term_of(index) };
        for voter in self.other_voters() {
            self.send_note(voter, Kind::SyncWanted(note), out);
        }
        self.waits.syncs.push(SyncWait { note, done: BTreeSet::new(), wait });
    }

    pub(super) fn other_voters(&self) -> Vec<u64> {
        self.applier.members.voters.keys().copied().filter(|voter| *voter != self.me).collect()
    }

    /// Asks again whoever has not answered.
    pub(super) fn tick_syncs(&mut self, out: &mut Vec<Output<W>>) {
        let voters = self.other_voters();
        for sync in &self.waits.syncs {
            for voter in voters.iter().filter(|voter| !sync.done.contains(voter)) {
                rt::site!("raft.sync.asked_again");
                out.push(Output::Send {
                    to: *voter,
                    message: super::note::wrap_note(Kind::SyncWanted(sync.note)),
                });
            }
        }
    }

    /// Answers syncs, one's own and those that a leader asked for.
    pub(super) fn answer_syncs(&mut self, out: &mut Vec<Output<W>>) {
        let store = &self.store;
        let ready: Vec<(u64, SyncNote)> = self
            .waits
            .remote_syncs
            .iter()
            .filter(|(_, note)| store.term(note.index) == Some(note.term) && store.is_synced(note.index))
            .map(|(from, note)| (*from, *note))
            .collect();
        for (from, note) in ready {
            rt::site!("raft.sync.done_for_another");
            self.waits.remote_syncs.remove(&from);
            self.send_note(from, Kind::SyncDone(note), out);
        }
        let voters = &self.applier.members.voters;
        let (me, store) = (self.me, &self.store);
        let done = self.waits.syncs.extract_if(.., |sync| {
            let has = |voter: &u64| {
                if *voter == me { store.is_synced(sync.note.index) } else { sync.done.contains(voter) }
            };
            voters.keys().filter(|voter| has(voter)).count() > voters.len() / 2
        });
        out.extend(done.map(|sync| Output::Answer(sync.wait.waiter, Ok(Bytes::new()))));
    }
}
