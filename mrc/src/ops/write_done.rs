//! Takes a size report after writing.

use proto::error::WireError;
use proto::mrc::WriteDone;
use rt::rpc::{Request, Response, parse};

use crate::command::Body;
use crate::leasing::claims;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<WriteDone>(&request)?;
    let (head, origin) = ((ask.head.session, ask.head.volume), ask.origin);
    let claims = claims::one(ask.head.volume, ask.ino, claims::DATA);
    mrc.change_leased(head, origin, claims, Body::WriteDone(ask), request.deadline).await
}
