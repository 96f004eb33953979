//! Replica lists: set, complete, list.

use proto::error::WireError;
use proto::mrc::{CompleteReplicas, ListReplicas, SetReplicas};
use rt::rpc::{Request, Response, parse};

use crate::command::Body;
use crate::namespace::replicas;
use crate::service::Mrc;

pub(crate) async fn set(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<SetReplicas>(&request)?;
    mrc.change(ask.origin, Body::SetReplicas(ask), request.deadline).await
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
