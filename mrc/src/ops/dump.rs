//! Reads a volume's metadata page by page, and loads it into an empty volume.

use proto::backup::{DumpLoad, DumpRead};
use proto::error::WireError;
use proto::id::Ino;
use proto::stripe::Layout;
use rt::rpc::{Request, Response, parse};

use crate::command::Body;
use crate::leasing::claims;
use crate::namespace::{access, volume};
use crate::service::Mrc;

pub(crate) async fn read(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<DumpRead>(&request)?;
    access::require_root(&ask.head, "dump volumes")?;
    mrc.lead(request.deadline).await?;
    let number = match ask.dump {
        0 => {
            volume::live(mrc.table(), ask.head.volume)?;
            mrc.dumps().start(mrc.shared_table(), ask.head.volume)?
        }
        number => number,
    };
    Ok(Response::of(&mrc.dumps().fetch(number, ask.page).await?))
}

pub(crate) async fn load(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let mut ask = parse::<DumpLoad>(&request)?;
    access::require_root(&ask.head, "load volumes")?;
    mrc.lead(request.deadline).await?;
    let volume = ask.head.volume;
    if ask.without_data {
        let striping = volume::find(mrc.table(), volume)?.map(|record| record.striping).unwrap_or_default();
        for node in ask.nodes.iter_mut().filter(|node| node.layout.is_some()) {
            // What a small file has is in the dump.
            let inline = node.layout.as_ref().and_then(|layout| layout.inline);
            node.layout = Some(Layout { inline, ..mrc.place_as(striping)? });
            if inline.is_none() || !node.shares.is_empty() {
                (node.attr.size, node.attr.blocks) = (0, 0);
            }
        }
    }
    let (session, origin) = (ask.head.session, ask.origin);
    let claims = claims::one(volume, Ino::ROOT.0, claims::DIRECTORY);
    let message = mrc.propose_leased(session, origin, claims, Body::Load(ask), request.deadline).await?;
    Ok(Response { message, payload: bytes::Bytes::new() })
}
