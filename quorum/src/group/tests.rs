//! Members in one process: alone, three of them over the local connector, restarts with the real table.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;
use proto::error::WireError;
use proto::id::{GroupId, MemberId};
use proto::rpc::Origin;
use rt::clock::SystemClock;
use rt::disk::os::OsDisk;
use rt::rpc::{BoxFuture, Connector, Peer, Request, Response, Service};
use rt::table::memory::MemoryTable;
use rt::table::rocks::{RocksTable, Sizes};
use rt::table::{Reader as _, Table, Txn};

use super::{Durability, Group, GroupConfig, Input, Member, QuorumError, TICK, Wait};
use crate::machine::{Applied, StateMachine};

const LONG: Duration = Duration::from_secs(10);

/// Adds the command's number to the row `sum` and answers the sum.
struct Adder;

impl StateMachine for Adder {
    fn apply(&self, txn: &mut Txn<'_>, _: Applied, command: &[u8]) -> rt::table::Result<Bytes> {
        let number = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().parse::<u64>().unwrap();
        let sum = txn.get(b"sum")?.map_or(0, |value| number(&value)) + number(command);
        txn.put("sum", sum.to_string());
        Ok(sum.to_string().into())
    }
}

struct Door(Arc<Group>);

impl Service for Door {
    fn call(self: Arc<Self>, _: Peer, request: Request) -> BoxFuture<'static, Result<Response, WireError>> {
        Box::pin(async move { self.0.serve(request).await })
    }
}

/// A dropped group's table closes when its last task has noticed.
fn open_table(path: &Path) -> Arc<RocksTable> {
    let patience = Instant::now() + LONG;
    loop {
        match RocksTable::open(path, Sizes::default()) {
            Ok(table) => return table,
            Err(error) => assert!(Instant::now() < patience, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn config(
    dir: &Path,
    me: u64,
    members: u64,
    durability: Durability,
    connector: &Arc<Connector>,
) -> GroupConfig {
    let table: Arc<dyn Table> = open_table(&dir.join(format!("table-{me}")));
    GroupConfig {
        group: GroupId(7),
        me: MemberId(me),
        members: (1..=members)
            .map(|id| Member { id: MemberId(id), addr: format!("local://raft-{id}") })
            .collect(),
        durability,
        boot_id: "boot".into(),
        tick: TICK / 5,
        log: OsDisk::open(dir.join(format!("log-{me}"))).unwrap(),
        reserve_bytes: 0,
        table,
        connector: connector.clone(),
        clock: SystemClock::new(),
    }
}

async fn start(dir: &Path, me: u64, members: u64, durability: Durability, at: &Arc<Connector>) -> Arc<Group> {
    let group = Group::start(config(dir, me, members, durability, at), Arc::new(Adder)).await.unwrap();
    at.register_local(&format!("raft-{me}"), Arc::new(Door(group.clone())));
    group
}

/// Alone nobody calls it.
async fn alone(dir: &Path, durability: Durability) -> Arc<Group> {
    Group::start(config(dir, 1, 1, durability, &Connector::new()), Arc::new(Adder)).await.unwrap()
}

fn origin(sequence: u64) -> Origin {
    Origin { session: 5, sequence, acked_below: 0 }
}

async fn leader(groups: &[Arc<Group>]) -> Arc<Group> {
    let patience = Instant::now() + LONG;
    loop {
        if let Some(group) = groups.iter().find(|group| group.is_leader()) {
            return group.clone();
        }
        let seen: Vec<_> = groups.iter().map(|group| group.status()).collect();
        assert!(Instant::now() < patience, "nobody leads: {seen:#?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Proposes wherever the leader is until it is answered, as a client does.
async fn insist(groups: &[Arc<Group>], sequence: u64, command: &str) -> Bytes {
    let patience = Instant::now() + LONG;
    loop {
        for group in groups {
            let body = Bytes::from(command.to_owned());
            if let Ok(answer) = group.propose(origin(sequence), body, Duration::from_millis(500)).await {
                return answer;
            }
        }
        assert!(Instant::now() < patience, "nobody takes {command}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A door that counts what comes in.
struct Counting(Door, Arc<AtomicUsize>);

impl Service for Counting {
    fn call(
        self: Arc<Self>,
        peer: Peer,
        request: Request,
    ) -> BoxFuture<'static, Result<Response, WireError>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Arc::new(Door(self.0.0.clone())).call(peer, request)
    }
}

#[tokio::test]
async fn what_is_proposed_together_goes_to_each_member_in_one_message() {
    let (dir, connector) = (tempfile::tempdir().unwrap(), Connector::new());
    let (mut groups, heard) = (Vec::new(), Arc::new(AtomicUsize::new(0)));
    for me in 1..=3 {
        let config = config(dir.path(), me, 3, Durability::Quorum, &connector);
        let group = Group::start(config, Arc::new(Adder)).await.unwrap();
        let door = Counting(Door(group.clone()), heard.clone());
        connector.register_local(&format!("raft-{me}"), Arc::new(door));
        groups.push(group);
    }
    let leading = leader(&groups).await;
    insist(&groups, 1, "1").await;
    let before = heard.load(Ordering::Relaxed);
    let each = (2..=101).map(|sequence| leading.propose(origin(sequence), "1".into(), LONG));
    let answers = leading.together(futures::future::join_all(each)).await;
    let sums: Vec<Bytes> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(sums, (2..=101).map(|sum| Bytes::from(sum.to_string())).collect::<Vec<_>>(), "in their order");
    // A message to each of the other two and their answers, and what was on its way from before; one by one it is at least two a proposal.
    let messages = heard.load(Ordering::Relaxed) - before;
    assert!(messages < 50, "{messages} messages for 100 proposals");
    // What is proposed later is not held up.
    assert_eq!(insist(&groups, 102, "1").await, "102");
}

#[tokio::test]
async fn alone_a_proposal_ends_on_the_first_poll_and_repeats_get_the_same_answer() {
    let dir = tempfile::tempdir().unwrap();
    let group = alone(dir.path(), Durability::Quorum).await;
    assert!(group.is_leader());
    // The first election's sync may still be at work on the member's thread.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let first = group.propose(origin(1), "5".into(), LONG).now_or_never().expect("no waiting").unwrap();
    assert_eq!(first, "5");
    assert_eq!(group.propose(origin(2), "2".into(), LONG).now_or_never().unwrap().unwrap(), "7");
    assert_eq!(group.propose(origin(1), "5".into(), LONG).now_or_never().unwrap().unwrap(), "5");
    let acked = Origin { session: 5, sequence: 3, acked_below: 3 };
    assert_eq!(group.propose(acked, "1".into(), LONG).await.unwrap(), "8");
    assert_eq!(group.propose(origin(1), "5".into(), LONG).await, Err(QuorumError::Forgotten { sequence: 1 }));
    group.read(LONG).now_or_never().expect("the lease holds").unwrap();
    group.sync(LONG).await.unwrap();
    assert_eq!(group.status().role, "leader");
    assert_eq!(group.status().voters, ["1=local://raft-1"]);
}

#[tokio::test]
async fn alone_it_comes_back_after_a_stop_and_after_a_kill() {
    for durability in [Durability::Quorum, Durability::Disk] {
        let dir = tempfile::tempdir().unwrap();
        for round in 1..=4u64 {
            let group = alone(dir.path(), durability).await;
            let answer = group.propose(origin(round), "10".into(), LONG).await.unwrap();
            assert_eq!(answer, (round * 10).to_string());
            if round % 2 == 0 {
                group.shutdown().await.unwrap();
                assert!(!group.is_leader());
                let after = group.propose(origin(99), "10".into(), LONG).await;
                assert!(matches!(after, Err(QuorumError::Stopped { .. })), "{after:?}");
            }
            // Killed without a stop in the other rounds: the table forgets what was not flushed.
            group.driver.die();
        }
    }
}

#[tokio::test]
async fn alone_the_table_may_lose_everything_since_the_last_flush() {
    let dir = tempfile::tempdir().unwrap();
    let table = MemoryTable::new();
    for round in 1..=5u64 {
        let mut config = config(dir.path(), 1, 1, Durability::Quorum, &Connector::new());
        config.table = Arc::new(table.clone());
        config.boot_id = format!("boot {round}");
        let group = Group::start(config, Arc::new(Adder)).await.unwrap();
        for step in 0..20 {
            let answer = group.propose(origin(round * 100 + step), "1".into(), LONG).await.unwrap();
            assert_eq!(answer, ((round - 1) * 20 + step + 1).to_string());
        }
        drop(group);
        table.crash(|batches| round * batches / 7);
    }
}

/// A log on a disk of limited size.
fn small_disk() -> (rt::disk::sim::SimDisk, impl Fn(u64)) {
    let disk = rt::disk::sim::SimDisk::new();
    let resize = {
        let disk = disk.clone();
        move |free: u64| {
            disk.resize(1 << 40);
            let used = (1 << 40) - rt::disk::Disk::free_bytes(&disk).unwrap();
            disk.resize(used + free);
        }
    };
    (disk, resize)
}

#[tokio::test]
async fn alone_it_pauses_on_a_full_disk_and_goes_on_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, leave_free) = small_disk();
    let mut config = config(dir.path(), 1, 1, Durability::Disk, &Connector::new());
    config.log = Arc::new(disk.clone());
    let group = Group::start(config, Arc::new(Adder)).await.unwrap();
    assert_eq!(group.propose(origin(1), "5".into(), LONG).await.unwrap(), "5");
    leave_free(0);
    for sequence in [2, 3] {
        let error = group.propose(origin(sequence), "7".into(), LONG).await.unwrap_err();
        assert!(matches!(error, QuorumError::Full { alone: true, .. }), "{error}");
        assert_eq!(WireError::from(error).code, proto::error::Code::NoSpace);
        assert!(group.is_leader(), "reads go on");
        group.read(LONG).await.unwrap();
    }
    assert_eq!(group.propose(origin(1), "5".into(), LONG).await.unwrap(), "5", "what was done is known");
    // Somebody else was quicker than the look at what is free.
    let (waiter, answer) = tokio::sync::oneshot::channel();
    let since = group.driver.monotonic();
    let wait = Wait { waiter, since, deadline: since + LONG };
    group.driver.push(Input::Propose { origin: origin(9), command: "7".into(), wait });
    group.driver.drive();
    let error = answer.await.unwrap().unwrap_err();
    assert!(matches!(error, QuorumError::Full { alone: true, .. }), "{error}");
    group.read(LONG).await.unwrap();
    assert!(group.is_leader(), "reads go on");
    leave_free(64 << 20);
    assert_eq!(insist(std::slice::from_ref(&group), 4, "7").await, "12", "what was refused was not done");
    assert_eq!(group.propose(origin(1), "5".into(), LONG).await.unwrap(), "5", "and what was done is known");
    group.sync(LONG).await.unwrap();
}

/// Three members on one disk that somebody fills: what gives room goes on, out of the reserves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_in_need_go_on_when_the_disk_of_all_is_full() {
    let (dir, connector) = (tempfile::tempdir().unwrap(), Connector::new());
    let (mut groups, mut disks) = (Vec::new(), Vec::new());
    for me in 1..=3 {
        let (disk, leave_free) = small_disk();
        let mut config = config(dir.path(), me, 3, Durability::Quorum, &connector);
        (config.log, config.reserve_bytes) = (Arc::new(disk), 4 << 20);
        let group = Group::start(config, Arc::new(Adder)).await.unwrap();
        connector.register_local(&format!("raft-{me}"), Arc::new(Door(group.clone())));
        groups.push(group);
        disks.push(leave_free);
    }
    assert_eq!(insist(&groups, 1, "1").await, "1");
    disks.iter().for_each(|leave_free| leave_free(0));
    let patience = Instant::now() + LONG;
    let (mut sequence, mut done) = (2, 1);
    // It is looked now and then only; each of them lets another one lead once.
    loop {
        sequence += 1;
        match leader(&groups).await.propose(origin(sequence), "1".into(), LONG).await {
            Ok(_) => done += 1,
            Err(QuorumError::Full { alone: true, .. }) => break,
            Err(error) => assert!(Instant::now() < patience, "{error}"),
        }
    }
    assert!(done < 100, "{done} were done before anybody looked");
    for _ in 0..20 {
        sequence += 1;
        let leader = leader(&groups).await;
        match leader.propose_in_need(origin(sequence), "1".into(), LONG).await {
            Ok(answer) => {
                done += 1;
                assert_eq!(answer, done.to_string());
            }
            Err(error) => {
                assert!(matches!(error, QuorumError::NotLeader { .. } | QuorumError::Busy { .. }), "{error}")
            }
        }
        assert!(Instant::now() < patience, "{done} were done");
    }
    assert!(done > 10, "only {done} were done");
    disks.iter().for_each(|leave_free| leave_free(64 << 20));
    assert_eq!(insist(&groups, 10_000, "1").await, (done + 1).to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_with_a_full_disk_lets_the_others_go_on_and_joins_them_again() {
    let (dir, connector) = (tempfile::tempdir().unwrap(), Connector::new());
    let (mut groups, mut disks) = (Vec::new(), Vec::new());
    for me in 1..=3 {
        let (disk, leave_free) = small_disk();
        let mut config = config(dir.path(), me, 3, Durability::Quorum, &connector);
        config.log = Arc::new(disk);
        let group = Group::start(config, Arc::new(Adder)).await.unwrap();
        connector.register_local(&format!("raft-{me}"), Arc::new(Door(group.clone())));
        groups.push(group);
        disks.push(leave_free);
    }
    assert_eq!(insist(&groups, 1, "1").await, "1");
    for round in 0..4u64 {
        let full = leader(&groups).await;
        let at = groups.iter().position(|group| Arc::ptr_eq(group, &full)).unwrap();
        disks[at](0);
        for step in 0..3 {
            let sequence = 10 + round * 10 + step;
            assert_eq!(insist(&groups, sequence, "1").await, (2 + round * 3 + step).to_string());
        }
        assert!(!full.is_leader());
        disks[at](64 << 20);
        let patience = Instant::now() + LONG;
        while full.status().role != "follower"
            || full.status().applied < leader(&groups).await.status().applied
        {
            assert!(Instant::now() < patience, "{:#?}", full.status());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alone_many_callers_at_once_lose_nothing() {
    for durability in [Durability::Quorum, Durability::Disk] {
        let dir = tempfile::tempdir().unwrap();
        let group = alone(dir.path(), durability).await;
        let callers: Vec<_> = (0..8)
            .map(|caller| {
                let group = group.clone();
                tokio::spawn(async move {
                    for sequence in 0..50 {
                        let origin = Origin { session: 100 + caller, sequence, acked_below: sequence };
                        group.propose(origin, "1".into(), LONG).await.unwrap();
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        assert_eq!(group.propose(origin(1), "0".into(), LONG).await.unwrap(), "400");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_agree_survive_a_leaders_death_and_its_return() {
    let dir = tempfile::tempdir().unwrap();
    let at = Connector::new();
    let mut groups = Vec::new();
    for me in 1..=3 {
        groups.push(start(dir.path(), me, 3, Durability::Quorum, &at).await);
    }
    leader(&groups).await;
    for sequence in 1..=20u64 {
        assert_eq!(insist(&groups, sequence, "1").await, sequence.to_string());
    }
    let old = leader(&groups).await;
    old.read(LONG).await.unwrap();
    old.sync(LONG).await.unwrap();
    let dead = old.status().member;
    let follower = groups.iter().find(|group| group.status().member != dead).unwrap();
    let refused = follower.propose(origin(21), "1".into(), LONG).await;
    let hint = format!("local://raft-{dead}");
    assert_eq!(refused, Err(QuorumError::NotLeader { group: GroupId(7), leader: Some(hint) }));

    groups.retain(|group| group.status().member != dead);
    at.register_local(&format!("raft-{dead}"), Arc::new(Nobody));
    old.driver.die();
    drop(old);
    for sequence in 21..=30u64 {
        assert_eq!(insist(&groups, sequence, "1").await, sequence.to_string());
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    groups.push(start(dir.path(), dead, 3, Durability::Quorum, &at).await);
    assert_eq!(insist(&groups, 31, "1").await, "31");
    let applied = leader(&groups).await.status().applied;
    let patience = Instant::now() + LONG;
    while groups[2].status().applied < applied {
        assert!(Instant::now() < patience, "{:?} does not catch up to {applied}", groups[2].status());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for group in &groups {
        group.shutdown().await.unwrap();
    }
}

/// Where a dead member was.
struct Nobody;

impl Service for Nobody {
    fn call(self: Arc<Self>, _: Peer, _: Request) -> BoxFuture<'static, Result<Response, WireError>> {
        Box::pin(async { Err(WireError::new(proto::error::Code::Unavailable, "connection refused")) })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let at = Connector::new();
    let first = start(dir.path(), 1, 1, Durability::Disk, &at).await;
    for sequence in 1..=10u64 {
        first.propose(origin(sequence), "1".into(), LONG).await.unwrap();
    }
    let second = start(dir.path(), 2, 1, Durability::Disk, &at).await;
    let third = start(dir.path(), 3, 1, Durability::Disk, &at).await;
    let member = |id: u64| Member { id: MemberId(id), addr: format!("local://raft-{id}") };
    let groups = [first.clone(), second.clone(), third.clone()];
    for id in 2..=3 {
        // On a busy machine leadership may move while the change is under way.
        while leader(&groups).await.add_member(member(id), LONG).await.is_err() {}
    }
    assert_eq!(leader(&groups).await.status().voters.len(), 3);
    assert_eq!(insist(&groups, 11, "1").await, "11");
    leader(&groups).await.transfer_leadership(None).await.unwrap();
    assert_eq!(insist(&groups, 12, "1").await, "12");
    while leader(&groups).await.remove_member(MemberId(1), LONG).await.is_err() {}
    let rest = [second, third];
    assert_eq!(insist(&rest, 13, "1").await, "13");
    assert_eq!(insist(&rest, 12, "1").await, "12");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_taken_in_gets_a_number_once_and_votes_when_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let at = Connector::new();
    let first = start(dir.path(), 1, 1, Durability::Quorum, &at).await;
    assert_eq!(insist(std::slice::from_ref(&first), 1, "1").await, "1");
    let address = || "local://raft-2".to_owned();
    assert_eq!(first.admit(address(), LONG).await.unwrap(), MemberId(2));
    assert_eq!(first.admit(address(), LONG).await.unwrap(), MemberId(2), "a repeat is harmless");
    // Nobody runs there, and the log is short: a voter that does not answer would be half of the group.
    let since = first.driver.monotonic();
    while first.driver.monotonic() < since + TICK * 10 {
        assert_eq!(first.status().voters.len(), 1, "a learner that never said anything was promoted");
        insist(std::slice::from_ref(&first), 1, "1").await;
        tokio::task::yield_now().await;
    }
    let second = start(dir.path(), 2, 1, Durability::Quorum, &at).await;
    first.add_member(Member { id: MemberId(2), addr: address() }, LONG).await.unwrap();
    assert_eq!(first.status().voters.len(), 2);
    let groups = [first, second];
    assert_eq!(insist(&groups, 2, "1").await, "2");
    while leader(&groups).await.remove_member(MemberId(2), LONG).await.is_err() {}
    let third = leader(&groups).await.admit("local://raft-3".into(), LONG).await.unwrap();
    assert_eq!(third, MemberId(3), "2 was somebody else");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_removed_whom_the_others_cannot_do_without() {
    let dir = tempfile::tempdir().unwrap();
    let at = Connector::new();
    let mut groups = Vec::new();
    for me in 1..=3 {
        groups.push(start(dir.path(), me, 3, Durability::Quorum, &at).await);
    }
    assert_eq!(insist(&groups, 1, "1").await, "1");
    let leads = leader(&groups).await.status().member;
    let dead = groups.iter().position(|group| group.status().member != leads).unwrap();
    let dead = groups.remove(dead);
    let dead_id = MemberId(dead.status().member);
    at.register_local(&format!("raft-{}", dead_id.0), Arc::new(Nobody));
    dead.driver.die();
    drop(dead);
    let living: Vec<MemberId> = groups.iter().map(|group| MemberId(group.status().member)).collect();
    // Until its answers are older than a promise (10 ticks) it counts as one that answers.
    let died = groups[0].driver.monotonic();
    while groups[0].driver.monotonic() < died + TICK / 5 * 20 {
        insist(&groups, 1, "1").await;
        tokio::task::yield_now().await;
    }
    let patience = Instant::now() + LONG;
    for member in living {
        loop {
            match leader(&groups).await.remove_member(member, Duration::from_millis(200)).await {
                Err(QuorumError::Refused { why, .. }) => {
                    assert!(why.contains("1 answer"), "{why}");
                    break;
                }
                Ok(()) => panic!("{member:?} was removed, and the dead one would be half of the group"),
                Err(_) => assert!(Instant::now() < patience, "no refusal"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    while leader(&groups).await.remove_member(dead_id, LONG).await.is_err() {}
    assert_eq!(insist(&groups, 2, "1").await, "2");
    let last = leader(&groups).await;
    let other = groups.iter().find(|group| group.status().member != last.status().member).unwrap();
    while leader(&groups).await.remove_member(MemberId(other.status().member), LONG).await.is_err() {}
    let alone = leader(&groups).await;
    let refused = alone.remove_member(MemberId(alone.status().member), LONG).await.unwrap_err();
    assert!(refused.to_string().contains("the only one that votes"), "{refused}");
}
