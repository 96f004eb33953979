//! Makes (or finds) a regular file and opens it: one command, then the capability from memory.

use prost::Message;
use proto::error::{Code, WireError};
use proto::mrc::{Create, FileCredentials, OpenReply, kind};
use rt::rpc::{Request, Response, parse};

use crate::command::{self, Body, CreateDone};
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let mut ask = parse::<Create>(&request)?;
    mrc.lead(request.deadline).await?;
    let (session, volume, write) = (ask.make.head.session, ask.make.head.volume, ask.write);
    let origin = ask.make.origin;
    mrc.leader().require_session(session)?;
    ask.make.mode = kind::FILE << 12 | ask.make.mode & 0o7777;
    let layout = mrc.place(volume)?;
    let signer = mrc.signer()?;
    let body = Body::Create(command::Create { request: ask, layout });
    let bytes = mrc.propose(origin, body, request.deadline).await?;
    let done = CreateDone::decode(bytes)
        .map_err(|error| WireError::new(Code::Internal, format!("unreadable answer to Create: {error}")))?;
    let file = (volume, done.attr.ino);
    mrc.leader().count_created(session, file, write, origin)?;
    let capability = signer.capability(file, session, write, done.layout.view);
    let credentials = FileCredentials { capability, layout: done.layout };
    Ok(Response::of(&OpenReply { attr: done.attr, credentials, created: done.created, leases: Vec::new() }))
}
