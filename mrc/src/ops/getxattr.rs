//! One extended attribute.

use proto::error::WireError;
use proto::mrc::{GetXattr, XattrReply};
use rt::rpc::{Request, Response, parse};

use crate::namespace::xattr;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<GetXattr>(&request)?;
    mrc.read(request.deadline).await?;
    Ok(Response::of(&XattrReply { value: xattr::get(mrc.table(), &ask)? }))
}
