//! Finds a name: two point gets.

use proto::error::WireError;
use proto::mrc::{Attr, AttrReply, Lookup};
use rt::rpc::{Request, Response, parse};

use crate::leasing::read::{Reading, by_the_way};
use crate::namespace::read;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<Lookup>(&request)?;
    if ask.head.snapshot != 0 {
        return super::past::lookup(mrc, &ask, &request).await;
    }
    let reading = Reading { head: &ask.head, directory: Some(ask.parent), deadline: request.deadline };
    let (attr, leases) = mrc
        .read_leased(
            reading,
            || Ok(read::lookup(mrc.table(), &ask)?),
            |attr: &Attr, each: &mut dyn FnMut(&Attr)| each(attr),
            by_the_way,
        )
        .await?;
    Ok(Response::of(&AttrReply { attr, leases, ..AttrReply::default() }))
}
