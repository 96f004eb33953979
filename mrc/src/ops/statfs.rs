//! Volume totals: space from the OSD map, usage from the volume record.

use proto::dir::OsdState;
use proto::error::WireError;
use proto::mrc::{StatFs, StatFsReply};
use rt::rpc::{Request, Response, parse};

use crate::namespace::volume;
use crate::quota::room::shares;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<StatFs>(&request)?;
    mrc.read(request.deadline).await?;
    let record = volume::live(mrc.table(), ask.head.volume)?;
    let map = mrc.cluster().map()?;
    let serving = map.osds.iter().filter(|osd| osd.state != OsdState::Out as i32);
    let (mut total_bytes, mut free_bytes) = (0u64, 0u64);
    for osd in serving {
        total_bytes = total_bytes.saturating_add(osd.total_bytes);
        free_bytes = free_bytes.saturating_add(osd.free_bytes);
    }
    let mut reply = StatFsReply {
        total_bytes,
        free_bytes,
        inodes: record.inodes,
        used_bytes: record.used_bytes,
        inodes_max: None,
    };
    // `df` of a directory with a quota, or below one, shows what the quota leaves.
    let (bytes, inodes) = shares(mrc.table(), ask.head.volume, &record, ask.ino)?;
    if let Some(bytes) = bytes {
        reply.total_bytes = bytes.limit;
        reply.free_bytes = bytes.left().min(free_bytes);
        reply.used_bytes = bytes.used;
    }
    if let Some(inodes) = inodes {
        (reply.inodes, reply.inodes_max) = (inodes.used, Some(inodes.limit));
    }
    Ok(Response::of(&reply))
}
