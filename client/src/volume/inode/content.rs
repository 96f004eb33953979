//! What is in a small file, and is at the MRC: told together with a new file, read without an OSD. See
//! `docs/protocols/small-files.md`.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use proto::checksum::crc32c;
use proto::error::{Code, WireError};
use proto::limits::INLINE_BYTES_MAX;
use proto::mrc::{Attr, EarlyContent, FileCredentials, KeptAttributes};
use proto::stripe::{Layout, Piece};

use super::{Inode, TOP};
use crate::error::Result;
use crate::stage::Slot;

impl Inode {
    /// All that is in a file that was made here, if the MRC can be told of it together with the file: it is small, was written once
    /// and is closed. Nobody opens it before the answer: whoever wants to asks the MRC, after it.
    pub(crate) fn content_to_tell(&self) -> Option<EarlyContent> {
        let limited = self.room.lock().is_limited();
        if self.is_confirmed() || limited || self.volume.is_open_to_programs(self.ino) {
            return None;
        }
        let data = {
            let mut flights = self.buffer.flights();
            let early = flights.only()?.early.as_ref()?;
            // Not a part of a larger buffer, which it would keep.
            (early.len() <= INLINE_BYTES_MAX).then(|| Bytes::copy_from_slice(early))?
        };
        let (mtime, kept) = self.size.lock().is_one_piece(data.len() as u64)?;
        let epoch = self.volume.session().epoch();
        (!data.is_empty() && kept.is_none_or(|kept| kept.epoch == epoch)).then(|| EarlyContent {
            crc: crc32c(&data),
            data,
            mtime,
            kept,
        })
    }

    /// Whether a program has it open and it may become such a file yet.
    pub(crate) fn is_small_and_open(&self) -> bool {
        self.size() <= INLINE_BYTES_MAX as u64 && self.volume.is_open_to_programs(self.ino)
    }

    /// The MRC has taken it. To be told before the file is confirmed.
    pub(crate) fn content_is_told(&self, content: &EarlyContent, attr: &Attr) {
        self.buffer.told_with_the_file(attr, content.kept);
    }

    /// The piece that the MRC has is needed no more.
    pub(crate) fn content_is_out(&self, slot: Option<Slot>, attr: &Attr, kept: Option<KeptAttributes>) {
        self.buffer.cross_out_told(slot, &self.size, attr, kept);
    }

    /// The answer brought the file's rights; what is in it is at the MRC, and nobody has it open.
    pub(crate) fn is_kept_at_the_mrc(&self) {
        self.write.store(false, Ordering::Release);
    }

    /// Before what is there is cut or written: what is at the MRC cannot be.
    pub(super) async fn leave_the_mrc(&self) -> Result<()> {
        if self.credentials().layout.is_inline() && !self.exact {
            self.write.store(true, Ordering::Release);
            self.renew_now().await?;
        }
        Ok(())
    }

    /// What some data of the file has of a piece, and what of it lies behind its end, if it is at the MRC.
    pub(crate) async fn read_inline(
        self: &Arc<Self>,
        data: u64,
        piece: Piece,
    ) -> Result<Option<(Bytes, Vec<Range<u32>>)>> {
        for _ in 0..2 {
            let credentials = self.credentials();
            let (layout, content) = content_of(&credentials, data);
            let Some(inline) = layout.and_then(|layout| layout.inline) else { return Ok(None) };
            if inline.is_of(content) {
                let at =
                    piece.object.0.saturating_mul(u64::from(piece_bytes(layout))) + u64::from(piece.offset);
                let end = content.len().min(usize::try_from(at + u64::from(piece.len)).unwrap_or(usize::MAX));
                let from = usize::try_from(at).unwrap_or(usize::MAX).min(end);
                let bytes = content.slice(from..end);
                let has = u32::try_from(bytes.len()).expect("at most the piece");
                let hole = (has < piece.len).then_some(has..piece.len);
                return Ok(Some((bytes, hole.into_iter().collect())));
            }
            // It does not come with every answer.
            self.renew(&credentials).await?;
        }
        let text = format!(
            "what is in ino-{} did not come from the MRC as it was written; see `xtfs fsck`",
            self.ino
        );
        Err(WireError::new(Code::Corrupt, text))
    }
}

fn piece_bytes(layout: Option<&Layout>) -> u32 {
    layout.map_or(1, |layout| layout.shape().stripe_bytes())
}

fn content_of(credentials: &FileCredentials, data: u64) -> (Option<&Layout>, &Bytes) {
    if data == TOP {
        return (Some(&credentials.layout), &credentials.content);
    }
    let base = credentials.bases.iter().find(|base| base.capability.ino == data);
    (base.map(|base| &base.layout), base.map_or(&credentials.content, |base| &base.content))
}
