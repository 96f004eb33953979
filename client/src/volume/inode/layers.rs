//! Data below a file's own: reading through, filling blocks before they are written in part. See
//! docs/protocols/snapshots.md, "Reading and writing through".

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use proto::capability::{Capability, WRITE};
use proto::error::{Code, WireError};
use proto::limits::BLOCK_BYTES;
use proto::mrc::FileCredentials;
use proto::snapshot::{FoldLayers, FoldRequest};
use proto::stripe::{Coding, Layout, Piece, Shape};

use super::Inode;
use super::rights::Renewed;
use crate::config::Creds;
use crate::engine::leases::Use;
use crate::error::Result;
use crate::file::read::PIECES_AT_ONCE;

/// Stands for the data that a file writes.
pub(crate) const TOP: u64 = 0;
/// A file with so many layers below it is copied up.
const FOLD_AT: usize = 16;
/// Bytes copied up in one step; whole blocks.
const FOLD_STEP: u64 = 1 << 20;
/// Blocks remembered at most.
const FILLED_MAX: usize = 1 << 16;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// Blocks of a top that are surely there.
#[derive(Default)]
pub(super) struct Filled {
    /// Of this data.
    data: u64,
    blocks: BTreeSet<u64>,
}

impl Filled {
    fn has(&self, data: u64, block: u64) -> bool {
        self.data == data && self.blocks.contains(&block)
    }

    fn add(&mut self, data: u64, block: u64) {
        if self.data != data || self.blocks.len() >= FILLED_MAX {
            *self = Self { data, blocks: BTreeSet::new() };
        }
        self.blocks.insert(block);
    }
}

/// One layer of a file: its number (or [`TOP`]), its stripes, and where it ends to show through.
#[derive(Clone, Copy)]
struct Layer {
    data: u64,
    shape: Shape,
    bytes: u64,
}

/// The layers from the top down.
fn layers(credentials: &FileCredentials) -> Vec<Layer> {
    let top = Layer { data: TOP, shape: credentials.layout.shape(), bytes: u64::MAX };
    let below = credentials.bases.iter().map(|base| Layer {
        data: base.capability.ino,
        shape: base.layout.shape(),
        bytes: base.bytes,
    });
    std::iter::once(top).chain(below).collect()
}

/// What of `range` lies below `end`.
fn below(range: &Range<u64>, end: u64) -> Option<Range<u64>> {
    let cut = range.start..range.end.min(end);
    (cut.start < cut.end).then_some(cut)
}

impl Inode {
    /// The right to data of this file and where it is.
    pub(super) fn right_to<'a>(
        &self,
        credentials: &'a FileCredentials,
        data: u64,
    ) -> Result<(&'a Capability, &'a Layout)> {
        if data == TOP {
            return Ok((&credentials.capability, &credentials.layout));
        }
        let base = credentials.bases.iter().find(|base| base.capability.ino == data);
        base.map(|base| (&base.capability, &base.layout)).ok_or_else(|| {
            WireError::new(
                Code::Stale,
                format!("data {data} does not show through ino-{} any more", self.ino),
            )
        })
    }

    /// The number of the data that the right which is here is for.
    pub(crate) fn top(&self) -> u64 {
        self.credentials().capability.ino
    }

    /// How data of this file is erasure-coded, if it is.
    pub(crate) fn coding_of(&self, data: u64) -> Result<Option<Coding>> {
        Ok(self.right_to(&self.credentials(), data)?.1.coding)
    }

    /// A new right, when the one that is here is for other data than the file shows now. A renewal by somebody else may
    /// have been asked for before the file showed that: it is looked at like the one before it.
    pub(crate) async fn follow_top(&self, what: Use) -> Result<()> {
        if !self.is_confirmed() {
            return Ok(());
        }
        loop {
            let credentials = self.credentials();
            if self.is_for_what_shows(&credentials, what)
                || self.replace(&credentials).await? == Renewed::Here
            {
                return Ok(());
            }
        }
    }

    fn is_for_what_shows(&self, credentials: &FileCredentials, what: Use) -> bool {
        let (layer, truncate_epoch) = self.size.lock().shows();
        let layer = if layer == 0 { self.ino } else { layer };
        let cannot_write =
            what != Use::Read && self.may_write() && credentials.capability.rights & WRITE == 0;
        credentials.capability.ino == layer
            && (!credentials.show_a_size() || credentials.truncate_epoch == truncate_epoch)
            && !cannot_write
    }

    /// Whether so much lies below the file that reads suffer: then it is copied up, by one task at a time.
    pub(crate) fn fold_if_deep(self: &Arc<Self>) {
        if self.credentials().bases.len() < FOLD_AT || self.folding.swap(true, Ordering::AcqRel) {
            return;
        }
        let inode = self.clone();
        self.volume.runtime().spawn(async move {
            if let Err(error) = inode.fold().await {
                tracing::warn!(ino = inode.ino, %error, "the layers of a file could not be folded; the next write tries again");
            }
            inode.folding.store(false, Ordering::Release);
        });
    }

    /// Copies what shows through into the top, and has what is below let go.
    async fn fold(self: &Arc<Self>) -> Result<()> {
        let top = self.credentials().capability.ino;
        let mut at = 0;
        loop {
            // A step at a time: others may want the file in between.
            let _using = self.take_lease(Use::Write, at, FOLD_STEP).await?;
            let _shared = self.data.read().await;
            let credentials = self.credentials();
            if credentials.capability.ino != top {
                // A snapshot came in between: there is a new top.
                return Ok(());
            }
            let visible = credentials.bases.first().map_or(0, |base| base.bytes);
            if at >= visible {
                break;
            }
            let end = visible.min(at + FOLD_STEP);
            self.copy_up(at..end).await?;
            at = end;
        }
        let head = self.volume.head(&Creds::checked(0, 0));
        let make = |origin| FoldRequest { head, origin, layer: top };
        self.volume.session().mutate_of_own::<FoldLayers>(make).await?;
        self.renew_now().await
    }

    /// Writes what shows through in a range, where the top has nothing. Ranges are whole blocks, but for the end of what shows.
    async fn copy_up(self: &Arc<Self>, range: Range<u64>) -> Result<()> {
        let _alone = self.filling.write().await;
        let layers = layers(&self.credentials());
        let [top, below @ ..] = layers.as_slice() else { return Ok(()) };
        let (base, len) = (range.start, usize::try_from(range.end - range.start).expect("one step"));
        let mut out = BytesMut::zeroed(len);
        let absent = self.read_layer(*top, vec![range], (base, &mut out)).await?;
        let mut wanted = absent.clone();
        for layer in below {
            wanted = self.read_layer(*layer, wanted, (base, &mut out)).await?;
        }
        let out = out.freeze();
        for hole in absent {
            let part = |at: u64| usize::try_from(at - base).expect("within the step");
            let data = out.slice(part(hole.start)..part(hole.end));
            // What is zero everywhere may as well stay a hole.
            if data.iter().any(|byte| *byte != 0) {
                self.write_objects_unfilled(hole.start, data, false).await?;
            }
        }
        Ok(())
    }

    /// Whether something may show through.
    pub(crate) fn is_layered(&self) -> bool {
        !self.credentials().bases.is_empty()
    }

    /// Reads a range of a file with layers.
    pub(crate) async fn read_through(self: &Arc<Self>, offset: u64, len: u64) -> Result<Bytes> {
        let mut out = BytesMut::zeroed(usize::try_from(len).expect("a read fits into memory"));
        let whole = offset..offset + len;
        let mut wanted = vec![whole];
        for layer in layers(&self.credentials()) {
            wanted = self.read_layer(layer, wanted, (offset, &mut out)).await?;
            if wanted.is_empty() {
                break;
            }
        }
        Ok(out.freeze())
    }

    /// Copies what a layer has of the wanted ranges; gives what is wanted still.
    async fn read_layer(
        self: &Arc<Self>,
        layer: Layer,
        wanted: Vec<Range<u64>>,
        (base, out): (u64, &mut BytesMut),
    ) -> Result<Vec<Range<u64>>> {
        let mut all: Vec<(u64, Piece)> = Vec::new();
        for range in &wanted {
            let Some(range) = below(range, layer.bytes) else { continue };
            let cut = layer.shape.pieces(range.start, range.end - range.start);
            all.extend(cut.map(|piece| (range.start + piece.at, piece)));
        }
        let mut arriving = futures::stream::iter(all)
            .map(|(at, piece)| async move { (at, piece, self.read_data_of(layer.data, piece).await) })
            .buffer_unordered(PIECES_AT_ONCE);
        let mut left = Vec::new();
        while let Some((at, piece, found)) = arriving.next().await {
            let (data, holes) = found?;
            let mut next = 0u32;
            for hole in holes {
                copy(out, (at - base, &data), next..hole.start);
                left.push(at + u64::from(hole.start)..at + u64::from(hole.end));
                next = hole.end;
            }
            copy(out, (at - base, &data), next..piece.len);
        }
        left.sort_unstable_by_key(|range| range.start);
        Ok(left)
    }

    /// Blocks that a write covers in part are made whole first.
    pub(crate) async fn fill_edges(self: &Arc<Self>, offset: u64, len: u64) -> Result<()> {
        let credentials = self.credentials();
        let Some(base) = credentials.bases.first() else { return Ok(()) };
        let (end, data) = (offset + len, credentials.capability.ino);
        let first = (!offset.is_multiple_of(BLOCK)).then_some(offset / BLOCK);
        let last = (!end.is_multiple_of(BLOCK)).then_some(end / BLOCK).filter(|last| Some(*last) != first);
        for block in first.into_iter().chain(last) {
            if block * BLOCK < base.bytes && !self.filled.lock().has(data, block) {
                self.copy_up(block * BLOCK..base.bytes.min((block + 1) * BLOCK)).await?;
                self.filled.lock().add(data, block);
            }
        }
        Ok(())
    }

    /// Writers are kept away while a block is filled.
    pub(crate) async fn unfilled(&self) -> Option<tokio::sync::RwLockReadGuard<'_, ()>> {
        if self.is_layered() { Some(self.filling.read().await) } else { None }
    }

    /// What of a range could show through if the top had a hole there.
    pub(crate) fn shows_through(&self, range: Range<u64>) -> Option<Range<u64>> {
        let credentials = self.credentials();
        below(&range, credentials.bases.first()?.bytes)
    }

    /// The file's data from the top down: number, stripes, and where each ends to show through.
    pub(crate) fn all_data(&self) -> Vec<(u64, Layout, u64)> {
        let credentials = self.credentials();
        let top = (TOP, credentials.layout.clone(), u64::MAX);
        let below = credentials.bases.iter();
        std::iter::once(top)
            .chain(below.map(|base| (base.capability.ino, base.layout.clone(), base.bytes)))
            .collect()
    }
}

/// Copies a part of a piece's data; what the data does not reach is zeroes.
fn copy(out: &mut BytesMut, (at, data): (u64, &Bytes), part: Range<u32>) {
    let (from, to) = (part.start as usize, (part.end as usize).min(data.len()));
    if from < to {
        let at = usize::try_from(at).expect("within the read") + from;
        out[at..at + to - from].copy_from_slice(&data[from..to]);
    }
}
