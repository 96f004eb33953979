//! Makes a volume's root.

use proto::error::WireError;
use proto::mrc::VolumeInit;
use rt::rpc::{Request, Response, parse};

use crate::command::Body;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<VolumeInit>(&request)?;
    mrc.change(ask.origin, Body::InitVolume(ask), request.deadline).await
}
