//! Names of extended attributes.

use proto::error::WireError;
use proto::mrc::{ListXattr, XattrNames};
use rt::rpc::{Request, Response, parse};

use crate::namespace::xattr;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<ListXattr>(&request)?;
    if ask.head.snapshot != 0 {
        return super::past::listxattr(mrc, &ask, &request).await;
    }
    mrc.read(request.deadline).await?;
    Ok(Response::of(&XattrNames { names: xattr::list(mrc.table(), &ask.head, ask.ino)? }))
}
