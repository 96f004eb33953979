//! Finds a name: two point gets.

use proto::error::WireError;
use proto::mrc::{AttrReply, Lookup};
use rt::rpc::{Request, Response, parse};

use crate::namespace::read;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<Lookup>(&request)?;
    mrc.read(request.deadline).await?;
    Ok(Response::of(&AttrReply { attr: read::lookup(mrc.table(), &ask)?, leases: Vec::new() }))
}
