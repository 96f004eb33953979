//! Moves a name; what it replaces is freed or, when open, orphaned.

use proto::error::{Code, WireError};
use proto::mrc::{RENAME_EXCHANGE, Rename, RenameRequest};
use rt::rpc::{Request, Response, parse};

use crate::command::{self, Body, Move};
use crate::engine::leases::{Claim, Claims};
use crate::engine::sessions::Handles;
use crate::leasing::claims;
use crate::namespace::entry::Entry;
use crate::namespace::rename;
use crate::service::Mrc;
use crate::trash;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<Rename>(&request)?;
    mrc.lead(request.deadline).await?;
    let mut last = None;
    for _ in 0..super::DECISIONS {
        match once(mrc, &ask, &request).await {
            Err(error) if error.hint == command::MOVED_HINT => last = Some(error),
            result => return result,
        }
    }
    Err(last.expect("the loop ran"))
}

async fn once(mrc: &Mrc, ask: &RenameRequest, request: &Request) -> Result<Response, WireError> {
    let (moved, target) = rename::ends(mrc.table(), ask)?;
    let replaced = if ask.flags & RENAME_EXCHANGE == 0 { target } else { None };
    let mut claims = claims_of(mrc, ask, moved, target)?;
    // What is replaced may go to the trash: then it is not freed.
    let kept = trash::is_kept(mrc.table(), ask.head.volume)?.filter(|_| replaced.is_some());
    if let Some(directory) = kept {
        claims = claims.with(Claim::change((ask.head.volume, directory), claims::DIRECTORY));
    }
    let mut change = mrc.leader().leasing().begin_change(ask.head.session, claims, request.deadline).await?;
    // After the recall: writers that their clients opened by themselves are told with the return.
    if ask.only_if_no_writer {
        refuse_writers(mrc, ask, moved)?;
    }
    mrc.leader().replaces(ask.head.volume, replaced);
    let freeing = mrc.leader().begin_free(ask.head.volume, replaced.filter(|_| kept.is_none()));
    let closed = freeing.as_ref().map_or(0, |freeing| freeing.ino());
    let ino = |entry: Option<Entry>| change.is_watched().then(|| entry.map_or(0, |entry| entry.ino));
    let (expected_moved, expected_replaced) = (ino(moved), ino(target));
    let body = Body::Rename(Move { request: ask.clone(), closed, expected_moved, expected_replaced });
    let message = change.run(mrc.propose(ask.origin, body, request.deadline)).await?;
    super::forget_freed(mrc, (ask.head.volume, closed), message)
}

/// What a rename makes untrue elsewhere; handles that its client tells of are counted.
fn claims_of(
    mrc: &Mrc,
    ask: &RenameRequest,
    moved: Option<Entry>,
    target: Option<Entry>,
) -> Result<Claims, WireError> {
    let (session, volume) = (ask.head.session, ask.head.volume);
    let mut claims = claims::one(volume, ask.parent, claims::DIRECTORY)
        .with(Claim::change((volume, ask.new_parent), claims::DIRECTORY));
    if let Some(entry) = moved {
        // A claim of the spool: writers have to be known, also those that the claiming client opened by itself.
        let writers = Claim { recall: claims::DATA, own: true, tell: true, ..claims::moved(volume, entry) };
        claims = claims.with(if ask.only_if_no_writer { writers } else { claims::moved(volume, entry) });
    }
    let Some(entry) = target else { return Ok(claims) };
    if ask.flags & RENAME_EXCHANGE != 0 {
        return Ok(claims.with(claims::moved(volume, entry)));
    }
    let known = entry.ino == ask.victim;
    if known && ask.untold_handles > 0 {
        let handles = Handles { all: ask.untold_handles, writing: 0 };
        let order = (ask.origin.sequence, ask.origin.acked_below);
        mrc.leader().sessions().count_once(session, (volume, entry.ino), handles, order)?;
    }
    Ok(claims.with(claims::victim(mrc.table(), volume, entry, known)?))
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
