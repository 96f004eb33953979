//! How a write is cut into blocks, and when the old content of a block is needed.

use std::ops::Range;

use proto::limits::BLOCK_BYTES;

const BLOCK: u32 = BLOCK_BYTES as u32;

/// A write of `len` bytes at `offset`, in blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// First byte.
    pub offset: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// Bytes `offset..offset + len`.
    #[must_use]
    pub fn new(offset: u32, len: u32) -> Self {
        Self { offset, end: offset + len }
    }

    /// Blocks touched.
    #[must_use]
    pub fn blocks(&self) -> Range<u32> {
        self.offset / BLOCK..self.end.div_ceil(BLOCK)
    }

    /// Blocks covered from their first byte to their last.
    #[must_use]
    pub fn whole_blocks(&self) -> Range<u32> {
        let from = self.offset.div_ceil(BLOCK);
        from..(self.end / BLOCK).max(from)
    }

    /// The part of a block that is written, relative to the block.
    #[must_use]
    pub fn within(&self, block: u32) -> Range<usize> {
        let start = block * BLOCK;
        let from = self.offset.max(start) - start;
        from as usize..(self.end.min(start + BLOCK) - start) as usize
    }

    /// The same part, relative to the write's data.
    #[must_use]
    pub fn of_data(&self, block: u32) -> Range<usize> {
        let within = self.within(block);
        let base = (block * BLOCK) as usize;
        base + within.start - self.offset as usize..base + within.end - self.offset as usize
    }

    /// Whether a block keeps bytes that it had when the object was `length` long.
    #[must_use]
    pub fn keeps_old_bytes(&self, block: u32, length: u32) -> bool {
        let start = block * BLOCK;
        let old_end = length.min(start + BLOCK);
        if old_end <= start {
            return false;
        }
        let within = self.within(block);
        within.start > 0 || ((start as usize + within.end) as u32) < old_end
    }

    /// The blocks at the edges that are not covered whole.
    pub fn edges(&self) -> impl Iterator<Item = u32> + use<> {
        let (blocks, whole) = (self.blocks(), self.whole_blocks());
        blocks.filter(move |block| !whole.contains(block))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_byte_by_byte(offset in 0u32..20_000, len in 1u32..20_000, length in 0u32..40_000) {
            let span = Span::new(offset, len);
            let written = |byte: u32| (offset..offset + len).contains(&byte);
            for block in 0..10 {
                let bytes = block * BLOCK..(block + 1) * BLOCK;
                let touched = bytes.clone().any(written);
                prop_assert_eq!(span.blocks().contains(&block), touched);
                prop_assert_eq!(span.whole_blocks().contains(&block), bytes.clone().all(written));
                if touched {
                    let keeps = bytes.clone().any(|byte| byte < length && !written(byte));
                    prop_assert_eq!(span.keeps_old_bytes(block, length), keeps);
                    let first = bytes.clone().find(|byte| written(*byte)).unwrap();
                    prop_assert_eq!(span.within(block).start, (first % BLOCK) as usize);
                    prop_assert_eq!(span.of_data(block).start, (first - offset) as usize);
                    prop_assert_eq!(span.within(block).len(), bytes.filter(|byte| written(*byte)).count());
                }
            }
            let edges: Vec<u32> = span.edges().collect();
            prop_assert!(edges.len() <= 2);
        }
    }
}
