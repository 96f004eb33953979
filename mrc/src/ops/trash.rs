//! The trash: how long it keeps, what is in it, back out of it, gone for good.

use bytes::Bytes;
use proto::error::WireError;
use proto::id::Ino;
use proto::mrc::Head;
use proto::rpc::Origin;
use proto::trash::{TrashKeep, TrashLs, TrashRemove, TrashRequest, TrashRestore};
use rt::rpc::{Request, Response, parse};
use std::time::Duration;

use crate::command::Body;
use crate::engine::leases::{Claim, Claims};
use crate::leasing::claims;
use crate::namespace::access;
use crate::service::Mrc;
use crate::trash;

pub(crate) async fn keep(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<TrashKeep>(&request)?;
    access::require_root(&ask.head, "set how long the trash keeps")?;
    let claims = claims::one(ask.head.volume, Ino::ROOT.0, claims::DIRECTORY);
    let (session, origin) = (ask.head.session, ask.origin);
    let message = mrc.propose_leased(session, origin, claims, Body::TrashKeep(ask), request.deadline).await?;
    Ok(Response { message, payload: Bytes::new() })
}

pub(crate) async fn list(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<TrashLs>(&request)?;
    mrc.read(request.deadline).await?;
    Ok(Response::of(&trash::list(mrc.table(), &ask)?))
}

pub(crate) async fn restore(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<TrashRestore>(&request)?;
    mrc.lead(request.deadline).await?;
    let mut claims = held(mrc, &ask)?;
    // A repeat finds nothing in the trash, and is answered from the record.
    if let Ok((parent, _)) = trash::destination(mrc.table(), &ask) {
        claims = claims.with(Claim::change((ask.head.volume, parent), claims::DIRECTORY));
    }
    let (session, origin) = (ask.head.session, ask.origin);
    let message =
        mrc.propose_leased(session, origin, claims, Body::TrashRestore(ask), request.deadline).await?;
    Ok(Response { message, payload: Bytes::new() })
}

pub(crate) async fn remove(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<TrashRemove>(&request)?;
    mrc.lead(request.deadline).await?;
    let claims = held(mrc, &ask)?;
    let (session, origin) = (ask.head.session, ask.origin);
    let message =
        mrc.propose_leased(session, origin, claims, Body::TrashRemove(ask), request.deadline).await?;
    mrc.leader().wake_keeper();
    Ok(Response { message, payload: Bytes::new() })
}

/// The time of something is over.
pub(crate) async fn expire(
    mrc: &Mrc,
    volume: u64,
    what: (u64, u64),
    deadline: Duration,
) -> Result<(), WireError> {
    let (ino, removed_ms) = what;
    let head = Head { volume, permission_checked: true, ..Head::default() };
    let ask = TrashRequest { head, origin: Origin::default(), ino, removed_ms };
    let claims = held(mrc, &ask)?;
    mrc.propose_leased(0, Origin::default(), claims, Body::TrashRemove(ask), deadline).await.map(|_| ())
}

/// What is taken out of the trash's directory.
fn held(mrc: &Mrc, ask: &TrashRequest) -> Result<Claims, WireError> {
    let volume = ask.head.volume;
    let claims = claims::one(volume, ask.ino, claims::DATA);
    Ok(match trash::is_kept(mrc.table(), volume)? {
        Some(directory) => claims.with(Claim::change((volume, directory), claims::DIRECTORY)),
        None => claims,
    })
}
