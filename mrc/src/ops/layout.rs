//! Layout and users of a file.

use proto::error::WireError;
use proto::mrc::{GetLayout, LayoutReply};
use rt::rpc::{Request, Response, parse};

use crate::namespace::inode;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<GetLayout>(&request)?;
    if ask.head.snapshot != 0 {
        return super::past::layout(mrc, &ask, &request).await;
    }
    mrc.lead(request.deadline).await?;
    let inode = inode::get_any(mrc.table(), ask.head.volume, ask.ino)?;
    let layout = match inode.top() == inode.attr.ino {
        true => inode.layout()?,
        false => inode::get_any(mrc.table(), ask.head.volume, inode.top())?.layout()?,
    };
    let handles = mrc.leader().sessions().handles((ask.head.volume, ask.ino));
    Ok(Response::of(&LayoutReply {
        layout,
        attr: inode.attr,
        open_handles: handles.all,
        open_writers: handles.writing,
    }))
}
