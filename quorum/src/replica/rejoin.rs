//! Rejoining after an unclean loss of the machine (docs/protocols/raft.md): until the member has what it may have
//! acknowledged and forgotten, it helps nobody to be elected.
//!
//! When so many lost power at once that no majority of sound members is left, the rest must elect after all; then
//! each votes only for a log that is not behind the best one it has heard of. What was acknowledged may be lost
//! then, and a table may be ahead of the group: so a rejoining member takes nothing from a leader that has not
//! said that it has the last entry applied here. If it has not, the member forgets everything and takes a snapshot.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use raft::eraftpb::{Message, MessageType};

use super::input::{Now, Output};
use super::note::{Kind, RejoinAnswer, RejoinNote};
use super::rows::Members;
use super::{Durability, Fatal, Replica};
use crate::engine::{Engine, Recovered};

/// Ask every this many ticks.
const ASK_TICKS: u64 = 4;
/// When no sound majority is left, wait this many ticks for the others to speak; and remember what they said for
/// as long.
const PATIENCE_TICKS: u64 = 100;

#[derive(Debug)]
struct Heard {
    tick: u64,
    rejoining: bool,
    /// Term and index of the last entry of its log.
    log: (u64, u64),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rejoin {
    /// Commit index to reach, from a leader.
    target: Option<u64>,
    /// From this term on every leader has the last entry applied here.
    agreed: Option<u64>,
    /// The leader of this term has it, but has not committed it itself.
    agreed_in: Option<u64>,
    heard: BTreeMap<u64, Heard>,
    /// The newest voters that an answer named, and the index as of which.
    newest: (u64, BTreeSet<u64>),
    /// Ticks since it was known that no sound majority is left.
    hopeless_ticks: u64,
    /// It votes, as there is no other way.
    votes: bool,
}

impl Rejoin {
    /// Whether what a leader says may be taken.
    pub(super) fn takes(&self, message: &Message) -> bool {
        match message.get_msg_type() {
            MessageType::MsgAppend | MessageType::MsgSnapshot => {
                self.agreed.is_some_and(|term| message.term >= term) || self.agreed_in == Some(message.term)
            }
            _ => true,
        }
    }

    /// Counts who is lost among `voters`, `me` included: whether there is no choice but to vote now.
    fn must_vote(&mut self, me: u64, voters: &BTreeSet<u64>) -> bool {
        let rejoining =
            self.heard.iter().filter(|(id, heard)| heard.rejoining && voters.contains(id)).count();
        let sound = voters.len().saturating_sub(1 + rejoining);
        if sound > voters.len() / 2 {
            self.hopeless_ticks = 0;
            return false;
        }
        self.hopeless_ticks += 1;
        let all_spoke = voters.iter().all(|voter| *voter == me || self.heard.contains_key(voter));
        all_spoke || self.hopeless_ticks > PATIENCE_TICKS
    }
}

impl<W> Replica<W> {
    pub(super) fn tick_rejoin(&mut self, _now: Now, out: &mut Vec<Output<W>>) -> Result<(), Fatal> {
        let Some(rejoin) = &self.rejoin else { return Ok(()) };
        if self.ticks % ASK_TICKS == 1 {
            let applied =
                if self.hollow { (0, 0) } else { (self.applier.position.index, self.applier.position.term) };
            let note =
                RejoinNote { incarnation: self.incarnation(), applied: applied.0, applied_term: applied.1 };
            let asked: BTreeSet<u64> =
                self.contacts().into_keys().chain(rejoin.newest.1.iter().copied()).collect();
            for member in asked.iter().filter(|member| **member != self.me) {
                self.send_note(*member, Kind::Rejoin(note), out);
            }
        }
        if self.has_rejoined() {
            return self.end_rejoin();
        }
        let known: BTreeSet<u64> = self.applier.members.voters.keys().copied().collect();
        let (me, ticks) = (self.me, self.ticks);
        let Some(rejoin) = &mut self.rejoin else { return Ok(()) };
        rejoin.heard.retain(|_, heard| heard.tick + PATIENCE_TICKS >= ticks);
        // Members may have changed since this one last heard: who must agree now is what counts.
        let (applied, newest) = rejoin.newest.clone();
        let voters = if applied > self.applier.position.index { newest } else { known };
        rejoin.votes =
            rejoin.votes || rt::site!("rejoin.votes_without_majority", rejoin.must_vote(me, &voters));
        rt::site!("rejoin.members_changed_since", applied > self.applier.position.index);
        // A learner may have more, but cannot be elected.
        let best =
            rejoin.heard.iter().filter(|(id, _)| voters.contains(id)).map(|(_, heard)| heard.log).max();
        if rejoin.votes {
            self.engine.vote_for(best)
        } else {
            self.engine.mute()
        }
        Ok(())
    }

    /// It follows a leader whose commit index it has reached, or it leads itself.
    fn has_rejoined(&self) -> bool {
        let reached = |target: u64| self.engine.committed() >= target;
        let follows = self.rejoin.as_ref().and_then(|rejoin| rejoin.target).is_some_and(reached)
            && self.engine.role().leader != 0;
        !self.hollow && (follows || self.engine.leads_and_applied())
    }

    fn end_rejoin(&mut self) -> Result<(), Fatal> {
        rt::site!("rejoin.over");
        rt::site!("rejoin.over_as_leader", self.engine.role().leading);
        tracing::info!(group = %self.group, member = self.me, "rejoined after an unclean stop");
        self.rejoin = None;
        self.engine.vote_for(None);
        let (boot_id, relaxed) = (self.boot_id.clone(), self.durability == Durability::Quorum);
        // From here on it answers for what it has; the next loss of power starts another rejoining.
        self.store.change_state(|state| {
            state.boot_id = boot_id;
            state.relaxed = relaxed;
        })?;
        self.tidy = true;
        Ok(())
    }

    pub(super) fn answer_rejoin(&mut self, from: u64, question: RejoinNote, out: &mut Vec<Output<W>>) {
        let role = self.engine.role();
        let last = self.engine.last_index();
        let in_log = question.applied >= self.store.first_index() - 1 && question.applied <= last;
        rt::site!("rejoin.asked_beyond_log", !in_log);
        let has_it = in_log && self.engine.term_of(question.applied) == question.applied_term;
        // Without a table it cannot lead, however much its log has: nobody may wait for a log as good as that.
        let log = if rt::site!("rejoin.asked_without_table", self.hollow) {
            (0, 0)
        } else {
            (self.engine.term_of(last), last)
        };
        let answer = RejoinAnswer {
            incarnation: question.incarnation,
            term: role.term,
            leads: self.engine.leads_and_applied(),
            commit: self.engine.committed(),
            rejoining: self.rejoin.is_some(),
            applied: self.applied(),
            voters: self.applier.members.voters.keys().copied().collect(),
            last_index: log.1,
            last_term: log.0,
            agrees: role.leading && (has_it || question.applied == 0),
            disagrees: role.leading && !has_it && question.applied > 0,
        };
        self.send_note(from, Kind::RejoinAnswer(answer), out);
        // An idle leader would not tell it the commit index again.
        self.engine.nudge(from);
    }

    pub(super) fn take_rejoin_answer(
        &mut self,
        from: u64,
        answer: RejoinAnswer,
        now: Now,
    ) -> Result<(), Fatal> {
        let (incarnation, term, ticks) = (self.incarnation(), self.engine.role().term, self.ticks);
        let Some(rejoin) = &mut self.rejoin else { return Ok(()) };
        if answer.incarnation != incarnation {
            return Ok(());
        }
        let log = (answer.last_term, answer.last_index);
        rejoin.heard.insert(from, Heard { tick: ticks, rejoining: answer.rejoining, log });
        if answer.applied > rejoin.newest.0 {
            rejoin.newest = (answer.applied, answer.voters.into_iter().collect());
        }
        // A leader of an older term may not know what this member acknowledged to a newer one.
        if rt::site!("rejoin.answer_of_old_term", answer.term < term) {
            return Ok(());
        }
        if answer.disagrees && !self.hollow && rejoin.agreed.is_none() {
            rt::site!("rejoin.forgets_all");
            return self.forget(now);
        }
        if rt::site!("rejoin.leader_has_it", answer.agrees) {
            rejoin.agreed_in = Some(answer.term);
        }
        if answer.agrees && answer.leads {
            rejoin.agreed = Some(rejoin.agreed.map_or(answer.term, |term| term.min(answer.term)));
            rejoin.target = Some(rejoin.target.unwrap_or(0).max(answer.commit));
        }
        Ok(())
    }

    /// What is here never happened for the group: begins without a log and a table; a snapshot must come.
    fn forget(&mut self, now: Now) -> Result<(), Fatal> {
        tracing::warn!(
            group = %self.group,
            member = self.me,
            applied = self.applier.position.index,
            "the group lost what this member has: it starts over from a snapshot"
        );
        let members = self.applier.members.clone();
        self.empty_table(&members)?;
        self.store.reset(0, 0, |state| state.commit = 0)?;
        self.store.sync_now()?;
        self.pending = VecDeque::new();
        let state = self.store.state();
        let recovered = Recovered {
            term: state.term,
            vote: state.vote,
            commit: 0,
            applied: 0,
            conf: members.conf(),
            base_index: 0,
            base_term: 0,
            terms: Vec::new(),
            tail: Vec::new(),
            incarnation: state.incarnation,
            fresh: false,
        };
        let engine = Engine::new(self.me, self.timing, self.seed, recovered, now.monotonic);
        let mut engine =
            engine.map_err(|error| crate::store::StoreError::Corrupt { what: error.to_string() })?;
        engine.inherit(&self.engine);
        engine.set_hollow(true);
        engine.mute();
        self.engine = engine;
        if let Some(rejoin) = &mut self.rejoin {
            rejoin.agreed = None;
            rejoin.agreed_in = None;
            rejoin.target = None;
        }
        Ok(())
    }

    /// The table is emptied, but for who is in the group, under the mark that says so.
    pub(super) fn empty_table(&mut self, members: &Members) -> Result<(), Fatal> {
        self.store.change_state(|state| state.installing = true)?;
        self.store.sync_now()?;
        self.hollow = true;
        self.engine.set_hollow(true);
        self.transfer = None;
        self.applier.empty(members)?;
        Ok(())
    }
}
