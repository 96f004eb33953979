//! Another name for a file.

use proto::error::WireError;
use proto::mrc::Link;
use rt::rpc::{Request, Response, parse};

use crate::command::Body;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<Link>(&request)?;
    mrc.change(ask.origin, Body::Link(ask), request.deadline).await
}
