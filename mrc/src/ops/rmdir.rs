//! Removes an empty directory.

use proto::error::WireError;
use proto::mrc::{RemoveEntry, RmDir};
use rt::rpc::{Request, Response, parse};

use crate::command::{self, Body, Remove};
use crate::engine::leases::Claim;
use crate::leasing::claims;
use crate::namespace::link;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<RmDir>(&request)?;
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
    let volume = ask.head.volume;
    // A name that cannot be removed (`.`, too long) has no entry; the command refuses it in its own order.
    let victim = link::victim(mrc.table(), volume, ask.parent, &ask.name).unwrap_or_default();
    let mut claims = claims::one(volume, ask.parent, claims::DIRECTORY);
    if let Some(entry) = victim {
        claims = claims.with(Claim::change((volume, entry.ino), claims::DIRECTORY));
    }
    let mut change = mrc.leader().leasing().begin_change(ask.head.session, claims, request.deadline).await?;
    let expected = change.is_watched().then(|| victim.map_or(0, |entry| entry.ino));
    let body = Body::RmDir(Remove { request: ask.clone(), closed: 0, expected });
    let message = change.run(mrc.propose(ask.origin, body, request.deadline)).await?;
    super::forget_freed(mrc, (volume, victim.map_or(0, |entry| entry.ino)), message)
}
