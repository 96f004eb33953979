//! The OSD map, at once or as soon as it is another one than the caller knows.

use std::time::Duration;

use proto::dir::{GetMap, Map};
use proto::error::{Code, WireError};
use rt::rpc::{Request, Response, parse};

use crate::server::Dir;

/// Longest wait of one poll.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Left of the caller's deadline for the way back.
const WAY_BACK: Duration = Duration::from_millis(50);

pub(crate) async fn run(dir: &Dir, request: &Request) -> Result<Response, WireError> {
    let GetMap { known_epoch, wait_ms } = parse::<Map>(request)?;
    let mut watch = dir.state.watch();
    dir.fresh(request.deadline).await?;
    let map = dir.map();
    // Another epoch, not only a newer one: the caller may come from a cluster that was made anew.
    if map.epoch != known_epoch || wait_ms == 0 {
        return Ok(Response::of(&map));
    }
    let _slot = dir.waiters.try_acquire().map_err(|_| {
        WireError::new(
            Code::Busy,
            "too many wait for the next OSD map at this DIR; ask again with wait_ms = 0",
        )
    })?;
    let wait = Duration::from_millis(wait_ms).min(WAIT_MAX).min(request.deadline.saturating_sub(WAY_BACK));
    // Losing the leadership ends the wait: the caller finds the new leader.
    let other = watch.wait_for(|view| view.epoch != known_epoch || view.leads.is_none());
    // At the end of the wait the map is the same: that is the answer.
    let _ = tokio::time::timeout(wait, other).await;
    dir.lead()?;
    Ok(Response::of(&dir.map()))
}
