//! Removes an empty directory.

use proto::error::WireError;
use proto::mrc::RmDir;
use rt::rpc::{Request, Response, parse};

use crate::command::Body;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<RmDir>(&request)?;
    mrc.change(ask.origin, Body::RmDir(ask), request.deadline).await
}
