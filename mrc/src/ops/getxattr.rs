//! One extended attribute.

use proto::error::WireError;
use proto::mrc::{GetXattr, XattrReply};
use rt::rpc::{Request, Response, parse};

use crate::namespace::xattr;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<GetXattr>(&request)?;
    if ask.head.snapshot != 0 {
        return super::past::getxattr(mrc, &ask, &request).await;
    }
    mrc.read(request.deadline).await?;
    Ok(Response::of(&XattrReply { value: xattr::get(mrc.table(), &ask)? }))
}
