//! What all FUSE threads share, and how a request is run.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use proto::mrc::{Attr, kind};
use tokio::runtime::Handle;

use super::convert::attributes;
use super::directories::Directories;
use super::dirs::Ends;
use super::handles::Handles;
use super::inside;
use super::kernel::abi::UNKNOWN_ID;
use super::kernel::answer::{Answer, Entry, Known};
use super::kernel::interrupts::{Interrupts, Watch};
use super::kernel::notify::Notifier;
use super::kernel::operation::Header;
use super::kernel::responder::Responder;
use super::listings::Listings;
use super::mount::MountOptions;
use super::past;
use super::record::{Op, Record};
use crate::config::Creds;
use crate::error::{Code, Error, Result, errno};
use crate::file::File;
use crate::parked;
use crate::remote::session;
use crate::stage::Stage;
use crate::volume::Volume;

/// How often it is looked whether the caller of an interrupted request is being killed.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// After this an interrupt ends a request of a caller that we cannot look at (of another PID namespace).
const PATIENCE_WITH_STRANGERS: Duration = Duration::from_secs(1);

/// One mount.
pub(super) struct Door {
    pub(super) shared: Arc<Shared>,
}

/// What operations need; shared with those that wait on the runtime.
pub(super) struct Shared {
    pub(super) volume: Arc<Volume>,
    pub(super) options: MountOptions,
    pub(super) handles: Handles,
    pub(super) ends: Ends,
    pub(super) views: past::Views,
    pub(super) record: Arc<Record>,
    pub(super) texts: inside::Texts,
    pub(super) interrupts: Arc<Interrupts>,
    /// Tells the kernel unasked.
    pub(super) notifier: Notifier,
    /// Requests come over io_uring.
    pub(super) ring: bool,
    pub(super) resumed: bool,
    /// Files that are open since before this process. order: a leaf.
    pub(super) left: parking_lot::Mutex<std::collections::BTreeSet<u64>>,
    /// Files whose pages the kernel does not keep can be mapped shared.
    pub(super) direct_mmap: bool,
    /// Where acknowledged writes wait for the OSDs; without it they are acknowledged by these.
    pub(super) stage: Option<Arc<Stage>>,
    pub(super) listings: Arc<Listings>,
    pub(super) directories: Directories,
    /// One handle at a time is re-opened, so that none is counted twice.
    recovering: tokio::sync::Mutex<()>,
    runtime: Handle,
}

/// One request: whose it is, and the duty to answer it.
pub(super) struct Call {
    header: Header,
    groups: Vec<u32>,
    responder: Responder,
}

impl Call {
    pub(super) fn new(header: Header, groups: Vec<u32>, responder: Responder) -> Self {
        Self { header, groups, responder }
    }

    /// The inode that the request is about.
    pub(super) fn ino(&self) -> u64 {
        self.header.node
    }

    /// The request's number.
    pub(super) fn unique(&self) -> u64 {
        self.header.unique
    }

    /// Answers without doing anything.
    pub(super) fn answer(self, answer: Answer) {
        self.responder.answer(answer);
    }

    /// On whose behalf it is done.
    fn creds(&self, shared: &Shared) -> Creds {
        // The kernel names nobody on mounts that may be idmapped; it has checked the permissions then.
        let known = |id| if id == UNKNOWN_ID { 0 } else { id };
        Creds {
            uid: known(self.header.uid),
            gid: known(self.header.gid),
            groups: self.groups.clone(),
            checked: shared.options.default_permissions,
            umask: 0,
        }
    }
}

/// How the kernel is reached.
pub(super) struct Connection {
    pub(super) notifier: Notifier,
    /// Requests come over io_uring.
    pub(super) ring: bool,
    /// Another process served it before.
    pub(super) resumed: bool,
    /// Files whose pages the kernel does not keep can be mapped shared.
    pub(super) direct_mmap: bool,
    /// See [`Shared::stage`].
    pub(super) stage: Option<Arc<Stage>>,
    /// Shared with who tells the kernel to forget.
    pub(super) listings: Arc<Listings>,
}

impl Door {
    pub(super) fn new(volume: Arc<Volume>, options: MountOptions, connection: Connection) -> Self {
        let Connection { notifier, ring, resumed, direct_mmap, stage, listings } = connection;
        let now = volume.client().config().clock.unix();
        if let Some(stage) = &stage {
            volume.session().keep_locks_in(stage);
        }
        let shared = Shared {
            runtime: volume.runtime().clone(),
            volume,
            options,
            handles: Handles::new(now),
            ends: Ends::new(now),
            views: past::Views::default(),
            record: Arc::new(Record::new()),
            texts: inside::Texts::new(now),
            interrupts: Arc::new(Interrupts::default()),
            notifier,
            ring,
            resumed,
            left: parking_lot::Mutex::default(),
            direct_mmap,
            stage,
            listings,
            directories: Directories::default(),
            recovering: tokio::sync::Mutex::new(()),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Runs an operation on what requests share, for the caller, about the request's inode.
    pub(super) fn with<W>(&self, op: Op, call: Call, make: impl FnOnce(Arc<Shared>, Creds, u64) -> W)
    where
        W: Future<Output = Result<Answer>> + Send + 'static,
    {
        let work = make(self.shared.clone(), call.creds(&self.shared), call.ino());
        self.run(op, call, work);
    }

    /// Runs an operation: one poll on this thread, and if it has to wait, the rest where what it waits for happens.
    fn run<W>(&self, op: Op, call: Call, work: W)
    where
        W: Future<Output = Result<Answer>> + Send + 'static,
    {
        let shared = self.shared.clone();
        let started = shared.monotonic();
        parked::begin(&self.shared.runtime, async move {
            let unique = call.unique();
            let result = if shared.options.survivable {
                shared.watched(op, &call, session::for_kernel(unique, work)).await
            } else {
                shared.watched(op, &call, work).await
            };
            shared.finish(op, call, started, result);
        });
    }
}

/// Ends when the caller of a request is being killed. Other signals do not end what takes long, as on a disk: programs
/// do not expect `EINTR` from mkdir(2). (Locks are another matter; they look at interrupts themselves.)
async fn killed(watch: &Watch, thread: u32) {
    watch.interrupted().await;
    if thread == 0 {
        return tokio::time::sleep(PATIENCE_WITH_STRANGERS).await;
    }
    // The kernel interrupts a request once: a deadly signal after a harmless one is not told.
    while !is_killed(thread) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether a thread is being killed: by SIGKILL, or by another signal that ends it, which the kernel turns into one.
fn is_killed(thread: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{thread}/status")).is_ok_and(|status| has_kill(&status))
}

fn has_kill(status: &str) -> bool {
    const KILL: u64 = 1 << (libc::SIGKILL - 1);
    status.lines().filter_map(|line| line.split_once(':')).any(|(name, value)| {
        matches!(name, "SigPnd" | "ShdPnd")
            && u64::from_str_radix(value.trim(), 16).is_ok_and(|pending| pending & KILL != 0)
    })
}

/// Whether a person should find this in the log; ENOENT and the like are everyday answers.
fn is_trouble(code: Code) -> bool {
    matches!(
        code,
        Code::Corrupt
            | Code::Io
            | Code::Internal
            | Code::BadRequest
            | Code::UnknownMethod
            | Code::Unauthenticated
            | Code::CapabilityInvalid
            | Code::Unavailable
            | Code::DeadlineExceeded
    )
}

impl Shared {
    /// Does the work, or gives up when its caller is killed while it waits.
    async fn watched<W>(&self, op: Op, call: &Call, work: W) -> Result<Answer>
    where
        W: Future<Output = Result<Answer>> + Send,
    {
        let mut work = pin!(work);
        if let Poll::Ready(result) = futures::poll!(&mut work) {
            return result;
        }
        // What a process leaves behind when it ends is not given up with it.
        if matches!(op, Op::flush | Op::release) {
            return work.await;
        }
        let watch = self.interrupts.watch(call.unique());
        tokio::select! {
            biased;
            result = work => result,
            () = killed(&watch, call.header.pid) => Err(Error::new(
                Code::Cancelled,
                format!("the caller of an operation on ino-{} was killed", call.ino()),
            )),
        }
    }

    fn monotonic(&self) -> Duration {
        self.volume.client().config().clock.monotonic()
    }

    /// Attributes for the kernel, with the time that it may believe them. Only for answers that the kernel measures
    /// against what it was told to forget meanwhile: lookups, listings, and questions for attributes.
    pub(super) fn known(&self, attr: &Attr) -> Known {
        self.directories.told(attr);
        let (leased, _) = self.volume.leasing().times_to_live(self.volume.id(), attr.ino);
        Known { attr: attributes(attr), ttl: leased }
    }

    /// Attributes after a change: the kernel takes them as they are and asks again. (Not even for one tick of its clock, also of
    /// directories: for these 4 to 8 ms the mode that another client had changed was the old one.)
    pub(super) fn changed(attr: &Attr) -> Known {
        Known { attr: attributes(attr), ttl: Duration::ZERO }
    }

    /// A name in a directory for the kernel, with the times that it may believe it and its attributes.
    pub(super) fn entry(&self, parent: u64, attr: &Attr) -> Entry {
        Entry { known: self.known(attr), ttl: self.name_ttl(parent) }
    }

    /// A name that was made.
    pub(super) fn made(&self, parent: u64, attr: &Attr) -> Entry {
        self.directories.told(attr);
        Entry { known: Self::changed(attr), ttl: self.name_ttl(parent) }
    }

    /// How long the kernel may believe names of a directory: nothing when it cannot be told to forget them.
    fn name_ttl(&self, parent: u64) -> Duration {
        if !self.notifier.supports_inc_epoch() {
            return Duration::ZERO;
        }
        self.volume.leasing().times_to_live(self.volume.id(), parent).1
    }

    /// A name was moved. A kernel moves what it knows along, with the time for which it believed the name in the other
    /// directory: where names of this directory are not leased, nobody would tell it to forget.
    pub(super) fn moved(&self, from: u64, to: u64, flags: u32) {
        let leased = |directory| !self.name_ttl(directory).is_zero();
        let exchanged = flags & proto::mrc::RENAME_EXCHANGE != 0;
        if !leased(to) || exchanged && !leased(from) {
            self.volume.kernel().forget_names();
        }
    }

    /// How long the kernel may believe that a name is not there.
    pub(super) fn absent_ttl(&self, parent: u64, name: &[u8]) -> Duration {
        let kept = self.volume.leasing().is_absent((self.volume.id(), parent), name);
        if kept { self.name_ttl(parent) } else { Duration::ZERO }
    }

    fn finish(&self, op: Op, call: Call, started: Duration, result: Result<Answer>) {
        let (ino, uid) = (call.header.node, call.header.uid);
        let answer = result.unwrap_or_else(|error| {
            if is_trouble(error.code) {
                tracing::warn!(?op, ino, uid, %error, "an operation failed");
            }
            Answer::error(errno_of(op, error.code))
        });
        let errno = answer.errno;
        call.responder.answer(answer);
        let at = self.volume.client().config().clock.unix();
        self.record.done(op, ino, uid, errno, at, self.monotonic().saturating_sub(started));
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
        let creds = Creds { checked: true, ..creds.clone() };
        let file = match past::is_past(ino) {
            true => self.past_reopen(&creds, ino).await?,
            false => self.volume.reopen(&creds, ino, write).await?,
        };
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

/// The number of an error. A directory that somebody removed has no names, as locally, for whoever has it open still:
/// `ENOENT`. Where a file or attributes are asked for, `ESTALE` has the kernel walk the path anew: another file may have its
/// place.
fn errno_of(op: Op, code: Code) -> i32 {
    let of_names = matches!(
        op,
        Op::lookup
            | Op::create
            | Op::tmpfile
            | Op::mkdir
            | Op::mknod
            | Op::symlink
            | Op::link
            | Op::unlink
            | Op::rmdir
            | Op::rename
            | Op::readdir
            | Op::readdirplus
    );
    if code == Code::Stale && of_names { libc::ENOENT } else { errno(code) }
}

/// Refuses to change what is inside `.xtfs`, or in a snapshot.
pub(super) fn outside(ino: u64) -> Result<()> {
    if past::is_past(ino) {
        return Err(past::read_only());
    }
    if inside::is_inside(ino) {
        return Err(Error::new(
            Code::NotPermitted,
            ".xtfs shows the state of the mount and cannot be changed",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_was_removed_has_no_names_and_a_file_that_was_replaced_is_looked_up_again() {
        assert_eq!(errno_of(Op::mkdir, Code::Stale), libc::ENOENT);
        assert_eq!(errno_of(Op::readdirplus, Code::Stale), libc::ENOENT);
        assert_eq!(errno_of(Op::open, Code::Stale), libc::ESTALE);
        assert_eq!(errno_of(Op::mkdir, Code::Exists), libc::EEXIST);
    }

    #[test]
    fn a_deadly_signal_is_seen_in_the_status_of_a_thread() {
        let status = |thread: &str, process: &str| {
            format!("Name:\tx\nSigPnd:\t{thread}\nShdPnd:\t{process}\nSigBlk:\tffffffffffffffff\n")
        };
        assert!(has_kill(&status("0000000000000100", "0000000000000002")));
        assert!(has_kill(&status("0000000000000000", "0000000000000100")));
        assert!(!has_kill(&status("0000000000000002", "0000000000004000")));
        assert!(!is_killed(std::process::id()));
    }
}
