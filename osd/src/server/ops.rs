//! One function per method: check, act, answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use proto::capability::{Capability, READ, REMOVE, REPLICATE, WRITE};
use proto::checksum::{block_checksum, crc32c};
use proto::error::{Code, WireError};
use proto::id::{Ino, ObjectKey, ObjectNo, VolumeId};
use proto::limits::BLOCK_BYTES;
use proto::osd::{
    self, ColumnOf, ObjectHead, ObjectStat, ReadReply, StatObjectsReply, WriteReply, WriteRequest,
};
use proto::rpc::{Empty, Method};
use rt::rpc::{Request, Response, parse, unknown_method};

use super::{FENCES, Osd};
use crate::engine::throttle::Verb;
use crate::replication::{Asked, Change};
use crate::store::{Committed, ReadOutcome, Stamp};

type Answer = Result<Response, WireError>;

/// Files removed by one request at most.
const REMOVALS_MAX: usize = 1024;
/// Objects told of in one answer at most.
const STAT_OBJECTS_MAX: usize = 1024;

pub(super) async fn dispatch(server: &Arc<Osd>, request: &Request) -> Answer {
    match request.method {
        osd::Write::NUMBER => server.write(parse::<osd::Write>(request)?, request.payload.clone()).await,
        osd::Read::NUMBER => server.read(parse::<osd::Read>(request)?).await,
        osd::ReadReplica::NUMBER => server.read_replica(parse::<osd::ReadReplica>(request)?).await,
        osd::Truncate::NUMBER => server.truncate(parse::<osd::Truncate>(request)?).await,
        osd::Punch::NUMBER => server.punch(parse::<osd::Punch>(request)?).await,
        osd::Sync::NUMBER => server.sync(parse::<osd::Sync>(request)?).await,
        osd::Remove::NUMBER => server.remove(parse::<osd::Remove>(request)?).await,
        osd::RemoveMany::NUMBER => server.remove_many(parse::<osd::RemoveMany>(request)?).await,
        osd::StatObjects::NUMBER => server.stat_objects(parse::<osd::StatObjects>(request)?).await,
        osd::Status::NUMBER => Ok(Response::of(&server.status())),
        osd::Fence::NUMBER => server.fence(parse::<osd::Fence>(request)?).await,
        osd::ListFiles::NUMBER => server.list_files(&parse::<osd::ListFiles>(request)?),
        osd::ApplyReplica::NUMBER => {
            server.apply_replica(parse::<osd::ApplyReplica>(request)?, request.payload.clone()).await
        }
        osd::AskReplica::NUMBER => {
            let ask = parse::<osd::AskReplica>(request)?;
            server.admit(&ask.head.capability, REPLICATE)?;
            Ok(Response::of(&server.replicas.told_state(ask).await?))
        }
        osd::InstallReplica::NUMBER => {
            let install = parse::<osd::InstallReplica>(request)?;
            server.admit(&install.head.capability, REPLICATE)?;
            Ok(Response::of(&server.replicas.install_for(install, request.payload.clone()).await?))
        }
        osd::FetchReplica::NUMBER => {
            let fetch = parse::<osd::FetchReplica>(request)?;
            server.admit(&fetch.head.capability, REPLICATE)?;
            let (copy, data) = server.replicas.fetch_for(fetch).await?;
            Ok(Response::with_payload(&copy, data))
        }
        osd::CompareReplica::NUMBER => {
            let compare = parse::<osd::CompareReplica>(request)?;
            server.admit(&compare.head.capability, REPLICATE)?;
            Ok(Response::of(&server.replicas.compare_for(compare).await?))
        }
        osd::PatchReplica::NUMBER => {
            let patch = parse::<osd::PatchReplica>(request)?;
            server.admit(&patch.head.capability, REPLICATE)?;
            Ok(Response::of(&server.replicas.patch_for(patch, request.payload.clone()).await?))
        }
        osd::FetchDelta::NUMBER => {
            let fetch = parse::<osd::FetchDelta>(request)?;
            server.admit(&fetch.head.capability, REPLICATE)?;
            let (delta, data) = server.replicas.delta_of(fetch).await?;
            Ok(Response::with_payload(&delta, data))
        }
        osd::OrderReplica::NUMBER => {
            let order = parse::<osd::OrderReplica>(request)?;
            server.admit(&order.head.capability, REPLICATE)?;
            Ok(Response::of(&server.replicas.order_for(order).await?))
        }
        osd::Probe::NUMBER => {
            let probe = parse::<osd::Probe>(request)?;
            server.admit(&probe.capability, REPLICATE)?;
            if let Some(slow) = probe.slow {
                server.replicas.told_slow(probe.from, slow);
            }
            Ok(Response::of(&Empty {}))
        }
        osd::MendReplica::NUMBER => {
            let mend = parse::<osd::MendReplica>(request)?;
            server.admit(&mend.capability, REPLICATE)?;
            let (reply, data) = server.replicas.mend_for(mend).await?;
            Ok(Response::with_payload(&reply, data))
        }
        osd::ColumnStatus::NUMBER => {
            let ask = parse::<osd::ColumnStatus>(request)?;
            server.admit(&ask.capability, 0)?;
            server.admission.read().check_epoch(ask.map_epoch)?;
            let asked = server.replicas.of_client(&ask.capability, &ask.of, ask.map_epoch).await?;
            Ok(Response::of(&server.replicas.column_status(&asked).await?))
        }
        osd::Scrub::NUMBER => Ok(Response::of(&server.scrub_for(parse::<osd::Scrub>(request)?)?)),
        other => Err(unknown_method("the OSD", other)),
    }
}

/// What a client does by a method; `None`: it is not one of those that a program waits for.
pub(super) fn verb(method: u16) -> Option<Verb> {
    match method {
        osd::Read::NUMBER | osd::ReadReplica::NUMBER => Some(Verb::Read),
        osd::Write::NUMBER | osd::Punch::NUMBER | osd::Truncate::NUMBER => Some(Verb::Change),
        osd::Sync::NUMBER => Some(Verb::Sync),
        _ => None,
    }
}

fn key_of(head: &ObjectHead) -> ObjectKey {
    let capability = &head.capability;
    ObjectKey { volume: VolumeId(capability.volume), ino: Ino(capability.ino), object: ObjectNo(head.object) }
}

impl Osd {
    /// Checks capability and epoch; gives the object and what to stamp changes with.
    fn admit_object(&self, head: &ObjectHead, need: u32) -> Result<(ObjectKey, Stamp), WireError> {
        self.admit(&head.capability, need)?;
        self.admission.read().check_epoch(head.map_epoch)?;
        Ok((key_of(head), Stamp { epoch: head.map_epoch, view: head.capability.view, version: 0 }))
    }

    /// The column that a request means; `None` for a file with one copy.
    async fn column(
        &self,
        capability: &Capability,
        of: Option<&ColumnOf>,
        map_epoch: u64,
    ) -> Result<Option<Asked>, WireError> {
        match of {
            Some(of) => self.replicas.of_client(capability, of, map_epoch).await.map(Some),
            None if capability.layout == 0 => Ok(None),
            None => Err(WireError::new(
                Code::BadRequest,
                format!("ino-{} is replicated, and the request does not say which column", capability.ino),
            )),
        }
    }

    async fn apply_replica(&self, request: osd::ReplicaApply, payload: Bytes) -> Answer {
        self.admit(&request.head.capability, REPLICATE)?;
        let head = &request.head;
        let (volume, ino) = (VolumeId(head.volume), Ino(head.ino));
        let key = ObjectKey { volume, ino, object: ObjectNo(request.object) };
        if request.kind == osd::ChangeKind::Write as i32 {
            verify_payload(key, (request.offset, &request.checksums, request.crc), &payload)?;
        }
        Ok(Response::of(&self.replicas.apply_for(request, payload).await?))
    }

    async fn write(&self, request: WriteRequest, payload: Bytes) -> Answer {
        let _inside = self.gate.enter();
        let (key, stamp) = self.admit_object(&request.head, WRITE)?;
        verify_payload(key, (request.offset, &request.checksums, request.crc), &payload)?;
        let _turn = self.order.enter(&request.head).await?;
        let bytes = payload.len() as u64;
        let head = &request.head;
        if let Some(asked) = self.column(&head.capability, head.replicas.as_ref(), head.map_epoch).await? {
            let change = Change::Write {
                offset: request.offset,
                data: payload,
                sums: request.checksums,
                crc: request.crc,
                sync: request.sync,
            };
            let version = self.replicas.change_object(&asked, key.object.0, change).await?;
            self.counters.writes.fetch_add(1, Ordering::Relaxed);
            self.counters.written_bytes.fetch_add(bytes, Ordering::Relaxed);
            return Ok(Response::of(&WriteReply { version }));
        }
        let committed = self.store.write(key, request.offset, payload, request.checksums, stamp).await?;
        if request.sync {
            self.store.sync_object(key, committed.seq).await?;
        }
        self.counters.writes.fetch_add(1, Ordering::Relaxed);
        self.counters.written_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(Response::of(&WriteReply { version: committed.version }))
    }

    async fn read(&self, request: osd::ReadRequest) -> Answer {
        let (key, _) = self.admit_object(&request.head, READ)?;
        let head = &request.head;
        let outcome = match self.column(&head.capability, head.replicas.as_ref(), head.map_epoch).await? {
            None if request.check => self.store.read_checked(key, request.offset, request.len).await?,
            None => self.store.read(key, request.offset, request.len).await?,
            Some(asked) => {
                let range = (request.offset, request.len);
                self.replicas.read_object(&asked, key, range, request.check).await?
            }
        };
        let (reply, data) = self.read_reply(outcome);
        Ok(Response::with_payload(&reply, data))
    }

    fn read_reply(&self, outcome: ReadOutcome) -> (ReadReply, Bytes) {
        self.counters.reads.fetch_add(1, Ordering::Relaxed);
        self.counters.read_bytes.fetch_add(outcome.data.len() as u64, Ordering::Relaxed);
        let reply = ReadReply {
            first_block: outcome.first_block,
            checksums: outcome.sums,
            version: outcome.version,
            object_bytes: outcome.length,
            holes: outcome.holes.iter().flat_map(|(first, count)| [*first, *count]).collect(),
        };
        (reply, outcome.data)
    }

    async fn read_replica(&self, request: osd::ReplicaReadRequest) -> Answer {
        let osd::ReplicaReadRequest { read, word_only } = request;
        let (head, capability) = (&read.head, &read.head.capability);
        // Who leads by whose map does not matter: a majority's word counts.
        self.admit(capability, READ)?;
        let key = key_of(head);
        let Some(asked) = self.column(capability, head.replicas.as_ref(), 0).await? else {
            let what = format!("ino-{} has one copy; ask its OSD", capability.ino);
            return Err(WireError::new(Code::BadRequest, what));
        };
        let (word, outcome) = if word_only {
            (self.replicas.word_of(&asked, key)?, None)
        } else {
            let range = (read.offset, read.len);
            let (word, outcome) = self.replicas.read_clean(&asked, key, range, read.check).await?;
            self.counters.replica_reads.fetch_add(1, Ordering::Relaxed);
            (word, Some(outcome))
        };
        let (read, data) = outcome.map(|outcome| self.read_reply(outcome)).unzip();
        let reply = osd::ReplicaReadReply {
            epoch: word.epoch,
            version_epoch: word.version.epoch,
            version_number: word.version.number,
            read,
        };
        Ok(Response::with_payload(&reply, data.unwrap_or_default()))
    }

    async fn truncate(&self, request: osd::TruncateRequest) -> Answer {
        let _inside = self.gate.enter();
        let (key, stamp) = self.admit_object(&request.head, WRITE)?;
        let head = &request.head;
        let _turn = self.order.enter(head).await?;
        if let Some(asked) = self.column(&head.capability, head.replicas.as_ref(), head.map_epoch).await? {
            let version = self.replicas.truncate_column(&asked, key.object.0, request.keep).await?;
            return Ok(Response::of(&WriteReply { version }));
        }
        let committed = self.store.truncate(key, request.keep, stamp).await?;
        self.version_answer(key, committed)
    }

    async fn punch(&self, request: osd::PunchRequest) -> Answer {
        let _inside = self.gate.enter();
        let (key, stamp) = self.admit_object(&request.head, WRITE)?;
        let head = &request.head;
        let _turn = self.order.enter(head).await?;
        if let Some(asked) = self.column(&head.capability, head.replicas.as_ref(), head.map_epoch).await? {
            let change = Change::Punch { offset: request.offset, len: request.len };
            let version = self.replicas.change_object(&asked, key.object.0, change).await?;
            return Ok(Response::of(&WriteReply { version }));
        }
        let committed = self.store.punch(key, request.offset, request.len, stamp).await?;
        self.version_answer(key, committed)
    }

    fn version_answer(&self, key: ObjectKey, committed: Option<Committed>) -> Answer {
        let version = match committed {
            Some(committed) => committed.version,
            None => self.store.version(key)?,
        };
        Ok(Response::of(&WriteReply { version }))
    }

    async fn sync(&self, request: osd::SyncRequest) -> Answer {
        self.admit(&request.capability, 0)?;
        if let Some(of) = &request.replicas {
            self.admission.read().check_epoch(request.map_epoch)?;
            let asked = self.replicas.of_client(&request.capability, of, request.map_epoch).await?;
            self.replicas.sync_column(&asked).await?;
            return Ok(Response::of(&Empty {}));
        }
        self.store.sync_file(VolumeId(request.capability.volume), Ino(request.capability.ino)).await?;
        Ok(Response::of(&Empty {}))
    }

    async fn remove(&self, request: osd::RemoveRequest) -> Answer {
        let _inside = self.gate.enter();
        self.admit(&request.capability, REMOVE)?;
        let capability = &request.capability;
        let stamp = Stamp { epoch: self.map_epoch(), view: capability.view, version: 0 };
        let view = self.store.highest_view(VolumeId(capability.volume), Ino(capability.ino))?;
        if request.keep_records && view > capability.view {
            // A late removal of what was dropped from the lists before: this OSD is in them again.
            tracing::info!(
                ino = capability.ino,
                view,
                asked = capability.view,
                "an outdated removal is ignored"
            );
            return Ok(Response::of(&Empty {}));
        }
        self.replicas.forget_file(capability.volume, capability.ino);
        let (volume, ino) = (VolumeId(capability.volume), Ino(capability.ino));
        if request.keep_records {
            self.store.remove_content(volume, ino, stamp).await?;
        } else {
            self.store.remove(volume, ino, stamp).await?;
        }
        Ok(Response::of(&Empty {}))
    }

    async fn remove_many(&self, request: osd::RemoveManyRequest) -> Answer {
        if request.removals.len() > REMOVALS_MAX {
            let text = format!("{} removals at once; {REMOVALS_MAX} is the limit", request.removals.len());
            return Err(WireError::new(Code::InvalidArgument, text));
        }
        let mut done = Vec::with_capacity(request.removals.len());
        for removal in request.removals {
            let ino = removal.capability.ino;
            let removed = self.remove(removal).await;
            if let Err(error) = &removed {
                tracing::debug!(ino, %error, "the objects of a file were not removed");
            }
            done.push(removed.is_ok());
        }
        Ok(Response::of(&osd::RemovedMany { done }))
    }

    fn list_files(&self, request: &osd::ListFilesRequest) -> Answer {
        self.admit(&request.capability, REMOVE)?;
        let limit = (request.limit as usize).clamp(1, STAT_OBJECTS_MAX);
        let (mut reply, mut after) = (osd::ListFilesReply::default(), Ino(request.after));
        while reply.inos.len() < limit {
            let Some(ino) = self.store.next_file(VolumeId(request.capability.volume), after)? else {
                reply.end = true;
                break;
            };
            reply.inos.push(ino.0);
            after = ino;
        }
        Ok(Response::of(&reply))
    }

    async fn stat_objects(&self, request: osd::StatObjectsRequest) -> Answer {
        let capability = &request.capability;
        self.admit(capability, 0)?;
        let limit = (request.limit as usize).clamp(1, STAT_OBJECTS_MAX);
        let (volume, ino) = (VolumeId(capability.volume), Ino(capability.ino));
        let (found, more) = match &request.replicas {
            None => self.store.list(volume, ino, ObjectNo(request.from_object), limit)?,
            Some(of) => {
                self.admission.read().check_epoch(request.map_epoch)?;
                let asked = self.replicas.of_client(capability, of, request.map_epoch).await?;
                self.replicas.stat_column(&asked, request.from_object, limit).await?
            }
        };
        let objects = found
            .into_iter()
            .map(|(object, record)| ObjectStat {
                object: object.0,
                bytes: record.length,
                version: record.version,
                allocated: record.allocated() * BLOCK_BYTES as u32,
                data: record.data_ranges().into_iter().flat_map(|(offset, len)| [offset, len]).collect(),
                epoch: record.epoch,
            })
            .collect();
        Ok(Response::of(&StatObjectsReply { objects, more }))
    }

    async fn fence(&self, request: osd::FenceRequest) -> Answer {
        self.admit(&request.capability, REMOVE)?;
        if request.capability.ino != 0 {
            return Err(WireError::new(
                Code::PermissionDenied,
                "a fence needs a capability of the whole volume (ino 0)",
            ));
        }
        self.set_fence(&request)?;
        // What was admitted before takes effect before the answer, not after it.
        self.gate.drain().await;
        Ok(Response::of(&Empty {}))
    }

    fn set_fence(&self, request: &osd::FenceRequest) -> Result<(), WireError> {
        let mut admission = self.admission.write();
        if !admission.fence(request.session, request.epoch, self.now_ms()) {
            return Ok(());
        }
        // Written under the lock: two fences must not overtake one another on the way to the file.
        let mut kept = rt::disk::replace(&*self.disk, FENCES, &admission.encode_fences());
        while kept.as_ref().is_err_and(rt::disk::is_full) && self.store.give_up_reserve() {
            kept = rt::disk::replace(&*self.disk, FENCES, &admission.encode_fences());
        }
        kept.map_err(|error| {
            WireError::new(
                Code::Io,
                format!(
                    "the fence of session {:x} holds now but could not be kept: {error}",
                    request.session
                ),
            )
        })
    }
}

/// Compares the payload with the checksums that came with it.
fn verify_payload(
    key: ObjectKey,
    (offset, checksums, crc): (u32, &[u32], u32),
    payload: &[u8],
) -> Result<(), WireError> {
    let damaged = |what: String| {
        WireError::new(
            Code::Corrupt,
            format!(
                "{what} of the write to {}/{}/{} was damaged on the way; send it again",
                key.volume, key.ino, key.object
            ),
        )
    };
    if checksums.is_empty() {
        if crc32c(payload) != crc {
            return Err(damaged("the payload".to_owned()));
        }
        return Ok(());
    }
    let aligned = (offset as usize).is_multiple_of(BLOCK_BYTES);
    if !aligned || checksums.len() != payload.len().div_ceil(BLOCK_BYTES) {
        return Err(WireError::new(
            Code::BadRequest,
            format!(
                "{} block checksums for {} bytes at offset {}: one per block, and only from a block border on",
                checksums.len(),
                payload.len(),
                offset
            ),
        ));
    }
    let first = offset / BLOCK_BYTES as u32;
    for ((block, chunk), sum) in (first..).zip(payload.chunks(BLOCK_BYTES)).zip(checksums) {
        if block_checksum(key, block, chunk) != *sum {
            return Err(damaged(format!("block {block}")));
        }
    }
    Ok(())
}
