//! The protocol engine: raft-rs behind `handle(event, now) -> effects`. No clock, no I/O, no locks, no randomness
//! but its own seeded generator.
//!
//! What it adds to raft-rs:
//! - **Leases that hold.** raft-rs's lease (check-quorum) can outlive the leader's last contact by two election
//!   timeouts. Here a heartbeat carries the leader's sending time, the follower echoes it, and the lease ends
//!   [`Timing::lease`] after the newest sending time that a majority echoed. A follower keeps its side whatever
//!   raft-rs thinks: for [`Timing::promise`] after hearing a leader, and after a start, it ignores vote requests
//!   that no leader asked for (see `engine/lease.rs`).
//! - **Determinism.** raft-rs draws election timeouts from the thread's generator whenever it resets; after each
//!   event the engine puts its own draw in place (a new one for each change of term, role or leader).
//! - **No panic on a member that lost its tail**: a heartbeat's commit index is cut to what the log holds.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod event;
mod lease;
mod logger;
mod view;

use std::collections::BTreeMap;
use std::time::Duration;

use raft::eraftpb::{ConfState, Entry, EntryType, Message, MessageType, Snapshot};
use raft::{Config, GetEntriesContext, RawNode, SnapshotStatus, StateRole};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use event::{Effects, Event, Fetch, Persist, Proposal, Refusal, Role};
use lease::Lease;
pub use lease::Timing;
use view::View;

/// What the engine starts from: what log and table said.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// Term, vote.
    pub term: u64,
    /// Vote in that term.
    pub vote: u64,
    /// A committed index.
    pub commit: u64,
    /// Applied index: the table shows all up to here.
    pub applied: u64,
    /// Members as of `applied`.
    pub conf: ConfState,
    /// Index before the first entry.
    pub base_index: u64,
    /// Its term.
    pub base_term: u64,
    /// Term of each entry after the base.
    pub terms: Vec<u64>,
    /// The newest entries, ending with the last one; at least all after `applied`.
    pub tail: Vec<Entry>,
    /// How often this member was started, this time included.
    pub incarnation: u64,
    /// A member without any history cannot have promised anything.
    pub fresh: bool,
}

/// See the module.
pub struct Engine {
    node: RawNode<View>,
    timing: Timing,
    rng: ChaCha8Rng,
    /// The election timeout in force, and the (term, role, leader) it was drawn for.
    election: usize,
    drawn_for: (u64, StateRole, u64),
    lease: Lease,
    role: Role,
    /// Neither votes nor campaigns: its log may lack what it acknowledged (docs/protocols/raft.md, "Rejoining").
    mute: bool,
    /// Votes for no log that ends before this (term, index), not even its own.
    least_log: Option<(u64, u64)>,
    /// Does not campaign: it has a log but no table.
    hollow: bool,
    /// How often this member was started.
    incarnation: u64,
    /// Newest incarnation heard of by member: messages of older ones are stale.
    incarnations: BTreeMap<u64, u64>,
}

impl Engine {
    /// An engine for member `id`. `seed` decides election timeouts.
    pub fn new(
        id: u64,
        timing: Timing,
        seed: u64,
        recovered: Recovered,
        now: Duration,
    ) -> Result<Self, raft::Error> {
        let config = Config {
            id,
            election_tick: timing.election_ticks,
            heartbeat_tick: timing.heartbeat_ticks,
            applied: recovered.applied,
            max_size_per_msg: proto::limits::APPEND_BYTES_MAX,
            max_inflight_msgs: proto::limits::APPEND_INFLIGHT,
            check_quorum: true,
            pre_vote: true,
            batch_append: true,
            // Followers hear of a commit with the next append or heartbeat; nobody reads from their tables meanwhile.
            skip_bcast_commit: true,
            max_committed_size_per_ready: 1 << 20,
            max_uncommitted_size: 64 << 20,
            ..Config::default()
        };
        let promised_until = if recovered.fresh { Duration::ZERO } else { now + timing.promise() };
        let recovered_incarnation = recovered.incarnation;
        let node = RawNode::new(&config, View::new(recovered), &logger::to_tracing())?;
        let mut engine = Self {
            node,
            timing,
            rng: ChaCha8Rng::seed_from_u64(seed ^ id.rotate_left(32)),
            election: 0,
            drawn_for: (u64::MAX, StateRole::Follower, 0),
            lease: Lease::new(promised_until),
            role: Role::default(),
            mute: false,
            least_log: None,
            hollow: false,
            incarnation: recovered_incarnation,
            incarnations: BTreeMap::new(),
        };
        engine.fix_election_timeout();
        Ok(engine)
    }

    /// Takes an event in; what follows from it is gathered by [`Engine::settle`].
    pub fn handle(&mut self, event: Event, now: Duration) -> Result<(), Refusal> {
        let done = match event {
            Event::Tick => {
                self.tick(now);
                Ok(())
            }
            Event::Propose(proposal) => self.propose(proposal),
            Event::Step(message) => {
                self.step(message, now);
                Ok(())
            }
            Event::Persisted(number) => {
                self.node.on_persist_ready(number);
                Ok(())
            }
            Event::Applied(index) => {
                self.node.advance_apply_to(index);
                self.node.mut_store().applied(index);
                Ok(())
            }
            Event::Unreachable(member) => {
                self.node.report_unreachable(member);
                Ok(())
            }
            Event::SnapshotSent { to, ok } => {
                let status = if ok { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
                self.node.report_snapshot(to, status);
                Ok(())
            }
            Event::Fetched { context, low, entries } => {
                self.fetched(context, low, entries);
                Ok(())
            }
            Event::Campaign => {
                if !self.mute && !self.hollow {
                    let _ = self.node.campaign();
                }
                Ok(())
            }
            Event::Transfer(to) => {
                self.lease.handed_over(self.node.raft.term);
                self.node.transfer_leader(to);
                Ok(())
            }
        };
        self.fix_election_timeout();
        done
    }

    /// Everything that follows from the events handled so far. Call it again after `Persisted` and `Applied`.
    pub fn settle(&mut self, now: Duration) -> Effects {
        let mut effects = Effects::default();
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            let entries = ready.take_entries();
            let mut messages = ready.take_messages();
            let mut after = ready.take_persisted_messages();
            for message in messages.iter_mut().chain(&mut after) {
                self.stamp(message, now);
            }
            effects.messages.append(&mut messages);
            effects.committed.append(&mut ready.take_committed_entries());
            let snapshot = (!ready.snapshot().is_empty()).then(|| ready.snapshot().clone());
            let hard = ready.hs().map(|hard| (hard.term, hard.vote, hard.commit));
            let vote_changed = hard.is_some_and(|(term, vote, _)| {
                let stored = self.node.store();
                (term, vote) != stored.vote()
            });
            let store = self.node.mut_store();
            if let Some((term, vote, commit)) = hard {
                store.set_hard_state(term, vote, commit);
            }
            if let Some(snapshot) = &snapshot {
                store.restore(snapshot);
            }
            store.append(&entries);
            effects.persist.push(Persist { number: ready.number(), hard, vote_changed, entries, after });
            self.node.advance_append_async(ready);
            effects.fetch.append(&mut self.node.mut_store().take_fetches());
        }
        effects.fetch.append(&mut self.node.mut_store().take_fetches());
        self.fix_election_timeout();
        let role = self.look();
        if role != self.role {
            effects.role = Some(role.clone());
            self.role = role;
        }
        effects
    }

    fn tick(&mut self, now: Duration) {
        let own = (self.node.raft.raft_log.last_term(), self.last_index());
        let behind = self.least_log.is_some_and(|least| own < least);
        let kept = self.mute || self.hollow || behind || now < self.lease.promised_until();
        let raft = &mut self.node.raft;
        if raft.state != StateRole::Leader && kept {
            let about_to_campaign = raft.election_elapsed + 1 >= raft.randomized_election_timeout();
            if about_to_campaign {
                rt::site!("raft.campaign.withheld_mute", self.mute);
                rt::site!("raft.campaign.withheld_hollow", self.hollow);
                rt::site!("raft.campaign.withheld_log_behind", behind);
                rt::site!("raft.campaign.withheld_promise", now < self.lease.promised_until());
                // Time passes all the same: others may be voted for when the leader has been silent for long.
                raft.election_elapsed += 1;
                if raft.election_elapsed > 2 * self.timing.election_ticks {
                    rt::site!("raft.leader.given_up", raft.leader_id != 0);
                    raft.leader_id = 0;
                }
                return;
            }
        }
        self.node.tick();
    }

    fn propose(&mut self, proposal: Proposal) -> Result<(), Refusal> {
        if self.node.raft.state != StateRole::Leader {
            return Err(Refusal::NotLeader);
        }
        if rt::site!("raft.propose.transferring", self.node.raft.lead_transferee.is_some()) {
            return Err(Refusal::Transferring);
        }
        let done = match proposal {
            Proposal::Normal(commands) => {
                let mut message = Message::default();
                message.set_msg_type(MessageType::MsgPropose);
                message.from = self.node.raft.id;
                let entries: Vec<Entry> =
                    commands.into_iter().map(|data| Entry { data, ..Entry::default() }).collect();
                message.set_entries(entries.into());
                self.node.raft.step(message)
            }
            Proposal::Change { change, address } => {
                if rt::site!("member.change.pending", self.node.raft.has_pending_conf()) {
                    return Err(Refusal::Busy);
                }
                self.node.propose_conf_change(address.into_bytes(), change)
            }
        };
        done.map_err(|_| Refusal::Busy)
    }

    fn step(&mut self, mut message: Message, now: Duration) {
        let raft = &self.node.raft;
        let kind = message.get_msg_type();
        match kind {
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => {
                let asked_by_leader = message.context.as_ref() == raft::CAMPAIGN_TRANSFER;
                let behind = self.least_log.is_some_and(|least| (message.log_term, message.index) < least);
                let promised = now < self.lease.promised_until();
                rt::site!("raft.vote.withheld_mute", self.mute);
                rt::site!("raft.vote.withheld_promise", promised && !asked_by_leader);
                rt::site!("raft.vote.handover_over_promise", promised && asked_by_leader);
                if self.mute || behind || (!asked_by_leader && promised) {
                    return;
                }
            }
            MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot => {
                if message.term >= raft.term {
                    self.lease.promise(now + self.timing.promise());
                } else {
                    rt::site!("raft.append.old_term");
                }
                if kind == MessageType::MsgHeartbeat {
                    // A leader that has not heard of this member's restart may believe that it has what it lost;
                    // and a heartbeat's commit index is not checked against the log's terms.
                    let knows_me = Lease::read_incarnation(&message.context) == Some(self.incarnation);
                    rt::site!("raft.heartbeat.restart_unheard", !knows_me);
                    message.commit =
                        if knows_me { message.commit.min(raft.raft_log.last_index()) } else { 0 };
                }
            }
            MessageType::MsgTimeoutNow if rt::site!("raft.handover.refused", self.mute || self.hollow) => {
                return;
            }
            MessageType::MsgHeartbeatResponse => {
                let sent = Lease::read_stamp(&message.context);
                message.context = bytes::Bytes::new();
                rt::site!("raft.echo.old_term", message.term < raft.term);
                if let Some(sent) =
                    sent.filter(|_| message.term == raft.term && raft.state == StateRole::Leader)
                {
                    self.lease.echoed(message.from, sent);
                }
            }
            _ => {}
        }
        // An unknown sender or a stale message: raft-rs has said no, nothing is owed.
        rt::site!("raft.message.refused", self.node.step(message).is_err());
    }

    fn stamp(&self, message: &mut Message, now: Duration) {
        if message.get_msg_type() == MessageType::MsgHeartbeat {
            let incarnation = self.incarnations.get(&message.to).copied().unwrap_or(0);
            message.context = Lease::stamp(now, incarnation);
        }
    }

    fn fetched(&mut self, context: GetEntriesContext, low: u64, entries: Vec<Entry>) {
        self.node.mut_store().offer(low, entries);
        self.node.on_entries_fetched(context);
        self.node.mut_store().withdraw();
    }

    /// Replaces raft-rs's random election timeout by one of ours.
    fn fix_election_timeout(&mut self) {
        let raft = &mut self.node.raft;
        let at = (raft.term, raft.state, raft.leader_id);
        if at != self.drawn_for {
            let before = self.drawn_for.1;
            rt::site!("raft.leader.deposed", before == StateRole::Leader && at.1 != before);
            rt::site!("raft.election.won", at.1 == StateRole::Leader);
            rt::site!("raft.election.lost", before == StateRole::Candidate && at.1 == StateRole::Follower);
            rt::site!(
                "raft.election.again",
                before == StateRole::Candidate && at.1 == StateRole::PreCandidate
            );
            rt::site!("raft.prevote.lost", before == StateRole::PreCandidate && at.1 == StateRole::Follower);
            self.drawn_for = at;
            let least = self.timing.election_ticks;
            self.election = self.rng.random_range(least..2 * least);
            if raft.state != StateRole::Leader {
                self.lease.forget_echoes();
            }
        }
        if raft.randomized_election_timeout() != self.election {
            raft.set_randomized_election_timeout(self.election);
        }
    }

    fn look(&self) -> Role {
        let raft = &self.node.raft;
        Role {
            leading: raft.state == StateRole::Leader,
            candidate: matches!(raft.state, StateRole::Candidate | StateRole::PreCandidate),
            leader: raft.leader_id,
            term: raft.term,
        }
    }

    /// Until when reads are safe without asking anyone; `None` when they are not. `Duration::MAX`: for ever, as
    /// nobody else can vote.
    #[must_use]
    pub fn lease_until(&self) -> Option<Duration> {
        let raft = &self.node.raft;
        let leads = raft.state == StateRole::Leader;
        if !leads || rt::site!("raft.lease.own_term_unapplied", !raft.apply_to_current_term()) || self.hollow
        {
            return None;
        }
        if raft.prs().is_singleton() && raft.prs().conf().voters().contains(raft.id) {
            return Some(Duration::MAX);
        }
        if rt::site!("raft.lease.handed_over", self.lease.is_handed_over(raft.term)) {
            return None;
        }
        let echoed = self.echoed_by_majority();
        rt::site!("raft.lease.no_majority_yet", echoed.is_none());
        let echoed = echoed?;
        Some(echoed + self.timing.lease())
    }

    /// The newest sending time of a heartbeat that a majority of voters (this one included) has answered.
    #[must_use]
    pub fn echoed_by_majority(&self) -> Option<Duration> {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader {
            return None;
        }
        let voters = raft.prs().conf().voters().ids();
        self.lease.majority(voters.iter().collect(), raft.id)
    }

    /// Whether this leader has applied an entry of its own term, so that its table shows all that was acknowledged
    /// under former leaders.
    #[must_use]
    pub fn leads_and_applied(&self) -> bool {
        self.node.raft.state == StateRole::Leader && self.node.raft.apply_to_current_term() && !self.hollow
    }

    /// Sends heartbeats at the next [`Engine::settle`].
    pub fn ping(&mut self) {
        self.node.ping();
    }

    /// A change of members has been applied; `None`: it was refused (and does nothing on any member).
    pub fn apply_change(&mut self, entry: &Entry) -> Option<ConfState> {
        use protobuf::Message as _;
        use raft::eraftpb::{ConfChange, ConfChangeV2};
        let conf = match entry.get_entry_type() {
            EntryType::EntryConfChange => {
                let mut change = ConfChange::default();
                change.merge_from_bytes(&entry.data).ok()?;
                self.node.apply_conf_change(&change).ok()?
            }
            EntryType::EntryConfChangeV2 => {
                let mut change = ConfChangeV2::default();
                change.merge_from_bytes(&entry.data).ok()?;
                self.node.apply_conf_change(&change).ok()?
            }
            EntryType::EntryNormal => return None,
        };
        self.node.mut_store().set_conf(conf.clone());
        let raft = &mut self.node.raft;
        if raft.state == StateRole::Leader && raft.prs().get(raft.id).is_none() {
            // raft-rs would let it lead on, propose nothing, and panic when the commit index moves.
            let term = raft.term;
            raft.become_follower(term, 0);
            self.fix_election_timeout();
        }
        Some(conf)
    }

    /// The log now begins after `index`.
    pub fn compacted(&mut self, index: u64) {
        self.node.mut_store().compact(index);
    }

    /// A snapshot for one member; `None`: not now.
    pub fn offer_snapshot(&mut self, snapshot: Option<(u64, Snapshot)>) {
        self.node.mut_store().offer_snapshot(snapshot);
    }

    /// Members that raft-rs wanted to send a snapshot to since the last call.
    pub fn take_snapshot_wanted(&mut self) -> Vec<u64> {
        self.node.mut_store().take_snapshot_wanted()
    }

    /// A snapshot has arrived whole: starts anew from it. `false`: it is too old by now.
    pub fn restore(&mut self, mut message: Message, now: Duration) -> bool {
        let raft = &mut self.node.raft;
        // The state in it is committed, whoever leads now.
        message.term = raft.term.max(message.term);
        if raft.leader_id != 0 && message.term == raft.term {
            message.from = raft.leader_id;
        }
        // Makes raft-rs take the snapshot even if the log has that entry: the table has not.
        raft.pending_request_snapshot = 1;
        let _ = self.handle(Event::Step(message), now);
        let restored = self.node.raft.snap().is_some();
        if !restored {
            self.node.raft.pending_request_snapshot = 0;
        }
        restored
    }

    /// Index up to which the table is known to be.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.node.raft.raft_log.applied
    }

    /// Whether `index` is committed and persisted here.
    #[must_use]
    pub fn may_apply(&self, index: u64) -> bool {
        let log = &self.node.raft.raft_log;
        index <= log.committed.min(log.persisted)
    }

    /// Sends what a follower lacks, or at least the commit index.
    pub fn nudge(&mut self, member: u64) {
        if self.node.raft.state == StateRole::Leader && self.node.raft.prs().get(member).is_some() {
            self.node.raft.send_append(member);
        }
    }

    /// Asks the leader for a snapshot. `false`: not possible now.
    pub fn request_snapshot(&mut self) -> bool {
        let done = self.node.request_snapshot().is_ok();
        rt::site!("snapshot.request.refused", !done);
        self.fix_election_timeout();
        done
    }

    /// Notes the incarnation that a message came from; `false`: the message is from an earlier life of its sender.
    pub fn heard(&mut self, from: u64, incarnation: u64) -> bool {
        match self.incarnations.get(&from).copied() {
            Some(known) if rt::site!("raft.message.earlier_life", incarnation < known) => false,
            Some(known) if incarnation == known => true,
            known => {
                self.incarnations.insert(from, incarnation);
                if known.is_some() {
                    self.doubt(from);
                }
                true
            }
        }
    }

    /// Forgets what a follower is known to have: it was restarted and may have lost its tail.
    fn doubt(&mut self, member: u64) {
        let last = self.node.raft.raft_log.last_index();
        if self.node.raft.state != StateRole::Leader {
            return;
        }
        if let Some(progress) = self.node.raft.mut_prs().get_mut(member) {
            rt::site!("raft.follower.restarted", progress.matched > 0);
            rt::site!("raft.follower.restarted_in_snapshot", progress.pending_snapshot > 0);
            progress.matched = 0;
            progress.committed_index = 0;
            progress.pending_snapshot = 0;
            progress.become_probe();
            progress.next_idx = last + 1;
        }
        self.lease.forget_echo(member);
    }

    /// The log may lack what this member acknowledged: it neither votes nor campaigns until [`Engine::unmute`].
    pub fn mute(&mut self) {
        self.mute = true;
    }

    /// It votes (again), but only for logs that end at `least` (term, index) or later.
    pub fn vote_for(&mut self, least: Option<(u64, u64)>) {
        self.mute = false;
        self.least_log = least;
    }

    /// Takes over what is known of other members' restarts.
    pub fn inherit(&mut self, other: &Self) {
        self.incarnations.clone_from(&other.incarnations);
    }

    /// Set while the table is missing.
    pub fn set_hollow(&mut self, hollow: bool) {
        self.hollow = hollow;
    }

    /// Role and term.
    #[must_use]
    pub fn role(&self) -> Role {
        self.look()
    }

    /// Committed index.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    /// Index of the last entry.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.node.raft.raft_log.last_index()
    }

    /// Term of an entry, 0 when it is not known.
    #[must_use]
    pub fn term_of(&self, index: u64) -> u64 {
        self.node.raft.raft_log.term(index).unwrap_or(0)
    }

    /// Whether a member has answered this leader within the time of a promise.
    #[must_use]
    pub fn answers(&self, member: u64, now: Duration) -> bool {
        self.lease.echo(member).is_some_and(|sent| sent + self.timing.promise() >= now)
    }

    /// What a leader knows of a follower: (matched, heard from recently).
    #[must_use]
    pub fn progress(&self, member: u64) -> Option<(u64, bool)> {
        self.node.raft.prs().get(member).map(|progress| (progress.matched, progress.recent_active))
    }

    /// What raft-rs knows of the others, for people.
    #[must_use]
    pub fn describe_progress(&self) -> String {
        let mut all: Vec<_> = self.node.raft.prs().iter().collect();
        all.sort_by_key(|(id, _)| **id);
        let one = |(id, p): (&u64, &raft::Progress)| {
            format!(
                "{id}: {:?} matched {} next {} paused {} snapshot {}/{}",
                p.state, p.matched, p.next_idx, p.paused, p.pending_snapshot, p.pending_request_snapshot
            )
        };
        all.into_iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// Voters and learners.
    #[must_use]
    pub fn conf(&self) -> ConfState {
        self.node.raft.prs().conf().to_conf_state()
    }

    /// The only voter there is?
    #[must_use]
    pub fn is_alone(&self) -> bool {
        let prs = self.node.raft.prs();
        prs.is_singleton() && prs.conf().voters().contains(self.node.raft.id)
    }

    /// Checks what must always hold; called by tests after every event.
    pub fn invariants(&self) {
        let log = &self.node.raft.raft_log;
        assert!(
            log.applied <= log.committed,
            "applied {} is beyond committed {}",
            log.applied,
            log.committed
        );
        assert!(log.committed <= log.last_index(), "committed {} is beyond the log", log.committed);
        assert_eq!(self.node.raft.randomized_election_timeout(), self.election);
        assert!(!(self.mute && self.node.raft.state == StateRole::Leader), "a mute member leads");
    }
}

#[cfg(test)]
mod tests;
