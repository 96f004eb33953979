//! Forces what the group has acknowledged to disk on a majority.

use proto::error::WireError;
use proto::mrc::MetadataSync;
use proto::rpc::Empty;
use rt::rpc::{Request, Response, parse};

use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    parse::<MetadataSync>(&request)?;
    mrc.group().sync(request.deadline).await?;
    Ok(Response::of(&Empty {}))
}
