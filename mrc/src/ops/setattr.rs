//! Changes attributes.

use proto::error::WireError;
use proto::mrc::SetAttr;
use rt::rpc::{Request, Response, parse};

use crate::command::Body;
use crate::leasing::claims;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<SetAttr>(&request)?;
    let (head, origin) = ((ask.head.session, ask.head.volume), ask.origin);
    if let Some(size) = ask.size {
        mrc.lead(request.deadline).await?;
        mrc.thaw_fixed((ask.head.volume, ask.ino), size, request.deadline).await?;
    }
    let bits = if ask.size.is_some() { claims::DATA } else { claims::ATTRIBUTES };
    let claims = claims::one(ask.head.volume, ask.ino, bits);
    mrc.change_leased(head, origin, claims, Body::SetAttr(ask), request.deadline).await
}
