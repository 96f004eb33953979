//! Write-back: small writes to a file that follow one another are gathered and written out together.
//!
//! One buffer per file, shared by its handles, at most [`BUFFER_BYTES`] long. Whoever needs the true content (a read,
//! a truncation, a report of the size, a sync) writes it out first. Lock order: `Inode::data`, then the buffer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::BytesMut;
use tokio::sync::Mutex;

use super::room::Taken;
use crate::error::Result;
use crate::volume::inode::Inode;

/// At most this many bytes of a file wait.
const BUFFER_BYTES: usize = 1 << 20;

/// The buffer of one file.
#[derive(Default)]
pub struct Buffer {
    /// Whether anything waits; so that files without write-back pay one load.
    filled: AtomicBool,
    waiting: Mutex<Option<Waiting>>,
}

struct Waiting {
    offset: u64,
    data: BytesMut,
    clear_setid: bool,
    /// Of the leases under which it was gathered.
    generation: u64,
    /// What it takes of the quotas.
    room: Option<Taken>,
}

impl Inode {
    /// Gathers a write. An error of writing out earlier ones goes to [`Inode::errors`].
    pub(crate) async fn write_gathered(
        self: &Arc<Self>,
        offset: u64,
        data: &[u8],
        clear_setid: bool,
    ) -> Result<()> {
        super::write::bounded(offset, data.len())?;
        let room = self.take_room(offset, data.len() as u64).await?;
        let _shared = self.data.read().await;
        let mut slot = self.buffer.waiting.lock().await;
        let joins = slot.as_ref().is_some_and(|waiting| {
            let full = waiting.data.len() + data.len() > BUFFER_BYTES;
            waiting.offset + waiting.data.len() as u64 == offset
                && !full
                && waiting.clear_setid == clear_setid
                && waiting.generation == self.volume().leasing().generation()
        });
        if !joins {
            self.write_out(&mut slot).await;
            let generation = self.volume().leasing().generation();
            let gathered = BytesMut::with_capacity(data.len());
            *slot = Some(Waiting { offset, data: gathered, clear_setid, generation, room: None });
        }
        let waiting = slot.as_mut().expect("made above");
        match &mut waiting.room {
            Some(taken) => taken.join(room),
            none => *none = Some(room),
        }
        waiting.data.extend_from_slice(data);
        self.buffer.filled.store(true, Ordering::Release);
        self.gathered(offset + data.len() as u64);
        if waiting.data.len() >= BUFFER_BYTES {
            self.write_out(&mut slot).await;
        }
        Ok(())
    }

    /// Writes out what was gathered; an error goes to [`Inode::errors`].
    pub(crate) async fn flush_buffer(self: &Arc<Self>) {
        if self.buffer.filled.load(Ordering::Acquire) {
            let _shared = self.data.read().await;
            self.write_out(&mut *self.buffer.waiting.lock().await).await;
        }
    }

    /// Like [`Inode::flush_buffer`] for callers that hold `data` alone.
    pub(crate) async fn flush_buffer_alone(self: &Arc<Self>) {
        if self.buffer.filled.load(Ordering::Acquire) {
            self.write_out(&mut *self.buffer.waiting.lock().await).await;
        }
    }

    async fn write_out(self: &Arc<Self>, slot: &mut Option<Waiting>) {
        if let Some(waiting) = slot.take() {
            let data = waiting.data.freeze();
            // Over when this is: then a report tells of it.
            let _room = waiting.room;
            let written = async {
                self.must_be_of(waiting.generation)?;
                self.write_pieces(waiting.offset, data, false, waiting.clear_setid).await
            };
            if let Err(error) = written.await {
                tracing::error!(ino = self.ino(), %error, "gathered writes were lost");
                self.errors.add(error);
            }
            self.buffer.filled.store(false, Ordering::Release);
            self.gathered_is_out();
        }
    }
}
