//! Snapshots and clones: the leader quiets who writes, then replicates. See docs/protocols/snapshots.md.

use prost::Message;
use proto::error::{Code, WireError};
use proto::mrc::{LEASE_WRITE, LeaseGrant};
use proto::snapshot::{CloneData, FoldLayers, SnapshotCreate, SnapshotList, SnapshotLs, SnapshotRemove};
use rt::rpc::{Request, Response, parse};

use crate::command::{Body, ThawFile};
use crate::engine::leases::{Claim, Claims};
use crate::engine::sessions::FileId;
use crate::leasing::claims;
use crate::namespace::inode::Inode;
use crate::namespace::{access, inode, layers, snapshot, volume};
use crate::service::Mrc;

pub(crate) async fn create(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<SnapshotCreate>(&request)?;
    mrc.lead(request.deadline).await?;
    let volume = ask.head.volume;
    // Before anybody is disturbed.
    access::require_owner(&inode::directory(mrc.table(), volume, ask.ino)?, &ask.head)?;
    let mut hush = mrc.hush(volume);
    mrc.quiet_writers(volume, request.deadline).await?;
    let message = hush.run(mrc.propose(ask.origin, Body::SnapshotCreate(ask), request.deadline)).await?;
    Ok(Response { message, payload: bytes::Bytes::new() })
}

pub(crate) async fn remove(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<SnapshotRemove>(&request)?;
    mrc.lead(request.deadline).await?;
    let done = mrc.change(ask.origin, Body::SnapshotRemove(ask), request.deadline).await;
    mrc.leader().wake_keeper();
    done
}

pub(crate) async fn list(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<SnapshotLs>(&request)?;
    mrc.read(request.deadline).await?;
    volume::live(mrc.table(), ask.head.volume)?;
    Ok(Response::of(&SnapshotList { snapshots: snapshot::list(mrc.table(), &ask)? }))
}

/// Who writes a file has copied what showed through: nobody sees a difference, so nothing is claimed.
pub(crate) async fn fold(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<FoldLayers>(&request)?;
    mrc.lead(request.deadline).await?;
    mrc.change(ask.origin, Body::FoldLayers(ask), request.deadline).await
}

pub(crate) async fn clone(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<CloneData>(&request)?;
    let (volume, session, origin) = (ask.head.volume, ask.head.session, ask.origin);
    let mut claims =
        Claims::default().with(Claim { own: true, ..Claim::change((volume, ask.to), claims::DATA) });
    if ask.from_snapshot == 0 {
        // Who writes it, the caller too, sends what it has and gets a new top before it writes again.
        claims = claims.with(Claim { own: true, ..Claim::change((volume, ask.from), claims::ATTRIBUTES) });
    }
    mrc.change_leased((session, volume), origin, claims, Body::CloneData(ask), request.deadline).await
}

impl Mrc {
    /// Nobody holds the right to write anything of the volume when this answers; its being given is hushed already.
    pub(super) async fn quiet_writers(
        &self,
        volume: u64,
        deadline: std::time::Duration,
    ) -> Result<(), WireError> {
        let leasing = self.leader().leasing();
        // Leases of a former leader's time are not known before its clients have told them.
        drop(leasing.begin_change(0, Claims::default(), deadline).await?);
        loop {
            let writers = leasing.with(|engine, _| engine.writers(volume, WRITERS_AT_ONCE));
            if writers.is_empty() {
                return Ok(());
            }
            drop(self.silence(0, &writers, deadline).await?);
        }
    }

    /// A session was given the right to write: the file gets data that nothing else shows, if it has none.
    pub(crate) async fn thawed(
        &self,
        file: FileId,
        leases: &[LeaseGrant],
        deadline: std::time::Duration,
    ) -> Result<Option<Inode>, WireError> {
        let writes = leases.iter().any(|grant| grant.ino == file.1 && grant.bits & LEASE_WRITE != 0);
        if writes { self.thaw(file, deadline).await } else { Ok(None) }
    }

    /// Likewise, whether or not leases are given.
    pub(crate) async fn thaw(
        &self,
        file: FileId,
        deadline: std::time::Duration,
    ) -> Result<Option<Inode>, WireError> {
        let Some(record) = volume::find(self.table(), file.0)? else { return Ok(None) };
        if record.snapshots.is_empty() && !record.layered {
            return Ok(None);
        }
        let Some(inode) = inode::find(self.table(), file.0, file.1)? else { return Ok(None) };
        if !layers::needs_thaw(self.table(), file.0, &record, &inode)? {
            return Ok(None);
        }
        self.thaw_now(file, inode, deadline).await
    }

    /// Likewise for somebody who is about to write, which the right to write alone does not say.
    pub(crate) async fn thaw_to_write(
        &self,
        file: FileId,
        deadline: std::time::Duration,
    ) -> Result<Option<Inode>, WireError> {
        let Some(record) = volume::find(self.table(), file.0)? else { return Ok(None) };
        let Some(inode) = inode::find(self.table(), file.0, file.1)? else { return Ok(None) };
        if !layers::needs_thaw_to_write(self.table(), file.0, &record, &inode)? {
            return Ok(None);
        }
        self.thaw_now(file, inode, deadline).await
    }

    async fn thaw_now(
        &self,
        file: FileId,
        inode: Inode,
        deadline: std::time::Duration,
    ) -> Result<Option<Inode>, WireError> {
        let layout = self.place_promoted(file.0, &inode)?;
        let body = Body::Thaw(ThawFile { volume: file.0, ino: file.1, layout });
        let bytes = self.propose(proto::rpc::Origin::default(), body, deadline).await?;
        let reply = proto::mrc::AttrReply::decode(bytes)
            .map_err(|error| WireError::new(Code::Internal, format!("unreadable answer to Thaw: {error}")))?;
        Ok(inode::find(self.table(), file.0, reply.attr.ino)?)
    }
}

/// Files whose writers are quieted together.
const WRITERS_AT_ONCE: usize = 1024;
