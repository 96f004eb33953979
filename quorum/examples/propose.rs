//! How long a proposal takes in a group of one, on the real disk and table: `cargo run --release --example propose
//! -p xtfs-quorum [COUNT]`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;
use proto::id::{GroupId, MemberId};
use proto::rpc::Origin;
use quorum::{Applied, Durability, Group, GroupConfig, Member, StateMachine, group::TICK};
use rt::table::Txn;
use rt::table::rocks::{RocksTable, Sizes};

struct Putter;

impl StateMachine for Putter {
    fn apply(&self, txn: &mut Txn<'_>, at: Applied, command: &[u8]) -> rt::table::Result<Bytes> {
        txn.put([b"inode".as_slice(), &at.index.to_be_bytes()].concat(), command);
        txn.put([b"entry".as_slice(), &at.index.to_be_bytes()].concat(), command);
        Ok(Bytes::from_static(b"done"))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: u64 = std::env::args().nth(1).map_or(Ok(100_000), |count| count.parse())?;
    let dir = tempfile::tempdir()?;
    let config = GroupConfig {
        group: GroupId(1),
        me: MemberId(1),
        members: vec![Member { id: MemberId(1), addr: "local://one".into() }],
        durability: Durability::Quorum,
        boot_id: "boot".into(),
        tick: TICK,
        log: rt::disk::os::OsDisk::open(dir.path().join("log"))?,
        reserve_bytes: 0,
        table: RocksTable::open(dir.path().join("table"), Sizes::default())?,
        connector: rt::rpc::Connector::new(),
        clock: rt::clock::SystemClock::new(),
    };
    let group = Group::start(config, Arc::new(Putter)).await?;
    let command = Bytes::from(vec![7; 128]);
    let mut times = Vec::new();
    let mut waited = 0;
    for sequence in 1..=count {
        let origin = Origin { session: 1, sequence, acked_below: sequence };
        let begin = Instant::now();
        let mut proposal = Box::pin(group.propose(origin, command.clone(), Duration::from_secs(10)));
        match proposal.as_mut().now_or_never() {
            Some(result) => drop(result?),
            None => {
                waited += 1;
                drop(proposal.await?);
            }
        }
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    let at = |percent: usize| times[times.len() * percent / 100];
    let mean = times.iter().sum::<Duration>() / u32::try_from(times.len())?;
    println!(
        "{count} proposals: mean {mean:?} p50 {:?} p90 {:?} p99 {:?}; {waited} did not end on the first poll",
        at(50),
        at(90),
        at(99)
    );
    let begin = Instant::now();
    for _ in 0..1_000_000 {
        group.read(Duration::from_secs(1)).await?;
    }
    println!("read under lease: {:?}", begin.elapsed() / 1_000_000);
    group.shutdown().await?;
    Ok(())
}
