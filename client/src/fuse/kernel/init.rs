//! The handshake: what the kernel offers and what we take.

use super::abi::{self, init};
use super::fields::Put;
use super::operation::{InitIn, Layout};

/// What we would like, when the kernel has it. It works without any of them, only less well.
const WANTED: u64 = init::ASYNC_READ
    | init::BIG_WRITES
    | init::MAX_PAGES
    | init::PARALLEL_DIROPS
    | init::DO_READDIRPLUS
    | init::READDIRPLUS_AUTO
    | init::ASYNC_DIO
    | init::POSIX_LOCKS
    | init::FLOCK_LOCKS
    // Pages go when mtime or size change: right as long as others may write without telling us.
    | init::AUTO_INVAL_DATA
    | init::ATOMIC_O_TRUNC
    // The kernel then tells who loses setuid, instead of asking for a capability xattr at each write.
    | init::HANDLE_KILLPRIV_V2
    | init::HAS_IOCTL_DIR
    // Targets never change, and inode numbers are never used again.
    | init::CACHE_SYMLINKS
    | init::ABORT_ERROR
    | init::SETXATTR_EXT
    | init::DONT_MASK
    | init::CREATE_SUPP_GROUP
    | init::DIRECT_IO_ALLOW_MMAP
    | init::HAS_RESEND;

/// What depends on how the mount was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fuse) struct Wishes {
    /// Largest write and read request, bytes; a multiple of the page size.
    pub(in crate::fuse) request_bytes: u32,
    /// Largest read-ahead, bytes.
    pub(in crate::fuse) readahead_bytes: u32,
    /// Background requests (read-ahead, asynchronous direct I/O) under way.
    pub(in crate::fuse) background: u16,
    /// The kernel shall check access control lists (with it goes `default_permissions`).
    pub(in crate::fuse) acl: bool,
    /// Idmapped mounts of it are allowed; requests then do not name users.
    pub(in crate::fuse) idmap: bool,
    /// Requests shall come over io_uring.
    pub(in crate::fuse) uring: bool,
}

/// What both sides agreed on. The successor of a mount process needs it as much as the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fuse) struct Agreed {
    pub(in crate::fuse) minor: u32,
    pub(in crate::fuse) flags: u64,
    pub(in crate::fuse) request_bytes: u32,
}

/// What to do about an INIT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::fuse) enum Handshake {
    /// Answer with this; done.
    Agree(Agreed, Vec<u8>),
    /// A newer major version: answer with ours, and the kernel asks again.
    AskAgain(Vec<u8>),
    /// The kernel is too old.
    Refuse(String),
}

const PAGE_BYTES: u32 = 4096;

/// Decides about an INIT.
pub(in crate::fuse) fn decide(offer: &InitIn, wishes: &Wishes) -> Handshake {
    if offer.major > abi::MAJOR {
        let mut out = Vec::with_capacity(64);
        out.put_u32(abi::MAJOR);
        out.put_u32(abi::MINOR_MAX);
        out.put_zeroes(56);
        return Handshake::AskAgain(out);
    }
    if offer.major < abi::MAJOR || offer.minor < abi::MINOR_MIN {
        return Handshake::Refuse(format!(
            "this kernel speaks FUSE {}.{}, at least {}.{} is needed: use Linux 5.4 or newer",
            offer.major,
            offer.minor,
            abi::MAJOR,
            abi::MINOR_MIN
        ));
    }
    let mut wanted = WANTED;
    let wishes_and_flags = [
        (wishes.acl, init::POSIX_ACL),
        (wishes.idmap, init::ALLOW_IDMAP),
        (wishes.uring, init::OVER_IO_URING),
    ];
    for (wish, flag) in wishes_and_flags {
        if wish {
            wanted |= flag;
        }
    }
    let mut flags = offer.flags & wanted;
    if offer.flags & init::INIT_EXT != 0 {
        flags |= init::INIT_EXT;
    } else {
        flags &= u64::from(u32::MAX);
    }
    // Without MAX_PAGES the kernel sends 128 KiB at most, whatever we say.
    let agreed =
        Agreed { minor: offer.minor.min(abi::MINOR_MAX), flags, request_bytes: wishes.request_bytes };
    Handshake::Agree(agreed, answer(offer, wishes, &agreed))
}

/// `fuse_init_out`.
fn answer(offer: &InitIn, wishes: &Wishes, agreed: &Agreed) -> Vec<u8> {
    let pages = u16::try_from(wishes.request_bytes / PAGE_BYTES).unwrap_or(u16::MAX);
    let mut out = Vec::with_capacity(64);
    out.put_u32(abi::MAJOR);
    out.put_u32(agreed.minor);
    out.put_u32(offer.max_readahead.min(wishes.readahead_bytes));
    out.put_u32((agreed.flags & u64::from(u32::MAX)) as u32);
    out.put_u16(wishes.background);
    out.put_u16(wishes.background / 4 * 3);
    out.put_u32(wishes.request_bytes);
    out.put_u32(1); // granularity of times, nanoseconds
    out.put_u16(pages);
    out.put_u16(0); // alignment of DAX mappings
    out.put_u32((agreed.flags >> 32) as u32);
    out.put_zeroes(28);
    out
}

impl Agreed {
    pub(in crate::fuse) fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// How requests look.
    pub(in crate::fuse) fn layout(&self) -> Layout {
        Layout { setxattr_ext: self.has(init::SETXATTR_EXT) }
    }

    /// As text, for a successor.
    pub(in crate::fuse) fn show(&self) -> String {
        format!("{}:{:016x}:{}", self.minor, self.flags, self.request_bytes)
    }

    /// From the text.
    pub(in crate::fuse) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let agreed = Self {
            minor: parts.next()?.parse().ok()?,
            flags: u64::from_str_radix(parts.next()?, 16).ok()?,
            request_bytes: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(agreed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WISHES: Wishes = Wishes {
        request_bytes: 1 << 20,
        readahead_bytes: 4 << 20,
        background: 64,
        acl: true,
        idmap: false,
        uring: false,
    };

    fn offer(minor: u32, flags: u64) -> InitIn {
        InitIn { major: 7, minor, max_readahead: 1 << 17, flags }
    }

    fn agreed(offer: &InitIn, wishes: &Wishes) -> (Agreed, Vec<u8>) {
        match decide(offer, wishes) {
            Handshake::Agree(agreed, out) => (agreed, out),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_what_both_have_is_agreed_on() {
        let (new, out) = agreed(&offer(46, u64::MAX), &WISHES);
        assert_eq!((new.minor, out.len()), (45, 64));
        assert!(new.has(init::CREATE_SUPP_GROUP) && new.layout().setxattr_ext);
        assert!(!new.has(init::ALLOW_IDMAP) && !new.has(init::OVER_IO_URING));
        let word = |at: usize| u32::from_ne_bytes(out[at * 4..at * 4 + 4].try_into().unwrap());
        assert_eq!([word(0), word(1), word(2), word(5), word(6)], [7, 45, 1 << 17, 1 << 20, 1]);
        assert_eq!(word(7), 256, "pages");
        assert_eq!(u64::from(word(8)) << 32 | u64::from(word(3)), new.flags);
        let (both, _) = agreed(&offer(45, u64::MAX), &Wishes { idmap: true, uring: true, ..WISHES });
        assert!(both.has(init::ALLOW_IDMAP) && both.has(init::OVER_IO_URING));
        let (old, _) = agreed(&offer(31, u64::from(u32::MAX) & !init::INIT_EXT), &WISHES);
        assert_eq!((old.minor, old.flags >> 32), (31, 0));
        assert_eq!(Agreed::parse(&new.show()), Some(new));
        assert_eq!(Agreed::parse("45:zz:1"), None);
    }

    #[test]
    fn other_major_versions_and_old_kernels_are_told_so() {
        assert!(matches!(decide(&InitIn { major: 8, ..offer(0, 0) }, &WISHES), Handshake::AskAgain(_)));
        let Handshake::Refuse(why) = decide(&offer(30, 0), &WISHES) else { panic!("too old") };
        assert!(why.contains("7.30") && why.contains("Linux 5.4"), "{why}");
    }
}
