//! Sets or removes a quota, and counts what owners have when it is their first.

use std::time::Duration;

use proto::error::WireError;
use proto::quota::QuotaSet;
use proto::rpc::Origin;
use rt::rpc::{Request, Response, parse};

use crate::command::{Body, CountOwned};
use crate::namespace::{access, volume};
use crate::quota::{count, list};
use crate::service::Mrc;

/// Inodes counted by one command.
pub(crate) const COUNT_STEP: u32 = 4096;
/// The setter of a large volume does not wait for the whole count: the keeper goes on.
const COUNT_PATIENCE: Duration = Duration::from_secs(5);

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<QuotaSet>(&request)?;
    access::require_root(&ask.head, "set quotas")?;
    mrc.lead(request.deadline).await?;
    let (volume, subject) = (ask.head.volume, list::subject(ask.kind, ask.id)?);
    // Names that are made unheard are promised: from now on every one is asked for.
    let mut hush = mrc.hush(volume);
    mrc.quiet_writers(volume, request.deadline).await?;
    let set = hush.run(mrc.change(ask.origin, Body::SetQuota(ask), request.deadline)).await?;
    drop(hush);
    let patience = mrc.now() + COUNT_PATIENCE;
    while volume::find(mrc.table(), volume)?.is_some_and(|record| count::is_due(&record)) {
        if mrc.now() >= patience {
            break;
        }
        let step = Body::CountOwned(CountOwned { volume, limit: COUNT_STEP });
        mrc.propose(Origin::default(), step, request.deadline).await?;
    }
    // A quota that is gone is answered as it was.
    Ok(list::get(mrc.table(), volume, subject)?.map_or(set, |quota| Response::of(&quota)))
}
