//! The first process of a unit's pid namespace: starts the program, reaps what it leaves behind, passes signals on,
//! and takes everything with it when it goes (or when the supervisor does).

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{ForkResult, fork, pipe2};

use super::program::{self, Prepared, Refusal};
use super::{Order, now_ms};

/// What init says to the supervisor, one JSON line each.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) enum Said {
    /// The program could not be executed.
    Refused { what: String, errno: i32 },
    /// The program ended: wait status and use of it and its children.
    Ended { status: i32, user_ms: u64, system_ms: u64, max_rss: u64, at_ms: u64 },
}

/// Orders to init: one byte what, one byte which signal.
pub(super) const SIGNAL_GROUP: u8 = b'S';
/// The same for every process of the unit.
pub(super) const SIGNAL_ALL: u8 = b'A';

/// The supervisor's side of a started init.
pub(super) struct Init {
    pub(super) pid: i32,
    /// `Said` lines.
    pub(super) said: File,
    /// Orders.
    orders: File,
    /// Writing a byte lets the program go.
    go: Option<File>,
}

impl Init {
    /// Forks init, in namespaces of its own where that is allowed. The program waits for `release`.
    pub(super) fn start(order: &Order, prepared: &Prepared, limit_memory: bool) -> Result<Self, Refusal> {
        let step = |what: &'static str| move |e: Errno| (what.to_string(), e);
        let close = nix::fcntl::OFlag::O_CLOEXEC;
        let (said_read, said_write) = pipe2(close).map_err(step("pipe"))?;
        let (orders_read, orders_write) = pipe2(close).map_err(step("pipe"))?;
        let (go_read, go_write) = pipe2(close).map_err(step("pipe"))?;
        let own_namespace = unshare(CloneFlags::CLONE_NEWPID).is_ok();
        // SAFETY: the process has one thread.
        match unsafe { fork() }.map_err(step("fork"))? {
            ForkResult::Parent { child } => Ok(Self {
                pid: child.as_raw(),
                said: File::from(said_read),
                orders: File::from(orders_write),
                go: Some(File::from(go_write)),
            }),
            ForkResult::Child => {
                // SAFETY: a plain prctl call: the unit dies with its supervisor.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                drop((said_read, orders_write, go_write));
                let mut out = File::from(said_write);
                run(order, prepared, limit_memory, own_namespace, &mut out, orders_read, go_read);
                std::process::exit(0);
            }
        }
    }

    /// Lets the program go.
    pub(super) fn release(&mut self) {
        if let Some(mut go) = self.go.take() {
            let _ = go.write_all(b"g");
        }
    }

    /// Sends a signal to the program's session or to all processes.
    pub(super) fn send(&mut self, what: u8, signal: i32) {
        let signal = u8::try_from(signal).unwrap_or(0);
        let _ = self.orders.write_all(&[what, signal]);
    }

    /// Ends init, and with it the unit's pid namespace.
    pub(super) fn kill(&self) {
        // SAFETY: the child is not reaped before the supervisor waits for it.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
    }
}

fn say(out: &mut File, said: &Said) {
    let mut line = serde_json::to_vec(said).expect("plain data");
    line.push(b'\n');
    let _ = out.write_all(&line);
}

fn run(
    order: &Order,
    prepared: &Prepared,
    limit_memory: bool,
    own_namespace: bool,
    out: &mut File,
    orders: OwnedFd,
    go: OwnedFd,
) {
    if own_namespace {
        private_proc();
    } else {
        // SAFETY: a plain prctl call: what the program leaves behind comes to us, to be ended.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
    }
    // Wait to be let go; a supervisor that died closes the pipe.
    if !matches!(File::from(go).read(&mut [0u8; 1]), Ok(1)) {
        return;
    }
    let mut child_signal = SigSet::empty();
    child_signal.add(Signal::SIGCHLD);
    let ready =
        child_signal.thread_block().and_then(|()| SignalFd::with_flags(&child_signal, SfdFlags::SFD_CLOEXEC));
    let signals = match ready {
        Ok(signals) => signals,
        Err(error) => return say(out, &Said::Refused { what: "signalfd".into(), errno: error as i32 }),
    };
    let Ok((refusal_read, refusal_write)) = pipe2(nix::fcntl::OFlag::O_CLOEXEC) else {
        return say(out, &Said::Refused { what: "pipe".into(), errno: Errno::last_raw() });
    };
    // SAFETY: the process has one thread.
    let child = match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            let (what, errno) = program::become_program(order, prepared, limit_memory);
            say(&mut File::from(refusal_write), &Said::Refused { what, errno: errno as i32 });
            std::process::exit(127);
        }
        Ok(ForkResult::Parent { child }) => child.as_raw(),
        Err(error) => return say(out, &Said::Refused { what: "fork".into(), errno: error as i32 }),
    };
    drop(refusal_write);
    let mut refusal = Vec::new();
    // End of file is the successful exec.
    let _ = File::from(refusal_read).take(4096).read_to_end(&mut refusal);
    if !refusal.is_empty() {
        let _ = out.write_all(&refusal);
        return;
    }
    let ended = reap(child, &signals, orders);
    if !own_namespace {
        // SAFETY: the session of a child that was just reaped; nobody else joins it.
        unsafe { libc::kill(-child, libc::SIGKILL) };
    }
    say(out, &ended);
}

/// A `/proc` that shows the unit's processes only. Mounts of the host keep appearing and vanishing here.
fn private_proc() {
    if unshare(CloneFlags::CLONE_NEWNS).is_err() {
        return;
    }
    let none: Option<&str> = None;
    let slave = mount(none, "/", none, MsFlags::MS_SLAVE | MsFlags::MS_REC, none);
    if slave.is_ok() {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let _ = mount(Some("proc"), "/proc", Some("proc"), flags, none);
    }
}

/// Waits for the program, reaping others and passing signals on.
fn reap(child: i32, signals: &SignalFd, orders: OwnedFd) -> Said {
    let mut orders = File::from(orders);
    let mut orders_open = true;
    loop {
        let mut status = 0;
        loop {
            // SAFETY: `status` lives through the call.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
            if pid == child {
                return ended(status);
            }
            if pid <= 0 {
                break;
            }
        }
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if orders_open {
            fds.push(PollFd::new(orders.as_fd(), PollFlags::POLLIN));
        }
        let _ = poll(&mut fds, PollTimeout::NONE);
        let asked = fds.get(1).and_then(PollFd::any).unwrap_or(false);
        if fds[0].any().unwrap_or(false) {
            let _ = signals.read_signal();
        }
        if asked {
            let mut order = [0u8; 2];
            match orders.read_exact(&mut order) {
                Ok(()) => {
                    let target = if order[0] == SIGNAL_ALL && std::process::id() == 1 { -1 } else { -child };
                    // SAFETY: from the namespace's init, -1 is every process of the unit but init itself.
                    unsafe { libc::kill(target, i32::from(order[1])) };
                }
                Err(_) => orders_open = false,
            }
        }
    }
}

fn ended(status: i32) -> Said {
    // SAFETY: a zeroed rusage is valid and lives through the call.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let ms = |t: libc::timeval| u64::try_from(t.tv_sec * 1000 + t.tv_usec / 1000).unwrap_or(0);
    Said::Ended {
        status,
        user_ms: ms(usage.ru_utime),
        system_ms: ms(usage.ru_stime),
        max_rss: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
        at_ms: now_ms(),
    }
}
