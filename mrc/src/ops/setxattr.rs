//! Sets or removes an extended attribute.

use proto::error::WireError;
use proto::mrc::SetXattr;
use rt::rpc::{Request, Response, parse};

use crate::command::Body;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<SetXattr>(&request)?;
    mrc.change(ask.origin, Body::SetXattr(ask), request.deadline).await
}
