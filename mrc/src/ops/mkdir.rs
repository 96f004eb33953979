//! Makes a directory.

use prost::Message;
use proto::error::{Code, WireError};
use proto::mrc::{AttrReply, MkDir, kind};
use rt::rpc::{Request, Response, parse};

use crate::command::{Body, Make};
use crate::leasing::claims;
use crate::leasing::read::OF_DIRECTORY;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let mut ask = parse::<MkDir>(&request)?;
    ask.mode = kind::DIR << 12 | ask.mode & 0o7777;
    let (session, volume, origin) = (ask.head.session, ask.head.volume, ask.origin);
    let claims = claims::one(volume, ask.parent, claims::DIRECTORY);
    let body = Body::Make(Make { request: ask, layout: None });
    let message = mrc.propose_leased(session, origin, claims, body, request.deadline).await?;
    let reply = AttrReply::decode(message)
        .map_err(|error| WireError::new(Code::Internal, format!("unreadable attributes: {error}")))?;
    // Who makes a directory mostly fills it.
    let directory = (volume, reply.attr.ino);
    let made = match super::create::maker(mrc, session, directory)? {
        None => mrc.grant_after(session, directory, OF_DIRECTORY)?,
        made => made,
    };
    Ok(Response::of(&match made {
        Some((attr, grant)) => AttrReply { attr, leases: vec![grant], ..reply },
        None => reply,
    }))
}
