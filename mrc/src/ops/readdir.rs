//! Lists a directory: one range scan, with attributes one point get more per entry.

use proto::error::WireError;
use proto::mrc::{Attr, ReadDir, ReadDirReply};
use rt::rpc::{Request, Response, parse};

use crate::leasing::read::{Reading, by_the_way};
use crate::namespace::read;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<ReadDir>(&request)?;
    if ask.head.snapshot != 0 {
        return super::past::readdir(mrc, &ask, &request).await;
    }
    let reading = Reading { head: &ask.head, directory: Some(ask.ino), deadline: request.deadline };
    let (page, leases) = mrc
        .read_leased(
            reading,
            || Ok(read::readdir(mrc.table(), &ask)?),
            |page: &ReadDirReply, each: &mut dyn FnMut(&Attr)| {
                page.entries.iter().filter_map(|entry| entry.attr.as_ref()).for_each(each);
            },
            by_the_way,
        )
        .await?;
    Ok(Response::of(&ReadDirReply { leases, ..page }))
}
