//! One read or write on its way to the kernel, and the queue that carries it to the thread that does it.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;

use bytes::Bytes;
use nix::sys::eventfd::{EfdFlags, EventFd};
use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{AlignedBuf, Hold};

/// The memory of a job: the job owns it, so that it stays while the kernel uses it.
pub(super) enum Memory {
    Read(AlignedBuf),
    Write(Bytes),
}

/// See the module.
pub(super) struct Job {
    pub(super) file: Arc<File>,
    /// Byte of the file.
    pub(super) offset: u64,
    pub(super) memory: Memory,
    /// Bytes done so far.
    pub(super) done: usize,
    pub(super) reply: oneshot::Sender<(io::Result<()>, Memory)>,
    /// Freed when the kernel is done with it, whoever still waits.
    pub(super) _hold: Option<Hold>,
    pub(super) _slot: OwnedSemaphorePermit,
}

impl Job {
    pub(super) fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    fn len(&self) -> usize {
        match &self.memory {
            Memory::Read(buf) => buf.len(),
            Memory::Write(data) => data.len(),
        }
    }

    /// What is left: address, bytes, place in the file.
    pub(super) fn rest(&mut self) -> (*mut u8, u32, u64) {
        let (done, left) = (self.done, self.len() - self.done);
        let start = match &mut self.memory {
            Memory::Read(buf) => buf[done..].as_mut_ptr(),
            Memory::Write(data) => data[done..].as_ptr().cast_mut(),
        };
        (start, left as u32, self.offset + done as u64)
    }

    /// Takes the kernel's answer; `Some` gives the job back when it must go on.
    pub(super) fn advance(mut self, result: io::Result<usize>) -> Option<Self> {
        match result {
            Ok(0) => {
                let kind = match self.memory {
                    Memory::Read(_) => io::ErrorKind::UnexpectedEof,
                    Memory::Write(_) => io::ErrorKind::WriteZero,
                };
                self.finish(Err(kind.into()));
                None
            }
            Ok(bytes) => {
                self.done += bytes;
                if self.done < self.len() {
                    return Some(self);
                }
                self.finish(Ok(()));
                None
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                Some(self)
            }
            Err(error) => {
                self.finish(Err(error));
                None
            }
        }
    }

    fn finish(self, result: io::Result<()>) {
        // Who no longer waits has no interest in the answer.
        let _ = self.reply.send((result, self.memory));
    }
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    stopped: bool,
    failed: bool,
}

/// Jobs for the thread. Bounded by the slots that jobs hold.
pub(super) struct Queue {
    /// order: innermost.
    waiting: Mutex<Waiting>,
    changed: Condvar,
    /// Wakes a thread that sleeps in its ring.
    bell: EventFd,
}

impl Queue {
    pub(super) fn new() -> io::Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?;
        Ok(Self { waiting: Mutex::default(), changed: Condvar::new(), bell })
    }

    pub(super) fn push(&self, job: Job) {
        let was_empty = {
            let mut waiting = self.waiting.lock();
            if waiting.failed {
                // Dropping the job tells its waiter.
                return;
            }
            waiting.jobs.push_back(job);
            waiting.jobs.len() == 1
        };
        if was_empty {
            self.ring_bell();
        }
        self.changed.notify_one();
    }

    pub(super) fn stop(&self) {
        self.waiting.lock().stopped = true;
        self.ring_bell();
        self.changed.notify_all();
    }

    fn ring_bell(&self) {
        // Fails only when the counter is about to overflow: then it is awake anyway.
        let _ = self.bell.write(1);
    }

    pub(super) fn bell(&self) -> RawFd {
        self.bell.as_fd().as_raw_fd()
    }

    /// Nobody serves the queue any more: answers what waits, and what comes, with an error.
    pub(super) fn fail(&self) {
        let mut waiting = self.waiting.lock();
        waiting.failed = true;
        waiting.jobs.clear();
    }

    /// All jobs there are, and whether there will be no more.
    pub(super) fn take_all(&self, into: &mut VecDeque<Job>) -> bool {
        let mut waiting = self.waiting.lock();
        into.append(&mut waiting.jobs);
        waiting.stopped
    }

    /// The next job; `None` when there will be no more.
    pub(super) fn take_one(&self) -> Option<Job> {
        let mut waiting = self.waiting.lock();
        loop {
            if let Some(job) = waiting.jobs.pop_front() {
                return Some(job);
            }
            if waiting.stopped {
                return None;
            }
            self.changed.wait(&mut waiting);
        }
    }
}
