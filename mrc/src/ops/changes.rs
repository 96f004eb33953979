//! Events below a directory: answers at once when there are some, else waits for the bell of applied batches.

use std::time::Duration;

use proto::changes::{Changes, ChangesReply, WAIT_MS_MAX};
use proto::error::WireError;
use rt::rpc::{Request, Response, parse};

use crate::changes::{cursor_after, page};
use crate::service::Mrc;

/// Pages without a match after which the reader is told how far it got.
const PAGES_MAX: usize = 64;
/// What an answer needs to arrive before its caller gives up.
const MARGIN: Duration = Duration::from_millis(200);

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<Changes>(&request)?;
    mrc.read(request.deadline).await?;
    page::permitted(mrc.table(), &ask)?;
    // Read before the rows: what is applied in between is found the next time.
    let Some(mut from) = ask.from else {
        let next = cursor_after(mrc.applied());
        return Ok(Response::of(&ChangesReply { changes: Vec::new(), next }));
    };
    let patience = Duration::from_millis(ask.wait_ms.min(WAIT_MS_MAX));
    let until = mrc.now() + patience.min(request.deadline.saturating_sub(MARGIN));
    let _place = mrc.leader().begin_watch()?;
    let mut pages = 0;
    loop {
        let seen = mrc.applied();
        let page = page::read(mrc.table(), &ask, from, seen)?;
        pages += 1;
        from = page.reply.next;
        let left = until.saturating_sub(mrc.now());
        if !page.reply.changes.is_empty() || pages >= PAGES_MAX || !page.more && left.is_zero() {
            return Ok(Response::of(&page.reply));
        }
        if page.more {
            tokio::task::yield_now().await;
            continue;
        }
        mrc.leader().applied_beyond(seen, left).await;
        // Ends the wait when this member does not lead any more.
        mrc.read(request.deadline).await?;
        pages = 0;
    }
}
