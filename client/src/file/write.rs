//! Writing: pieces of all stripes at once, each with checksums made here. Write-through unless a buffer was asked for.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use proto::checksum::{block_checksums, crc32c};
use proto::error::{Code, WireError};
use proto::limits::{BLOCK_BYTES, FILE_BYTES_MAX};
use proto::osd::{Write, WriteRequest};
use proto::stripe::{Piece, pieces};

use super::File;
use super::read::PIECES_AT_ONCE;
use crate::engine::leases::Use;
use crate::error::Result;
use crate::stage::Stage;
use crate::volume::inode::{Inode, Ticket};

impl File {
    /// Errors of earlier writes come first, and what was acknowledged and waits for room.
    fn may_write(&self) -> Result<()> {
        self.told.check(&self.inode().errors)?;
        self.inode().check_room()
    }

    /// Writes all of `data` at `offset`. When it returns the data survives the death of any process.
    pub async fn write_at(&self, offset: u64, data: impl Into<Bytes>) -> Result<()> {
        self.write_with(offset, data.into(), false).await
    }

    /// Like [`File::write_at`]; with `sync` the data is on the OSDs' media when it returns (`O_SYNC`).
    pub async fn write_with(&self, offset: u64, data: Bytes, sync: bool) -> Result<()> {
        self.forget_ahead();
        self.write_for_kernel(offset, data, sync, self.creds.uid != 0).await
    }

    /// A kernel's write: it says itself whether setuid and setgid go.
    pub(crate) async fn write_for_kernel(
        &self,
        offset: u64,
        data: Bytes,
        sync: bool,
        clear_setid: bool,
    ) -> Result<()> {
        self.may_write()?;
        let _using = self.inode().take_lease(Use::Write, offset, data.len() as u64).await?;
        self.inode().flush_buffer().await;
        self.inode().check_room()?;
        self.inode().write_range(offset, data, sync, clear_setid).await
    }

    /// The kernel writes out pages that were stored to through a mapping.
    pub(crate) async fn write_back_for_kernel(&self, offset: u64, data: Bytes) -> Result<()> {
        let _using = self.inode().take_lease(Use::WriteBack, offset, data.len() as u64).await?;
        self.inode().flush_buffer().await;
        self.inode().check_room()?;
        self.inode().write_range(offset, data, false, false).await
    }

    /// Appends at the end, wherever that is when nobody else can write; gives the offset. `sync` as in
    /// [`File::write_with`].
    pub(crate) async fn append_with(&self, data: Bytes, sync: bool, clear_setid: bool) -> Result<u64> {
        self.may_write()?;
        let _one = self.inode().appending.lock().await;
        // The range is not known yet: no page is locked for an append that the kernel does not cache.
        let using = self.inode().take_lease(Use::Write, 0, 0).await?;
        self.inode().flush_buffer().await;
        self.inode().check_room()?;
        let end = if using.is_held() { self.inode().size() } else { self.attr().await?.size };
        self.inode().write_range(end, data, sync, clear_setid).await?;
        Ok(end)
    }

    /// Like [`File::write_at`], but small writes that follow one another are gathered first. An error of a later
    /// write-out is told by the next write, flush, fsync or close of this handle, once.
    pub async fn write_buffered(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.may_write()?;
        self.forget_ahead();
        let _using = self.inode().take_lease(Use::Write, offset, data.len() as u64).await?;
        self.inode().write_gathered(offset, Bytes::copy_from_slice(data), self.creds.uid != 0).await
    }

    /// A kernel's write that is acknowledged when it is staged: under a lease nobody else misses it before it is at the
    /// OSDs. Without one, or when all places are taken, it goes there at once.
    pub(crate) async fn write_behind(&self, stage: &Arc<Stage>, offset: u64, data: Bytes) -> Result<()> {
        self.may_write()?;
        let using = self.inode().take_lease(Use::Write, offset, data.len() as u64).await?;
        if using.is_held() && self.inode().write_staged(stage, offset, data.clone()).await? {
            return Ok(());
        }
        let end = offset.saturating_add(data.len() as u64);
        self.inode().flush_buffer().await;
        // What it could come over goes first.
        self.inode().check_room()?;
        self.inode().write_range(offset, data, false, false).await?;
        if using.is_held() { self.inode().keep_end(stage, end).await } else { Ok(()) }
    }

    /// Like [`File::append_with`], staged like [`File::write_behind`].
    pub(crate) async fn append_behind(&self, stage: &Arc<Stage>, data: Bytes) -> Result<u64> {
        self.may_write()?;
        let one = self.inode().appending.lock().await;
        let using = self.inode().take_lease(Use::Write, 0, 0).await?;
        if using.is_held() {
            let end = self.inode().size();
            if self.inode().write_staged(stage, end, data.clone()).await? {
                return Ok(end);
            }
            let length = data.len() as u64;
            self.inode().flush_buffer().await;
            self.inode().check_room()?;
            self.inode().write_range(end, data, false, false).await?;
            self.inode().keep_end(stage, end + length).await?;
            return Ok(end);
        }
        drop((using, one));
        self.append_with(data, false, false).await
    }

    /// Appends `data` at the end and gives the offset where it begins. Appends of several clients do not overwrite one
    /// another.
    pub async fn append(&self, data: impl Into<Bytes>) -> Result<u64> {
        self.forget_ahead();
        self.append_with(data.into(), false, self.creds.uid != 0).await
    }
}

pub(super) fn bounded(offset: u64, len: usize) -> Result<u64> {
    offset.checked_add(len as u64).filter(|end| *end <= FILE_BYTES_MAX).ok_or_else(|| {
        WireError::new(
            Code::FileTooLarge,
            format!("a write of {len} bytes at {offset} passes the largest file size"),
        )
    })
}

impl Inode {
    /// Writes all of `data` at `offset`.
    pub(crate) async fn write_range(
        self: &Arc<Self>,
        offset: u64,
        data: Bytes,
        sync: bool,
        clear_setid: bool,
    ) -> Result<()> {
        bounded(offset, data.len())?;
        if data.is_empty() {
            return Ok(());
        }
        let _room = self.take_room(offset, data.len() as u64).await?;
        let _shared = self.data.read().await;
        let written = self.write_pieces(offset, data, sync, clear_setid).await;
        if matches!(&written, Err(error) if error.code == Code::NoSpace) {
            self.refused();
        }
        written
    }

    /// Like [`Inode::write_range`] for callers that hold `data`.
    pub(crate) async fn write_pieces(
        self: &Arc<Self>,
        offset: u64,
        data: Bytes,
        sync: bool,
        clear_setid: bool,
    ) -> Result<()> {
        let end = offset + data.len() as u64;
        self.write_objects(offset, data, sync).await?;
        self.wrote(offset, end, false, clear_setid);
        Ok(())
    }

    /// Writes at the OSDs; nobody is told of it.
    pub(super) async fn write_objects(self: &Arc<Self>, offset: u64, data: Bytes, sync: bool) -> Result<()> {
        self.fold_if_deep();
        self.fill_edges(offset, data.len() as u64).await?;
        let _unfilled = self.unfilled().await;
        self.write_objects_unfilled(offset, data, sync).await
    }

    /// Likewise; every block that is covered in part is whole, or nothing shows through it.
    pub(crate) async fn write_objects_unfilled(
        self: &Arc<Self>,
        offset: u64,
        data: Bytes,
        sync: bool,
    ) -> Result<()> {
        self.confirmed().await?;
        let generation = self.volume().leasing().generation();
        let stripe = self.credentials().layout.stripe_bytes.max(1);
        let mut cut = pieces(stripe, offset, data.len() as u64);
        let (first, second) = (cut.next().expect("the data is not empty"), cut.next());
        if second.is_none() {
            self.write_piece(first, data, sync).await
        } else {
            let cut = pieces(stripe, offset, data.len() as u64).map(|piece| {
                let at = usize::try_from(piece.at).expect("within the data");
                (piece, data.slice(at..at + piece.len as usize))
            });
            futures::stream::iter(cut)
                .map(|(piece, part)| async move {
                    self.must_be_of(generation)?;
                    self.write_piece(piece, part, sync).await
                })
                .buffer_unordered(PIECES_AT_ONCE)
                .try_collect::<()>()
                .await
        }
    }

    pub(crate) async fn write_piece(self: &Arc<Self>, piece: Piece, data: Bytes, sync: bool) -> Result<()> {
        let aligned =
            (piece.offset as usize).is_multiple_of(BLOCK_BYTES) && data.len().is_multiple_of(BLOCK_BYTES);
        let (checksums, crc) = if aligned {
            let first_block = piece.offset / u32::try_from(BLOCK_BYTES).expect("small");
            (block_checksums(self.object_key(piece), first_block, &data), 0)
        } else {
            (Vec::new(), crc32c(&data))
        };
        let make = |ticket: &Ticket<'_>| WriteRequest {
            head: ticket.head(piece.object.0),
            offset: piece.offset,
            checksums: checksums.clone(),
            crc,
            sync,
        };
        self.call_object::<Write>(piece.object, make, data).await.map(|_| ())
    }
}
