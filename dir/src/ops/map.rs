//! The OSD map, at once or as soon as it is another one than the caller knows, or other OSDs are full.

use std::time::Duration;

use proto::dir::{GetMap, Map, OsdMap, digest, digest_of_full};
use proto::error::{Code, WireError};
use rt::rpc::{Request, Response, parse};

use crate::server::Dir;

/// Longest wait of one poll.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Left of the caller's deadline for the way back.
const WAY_BACK: Duration = Duration::from_millis(50);

/// How often somebody who waits is looked after: others may have become members of the DIR.
const LOOK: Duration = Duration::from_secs(1);

pub(crate) async fn run(dir: &Dir, request: &Request) -> Result<Response, WireError> {
    let GetMap { known_epoch, wait_ms, dirs, full } = parse::<Map>(request)?;
    let (mut watch, mut room) = (dir.state.watch(), dir.room.subscribe());
    dir.fresh(request.deadline).await?;
    let map = dir.map();
    let others = |map: &OsdMap| {
        dirs != 0 && dirs != digest(&map.dirs) || full != 0 && full != digest_of_full(&map.osds)
    };
    // Another epoch, not only a newer one: the caller may come from a cluster that was made anew.
    if map.epoch != known_epoch || wait_ms == 0 || others(&map) {
        return Ok(Response::of(&map));
    }
    let _slot = dir.waiters.try_acquire().map_err(|_| {
        WireError::new(
            Code::Busy,
            "too many wait for the next OSD map at this DIR; ask again with wait_ms = 0",
        )
    })?;
    let wait = Duration::from_millis(wait_ms).min(WAIT_MAX).min(request.deadline.saturating_sub(WAY_BACK));
    let end = tokio::time::Instant::now() + wait;
    loop {
        // Losing the leadership ends the wait: the caller finds the new leader.
        let other = watch.wait_for(|view| view.epoch != known_epoch || view.leads.is_none());
        let look = end.min(tokio::time::Instant::now() + LOOK);
        let news = tokio::select! {
            news = tokio::time::timeout_at(look, other) => news.is_ok(),
            Ok(()) = room.changed(), if full != 0 => false,
        };
        dir.lead()?;
        let map = dir.map();
        // At the end of the wait the map is the same: that is the answer.
        if news || tokio::time::Instant::now() >= end || others(&map) {
            return Ok(Response::of(&map));
        }
    }
}
