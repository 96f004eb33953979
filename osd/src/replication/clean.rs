//! Reads that a majority answers without the primary: this replica's word, and the data that goes with it.

use std::sync::Arc;

use proto::error::{Code, WireError};
use proto::id::{Ino, ObjectKey, VolumeId};

use super::cell::Cell;
use super::clients::in_column;
use super::{Asked, Replicas};
use crate::engine::replication::{Doubt, Kept, Word};
use crate::store::ReadOutcome;

impl Replicas {
    /// What this replica says of an object.
    pub(crate) fn word_of(&self, asked: &Asked, key: ObjectKey) -> Result<Word, WireError> {
        in_column(&asked.cell, key.object.0)?;
        self.word(&asked.cell, key)
    }

    /// Part of an object, with the version that it has in this.
    pub(crate) async fn read_clean(
        self: &Arc<Self>,
        asked: &Asked,
        key: ObjectKey,
        range: (u32, u32),
        check: bool,
    ) -> Result<(Word, ReadOutcome), WireError> {
        let word = self.word_of(asked, key)?;
        let outcome = self.read_stored(key, range, check).await?;
        // Versions of an epoch only grow: when it is the same still, it was all the while.
        if self.word(&asked.cell, key)? != word || outcome.version != word.version.number {
            return Err(refused(Doubt::Changing, key));
        }
        Ok((word, outcome))
    }

    fn word(&self, cell: &Cell, key: ObjectKey) -> Result<Word, WireError> {
        let (volume, ino, column) = cell.key;
        // Under it nothing is promised, begun or ended; what of the store changes meanwhile was begun before, and refuses below.
        let engine = cell.engine.lock();
        // In this order: who adopted had everything by then.
        let kept = self.store.column(VolumeId(volume), Ino(ino), u64::from(column))?;
        let local = self.version(cell, key.object.0);
        let damaged = self.store.is_damaged(key);
        let kept = Kept { adopted: kept.adopted, doubtful: kept.doubtful, local, damaged };
        engine.word(key.object.0, kept).map_err(|doubt| refused(doubt, key))
    }
}

fn refused(doubt: Doubt, key: ObjectKey) -> WireError {
    let why = match doubt {
        Doubt::NotOpen => "it has not adopted the epoch that it has promised",
        Doubt::Doubtful => "it was not compared since the power went away",
        Doubt::Lists => "the replica lists of the file are being changed",
        Doubt::Changing => "the object is being changed",
        Doubt::Damaged => "bytes of the object are damaged here",
    };
    WireError::new(
        Code::Busy,
        format!("this replica cannot vouch for {} of {}: {why}; ask the primary", key.object, key.ino),
    )
}
