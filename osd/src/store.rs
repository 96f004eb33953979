//! The object store: shards over a disk, a metadata table and data areas.
//!
//! Formats, write order and the crash argument: `docs/formats/osd-store.md`.

mod blocks;
mod cache;
mod checkpoint;
mod damage;
pub(crate) mod delta;
mod env;
mod error;
mod files;
mod fold;
mod journal;
mod maintain;
#[cfg(test)]
mod model_test;
mod read;
mod recover;
mod replica;
mod room;
mod scrub;
mod shard;
mod sync;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use proto::checksum::crc32c;
use proto::id::{Ino, ObjectKey, ObjectNo, VolumeId};
use proto::limits::STRIPE_BYTES_MAX;
use rt::disk::Disk;
use rt::table::Table;
use serde::{Deserialize, Serialize};

pub(crate) use blocks::BlockIo;
#[cfg(test)]
pub(crate) use blocks::files::FileBlocks;
pub use damage::DamageCount;
pub use delta::{Delta, Outline};
pub use env::Tuning;
use env::{Budget, Env, Health};
pub use error::{Result, StoreError};
pub(crate) use maintain::{data_file_parts, open_data_files};
pub use read::ReadOutcome;
pub use replica::{Copied, Kept};
pub(crate) use room::give_up_for_opening;
pub(crate) use scrub::{Cursor, ScrubRead};
use shard::Shard;
pub use shard::{Committed, Stamp};
use write::Edit;

use crate::engine::record::ObjectRecord;

const FORMAT: u32 = 1;
const DESCRIPTION: &str = "store.json";
const MACHINE: &str = "machine";
const LOSSES: &str = "losses";

/// What a store is made of.
pub(crate) struct Parts<'a> {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) table: Arc<dyn Table>,
    /// Opens the data area of a shard.
    pub(crate) open_blocks: &'a dyn Fn(u16) -> std::io::Result<Arc<dyn BlockIo>>,
    /// UUID of the OSD; must be the one that the store was made with.
    pub(crate) uuid: String,
    /// Shards of a new store.
    pub(crate) shards: u16,
    /// Blocks that may be used.
    pub(crate) capacity_blocks: u64,
    pub(crate) tuning: Tuning,
    /// Changes when the machine restarts: then unsynced writes may be gone.
    pub(crate) machine: String,
}

/// The file that says what the directory is.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Description {
    format: u32,
    uuid: String,
    shards: u16,
    block_bytes: u32,
}

/// See the module.
pub struct Store {
    env: Arc<Env>,
    shards: Vec<Arc<Shard>>,
    /// order: before any shard's lock.
    checkpointing: tokio::sync::Mutex<()>,
    /// order: before `checkpointing`.
    folding: tokio::sync::Mutex<()>,
    /// Starts after an unclean end of the machine.
    losses: u64,
}

/// One object of a file.
pub type Listed = (ObjectNo, Arc<ObjectRecord>);

/// Space and count of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that may be used.
    pub total_bytes: u64,
    /// Bytes not used of them.
    pub free_bytes: u64,
    /// Objects held.
    pub objects: u64,
}

impl Store {
    /// Opens or makes a store; recovers what a crash left.
    pub(crate) fn open(parts: Parts<'_>) -> Result<Self> {
        let disk_failed = |what: &str, error: std::io::Error| {
            StoreError::opening(&format!("{what} of the OSD failed"), &error)
        };
        let description = describe(&parts)?;
        let machine = rt::disk::read(&*parts.disk, MACHINE)
            .map_err(|error| disk_failed("reading the machine mark", error))?;
        let trust_cache = machine.as_deref() == Some(parts.machine.as_bytes());
        let env = Arc::new(Env {
            disk: parts.disk.clone(),
            table: parts.table,
            room: room::Room::open(
                parts.disk.clone(),
                crate::engine::room::Kept {
                    reserve: parts.tuning.reserve_bytes,
                    floor: parts.tuning.floor_bytes,
                },
            ),
            tuning: parts.tuning,
            budget: Budget::new(parts.capacity_blocks),
            health: Health::default(),
            objects: AtomicU64::new(0),
            pressure: tokio::sync::Notify::new(),
            relieved: tokio::sync::Notify::new(),
            urgent: AtomicBool::new(false),
            fold_stuck: parking_lot::Mutex::default(),
            checkpoint_stuck: parking_lot::Mutex::default(),
            promised: AtomicU64::new(0),
            journalled: AtomicU64::new(0),
            unflushed: AtomicU64::new(0),
            freed_waiting: AtomicU64::new(0),
            damage: damage::Damage::default(),
            checkpoints_started: AtomicU64::new(0),
            checkpoints_finished: AtomicU64::new(0),
        });
        let store = u64::from(crc32c(description.uuid.as_bytes()));
        let mut shards = Vec::new();
        for number in 0..description.shards {
            let blocks =
                (parts.open_blocks)(number).map_err(|error| disk_failed("opening the data files", error))?;
            let state = recover::recover(&env, number, store, &blocks, trust_cache)?;
            shards.push(Shard::new(env.clone(), blocks, state));
        }
        let store = Self {
            env,
            shards,
            checkpointing: tokio::sync::Mutex::new(()),
            folding: tokio::sync::Mutex::new(()),
            losses: replica::count_losses(&*parts.disk, machine.is_some() && !trust_cache)?,
        };
        // What replay freed may only be reused when the table knows; from here on both agree. Without room for that
        // nothing is taken until the first checkpoint was made.
        match futures::executor::block_on(store.checkpoint_in_place()) {
            Err(StoreError::NoSpace(why)) => tracing::warn!("the OSD starts without taking data: {why}"),
            done => done?,
        }
        if !trust_cache {
            rt::disk::replace(&*parts.disk, MACHINE, parts.machine.as_bytes())
                .map_err(|error| disk_failed("writing the machine mark", error))?;
        }
        Ok(store)
    }

    fn shard(&self, key: ObjectKey) -> &Arc<Shard> {
        &self.shards[crc32c(&key.to_bytes()) as usize % self.shards.len()]
    }

    /// Writes `data`; `sums` are the checksums of its blocks when it starts at a block border, else empty.
    pub async fn write(
        &self,
        key: ObjectKey,
        offset: u32,
        data: Bytes,
        sums: Vec<u32>,
        stamp: Stamp,
    ) -> Result<Committed> {
        if data.is_empty() || u64::from(offset) + data.len() as u64 > u64::from(STRIPE_BYTES_MAX) {
            return Err(StoreError::Invalid(format!(
                "a write of {} bytes at {offset}: an object has 1 to {STRIPE_BYTES_MAX} bytes",
                data.len()
            )));
        }
        let edit = Edit::Write { offset, data, sums };
        let committed = self.shard(key).edit(key, stamp, &edit).await?;
        Ok(committed.expect("a write of at least one byte always changes the object"))
    }

    /// Reads `len` bytes at `offset`.
    pub async fn read(&self, key: ObjectKey, offset: u32, len: u32) -> Result<ReadOutcome> {
        if u64::from(offset) + u64::from(len) > u64::from(STRIPE_BYTES_MAX) {
            return Err(StoreError::Invalid(format!(
                "a read of {len} bytes at {offset}: an object has at most {STRIPE_BYTES_MAX} bytes"
            )));
        }
        self.shard(key).read(key, offset, len).await
    }

    /// Makes a hole; `None` when there was nothing.
    pub async fn punch(
        &self,
        key: ObjectKey,
        offset: u32,
        len: u32,
        stamp: Stamp,
    ) -> Result<Option<Committed>> {
        if len == 0 {
            return Ok(None);
        }
        self.shard(key).edit(key, stamp, &Edit::Punch { offset, len }).await
    }

    /// Keeps `keep` bytes of one object.
    pub async fn cut(&self, key: ObjectKey, keep: u32, stamp: Stamp) -> Result<Option<Committed>> {
        self.shard(key).edit(key, stamp, &Edit::Cut { keep }).await
    }

    /// Keeps `keep` bytes of an object and removes all higher objects of its file.
    pub async fn truncate(&self, key: ObjectKey, keep: u32, stamp: Stamp) -> Result<Option<Committed>> {
        let mut committed = None;
        let mut first = Some(key.object);
        if keep > 0 {
            committed = self.shard(key).edit(key, stamp, &Edit::Cut { keep }).await?;
            first = key.object.0.checked_add(1).map(ObjectNo);
        }
        if let Some(first) = first {
            for shard in &self.shards {
                shard.remove_from(key.volume, key.ino, (first, ObjectNo(u64::MAX)), stamp).await?;
            }
        }
        Ok(committed)
    }

    /// Removes all objects of a file.
    pub async fn remove(&self, volume: VolumeId, ino: Ino, stamp: Stamp) -> Result<()> {
        self.remove_up_to(volume, ino, ObjectNo(u64::MAX), stamp).await
    }

    /// Removes all objects of a file but the records of its columns.
    pub async fn remove_content(&self, volume: VolumeId, ino: Ino, stamp: Stamp) -> Result<()> {
        self.remove_up_to(volume, ino, ObjectNo(replica::RECORDS - 1), stamp).await
    }

    async fn remove_up_to(&self, volume: VolumeId, ino: Ino, last: ObjectNo, stamp: Stamp) -> Result<()> {
        for shard in &self.shards {
            shard.remove_from(volume, ino, (ObjectNo(0), last), stamp).await?;
        }
        Ok(())
    }

    /// The version of an object; 0 when there is none.
    pub fn version(&self, key: ObjectKey) -> Result<u64> {
        let shard = self.shard(key);
        let slot = shard.lock().lookup(&self.env, key)?;
        Ok(slot.map_or(0, |record| record.version))
    }

    /// Up to `limit` objects of a file from `first` on, ascending, and whether there are more.
    pub fn list(
        &self,
        volume: VolumeId,
        ino: Ino,
        first: ObjectNo,
        limit: usize,
    ) -> Result<(Vec<Listed>, bool)> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let mut from = Some(ObjectKey { volume, ino, object: first });
            let to = ObjectKey { volume, ino, object: ObjectNo(replica::RECORDS - 1) };
            let mut here = Vec::new();
            while let (Some(key), true) = (from, here.len() <= limit) {
                let (objects, next) = shard.lock().list(&self.env, key, to, limit + 1)?;
                here.extend(objects.into_iter().map(|(key, record)| (key.object, record)));
                from = next;
            }
            found.append(&mut here);
        }
        found.sort_by_key(|(object, _)| *object);
        let more = found.len() > limit;
        found.truncate(limit);
        Ok((found, more))
    }

    /// Everything acknowledged of a file is on the medium when this answers.
    pub async fn sync_file(&self, volume: VolumeId, ino: Ino) -> Result<()> {
        self.env.health.check()?;
        let mut waits = Vec::new();
        for shard in &self.shards {
            let wanted = shard.lock().unsynced_files.get(&(volume, ino)).copied();
            waits.extend(wanted.map(|seq| shard.sync.wait(seq)));
        }
        futures::future::try_join_all(waits).await.map(drop)
    }

    /// Everything up to a change of an object is on the medium when this answers.
    pub async fn sync_object(&self, key: ObjectKey, seq: u64) -> Result<()> {
        self.shard(key).sync.wait(seq).await
    }

    /// Everything acknowledged is on the medium when this answers.
    pub async fn sync_all(&self) -> Result<()> {
        let waits = self.shards.iter().map(|shard| {
            let seq = shard.lock().seq;
            shard.sync.wait(seq)
        });
        futures::future::try_join_all(waits).await.map(drop)
    }

    /// Space and count of objects.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let (limit, used) = (self.env.budget.limit(), self.env.budget.used());
        Usage {
            total_bytes: limit * 4096,
            free_bytes: limit.saturating_sub(used) * 4096,
            objects: self.env.objects.load(Ordering::Relaxed),
        }
    }

    /// Puts everything into the table and ends the sync threads. The store takes nothing more.
    pub async fn close(&self) -> Result<()> {
        let done = self.checkpoint().await;
        if done.is_ok() {
            replica::ended_cleanly(&*self.env.disk, self.losses)?;
        }
        self.env.health.fail("writing", &"the OSD was shut down");
        self.env.relieved.notify_waiters();
        for shard in &self.shards {
            shard.sync.stop();
        }
        done
    }
}

/// Reads the store's description or makes it.
fn describe(parts: &Parts<'_>) -> Result<Description> {
    let failed = |error: std::io::Error| StoreError::opening(&format!("{DESCRIPTION} of the OSD"), &error);
    let wanted =
        Description { format: FORMAT, uuid: parts.uuid.clone(), shards: parts.shards, block_bytes: 4096 };
    let Some(content) = rt::disk::read(&*parts.disk, DESCRIPTION).map_err(failed)? else {
        let content =
            serde_json::to_vec_pretty(&wanted).map_err(|error| failed(std::io::Error::other(error)))?;
        rt::disk::replace(&*parts.disk, DESCRIPTION, &content).map_err(failed)?;
        return Ok(wanted);
    };
    let found: Description = serde_json::from_slice(&content)
        .map_err(|error| StoreError::Corrupt(format!("{DESCRIPTION} of the OSD is unreadable: {error}")))?;
    if found.format != FORMAT || found.block_bytes != 4096 {
        return Err(StoreError::Corrupt(format!(
            "the OSD's store has format {}, this version of xtfs knows {FORMAT}; use the version that made it",
            found.format
        )));
    }
    if found.uuid != parts.uuid {
        return Err(StoreError::Invalid(format!(
            "the directory holds the store of OSD {}, not of {}; check the configured path and UUID",
            found.uuid, parts.uuid
        )));
    }
    Ok(found)
}
