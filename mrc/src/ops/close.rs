//! Closes handles; the last close of an unlinked file wakes the reaper.

use proto::error::WireError;
use proto::mrc::{Close, CloseMany, CloseManyRequest, ClosedHandle};
use proto::rpc::Empty;
use rt::rpc::{Request, Response, parse};

use crate::namespace::collect;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<Close>(&request)?;
    let closed = vec![ClosedHandle { ino: ask.ino, write: ask.write }];
    close(mrc, CloseManyRequest { head: ask.head, closed }, &request).await
}

pub(crate) async fn serve_many(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<CloseMany>(&request)?;
    close(mrc, ask, &request).await
}

async fn close(mrc: &Mrc, ask: CloseManyRequest, request: &Request) -> Result<Response, WireError> {
    mrc.lead(request.deadline).await?;
    let (session, volume) = (ask.head.session, ask.head.volume);
    for ClosedHandle { ino, write } in ask.closed {
        let last = mrc.leader().sessions().close_file(session, (volume, ino), write);
        if last && collect::is_orphan(mrc.table(), volume, ino)? {
            mrc.leader().wake_keeper();
        }
    }
    Ok(Response::of(&Empty {}))
}
