//! Quotas of a volume and what is used of them.

use proto::error::WireError;
use proto::quota::QuotaLs;
use rt::rpc::{Request, Response, parse};

use crate::quota::list;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<QuotaLs>(&request)?;
    mrc.read(request.deadline).await?;
    Ok(Response::of(&list::list(mrc.table(), &ask)?))
}
