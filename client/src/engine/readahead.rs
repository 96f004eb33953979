//! How far to read ahead of a sequential reader: nothing for random readers, then a window that doubles.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::ops::Range;

/// Window after the first sequential read, bytes.
pub const WINDOW_MIN: u64 = 256 << 10;

/// The window of one handle.
#[derive(Debug, Clone)]
pub struct ReadAhead {
    max: u64,
    window: u64,
    expected: u64,
    fetched: u64,
}

impl ReadAhead {
    /// A handle that has not been read; `max` bounds the memory.
    #[must_use]
    pub fn new(max: u64) -> Self {
        Self { max, window: 0, expected: 0, fetched: 0 }
    }

    /// A read of `[offset, offset + len)`: what to fetch in addition, beyond the read, now.
    pub fn read(&mut self, offset: u64, len: u64, size: u64) -> Range<u64> {
        let end = offset + len;
        if offset != self.expected {
            *self = Self { max: self.max, window: 0, expected: end, fetched: end };
            return end..end;
        }
        self.expected = end;
        self.fetched = self.fetched.max(end);
        self.window = (self.window * 2).clamp(WINDOW_MIN.min(self.max), self.max);
        // Refill in large steps: when half of the window has been consumed.
        if self.fetched - end > self.window / 2 {
            return end..end;
        }
        let from = self.fetched;
        self.fetched = (end + self.window).min(size).max(from);
        from..self.fetched
    }

    /// What was fetched is worth nothing any more (the file was changed).
    pub fn reset(&mut self) {
        *self = Self::new(self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequential_readers_get_a_growing_window_and_random_ones_none() {
        let mut ahead = ReadAhead::new(4 << 20);
        let size = 64 << 20;
        let mut at = 0;
        let mut most = 0;
        for _ in 0..200 {
            let fetch = ahead.read(at, 128 << 10, size);
            assert!(fetch.start >= at + (128 << 10) || fetch.is_empty());
            at += 128 << 10;
            assert!(ahead.fetched <= at + (4 << 20), "bounded by the window");
            most = most.max(ahead.fetched - at);
        }
        assert_eq!(most, 4 << 20);
        assert!(ahead.read(1, 4096, size).is_empty());
        assert!(ahead.read(7777, 4096, size).is_empty());
    }

    #[test]
    fn nothing_is_fetched_beyond_the_end_and_nothing_twice() {
        let mut ahead = ReadAhead::new(1 << 20);
        let size = 3 << 20;
        let mut fetched = Vec::new();
        for at in (0..size).step_by(64 << 10) {
            let range = ahead.read(at, 64 << 10, size);
            if !range.is_empty() {
                fetched.push(range);
            }
        }
        assert!(fetched.windows(2).all(|two| two[0].end <= two[1].start));
        assert_eq!(fetched.last().unwrap().end, size);
    }
}
