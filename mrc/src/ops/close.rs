//! Closes a handle; the last close of an unlinked file wakes the reaper.

use proto::error::WireError;
use proto::mrc::Close;
use proto::rpc::Empty;
use rt::rpc::{Request, Response, parse};

use crate::namespace::collect;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<Close>(&request)?;
    mrc.lead(request.deadline).await?;
    let file = (ask.head.volume, ask.ino);
    let last = mrc.leader().sessions().close_file(ask.head.session, file, ask.write);
    if last && collect::is_orphan(mrc.table(), ask.head.volume, ask.ino)? {
        mrc.leader().wake_keeper();
    }
    Ok(Response::of(&Empty {}))
}
