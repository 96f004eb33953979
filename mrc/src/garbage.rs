//! The leader removes the objects of freed files at their OSDs, then the garbage rows.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use proto::capability::REMOVE;
use proto::dir::{OsdMap, OsdState};
use proto::error::{Code, WireError};
use proto::id::OsdId;
use proto::osd::{Remove, RemoveRequest};
use proto::rpc::Origin;
use rt::rpc::{CallOptions, call_with};

use crate::command::{Body, Removed};
use crate::namespace::collect::{self, Garbage};
use crate::service::{Mrc, Signer};

const ROUND: Duration = Duration::from_millis(500);
const DEADLINE: Duration = Duration::from_secs(5);
/// Files per round.
const FILES_PER_ROUND: usize = 256;
/// Files whose objects are being removed at the same time.
const IN_FLIGHT: usize = 16;

/// Runs until the service is gone.
pub(crate) async fn run(mrc: Weak<Mrc>) {
    let mut after = (0, 0);
    let mut more = false;
    loop {
        if !more {
            tokio::time::sleep(ROUND).await;
        }
        more = false;
        let Some(mrc) = mrc.upgrade().filter(|mrc| !mrc.stopping()) else { return };
        // At a follower this fails; the leader does the work.
        if mrc.lead(DEADLINE).await.is_err() {
            continue;
        }
        match round(&mrc, &mut after).await {
            Ok(full) => more = full,
            Err(error) => tracing::debug!(%error, "objects of removed files wait"),
        }
    }
}

/// One round over the garbage table. True when there is more behind it.
async fn round(mrc: &Mrc, after: &mut (u64, u64)) -> Result<bool, WireError> {
    let files = collect::garbage(mrc.table(), *after, FILES_PER_ROUND)?;
    let full = files.len() == FILES_PER_ROUND;
    *after = files.last().filter(|_| full).map_or((0, 0), |file| (file.volume, file.ino));
    if files.is_empty() {
        return Ok(false);
    }
    let (signer, map) = (mrc.signer(0)?, mrc.cluster().map()?);
    let mut removals = Vec::with_capacity(files.len());
    for file in &files {
        removals.push(remove(mrc, &signer, &map, file));
    }
    let results: Vec<_> = futures::stream::iter(removals).buffered(IN_FLIGHT).collect().await;
    let mut done: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (file, result) in files.iter().zip(results) {
        match result {
            Ok(()) => {
                mrc.leader().remember_freed((file.volume, file.ino));
                done.entry(file.volume).or_default().push(file.ino);
            }
            Err(error) => {
                tracing::debug!(volume = file.volume, ino = file.ino, %error, "objects are not removed yet")
            }
        }
    }
    for (volume, inos) in done {
        mrc.propose(Origin::default(), Body::Removed(Removed { volume, inos }), DEADLINE).await?;
    }
    Ok(full)
}

/// Removes a file's objects at every OSD of its layout that still exists.
async fn remove(mrc: &Mrc, signer: &Signer, map: &OsdMap, file: &Garbage) -> Result<(), WireError> {
    let capability = signer.with_rights((file.volume, file.ino), 0, REMOVE, &file.layout);
    for osd in file.layout.all_osds() {
        // An OSD that is out of the cluster for good has taken its objects with it.
        let Some(entry) = map.osds.iter().find(|entry| entry.osd == osd.0) else { continue };
        match OsdState::try_from(entry.state) {
            Ok(OsdState::Out) => continue,
            Ok(OsdState::Down) => {
                return Err(WireError::new(
                    Code::Unavailable,
                    format!("{} at {} is down", OsdId(osd.0), entry.addr),
                ));
            }
            _ => {}
        }
        let channel = mrc.connector().channel(&entry.addr)?;
        // No columns: OSDs that were dropped from the lists of a file that lives on.
        let keep_records = file.layout.columns.is_empty();
        let request = RemoveRequest { capability: capability.clone(), keep_records };
        let options = CallOptions { deadline: DEADLINE, trace: 0 };
        call_with::<Remove>(&*channel, &request, Bytes::new(), &options).await?;
    }
    Ok(())
}
