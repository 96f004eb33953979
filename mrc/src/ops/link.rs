//! Another name for a file.

use proto::error::WireError;
use proto::mrc::Link;
use rt::rpc::{Request, Response, parse};

use crate::command::Body;
use crate::engine::leases::Claim;
use crate::leasing::claims;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<Link>(&request)?;
    let (head, origin) = ((ask.head.session, ask.head.volume), ask.origin);
    let claims = claims::one(ask.head.volume, ask.parent, claims::DIRECTORY)
        .with(Claim::change((ask.head.volume, ask.ino), claims::ATTRIBUTES));
    mrc.change_leased(head, origin, claims, Body::Link(ask), request.deadline).await
}
