//! Opens a session, or re-opens one with what it has open.

use proto::error::{Code, WireError};
use proto::limits::SESSION_TTL_MS;
use proto::mrc::{SessionOpen, SessionReply};
use proto::rpc::Origin;
use rt::rpc::{Request, Response, parse};

use crate::command::{Body, SessionBegin};
use crate::namespace::session;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<SessionOpen>(&request)?;
    if ask.session == 0 {
        return Err(WireError::new(
            Code::InvalidArgument,
            "session 0 cannot be opened; choose a random number",
        ));
    }
    mrc.lead(request.deadline).await?;
    mrc.leader().sessions().room_for(ask.session)?;
    if !session::exists(mrc.table(), ask.session)? {
        let begin = SessionBegin { session: ask.session, client: ask.client };
        mrc.propose(Origin::default(), Body::SessionBegin(begin), request.deadline).await?;
    }
    let now = mrc.now();
    let mut sessions = mrc.leader().sessions();
    sessions.open_session(now, ask.session, &ask.open_files)?;
    Ok(Response::of(&SessionReply {
        ttl_ms: SESSION_TTL_MS,
        incarnation: sessions.incarnation(),
        ..SessionReply::default()
    }))
}
