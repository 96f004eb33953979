//! Which files have objects here.

use proto::id::{Ino, ObjectKey, ObjectNo, VolumeId};

use super::Store;
use super::error::Result;

impl Store {
    /// The first file of a volume with a number above `after` that has an object here.
    pub fn next_file(&self, volume: VolumeId, after: Ino) -> Result<Option<Ino>> {
        let Some(first) = after.0.checked_add(1) else { return Ok(None) };
        let start = ObjectKey { volume, ino: Ino(first), object: ObjectNo(0) };
        let last = ObjectKey { volume, ino: Ino(u64::MAX), object: ObjectNo(u64::MAX) };
        let mut least: Option<Ino> = None;
        for shard in &self.shards {
            let mut from = Some(start);
            while let Some(at) = from {
                let (objects, next) = shard.lock().list(&self.env, at, last, 1)?;
                if let Some((key, _)) = objects.first() {
                    least = Some(least.map_or(key.ino, |least| least.min(key.ino)));
                    break;
                }
                from = next;
            }
        }
        Ok(least)
    }
}
