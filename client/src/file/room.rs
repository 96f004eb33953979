//! Byte quotas: before new bytes are written there has to be room for them.

use std::sync::Arc;

use proto::error::{Code, WireError};

use crate::error::Result;
use crate::volume::inode::Inode;

/// Room that a write has taken. Dropped when the write is over, whatever came of it.
pub(crate) struct Taken {
    inode: Arc<Inode>,
    bytes: u64,
}

impl Taken {
    /// Adds another write's room.
    pub(crate) fn join(&mut self, mut other: Self) {
        self.bytes = self.bytes.wrapping_add(std::mem::take(&mut other.bytes));
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.inode.room.lock().done(self.bytes);
        }
    }
}

impl Inode {
    /// Takes room for a write, after reporting what was written when it does not fit into what is left. For callers that
    /// do not hold `data`.
    pub(crate) async fn take_room(self: &Arc<Self>, offset: u64, len: u64) -> Result<Taken> {
        let taken = |bytes| Taken { inode: self.clone(), bytes };
        if !self.room.lock().is_limited() {
            return Ok(taken(0));
        }
        let bytes = self.may_allocate(offset, len);
        if self.room.lock().take(bytes) {
            return Ok(taken(bytes));
        }
        self.ask_room(bytes).await?;
        if self.room.lock().take(bytes) {
            return Ok(taken(bytes));
        }
        Err(WireError::new(
            Code::QuotaExceeded,
            format!(
                "ino-{}: a quota leaves no room for {bytes} more bytes; `xtfs quota get` shows which one",
                self.ino()
            ),
        ))
    }
}
