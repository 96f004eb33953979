//! Makes a symlink.

use proto::error::WireError;
use proto::mrc::{Symlink, kind};
use rt::rpc::{Request, Response, parse};

use crate::command::{Body, Make};
use crate::leasing::claims;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let mut ask = parse::<Symlink>(&request)?;
    ask.mode = kind::SYMLINK << 12 | ask.mode & 0o7777;
    let (head, origin) = ((ask.head.session, ask.head.volume), ask.origin);
    let claims = claims::one(ask.head.volume, ask.parent, claims::DIRECTORY);
    let body = Body::Make(Make { request: ask, layout: None });
    mrc.change_leased(head, origin, claims, body, request.deadline).await
}
