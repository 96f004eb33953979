//! Files that a session has made under its leases of their directories: one command each, replicated together. See
//! `docs/protocols/async-create.md`.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::try_join_all;
use prost::Message;
use proto::error::{Code, WireError};
use proto::mrc::{
    CREATES_MAX, CreateMany, CreateManyReply, CreatedFile, CreatedReply, Head, LEASE_WRITE, LeaseGrant,
    RESERVE_MAX, may_be_told_again,
};
use proto::rpc::Origin;
use rt::rpc::{Request, Response, parse};

use super::create::{Made, rights};
use crate::command::{Body, CreateAs, CreateDone, InosReserved, ReserveInos};
use crate::engine::leases::{Claim, Claims};
use crate::leasing::read::Reading;
use crate::leasing::{Change, claims};
use crate::service::{Mrc, Signer};

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<CreateMany>(&request)?;
    if ask.files.len() > CREATES_MAX || ask.reserve > RESERVE_MAX {
        let text = format!("at most {CREATES_MAX} files and {RESERVE_MAX} numbers in one call");
        return Err(WireError::new(Code::InvalidArgument, text));
    }
    mrc.lead(request.deadline).await?;
    let (head, session) = (&ask.head, ask.head.session);
    mrc.leader().require_session(session)?;
    let mut reply = CreateManyReply::default();
    if !ask.files.is_empty() {
        let signer = mrc.signer(session)?;
        let directories: BTreeSet<u64> = ask.files.iter().map(|file| file.parent).collect();
        let mut announced = announce(mrc, head, &directories)?;
        let each = ask.files.iter().map(|file| one(mrc, &signer, head, file, request.deadline));
        for (made, leases) in Change::run_all(&mut announced, try_join_all(each)).await? {
            reply.files.push(made);
            reply.leases.extend(leases);
        }
    }
    if ask.reserve > 0 {
        let body = Body::ReserveInos(ReserveInos { volume: head.volume, count: ask.reserve });
        let bytes = mrc.propose(Origin::default(), body, request.deadline).await?;
        reply.first = InosReserved::decode(bytes).map_err(unreadable)?.first;
    }
    Ok(Response::of(&reply))
}

fn unreadable(error: prost::DecodeError) -> WireError {
    WireError::new(Code::Internal, format!("unreadable answer to CreateMany: {error}"))
}

/// Changes of the directories begin. Nobody else holds anything that stands against them, so nobody is waited for, not even those
/// who have yet to come back after a change of leader.
fn announce(mrc: &Mrc, head: &Head, directories: &BTreeSet<u64>) -> Result<Vec<Change>, WireError> {
    let all: Vec<u64> = directories.iter().copied().collect();
    let mut begun = Vec::with_capacity(all.len() / Claims::MAX + 1);
    for some in all.chunks(Claims::MAX) {
        let claims = some.iter().fold(Claims::default(), |claims, ino| {
            claims.with(Claim::change((head.volume, *ino), claims::DIRECTORY))
        });
        begun.push(mrc.leader().leasing().begin_as_maker(head.session, claims)?);
    }
    Ok(begun)
}

/// Makes one. An error: nobody knows whether it was made, the whole call is to be repeated.
async fn one(
    mrc: &Mrc,
    signer: &Signer,
    head: &Head,
    file: &CreatedFile,
    deadline: Duration,
) -> Result<(CreatedReply, Vec<LeaseGrant>), WireError> {
    match make(mrc, head, file, deadline).await {
        Ok(done) => {
            let reading = Reading { head, directory: None, deadline };
            let Made { attr, credentials, leases } = rights(mrc, signer, reading, done, true).await?;
            let (attr, credentials) = (Some(attr), Some(credentials));
            Ok((CreatedReply { attr, credentials, refused: None }, leases))
        }
        Err(error) if may_be_told_again(error.code) => Err(error),
        Err(error) => {
            Ok((CreatedReply { refused: Some(error.into()), ..CreatedReply::default() }, Vec::new()))
        }
    }
}

async fn make(
    mrc: &Mrc,
    head: &Head,
    file: &CreatedFile,
    deadline: Duration,
) -> Result<CreateDone, WireError> {
    let directory = (head.volume, file.parent);
    let held = mrc.leader().leasing().with(|engine, _| engine.held(head.session, directory));
    if held & LEASE_WRITE == 0 {
        let text = format!("ino-{}: the session has lost the right to make names in it", file.parent);
        return Err(WireError::new(Code::CapabilityExpired, text));
    }
    let layout = mrc.place_promised(head.volume, file.parent)?;
    let create = CreateAs { head: head.clone(), file: file.clone(), layout };
    let mut done = mrc.propose(file.origin, Body::CreateAs(create.clone()), deadline).await;
    if done.as_ref().is_err_and(|error| error.code == Code::BadRequest) {
        // Its answer is not kept any more; the number tells as well whether it was made.
        done = mrc.propose(Origin::default(), Body::CreateAs(create), deadline).await;
    }
    CreateDone::decode(done?).map_err(unreadable)
}
