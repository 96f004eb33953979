//! A service other than an OSD registers or renews. Touches the log only when it is new or has moved.

use std::time::Duration;

use proto::dir::{HeartbeatService, ServiceEntry, ServiceHeartbeatReply};
use proto::error::{Code, WireError};
use proto::rpc::Origin;
use rt::rpc::connector::Address;
use rt::rpc::{Request, Response, parse};

use crate::command::Change;
use crate::engine::services::{Noted, SERVICES_MAX};
use crate::server::Dir;
use crate::state::View;

/// A key younger than this is not signed with yet: OSDs must have heard of it first (several heartbeats).
const KEY_SETTLE: Duration = Duration::from_secs(5);
/// Members of a group at most: Raft with more of them would be slow.
const MEMBERS_MAX: usize = 64;
const ROLES: [&str; 7] = ["dir", "mrc", "osd", "rms", "vo", "exec", "mount"];

pub(crate) async fn run(dir: &Dir, request: &Request) -> Result<Response, WireError> {
    let entry = valid(parse::<HeartbeatService>(request)?)?;
    dir.lead()?;
    let view = dir.identified(request.deadline).await?;
    match dir.with_memory(|memory, now| memory.services.heartbeat(&entry, now)) {
        Noted::Known => {}
        Noted::Store => {
            dir.propose(Origin::default(), Change::PutService(entry.clone()), request.deadline).await?;
            dir.with_memory(|memory, now| memory.services.stored(entry.clone(), now));
        }
        Noted::Full => {
            let text = format!(
                "cannot register {} {}: {SERVICES_MAX} services are registered",
                entry.role, entry.uuid
            );
            return Err(WireError::new(Code::NoSpace, text));
        }
    }
    let dirs = dir.group.voter_addrs();
    let (cluster, unix_ms) = (view.cluster.clone(), dir.unix_ms());
    let mut reply = ServiceHeartbeatReply { keys: Vec::new(), cluster, dirs, unix_ms };
    if entry.role == "mrc" {
        let settled_ms = dir.clock.unix().saturating_sub(KEY_SETTLE).as_millis();
        reply.keys = signing_keys(&view, u64::try_from(settled_ms).unwrap_or(u64::MAX));
    }
    Ok(Response::of(&reply))
}

/// Newest first, without those that some OSD may not know yet; the first key of all needs no waiting.
fn signing_keys(view: &View, made_until_ms: u64) -> Vec<proto::capability::CapabilityKey> {
    let oldest = view.keys.len().saturating_sub(1);
    let settled = |(at, row): &(usize, &crate::state::KeyRow)| *at == oldest || row.made_ms <= made_until_ms;
    view.keys.iter().enumerate().filter(settled).map(|(_, row)| row.key.clone()).collect()
}

fn valid(entry: ServiceEntry) -> Result<ServiceEntry, WireError> {
    super::text("a service's UUID", &entry.uuid)?;
    super::text("a service's name", &entry.name)?;
    for (what, value) in [("address", &entry.addr), ("HTTP address", &entry.http), ("host", &entry.host)] {
        super::optional_text(&format!("a service's {what}"), value)?;
    }
    if !entry.addr.is_empty() {
        Address::parse(&entry.addr)?;
    }
    if entry.members.len() > MEMBERS_MAX {
        let text = format!(
            "{} names {} members, at most {MEMBERS_MAX} are possible",
            entry.uuid,
            entry.members.len()
        );
        return Err(WireError::new(Code::InvalidArgument, text));
    }
    for member in &entry.members {
        super::text("a member's address", member)?;
        Address::parse(member)?;
    }
    if !ROLES.contains(&entry.role.as_str()) {
        let text =
            format!("service {} has role {:?}; known are {}", entry.uuid, entry.role, ROLES.join(", "));
        return Err(WireError::new(Code::InvalidArgument, text));
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use proto::capability::CapabilityKey;

    use super::*;
    use crate::state::KeyRow;

    #[test]
    fn a_young_key_is_not_signed_with() {
        let key = |number, made_ms| KeyRow { key: CapabilityKey { number, secret: Vec::new() }, made_ms };
        let view = View { keys: vec![key(3, 900), key(2, 500), key(1, 100)], ..View::default() };
        let numbers =
            |until: u64| -> Vec<u32> { signing_keys(&view, until).iter().map(|key| key.number).collect() };
        assert_eq!(numbers(899), [2, 1]);
        assert_eq!(numbers(900), [3, 2, 1]);
        assert_eq!(numbers(0), [1], "the only key there is has to do");
    }
}
