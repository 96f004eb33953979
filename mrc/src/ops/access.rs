//! Permission check.

use proto::error::WireError;
use proto::mrc::Access;
use rt::rpc::{Request, Response, parse};

use crate::namespace::read;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<Access>(&request)?;
    if ask.head.snapshot != 0 {
        return super::past::access(mrc, &ask, &request).await;
    }
    mrc.read(request.deadline).await?;
    read::access(mrc.table(), &ask)?;
    Ok(Response::of(&proto::rpc::Empty {}))
}
