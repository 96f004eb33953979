//! The thread that does a shard's I/O through io_uring, and plain threads for where io_uring is not allowed.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::thread::JoinHandle;

use io_uring::{IoUring, opcode, types};

use super::job::{Job, Memory, Queue};

/// Threads without io_uring.
const PLAIN_THREADS: usize = 4;
/// `user_data` of the bell's read.
const BELL: u64 = u64::MAX;

/// Starts what serves the queue. Says in the log which way was taken when it is not the best one.
pub(super) fn start(
    name: &str,
    queue: &Arc<Queue>,
    depth: usize,
    io_uring: bool,
) -> io::Result<Vec<JoinHandle<()>>> {
    if !io_uring {
        return start_plain(name, queue);
    }
    let (ready, answer) = std::sync::mpsc::sync_channel(1);
    let inner = queue.clone();
    // The ring is made on its own thread: a single-issuer ring belongs to the thread that made it.
    let thread =
        std::thread::Builder::new().name(format!("{name}-ring")).spawn(move || match build(depth) {
            Ok(ring) => {
                let _ = ready.send(Ok(()));
                Ring { ring, jobs: Vec::new(), free: Vec::new(), running: 0, bell: Box::new(0) }.run(&inner);
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        })?;
    match answer.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended"))) {
        Ok(()) => Ok(vec![thread]),
        Err(error) => {
            tracing::warn!(
                "{name}: no io_uring ({error}), using {PLAIN_THREADS} threads for its disk I/O instead"
            );
            let _ = thread.join();
            start_plain(name, queue)
        }
    }
}

fn start_plain(name: &str, queue: &Arc<Queue>) -> io::Result<Vec<JoinHandle<()>>> {
    (0..PLAIN_THREADS)
        .map(|number| {
            let queue = queue.clone();
            std::thread::Builder::new().name(format!("{name}-io-{number}")).spawn(move || run_plain(&queue))
        })
        .collect()
}

fn build(depth: usize) -> io::Result<IoUring> {
    let entries = (depth + 1).next_power_of_two() as u32;
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .build(entries)
        // Before Linux 6.1.
        .or_else(|_| IoUring::new(entries))
}

struct Ring {
    ring: IoUring,
    /// Jobs in the kernel, by `user_data`.
    jobs: Vec<Option<Job>>,
    free: Vec<usize>,
    running: usize,
    /// What the bell's read writes to.
    bell: Box<u64>,
}

impl Ring {
    fn run(mut self, queue: &Queue) {
        let mut waiting = VecDeque::new();
        let mut bell_armed = false;
        loop {
            let stopped = queue.take_all(&mut waiting);
            while let Some(job) = waiting.pop_front() {
                self.submit(job);
            }
            if stopped && self.running == 0 {
                if bell_armed {
                    self.disarm(queue);
                }
                return;
            }
            if !bell_armed {
                self.arm(queue);
                bell_armed = true;
            }
            if let Err(error) = self.ring.submit_and_wait(1)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!("io_uring failed: {error}");
                // Jobs that the kernel has are never answered: their memory is leaked rather than freed under it.
                std::mem::forget(self);
                queue.fail();
                return;
            }
            let done: Vec<(u64, i32)> =
                self.ring.completion().map(|entry| (entry.user_data(), entry.result())).collect();
            for (which, result) in done {
                if which == BELL {
                    bell_armed = false;
                } else {
                    self.complete(which, result);
                }
            }
        }
    }

    fn arm(&mut self, queue: &Queue) {
        let start: *mut u64 = &mut *self.bell;
        let entry = opcode::Read::new(types::Fd(queue.bell()), start.cast(), 8).build().user_data(BELL);
        self.push(&entry);
    }

    /// Lets the bell's read end before its memory goes.
    fn disarm(&mut self, queue: &Queue) {
        queue.stop();
        while let Err(error) = self.ring.submit_and_wait(1) {
            if error.kind() != io::ErrorKind::Interrupted {
                return;
            }
        }
    }

    fn submit(&mut self, mut job: Job) {
        let (start, len, offset) = job.rest();
        let fd = types::Fd(job.fd());
        let entry = match job.memory {
            Memory::Read(_) => opcode::Read::new(fd, start, len).offset(offset).build(),
            Memory::Write(_) => opcode::Write::new(fd, start, len).offset(offset).build(),
        };
        let which = self.free.pop().unwrap_or_else(|| {
            self.jobs.push(None);
            self.jobs.len() - 1
        });
        self.jobs[which] = Some(job);
        self.running += 1;
        self.push(&entry.user_data(which as u64));
    }

    fn push(&mut self, entry: &io_uring::squeue::Entry) {
        loop {
            // SAFETY: the entry's memory and file belong to a job in `jobs` (or are `bell`), which stay until the
            // completion arrives.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return;
            }
            // The queue is as long as there are slots, so this only happens when resubmitting: make room.
            if let Err(error) = self.ring.submit() {
                tracing::warn!("io_uring submit: {error}");
            }
        }
    }

    fn complete(&mut self, which: u64, result: i32) {
        let Some(job) = usize::try_from(which).ok().and_then(|which| self.jobs.get_mut(which)?.take()) else {
            return;
        };
        self.free.push(which as usize);
        self.running -= 1;
        let result = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
        if let Some(job) = job.advance(result) {
            self.submit(job);
        }
    }
}

fn run_plain(queue: &Queue) {
    while let Some(job) = queue.take_one() {
        let mut next = Some(job);
        while let Some(mut job) = next {
            let (offset, done) = (job.offset + job.done as u64, job.done);
            let result = match &mut job.memory {
                Memory::Read(buf) => job.file.read_at(&mut buf[done..], offset),
                Memory::Write(data) => job.file.write_at(&data[done..], offset),
            };
            next = job.advance(result);
        }
    }
}
