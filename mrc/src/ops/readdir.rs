//! Lists a directory: one range scan, with attributes one point get more per entry.

use proto::error::WireError;
use proto::mrc::ReadDir;
use rt::rpc::{Request, Response, parse};

use crate::namespace::read;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<ReadDir>(&request)?;
    mrc.read(request.deadline).await?;
    Ok(Response::of(&read::readdir(mrc.table(), &ask)?))
}
