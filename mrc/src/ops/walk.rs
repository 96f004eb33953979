//! Finds several names in a row.

use proto::error::WireError;
use proto::mrc::{Attr, Walk, WalkReply};
use rt::rpc::{Request, Response, parse};

use crate::leasing::read::{Reading, by_the_way};
use crate::namespace::read;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<Walk>(&request)?;
    if ask.head.snapshot != 0 {
        return super::past::walk(mrc, &ask, &request).await;
    }
    let reading = Reading { head: &ask.head, directory: Some(ask.parent), deadline: request.deadline };
    let (attrs, leases) = mrc
        .read_leased(
            reading,
            || Ok(read::walk(mrc.table(), &ask)?),
            |attrs: &Vec<Attr>, each: &mut dyn FnMut(&Attr)| attrs.iter().for_each(each),
            by_the_way,
        )
        .await?;
    Ok(Response::of(&WalkReply { attrs, leases }))
}
