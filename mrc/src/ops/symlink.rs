//! Makes a symlink.

use proto::error::WireError;
use proto::mrc::{Symlink, kind};
use rt::rpc::{Request, Response, parse};

use crate::command::{Body, Make};
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let mut ask = parse::<Symlink>(&request)?;
    ask.mode = kind::SYMLINK << 12 | ask.mode & 0o7777;
    mrc.change(ask.origin, Body::Make(Make { request: ask, layout: None }), request.deadline).await
}
