//! Takes, frees or tests a lock, or waits until it could be taken. Locks are replicated; who waits for one is known to the leader only.

use std::sync::Arc;
use std::time::Duration;

use proto::error::{Code, WireError};
use proto::mrc::{Lock, LockRequest};
use proto::rpc::Origin;
use rt::rpc::{Request, Response, parse};
use tokio::sync::Notify;

use crate::command::Body;
use crate::engine::waiting::Refused;
use crate::leader::Waiter;
use crate::namespace::locks::{self, Held};
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<Lock>(&request)?;
    mrc.lead(request.deadline).await?;
    if ask.test && ask.wait_ms == 0 {
        return Ok(Response::of(&locks::test(mrc.table(), &ask)?));
    }
    mrc.leader().require_session(ask.head.session)?;
    // The answer has to arrive before the caller gives up.
    let patience =
        Duration::from_millis(ask.wait_ms).min(request.deadline.saturating_sub(Duration::from_millis(200)));
    let until = mrc.now() + patience;
    let mut waiter: Option<Waiter> = None;
    loop {
        let conflicts = locks::conflicts(mrc.table(), &ask)?;
        if conflicts.is_empty() && ask.test {
            // Who only waits takes nothing: giving the wait up leaves nothing behind.
            return Ok(Response::of(&locks::test(mrc.table(), &ask)?));
        }
        if conflicts.is_empty() {
            match mrc.change(Origin::default(), Body::Lock(ask.clone()), request.deadline).await {
                // Somebody was faster: look again.
                Err(error) if error.code == Code::WouldBlock && !patience.is_zero() => {}
                Err(error) => return Err(error),
                Ok(response) => {
                    mrc.leader().wake_waiters((ask.head.volume, ask.ino));
                    return Ok(response);
                }
            }
        }
        let left = until.saturating_sub(mrc.now());
        if left.is_zero() {
            return Err(would_block(&ask, conflicts.first()));
        }
        if let Some(waiter) = waiter.take() {
            waiter.wait(left).await;
            mrc.lead(request.deadline).await?;
        } else {
            // Looks once more after having entered: what was freed in between woke nobody.
            waiter = Some(enter(mrc, &ask, &conflicts)?);
        }
    }
}

fn enter(mrc: &Mrc, ask: &LockRequest, conflicts: &[Held]) -> Result<Waiter, WireError> {
    let file = (ask.head.volume, ask.ino);
    let owner = (ask.head.session, ask.owner);
    let blockers = conflicts.iter().map(Held::by).collect();
    mrc.leader().wait_for(file, owner, !ask.flock, blockers, Arc::new(Notify::new())).map_err(|refused| {
        match refused {
            Refused::Deadlock => WireError::new(
                Code::Deadlock,
                format!("waiting for the lock on ino-{} would wait for itself through other locks", ask.ino),
            ),
            Refused::Full => WireError::new(Code::Busy, "too many requests wait for locks; try again"),
        }
    })
}

fn would_block(ask: &LockRequest, held: Option<&Held>) -> WireError {
    let by = held.map_or_else(String::new, |held| format!(" by process {}", held.pid));
    WireError::new(Code::WouldBlock, format!("ino-{} is locked{by}", ask.ino))
}
