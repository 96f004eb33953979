//! Bytes of the rows that are read most: inodes and entries. Each starts with a version byte; integers are
//! little-endian. Layout in docs/formats/mrc-store.md.

use proto::mrc::Time;

/// Version byte of every row written by this binary.
pub const VERSION: u8 = 2;

/// Appends integers.
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn new(capacity: usize) -> Self {
        let mut out = Vec::with_capacity(capacity);
        out.push(VERSION);
        Self(out)
    }

    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn time(mut self, value: Time) -> Self {
        self.0.extend_from_slice(&value.seconds.to_le_bytes());
        self.u32(value.nanos)
    }

    /// Bytes behind their length; at most 65,535 of them.
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        let length = u16::try_from(bytes.len()).expect("names are bounded by NAME_BYTES_MAX");
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    /// Bytes whose number the reader knows from elsewhere.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn tail(mut self, bytes: &[u8]) -> Vec<u8> {
        self.0.extend_from_slice(bytes);
        self.0
    }
}

/// Takes integers from the front; `None` when the bytes end early.
pub(crate) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    /// `None` when the version is not ours.
    pub(crate) fn new(bytes: &'a [u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        (*version == VERSION).then_some(Self(rest))
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|bytes| bytes[0])
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub(crate) fn time(&mut self) -> Option<Time> {
        Some(Time { seconds: self.take().map(i64::from_le_bytes)?, nanos: self.u32()? })
    }

    /// The inverse of [`Writer::bytes`].
    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(u16::from_le_bytes(self.take()?));
        self.raw(length)
    }

    /// The inverse of [`Writer::raw`].
    pub(crate) fn raw(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// A prost message behind the version byte.
pub(crate) fn versioned(message: &impl prost::Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + message.encoded_len());
    out.push(VERSION);
    message.encode(&mut out).expect("a Vec grows");
    out
}

/// The inverse of [`versioned`].
pub(crate) fn unversioned<M: prost::Message + Default>(bytes: &[u8]) -> Option<M> {
    M::decode(Cursor::new(bytes)?.rest()).ok()
}
