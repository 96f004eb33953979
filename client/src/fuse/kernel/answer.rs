//! Answers: the structures that the kernel expects behind `fuse_out_header`.

use std::time::Duration;

use bytes::Bytes;

use super::fields::Put;

/// Inode numbers are never used again.
const GENERATION: u64 = 0;
/// `STATX_BASIC_STATS | STATX_BTIME`.
const STATX_MASK: u32 = 0x7ff | 0x800;

/// A point in time: seconds since 1970 (negative before), and nanoseconds after that second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::fuse) struct Instant {
    pub(in crate::fuse) seconds: i64,
    pub(in crate::fuse) nanos: u32,
}

/// `fuse_attr`, and the time of birth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::fuse) struct Attributes {
    pub(in crate::fuse) ino: u64,
    pub(in crate::fuse) size: u64,
    /// Of 512 bytes.
    pub(in crate::fuse) blocks: u64,
    pub(in crate::fuse) atime: Instant,
    pub(in crate::fuse) mtime: Instant,
    pub(in crate::fuse) ctime: Instant,
    pub(in crate::fuse) btime: Instant,
    /// Type and permissions, as `st_mode`.
    pub(in crate::fuse) mode: u32,
    pub(in crate::fuse) nlink: u32,
    pub(in crate::fuse) uid: u32,
    pub(in crate::fuse) gid: u32,
    pub(in crate::fuse) rdev: u32,
    pub(in crate::fuse) block_size: u32,
}

impl Attributes {
    fn put(&self, out: &mut Vec<u8>) {
        for word in [self.ino, self.size, self.blocks] {
            out.put_u64(word);
        }
        let times = [self.atime, self.mtime, self.ctime];
        times.iter().for_each(|time| out.put_u64(time.seconds.cast_unsigned()));
        times.iter().for_each(|time| out.put_u32(time.nanos));
        // The last word marks submounts and DAX: we have neither.
        for word in [self.mode, self.nlink, self.uid, self.gid, self.rdev, self.block_size, 0] {
            out.put_u32(word);
        }
    }

    /// `struct fuse_statx`.
    fn put_statx(&self, out: &mut Vec<u8>) {
        out.put_u32(STATX_MASK);
        out.put_u32(self.block_size);
        out.put_u64(0); // attributes: none of them is said
        for word in [self.nlink, self.uid, self.gid] {
            out.put_u32(word);
        }
        out.put_u16((self.mode & 0xffff) as u16);
        out.put_u16(0);
        for word in [self.ino, self.size, self.blocks, 0] {
            out.put_u64(word);
        }
        for time in [self.atime, self.btime, self.ctime, self.mtime] {
            out.put_u64(time.seconds.cast_unsigned());
            out.put_u32(time.nanos);
            out.put_u32(0);
        }
        // As the kernel encodes device numbers for programs (new_decode_dev).
        out.put_u32((self.rdev & 0x000f_ff00) >> 8);
        out.put_u32((self.rdev & 0xff) | ((self.rdev >> 12) & 0x000f_ff00));
        out.put_zeroes(8 + 14 * 8); // device of the file system (the kernel knows it), spare
    }
}

/// Attributes, and how long the kernel may believe them without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fuse) struct Known {
    pub(in crate::fuse) attr: Attributes,
    pub(in crate::fuse) ttl: Duration,
}

/// What a name means, and how long the kernel may believe it without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fuse) struct Entry {
    pub(in crate::fuse) known: Known,
    /// Of the name.
    pub(in crate::fuse) ttl: Duration,
}

/// A handle, and what the kernel may do with it ([`super::abi::fopen`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fuse) struct Opened {
    pub(in crate::fuse) handle: u64,
    pub(in crate::fuse) flags: u32,
}

/// Totals of a file system, in blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fuse) struct Totals {
    pub(in crate::fuse) blocks: u64,
    pub(in crate::fuse) free: u64,
    pub(in crate::fuse) inodes: u64,
    pub(in crate::fuse) free_inodes: u64,
    pub(in crate::fuse) block_size: u32,
    pub(in crate::fuse) name_max: u32,
}

/// The answer to one request, without the header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::fuse) struct Answer {
    /// 0, or why not (positive); then the rest is empty.
    pub(in crate::fuse) errno: i32,
    /// The structure.
    pub(in crate::fuse) fixed: Vec<u8>,
    /// What follows it, uncopied.
    pub(in crate::fuse) payload: Bytes,
}

impl Answer {
    fn fixed(len: usize, fill: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut fixed = Vec::with_capacity(len);
        fill(&mut fixed);
        debug_assert_eq!(fixed.len(), len, "an answer has the ABI's length");
        Self { errno: 0, fixed, payload: Bytes::new() }
    }

    /// A refusal.
    pub(in crate::fuse) fn error(errno: i32) -> Self {
        Self { errno, ..Self::default() }
    }

    /// Success and nothing else.
    pub(in crate::fuse) fn done() -> Self {
        Self::default()
    }

    /// Bytes as they are: data, a target, a listing, a value.
    pub(in crate::fuse) fn data(payload: impl Into<Bytes>) -> Self {
        Self { errno: 0, fixed: Vec::new(), payload: payload.into() }
    }

    /// `fuse_entry_out`.
    pub(in crate::fuse) fn entry(entry: &Entry) -> Self {
        Self::fixed(128, |out| put_entry(out, Some(entry), Duration::ZERO))
    }

    /// A name is not there, and the kernel may believe that for `ttl`. Without a time to believe it answer `ENOENT`.
    pub(in crate::fuse) fn no_entry(ttl: Duration) -> Self {
        Self::fixed(128, |out| put_entry(out, None, ttl))
    }

    /// `fuse_attr_out`.
    pub(in crate::fuse) fn attributes(known: &Known) -> Self {
        Self::fixed(104, |out| {
            out.put_u64(known.ttl.as_secs());
            out.put_u32(known.ttl.subsec_nanos());
            out.put_u32(0);
            known.attr.put(out);
        })
    }

    /// `fuse_statx_out`.
    pub(in crate::fuse) fn statx(known: &Known) -> Self {
        Self::fixed(288, |out| {
            out.put_u64(known.ttl.as_secs());
            out.put_u32(known.ttl.subsec_nanos());
            out.put_zeroes(4 + 16);
            known.attr.put_statx(out);
        })
    }

    /// `fuse_open_out`.
    pub(in crate::fuse) fn opened(opened: Opened) -> Self {
        Self::fixed(16, |out| put_opened(out, opened))
    }

    /// `fuse_entry_out` and `fuse_open_out`.
    pub(in crate::fuse) fn created(entry: &Entry, opened: Opened) -> Self {
        Self::fixed(144, |out| {
            put_entry(out, Some(entry), Duration::ZERO);
            put_opened(out, opened);
        })
    }

    /// `fuse_write_out`: bytes written or copied; also `fuse_getxattr_out`, `fuse_poll_out`.
    pub(in crate::fuse) fn number(value: u32) -> Self {
        Self::fixed(8, |out| {
            out.put_u32(value);
            out.put_u32(0);
        })
    }

    /// `fuse_lseek_out`, `fuse_copy_file_range_out`.
    pub(in crate::fuse) fn wide_number(value: u64) -> Self {
        Self::fixed(8, |out| out.put_u64(value))
    }

    /// `fuse_lk_out`.
    pub(in crate::fuse) fn lock(start: u64, end: u64, kind: i32, pid: u32) -> Self {
        Self::fixed(24, |out| {
            out.put_u64(start);
            out.put_u64(end);
            out.put_u32(kind.cast_unsigned());
            out.put_u32(pid);
        })
    }

    /// `fuse_ioctl_out` with result 0, and what the program gets.
    pub(in crate::fuse) fn ioctl(out: Vec<u8>) -> Self {
        Self { payload: out.into(), ..Self::fixed(16, |fixed| fixed.put_zeroes(16)) }
    }

    /// `fuse_statfs_out`.
    pub(in crate::fuse) fn totals(totals: &Totals) -> Self {
        Self::fixed(80, |out| {
            for word in [totals.blocks, totals.free, totals.free, totals.inodes, totals.free_inodes] {
                out.put_u64(word);
            }
            for word in [totals.block_size, totals.name_max, totals.block_size] {
                out.put_u32(word);
            }
            out.put_zeroes(4 + 6 * 4);
        })
    }

    /// Bytes behind the header.
    pub(in crate::fuse) fn len(&self) -> usize {
        self.fixed.len() + self.payload.len()
    }
}

fn put_entry(out: &mut Vec<u8>, entry: Option<&Entry>, absent_ttl: Duration) {
    let (ttl, known) = entry.map_or((absent_ttl, None), |entry| (entry.ttl, Some(entry.known)));
    let attr_ttl = known.map_or(Duration::ZERO, |known| known.ttl);
    let attr = known.map_or(Attributes::default(), |known| known.attr);
    for word in [attr.ino, GENERATION, ttl.as_secs(), attr_ttl.as_secs()] {
        out.put_u64(word);
    }
    out.put_u32(ttl.subsec_nanos());
    out.put_u32(attr_ttl.subsec_nanos());
    attr.put(out);
}

fn put_opened(out: &mut Vec<u8>, opened: Opened) {
    out.put_u64(opened.handle);
    out.put_u32(opened.flags);
    out.put_u32(0);
}

/// A listing under construction: entries as long as they fit.
pub(in crate::fuse) struct Listing {
    out: Vec<u8>,
    limit: usize,
    with_attrs: bool,
}

impl Listing {
    /// For a kernel buffer of `limit` bytes; `with_attrs` for READDIRPLUS.
    pub(in crate::fuse) fn new(limit: u32, with_attrs: bool) -> Self {
        Self { out: Vec::new(), limit: limit as usize, with_attrs }
    }

    /// Appends a name. False: it does not fit, the listing is full. Without an `entry` READDIRPLUS tells the name only.
    /// `kind` is the type as in `st_mode`, shifted down (`DT_...`).
    pub(in crate::fuse) fn add(
        &mut self,
        entry: Option<&Entry>,
        ino: u64,
        offset: u64,
        kind: u32,
        name: &[u8],
    ) -> bool {
        let len = if self.with_attrs { 128 } else { 0 } + 24 + name.len();
        let padded = len.next_multiple_of(8);
        let Ok(name_len) = u32::try_from(name.len()) else { return false };
        if self.out.len() + padded > self.limit {
            return false;
        }
        if self.with_attrs {
            put_entry(&mut self.out, entry, Duration::ZERO);
        }
        self.out.put_u64(ino);
        self.out.put_u64(offset);
        self.out.put_u32(name_len);
        self.out.put_u32(kind);
        self.out.extend_from_slice(name);
        self.out.put_zeroes(padded - len);
        true
    }

    /// The answer.
    pub(in crate::fuse) fn finish(self) -> Answer {
        Answer::data(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::Fields;
    use super::*;

    fn entry() -> Entry {
        let time = |seconds| Instant { seconds, nanos: 7 };
        let attr = Attributes {
            ino: 42,
            size: 5,
            blocks: 8,
            atime: time(-1),
            mtime: time(2),
            ctime: time(3),
            btime: time(4),
            mode: 0o100_644,
            nlink: 1,
            uid: 10,
            gid: 20,
            rdev: 0x0012_3456,
            block_size: 4096,
        };
        Entry { known: Known { attr, ttl: Duration::new(1, 2) }, ttl: Duration::new(3, 4) }
    }

    #[test]
    fn answers_have_the_abi_s_lengths_and_places() {
        let entry = entry();
        let created = Answer::created(&entry, Opened { handle: 9, flags: 2 });
        assert_eq!(created.len(), 144);
        let mut fields = Fields::new(&created.fixed);
        assert_eq!(
            [fields.u64(), fields.u64(), fields.u64(), fields.u64()].map(Option::unwrap),
            [42, 0, 3, 1]
        );
        assert_eq!([fields.u32(), fields.u32()].map(Option::unwrap), [4, 2]);
        fields.skip(24).unwrap();
        assert_eq!(fields.u64().unwrap().cast_signed(), -1);
        let statx = Answer::statx(&entry.known);
        assert_eq!(statx.len(), 288);
        let mut fields = Fields::new(&statx.fixed[32..]);
        assert_eq!(fields.u32(), Some(0xfff));
        fields.skip(4 + 8 + 12).unwrap();
        assert_eq!(fields.u16(), Some(0o100_644));
        fields.skip(2 + 32 + 16).unwrap();
        assert_eq!(fields.u64(), Some(4), "the time of birth");
        fields.skip(8 + 32).unwrap();
        assert_eq!((fields.u32(), fields.u32()), (Some(0x234), Some(0x156)));
        let totals =
            Totals { blocks: 1, free: 2, inodes: 3, free_inodes: 4, block_size: 4096, name_max: 255 };
        let lens = [
            Answer::entry(&entry).len(),
            Answer::no_entry(Duration::from_secs(1)).len(),
            Answer::attributes(&entry.known).len(),
            Answer::opened(Opened { handle: 1, flags: 0 }).len(),
            Answer::number(1).len(),
            Answer::wide_number(1).len(),
            Answer::lock(0, 1, 2, 3).len(),
            Answer::ioctl(vec![1, 2]).len(),
            Answer::totals(&totals).len(),
        ];
        assert_eq!(lens, [128, 128, 104, 16, 8, 8, 24, 18, 80]);
    }

    #[test]
    fn a_listing_stops_at_the_kernel_s_buffer() {
        let mut listing = Listing::new(160 + 152 + 7, true);
        assert!(listing.add(None, 1, 1, 4, b"."));
        assert!(!listing.add(Some(&entry()), 2, 2, 8, b"12345678"), "one byte too much");
        assert!(listing.add(Some(&entry()), 2, 2, 8, b""));
        assert_eq!(listing.finish().payload.len(), 160 + 152);
        let mut listing = Listing::new(32, false);
        assert!(listing.add(Some(&entry()), 2, 2, 8, b"12345678") && !listing.add(None, 2, 2, 8, b"1"));
    }
}
