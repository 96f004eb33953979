//! Changing who is in the group: one member at a time, new ones as learners until they have caught up.

use bytes::Bytes;
use proto::id::MemberId;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2};

use super::Replica;
use super::input::{Now, Output, Wait};
use super::waits::{ChangeWait, Goal};
use crate::engine::{Event, Proposal, Refusal};
use crate::error::QuorumError;

/// A learner that lacks at most this many entries is promoted.
const PROMOTE_LAG: u64 = 64;
/// A leader of fewer ticks does not know yet who answers.
const ACQUAINTED_TICKS: u64 = 10;

fn change(kind: ConfChangeType, member: u64) -> ConfChangeV2 {
    let mut single = ConfChangeSingle::default();
    single.set_change_type(kind);
    single.node_id = member;
    let mut change = ConfChangeV2::default();
    change.set_changes(vec![single].into());
    change
}

fn answer(member: u64) -> Bytes {
    Bytes::copy_from_slice(&member.to_be_bytes())
}

impl<W> Replica<W> {
    pub(super) fn add_member(
        &mut self,
        member: u64,
        address: String,
        wait: Wait<W>,
        now: Now,
        out: &mut Vec<Output<W>>,
    ) {
        if rt::site!("member.add.already", self.applier.members.voters.contains_key(&member)) {
            out.push(Output::Answer(wait.waiter, Ok(Bytes::new())));
            return;
        }
        let kind = ConfChangeType::AddLearnerNode;
        let known = self.applier.members.learners.contains_key(&member);
        let proposed = if known { Ok(()) } else { self.propose_change(kind, member, address, now) };
        self.await_change(member, Goal::Voter, wait, proposed, out);
    }

    /// Takes in whoever is at an address; one that is in the group keeps its id.
    pub(super) fn admit(&mut self, address: String, wait: Wait<W>, now: Now, out: &mut Vec<Output<W>>) {
        if !self.engine.role().leading {
            out.push(Output::Answer(wait.waiter, Err(self.not_leader())));
            return;
        }
        if let Some(member) = self.applier.members.at(&address) {
            out.push(Output::Answer(wait.waiter, Ok(answer(member))));
            return;
        }
        let member = self.applier.members.next_id();
        let proposed = self.propose_change(ConfChangeType::AddLearnerNode, member, address, now);
        self.await_change(member, Goal::Member, wait, proposed, out);
    }

    pub(super) fn remove_member(&mut self, member: u64, wait: Wait<W>, now: Now, out: &mut Vec<Output<W>>) {
        if !self.engine.role().leading {
            rt::site!("member.remove.not_leader");
            // Another member may know of one that this one has not heard of.
            out.push(Output::Answer(wait.waiter, Err(self.not_leader())));
            return;
        }
        if rt::site!("member.remove.already", self.applier.members.address(member).is_none()) {
            out.push(Output::Answer(wait.waiter, Ok(Bytes::new())));
            return;
        }
        if let Err(error) = self.may_go(member, now) {
            out.push(Output::Answer(wait.waiter, Err(error)));
            return;
        }
        if member == self.me {
            rt::site!("member.remove.leader_hands_over");
            // The next leader does it.
            self.hand_over(None, now);
            out.push(Output::Answer(wait.waiter, Err(QuorumError::Busy { group: self.group })));
            return;
        }
        let proposed = self.propose_change(ConfChangeType::RemoveNode, member, String::new(), now);
        self.await_change(member, Goal::Gone, wait, proposed, out);
    }

    /// Whether the others can go on without a member, as far as this leader knows.
    fn may_go(&self, member: u64, now: Now) -> Result<(), QuorumError> {
        let group = self.group;
        let voters = &self.applier.members.voters;
        if !voters.contains_key(&member) {
            return Ok(());
        }
        let others: Vec<u64> = voters.keys().copied().filter(|voter| *voter != member).collect();
        if others.is_empty() {
            let why = format!("member {member} is the only one that votes: without it there is no group");
            return Err(QuorumError::Refused { group, why });
        }
        let answers = |voter: &&u64| **voter == self.me || self.engine.answers(**voter, now.monotonic);
        let answering = others.iter().filter(answers).count();
        if answering * 2 > others.len() {
            return Ok(());
        }
        if rt::site!("member.remove.not_acquainted", self.leading_ticks < ACQUAINTED_TICKS) {
            return Err(QuorumError::Busy { group });
        }
        rt::site!("member.remove.no_majority_left");
        let why = format!(
            "without member {member} there would be {} voters, of which {answering} answer: no majority; \
             start those that are down, or remove one of them first",
            others.len()
        );
        Err(QuorumError::Refused { group, why })
    }

    fn await_change(
        &mut self,
        member: u64,
        goal: Goal,
        wait: Wait<W>,
        proposed: Result<(), Refusal>,
        out: &mut Vec<Output<W>>,
    ) {
        match proposed {
            Ok(()) => self.waits.changes.push(ChangeWait { member, goal, wait }),
            Err(Refusal::NotLeader) => out.push(Output::Answer(wait.waiter, Err(self.not_leader()))),
            Err(Refusal::Busy | Refusal::Transferring) => {
                out.push(Output::Answer(wait.waiter, Err(QuorumError::Busy { group: self.group })));
            }
        }
    }

    fn propose_change(
        &mut self,
        kind: ConfChangeType,
        member: u64,
        address: String,
        now: Now,
    ) -> Result<(), Refusal> {
        let proposal = Proposal::Change { change: change(kind, member), address };
        self.engine.handle(Event::Propose(proposal), now.monotonic)
    }

    /// Promotes a learner that has caught up.
    pub(super) fn tick_members(&mut self, now: Now) {
        if !self.engine.leads_and_applied() {
            return;
        }
        let last = self.engine.last_index();
        let ready = self.applier.members.learners.iter().find(|(id, _)| {
            // One that has acknowledged nothing may not even run, however short the log is.
            self.engine
                .progress(**id)
                .is_some_and(|(matched, recent)| recent && matched > 0 && matched + PROMOTE_LAG >= last)
        });
        if let Some((member, address)) = ready.map(|(id, address)| (*id, address.clone())) {
            rt::site!("member.learner.caught_up");
            // Refused while another change is under way: the next tick tries again.
            let _ = self.propose_change(ConfChangeType::AddNode, member, address, now);
        }
    }

    pub(super) fn answer_member_changes(&mut self, out: &mut Vec<Output<W>>) {
        let members = &self.applier.members;
        let done = self.waits.changes.extract_if(.., |change| match change.goal {
            Goal::Member => members.address(change.member).is_some(),
            Goal::Voter => members.voters.contains_key(&change.member),
            Goal::Gone => members.address(change.member).is_none(),
        });
        out.extend(done.map(|change| Output::Answer(change.wait.waiter, Ok(answer(change.member)))));
    }

    /// Hands leadership to `to`, or to the voter that has most of those that answer.
    pub(super) fn hand_over(&mut self, to: Option<MemberId>, now: Now) {
        if rt::site!("raft.handover.not_leader", self.waits.leading_term.is_none()) {
            return;
        }
        let best = || {
            self.other_voters()
                .into_iter()
                .filter_map(|voter| {
                    let (matched, recent) = self.engine.progress(voter)?;
                    // One that died a moment ago is still heard of "recently".
                    recent.then_some((self.engine.answers(voter, now.monotonic), matched, voter))
                })
                .max()
                .map(|(_, _, voter)| voter)
        };
        if let Some(to) = to.map(|member| member.0).or_else(best) {
            rt::site!("raft.handover.asked");
            let _ = self.engine.handle(Event::Transfer(to), now.monotonic);
        } else {
            rt::site!("raft.handover.nobody_able");
        }
    }
}
