//! The guard of a change: from before its recalls until it is applied.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use proto::error::{Code, WireError};
use proto::mrc::AttrReply;
use proto::rpc::Origin;
use rt::rpc::Response;

use super::read::by_the_way;
use super::{Leasing, in_grace, leadership_lost, not_in_time};
use crate::command::Body;
use crate::engine::leases::{Begun, Claims, Pass, Standing};
use crate::service::Mrc;

/// While this lives, nobody else is given what the change makes untrue.
pub(crate) struct Change {
    leasing: Arc<Leasing>,
    pass: Pass,
    claims: Claims,
    /// Proposed, outcome not known yet.
    proposed: bool,
    changed: bool,
}

impl Change {
    /// Whether others take part, so that the command has to say what it expects to find.
    pub(crate) fn is_watched(&self) -> bool {
        self.pass.ticket().is_some()
    }

    /// Whether it still stands: this member has led all the time since.
    pub(crate) fn is_valid(&self) -> bool {
        self.leasing.with(|engine, _| engine.is_valid(&self.pass))
    }

    /// Until others have returned what stands against it, at most until `deadline`.
    pub(super) async fn wait(&self, deadline: Duration) -> Result<(), WireError> {
        let Some(ticket) = self.pass.ticket() else { return Ok(()) };
        match self.leasing.wait(ticket, deadline).await {
            Some(Standing::Free) => Ok(()),
            Some(_) => Err(leadership_lost()),
            None if self.leasing.with(|engine, _| engine.in_grace()) => Err(in_grace()),
            None => Err(not_in_time(self.claims.iter().next().map_or(0, |claim| claim.file.1))),
        }
    }

    /// Likewise of several that are proposed together.
    pub(crate) async fn run_all<T>(
        changes: &mut [Self],
        propose: impl Future<Output = Result<T, WireError>>,
    ) -> Result<T, WireError> {
        for change in changes.iter_mut() {
            if !change.is_valid() {
                return Err(leadership_lost());
            }
        }
        changes.iter_mut().for_each(|change| change.proposed = true);
        let result = propose.await;
        let is_done = result.is_ok();
        // Of several some may have been done whatever the error says.
        changes.iter_mut().for_each(|change| (change.proposed, change.changed) = (!is_done, is_done));
        result
    }

    /// Proposes the change. When the caller leaves before the answer, the claims stay until the outcome is certain.
    pub(crate) async fn run<T>(
        &mut self,
        propose: impl Future<Output = Result<T, WireError>>,
    ) -> Result<T, WireError> {
        if !self.is_valid() {
            return Err(leadership_lost());
        }
        self.proposed = true;
        let result = propose.await;
        let certain = result.as_ref().err().is_none_or(|error| error.code.has_no_side_effects());
        self.proposed = !certain;
        self.changed = result.is_ok();
        result
    }
}

impl Mrc {
    /// Replicates a change of what `claims` says; gives its reply message's bytes.
    pub(crate) async fn propose_leased(
        &self,
        session: u64,
        origin: Origin,
        claims: Claims,
        body: Body,
        deadline: Duration,
    ) -> Result<Bytes, WireError> {
        self.lead(deadline).await?;
        let mut change = self.leader().leasing().begin_change(session, claims, deadline).await?;
        change.run(self.propose(origin, body, deadline)).await
    }

    /// The same for changes that answer with attributes: adds what the session may keep of them.
    pub(crate) async fn change_leased(
        &self,
        head: (u64, u64),
        origin: Origin,
        claims: Claims,
        body: Body,
        deadline: Duration,
    ) -> Result<Response, WireError> {
        let (session, volume) = head;
        self.lead(deadline).await?;
        let mut change = self.leader().leasing().begin_change(session, claims, deadline).await?;
        let message = change.run(self.propose(origin, body, deadline)).await?;
        if !self.leader().leasing().with(|engine, _| engine.takes_part(session)) {
            return Ok(Response { message, payload: Bytes::new() });
        }
        let reply = AttrReply::decode(message)
            .map_err(|error| WireError::new(Code::Internal, format!("unreadable attributes: {error}")))?;
        let bits = by_the_way(&reply.attr);
        let file = (volume, reply.attr.ino);
        Ok(Response::of(&match self.grant_after(session, file, bits)? {
            Some((attr, grant)) => AttrReply { attr, leases: vec![grant], ..reply },
            None => reply,
        }))
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        if self.proposed {
            self.leasing.linger(self.pass);
        } else {
            self.leasing.with(|engine, now| engine.finish(now, &self.pass, self.changed));
        }
    }
}

/// While this lives, nobody is given the right to write in a volume.
pub(crate) struct Hush {
    leasing: Arc<Leasing>,
    volume: u64,
    generation: u64,
    /// Proposed, outcome not known yet.
    proposed: bool,
}

impl Hush {
    /// Proposes the snapshot. When the caller leaves before the answer, the hush stays until the outcome is certain.
    pub(crate) async fn run<T>(
        &mut self,
        propose: impl Future<Output = Result<T, WireError>>,
    ) -> Result<T, WireError> {
        if !self.leasing.with(|engine, _| engine.is_hushed(self.volume, self.generation)) {
            return Err(leadership_lost());
        }
        self.proposed = true;
        let result = propose.await;
        let certain = result.as_ref().err().is_none_or(|error| error.code.has_no_side_effects());
        self.proposed = !certain;
        result
    }
}

impl Drop for Hush {
    fn drop(&mut self) {
        if self.proposed {
            self.leasing.linger_hush(self.volume, self.generation);
        } else {
            self.leasing.with(|engine, now| engine.unhush(now, self.volume, self.generation));
        }
    }
}

impl Mrc {
    /// From now on nobody is given the right to write in a volume.
    pub(crate) fn hush(&self, volume: u64) -> Hush {
        let leasing = self.leader().leasing().clone();
        let generation = leasing.with(|engine, _| engine.hush(volume));
        Hush { leasing, volume, generation, proposed: false }
    }
}

impl Leasing {
    /// Begins a change without waiting; true: it has to wait.
    pub(super) fn begin(self: &Arc<Self>, session: u64, claims: Claims) -> Result<(Change, bool), WireError> {
        let change = |pass| Change { leasing: self.clone(), pass, claims, proposed: false, changed: false };
        match self.with(|engine, now| engine.begin(now, session, claims)) {
            Begun::Free(pass) => Ok((change(pass), false)),
            Begun::Waits(pass) => Ok((change(pass), true)),
            Begun::Full => Err(WireError::new(Code::Busy, "too many requests wait for leases; try again")),
            Begun::NotLeading => Err(leadership_lost()),
        }
    }

    /// Begins a change of directories in which the session makes names; see [`crate::engine::leases::Leases::begin_as_maker`].
    pub(crate) fn begin_as_maker(
        self: &Arc<Self>,
        session: u64,
        claims: Claims,
    ) -> Result<Change, WireError> {
        match self.with(|engine, _| engine.begin_as_maker(session, claims)) {
            Begun::Free(pass) => {
                Ok(Change { leasing: self.clone(), pass, claims, proposed: false, changed: false })
            }
            _ => Err(leadership_lost()),
        }
    }

    /// Begins a change: when this answers, no other session holds what it makes untrue.
    pub(crate) async fn begin_change(
        self: &Arc<Self>,
        session: u64,
        claims: Claims,
        deadline: Duration,
    ) -> Result<Change, WireError> {
        let (change, waits) = self.begin(session, claims)?;
        if waits {
            change.wait(deadline).await?;
        }
        Ok(change)
    }
}
