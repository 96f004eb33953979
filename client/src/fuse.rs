//! The kernel's door: decode, call the library, reply. No logic that a library user would miss.
//!
//! Each request becomes a future that is polled once on the FUSE thread that read it; only when it has to wait does
//! it move to the runtime. With all services in one process a hot metadata call never leaves its thread.
//!
//! A mount survives its process: the launcher keeps the `/dev/fuse` descriptor that [`mount::attach`] gave, hands a
//! copy to each mount process, and [`serve`] with `resumed` takes up where a killed one stopped: with what that one
//! agreed on with the kernel, and with the requests that it left unanswered, which the kernel sends again.

mod caches;
mod convert;
mod data;
mod directories;
mod dirs;
mod dispatch;
mod door;
mod flags;
mod handles;
mod inside;
mod kernel;
mod left;
mod listings;
mod locks;
pub mod mount;
mod past;
mod record;
mod xattrs;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::lease::{KernelCaches, NoKernel};
use crate::stage::Stage;
use crate::volume::Volume;
use kernel::init::{Agreed, Wishes};
pub use kernel::notify::Notifier;
use kernel::ring;
use kernel::session::Session;
pub use mount::{MountOptions, Uring};
pub use record::{Counts, OpCount};

/// Background requests (read-ahead, asynchronous direct I/O) under way.
const BACKGROUND: u16 = 64;

/// A mount that is being served.
pub struct Mounted {
    volume: Arc<Volume>,
    thread: JoinHandle<io::Result<()>>,
    mountpoint: Option<PathBuf>,
    notifier: Notifier,
    state: String,
    counts: Counts,
}

impl Mounted {
    /// Waits until the file system is unmounted.
    pub fn join(self) -> io::Result<()> {
        self.thread.join().map_err(|_| io::Error::other("a FUSE thread panicked; see the log"))?
    }

    /// The volume as it is served: within the session of the predecessor, if there was one.
    #[must_use]
    pub fn volume(&self) -> &Arc<Volume> {
        &self.volume
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

    /// What it has done so far; counts on.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts.clone()
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
    // The kernel offers its ring, if at all, while it mounts.
    wants_ring(options)?;
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

/// How long an end of the mount waits for room for what was acknowledged.
const LAST_ROOM: std::time::Duration = std::time::Duration::from_secs(5);

/// Serves an attached descriptor. `resumed`: another process served it before and is dead. Call it within a tokio
/// runtime, on a thread that may block (the handshake waits for the kernel).
pub fn serve(volume: Arc<Volume>, fd: OwnedFd, resumed: bool, options: &MountOptions) -> io::Result<Mounted> {
    let predecessor = options.predecessor.as_deref().and_then(parse_state).filter(|_| resumed);
    let stage = stage_of(options, predecessor.as_ref().map(|(session, _)| *session));
    let (volume, mut session) = if resumed {
        let (session, agreed) = predecessor.ok_or_else(|| {
            let why = format!("{:?} is not the state of a mount", options.predecessor);
            io::Error::new(io::ErrorKind::InvalidInput, why)
        })?;
        // Before requests come again: they are answered within the session that they were first made in.
        (take_up(&volume, session, stage.as_ref())?, Session::take_up(fd, agreed)?)
    } else {
        let session = Session::open(fd, &wishes(options)?)?;
        if let Some(stage) = &stage {
            let (client, last) = (volume.client(), stage.last_session()?);
            let replayed = volume.runtime().block_on(client.replay(&volume, stage))?;
            if replayed != Some(last) {
                volume.runtime().block_on(client.end_predecessor(&volume, last));
            }
        }
        (volume, session)
    };
    if let Some(stage) = &stage {
        stage.used_by(volume.session().id())?;
    }
    if options.uring == Uring::On && !session.uses_ring() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "io_uring=on: the kernel does not offer it for this mount (Linux 6.14 and its switch at mount time)",
        ));
    }
    session.threads = options.threads();
    session.survivable = options.survivable;
    let state = format!("{:016x} {}", volume.session().id(), session.agreed().show());
    let notifier = session.notifier().clone();
    let listings = Arc::new(listings::Listings::default());
    let connection = door::Connection {
        notifier: notifier.clone(),
        ring: session.uses_ring(),
        resumed,
        direct_mmap: session.agreed().has(kernel::abi::init::DIRECT_IO_ALLOW_MMAP),
        stage: stage.clone(),
        listings: listings.clone(),
    };
    let caches = Arc::new(caches::MountCaches { notifier: notifier.clone(), listings: listings.clone() });
    if resumed {
        // What the dead process knew was changed since, nobody here knows. Attributes last no longer than its leases.
        caches.forget_names();
    }
    volume.set_kernel(caches);
    let door = Arc::new(door::Door::new(volume.clone(), options.clone(), connection));
    if let Some(at) = options.place.as_deref().filter(|_| resumed) {
        door.shared.keep_left(left::open_files(at));
    }
    let counts = Counts(door.shared.record.clone());
    let (of_mount, served) = (volume.clone(), volume.clone());
    let serve = move || {
        let ended = session.serve(door);
        volume.set_kernel(Arc::new(NoKernel));
        if let Some(stage) = stage {
            // Unmounted: every file was closed, so nothing of them waits, unless there is no room for it.
            let told = async { tokio::time::timeout(LAST_ROOM, served.session().creates().settled()).await };
            let told = served.runtime().block_on(told).is_ok();
            match served.runtime().block_on(served.placed(LAST_ROOM)) {
                0 if told => stage.remove(),
                0 => tracing::error!(
                    "files that were made could not be told to the MRC until the mount ended; the next start does it"
                ),
                pieces => tracing::error!(
                    pieces,
                    "acknowledged writes found no room at the OSDs until the mount ended; they are lost"
                ),
            }
        }
        ended
    };
    let thread = std::thread::Builder::new().name("fuse".to_owned()).spawn(serve)?;
    Ok(Mounted { volume: of_mount, thread, mountpoint: None, notifier, state, counts })
}

fn wishes(options: &MountOptions) -> io::Result<Wishes> {
    Ok(Wishes {
        request_bytes: mount::REQUEST_BYTES,
        readahead_bytes: mount::READAHEAD_KIB << 10,
        background: BACKGROUND,
        idmap: options.idmap,
        acl: options.default_permissions,
        uring: wants_ring(options)?,
    })
}

fn wants_ring(options: &MountOptions) -> io::Result<bool> {
    let refuse = |why| Err(io::Error::new(io::ErrorKind::Unsupported, format!("io_uring=on: {why}")));
    match options.uring {
        Uring::Off => Ok(false),
        Uring::Auto => Ok(!options.survivable && ring::is_allowed(false)),
        Uring::On if options.survivable => refuse("a mount that survives its process cannot use it"),
        Uring::On if !ring::is_allowed(true) => refuse(
            "needs Linux 6.14, root or /sys/module/fuse/parameters/enable_uring set to Y, and io_uring",
        ),
        Uring::On => Ok(true),
    }
}

/// The session with the MRC and what was agreed on with the kernel.
fn parse_state(state: &str) -> Option<(u64, Agreed)> {
    let (session, agreed) = state.split_once(' ')?;
    Some((u64::from_str_radix(session, 16).ok()?, Agreed::parse(agreed)?))
}

/// The volume within the session that the dead process had.
fn take_up(volume: &Arc<Volume>, session: u64, stage: Option<&Arc<Stage>>) -> io::Result<Arc<Volume>> {
    let taken = volume.runtime().block_on(volume.client().take_up(volume, session, stage));
    taken.map_err(|error| io::Error::other(error.to_string()))
}

/// Where acknowledged writes wait. Without it they wait nowhere: each is acknowledged by the OSDs.
fn stage_of(options: &MountOptions, predecessor: Option<u64>) -> Option<Arc<Stage>> {
    let path = options.stage.as_ref().filter(|_| options.writeback && !options.read_only)?;
    match Stage::of_mount(path, predecessor) {
        Ok(stage) => Some(stage),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "no memory for staged writes: each waits for the OSDs");
            None
        }
    }
}
