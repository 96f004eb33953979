//! An OSD registers or renews its lease. Touches the log only when it changes the map.

use proto::capability::CapabilityKey;
use proto::dir::{HeartbeatOsd, OsdEntry, OsdHeartbeat, OsdHeartbeatReply};
use proto::error::{Code, WireError};
use proto::limits::OSD_LEASE_MS;
use rt::rpc::connector::Address;
use rt::rpc::{Request, Response, parse};

use crate::driver;
use crate::engine::Event;
use crate::server::Dir;

pub(crate) async fn run(dir: &Dir, request: &Request) -> Result<Response, WireError> {
    let OsdHeartbeat { entry, known_epoch, leaving } = parse::<HeartbeatOsd>(request)?;
    let entry = valid(entry)?;
    // A leader that may have a successor must not give a lease: the successor counts from its own election.
    dir.fresh(request.deadline).await?;
    let uuid = entry.uuid.clone();
    let effects = dir.decide(if leaving { Event::Leaves(entry) } else { Event::Heartbeat(entry) });
    let registered = driver::carry_out(dir, effects).await.transpose()?;
    let view = dir.identified(request.deadline).await?;
    let known = || dir.with_memory(|memory, _| memory.engine.number_of(&uuid));
    let osd = registered.or_else(known).ok_or_else(|| {
        WireError::new(
            Code::Unavailable,
            format!("OSD {uuid} is not registered yet: the DIR has just changed its leader"),
        )
    })?;
    let map = dir.map();
    let keys: Vec<CapabilityKey> = view.keys.iter().map(|row| row.key.clone()).collect();
    let map = (map.epoch != known_epoch).then_some(map);
    let dirs = dir.group.voter_addrs();
    Ok(Response::of(&OsdHeartbeatReply {
        osd,
        lease_ms: OSD_LEASE_MS,
        map,
        keys,
        dirs,
        unix_ms: dir.unix_ms(),
    }))
}

fn valid(entry: OsdEntry) -> Result<OsdEntry, WireError> {
    super::text("an OSD's UUID", &entry.uuid)?;
    super::text("an OSD's address", &entry.addr)?;
    Address::parse(&entry.addr)?;
    super::optional_text("an OSD's failure domain", &entry.domain)?;
    super::optional_text("an OSD's HTTP address", &entry.http)?;
    Ok(entry)
}
