//! A member of a Raft group, as DIR and MRC start it.

use std::sync::Arc;
use std::time::Duration;

use proto::dir::GroupStatus;
use proto::id::{GroupId, MemberId};
use quorum::{GroupConfig, Member};
use rt::disk::os::OsDisk;
use rt::table::rocks::{RocksTable, Sizes};
use serde_json::{Value, json};

use super::{Host, boot_id, durability, make_dir};
use crate::config::Node;
use crate::failure::Failure;

/// Heartbeats every 2 ticks, elections after 10 to 20 of them.
const TICK: Duration = Duration::from_millis(50);
/// Several members may share a small machine.
const SIZES: Sizes = Sizes { cache_bytes: 32 << 20, write_buffer_bytes: 16 << 20 };

/// Opens log and table below the service's directory. A member's id is its place in the list, from 1.
pub(crate) fn config(
    host: &Host,
    node: &Node,
    group: u64,
    members: &[String],
    durable: &str,
) -> Result<GroupConfig, Failure> {
    let what = || format!("starting {}", node.name);
    let lone = [node.advertise.clone()];
    let members = if members.is_empty() { &lone } else { members };
    let place = members.iter().position(|member| *member == node.advertise).ok_or_else(|| {
        Failure::usage(
            what(),
            format!("its own address {} is not in `members` ({})", node.advertise, members.join(", ")),
        )
        .next("add it there, in the same order on every member")
    })?;
    let ids = 1u64..;
    let list: Vec<Member> =
        ids.zip(members).map(|(id, addr)| Member { id: MemberId(id), addr: addr.clone() }).collect();
    make_dir(&node.data)?;
    let log = OsDisk::open(node.data.join("log")).map_err(|error| Failure::new(what(), error))?;
    let table =
        RocksTable::open(node.data.join("table"), SIZES).map_err(|error| Failure::new(what(), error))?;
    Ok(GroupConfig {
        group: GroupId(group),
        me: list[place].id,
        members: list,
        durability: durability(durable)?,
        boot_id: boot_id(),
        tick: TICK,
        log,
        table: table as Arc<dyn rt::table::Table>,
        connector: host.connector.clone(),
        clock: host.clock.clone(),
    })
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
