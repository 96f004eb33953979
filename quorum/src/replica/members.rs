//! Changing who is in the group: one member at a time, new ones as learners until they have caught up.

use bytes::Bytes;
use proto::id::MemberId;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2};

use super::Replica;
use super::input::{Now, Output, Wait};
use super::waits::ChangeWait;
use crate::engine::{Event, Proposal, Refusal};
use crate::error::QuorumError;

/// A learner that lacks at most this many entries is promoted.
const PROMOTE_LAG: u64 = 64;

fn change(kind: ConfChangeType, member: u64) -> ConfChangeV2 {
    let mut single = ConfChangeSingle::default();
    single.set_change_type(kind);
    single.node_id = member;
    let mut change = ConfChangeV2::default();
    change.set_changes(vec![single].into());
    change
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
        if self.applier.members.voters.contains_key(&member) {
            out.push(Output::Answer(wait.waiter, Ok(Bytes::new())));
            return;
        }
        let kind = ConfChangeType::AddLearnerNode;
        let known = self.applier.members.learners.contains_key(&member);
        let proposed = if known { Ok(()) } else { self.propose_change(kind, member, address, now) };
        self.await_change(member, true, wait, proposed, out);
    }

    pub(super) fn remove_member(&mut self, member: u64, wait: Wait<W>, now: Now, out: &mut Vec<Output<W>>) {
        if self.applier.members.address(member).is_none() {
            out.push(Output::Answer(wait.waiter, Ok(Bytes::new())));
            return;
        }
        if member == self.me && !self.engine.is_alone() {
            // The next leader does it.
            self.hand_over(None, now);
            out.push(Output::Answer(wait.waiter, Err(QuorumError::Busy { group: self.group })));
            return;
        }
        let proposed = self.propose_change(ConfChangeType::RemoveNode, member, String::new(), now);
        self.await_change(member, false, wait, proposed, out);
    }

    fn await_change(
        &mut self,
        member: u64,
        voter: bool,
        wait: Wait<W>,
        proposed: Result<(), Refusal>,
        out: &mut Vec<Output<W>>,
    ) {
        match proposed {
            Ok(()) => self.waits.changes.push(ChangeWait { member, voter, wait }),
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
        if kind == ConfChangeType::RemoveNode && self.engine.is_alone() && member == self.me {
            return Err(Refusal::Busy);
        }
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
            self.engine
                .progress(**id)
                .is_some_and(|(matched, recent)| recent && matched + PROMOTE_LAG >= last)
        });
        if let Some((member, address)) = ready.map(|(id, address)| (*id, address.clone())) {
            // Refused while another change is under way: the next tick tries again.
            let _ = self.propose_change(ConfChangeType::AddNode, member, address, now);
        }
    }

    pub(super) fn answer_member_changes(&mut self, out: &mut Vec<Output<W>>) {
        let members = &self.applier.members;
        let done = self.waits.changes.extract_if(.., |change| {
            if change.voter {
                members.voters.contains_key(&change.member)
            } else {
                members.address(change.member).is_none()
            }
        });
        out.extend(done.map(|change| Output::Answer(change.wait.waiter, Ok(Bytes::new()))));
    }

    /// Hands leadership to `to`, or to the voter that has most.
    pub(super) fn hand_over(&mut self, to: Option<MemberId>, now: Now) {
        if self.waits.leading_term.is_none() {
            return;
        }
        let best = || {
            self.other_voters()
                .into_iter()
                .filter_map(|voter| {
                    let (matched, recent) = self.engine.progress(voter)?;
                    recent.then_some((matched, voter))
                })
                .max()
                .map(|(_, voter)| voter)
        };
        if let Some(to) = to.map(|member| member.0).or_else(best) {
            let _ = self.engine.handle(Event::Transfer(to), now.monotonic);
        }
    }
}
