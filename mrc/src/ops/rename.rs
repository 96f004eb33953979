//! Moves a name; what it replaces is freed or, when open, orphaned.

use proto::error::{Code, WireError};
use proto::mrc::{RENAME_EXCHANGE, Rename, RenameRequest};
use rt::rpc::{Request, Response, parse};

use crate::command::{Body, Move};
use crate::namespace::entry::Entry;
use crate::namespace::rename;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<Rename>(&request)?;
    mrc.lead(request.deadline).await?;
    let (moved, replaced) = rename::ends(mrc.table(), &ask)?;
    if ask.only_if_no_writer {
        refuse_writers(mrc, &ask, moved)?;
    }
    let replaced = if ask.flags & RENAME_EXCHANGE == 0 { replaced } else { None };
    let freeing = mrc.leader().begin_free(ask.head.volume, replaced);
    let closed = freeing.as_ref().map_or(0, |freeing| freeing.ino());
    mrc.change(ask.origin, Body::Rename(Move { request: ask, closed }), request.deadline).await
}

/// A repeat whose first try moved the file finds no entry, and is answered from the record.
fn refuse_writers(mrc: &Mrc, ask: &RenameRequest, moved: Option<Entry>) -> Result<(), WireError> {
    let Some(moved) = moved else { return Ok(()) };
    let name = String::from_utf8_lossy(&ask.name);
    if mrc.leader().in_grace() {
        return Err(WireError::new(
            Code::WouldBlock,
            format!("{name:?}: who writes it is not known yet after a change of leader; try again"),
        ));
    }
    let writers = mrc.leader().sessions().handles((ask.head.volume, moved.ino)).writing;
    if writers > 0 {
        return Err(WireError::new(
            Code::WouldBlock,
            format!("{name:?} is open for writing {writers} time(s)"),
        ));
    }
    Ok(())
}
