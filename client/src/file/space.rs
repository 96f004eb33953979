//! Holes and space: punch, zero, preallocate, find data and holes, copy ranges.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use proto::error::{Code, WireError};
use proto::limits::{BLOCK_BYTES, FILE_BYTES_MAX};
use proto::osd::{Punch, PunchRequest, StatObjects, StatObjectsReply, StatObjectsRequest};
use proto::stripe::pieces;

use super::File;
use super::read::PIECES_AT_ONCE;
use crate::engine::leases::Use;
use crate::error::Result;
use crate::stage::{SLOT_BYTES, Stage};
use crate::volume::inode::{Inode, TOP, Ticket};

/// Objects asked for in one question.
const OBJECTS_AT_ONCE: u32 = 256;
/// Bytes copied in one step.
const COPY_STEP: u64 = 4 << 20;
/// Zeroes written in one step.
const ZERO_STEP: u64 = 4 << 20;
/// The same when it is staged.
const STAGED_STEP: u64 = SLOT_BYTES as u64;

impl File {
    /// Makes a hole: the range reads as zeroes, the size stays.
    pub async fn punch(&self, offset: u64, len: u64) -> Result<()> {
        self.forget_ahead();
        let using = self.inode().take_lease(Use::Write, offset, len).await?;
        self.inode().flush_buffer().await;
        self.inode().check_room()?;
        let size = if using.is_held() { self.inode().size() } else { self.attr().await?.size };
        let len = len.min(size.saturating_sub(offset));
        self.inode().punch_range(offset, len).await
    }

    /// Makes room: with `keep_size` only a hint, else the file becomes at least `offset + len` long.
    pub async fn allocate(&self, offset: u64, len: u64, keep_size: bool) -> Result<()> {
        let end = offset.checked_add(len).filter(|end| *end <= FILE_BYTES_MAX).ok_or_else(|| {
            WireError::new(Code::FileTooLarge, format!("{len} bytes at {offset} pass the largest file size"))
        })?;
        if keep_size {
            return Ok(());
        }
        self.flush().await?;
        self.inode().grow(&self.creds, end).await
    }

    /// The range reads as zeroes; without `keep_size` the file becomes at least that long.
    pub async fn zero(&self, offset: u64, len: u64, keep_size: bool) -> Result<()> {
        self.punch(offset, len).await?;
        self.allocate(offset, len, keep_size).await
    }

    /// The first byte of data at or behind `offset` (`SEEK_DATA`); `None` when only holes follow.
    pub async fn seek_data(&self, offset: u64) -> Result<Option<u64>> {
        let using = self.inode().take_lease(Use::Read, 0, 0).await?;
        self.inode().flush_buffer().await;
        let _shared = self.inode().data.read().await;
        let size = if using.is_held() { self.inode().size() } else { self.attr().await?.size };
        Ok(self.inode().next_data(offset, size).await?.map(|data| data.start))
    }

    /// The first byte of a hole at or behind `offset` (`SEEK_HOLE`); the end of the file counts as one.
    pub async fn seek_hole(&self, offset: u64) -> Result<Option<u64>> {
        let using = self.inode().take_lease(Use::Read, 0, 0).await?;
        self.inode().flush_buffer().await;
        let _shared = self.inode().data.read().await;
        let size = if using.is_held() { self.inode().size() } else { self.attr().await?.size };
        if offset >= size {
            return Ok(None);
        }
        let mut at = offset;
        while let Some(data) = self.inode().next_data(at, size).await? {
            if data.start > at {
                break;
            }
            at = data.end;
        }
        Ok(Some(at.min(size)))
    }

    /// Copies a range from another file of the volume; gives the bytes copied.
    pub async fn copy_from(&self, source: &File, from: u64, to: u64, len: u64) -> Result<u64> {
        self.copy_behind(source, (from, to, len), None).await
    }

    /// Likewise; with a stage what is copied is acknowledged when it is staged.
    pub(crate) async fn copy_behind(
        &self,
        source: &File,
        (from, to, len): (u64, u64, u64),
        stage: Option<&Arc<Stage>>,
    ) -> Result<u64> {
        source.inode().flush_buffer().await;
        let size = source.attr().await?.size;
        let len = len.min(size.saturating_sub(from));
        let mut done = 0;
        while done < len {
            let step = if stage.is_some() { STAGED_STEP } else { COPY_STEP }.min(len - done);
            let wanted = usize::try_from(step).expect("one step");
            let data = source.read_at(from + done, wanted).await?;
            if data.is_empty() {
                break;
            }
            let copied = data.len() as u64;
            match stage {
                Some(stage) => self.write_behind(stage, to + done, data).await?,
                None => self.write_at(to + done, data).await?,
            }
            done += copied;
        }
        Ok(done)
    }
}

impl Inode {
    async fn punch_range(self: &Arc<Self>, offset: u64, len: u64) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        self.confirmed().await?;
        let _shared = self.data.read().await;
        // Where something would show through a hole, zeroes are written.
        let shown = self.shows_through(offset..offset + len);
        let mut at = shown.as_ref().map_or(offset, |shown| shown.start);
        while let Some(shown) = shown.as_ref().filter(|shown| at < shown.end) {
            let step = ZERO_STEP.min(shown.end - at);
            let zeroes = Bytes::from(vec![0; usize::try_from(step).expect("one step")]);
            self.write_objects(at, zeroes, false).await?;
            at += step;
        }
        let (offset, len) = (at, offset + len - at);
        let stripe = self.credentials().layout.stripe_bytes.max(1);
        futures::stream::iter(pieces(stripe, offset, len))
            .map(|piece| async move {
                let make = |ticket: &Ticket<'_>| PunchRequest {
                    head: ticket.head(piece.object.0),
                    offset: piece.offset,
                    len: piece.len,
                };
                self.call_object::<Punch>(piece.object, make, Bytes::new()).await.map(|_| ())
            })
            .buffer_unordered(PIECES_AT_ONCE)
            .try_collect::<()>()
            .await?;
        self.punched();
        Ok(())
    }

    /// The next range of data at or behind `offset`, below `size`; neighbouring objects of data are not joined.
    async fn next_data(self: &Arc<Self>, offset: u64, size: u64) -> Result<Option<std::ops::Range<u64>>> {
        let mut nearest: Option<std::ops::Range<u64>> = None;
        for (data, layout, bytes) in self.all_data() {
            let end = size.min(bytes);
            if offset >= end {
                continue;
            }
            if let Some(inline) = layout.inline {
                let data = offset..end.min(u64::from(inline.bytes));
                nearest = if data.is_empty() { nearest } else { Some(data) };
                continue;
            }
            if layout.is_coded() {
                // Which of its stripes are zeroes is not asked: an OSD of it may be down.
                nearest = Some(offset..end);
                continue;
            }
            let stripe = u64::from(layout.stripe_bytes.max(1));
            let first = offset / stripe;
            let columns = (0..layout.columns.len())
                .map(|column| self.first_data_of((data, column), first, offset, stripe));
            let found = futures::future::try_join_all(columns).await?;
            let found = found.into_iter().flatten().min_by_key(|range| range.start);
            let found = found.filter(|range| range.start < end).map(|range| range.start..range.end.min(end));
            nearest = match (nearest, found) {
                (Some(one), Some(other)) if other.start < one.start => Some(other),
                (one, other) => one.or(other),
            };
        }
        Ok(nearest)
    }

    /// The first data of one column at or behind `offset`.
    async fn first_data_of(
        self: &Arc<Self>,
        (data, column): (u64, usize),
        first: u64,
        offset: u64,
        stripe: u64,
    ) -> Result<Option<std::ops::Range<u64>>> {
        let mut from_object = first;
        loop {
            let reply = self.stat_objects(data, column, from_object).await?;
            for object in &reply.objects {
                let base = object.object * stripe;
                for range in object.data.chunks_exact(2) {
                    let start = base + u64::from(range[0]);
                    let end = start + u64::from(range[1]);
                    if end > offset {
                        return Ok(Some(start.max(offset)..end));
                    }
                }
            }
            match reply.objects.last() {
                Some(last) if reply.more => from_object = last.object + 1,
                _ => return Ok(None),
            }
        }
    }

    async fn stat_objects(
        self: &Arc<Self>,
        data: u64,
        column: usize,
        from_object: u64,
    ) -> Result<StatObjectsReply> {
        let make = |ticket: &Ticket<'_>| StatObjectsRequest {
            capability: ticket.capability.clone(),
            from_object,
            limit: OBJECTS_AT_ONCE,
            replicas: ticket.replicas(),
            map_epoch: ticket.map_epoch,
        };
        Ok(self.call_column_of::<StatObjects>(data, column, make, Bytes::new()).await?.0)
    }

    /// What the OSDs have allocated for this file, bytes: what it shares is counted, what is hidden below too.
    pub(crate) async fn allocated_at_osds(self: &Arc<Self>) -> Result<u64> {
        self.confirmed().await?;
        let mut sum = 0;
        let all = self.all_data();
        let layered = all.len() > 1;
        for (data, layout, bytes) in all {
            if let Some(inline) = layout.inline {
                sum += u64::from(inline.bytes).min(bytes).next_multiple_of(BLOCK_BYTES as u64);
                continue;
            }
            if layout.is_coded() {
                sum += layout.coded_bytes.min(bytes).div_ceil(BLOCK_BYTES as u64) * BLOCK_BYTES as u64;
                continue;
            }
            for column in 0..layout.columns.len() {
                let mut from_object = 0;
                loop {
                    let reply = self.stat_objects(data, column, from_object).await?;
                    sum += reply.objects.iter().map(|object| u64::from(object.allocated)).sum::<u64>();
                    match reply.objects.last() {
                        Some(last) if reply.more => from_object = last.object + 1,
                        _ => break,
                    }
                }
            }
        }
        let whole = self.size().div_ceil(BLOCK_BYTES as u64) * BLOCK_BYTES as u64;
        Ok(if layered { sum.min(whole) } else { sum })
    }

    /// The end of the last byte that any OSD holds of this file.
    pub(crate) async fn end_at_osds(self: &Arc<Self>) -> Result<u64> {
        self.confirmed().await?;
        let layout = self.credentials().layout.clone();
        if layout.is_fixed() {
            // Nobody has written it since its size was known.
            return Ok(0);
        }
        let stripe = u64::from(layout.stripe_bytes.max(1));
        let mut ends: BTreeMap<usize, u64> = BTreeMap::new();
        for column in 0..layout.columns.len() {
            let mut from_object = 0;
            loop {
                let reply = self.stat_objects(TOP, column, from_object).await?;
                let Some(last) = reply.objects.last() else { break };
                ends.insert(column, last.object * stripe + u64::from(last.bytes));
                if !reply.more {
                    break;
                }
                from_object = last.object + 1;
            }
        }
        Ok(ends.into_values().max().unwrap_or(0))
    }
}
