//! Takes a size report after writing.

use proto::error::WireError;
use proto::mrc::WriteDone;
use rt::rpc::{Request, Response, parse};

use crate::command::Body;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<WriteDone>(&request)?;
    mrc.change(ask.origin, Body::WriteDone(ask), request.deadline).await
}
