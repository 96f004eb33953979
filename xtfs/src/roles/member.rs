//! A member of a Raft group, as DIR and MRC start it.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proto::dir::{Group, GroupStatus};
use proto::id::{GroupId, MemberId};
use proto::rpc::Empty;
use quorum::{GroupConfig, Member};
use rt::disk::Disk;
use rt::disk::os::OsDisk;
use rt::rpc::{CallOptions, call_with};
use rt::table::rocks::{RocksTable, Sizes};
use serde_json::{Value, json};

use super::{Host, boot_id, durability, make_dir};
use crate::config::Node;
use crate::failure::Failure;

/// Heartbeats every 2 ticks, elections after 10 to 20 of them.
const TICK: Duration = Duration::from_millis(50);
/// Several members may share a small machine.
const SIZES: Sizes = Sizes { cache_bytes: 32 << 20, write_buffer_bytes: 16 << 20 };
/// How long a member may take to say who is in its group.
const ASK: Duration = Duration::from_millis(700);
/// Part of the file system that a member keeps, and the least and most of that.
const RESERVE_PART: u64 = 64;
const RESERVE_MIN: u64 = 4 << 20;
const RESERVE_MAX: u64 = 64 << 20;
/// What opening a table takes.
const OPENING: u64 = 4 << 20;
/// How often it is tried to start on a full disk.
const ROOM_AGAIN: Duration = Duration::from_secs(1);
/// How often one that waits to be taken in asks.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Which group a service belongs to, as its file says.
pub(crate) struct Membership<'a> {
    /// The group.
    pub(crate) group: u64,
    /// Addresses of its first members; with `join`, of some that run.
    pub(crate) members: &'a [String],
    /// It comes to a group that runs already.
    pub(crate) join: bool,
}

/// Opens log and table below the service's directory. Waits until the group has taken in one that joins.
pub(crate) async fn config(
    host: &Host,
    node: &Node,
    group: &Membership<'_>,
    durable: &str,
) -> Result<GroupConfig, Failure> {
    let what = || format!("starting {}", node.name);
    let durability = durability(durable)?;
    make_dir(&node.data)?;
    let (me, members) =
        if group.join { joined(host, node, group).await? } else { first(node, group.members)? };
    let log = OsDisk::open(node.data.join("log")).map_err(|error| Failure::new(what(), error))?;
    let table = open_table(node, &*log).await?;
    Ok(GroupConfig {
        group: GroupId(group.group),
        me: MemberId(me),
        members,
        durability,
        boot_id: boot_id(),
        tick: TICK,
        reserve_bytes: reserve_bytes(node)?,
        log,
        table: table as Arc<dyn rt::table::Table>,
        connector: host.connector.clone(),
        clock: host.clock.clone(),
    })
}

/// On a disk that is full it waits for room: a member that ended for that would have to be started by hand.
async fn open_table(node: &Node, log: &dyn Disk) -> Result<Arc<RocksTable>, Failure> {
    let mut attempts = 0u32;
    loop {
        quorum::reserve::give_up_for_opening(log, OPENING);
        match RocksTable::open(node.data.join("table"), SIZES) {
            Err(error) if error.is_full() => {
                if attempts.is_multiple_of(10) {
                    tracing::error!(name = node.name, %error, "the member waits for room to start");
                }
                attempts += 1;
                tokio::time::sleep(ROOM_AGAIN).await;
            }
            opened => {
                return opened.map_err(|error| Failure::new(format!("starting {}", node.name), error));
            }
        }
    }
}

/// What a member keeps of its disk for what must go on when somebody has filled it.
fn reserve_bytes(node: &Node) -> Result<u64, Failure> {
    let stat = nix::sys::statvfs::statvfs(&node.data).map_err(|errno| {
        Failure::new(format!("starting {}: asking for the size of its disk", node.name), errno)
    })?;
    Ok((stat.blocks() * stat.fragment_size() / RESERVE_PART).clamp(RESERVE_MIN, RESERVE_MAX))
}

/// One of the first members: its number is its place in the list, from 1, and stays what it was at the first start
/// whatever the list says later.
fn first(node: &Node, members: &[String]) -> Result<(u64, Vec<Member>), Failure> {
    let lone = [node.advertise.clone()];
    let members = if members.is_empty() { &lone } else { members };
    let list: Vec<Member> =
        (1u64..).zip(members).map(|(id, addr)| Member { id: MemberId(id), addr: addr.clone() }).collect();
    let listed = list.iter().find(|member| member.addr == node.advertise).map(|member| member.id.0);
    match (known(node)?, listed) {
        (Some(me), listed) if listed == Some(me) => Ok((me, list)),
        // The list is another one by now; the log knows who is in the group.
        (Some(me), _) => Ok((me, Vec::new())),
        (None, Some(me)) => {
            remember(node, me)?;
            Ok((me, list))
        }
        (None, None) => Err(Failure::usage(
            format!("starting {}", node.name),
            format!("its own address {} is not in `members` ({})", node.advertise, members.join(", ")),
        )
        .next("add it there, in the same order on every member; one that comes later has `join = true`")),
    }
}

/// One that comes later: the group says which number it has.
async fn joined(host: &Host, node: &Node, group: &Membership<'_>) -> Result<(u64, Vec<Member>), Failure> {
    let known = known(node)?;
    let ask: Vec<&String> = group.members.iter().filter(|addr| **addr != node.advertise).collect();
    let mut told = false;
    loop {
        let newest = ask_all(host, &ask, group.group).await;
        let number = |members: &[String]| {
            members.iter().find_map(|member| {
                let (id, addr) = member.split_once('=')?;
                (addr == node.advertise).then(|| id.parse::<u64>().ok()).flatten()
            })
        };
        let voters = newest.as_ref().map(|status| status.voters.clone()).unwrap_or_default();
        let learner = newest.as_ref().and_then(|status| number(&status.learners));
        let others = voters.iter().filter_map(|voter| {
            let (id, addr) = voter.split_once('=')?;
            let id = id.parse().ok().filter(|id| Some(*id) != known.or(learner))?;
            Some(Member { id: MemberId(id), addr: addr.to_owned() })
        });
        match (known, learner, number(&voters)) {
            // Whether others answer or not: log and table say the rest.
            (Some(me), ..) => return Ok((me, others.collect())),
            (None, Some(me), _) => {
                remember(node, me)?;
                return Ok((me, others.collect()));
            }
            (None, None, Some(voter)) => return Err(lost(node, voter)),
            (None, None, None) => {}
        }
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(
                "{} waits to be taken into group-{}: xtfs {} add {}",
                node.name,
                group.group,
                node.role,
                node.advertise
            );
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

fn lost(node: &Node, voter: u64) -> Failure {
    let why = format!(
        "its group counts {} as voter {voter}, but {} holds nothing of that: it may have promised what it no longer knows",
        node.advertise,
        node.data.display()
    );
    Failure::new(format!("starting {}", node.name), why).next(format!(
        "give it back its data, or let go of it and take it in anew: xtfs {} remove {voter}",
        node.role
    ))
}

/// What the member that is furthest says of the group.
async fn ask_all(host: &Host, addrs: &[&String], group: u64) -> Option<GroupStatus> {
    let asked = addrs.iter().map(|addr| async move {
        let channel = host.connector.channel(addr).ok()?;
        let options = CallOptions { deadline: ASK, ..CallOptions::default() };
        let answer = call_with::<Group>(&*channel, &Empty {}, bytes::Bytes::new(), &options);
        tokio::time::timeout(ASK, answer).await.ok()?.ok().map(|(status, _)| status)
    });
    let answers = futures::future::join_all(asked).await.into_iter().flatten();
    answers.filter(|status| status.group == group).max_by_key(|status| (status.term, status.applied))
}

fn number_file(data: &Path) -> PathBuf {
    data.join("member")
}

/// The number that it had at its first start.
fn known(node: &Node) -> Result<Option<u64>, Failure> {
    let path = number_file(&node.data);
    let failed = |why: &dyn std::fmt::Display| Failure::new(format!("reading {}", path.display()), why);
    match std::fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse::<u64>() {
            Ok(number) if number > 0 => Ok(Some(number)),
            Ok(_) | Err(_) => Err(failed(&format!("{:?} is no member's number", text.trim()))),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(&error)),
    }
}

/// Keeps the number: beside, synced, renamed.
fn remember(node: &Node, number: u64) -> Result<(), Failure> {
    let path = number_file(&node.data);
    let write = || -> std::io::Result<()> {
        let beside = path.with_extension("tmp");
        let mut file = std::fs::File::create(&beside)?;
        writeln!(file, "{number}")?;
        file.sync_all()?;
        std::fs::rename(&beside, &path)?;
        std::fs::File::open(&node.data)?.sync_all()
    };
    write().map_err(|error| Failure::new(format!("writing {}", path.display()), error))
}

/// Its state, for the status page.
pub(crate) fn status(status: &GroupStatus) -> Value {
    json!({
        "group": status.group,
        "member": status.member,
        "role": status.role,
        "leader": status.leader,
        "term": status.term,
        "committed": status.committed,
        "applied": status.applied,
        "voters": status.voters,
        "learners": status.learners,
    })
}

/// Whether a member that is asked can expect an answer.
pub(crate) fn health(status: &GroupStatus) -> Result<(), String> {
    if status.leader != 0 {
        return Ok(());
    }
    Err(format!(
        "group-{} has no leader: a majority of {} must be up",
        status.group,
        status.voters.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(data: &Path, addr: &str) -> Node {
        Node {
            role: "mrc",
            uuid: "u".into(),
            name: "mrc-0".into(),
            data: data.to_owned(),
            listen: String::new(),
            http: String::new(),
            advertise: addr.to_owned(),
        }
    }

    fn list(addrs: &[&str]) -> Vec<String> {
        addrs.iter().map(|addr| (*addr).to_owned()).collect()
    }

    #[test]
    fn a_first_member_keeps_its_number_whatever_the_list_says_later() {
        let dir = tempfile::tempdir().unwrap();
        let node = node(dir.path(), "tcp://b:1");
        assert_eq!(first(&node, &list(&["tcp://a:1"])).unwrap_err().status, 2);
        let (me, members) = first(&node, &list(&["tcp://a:1", "tcp://b:1", "tcp://c:1"])).unwrap();
        assert_eq!((me, members.len()), (2, 3));
        // a was replaced by d: b is the first of the list now, and still member 2.
        let (me, members) = first(&node, &list(&["tcp://b:1", "tcp://c:1", "tcp://d:1"])).unwrap();
        assert_eq!((me, members.len()), (2, 0));
        std::fs::write(dir.path().join("member"), "two\n").unwrap();
        assert!(first(&node, &[]).unwrap_err().to_string().contains("two"));
    }

    /// A member that says who is in the group.
    struct Says(GroupStatus);

    impl rt::rpc::Service for Says {
        fn call(
            self: Arc<Self>,
            _: rt::rpc::Peer,
            _: rt::rpc::Request,
        ) -> rt::rpc::BoxFuture<'static, Result<rt::rpc::Response, proto::error::WireError>> {
            Box::pin(async move { Ok(rt::rpc::Response::of(&self.0)) })
        }
    }

    #[tokio::test]
    async fn one_that_joins_is_told_its_number_and_does_not_take_that_of_lost_data() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new();
        let says = |voters: &[&str], learners: &[&str]| {
            let status = GroupStatus {
                group: 2,
                voters: list(voters),
                learners: list(learners),
                ..GroupStatus::default()
            };
            host.connector.register_local("a", Arc::new(Says(status)));
        };
        let node = node(dir.path(), "local://d");
        let members = list(&["local://a", "local://d"]);
        let group = Membership { group: 2, members: &members, join: true };
        says(&["1=local://a", "4=local://d"], &[]);
        let why = joined(&host, &node, &group).await.unwrap_err().to_string();
        assert!(why.contains("voter 4"), "{why}");
        says(&["1=local://a"], &["5=local://d"]);
        let (me, others) = joined(&host, &node, &group).await.unwrap();
        assert_eq!((me, others), (5, vec![Member { id: MemberId(1), addr: "local://a".into() }]));
        // Later it votes, and later still nobody answers.
        says(&["1=local://a", "5=local://d"], &[]);
        assert_eq!(joined(&host, &node, &group).await.unwrap().0, 5);
        let alone = Membership { members: &list(&["local://d"]), ..group };
        assert_eq!(joined(&host, &node, &alone).await.unwrap(), (5, Vec::new()));
    }
}
