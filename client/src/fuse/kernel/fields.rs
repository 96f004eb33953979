//! Reads numbers out of a request and writes them into an answer. The kernel is of our machine: its byte order is ours.

/// A request's bytes, read from the front; every read is checked.
#[derive(Clone, Copy, Debug)]
pub(in crate::fuse) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(in crate::fuse) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*first)
    }

    pub(in crate::fuse) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_ne_bytes)
    }

    pub(in crate::fuse) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    pub(in crate::fuse) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }

    /// Passes over padding.
    pub(in crate::fuse) fn skip(&mut self, bytes: usize) -> Option<()> {
        self.rest = self.rest.get(bytes..)?;
        Some(())
    }

    /// The next `len` bytes.
    pub(in crate::fuse) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(first)
    }

    /// A name or target, up to its NUL.
    pub(in crate::fuse) fn string(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|byte| *byte == 0)?;
        let (string, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        Some(string)
    }

    /// Everything that is left.
    pub(in crate::fuse) fn rest(self) -> &'a [u8] {
        self.rest
    }
}

/// Writes numbers behind one another.
pub(in crate::fuse) trait Put {
    fn put_u16(&mut self, value: u16);
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
    fn put_zeroes(&mut self, bytes: usize);
}

impl Put for Vec<u8> {
    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_ne_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_ne_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_ne_bytes());
    }

    fn put_zeroes(&mut self, bytes: usize) {
        self.resize(self.len() + bytes, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_past_the_end() {
        let mut fields = Fields::new(b"abc\0\x01\0\0\0xy");
        assert_eq!(fields.string(), Some(&b"abc"[..]));
        assert_eq!(fields.u32(), Some(u32::from_ne_bytes([1, 0, 0, 0])));
        assert_eq!((fields.u32(), fields.u64(), fields.string(), fields.bytes(3)), (None, None, None, None));
        assert_eq!(fields.skip(3), None);
        assert_eq!(fields.rest(), b"xy");
    }
}
