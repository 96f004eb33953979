//! Fields of requests that `fuser` 0.18 reads and does not hand on: which kind of lock, who clears setuid, how much
//! of a directory fits.

use fuser::Request;

/// Length of `fuse_in_header`.
const HEAD: usize = 40;
/// `FUSE_LK_FLOCK` of `fuse_lk_in.lk_flags`.
const LK_FLOCK: u32 = 1;
/// `FATTR_KILL_SUIDGID` of `fuse_setattr_in.valid`.
const FATTR_KILL_SUIDGID: u32 = 1 << 11;
/// `FUSE_OPEN_KILL_SUIDGID` of `fuse_open_in.open_flags` and `fuse_create_in.open_flags`.
const OPEN_KILL_SUIDGID: u32 = 1;

/// A whole request, header included.
fn bytes(request: &Request) -> &[u8] {
    let head = std::ptr::from_ref(request).cast::<u8>();
    // SAFETY: `Request` is a transparent wrapper of `fuse_in_header`, borrowed from the front of the buffer that fuser
    // read the request into; the header's first word is the request's length, which fuser checked against the bytes
    // it has read, and the buffer lives as long as the borrow.
    unsafe {
        let len = head.cast::<u32>().read_unaligned() as usize;
        std::slice::from_raw_parts(head, len)
    }
}

fn word(request: &Request, at: usize) -> u32 {
    let bytes = bytes(request);
    bytes
        .get(HEAD + at..HEAD + at + 4)
        .map_or(0, |word| u32::from_ne_bytes(word.try_into().expect("four bytes")))
}

/// `setlk`, `getlk`: a `flock` lock, not a POSIX one.
pub(super) fn is_flock(request: &Request) -> bool {
    word(request, 40) & LK_FLOCK != 0
}

/// `setattr`: setuid and setgid go.
pub(super) fn setattr_clears_setid(request: &Request) -> bool {
    word(request, 0) & FATTR_KILL_SUIDGID != 0
}

/// `open` with `O_TRUNC`: setuid and setgid go.
pub(super) fn open_clears_setid(request: &Request) -> bool {
    word(request, 4) & OPEN_KILL_SUIDGID != 0
}

/// `create` with `O_TRUNC`: setuid and setgid go.
pub(super) fn create_clears_setid(request: &Request) -> bool {
    word(request, 12) & OPEN_KILL_SUIDGID != 0
}

/// `readdir`, `readdirplus`: bytes of the kernel's buffer.
pub(super) fn readdir_bytes(request: &Request) -> u32 {
    word(request, 16)
}
