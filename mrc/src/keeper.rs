//! The leader's housekeeping: ends dead sessions, frees orphans, removes the rows of dropped volumes.

use std::sync::{Arc, Weak};
use std::time::Duration;

use prost::Message;
use proto::error::WireError;
use proto::limits::SESSION_TTL_MS;
use proto::mrc::kind;
use proto::rpc::Origin;

use crate::command::{Body, DropDone, DropStep, Which};
use crate::leader::Leader;
use crate::namespace::entry::Entry;
use crate::namespace::{collect, volume};
use crate::service::Mrc;

const ROUND: Duration = Duration::from_secs(1);
/// A round that comes this late means that the process stood still.
const STALL: Duration = Duration::from_millis(SESSION_TTL_MS / 2);
const DEADLINE: Duration = Duration::from_secs(5);
/// Orphans looked at in one round.
const ORPHANS_PER_ROUND: usize = 1024;
/// Rows that one command removes of a dropped volume.
const DROP_ROWS: u32 = 512;
/// Such commands per volume and round: the group has other work too.
const DROP_STEPS_PER_ROUND: usize = 64;

/// Runs until the service is gone.
pub(crate) async fn run(mrc: Weak<Mrc>, leader: Arc<Leader>) {
    let mut after = (0, 0);
    let mut last_round: Option<Duration> = None;
    loop {
        // Whether woken or not, there is a round.
        let _ = tokio::time::timeout(ROUND, leader.keeper_woken()).await;
        let Some(mrc) = mrc.upgrade().filter(|mrc| !mrc.stopping()) else { return };
        let now = mrc.now();
        if last_round.replace(now).is_some_and(|last| now.saturating_sub(last) > STALL) {
            tracing::warn!("this MRC stood still for a while; its clients get their full time to come back");
            leader.sessions().forgive(now);
        }
        // At a follower this fails; the leader does the work.
        if mrc.lead(DEADLINE).await.is_err() {
            continue;
        }
        if let Err(error) = round(&mrc, &mut after).await {
            tracing::warn!(%error, "metadata housekeeping stopped half-way; the next round goes on");
        }
    }
}

async fn round(mrc: &Mrc, after: &mut (u64, u64)) -> Result<(), WireError> {
    let now = mrc.now();
    let expired = mrc.leader().sessions().expired(now);
    for session in expired {
        tracing::info!(session = format!("{session:016x}"), "session ended: no sign of life");
        mrc.end_session(session, DEADLINE).await?;
    }
    reap(mrc, after).await?;
    for (id, record) in volume::list(mrc.table())? {
        if record.dropping {
            drop_rows(mrc, id).await?;
        }
    }
    Ok(())
}

async fn reap(mrc: &Mrc, after: &mut (u64, u64)) -> Result<(), WireError> {
    if mrc.leader().in_grace() {
        return Ok(());
    }
    let orphans = collect::orphans(mrc.table(), *after, ORPHANS_PER_ROUND)?;
    *after =
        if orphans.len() < ORPHANS_PER_ROUND { (0, 0) } else { orphans.last().copied().unwrap_or_default() };
    for (volume, ino) in orphans {
        let entry = Entry { ino, kind: kind::FILE, cookie: 0 };
        if let Some(_freeing) = mrc.leader().begin_free(volume, Some(entry)) {
            mrc.propose(Origin::default(), Body::Reap(Which { volume, ino }), DEADLINE).await?;
        }
    }
    Ok(())
}

async fn drop_rows(mrc: &Mrc, volume: u64) -> Result<(), WireError> {
    for _ in 0..DROP_STEPS_PER_ROUND {
        let step = Body::DropStep(DropStep { volume, limit: DROP_ROWS });
        let answer = mrc.propose(Origin::default(), step, DEADLINE).await?;
        if DropDone::decode(answer).is_ok_and(|done| done.finished) {
            tracing::info!(volume, "the metadata of a dropped volume is removed");
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
    mrc.leader().wake_keeper();
    Ok(())
}
