//! Damaged blocks made good: any replica that has the same version of the object has the same bytes. It is asked
//! without knowing the file's layout, so that a scrub can mend what no client has touched since the start.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::error::{Code, WireError};
use proto::id::{Ino, ObjectKey, ObjectNo, VolumeId};
use proto::limits::BLOCK_BYTES;
use proto::osd::{MendReplica, MendReply, MendRequest};

use super::Replicas;
use crate::store::StoreError;

/// Blocks asked for in one question: 1 MiB.
const BLOCKS_AT_ONCE: usize = 256;
/// One OSD may take so long to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// What could not be mended is tried again after this.
const AGAIN: Duration = Duration::from_secs(5);

impl Replicas {
    /// Compares all blocks of an object with their checksums and gets those that do not match from other OSDs. True
    /// when nothing damaged is left.
    pub(crate) async fn mend(&self, key: ObjectKey) -> Result<bool, StoreError> {
        let bad = self.store.examine(key).await?;
        if bad.is_empty() {
            return Ok(true);
        }
        let version = self.store.stamp_of(key)?;
        for (osd, addr) in self.others(key) {
            for blocks in bad.chunks(BLOCKS_AT_ONCE) {
                match self.ask_for_blocks(&addr, key, version, blocks).await {
                    Ok(Some(data)) => drop(self.store.mend(key, version, blocks, &data)?),
                    Ok(None) => break,
                    Err(error) => {
                        tracing::debug!(osd, %error, "an OSD could not give blocks to mend with");
                        break;
                    }
                }
            }
            if !self.store.is_damaged(key) {
                return Ok(true);
            }
        }
        Ok(!self.store.is_damaged(key))
    }

    /// Who may have the object: first those of its column's list, if it is in memory.
    fn others(&self, key: ObjectKey) -> Vec<(u64, String)> {
        let known = self.known();
        let of_file = (key.volume.0, key.ino.0, 0)..=(key.volume.0, key.ino.0, u32::MAX);
        let listed: BTreeSet<u64> = self
            .columns
            .lock()
            .range(of_file)
            .flat_map(|(_, cell)| cell.shape().lists.list.clone())
            .collect();
        let entries = known.map.osds.iter().filter(|entry| entry.osd != known.me && entry.serves());
        let mut others: Vec<(u64, String)> = entries.map(|entry| (entry.osd, entry.addr.clone())).collect();
        others.sort_by_key(|(osd, _)| (!listed.contains(osd), *osd));
        others
    }

    async fn ask_for_blocks(
        &self,
        addr: &str,
        key: ObjectKey,
        (epoch, number): (u64, u64),
        blocks: &[u32],
    ) -> Result<Option<Bytes>, WireError> {
        let request = MendRequest {
            capability: self.right()?,
            volume: key.volume.0,
            ino: key.ino.0,
            object: key.object.0,
            epoch,
            number,
            blocks: blocks.to_vec(),
        };
        let (reply, data) = self.send::<MendReplica>(addr, &request, Bytes::new(), PATIENCE).await?;
        if reply.found && data.len() != blocks.len() * BLOCK_BYTES {
            return Err(WireError::new(
                Code::Internal,
                "blocks to mend with came in another number than asked",
            ));
        }
        Ok(reply.found.then_some(data))
    }

    /// Another OSD's blocks are damaged.
    pub(crate) async fn mend_for(&self, request: MendRequest) -> Result<(MendReply, Bytes), WireError> {
        if request.blocks.len() > BLOCKS_AT_ONCE {
            return Err(WireError::new(
                Code::BadRequest,
                format!("{} blocks at once: at most {BLOCKS_AT_ONCE}", request.blocks.len()),
            ));
        }
        let (volume, ino) = (VolumeId(request.volume), Ino(request.ino));
        let key = ObjectKey { volume, ino, object: ObjectNo(request.object) };
        let version = (request.epoch, request.number);
        let data = self.store.blocks_of_version(key, version, &request.blocks).await?;
        Ok((MendReply { found: data.is_some() }, data.unwrap_or_default()))
    }

    /// Mends whatever anybody finds damaged, as long as the OSD lives.
    pub(crate) async fn keep_mending(self: Arc<Self>) {
        loop {
            // What is left from before is tried again: an OSD that has it may be back.
            if self.mend_all().await > 0 {
                let _ = tokio::time::timeout(AGAIN, self.store.damaged()).await;
            } else {
                self.store.damaged().await;
            }
        }
    }

    /// Tries to mend everything known to be damaged; gives how many blocks are left.
    pub(crate) async fn mend_all(&self) -> u64 {
        let objects: BTreeSet<ObjectKey> = self.store.damage().into_iter().map(|(key, _)| key).collect();
        for key in objects {
            if let Err(error) = self.mend(key).await {
                tracing::warn!(%error, "damaged blocks could not be mended");
            }
        }
        self.store.damage_count().left
    }

    /// Runs something on the agent's runtime; false when there is none yet.
    pub(crate) fn spawn(&self, task: impl std::future::Future<Output = ()> + Send + 'static) -> bool {
        self.runtime.get().map(|runtime| runtime.spawn(task)).is_some()
    }
}
