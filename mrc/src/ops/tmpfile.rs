//! Makes a file without a name and opens it.

use prost::Message;
use proto::error::{Code, WireError};
use proto::mrc::{FileCredentials, OpenReply, TmpFile};
use rt::rpc::{Request, Response, parse};

use crate::command::{self, Body, CreateDone};
use crate::namespace::{inode, volume};
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<TmpFile>(&request)?;
    mrc.lead(request.deadline).await?;
    let (session, id, write) = (ask.make.head.session, ask.make.head.volume, ask.write);
    let origin = ask.make.origin;
    mrc.leader().require_session(session)?;
    let layout = mrc.place(id, ask.make.parent)?;
    let signer = mrc.signer(session)?;
    let _not_collected = mrc.leader().begin_nameless(id, volume::live(mrc.table(), id)?.next_ino);
    let body = Body::TmpFile(command::Create { request: ask, layout, must_exist: false });
    let bytes = mrc.propose(origin, body, request.deadline).await?;
    let done = CreateDone::decode(bytes)
        .map_err(|error| WireError::new(Code::Internal, format!("unreadable answer to TmpFile: {error}")))?;
    let file = (id, done.attr.ino);
    mrc.leader().count_created(session, file, write, origin)?;
    // A repeat after its session was away for long: nobody had it open meanwhile.
    inode::get(mrc.table(), id, done.attr.ino).inspect_err(|_| {
        mrc.leader().sessions().close_file(session, file, write);
    })?;
    let capability = signer.capability(file, session, write, &done.layout);
    let credentials = FileCredentials { capability, layout: done.layout, ..FileCredentials::default() };
    let room = if write { super::create::room_of(mrc, file)? } else { None };
    Ok(Response::of(&OpenReply { attr: done.attr, credentials, created: true, room, ..OpenReply::default() }))
}
