//! The leader removes the objects of freed files at their OSDs, then the garbage rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use proto::capability::REMOVE;
use proto::dir::{OsdMap, OsdState};
use proto::error::{Code, WireError};
use proto::id::OsdId;
use proto::osd::{RemoveMany, RemoveManyRequest, RemoveRequest};
use proto::rpc::Origin;
use rt::rpc::{CallOptions, call_with};

use crate::command::{Body, Removed};
use crate::engine::sessions::FileId;
use crate::namespace::collect::{self, Garbage};
use crate::service::{Mrc, Signer};

const ROUND: Duration = Duration::from_millis(500);
/// Between rounds while an OSD is down that has something to remove: the others did their part in the first one.
const WHILE_DOWN: Duration = Duration::from_secs(5);
const DEADLINE: Duration = Duration::from_secs(5);
/// Files per round.
const FILES_PER_ROUND: usize = 256;
/// OSDs that are asked at the same time.
const IN_FLIGHT: usize = 16;

/// Runs until the service is gone.
pub(crate) async fn run(mrc: Weak<Mrc>) {
    let mut after = (0, 0);
    let mut pause = ROUND;
    // Nothing was there as of this index. Every look goes through the rows that were removed, until the table has
    // forgotten them: a leader that has nothing to do after a million removals need not do so twice a second.
    let mut empty_at = None;
    loop {
        tokio::time::sleep(pause).await;
        pause = ROUND;
        let Some(mrc) = mrc.upgrade().filter(|mrc| !mrc.stopping()) else { return };
        // At a follower this fails; the leader does the work.
        if mrc.lead(DEADLINE).await.is_err() {
            continue;
        }
        let applied = mrc.applied();
        if empty_at == Some(applied) {
            continue;
        }
        match round(&mrc, &mut after).await {
            Ok(None) => empty_at = Some(applied),
            Ok(Some(next)) => pause = next,
            Err(error) => tracing::debug!(%error, "objects of removed files wait"),
        }
    }
}

/// One round over the garbage table. Gives the pause before the next one; `None`: there is nothing in it.
async fn round(mrc: &Mrc, after: &mut (u64, u64)) -> Result<Option<Duration>, WireError> {
    let from_the_start = *after == (0, 0);
    let files = collect::garbage(mrc.table(), *after, FILES_PER_ROUND)?;
    let full = files.len() == FILES_PER_ROUND;
    *after = files.last().filter(|_| full).map_or((0, 0), |file| (file.volume, file.ino));
    if files.is_empty() {
        return Ok((!from_the_start).then_some(ROUND));
    }
    let (signer, map) = (mrc.signer(0)?, mrc.cluster().map()?);
    let plan = Plan::of(&signer, &map, &files);
    let mut calls = Vec::with_capacity(plan.calls.len());
    for (osd, removals) in &plan.calls {
        calls.push(remove(mrc, &map, *osd, removals));
    }
    let answers: Vec<_> = futures::stream::iter(calls).buffered(IN_FLIGHT).collect().await;
    let pause = match (full, plan.waiting.is_empty()) {
        (true, _) => Duration::ZERO,
        (false, true) => ROUND,
        (false, false) => WHILE_DOWN,
    };
    let mut failed = plan.waiting;
    for ((osd, removals), answer) in plan.calls.iter().zip(answers) {
        match answer {
            Ok(done) => {
                let not_done = removals.iter().zip(done).filter(|(_, done)| !done);
                failed.extend(not_done.map(|(removal, _)| file_of(removal)));
            }
            Err(error) => {
                tracing::debug!(osd, files = removals.len(), %error, "objects are not removed yet");
                failed.extend(removals.iter().map(file_of));
            }
        }
    }
    let mut done: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for file in files.iter().map(|file| (file.volume, file.ino)).filter(|file| !failed.contains(file)) {
        mrc.leader().remember_freed(file);
        done.entry(file.0).or_default().push(file.1);
    }
    for (volume, inos) in done {
        mrc.propose(Origin::default(), Body::Removed(Removed { volume, inos }), DEADLINE).await?;
    }
    Ok(Some(pause))
}

/// Who has to remove what.
#[derive(Default)]
struct Plan {
    /// By OSD.
    calls: BTreeMap<u64, Vec<RemoveRequest>>,
    /// Files with objects at an OSD that is down.
    waiting: BTreeSet<FileId>,
}

impl Plan {
    /// For each file every OSD of its layout that still exists.
    fn of(signer: &Signer, map: &OsdMap, files: &[Garbage]) -> Self {
        let mut plan = Self::default();
        for file in files {
            let capability = signer.with_rights((file.volume, file.ino), 0, REMOVE, &file.layout);
            for osd in file.layout.all_osds() {
                let state = map
                    .osds
                    .iter()
                    .find(|entry| entry.osd == osd.0)
                    .map(|entry| OsdState::try_from(entry.state));
                match state {
                    // An OSD that is out of the cluster for good has taken its objects with it.
                    None | Some(Ok(OsdState::Out)) => {}
                    Some(Ok(OsdState::Down)) => drop(plan.waiting.insert((file.volume, file.ino))),
                    Some(_) => {
                        // No columns: OSDs that were dropped from the lists of a file that lives on.
                        let keep_records = file.layout.columns.is_empty();
                        let removal = RemoveRequest { capability: capability.clone(), keep_records };
                        plan.calls.entry(osd.0).or_default().push(removal);
                    }
                }
            }
        }
        plan
    }
}

fn file_of(removal: &RemoveRequest) -> FileId {
    (removal.capability.volume, removal.capability.ino)
}

/// One call to one OSD: which of the removals it did.
async fn remove(
    mrc: &Mrc,
    map: &OsdMap,
    osd: u64,
    removals: &[RemoveRequest],
) -> Result<Vec<bool>, WireError> {
    let entry = map.osds.iter().find(|entry| entry.osd == osd);
    let entry = entry.ok_or_else(|| WireError::new(Code::Unavailable, format!("{} is gone", OsdId(osd))))?;
    let channel = mrc.connector().channel(&entry.addr)?;
    let request = RemoveManyRequest { removals: removals.to_vec() };
    let options = CallOptions { deadline: DEADLINE, trace: 0 };
    let mut done = call_with::<RemoveMany>(&*channel, &request, Bytes::new(), &options).await?.0.done;
    done.resize(removals.len(), false);
    Ok(done)
}
