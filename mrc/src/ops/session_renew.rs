//! Keeps a session alive.

use proto::error::WireError;
use proto::limits::SESSION_TTL_MS;
use proto::mrc::{SessionRenew, SessionReply};
use rt::rpc::{Request, Response, parse};

use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<SessionRenew>(&request)?;
    mrc.lead(request.deadline).await?;
    let now = mrc.now();
    let mut sessions = mrc.leader().sessions();
    sessions.renew(now, ask.session)?;
    Ok(Response::of(&SessionReply {
        ttl_ms: SESSION_TTL_MS,
        incarnation: sessions.incarnation(),
        ..SessionReply::default()
    }))
}
