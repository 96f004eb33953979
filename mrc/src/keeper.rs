//! The leader's housekeeping: ends dead sessions, tells fences to OSDs that were down, frees orphans, removes the rows of dropped volumes.

use std::sync::{Arc, Weak};
use std::time::Duration;

use prost::Message;
use proto::error::WireError;
use proto::limits::{CAPABILITY_TTL_MS, SESSION_TTL_MS};
use proto::mrc::kind;
use proto::rpc::Origin;

use crate::changes::trim;
use crate::command::{
    Body, CountOwned, DropDone, DropStep, FoldUsage, SessionEnd, SnapshotSweep, TrimChanges, Which,
};
use crate::leader::Leader;
use crate::namespace::entry::Entry;
use crate::namespace::volume::Volume;
use crate::namespace::{collect, session, volume};
use crate::ops::{self, quota_set::COUNT_STEP};
use crate::quota::count;
use crate::service::Mrc;
use crate::{trash, usage};

const ROUND: Duration = Duration::from_secs(1);
/// A round that comes this late means that the process stood still.
const STALL: Duration = Duration::from_millis(SESSION_TTL_MS / 2);
const DEADLINE: Duration = Duration::from_secs(5);
/// Orphans looked at in one round.
const ORPHANS_PER_ROUND: usize = 1024;
/// Rounds between two looks at the change logs.
const ROUNDS_PER_TRIM: u64 = 10;
/// Steps of cutting a volume's change log in one round.
const TRIM_STEPS_PER_ROUND: usize = 64;
/// Steps of carrying a volume's usage up in one round.
const FOLD_STEPS_PER_ROUND: usize = 16;
/// Steps of counting what a volume's users and groups own in one round.
const COUNT_STEPS_PER_ROUND: usize = 64;
/// Things in the trash whose time is over that go in one round.
const EXPIRED_PER_ROUND: usize = 256;
/// Rows of the past or frozen data that one command looks at.
const SWEEP_ROWS: u32 = 256;
/// Such commands per volume and round.
const SWEEP_STEPS_PER_ROUND: usize = 64;
/// Rows that one command removes of a dropped volume.
const DROP_ROWS: u32 = 512;
/// Such commands per volume and round: the group has other work too.
const DROP_STEPS_PER_ROUND: usize = 64;

/// Rows of fenced sessions are looked at every so many rounds.
const FENCED_ROUNDS: u64 = 64;

/// Runs until the service is gone.
pub(crate) async fn run(mrc: Weak<Mrc>, leader: Arc<Leader>) {
    let mut after = (0, 0);
    let mut last_round: Option<Duration> = None;
    let mut rounds = 0u64;
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
        rounds += 1;
        mrc.publish_counts();
        if rounds.is_multiple_of(FENCED_ROUNDS)
            && let Err(error) = forget_fenced(&mrc).await
        {
            tracing::warn!(%error, "rows of fenced sessions stay a while longer");
        }
        if rounds.is_multiple_of(ROUNDS_PER_TRIM)
            && let Err(error) = trim_changes(&mrc).await
        {
            tracing::warn!(%error, "cutting the change log; the next round goes on");
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
        fence_dead(mrc, session).await?;
        mrc.end_session(session, DEADLINE).await?;
    }
    mrc.tell_fences(None).await?;
    reap(mrc, after).await?;
    for (id, record) in volume::list(mrc.table())? {
        if record.dropping {
            drop_rows(mrc, id).await?;
        } else {
            fold_usage(mrc, id).await?;
            count_owned(mrc, id).await?;
            expire_trash(mrc, id, &record).await?;
            sweep_snapshots(mrc, id).await?;
            if record.coding {
                ops::coding::sweep(mrc, id, DEADLINE).await?;
            }
        }
    }
    Ok(())
}

/// A session that may wake up and write what it held the right for must find itself fenced.
async fn fence_dead(mrc: &Mrc, session: u64) -> Result<(), WireError> {
    let leasing = mrc.leader().leasing();
    let wrote = leasing.with(|engine, _| engine.writes(session))
        || leasing.with(|engine, _| engine.takes_part(session)) && mrc.leader().sessions().writes(session);
    if wrote {
        mrc.raise(session, true).await?;
    }
    Ok(())
}

/// Rows of fenced sessions that ended go when no capability of theirs is valid any more.
async fn forget_fenced(mrc: &Mrc) -> Result<(), WireError> {
    for fenced in session::fenced(mrc.table())? {
        if fenced.ended && mrc.judging_ms() >= fenced.at_ms.saturating_add(CAPABILITY_TTL_MS) {
            let end = Body::SessionEnd(SessionEnd { session: fenced.session });
            mrc.propose(Origin::default(), end, DEADLINE).await?;
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
            mrc.leader().leasing().with(|engine, now| engine.forget(now, (volume, ino)));
        }
    }
    Ok(())
}

async fn fold_usage(mrc: &Mrc, volume: u64) -> Result<(), WireError> {
    for _ in 0..FOLD_STEPS_PER_ROUND {
        if !usage::is_pending(mrc.table(), volume)? {
            return Ok(());
        }
        let step = FoldUsage { volume, limit: usage::FOLDS_PER_STEP };
        mrc.propose(Origin::default(), Body::FoldUsage(step), DEADLINE).await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn count_owned(mrc: &Mrc, id: u64) -> Result<(), WireError> {
    for _ in 0..COUNT_STEPS_PER_ROUND {
        if !volume::find(mrc.table(), id)?.is_some_and(|record| count::is_due(&record)) {
            return Ok(());
        }
        let step = CountOwned { volume: id, limit: COUNT_STEP };
        mrc.propose(Origin::default(), Body::CountOwned(step), DEADLINE).await?;
        tokio::task::yield_now().await;
    }
    mrc.leader().wake_keeper();
    Ok(())
}

/// Rows and data that only removed snapshots needed go.
async fn sweep_snapshots(mrc: &Mrc, id: u64) -> Result<(), WireError> {
    for _ in 0..SWEEP_STEPS_PER_ROUND {
        if !volume::find(mrc.table(), id)?.is_some_and(|record| record.sweeping) {
            return Ok(());
        }
        let step = SnapshotSweep { volume: id, limit: SWEEP_ROWS };
        mrc.propose(Origin::default(), Body::SnapshotSweep(step), DEADLINE).await?;
        tokio::task::yield_now().await;
    }
    mrc.leader().wake_keeper();
    Ok(())
}

/// What was removed longer ago than the volume keeps it goes.
async fn expire_trash(mrc: &Mrc, id: u64, record: &Volume) -> Result<(), WireError> {
    if record.trash_dir == 0 || record.loading {
        return Ok(());
    }
    let due = trash::due(mrc.table(), id, record, mrc.unix_ms(), EXPIRED_PER_ROUND)?;
    let full = due.len() == EXPIRED_PER_ROUND;
    for what in due {
        ops::trash::expire(mrc, id, what, DEADLINE).await?;
    }
    if full {
        mrc.leader().wake_keeper();
    }
    Ok(())
}

async fn trim_changes(mrc: &Mrc) -> Result<(), WireError> {
    for (volume, _) in volume::list(mrc.table())? {
        for _ in 0..TRIM_STEPS_PER_ROUND {
            let Some(upto) = trim::due(mrc.table(), volume, mrc.applied(), mrc.unix_s())? else { break };
            let step = TrimChanges { volume, upto, limit: trim::ROWS_PER_STEP };
            mrc.propose(Origin::default(), Body::TrimChanges(step), DEADLINE).await?;
            tokio::task::yield_now().await;
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
