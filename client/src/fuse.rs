//! The kernel's door: decode, call the library, reply. No logic that a library user would miss.
//!
//! Each request becomes a future that is polled once on the FUSE thread that read it; only when it has to wait does
//! it move to the runtime. With all services in one process a hot metadata call never leaves its thread.
//!
//! A mount survives its process: the launcher keeps the `/dev/fuse` descriptor that [`mount::attach`] gave, hands a
//! copy to each mount process, and [`serve`] with `resumed` takes up where a killed one stopped ([`takeover`]).

mod convert;
mod data;
mod dirs;
mod door;
mod filesystem;
mod flags;
mod handles;
mod inside;
mod kernel;
mod locks;
pub mod mount;
mod raw;
mod record;
mod reply;
mod signals;
pub mod takeover;
mod xattrs;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::volume::Volume;
pub use kernel::notify::Notifier;
pub use mount::MountOptions;

/// A mount that is being served.
pub struct Mounted {
    thread: JoinHandle<io::Result<()>>,
    mountpoint: Option<PathBuf>,
    notifier: Notifier,
    state: String,
}

impl Mounted {
    /// Waits until the file system is unmounted.
    pub fn join(self) -> io::Result<()> {
        self.thread.join().map_err(|_| io::Error::other("a FUSE thread panicked; see the log"))?
    }

    /// What a successor of this process needs beside the descriptor ([`MountOptions::predecessor`]).
    #[must_use]
    pub fn state(&self) -> &str {
        &self.state
    }

    /// Tells the kernel of this mount what it should forget.
    #[must_use]
    pub fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// Whether it is still being served.
    #[must_use]
    pub fn is_served(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Unmounts and waits. Files that are still open keep it busy unless `lazy`.
    pub fn unmount(self, lazy: bool) -> io::Result<()> {
        if let Some(mountpoint) = &self.mountpoint {
            mount::detach(mountpoint, lazy)?;
        }
        self.join()
    }
}

/// Mounts a volume and serves it. Call it within a tokio runtime.
pub fn mount(volume: Arc<Volume>, mountpoint: PathBuf, options: &MountOptions) -> io::Result<Mounted> {
    let fd = mount::attach(&mountpoint, options)?;
    match serve(volume, fd, false, options) {
        Ok(mounted) => Ok(Mounted { mountpoint: Some(mountpoint), ..mounted }),
        Err(error) => {
            // The descriptor is closed: the mount point must not stay behind, dead.
            let _ = mount::detach(&mountpoint, true);
            Err(error)
        }
    }
}

/// Serves an attached descriptor. `resumed`: another process served it before and is dead. Call it within a tokio
/// runtime, on a thread that may block (the handshake waits for the kernel).
pub fn serve(volume: Arc<Volume>, fd: OwnedFd, resumed: bool, options: &MountOptions) -> io::Result<Mounted> {
    let volume = match options.predecessor.as_deref().filter(|_| resumed) {
        Some(state) => take_up(&volume, state)?,
        None => volume,
    };
    let state = format!("{:016x}", volume.session().id());
    let notifier = Notifier::new(Arc::new(fd.try_clone()?));
    let door = door::Door::new(volume, options.clone(), notifier.clone(), resumed);
    let mut config = fuser::Config::default();
    config.n_threads = Some(options.threads());
    // A cloned descriptor would fail its requests when the process dies; the launcher's one keeps them.
    config.clone_fd = !options.survivable;
    let session = if resumed {
        takeover::resume(door, fd, config)?
    } else {
        fuser::Session::from_fd(door, fd, fuser::SessionACL::All, config)?
    };
    let thread = std::thread::Builder::new().name("fuse".to_owned()).spawn(move || session.run())?;
    Ok(Mounted { thread, mountpoint: None, notifier, state })
}

/// The volume within the session that the dead process had.
fn take_up(volume: &Arc<Volume>, state: &str) -> io::Result<Arc<Volume>> {
    let session = u64::from_str_radix(state, 16).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{state:?} is not the state of a mount"))
    })?;
    let taken = volume.runtime().block_on(volume.client().take_up(volume, session));
    taken.map_err(|error| io::Error::other(error.to_string()))
}
