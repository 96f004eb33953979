//! Attributes of an inode.

use proto::error::WireError;
use proto::mrc::{AttrReply, GetAttr};
use rt::rpc::{Request, Response, parse};

use crate::namespace::read;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<GetAttr>(&request)?;
    mrc.read(request.deadline).await?;
    Ok(Response::of(&AttrReply {
        attr: read::getattr(mrc.table(), ask.head.volume, ask.ino)?,
        leases: Vec::new(),
    }))
}
