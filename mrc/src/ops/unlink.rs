//! Removes a name of anything but a directory.

use proto::error::WireError;
use proto::mrc::Unlink;
use rt::rpc::{Request, Response, parse};

use crate::command::{Body, Remove};
use crate::namespace::link;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<Unlink>(&request)?;
    mrc.lead(request.deadline).await?;
    let victim = link::victim(mrc.table(), ask.head.volume, ask.parent, &ask.name)?;
    let freeing = mrc.leader().begin_free(ask.head.volume, victim);
    let closed = freeing.as_ref().map_or(0, |freeing| freeing.ino());
    mrc.change(ask.origin, Body::Unlink(Remove { request: ask, closed }), request.deadline).await
}
