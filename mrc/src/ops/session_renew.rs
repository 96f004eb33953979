//! Keeps a session and its leases alive.

use proto::error::WireError;
use proto::limits::SESSION_TTL_MS;
use proto::mrc::{SessionRenew, SessionReply};
use rt::rpc::{Request, Response, parse};

use crate::leasing::unknown_session;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<SessionRenew>(&request)?;
    mrc.lead(request.deadline).await?;
    let now = mrc.now();
    let leasing = mrc.leader().leasing();
    let leased =
        leasing.with(|engine, now| Some((engine.renew(now, ask.session)?, engine.epoch(ask.session))));
    let mut sessions = mrc.leader().sessions();
    if sessions.knows(ask.session) && leased.is_none() {
        // Expelled. What it had open stays counted until it comes back or its time is over.
        return Err(unknown_session(ask.session));
    }
    sessions.renew(now, ask.session)?;
    let (ttl, session_epoch) = leased.unwrap_or_default();
    Ok(Response::of(&SessionReply {
        ttl_ms: SESSION_TTL_MS,
        incarnation: sessions.incarnation(),
        lease_ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
        session_epoch,
        members: mrc.group().voter_addrs(),
        number: 0,
    }))
}
