//! A symlink's target.

use proto::error::WireError;
use proto::mrc::{ReadLink, ReadLinkReply};
use rt::rpc::{Request, Response, parse};

use crate::namespace::read;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<ReadLink>(&request)?;
    if ask.head.snapshot != 0 {
        return super::past::readlink(mrc, &ask, &request).await;
    }
    mrc.read(request.deadline).await?;
    let target = read::readlink(mrc.table(), ask.head.volume, ask.ino)?;
    Ok(Response::of(&ReadLinkReply { target }))
}
