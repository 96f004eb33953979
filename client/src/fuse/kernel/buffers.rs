//! Memory that requests are read into. The data of a large write is not copied: its buffer goes along with it and comes
//! back to the pool when the last user of the data is done.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::abi::{IN_HEADER_BYTES, READ_BUFFER_MIN, WRITE_IN_BYTES};

const PAGE_BYTES: usize = 4096;
/// Where a request begins in its buffer, so that the data of a write begins at a page.
const START: usize = PAGE_BYTES - IN_HEADER_BYTES - WRITE_IN_BYTES;
/// Spare buffers that are kept.
const SPARE_MAX: usize = 16;
/// The data of a smaller write is copied: it must not hold a buffer of a mebibyte for as long as it is kept.
const COPY_BELOW: usize = 64 << 10;

#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Page([u8; PAGE_BYTES]);

/// Buffers of one mount.
#[derive(Debug)]
pub(in crate::fuse) struct Buffers {
    pages: usize,
    /// order: a leaf.
    spare: Mutex<Vec<Memory>>,
}

type Memory = Box<[Page]>;

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Page")
    }
}

/// A buffer, to be read into.
#[derive(Debug)]
pub(in crate::fuse) struct Buffer {
    /// Empty only while it is dropped.
    memory: Memory,
    pool: Arc<Buffers>,
}

impl Buffers {
    /// For writes of at most `request_bytes`.
    pub(in crate::fuse) fn new(request_bytes: usize) -> Arc<Self> {
        let pages = 1 + request_bytes.max(READ_BUFFER_MIN).div_ceil(PAGE_BYTES);
        Arc::new(Self { pages, spare: Mutex::new(Vec::new()) })
    }

    /// A spare buffer or a new one.
    pub(in crate::fuse) fn take(self: &Arc<Self>) -> Buffer {
        let spare = self.spare.lock().pop();
        let memory = spare.unwrap_or_else(|| vec![Page([0; PAGE_BYTES]); self.pages].into_boxed_slice());
        Buffer { memory, pool: self.clone() }
    }
}

impl Buffer {
    /// Where a request may be read to.
    pub(in crate::fuse) fn space(&mut self) -> &mut [u8] {
        let bytes = self.memory.len() * PAGE_BYTES;
        // SAFETY: pages are plain bytes without padding, one behind the other, and borrowed as long as the result.
        let all = unsafe { std::slice::from_raw_parts_mut(self.memory.as_mut_ptr().cast::<u8>(), bytes) };
        &mut all[START..]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        let bytes = self.memory.len() * PAGE_BYTES;
        // SAFETY: as above.
        let all = unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast::<u8>(), bytes) };
        &all[START..]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        let mut spare = self.pool.spare.lock();
        if spare.len() < SPARE_MAX {
            spare.push(memory);
        }
    }
}

/// Who owns the bytes of a request.
#[derive(Debug, Clone, Copy)]
pub(in crate::fuse) enum Owner<'a> {
    /// This buffer; parts of it can be kept without a copy.
    Shared(&'a Bytes),
    /// Memory that is used again when the request has been looked at.
    Borrowed,
}

impl Owner<'_> {
    /// `data`, which is part of the request, to keep.
    pub(in crate::fuse) fn keep(self, data: &[u8]) -> Bytes {
        match self {
            Self::Shared(whole) if data.len() >= COPY_BELOW => whole.slice_ref(data),
            Self::Shared(_) | Self::Borrowed => Bytes::copy_from_slice(data),
        }
    }
}

/// Whether a request of `len` bytes should own its buffer.
pub(in crate::fuse) fn worth_sharing(len: usize) -> bool {
    len >= COPY_BELOW + IN_HEADER_BYTES + WRITE_IN_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_of_a_large_write_begins_at_a_page_and_its_buffer_comes_back() {
        let pool = Buffers::new(1 << 20);
        let mut buffer = pool.take();
        let first = buffer.space().as_ptr();
        assert_eq!(buffer.space().len(), (1 << 20) + IN_HEADER_BYTES + WRITE_IN_BYTES);
        buffer.space()[80] = 7;
        let whole = Bytes::from_owner(buffer);
        let data = Owner::Shared(&whole).keep(&whole[80..80 + (1 << 20)]);
        assert_eq!((data[0], data.as_ptr() as usize % PAGE_BYTES), (7, 0));
        let small = Owner::Shared(&whole).keep(&whole[80..90]);
        drop(whole);
        assert!(pool.spare.lock().is_empty(), "the data still has it");
        drop(data);
        assert_eq!(pool.spare.lock().len(), 1, "a small piece does not hold it");
        assert_eq!(small[0], 7);
        assert_eq!(pool.take().space().as_ptr(), first);
        drop((0..2 * SPARE_MAX).map(|_| pool.take()).collect::<Vec<_>>());
        assert_eq!(pool.spare.lock().len(), SPARE_MAX);
    }
}
