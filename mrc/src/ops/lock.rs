//! Takes, frees or tests a lock, or waits until it could be taken. Locks are replicated; who waits for one is known to the leader only.
//! A session that asks for it is given the right to decide alone, `docs/protocols/locks.md`.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use proto::error::{Code, WireError};
use proto::mrc::{HeldLock as Held, LEASE_LOCKS, Lock, LockReply, LockRequest};
use proto::rpc::Origin;
use rt::rpc::{Request, Response, parse};
use tokio::sync::Notify;

use crate::command::Body;
use crate::engine::leases::{Claim, Claims};
use crate::engine::waiting::Refused;
use crate::leader::Waiter;
use crate::leasing::Change;
use crate::namespace::locks;
use crate::service::Mrc;

/// How long one who waits goes on without having looked who decides, when nobody could be told that it waits: a session that
/// takes part from then on may be given the right to decide.
const UNSEEN: Duration = Duration::from_secs(1);

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<Lock>(&request)?;
    mrc.lead(request.deadline).await?;
    if ask.test && ask.wait_ms == 0 {
        let _decided = decided(mrc, &ask, request.deadline).await?;
        return Ok(Response::of(&locks::test(mrc.table(), &ask)?));
    }
    mrc.leader().require_session(ask.head.session)?;
    // The answer has to arrive before the caller gives up.
    let patience =
        Duration::from_millis(ask.wait_ms).min(request.deadline.saturating_sub(Duration::from_millis(200)));
    let until = mrc.now() + patience;
    let mut waiter: Option<Waiter> = None;
    let mut decisions: Option<Change> = None;
    loop {
        let change = match decisions.take().filter(Change::is_valid) {
            Some(change) => decisions.insert(change),
            None => decisions.insert(decided(mrc, &ask, request.deadline).await?),
        };
        let conflicts = locks::conflicts(mrc.table(), &ask)?;
        if conflicts.is_empty() && ask.test {
            // Who only waits takes nothing: giving the wait up leaves nothing behind.
            return Ok(Response::of(&locks::test(mrc.table(), &ask)?));
        }
        if conflicts.is_empty() {
            match take(mrc, &ask, change, request.deadline).await {
                // Somebody was faster: look again.
                Err(error) if error.code == Code::WouldBlock && !patience.is_zero() => {}
                Err(error) => return Err(error),
                Ok(reply) => {
                    mrc.leader().wake_waiters((ask.head.volume, ask.ino));
                    drop(decisions);
                    return Ok(Response::of(&decides_alone(mrc, &ask, reply)?));
                }
            }
        }
        let left = until.saturating_sub(mrc.now());
        if left.is_zero() {
            return Err(would_block(&ask, conflicts.first()));
        }
        if let Some(waiter) = waiter.take() {
            // While somebody waits nobody decides alone: whoever frees a lock would wake nobody. What has left no mark is not
            // held on to: a session that joins would wait for it.
            let is_seen = change.is_watched();
            decisions = decisions.filter(|_| is_seen);
            waiter.wait(if is_seen { left } else { left.min(UNSEEN) }).await;
            mrc.lead(request.deadline).await?;
        } else {
            // Looks once more after having entered: what was freed in between woke nobody.
            waiter = Some(enter(mrc, &ask, &conflicts)?);
        }
    }
}

/// No other session decides about the file's locks while this lives; while somebody waits, its own does not either.
async fn decided(mrc: &Mrc, ask: &LockRequest, deadline: Duration) -> Result<Change, WireError> {
    let file = (ask.head.volume, ask.ino);
    let own = ask.wait_ms > 0;
    let claim = Claim { file, recall: LEASE_LOCKS, block: LEASE_LOCKS, own, ..Claim::default() };
    mrc.leader().leasing().begin_change(ask.head.session, Claims::default().with(claim), deadline).await
}

async fn take(
    mrc: &Mrc,
    ask: &LockRequest,
    change: &mut Change,
    deadline: Duration,
) -> Result<LockReply, WireError> {
    let message = change.run(mrc.propose(Origin::default(), Body::Lock(ask.clone()), deadline)).await?;
    LockReply::decode(message)
        .map_err(|error| WireError::new(Code::Internal, format!("unreadable lock: {error}")))
}

/// Gives the right to decide, if it is wanted and nobody else has locks there, together with what the session has.
fn decides_alone(mrc: &Mrc, ask: &LockRequest, mut reply: LockReply) -> Result<LockReply, WireError> {
    if !ask.want {
        return Ok(reply);
    }
    let (session, volume) = (ask.head.session, ask.head.volume);
    // In one step: a change of others that is over is in the row, one that is not is in the way.
    let given = mrc.leader().leasing().with(|engine, now| {
        let Some(held) = locks::alone(mrc.table(), volume, ask.ino, session)? else { return Ok(None) };
        let grant = engine.grant(now, session, (volume, ask.ino), LEASE_LOCKS);
        Ok::<_, WireError>(grant.map(|grant| (grant, held)))
    })?;
    if let Some((grant, held)) = given {
        reply.held = held;
        reply.leases = vec![grant];
    }
    Ok(reply)
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
