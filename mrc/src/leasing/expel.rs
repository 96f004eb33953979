//! Expelling a session: its epoch is raised by a command, then the OSDs are told.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use proto::capability::REMOVE;
use proto::dir::OsdState;
use proto::error::{Code, WireError};
use proto::limits::CAPABILITY_TTL_MS;
use proto::osd::{Fence, FenceRequest};
use proto::rpc::Origin;
use proto::stripe::Layout;
use rt::rpc::{CallOptions, call_with};

use super::Expulsion;
use crate::command::{Body, Removed, SessionRaise, SessionRaised};
use crate::namespace::session;
use crate::service::Mrc;

/// Of one call to an OSD.
const FENCE_DEADLINE: Duration = Duration::from_secs(2);
/// An OSD that does not answer for so long is down soon, or the fence is tried again from the start.
const FENCE_PATIENCE: Duration = Duration::from_secs(10);
const PROPOSE_DEADLINE: Duration = Duration::from_secs(5);
/// Between two rounds of calls.
const FENCE_PAUSE: Duration = Duration::from_millis(100);

impl Mrc {
    /// Raises a session's epoch; when this answers, no write of its old epoch takes effect at an OSD that is up.
    pub(crate) async fn expel(&self, expulsion: Expulsion) -> Result<(), WireError> {
        let id = expulsion.session;
        tracing::info!(
            session = format!("{id:016x}"),
            "session expelled: it did not give back its leases in time"
        );
        let fence = expulsion.wrote || self.leader().sessions().writes(id);
        let epoch = self.raise(id, fence).await?;
        self.leader().leasing().with(|engine, now| engine.expelled(now, id, expulsion.number, epoch));
        Ok(())
    }

    /// Raises the epoch of a session and tells the OSDs if asked.
    pub(crate) async fn raise(&self, id: u64, fence: bool) -> Result<u64, WireError> {
        let body = Body::SessionRaise(SessionRaise { session: id, fence });
        let bytes = self.propose(Origin::default(), body, PROPOSE_DEADLINE).await?;
        let raised = SessionRaised::decode(bytes).map_err(|error| {
            WireError::new(Code::Internal, format!("unreadable answer to a raise: {error}"))
        })?;
        if fence {
            self.fence(id, raised.epoch).await?;
        }
        Ok(raised.epoch)
    }

    /// Tells OSDs that are up of a session's epoch, until all of them have answered.
    pub(crate) async fn fence(&self, id: u64, epoch: u64) -> Result<(), WireError> {
        let until_ms = self.capabilities_end_ms();
        if !self.leader().leasing().fences.lock().add(id, epoch, until_ms) {
            return Err(WireError::new(
                Code::Busy,
                "too many fences wait for OSDs that are down; repair those",
            ));
        }
        let until = self.now() + FENCE_PATIENCE;
        loop {
            self.tell_fences(Some(id)).await?;
            if self.leader().leasing().fences.lock().all_told(id, &self.osds_up()?) {
                return Ok(());
            }
            if self.now() >= until {
                return Err(WireError::new(
                    Code::Unavailable,
                    format!("an OSD that is up does not answer the fence of session {id:016x}"),
                ));
            }
            tokio::time::sleep(FENCE_PAUSE).await;
        }
    }

    fn osds_up(&self) -> Result<Vec<u64>, WireError> {
        let map = self.cluster().map()?;
        let gone = [OsdState::Down as i32, OsdState::Out as i32];
        Ok(map.osds.iter().filter(|osd| !gone.contains(&osd.state)).map(|osd| osd.osd).collect())
    }

    /// Tells the OSDs that are up what they have not heard yet, of one session or of all.
    pub(crate) async fn tell_fences(&self, only: Option<u64>) -> Result<(), WireError> {
        let up = self.osds_up()?;
        let mut untold = self.leader().leasing().fences.lock().untold(self.judging_ms(), &up);
        untold.retain(|(session, ..)| only.is_none_or(|one| one == *session));
        if untold.is_empty() {
            return Ok(());
        }
        // A capability of the whole volume: inode 0.
        let capability = self.signer(0)?.with_rights((0, 0), 0, REMOVE, &Layout::default());
        let map = self.cluster().map()?;
        let calls = untold.iter().filter_map(|(session, epoch, osd)| {
            let addr = map.osds.iter().find(|entry| entry.osd == *osd)?.addr.clone();
            let request = FenceRequest { capability: capability.clone(), session: *session, epoch: *epoch };
            Some(async move {
                let options = CallOptions { deadline: FENCE_DEADLINE, trace: 0 };
                let channel = self.connector().channel(&addr)?;
                call_with::<Fence>(&*channel, &request, Bytes::new(), &options).await?;
                self.leader().leasing().fences.lock().told(*session, *epoch, *osd);
                Ok::<(), WireError>(())
            })
        });
        for result in futures::future::join_all(calls).await {
            if let Err(error) = result {
                tracing::debug!(%error, "a fence waits for an OSD");
            }
        }
        Ok(())
    }

    /// After a change of leader: fences that OSDs may not have heard of.
    pub(crate) fn remember_fences(&self) -> Result<(), WireError> {
        let mut fences = self.leader().leasing().fences.lock();
        for fenced in session::fenced(self.table())? {
            let until_ms = fenced.at_ms.saturating_add(CAPABILITY_TTL_MS);
            if !fences.add(fenced.session, fenced.epoch, until_ms) {
                tracing::error!("more fences than can be kept; the oldest sessions win");
            }
        }
        Ok(())
    }

    /// Everything proposed before is decided when this answers.
    pub(crate) async fn barrier(&self) -> Result<(), WireError> {
        let nothing = Body::Removed(Removed { volume: 0, inos: Vec::new() });
        self.propose(Origin::default(), nothing, PROPOSE_DEADLINE).await.map(drop)
    }
}
