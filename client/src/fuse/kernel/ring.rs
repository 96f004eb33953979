//! FUSE over io_uring (Linux 6.14): a queue per CPU, served by a thread on that CPU. An answer and the wait for the next
//! request are one system call, and requests do not cross CPUs.
//!
//! A queue has entries; each is memory that the kernel puts a request into and takes the answer from. An entry is with
//! the kernel (registered, or committed with an answer) or with us (its request is being done), never with both. The
//! kernel hands a queue's waiting requests out only when an entry is committed, one for each, not when a new one is
//! registered; later requests that find an entry pass them. So requests that came when no entry was left can wait for as
//! long as nothing else is answered, for ever behind locks that wait. Hence more entries from the start than a burst of
//! waiting programs takes before this side runs, and twice as many long before the last one is taken.
//!
//! `FORGET` and `INTERRUPT` still come over read(2), notifications still go by write(2).

mod entry;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use nix::sys::eventfd::{EfdFlags, EventFd};
use parking_lot::Mutex;

use super::abi::IN_HEADER_BYTES;
use super::answer::Answer;
use super::buffers::Owner;
use super::operation::{Arguments, Header, Layout};
use super::responder::{Responder, Way};
use super::session::{Handler, deliver};
use entry::{Entry, REGISTER};

/// The kernel's switch.
const SWITCH: &str = "/sys/module/fuse/parameters/enable_uring";
/// Entries that a queue begins with.
const ENTRIES: usize = 256;
/// Most entries of a queue; each is a mebibyte of address space, of memory only what was used.
const ENTRIES_MAX: usize = 2048;
/// Submissions and completions on their way at once.
const RING_ENTRIES: u32 = 256;
/// `user_data` of the bell.
const BELL: u64 = u64::MAX;

type Ring = IoUring<squeue::Entry128, cqueue::Entry>;

/// Whether the administrator allows it; `switch_on` tries to allow it (root).
pub(in crate::fuse) fn is_allowed(switch_on: bool) -> bool {
    let is_on = || std::fs::read_to_string(SWITCH).is_ok_and(|text| text.trim() == "Y");
    if !is_on()
        && switch_on
        && let Err(error) = std::fs::write(SWITCH, "Y")
    {
        tracing::warn!(%error, "{SWITCH} cannot be switched on");
    }
    // Once the kernel has been told, there is no way back: so see first whether rings can be had.
    is_on() && build(2).is_ok()
}

fn build(entries: u32) -> io::Result<Ring> {
    IoUring::builder().setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun().build(entries)
}

/// CPUs that the kernel has queues for: `0-3` is 4.
fn possible_cpus() -> io::Result<u16> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = text.trim().rsplit([',', '-']).next().and_then(|last| last.parse::<u16>().ok());
    last.and_then(|last| last.checked_add(1))
        .ok_or_else(|| io::Error::other(format!("cannot read the possible CPUs from {text:?}")))
}

/// Answers on their way to the thread that may give them to the kernel.
#[derive(Debug)]
pub(in crate::fuse) struct Mailbox {
    /// order: a leaf.
    answers: Mutex<Vec<Reply>>,
    bell: EventFd,
    /// The thread that takes the answers out, and needs no bell for its own.
    owner: std::thread::ThreadId,
}

#[derive(Debug)]
struct Reply {
    entry: usize,
    unique: u64,
    answer: Answer,
}

impl Mailbox {
    fn new() -> io::Result<Self> {
        Ok(Self {
            answers: Mutex::new(Vec::new()),
            bell: EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC)?,
            owner: std::thread::current().id(),
        })
    }

    /// Gives an answer to the request in `entry`.
    pub(in crate::fuse) fn post(&self, entry: usize, unique: u64, answer: Answer) -> io::Result<()> {
        let was_empty = {
            let mut answers = self.answers.lock();
            answers.push(Reply { entry, unique, answer });
            answers.len() == 1
        };
        if was_empty && std::thread::current().id() != self.owner {
            self.bell.write(1)?;
        }
        Ok(())
    }
}

/// Serves every queue; the threads end when the file system is unmounted.
pub(in crate::fuse) fn start<H: Handler>(
    device: &Arc<OwnedFd>,
    handler: &Arc<H>,
    layout: Layout,
    request_bytes: usize,
) -> io::Result<Vec<JoinHandle<io::Result<()>>>> {
    (0..possible_cpus()?)
        .map(|cpu| {
            let (device, handler) = (device.clone(), handler.clone());
            std::thread::Builder::new().name(format!("fuse-cpu-{cpu}")).spawn(move || {
                pin(cpu);
                Queue::new(cpu, device, handler, layout, request_bytes)?.run()
            })
        })
        .collect()
}

/// On its CPU a queue's thread is woken without disturbing another one.
fn pin(cpu: u16) {
    let mut set = nix::sched::CpuSet::new();
    let pinned = set
        .set(usize::from(cpu))
        .and_then(|()| nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set));
    if let Err(error) = pinned {
        // A CPU that is possible and not there, or not for us.
        tracing::debug!(cpu, %error, "a FUSE queue is served from another CPU");
    }
}

struct Queue<H> {
    cpu: u16,
    ring: Ring,
    device: Arc<OwnedFd>,
    handler: Arc<H>,
    layout: Layout,
    request_bytes: usize,
    mailbox: Arc<Mailbox>,
    entries: Vec<Entry>,
    /// Entries whose requests are being done.
    busy: usize,
    /// Entries that the kernel has.
    with_kernel: usize,
    /// What the bell's read writes to.
    rung: Box<u64>,
    bell_is_armed: bool,
}

impl<H: Handler> Queue<H> {
    fn new(
        cpu: u16,
        device: Arc<OwnedFd>,
        handler: Arc<H>,
        layout: Layout,
        request_bytes: usize,
    ) -> io::Result<Self> {
        Ok(Self {
            cpu,
            // A single-issuer ring belongs to the thread that makes it.
            ring: build(RING_ENTRIES)?,
            device,
            handler,
            layout,
            request_bytes,
            mailbox: Arc::new(Mailbox::new()?),
            entries: Vec::new(),
            busy: 0,
            with_kernel: 0,
            rung: Box::new(0),
            bell_is_armed: false,
        })
    }

    fn run(mut self) -> io::Result<()> {
        self.grow()?;
        while self.with_kernel > 0 {
            self.arm_bell()?;
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // The kernel may still write into the entries: they are leaked rather than freed under it.
                    std::mem::forget(self);
                    return Err(error);
                }
            }
            let done: Vec<(u64, i32)> =
                self.ring.completion().map(|one| (one.user_data(), one.result())).collect();
            for (user_data, result) in done {
                if user_data == BELL {
                    self.bell_is_armed = false;
                } else {
                    if !self.ring.submission().is_empty() {
                        // Earlier answers of this round do not wait for this request.
                        self.ring.submit()?;
                    }
                    self.completed(usize::try_from(user_data).expect("our own number"), result)?;
                }
                self.commit_answers()?;
            }
        }
        if self.bell_is_armed {
            // Ends the read, so that nothing is written into freed memory.
            self.mailbox.bell.write(1)?;
            self.ring.submit_and_wait(1)?;
        }
        Ok(())
    }

    /// Twice as many entries, unless there are many.
    fn grow(&mut self) -> io::Result<()> {
        let first = self.entries.len();
        let upto = (2 * first).clamp(ENTRIES, ENTRIES_MAX);
        for number in first..upto {
            self.entries.push(Entry::new(self.request_bytes));
            self.submit(number, REGISTER, 0)?;
            self.with_kernel += 1;
        }
        Ok(())
    }

    fn submit(&mut self, number: usize, command: u32, unique: u64) -> io::Result<()> {
        let fd = self.device.as_raw_fd();
        let request = self.entries[number].request(fd, self.cpu, command, unique).user_data(number as u64);
        push(&mut self.ring, &request)
    }

    fn arm_bell(&mut self) -> io::Result<()> {
        if self.bell_is_armed {
            return Ok(());
        }
        let fd: RawFd = self.mailbox.bell.as_raw_fd();
        let read = opcode::Read::new(types::Fd(fd), (&raw mut *self.rung).cast(), 8).build().user_data(BELL);
        push(&mut self.ring, &read.into())?;
        self.bell_is_armed = true;
        Ok(())
    }

    /// The kernel gives an entry back: with a request, or for good.
    fn completed(&mut self, number: usize, result: i32) -> io::Result<()> {
        self.with_kernel -= 1;
        if result < 0 {
            // ENOTCONN, ECONNABORTED: unmounted.
            if !matches!(-result, libc::ENOTCONN | libc::ECONNABORTED | libc::ENODEV | libc::ECANCELED) {
                let error = io::Error::from_raw_os_error(-result);
                tracing::error!(cpu = self.cpu, entry = number, %error, "a FUSE queue lost an entry");
            }
            return Ok(());
        }
        self.busy += 1;
        if self.busy * 2 >= self.entries.len() {
            self.grow()?;
        }
        let (way, handler, layout) = (self.mailbox.clone(), self.handler.clone(), self.layout);
        // SAFETY: the kernel has given the entry back, and gets it again with the answer, which this thread commits
        // after the borrow has ended.
        let (head, first, rest) = unsafe { self.entries[number].received() };
        let Some((header, _)) = head.get(..IN_HEADER_BYTES).and_then(Header::parse) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel sent what is no request"));
        };
        let responder = || Responder::new(header.unique, Way::Queue(way, number), false);
        deliver(&*handler, header, Arguments::Apart { first, rest }, Owner::Borrowed, layout, responder);
        Ok(())
    }

    fn commit_answers(&mut self) -> io::Result<()> {
        let replies = std::mem::take(&mut *self.mailbox.answers.lock());
        for reply in replies {
            // SAFETY: the entry is ours until it is submitted below.
            unsafe { self.entries[reply.entry].answer(reply.unique, &reply.answer) };
            self.submit(reply.entry, entry::COMMIT_AND_FETCH, reply.unique)?;
            self.busy -= 1;
            self.with_kernel += 1;
        }
        Ok(())
    }
}

fn push(ring: &mut Ring, request: &squeue::Entry128) -> io::Result<()> {
    loop {
        // SAFETY: what a request points to (an entry's memory, the bell's word) lives in boxes of the queue, which
        // waits for their completion before it ends, or leaks them.
        if unsafe { ring.submission().push(request) }.is_ok() {
            return Ok(());
        }
        ring.submit()?;
    }
}
