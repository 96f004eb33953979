//! Removes a name of anything but a directory.

use proto::error::WireError;
use proto::mrc::{RemoveEntry, Unlink};
use rt::rpc::{Request, Response, parse};

use crate::command::{self, Body, Remove};
use crate::engine::leases::Claim;
use crate::engine::sessions::Handles;
use crate::leasing::claims;
use crate::namespace::link;
use crate::service::Mrc;
use crate::trash;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<Unlink>(&request)?;
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

async fn once(mrc: &Mrc, ask: &RemoveEntry, request: &Request) -> Result<Response, WireError> {
    let (session, volume) = (ask.head.session, ask.head.volume);
    let victim = link::victim(mrc.table(), volume, ask.parent, &ask.name)?;
    let mut claims = claims::one(volume, ask.parent, claims::DIRECTORY);
    let leasing = mrc.leader().leasing();
    if let Some(entry) = victim {
        let known = entry.ino == ask.victim;
        if known && ask.untold_handles > 0 {
            let handles = Handles { all: ask.untold_handles, writing: 0 };
            let order = (ask.origin.sequence, ask.origin.acked_below);
            mrc.leader().sessions().count_once(session, (volume, entry.ino), handles, order)?;
        }
        // Nobody else and nothing of its own that it may have forgotten: the row need not be read.
        if !leasing.with(|engine, _| engine.is_alone(session) && (known || !engine.takes_part(session))) {
            claims = claims.with(claims::victim(mrc.table(), volume, entry, known)?);
        } else {
            claims = claims.with(Claim::change((volume, entry.ino), claims::DATA));
        }
    }
    let kept = trash::is_kept(mrc.table(), volume)?;
    if let Some(directory) = kept {
        claims = claims.with(Claim::change((volume, directory), claims::DIRECTORY));
    }
    let mut change = leasing.begin_change(session, claims, request.deadline).await?;
    // What goes to the trash is not freed.
    let freeing = mrc.leader().begin_free(volume, victim.filter(|_| kept.is_none()));
    let closed = freeing.as_ref().map_or(0, |freeing| freeing.ino());
    let expected = change.is_watched().then(|| victim.map_or(0, |entry| entry.ino));
    let body = Body::Unlink(Remove { request: ask.clone(), closed, expected });
    let message = change.run(mrc.propose(ask.origin, body, request.deadline)).await?;
    super::forget_freed(mrc, (ask.head.volume, closed), message)
}
