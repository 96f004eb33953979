//! Sets or removes an extended attribute.

use bytes::Bytes;
use proto::error::WireError;
use proto::mrc::SetXattr;
use rt::rpc::{Request, Response, parse};

use crate::command::Body;
use crate::leasing::claims;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<SetXattr>(&request)?;
    let claims = claims::one(ask.head.volume, ask.ino, claims::ATTRIBUTES);
    let (session, origin) = (ask.head.session, ask.origin);
    let body = Body::SetXattr(ask);
    let message = mrc.propose_leased(session, origin, claims, body, request.deadline).await?;
    Ok(Response { message, payload: Bytes::new() })
}
