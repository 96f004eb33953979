//! Carries the program's output into files of the job's directory.
//!
//! A program that held those files itself would see its writes fail when the mount's process is killed. So it writes
//! into pipes, and a process of its own (the supervisor must not stall on a file system that is away) writes what comes
//! out of them, at known places, as often as it takes. While the file system is away the pipes fill and the program waits.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{ForkResult, fork, pipe2};

use super::{Order, unitdir};

/// Bytes carried in one go.
const CHUNK: usize = 64 << 10;
/// Between tries to write while the file system is away.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// A running pump.
pub(super) struct Pump {
    pid: i32,
    /// Closed when the program has ended: what is in the pipes then is all there will be.
    running: Option<OwnedFd>,
}

/// One stream: from a pipe into a file.
struct Stream {
    name: String,
    from: Option<File>,
    into: File,
    at: u64,
    /// The file system refused for good (full, quota): the rest is dropped, so that the program ends.
    refused: bool,
}

impl Pump {
    /// Starts carrying; gives the ends that the program writes to, one for each name.
    pub(super) fn start(order: &Order, names: &[&str]) -> Result<(Self, Vec<OwnedFd>), (String, Errno)> {
        let step = |what: &str, e: Errno| (what.to_string(), e);
        let (mut streams, mut ends) = (Vec::new(), Vec::new());
        for name in names {
            let into = unitdir::open_sink(order, name)
                .map_err(|e| (format!("making {name} in the job's directory"), e))?;
            let into = File::from(into);
            let at = into.metadata().map_or(0, |m| m.len());
            let (from, end) = pipe2(OFlag::O_CLOEXEC).map_err(|e| step("pipe", e))?;
            streams.push(Stream {
                name: (*name).to_string(),
                from: Some(File::from(from)),
                into,
                at,
                refused: false,
            });
            ends.push(end);
        }
        let (watch, running) = pipe2(OFlag::O_CLOEXEC).map_err(|e| step("pipe", e))?;
        // SAFETY: the process has one thread.
        match unsafe { fork() }.map_err(|e| step("fork", e))? {
            ForkResult::Parent { child } => Ok((Self { pid: child.as_raw(), running: Some(running) }, ends)),
            ForkResult::Child => {
                drop((ends, running));
                // The manager waits for the end of the report pipe.
                // SAFETY: closes a descriptor that nothing here uses.
                unsafe { libc::close(1) };
                carry(order, &mut streams, &watch);
                std::process::exit(0);
            }
        }
    }

    /// Waits until everything that was printed is written.
    pub(super) fn finish(mut self) {
        drop(self.running.take());
        let mut status = 0;
        // SAFETY: waits for our own child.
        while unsafe { libc::waitpid(self.pid, &raw mut status, 0) } < 0 && Errno::last() == Errno::EINTR {}
    }
}

fn carry(order: &Order, streams: &mut [Stream], watch: &OwnedFd) {
    let mut ended = false;
    while streams.iter().any(|s| s.from.is_some()) {
        let mut fds: Vec<PollFd> = streams
            .iter()
            .filter_map(|s| s.from.as_ref())
            .map(|f| PollFd::new(f.as_fd(), PollFlags::POLLIN))
            .collect();
        if !ended {
            fds.push(PollFd::new(watch.as_fd(), PollFlags::POLLIN));
        }
        let _ = poll(&mut fds, PollTimeout::NONE);
        if !ended && fds.last().and_then(PollFd::any).unwrap_or(false) {
            ended = true;
            // Somebody who left the program's session may hold the pipes open; nobody waits for that.
            for from in streams.iter().filter_map(|s| s.from.as_ref()) {
                let _ = fcntl(from, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
            }
        }
        let ready: Vec<bool> = fds.iter().map(|fd| ended || fd.any().unwrap_or(false)).collect();
        for (stream, ready) in streams.iter_mut().filter(|s| s.from.is_some()).zip(ready) {
            if ready {
                stream.step(order);
            }
        }
    }
}

impl Stream {
    /// Reads what is there once and writes it.
    fn step(&mut self, order: &Order) {
        let mut buffer = [0u8; CHUNK];
        let Some(from) = &mut self.from else { return };
        match from.read(&mut buffer) {
            Ok(0) => self.from = None,
            Ok(n) => self.write(order, &buffer[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => self.from = None,
        }
    }

    fn write(&mut self, order: &Order, bytes: &[u8]) {
        let mut pause = PAUSE.0;
        while !self.refused {
            match self.into.write_all_at(bytes, self.at) {
                Ok(()) => {
                    self.at += bytes.len() as u64;
                    return;
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => {
                        self.refused = true;
                        let line = format!(
                            "{{\"e\":\"output_lost\",\"ctx\":{{\"file\":\"{}\",\"at\":{}}}}}\n",
                            self.name, self.at
                        );
                        if let Ok(dir) = unitdir::open_dir(order, &order.unit_dir) {
                            let _ = unitdir::append(&dir, "log", line.as_bytes());
                        }
                    }
                    _ => {
                        std::thread::sleep(pause);
                        pause = (pause * 2).min(PAUSE.1);
                        // The mount may be a new one.
                        if let Ok(file) = unitdir::open_sink(order, &self.name) {
                            self.into = File::from(file);
                        }
                    }
                },
            }
        }
    }
}
