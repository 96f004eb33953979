//! Memory for O_DIRECT: aligned to the block, used again where possible (a fresh megabyte costs 256 page faults).

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::limits::BLOCK_BYTES;

/// Bytes of unused buffers kept for later.
const POOL_BYTES_MAX: usize = 64 << 20;

/// A buffer whose first byte is block-aligned; its length is a multiple of the block.
pub(crate) struct AlignedBuf {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the buffer owns its memory alone, like a Vec<u8>.
unsafe impl Send for AlignedBuf {}
// SAFETY: shared access only reads.
unsafe impl Sync for AlignedBuf {}

/// Unused memory by capacity; all of it is initialised.
struct Pool {
    free: BTreeMap<usize, Vec<usize>>,
    bytes: usize,
}

/// order: innermost.
static POOL: Mutex<Pool> = Mutex::new(Pool { free: BTreeMap::new(), bytes: 0 });

impl AlignedBuf {
    /// Room for `blocks` blocks (at least one) with any content.
    pub(crate) fn new(blocks: usize) -> Self {
        let len = blocks.max(1) * BLOCK_BYTES;
        let capacity = len.next_power_of_two();
        let pooled = {
            let mut pool = POOL.lock();
            let found = pool.free.get_mut(&capacity).and_then(Vec::pop);
            pool.bytes -= if found.is_some() { capacity } else { 0 };
            found
        };
        let layout = layout(capacity);
        let start = match pooled {
            Some(start) => start as *mut u8,
            // SAFETY: the layout's size is not zero.
            None => unsafe { alloc_zeroed(layout) },
        };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start, len }
    }

    /// Room for `blocks` blocks, all zero.
    pub(crate) fn zeroed(blocks: usize) -> Self {
        let mut buf = Self::new(blocks);
        buf.fill(0);
        buf
    }

    /// `data` where O_DIRECT can take it from: itself when it lies right, else a copy padded to the block.
    pub(crate) fn align(data: Bytes) -> Bytes {
        if (data.as_ptr() as usize).is_multiple_of(BLOCK_BYTES) && data.len().is_multiple_of(BLOCK_BYTES) {
            return data;
        }
        let mut buf = Self::new(data.len().div_ceil(BLOCK_BYTES));
        buf[..data.len()].copy_from_slice(&data);
        buf[data.len()..].fill(0);
        Bytes::from_owner(buf)
    }
}

fn layout(capacity: usize) -> Layout {
    Layout::from_size_align(capacity, BLOCK_BYTES).expect("a buffer is far smaller than the address space")
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        let capacity = self.len.next_power_of_two();
        {
            let mut pool = POOL.lock();
            if pool.bytes + capacity <= POOL_BYTES_MAX {
                pool.bytes += capacity;
                pool.free.entry(capacity).or_default().push(self.start.as_ptr() as usize);
                return;
            }
        }
        // SAFETY: allocated by `new` with the same layout, and not in the pool.
        unsafe { dealloc(self.start.as_ptr(), layout(capacity)) }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes from `start` on belong to this buffer.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl AsRef<[u8]> for AlignedBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}
