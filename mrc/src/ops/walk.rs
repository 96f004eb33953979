//! Finds several names in a row.

use proto::error::WireError;
use proto::mrc::{Walk, WalkReply};
use rt::rpc::{Request, Response, parse};

use crate::namespace::read;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<Walk>(&request)?;
    mrc.read(request.deadline).await?;
    Ok(Response::of(&WalkReply { attrs: read::walk(mrc.table(), &ask)?, leases: Vec::new() }))
}
