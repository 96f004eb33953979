//! What a file system tells its kernel unasked: forget these pages, attributes, names.
//!
//! Every call is one write(2) to the device and returns when the kernel has done it. Dropping pages waits for requests
//! on them that are under way, and dropping a name waits for the directory's lock, which a system call that waits for
//! our answer may hold: call those from a thread that serves no requests.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::uio::writev;

/// `enum fuse_notify_code`.
const INVAL_INODE: i32 = 2;
const INVAL_ENTRY: i32 = 3;
const STORE: i32 = 4;
const DELETE: i32 = 6;
/// Linux 6.9.
const RESEND: i32 = 7;
/// FUSE 7.44, Linux 6.16.
const INC_EPOCH: i32 = 8;
/// The FUSE minor version that knows [`INC_EPOCH`].
const MINOR_OF_INC_EPOCH: u32 = 44;
/// Length of `fuse_out_header`.
const HEAD_BYTES: usize = 16;

/// Tells the kernel of one mount. Cheap to clone; usable from any thread, also after the mount has ended.
#[derive(Clone, Debug)]
pub struct Notifier {
    device: Arc<OwnedFd>,
    /// The FUSE minor version agreed on.
    minor: Arc<AtomicU32>,
}

impl Notifier {
    pub(in crate::fuse) fn new(device: Arc<OwnedFd>) -> Self {
        Self { device, minor: Arc::new(AtomicU32::new(0)) }
    }

    /// What the handshake gave.
    pub(in crate::fuse) fn agreed_on(&self, minor: u32) {
        self.minor.store(minor, Ordering::Release);
    }

    /// Attributes of an inode are no longer known. With `offset >= 0` also its pages in `[offset, offset + len)`, to
    /// the end with `len` 0; that waits for reads and writes of these pages. A negative `offset`: attributes only.
    /// False: the kernel does not know the inode.
    pub fn inval_inode(&self, ino: u64, offset: i64, len: i64) -> io::Result<bool> {
        let mut body = Vec::with_capacity(24);
        body.extend_from_slice(&ino.to_ne_bytes());
        body.extend_from_slice(&offset.to_ne_bytes());
        body.extend_from_slice(&len.to_ne_bytes());
        self.tell_if_known(INVAL_INODE, &body, &[])
    }

    /// What a name means (or that it is not there) is no longer known. The attributes of the directory go as well.
    pub fn inval_entry(&self, parent: u64, name: &[u8]) -> io::Result<()> {
        let mut body = Vec::with_capacity(16);
        body.extend_from_slice(&parent.to_ne_bytes());
        body.extend_from_slice(&len_of(name)?.to_ne_bytes());
        body.extend_from_slice(&0u32.to_ne_bytes());
        self.tell_if_known(INVAL_ENTRY, &body, &[name, b"\0"]).map(|_| ())
    }

    /// Like [`Notifier::inval_entry`] for a name that was removed: watchers (inotify) hear of it too.
    pub fn delete(&self, parent: u64, child: u64, name: &[u8]) -> io::Result<()> {
        let mut body = Vec::with_capacity(24);
        body.extend_from_slice(&parent.to_ne_bytes());
        body.extend_from_slice(&child.to_ne_bytes());
        body.extend_from_slice(&len_of(name)?.to_ne_bytes());
        body.extend_from_slice(&0u32.to_ne_bytes());
        self.tell_if_known(DELETE, &body, &[name, b"\0"]).map(|_| ())
    }

    /// Every name of the mount is looked up again at its next use. One message, no waiting.
    /// `Unsupported` when [`Notifier::supports_inc_epoch`] says no.
    pub fn inc_epoch(&self) -> io::Result<()> {
        if !self.supports_inc_epoch() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this kernel cannot drop all names at once (Linux 6.16 can): drop them one by one",
            ));
        }
        self.tell(INC_EPOCH, &[], &[])
    }

    /// Whether [`Notifier::inc_epoch`] works (Linux 6.16).
    #[must_use]
    pub fn supports_inc_epoch(&self) -> bool {
        self.minor.load(Ordering::Acquire) >= MINOR_OF_INC_EPOCH
    }

    /// Puts data into the page cache; the size grows with it.
    pub fn store(&self, ino: u64, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut body = Vec::with_capacity(24);
        body.extend_from_slice(&ino.to_ne_bytes());
        body.extend_from_slice(&offset.to_ne_bytes());
        body.extend_from_slice(&len_of(data)?.to_ne_bytes());
        body.extend_from_slice(&0u32.to_ne_bytes());
        self.tell_if_known(STORE, &body, &[data]).map(|_| ())
    }

    /// Asks to send again every request that was read from the device and not answered: for the successor of a dead
    /// process. False when the kernel cannot (before Linux 6.9).
    pub fn resend(&self) -> io::Result<bool> {
        match self.tell(RESEND, &[], &[]) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// `ENOENT`: the kernel does not know the inode or name, so there is nothing to forget. `ENODEV`: unmounted.
    fn tell_if_known(&self, code: i32, body: &[u8], rest: &[&[u8]]) -> io::Result<bool> {
        match self.tell(code, body, rest) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(false),
            other => other.map(|()| true),
        }
    }

    fn tell(&self, code: i32, body: &[u8], rest: &[&[u8]]) -> io::Result<()> {
        let len = HEAD_BYTES + body.len() + rest.iter().map(|part| part.len()).sum::<usize>();
        let mut head = Vec::with_capacity(HEAD_BYTES);
        let len = u32::try_from(len).map_err(|_| too_long())?;
        head.extend_from_slice(&len.to_ne_bytes());
        head.extend_from_slice(&code.to_ne_bytes());
        head.extend_from_slice(&0u64.to_ne_bytes()); // a notification, not an answer
        let mut parts = vec![IoSlice::new(&head), IoSlice::new(body)];
        parts.extend(rest.iter().map(|part| IoSlice::new(part)));
        writev(self.device.as_fd(), &parts)?;
        Ok(())
    }
}

fn len_of(bytes: &[u8]) -> io::Result<u32> {
    u32::try_from(bytes.len()).map_err(|_| too_long())
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "more than 4 GiB in one notification to the kernel")
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    /// What a call writes.
    fn told(call: impl FnOnce(&Notifier) -> io::Result<()>) -> Vec<u8> {
        let (read, write) = nix::unistd::pipe().unwrap();
        let notifier = Notifier::new(Arc::new(write));
        notifier.agreed_on(44);
        call(&notifier).unwrap();
        drop(notifier);
        let mut bytes = Vec::new();
        File::from(read).read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn words(bytes: &[u8]) -> Vec<u32> {
        bytes.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect()
    }

    #[test]
    fn messages_have_the_kernel_s_layout() {
        assert_eq!(words(&told(Notifier::inc_epoch)), [16, 8, 0, 0]);
        assert_eq!(
            words(&told(|kernel| kernel.inval_inode(7, -1, 0).map(|known| assert!(known)))),
            [40, 2, 0, 0, 7, 0, u32::MAX, u32::MAX, 0, 0]
        );
        let entry = told(|kernel| kernel.inval_entry(1, b"abc"));
        assert_eq!(words(&entry), [36, 3, 0, 0, 1, 0, 3, 0, u32::from_ne_bytes(*b"abc\0")]);
        let delete = told(|kernel| kernel.delete(1, 9, b"abc"));
        assert_eq!(words(&delete), [44, 6, 0, 0, 1, 0, 9, 0, 3, 0, u32::from_ne_bytes(*b"abc\0")]);
        assert_eq!(
            words(&told(|kernel| kernel.store(5, 4096, b"data"))),
            [44, 4, 0, 0, 5, 0, 4096, 0, 4, 0, u32::from_ne_bytes(*b"data")]
        );
        assert_eq!(words(&told(|kernel| kernel.resend().map(drop))), [16, 7, 0, 0]);
    }

    #[test]
    fn an_old_kernel_is_not_asked_for_a_new_epoch() {
        let (_read, write) = nix::unistd::pipe().unwrap();
        let notifier = Notifier::new(Arc::new(write));
        notifier.agreed_on(43);
        assert_eq!(notifier.inc_epoch().unwrap_err().kind(), io::ErrorKind::Unsupported);
    }
}
