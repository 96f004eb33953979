//! Starts the removal of a volume; the keeper removes its rows in steps.

use proto::error::WireError;
use proto::mrc::VolumeDrop;
use rt::rpc::{Request, Response, parse};

use crate::command::Body;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<VolumeDrop>(&request)?;
    let response = mrc.change(ask.origin, Body::DropVolume(ask), request.deadline).await?;
    mrc.leader().wake_keeper();
    Ok(response)
}
