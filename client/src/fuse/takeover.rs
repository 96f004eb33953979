//! Taking up a mount whose process died.
//!
//! The kernel has done its INIT with the dead process and will not repeat it, and `fuser` insists on one. So the new
//! session shakes hands over a socket pair with a made-up INIT; then the real descriptor takes the socket's place
//! (`dup2`), and the kernel is asked to send again what the dead process had read and not answered
//! (`FUSE_NOTIFY_RESEND`, Linux 6.9). Requests keep their numbers, so their replies find them.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

/// `FUSE_INIT`.
const OPCODE_INIT: u32 = 26;
/// Length of `fuse_in_header` and `fuse_init_in`.
const INIT_BYTES: u32 = 104;
/// `FUSE_NOTIFY_RESEND`.
const NOTIFY_RESEND: i32 = 7;
/// What Linux 6.18 offers; what was agreed on with the dead process holds, whatever is answered to this.
const OFFERED: [u32; 2] = [0x73ff_fffb, 0x0000_07fd];

/// A session on `fd`, which was served by a process that is dead.
pub fn resume<F: fuser::Filesystem>(
    filesystem: F,
    fd: OwnedFd,
    config: fuser::Config,
) -> io::Result<fuser::Session<F>> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    nix::unistd::write(&ours, &made_up_init())?;
    let session = fuser::Session::from_fd(filesystem, theirs, fuser::SessionACL::All, config)?;
    // SAFETY: the session owns this descriptor and keeps its number; dup2 closes the socket behind the number and
    // puts the device there, and the borrowed wrapper gives the number back without closing it.
    let mut place = unsafe { OwnedFd::from_raw_fd(session.as_fd().as_raw_fd()) };
    let moved = nix::unistd::dup2(&fd, &mut place);
    let _kept_by_the_session = place.into_raw_fd();
    moved?;
    ask_to_resend(fd)?;
    Ok(session)
}

fn made_up_init() -> Vec<u8> {
    let mut out = Vec::with_capacity(INIT_BYTES as usize);
    for word in [INIT_BYTES, OPCODE_INIT] {
        out.extend_from_slice(&word.to_ne_bytes());
    }
    out.extend_from_slice(&2u64.to_ne_bytes()); // unique
    out.extend_from_slice(&[0; 24]); // node, uid, gid, pid, lengths
    for word in [7u32, 45, 1 << 20, OFFERED[0], OFFERED[1]] {
        out.extend_from_slice(&word.to_ne_bytes());
    }
    out.resize(INIT_BYTES as usize, 0);
    out
}

fn ask_to_resend(fd: OwnedFd) -> io::Result<()> {
    let mut message = Vec::with_capacity(16);
    message.extend_from_slice(&16u32.to_ne_bytes());
    message.extend_from_slice(&NOTIFY_RESEND.to_ne_bytes());
    message.extend_from_slice(&0u64.to_ne_bytes());
    match std::fs::File::from(fd).write_all(&message) {
        // Before Linux 6.9: what the dead process had read stays unanswered until it is interrupted.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            tracing::warn!("this kernel cannot resend requests; some processes may have to be killed");
            Ok(())
        }
        other => other,
    }
}
