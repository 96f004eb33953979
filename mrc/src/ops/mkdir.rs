//! Makes a directory.

use proto::error::WireError;
use proto::mrc::{MkDir, kind};
use rt::rpc::{Request, Response, parse};

use crate::command::{Body, Make};
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let mut ask = parse::<MkDir>(&request)?;
    ask.mode = kind::DIR << 12 | ask.mode & 0o7777;
    mrc.change(ask.origin, Body::Make(Make { request: ask, layout: None }), request.deadline).await
}
