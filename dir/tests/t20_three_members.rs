//! A DIR of three members in one process: fail-over, hints, agreement.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use dir::{Dir, DirConfig};
use proto::dir::*;
use proto::error::{Code, WireError};
use proto::id::{GroupId, MemberId};
use proto::rpc::Method;
use quorum::{Durability, GroupConfig, Member};
use rt::clock::SystemClock;
use rt::disk::os::OsDisk;
use rt::rpc::{Connector, call};
use rt::table::memory::MemoryTable;

struct Bed {
    dirs: Vec<Option<Arc<Dir>>>,
    connector: Arc<Connector>,
    /// Accepts and never answers: an OSD there is hung, not dead.
    hung: tokio::net::TcpListener,
    _home: tempfile::TempDir,
}

fn addr(member: u64) -> String {
    format!("local://dir-{member}")
}

impl Bed {
    async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let connector = Connector::new();
        let members: Vec<Member> = (1..=3).map(|id| Member { id: MemberId(id), addr: addr(id) }).collect();
        let mut dirs = Vec::new();
        for id in 1..=3 {
            let quorum = GroupConfig {
                group: GroupId(1),
                me: MemberId(id),
                members: members.clone(),
                durability: Durability::Quorum,
                boot_id: "boot".into(),
                tick: Duration::from_millis(20),
                log: OsDisk::open(home.path().join(id.to_string())).unwrap(),
                reserve_bytes: 0,
                table: Arc::new(MemoryTable::new()),
                connector: connector.clone(),
                clock: SystemClock::new(),
            };
            let dir = Dir::start(DirConfig::new(quorum)).await.unwrap();
            connector.register_local(&format!("dir-{id}"), dir.clone());
            dirs.push(Some(dir));
        }
        let hung = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { dirs, connector, hung, _home: home }
    }

    async fn at<M: Method>(&self, address: &str, message: &M::Request) -> Result<M::Reply, WireError> {
        call::<M>(&*self.connector.channel(address)?, message).await
    }

    /// As a client does it: the hint first, else the next living member, until the deadline.
    async fn leader<M: Method>(&self, message: &M::Request) -> (String, M::Reply) {
        let living: Vec<String> =
            (1..=3).filter(|id| self.dirs[*id as usize - 1].is_some()).map(addr).collect();
        let deadline = Instant::now() + Duration::from_secs(15);
        let mut at = living[0].clone();
        for turn in 0.. {
            match self.at::<M>(&at, message).await {
                Ok(reply) => return (at, reply),
                Err(error) => {
                    assert!(error.code.is_retryable(), "{error}");
                    assert!(Instant::now() < deadline, "no leader: {error}");
                    let hinted = living.contains(&error.hint);
                    at = if hinted { error.hint } else { living[turn % living.len()].clone() };
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        unreachable!("the loop ends by return or assertion")
    }

    async fn beat(&self, uuid: &str) -> (String, OsdHeartbeatReply) {
        let addr = format!("tcp://{}", self.hung.local_addr().unwrap());
        let entry = OsdEntry { uuid: uuid.into(), addr, ..OsdEntry::default() };
        self.leader::<HeartbeatOsd>(&OsdHeartbeat { entry, known_epoch: 0, leaving: false }).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_map_survives_its_leader_and_leases_restart() {
    let mut bed = Bed::start().await;
    let (leader, first) = bed.beat("a").await;
    assert_eq!(first.osd, 1);
    let follower = (1..=3).map(addr).find(|at| *at != leader).unwrap();
    let refusal = bed.at::<Map>(&follower, &GetMap::default()).await.unwrap_err();
    assert_eq!((refusal.code, refusal.hint), (Code::NotLeader, leader.clone()));

    let at = (1..=3).position(|id| addr(id) == leader).unwrap();
    let gone = bed.dirs[at].take().unwrap();
    gone.shutdown().await.unwrap();
    let (next, second) = bed.beat("a").await;
    assert_ne!(next, leader);
    assert_eq!((second.osd, &second.keys), (1, &first.keys));
    assert_eq!(second.map.unwrap().epoch, 1, "a change of leaders is no change of the map");
    assert_eq!(bed.beat("b").await.1.osd, 2);

    // Nobody heartbeats any more: the new leader finds out by itself.
    let (_, map) = bed.leader::<Map>(&GetMap { known_epoch: 2, wait_ms: 8000, dirs: 0, full: 0 }).await;
    assert!(map.epoch > 2);
    assert!(map.osds.iter().any(|osd| osd.state == OsdState::Down as i32));
    for dir in bed.dirs.iter().flatten() {
        dir.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_ends_when_its_leader_steps_down() {
    let bed = Bed::start().await;
    let (leader, _) = bed.beat("a").await;
    let at = (1..=3).position(|id| addr(id) == leader).unwrap();
    let dir = bed.dirs[at].clone().unwrap();
    let started = Instant::now();
    let channel = bed.connector.channel(&leader).unwrap();
    let poll = GetMap { known_epoch: 1, wait_ms: 20_000, dirs: 0, full: 0 };
    let (answer, moved) = tokio::join!(call::<Map>(&*channel, &poll), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        dir.group().transfer_leadership(None).await
    });
    moved.unwrap();
    // The lease of "a" runs out after 1.5 s: an answer before that is the change of leaders.
    assert!(started.elapsed() < Duration::from_millis(1400), "the poll ended after {:?}", started.elapsed());
    assert_eq!(answer.unwrap_err().code, Code::NotLeader);
    for dir in bed.dirs.iter().flatten() {
        dir.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_the_map_hears_of_other_members() {
    let bed = Bed::start().await;
    let (leader, _) = bed.beat("a").await;
    let (_, map) = bed.leader::<Map>(&GetMap::default()).await;
    assert_eq!(map.dirs, (1..=3).map(addr).collect::<Vec<_>>());
    let gone = (1..=3).find(|id| addr(*id) != leader).unwrap();
    let started = Instant::now();
    let poll = GetMap { known_epoch: 1, wait_ms: 20_000, dirs: digest(&map.dirs), full: 0 };
    let remove = proto::raft::RemoveMember { group: 1, member: gone };
    // Heartbeats go on: the map itself stays what it is.
    let (told, ()) = tokio::join!(bed.leader::<Map>(&poll), async {
        bed.leader::<proto::raft::MemberRemove>(&remove).await;
        bed.beat("a").await;
    });
    let dirs: Vec<String> = (1..=3).filter(|id| *id != gone).map(addr).collect();
    assert_eq!(told.1.dirs, dirs);
    assert!(started.elapsed() < Duration::from_secs(10), "told after {:?}", started.elapsed());
    assert_eq!(bed.beat("a").await.1.dirs, dirs);
    // Whoever does not care about members waits for the map alone, as before.
    let (_, same) = bed.leader::<Map>(&GetMap { known_epoch: 0, wait_ms: 0, dirs: 0, full: 0 }).await;
    assert_eq!(same.dirs, dirs);
    for dir in bed.dirs.iter().flatten() {
        dir.shutdown().await.unwrap();
    }
}
