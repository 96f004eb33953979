//! Attaching and detaching: mount(2) for root, fusermount3 for everybody else.

use std::fs::OpenOptions;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, MsFlags};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};

/// Largest read and write request of the kernel, bytes.
pub(super) const REQUEST_BYTES: u32 = 1 << 20;
/// Kernel read-ahead, KiB: enough to keep four OSDs with stripes of 1 MiB busy.
pub(super) const READAHEAD_KIB: u32 = 4096;

/// Whether requests come over io_uring instead of read(2) and write(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Uring {
    /// When the kernel's administrator has switched it on (`/sys/module/fuse/parameters/enable_uring`).
    #[default]
    Auto,
    /// Switch it on if need be (root only), and use it.
    On,
    /// Never.
    Off,
}

/// How to mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOptions {
    /// Shown as the source in /proc/mounts.
    pub fsname: String,
    /// No changes.
    pub read_only: bool,
    /// Other users than the mounting one may enter.
    pub allow_other: bool,
    /// The kernel checks permission bits (else the MRC does).
    pub default_permissions: bool,
    /// Device nodes work (root only).
    pub dev: bool,
    /// Setuid bits work (root only).
    pub suid: bool,
    /// Writes are acknowledged when they are staged, and go to the OSDs together and behind the caller's back.
    pub writeback: bool,
    /// The file in memory for that; without it nothing is staged.
    pub stage: Option<PathBuf>,
    /// Transport of requests. A survivable mount does not use io_uring: requests that a killed process had in its ring
    /// cannot be asked for again.
    pub uring: Uring,
    /// Idmapped mounts of it are allowed; requests then do not say whose they are, except when something is made.
    pub idmap: bool,
    /// The launcher holds the descriptor too, so that a killed mount process can be replaced.
    pub survivable: bool,
    /// Where it is mounted, for who takes up the mount of another process.
    pub place: Option<PathBuf>,
    /// What [`super::Mounted::state`] said in the process that this one replaces.
    pub predecessor: Option<String>,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            fsname: "xtfs".to_owned(),
            read_only: false,
            allow_other: true,
            default_permissions: true,
            dev: true,
            suid: true,
            writeback: true,
            stage: None,
            uring: Uring::Auto,
            idmap: false,
            survivable: false,
            place: None,
            predecessor: None,
        }
    }
}

impl MountOptions {
    /// Takes up `-o` options as mount(8) writes them; an unknown one is named in the error.
    pub fn parse(mut self, text: &str) -> Result<Self, String> {
        for option in text.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => self.read_only = true,
                "rw" => self.read_only = false,
                "allow_other" => self.allow_other = true,
                "default_permissions" => self.default_permissions = true,
                "dev" => self.dev = true,
                "nodev" => self.dev = false,
                "suid" => self.suid = true,
                "nosuid" => self.suid = false,
                "writeback" => self.writeback = true,
                "nowriteback" => self.writeback = false,
                "survivable" => self.survivable = true,
                "idmap" => self.idmap = true,
                "io_uring=auto" => self.uring = Uring::Auto,
                "io_uring=on" => self.uring = Uring::On,
                "io_uring=off" => self.uring = Uring::Off,
                "defaults" | "auto" | "noauto" | "user" | "users" | "nouser" | "_netdev" | "exec"
                | "nofail" | "async" | "relatime" | "noatime" => {}
                other => match other.split_once('=') {
                    Some(("fsname", name)) => self.fsname = name.to_owned(),
                    Some(("cache", "strong" | "none")) => {}
                    _ => {
                        return Err(format!(
                            "unknown mount option {other:?}; known: ro rw allow_other default_permissions \
                             [no]dev [no]suid [no]writeback survivable idmap io_uring=auto|on|off fsname=NAME \
                             cache=strong|none"
                        ));
                    }
                },
            }
        }
        if self.idmap && !self.default_permissions {
            return Err("idmap needs default_permissions: nobody else knows whose a request is".to_owned());
        }
        Ok(self)
    }

    pub(super) fn threads(&self) -> usize {
        std::thread::available_parallelism().map_or(4, std::num::NonZero::get).clamp(2, 16)
    }

    /// Options that both ways of mounting understand.
    fn common(&self) -> String {
        let mut text = format!("max_read={REQUEST_BYTES}");
        if self.default_permissions {
            text.push_str(",default_permissions");
        }
        if self.allow_other {
            text.push_str(",allow_other");
        }
        text
    }
}

/// Mounts at `mountpoint` and gives the descriptor to serve.
pub fn attach(mountpoint: &Path, options: &MountOptions) -> io::Result<OwnedFd> {
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("cannot mount at {}: {error}", mountpoint.display()))
    };
    if nix::unistd::geteuid().is_root() {
        attach_by_syscall(mountpoint, options).map_err(named)
    } else {
        attach_by_helper(mountpoint, options).map_err(named)
    }
}

fn attach_by_syscall(mountpoint: &Path, options: &MountOptions) -> io::Result<OwnedFd> {
    // Before mounting: afterwards nobody answers questions about it yet.
    let mountpoint = &mountpoint.canonicalize()?;
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
    let mut flags = MsFlags::empty();
    for (set, flag) in [
        (options.read_only, MsFlags::MS_RDONLY),
        (!options.dev, MsFlags::MS_NODEV),
        (!options.suid, MsFlags::MS_NOSUID),
    ] {
        if set {
            flags |= flag;
        }
    }
    let data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},{}",
        device.as_raw_fd(),
        nix::unistd::getuid(),
        nix::unistd::getgid(),
        options.common()
    );
    nix::mount::mount(
        Some(options.fsname.as_str()),
        mountpoint,
        Some("fuse.xtfs"),
        flags,
        Some(data.as_str()),
    )?;
    raise_readahead(mountpoint);
    Ok(device.into())
}

fn attach_by_helper(mountpoint: &Path, options: &MountOptions) -> io::Result<OwnedFd> {
    let (theirs, ours) = UnixStream::pair()?;
    let mut text = format!("fsname={},subtype=xtfs,{}", options.fsname, options.common());
    if options.read_only {
        text.push_str(",ro");
    }
    let fd = theirs.as_raw_fd();
    let mut helper = Command::new("fusermount3");
    helper.arg("-o").arg(text).arg("--").arg(mountpoint).env("_FUSE_COMMFD", fd.to_string());
    helper.stdin(Stdio::null()).stderr(Stdio::piped());
    // SAFETY: fcntl(2) is async-signal-safe, and the descriptor is open in the child as it is here.
    unsafe {
        helper.pre_exec(move || match libc::fcntl(fd, libc::F_SETFD, 0) {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
    let child = helper.spawn().map_err(|error| {
        io::Error::new(error.kind(), format!("fusermount3: {error} (install the package fuse3)"))
    })?;
    drop(theirs);
    let received = receive_fd(&ours);
    let output = child.wait_with_output()?;
    received.map_err(|error| {
        let said = String::from_utf8_lossy(&output.stderr);
        if said.trim().is_empty() { error } else { io::Error::other(said.trim().to_owned()) }
    })
}

fn receive_fd(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0u8];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(fd) = fds.first()
        {
            // SAFETY: the kernel has just put this descriptor into our table for us.
            return Ok(unsafe { OwnedFd::from_raw_fd(*fd) });
        }
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "fusermount3 sent no descriptor"))
}

/// Unmounts. Not being mounted is not an error.
pub fn detach(mountpoint: &Path, lazy: bool) -> io::Result<()> {
    let flags = if lazy { MntFlags::MNT_DETACH } else { MntFlags::empty() };
    match nix::mount::umount2(mountpoint, flags) {
        Ok(()) | Err(nix::errno::Errno::EINVAL) => Ok(()),
        Err(nix::errno::Errno::EPERM) => detach_by_helper(mountpoint, lazy),
        Err(error) => {
            let why = format!("cannot unmount {}: {error}", mountpoint.display());
            Err(io::Error::new(io::Error::from(error).kind(), why))
        }
    }
}

fn detach_by_helper(mountpoint: &Path, lazy: bool) -> io::Result<()> {
    let mut helper = Command::new("fusermount3");
    helper.arg("-u");
    if lazy {
        helper.arg("-z");
    }
    let output = helper.arg("--").arg(mountpoint).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Raises the kernel's read-ahead of a fresh mount, so that one sequential reader keeps several OSDs busy. The
/// handshake can only lower it. Where it does not work (containers) the kernel's default stays.
fn raise_readahead(mountpoint: &Path) {
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else { return };
    let device = mounts.lines().rev().find_map(|line| {
        let mut fields = line.split(' ');
        let device = fields.nth(2)?;
        (fields.nth(1)? == mountpoint.to_str()?).then(|| device.to_owned())
    });
    if let Some(device) = device {
        let setting = format!("/sys/class/bdi/{device}/read_ahead_kb");
        if let Err(error) = std::fs::write(&setting, READAHEAD_KIB.to_string()) {
            tracing::debug!(%setting, %error, "read-ahead stays at the kernel's default");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_options_are_parsed_and_unknown_ones_named() {
        let options = MountOptions::default().parse("ro,nodev,fsname=x,nowriteback,_netdev").unwrap();
        assert!(options.read_only && !options.dev && !options.writeback);
        assert_eq!(options.fsname, "x");
        let options = MountOptions::default().parse("idmap,io_uring=off").unwrap();
        assert!(options.idmap && options.uring == Uring::Off);
        assert!(MountOptions::default().parse("io_uring=maybe").is_err());
        assert!(MountOptions::default().parse("ro,writebakc").unwrap_err().contains("\"writebakc\""));
    }
}
