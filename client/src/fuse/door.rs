//! What all FUSE threads share, and how a request is run.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fuser::{FileAttr, FileType, Request};
use proto::mrc::{Attr, kind};
use tokio::runtime::Handle;

use super::handles::Handles;
use super::inside;
use super::kernel::notify::Notifier;
use super::mount::MountOptions;
use super::record::{Op, Record};
use super::reply::{Fail, is_trouble, to_errno};
use super::signals::{LOOK_EVERY, is_killed};
use crate::config::Creds;
use crate::error::{Code, Error, Result};
use crate::file::File;
use crate::remote::session;
use crate::volume::Volume;

/// How long the kernel may believe a name without asking. Zero until the MRC grants leases.
pub(super) const NAME_TTL: Duration = Duration::ZERO;
/// The shortest time that the kernel knows: one or two ticks of its clock.
const ONE_TICK: Duration = Duration::from_nanos(1);

/// How long the kernel may believe attributes. Those of a directory for a tick: it has just looked its name up and
/// asks again for the permission to go through it, for each directory of each path. Everything else not at all.
pub(super) fn attr_ttl(attr: &FileAttr) -> Duration {
    if attr.kind == FileType::Directory { ONE_TICK } else { Duration::ZERO }
}

/// One mount.
pub(super) struct Door {
    pub(super) shared: Arc<Shared>,
}

/// What operations need; shared with those that wait on the runtime.
pub(super) struct Shared {
    pub(super) volume: Arc<Volume>,
    pub(super) options: MountOptions,
    pub(super) handles: Handles,
    pub(super) record: Record,
    /// Tells the kernel unasked.
    #[allow(dead_code, reason = "for leases, whose recalls end here")]
    pub(super) notifier: Notifier,
    pub(super) resumed: bool,
    /// One handle at a time is re-opened, so that none is counted twice.
    recovering: tokio::sync::Mutex<()>,
    runtime: Handle,
}

impl Door {
    pub(super) fn new(volume: Arc<Volume>, options: MountOptions, notifier: Notifier, resumed: bool) -> Self {
        let now = volume.client().config().clock.unix();
        let shared = Shared {
            runtime: volume.runtime().clone(),
            volume,
            options,
            handles: Handles::new(now),
            record: Record::new(),
            notifier,
            resumed,
            recovering: tokio::sync::Mutex::new(()),
        };
        Self { shared: Arc::new(shared) }
    }

    /// On whose behalf a request is done.
    pub(super) fn creds(&self, request: &Request) -> Creds {
        let checked = self.shared.options.default_permissions;
        Creds { checked, ..Creds::new(request.uid(), request.gid()) }
    }

    /// Runs an operation: one poll on this thread, and only if it has to wait, on the runtime.
    pub(super) fn run<T, R, W, F>(&self, op: Op, ino: u64, request: &Request, reply: R, work: W, finish: F)
    where
        T: Send,
        R: Fail + Send + 'static,
        W: Future<Output = Result<T>> + Send + 'static,
        F: FnOnce(R, T) + Send + 'static,
    {
        let shared = self.shared.clone();
        let uid = request.uid();
        let started = shared.monotonic();
        let (unique, thread) = (request.unique().0, request.pid());
        let mut whole = Box::pin(async move {
            // What a process leaves behind when it ends is not given up with it.
            let work = killable(if matches!(op, Op::flush | Op::release) { 0 } else { thread }, ino, work);
            let result =
                if shared.options.survivable { session::for_kernel(unique, work).await } else { work.await };
            let code = result.as_ref().err().map(|error| error.code);
            match result {
                Ok(value) => finish(reply, value),
                Err(error) => {
                    if is_trouble(error.code) {
                        tracing::warn!(?op, ino, uid, %error, "an operation failed");
                    }
                    reply.fail(to_errno(&error));
                }
            }
            let errno = code.map_or(0, crate::error::errno);
            let at = shared.volume.client().config().clock.unix();
            shared.record.done(op, ino, uid, errno, at, shared.monotonic().saturating_sub(started));
        });
        let _inside = self.shared.runtime.enter();
        let mut context = Context::from_waker(Waker::noop());
        if whole.as_mut().poll(&mut context).is_pending() {
            // It registers its waker anew when the runtime polls it.
            self.shared.runtime.spawn(whole);
        }
    }
}

/// Gives an operation up when the thread that waits for it is killed (0: never). Nothing is paid in the first second.
async fn killable<T>(thread: u32, ino: u64, work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut work = pin!(work);
    if let Poll::Ready(result) = futures::poll!(&mut work) {
        return result;
    }
    loop {
        match tokio::time::timeout(LOOK_EVERY, &mut work).await {
            Ok(result) => return result,
            Err(_) if is_killed(thread) => {
                let why = format!("the caller of an operation on ino-{ino} was killed");
                return Err(Error::new(Code::Cancelled, why));
            }
            Err(_) => {}
        }
    }
}

impl Shared {
    fn monotonic(&self) -> Duration {
        self.volume.client().config().clock.monotonic()
    }

    /// The file behind a kernel handle; one made by a dead process is opened again.
    pub(super) async fn file(&self, creds: &Creds, ino: u64, handle: u64) -> Result<Arc<File>> {
        if let Some(file) = self.handles.get(handle) {
            return Ok(file);
        }
        let _one = self.recovering.lock().await;
        if let Some(file) = self.handles.get(handle) {
            return Ok(file);
        }
        let write = Handles::may_write(handle);
        // The open that made the handle was checked then.
        let file = self.volume.reopen(&Creds { checked: true, ..creds.clone() }, ino, write).await?;
        if write {
            file.inode().recover_size().await?;
        }
        tracing::info!(ino, handle, "re-opened a handle of an earlier mount process");
        Ok(self.handles.restore(handle, file))
    }

    /// A file that an earlier process of this mount may have been writing when it died: its size may be larger than
    /// the MRC knows. Looked after once per file.
    async fn recover(&self, creds: &Creds, attr: &Attr) -> Result<bool> {
        let is_file = attr.mode >> 12 == kind::FILE;
        if !self.resumed || !is_file || !self.handles.is_first_look(attr.ino) {
            return Ok(false);
        }
        let creds = Creds { checked: true, ..creds.clone() };
        if self.volume.layout(&creds, attr.ino).await?.open_writers == 0 {
            return Ok(false);
        }
        self.volume.acquire(&creds, attr.ino, false).await?.recover_size().await?;
        Ok(true)
    }

    /// Attributes; a file that a dead process was writing gets its true size first.
    pub(super) async fn getattr(&self, creds: &Creds, ino: u64, handle: Option<u64>) -> Result<Attr> {
        if let Some(handle) = handle
            && self.resumed
        {
            self.file(creds, ino, handle).await?;
        }
        let attr = self.volume.getattr(creds, ino).await?;
        if self.recover(creds, &attr).await? { self.volume.getattr(creds, ino).await } else { Ok(attr) }
    }

    /// A name's attributes, likewise.
    pub(super) async fn find(&self, creds: &Creds, parent: u64, name: &[u8]) -> Result<Attr> {
        let attr = self.volume.lookup(creds, parent, name).await?;
        if self.recover(creds, &attr).await? { self.volume.getattr(creds, attr.ino).await } else { Ok(attr) }
    }
}

/// Refuses to change what is inside `.xtfs`.
pub(super) fn outside(ino: u64) -> Result<()> {
    if inside::is_inside(ino) {
        return Err(Error::new(
            Code::NotPermitted,
            ".xtfs shows the state of the mount and cannot be changed",
        ));
    }
    Ok(())
}
