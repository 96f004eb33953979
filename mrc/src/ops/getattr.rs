//! Attributes of an inode.

use proto::error::WireError;
use proto::mrc::{Attr, AttrReply, GetAttr};
use rt::rpc::{Request, Response, parse};

use crate::leasing::read::{Reading, by_the_way};
use crate::namespace::read;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<GetAttr>(&request)?;
    if ask.head.snapshot != 0 {
        return super::past::getattr(mrc, &ask, &request).await;
    }
    let reading = Reading { head: &ask.head, directory: None, deadline: request.deadline };
    let (attr, leases) = mrc
        .read_leased(
            reading,
            || Ok(read::getattr(mrc.table(), ask.head.volume, ask.ino)?),
            |attr: &Attr, each: &mut dyn FnMut(&Attr)| each(attr),
            by_the_way,
        )
        .await?;
    Ok(Response::of(&AttrReply { attr, leases, ..AttrReply::default() }))
}
