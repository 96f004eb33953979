//! Ends a session: everything it had open is closed, its locks go.

use proto::error::WireError;
use proto::mrc::SessionClose;
use proto::rpc::Empty;
use rt::rpc::{Request, Response, parse};

use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<SessionClose>(&request)?;
    mrc.lead(request.deadline).await?;
    mrc.end_session(ask.session, request.deadline).await?;
    Ok(Response::of(&Empty {}))
}
