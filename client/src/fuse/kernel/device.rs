//! `/dev/fuse`, connected to a mount: one read is one request, one write is one answer.

use std::fs::OpenOptions;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use nix::sys::uio::writev;

use super::abi::OUT_HEADER_BYTES;
use super::answer::Answer;
use super::fields::Put;

// `FUSE_DEV_IOC_CLONE`: _IOR(229, 0, u32), the descriptor to connect to.
nix::ioctl_read!(clone_device, 229, 0, u32);

/// One channel to the kernel. An answer has to go where its request came from.
#[derive(Debug, Clone)]
pub(in crate::fuse) struct Device {
    fd: Arc<OwnedFd>,
}

impl Device {
    pub(in crate::fuse) fn new(fd: Arc<OwnedFd>) -> Self {
        Self { fd }
    }

    /// Another channel to the same mount, with its own list of requests under way: threads do not share a lock. When
    /// it is closed the kernel fails what was read from it.
    pub(in crate::fuse) fn another(&self) -> io::Result<Self> {
        let new = OwnedFd::from(OpenOptions::new().read(true).write(true).open("/dev/fuse")?);
        let mut connect_to = self.fd.as_raw_fd().cast_unsigned();
        // SAFETY: the kernel reads one word, which outlives the call.
        unsafe { clone_device(new.as_raw_fd(), &raw mut connect_to) }?;
        Ok(Self { fd: Arc::new(new) })
    }

    /// The descriptor.
    pub(in crate::fuse) fn fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// The next request; `None` when the file system has been unmounted, or its connection was aborted.
    pub(in crate::fuse) fn read(&self, space: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match nix::unistd::read(&self.fd, space) {
                Ok(0) | Err(nix::errno::Errno::ENODEV) => return Ok(None),
                // We asked to be told apart (FUSE_ABORT_ERROR). It is over all the same, and no fault of ours.
                Err(nix::errno::Errno::ECONNABORTED) => {
                    tracing::warn!("somebody aborted the connection of this mount with the kernel (fusectl)");
                    return Ok(None);
                }
                Ok(len) => return Ok(Some(len)),
                // ENOENT: its caller gave it up just now.
                Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN | nix::errno::Errno::ENOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Answers the request `unique`, in one system call and without copying the payload.
    pub(in crate::fuse) fn answer(&self, unique: u64, answer: &Answer) -> io::Result<()> {
        let mut head = Vec::with_capacity(OUT_HEADER_BYTES + answer.fixed.len());
        let len = OUT_HEADER_BYTES + answer.len();
        head.put_u32(u32::try_from(len).expect("an answer is as long as the kernel's buffer at most"));
        head.put_u32((-answer.errno).cast_unsigned());
        head.put_u64(unique);
        head.extend_from_slice(&answer.fixed);
        match writev(&self.fd, &[IoSlice::new(&head), IoSlice::new(&answer.payload)]) {
            // ENOENT: the request is gone (aborted); ENODEV: so is the mount.
            Ok(_) | Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENODEV) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
