//! Defaults for new files below a directory.

use bytes::Bytes;
use proto::error::WireError;
use proto::layout::{LayoutGet, LayoutSet};
use rt::rpc::{Request, Response, parse};

use crate::command::Body;
use crate::namespace::{inode, layout, volume};
use crate::service::Mrc;

pub(crate) async fn set(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<LayoutSet>(&request)?;
    mrc.lead(request.deadline).await?;
    let message = mrc.propose(ask.origin, Body::SetLayout(ask), request.deadline).await?;
    Ok(Response { message, payload: Bytes::new() })
}

pub(crate) async fn get(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<LayoutGet>(&request)?;
    mrc.read(request.deadline).await?;
    let record = volume::live(mrc.table(), ask.head.volume)?;
    inode::directory(mrc.table(), ask.head.volume, ask.ino)?;
    Ok(Response::of(&layout::default_of(mrc.table(), ask.head.volume, &record, ask.ino)?))
}
