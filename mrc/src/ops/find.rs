//! Files below a directory that match a query: one page of inodes per call.

use proto::error::WireError;
use proto::find::Find;
use rt::rpc::{Request, Response, parse};

use crate::find;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<Find>(&request)?;
    mrc.read(request.deadline).await?;
    Ok(Response::of(&find::find(mrc.table(), &ask, mrc.unix_s())?))
}
