//! Changes attributes.

use proto::error::WireError;
use proto::mrc::SetAttr;
use rt::rpc::{Request, Response, parse};

use crate::command::Body;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<SetAttr>(&request)?;
    mrc.change(ask.origin, Body::SetAttr(ask), request.deadline).await
}
