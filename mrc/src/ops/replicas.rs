//! Replica lists: set, demote, complete, list.

use proto::error::WireError;
use proto::mrc::{CompleteReplicas, DemoteReplicas, Head, ListReplicas, SetReplicas, SetReplicasRequest};
use rt::rpc::{Request, Response, parse};

use crate::command::Body;
use crate::engine::voters;
use crate::namespace::replicas;
use crate::service::Mrc;

pub(crate) async fn set(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<SetReplicas>(&request)?;
    mrc.change(ask.origin, Body::SetReplicas(ask), request.deadline).await
}

/// Voters that are down by the OSD map become learners. Anybody may ask: who is up keeps its vote whatever is asked.
pub(crate) async fn demote(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<DemoteReplicas>(&request)?;
    mrc.read(request.deadline).await?;
    let layout = replicas::layout_of(mrc.table(), ask.head.volume, ask.ino)?;
    let (ino, view, origin) = (ask.ino, ask.view, ask.origin);
    let learners = voters::without_down(&*mrc.cluster().map()?, ino, &layout)?;
    // Of nobody: the owner did not ask for it.
    let head = Head { volume: ask.head.volume, ..Head::default() };
    let change = SetReplicasRequest { head, origin, ino, view, columns: layout.columns, learners };
    mrc.change(change.origin, Body::SetReplicas(change), request.deadline).await
}

pub(crate) async fn complete(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<CompleteReplicas>(&request)?;
    mrc.change(ask.origin, Body::CompleteReplicas(ask), request.deadline).await
}

pub(crate) async fn list(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<ListReplicas>(&request)?;
    mrc.read(request.deadline).await?;
    Ok(Response::of(&replicas::page(mrc.table(), &ask)?))
}
