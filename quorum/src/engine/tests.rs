//! Engines against one another, without disks or tables: every message and every persist by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use raft::eraftpb::{ConfState, Message, MessageType};

use super::{Engine, Event, Proposal, Recovered, Refusal, Timing};

const TICK: Duration = Duration::from_millis(50);

/// Some engines and the messages between them.
struct Cluster {
    engines: BTreeMap<u64, Engine>,
    now: Duration,
    wire: Vec<Message>,
    applied: BTreeMap<u64, Vec<Bytes>>,
    /// Nothing passes to or from these.
    cut: Vec<u64>,
}

fn begin(voters: &[u64], fresh: bool) -> Recovered {
    let mut conf = ConfState::default();
    conf.set_voters(voters.to_vec());
    Recovered {
        term: 1,
        vote: 0,
        commit: 1,
        applied: 1,
        conf,
        base_index: 1,
        base_term: 1,
        terms: Vec::new(),
        tail: Vec::new(),
        incarnation: 1,
        fresh,
    }
}

impl Cluster {
    fn new(size: u64) -> Self {
        let voters: Vec<u64> = (1..=size).collect();
        let engine = |id: &u64| {
            let engine =
                Engine::new(*id, Timing::of(TICK), 42, begin(&voters, true), Duration::ZERO).unwrap();
            (*id, engine)
        };
        Self {
            engines: voters.iter().map(engine).collect(),
            now: Duration::ZERO,
            wire: Vec::new(),
            applied: BTreeMap::new(),
            cut: Vec::new(),
        }
    }

    fn tell(&mut self, id: u64, event: Event) -> Result<(), Refusal> {
        let engine = self.engines.get_mut(&id).unwrap();
        let done = engine.handle(event, self.now);
        self.settle(id);
        done
    }

    fn settle(&mut self, id: u64) {
        let engine = self.engines.get_mut(&id).unwrap();
        loop {
            let effects = engine.settle(self.now);
            let idle = effects.persist.is_empty() && effects.committed.is_empty();
            self.wire.extend(effects.messages);
            for persist in effects.persist {
                self.wire.extend(persist.after);
                engine.handle(Event::Persisted(persist.number), self.now).unwrap();
            }
            if let Some(last) = effects.committed.last().map(|entry| entry.index) {
                let commands =
                    effects.committed.into_iter().map(|entry| entry.data).filter(|data| !data.is_empty());
                self.applied.entry(id).or_default().extend(commands);
                engine.handle(Event::Applied(last), self.now).unwrap();
            }
            engine.invariants();
            if idle {
                return;
            }
        }
    }

    fn deliver(&mut self) {
        while !self.wire.is_empty() {
            for message in std::mem::take(&mut self.wire) {
                let passes = !self.cut.contains(&message.to) && !self.cut.contains(&message.from);
                if passes && self.engines.contains_key(&message.to) {
                    let engine = self.engines.get_mut(&message.to).unwrap();
                    engine.heard(message.from, 1);
                    self.tell(message.to, Event::Step(message)).unwrap();
                }
            }
        }
    }

    fn tick(&mut self) {
        self.now += TICK;
        for id in self.engines.keys().copied().collect::<Vec<_>>() {
            self.tell(id, Event::Tick).unwrap();
        }
        self.deliver();
    }

    fn leader(&self) -> Option<u64> {
        let leaders = self.engines.iter().filter(|(_, engine)| engine.role().leading);
        leaders.max_by_key(|(_, engine)| engine.role().term).map(|(id, _)| *id)
    }

    fn elect(&mut self) -> u64 {
        for _ in 0..100 {
            if let Some(leader) = self.leader().filter(|leader| !self.cut.contains(leader)) {
                return leader;
            }
            self.tick();
        }
        panic!("nobody was elected in 100 ticks");
    }
}

#[test]
fn a_leader_is_elected_within_twice_the_election_timeout_and_commands_reach_all() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    assert!(cluster.now <= TICK * 21, "it took {:?}", cluster.now);
    let batch = vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")];
    cluster.tell(leader, Event::Propose(Proposal::Normal(batch.clone()))).unwrap();
    cluster.deliver();
    cluster.tick();
    cluster.tick();
    for id in 1..=3 {
        assert_eq!(cluster.applied[&id], batch, "member {id}");
    }
    let follower = leader % 3 + 1;
    let refused = cluster.tell(follower, Event::Propose(Proposal::Normal(batch)));
    assert_eq!(refused, Err(Refusal::NotLeader));
}

#[test]
fn the_lease_ends_before_another_leader_can_be_elected() {
    for round in 0..20 {
        let mut cluster = Cluster::new(3);
        let old = cluster.elect();
        for _ in 0..10 + round {
            cluster.tick();
        }
        assert!(cluster.engines[&old].lease_until().is_some_and(|until| until > cluster.now));
        cluster.cut = vec![old];
        let new = cluster.elect();
        assert_ne!(new, old);
        let lease = cluster.engines[&old].lease_until();
        assert!(
            lease.is_none_or(|until| until < cluster.now),
            "the old lease {lease:?} holds at {:?}",
            cluster.now
        );
    }
}

#[test]
fn a_follower_that_heard_a_leader_helps_no_other_candidate_even_when_raft_would() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    cluster.tick();
    cluster.tick();
    let voter = leader % 3 + 1;
    let mut vote =
        Message { from: voter % 3 + 1, to: voter, term: 9, index: 99, log_term: 8, ..Message::default() };
    vote.set_msg_type(MessageType::MsgRequestVote);
    if vote.from == leader {
        vote.from = 6 - leader - voter;
    }
    // A stray message of a higher term makes raft-rs forget its leader, and with it its own lease.
    let mut stray = vote.clone();
    stray.set_msg_type(MessageType::MsgRequestPreVoteResponse);
    stray.reject = true;
    cluster.tell(voter, Event::Step(stray)).unwrap();
    cluster.wire.clear();
    assert_eq!(cluster.engines[&voter].role().leader, 0);
    cluster.tell(voter, Event::Step(vote.clone())).unwrap();
    assert_eq!(cluster.wire, [], "the promise was broken");
    cluster.now += Timing::of(TICK).promise();
    cluster.tell(voter, Event::Step(vote)).unwrap();
    assert_eq!(cluster.wire.len(), 1, "it votes when the promise is over");
}

#[test]
fn after_a_restart_nobody_is_helped_for_the_length_of_a_promise_but_a_new_member_votes_at_once() {
    for (fresh, answers) in [(true, 1), (false, 0)] {
        let mut cluster = Cluster::new(3);
        let engine = Engine::new(1, Timing::of(TICK), 1, begin(&[1, 2, 3], fresh), cluster.now).unwrap();
        cluster.engines.insert(1, engine);
        let mut vote = Message { from: 2, to: 1, term: 2, index: 1, log_term: 1, ..Message::default() };
        vote.set_msg_type(MessageType::MsgRequestVote);
        cluster.tell(1, Event::Step(vote)).unwrap();
        assert_eq!(cluster.wire.len(), answers, "fresh: {fresh}");
    }
}

#[test]
fn a_heartbeat_that_does_not_know_of_the_restart_commits_nothing() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    cluster.tell(leader, Event::Propose(Proposal::Normal(vec![Bytes::from_static(b"x")]))).unwrap();
    cluster.deliver();
    let follower = leader % 3 + 1;
    let committed = cluster.engines[&leader].committed();
    // The follower comes back without its log.
    let mut recovered = begin(&[1, 2, 3], false);
    recovered.term = cluster.engines[&leader].role().term;
    recovered.incarnation = 2;
    let engine = Engine::new(follower, Timing::of(TICK), 1, recovered, cluster.now).unwrap();
    cluster.engines.insert(follower, engine);
    for incarnation in [1u64, 2] {
        let mut beat = Message { from: leader, to: follower, commit: committed, ..Message::default() };
        beat.term = cluster.engines[&leader].role().term;
        beat.set_msg_type(MessageType::MsgHeartbeat);
        beat.context = super::lease::Lease::stamp(cluster.now, incarnation);
        // Not even one that knows may commit what is not there.
        cluster.tell(follower, Event::Step(beat)).unwrap();
        assert_eq!(cluster.engines[&follower].committed(), 1);
    }
    // Once the leader has heard of it, the follower gets everything again.
    assert!(cluster.engines.get_mut(&leader).unwrap().heard(follower, 2));
    assert!(!cluster.engines.get_mut(&leader).unwrap().heard(follower, 1), "its former life is over");
    cluster.wire.clear();
    cluster.engines.get_mut(&leader).unwrap().nudge(follower);
    cluster.settle(leader);
    while !cluster.wire.is_empty() {
        for message in std::mem::take(&mut cluster.wire) {
            cluster.tell(message.to, Event::Step(message)).unwrap();
        }
    }
    assert_eq!(cluster.engines[&follower].committed(), committed);
}

#[test]
fn handing_over_ends_the_lease_for_the_rest_of_the_term() {
    let mut cluster = Cluster::new(3);
    let old = cluster.elect();
    cluster.tick();
    cluster.tick();
    assert!(cluster.engines[&old].lease_until().is_some());
    let to = old % 3 + 1;
    cluster.cut = vec![to];
    cluster.tell(old, Event::Transfer(to)).unwrap();
    for _ in 0..30 {
        cluster.deliver();
        cluster.tick();
        assert_eq!(cluster.engines[&old].lease_until(), None, "the successor may be elected at any time");
    }
    assert!(cluster.engines[&old].role().leading, "nobody took over");
}

#[test]
fn the_same_seed_draws_the_same_election_timeouts() {
    let times = |seed: u64| -> Vec<usize> {
        let mut engine =
            Engine::new(1, Timing::of(TICK), seed, begin(&[1, 2, 3], true), Duration::ZERO).unwrap();
        (0..200)
            .map(|step| {
                let _ = engine.handle(Event::Tick, TICK * step);
                let _ = engine.settle(TICK * step);
                engine.election
            })
            .collect()
    };
    assert_eq!(times(5), times(5));
    assert_ne!(times(5), times(6));
}
