//! Reading: pieces of all stripes at once, verified, holes as zeroes, cut at the end of the file.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use proto::checksum::block_checksum;
use proto::error::{Code, WireError};
use proto::id::{Ino, ObjectKey, VolumeId};
use proto::limits::BLOCK_BYTES;
use proto::osd::{Read, ReadReply, ReadRequest};
use proto::stripe::Piece;
use tokio::task::JoinHandle;

use super::File;
use super::held::overlay;
use crate::engine::leases::Use;
use crate::engine::readahead::ReadAhead;
use crate::error::Result;
use crate::volume::inode::{Inode, TOP, Ticket};

/// Pieces of one read or write under way at the same time.
pub(crate) const PIECES_AT_ONCE: usize = 64;
/// Read-ahead fetches in blocks of this size, bytes.
const AHEAD_BLOCK: u64 = 1 << 20;

/// A range that is being fetched, of the data that the file showed when that began.
struct Fetched {
    range: Range<u64>,
    top: u64,
    task: JoinHandle<Result<Bytes>>,
}

/// Data fetched ahead for one handle.
pub(super) struct Ahead {
    window: ReadAhead,
    fetched: VecDeque<Fetched>,
}

impl Ahead {
    pub(super) fn new(window: ReadAhead) -> Self {
        Self { window, fetched: VecDeque::new() }
    }

    fn reset(&mut self) {
        self.window.reset();
        self.drop_all();
    }

    fn drop_all(&mut self) {
        self.fetched.drain(..).for_each(|fetched| fetched.task.abort());
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.drop_all();
    }
}

impl File {
    /// Reads at most `len` bytes at `offset`; fewer only at the end of the file.
    pub async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        let using = self.inode().take_lease(Use::Read, offset, len as u64).await?;
        self.read_flushed(offset, len, using.is_held()).await
    }

    /// `sized`: nobody else may have made it longer.
    async fn read_flushed(&self, offset: u64, len: usize, sized: bool) -> Result<Bytes> {
        // No truncation of ours in between: it cuts the data before the size is smaller.
        let _shared = self.inode().data.read().await;
        if !sized && offset.saturating_add(len as u64) > self.inode().size() {
            self.attr().await?;
        }
        // In this order: what makes the file longer from here on need not be at the OSDs when they are asked, and would read
        // as zeroes.
        let size = self.inode().size();
        self.inode().flush_buffer_alone().await;
        self.read_upto(size, offset, len).await
    }

    /// A kernel's read; it keeps the pages. `sized`: it has just asked for the size.
    pub(crate) async fn read_for_kernel(&self, offset: u64, len: usize, sized: bool) -> Result<Bytes> {
        // Pages of a file that is open for writing may be mapped and stored to without our hearing of it.
        let what = if self.inode().may_write() { Use::Write } else { Use::Read };
        let using = self.inode().take_lease(what, offset, len as u64).await?;
        self.read_flushed(offset, len, sized || using.is_held()).await
    }

    /// What the OSDs have of it, up to the end of the file at `size`.
    async fn read_upto(&self, size: u64, offset: u64, len: usize) -> Result<Bytes> {
        let len = (len as u64).min(size.saturating_sub(offset));
        if len == 0 {
            return Ok(Bytes::new());
        }
        // Before the OSDs are asked: what lands meanwhile is in neither otherwise.
        let held = self.inode().held();
        let data = match self.take_ahead(offset, len, size) {
            None => self.inode().read_range(offset, len).await?,
            Some(parts) => self.assemble(offset, len, parts).await?,
        };
        Ok(overlay(offset, data, held))
    }

    /// Starts fetching what a sequential reader will want and gives what was fetched of this range.
    fn take_ahead(&self, offset: u64, len: u64, size: u64) -> Option<Vec<Fetched>> {
        let mut guard = self.ahead.lock();
        let ahead = guard.as_mut()?;
        let fetch = ahead.window.read(offset, len, size);
        if fetch.is_empty()
            && fetch.end == offset + len
            && ahead.fetched.front().is_some_and(|front| front.range.start > fetch.end)
        {
            ahead.drop_all(); // a jump: what was fetched lies elsewhere
        }
        let (mut from, top) = (fetch.start, self.inode().top());
        while from < fetch.end {
            let to = (from - from % AHEAD_BLOCK + AHEAD_BLOCK).min(fetch.end);
            let inode = self.inode().clone();
            let task = self.volume().runtime().spawn(async move { inode.read_range(from, to - from).await });
            ahead.fetched.push_back(Fetched { range: from..to, top, task });
            from = to;
        }
        let mut parts = Vec::new();
        while let Some(front) = ahead.fetched.front() {
            if front.range.start >= offset + len {
                break;
            }
            let part = ahead.fetched.pop_front().expect("front exists");
            if part.range.end > offset {
                parts.push(part);
            } else {
                part.task.abort();
            }
        }
        Some(parts)
    }

    async fn assemble(&self, offset: u64, len: u64, parts: Vec<Fetched>) -> Result<Bytes> {
        let mut out = BytesMut::with_capacity(usize::try_from(len).expect("a read fits into memory"));
        let end = offset + len;
        let mut at = offset;
        for Fetched { range, top, task } in parts {
            if range.start > at {
                out.extend_from_slice(&self.inode().read_range(at, range.start - at).await?);
                at = range.start;
            }
            let data = match task.await {
                // What was fetched of data that the file does not show any more may have been removed meanwhile.
                Ok(data) if top == self.inode().top() => data?,
                _ => self.inode().read_range(range.start, range.end - range.start).await?,
            };
            let skip = usize::try_from(at - range.start).expect("within a block");
            let take = usize::try_from(range.end.min(end) - at).expect("within a block");
            out.extend_from_slice(&data[skip..skip + take]);
            at += take as u64;
            if range.end > end {
                // The rest of this block belongs to the next read.
                let rest = self.volume().runtime().spawn(async move { Ok(data) });
                if let Some(ahead) = self.ahead.lock().as_mut() {
                    ahead.fetched.push_front(Fetched { range, top, task: rest });
                }
            }
        }
        if at < end {
            out.extend_from_slice(&self.inode().read_range(at, end - at).await?);
        }
        Ok(out.freeze())
    }

    pub(super) fn forget_ahead(&self) {
        if let Some(ahead) = self.ahead.lock().as_mut() {
            ahead.reset();
        }
    }
}

impl Inode {
    /// Reads `[offset, offset + len)`, all of it; the caller has cut it at the end of the file.
    pub(crate) async fn read_range(self: &Arc<Self>, offset: u64, len: u64) -> Result<Bytes> {
        self.confirmed().await?;
        loop {
            let top = self.top();
            let read = self.read_range_of_top(offset, len).await;
            // Without a lease the file may have come to show other data meanwhile, with other stripes.
            if top == self.top() {
                return read;
            }
        }
    }

    async fn read_range_of_top(self: &Arc<Self>, offset: u64, len: u64) -> Result<Bytes> {
        let credentials = self.credentials();
        if !credentials.bases.is_empty() {
            return self.read_through(offset, len).await;
        }
        let shape = credentials.layout.shape();
        let mut cut = shape.pieces(offset, len);
        let (Some(first), second) = (cut.next(), cut.next()) else { return Ok(Bytes::new()) };
        if second.is_none() {
            return self.read_piece(first).await;
        }
        let total = usize::try_from(len).expect("a read fits into memory");
        let mut out = BytesMut::zeroed(total);
        let mut arriving = futures::stream::iter(shape.pieces(offset, len))
            .map(|piece| async move { (piece, self.read_data(piece).await) })
            .buffer_unordered(PIECES_AT_ONCE);
        while let Some((piece, data)) = arriving.next().await {
            let data = data?;
            let at = usize::try_from(piece.at).expect("within the read");
            out[at..at + data.len()].copy_from_slice(&data);
        }
        Ok(out.freeze())
    }

    /// One piece, zeroes at its end included.
    async fn read_piece(self: &Arc<Self>, piece: Piece) -> Result<Bytes> {
        let data = self.read_data(piece).await?;
        let len = piece.len as usize;
        if data.len() == len {
            return Ok(data);
        }
        let mut out = BytesMut::zeroed(len);
        out[..data.len()].copy_from_slice(&data);
        Ok(out.freeze())
    }

    /// One piece as the OSD holds it: may be shorter than asked, the rest is a hole.
    async fn read_data(self: &Arc<Self>, piece: Piece) -> Result<Bytes> {
        if let Some((bytes, _)) = self.read_inline(TOP, piece).await? {
            return Ok(bytes);
        }
        match self.coding_of(TOP)? {
            Some(coding) => self.read_coded(TOP, coding, piece).await.map(|(data, _)| data),
            None => self.ask_data(TOP, piece).await.map(|(_, data)| data),
        }
    }

    /// One piece of some data of the file, and its holes: parts of it that were never written.
    pub(crate) async fn read_data_of(
        self: &Arc<Self>,
        data: u64,
        piece: Piece,
    ) -> Result<(Bytes, Vec<Range<u32>>)> {
        if let Some(read) = self.read_inline(data, piece).await? {
            return Ok(read);
        }
        if let Some(coding) = self.coding_of(data)? {
            return self.read_coded(data, coding, piece).await;
        }
        let (told, bytes) = self.ask_data(data, piece).await?;
        Ok((bytes, told.holes(piece)))
    }

    async fn ask_data(self: &Arc<Self>, data: u64, piece: Piece) -> Result<(Told, Bytes)> {
        match self.ask_hedged(data, piece).await {
            // Once more: it may have been damaged on the way; if on the disk, the OSD finds it now and mends it.
            Err(error) if error.code == Code::Corrupt => {
                tracing::warn!(%error, "a read is done again, with a check at the OSD");
                self.ask_primary(data, piece, true).await
            }
            other => other,
        }
    }

    /// One piece of whoever leads, checked.
    pub(crate) async fn ask_primary(
        self: &Arc<Self>,
        data: u64,
        piece: Piece,
        check: bool,
    ) -> Result<(Told, Bytes)> {
        let made_for = AtomicU64::new(0);
        let make = |ticket: &Ticket<'_>| {
            made_for.store(ticket.capability.ino, Ordering::Relaxed);
            ReadRequest { head: ticket.head(piece.object.0), offset: piece.offset, len: piece.len, check }
        };
        let result = self.call_object_of::<Read>(data, piece.object, make, Bytes::new()).await;
        let key = ObjectKey { ino: Ino(made_for.load(Ordering::Relaxed)), ..self.object_key(piece) };
        let (reply, payload) = result?;
        let bytes = cut_verified(key, piece, &reply, &payload)?;
        Ok((Told::of(&reply, &payload), bytes))
    }

    pub(crate) fn object_key(&self, piece: Piece) -> ObjectKey {
        let ino = self.credentials().capability.ino;
        ObjectKey { volume: VolumeId(self.volume().id()), ino: Ino(ino), object: piece.object }
    }
}

/// What an answer says of holes.
pub(crate) struct Told {
    first: u32,
    /// Blocks of the payload.
    blocks: u32,
    /// (first, count) pairs within it.
    holes: Vec<u32>,
}

impl Told {
    pub(crate) fn of(reply: &ReadReply, payload: &Bytes) -> Self {
        let blocks = u32::try_from(payload.len().div_ceil(BLOCK_BYTES)).unwrap_or(u32::MAX);
        Self { first: reply.first_block, blocks, holes: reply.holes.clone() }
    }

    /// The parts of a piece that were never written, ascending.
    pub(crate) fn holes(&self, piece: Piece) -> Vec<Range<u32>> {
        const BLOCK: u32 = BLOCK_BYTES as u32;
        let within = |first: u32, end: u32| {
            let from = first.saturating_mul(BLOCK).max(piece.offset) - piece.offset;
            let to = end.saturating_mul(BLOCK).min(piece.offset + piece.len).saturating_sub(piece.offset);
            from..to
        };
        let end = self.first + self.blocks;
        let told =
            self.holes.chunks_exact(2).map(|hole| within(hole[0], hole[0].saturating_add(hole[1]).min(end)));
        told.chain([within(end, u32::MAX)]).filter(|hole| hole.start < hole.end).collect()
    }
}

/// Checks every block of an answer and cuts the wanted bytes out of it.
pub(crate) fn cut_verified(
    key: ObjectKey,
    piece: Piece,
    reply: &ReadReply,
    payload: &Bytes,
) -> Result<Bytes> {
    if payload.is_empty() {
        return Ok(Bytes::new());
    }
    let blocks = payload.chunks(BLOCK_BYTES);
    if blocks.len() != reply.checksums.len() {
        return Err(corrupt(
            key,
            format!("{} blocks came with {} checksums", blocks.len(), reply.checksums.len()),
        ));
    }
    for (block, (data, sum)) in (reply.first_block..).zip(blocks.zip(&reply.checksums)) {
        if block_checksum(key, block, data) != *sum {
            return Err(corrupt(key, format!("the checksum of block {block} does not match its data")));
        }
    }
    let first = reply.first_block as usize * BLOCK_BYTES;
    let from = (piece.offset as usize).checked_sub(first);
    let from = from.ok_or_else(|| corrupt(key, "the answer starts behind the range".to_owned()))?;
    let to = (from + piece.len as usize).min(payload.len());
    Ok(if from < to { payload.slice(from..to) } else { Bytes::new() })
}

fn corrupt(key: ObjectKey, what: String) -> WireError {
    WireError::new(
        Code::Corrupt,
        format!(
            "{} of {} in {}: {what}; `xtfs scrub` finds and mends damaged objects",
            key.object, key.ino, key.volume
        ),
    )
}

#[cfg(test)]
mod tests {
    use proto::checksum::block_checksums;
    use proto::id::ObjectNo;

    use super::*;

    fn key() -> ObjectKey {
        ObjectKey { volume: VolumeId(1), ino: Ino(2), object: ObjectNo(3) }
    }

    fn answer(first_block: u32, data: &[u8]) -> (ReadReply, Bytes) {
        let checksums = block_checksums(key(), first_block, data);
        (ReadReply { first_block, checksums, ..ReadReply::default() }, Bytes::copy_from_slice(data))
    }

    #[test]
    fn the_wanted_bytes_are_cut_out_of_whole_blocks() {
        let data: Vec<u8> = (0..10_000u32).map(|byte| byte as u8).collect();
        let (reply, payload) = answer(2, &data);
        let piece = Piece { object: ObjectNo(3), offset: 8192 + 100, len: 50, at: 0 };
        assert_eq!(cut_verified(key(), piece, &reply, &payload).unwrap(), data[100..150]);
        let beyond = Piece { offset: 8192 + 9_990, len: 4096, ..piece };
        assert_eq!(cut_verified(key(), beyond, &reply, &payload).unwrap(), data[9_990..]);
        let hole = Piece { offset: 8192 + 10_000, len: 10, ..piece };
        assert!(cut_verified(key(), hole, &reply, &payload).unwrap().is_empty());
    }

    #[test]
    fn damage_and_misplacement_are_found() {
        let (reply, payload) = answer(0, &[7; 5000]);
        let piece = Piece { object: ObjectNo(3), offset: 0, len: 5000, at: 0 };
        let mut bad = payload.to_vec();
        bad[4999] ^= 1;
        assert_eq!(cut_verified(key(), piece, &reply, &bad.into()).unwrap_err().code, Code::Corrupt);
        let moved = ReadReply { first_block: 1, ..reply.clone() };
        assert_eq!(cut_verified(key(), piece, &moved, &payload).unwrap_err().code, Code::Corrupt);
        assert_eq!(cut_verified(key(), piece, &reply, &payload).unwrap().len(), 5000);
    }
}
