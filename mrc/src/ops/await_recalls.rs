//! Waits for recalls. The first such call of a session says that it takes part in leases.

use std::time::Duration;

use proto::error::WireError;
use proto::limits::RECALL_POLL_MS;
use proto::mrc::{AwaitRecalls, RecallsReply};
use proto::rpc::Origin;
use rt::rpc::{Request, Response, parse};

use crate::command::{Body, SessionLeases};
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<AwaitRecalls>(&request)?;
    mrc.lead(request.deadline).await?;
    let leasing = mrc.leader().leasing();
    if ask.session == 0 {
        return Err(crate::leasing::unknown_session(0));
    }
    mrc.leader().require_session(ask.session)?;
    if !leasing.with(|engine, _| engine.takes_part(ask.session)) {
        // In the table first: a new leader has to wait for whoever may hold leases.
        let body = Body::SessionLeases(SessionLeases { session: ask.session });
        mrc.propose(Origin::default(), body, request.deadline).await?;
        leasing.with(|engine, _| engine.enable(ask.session));
    }
    let patience = Duration::from_millis(u64::from(ask.wait_ms.min(RECALL_POLL_MS)));
    let patience = patience.min(request.deadline.saturating_sub(Duration::from_millis(200)));
    let recalls = leasing.recalls(ask.session, ask.after, patience).await;
    // First of all whether this member still leads: otherwise the session is not unknown, and an answer without
    // recalls would hide that leases have to be told anew.
    mrc.lead(request.deadline).await?;
    let recalls = recalls?;
    let incarnation = mrc.leader().sessions().incarnation();
    Ok(Response::of(&RecallsReply { recalls, incarnation }))
}
