//! The supervisor's loop: the program's end, the manager's messages, the time limit.

use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::cgroup::Cgroup;
use super::init::{Init, SIGNAL_ALL, SIGNAL_GROUP, Said};
use super::{Order, bare_exit, manifest, now_ms, program, unitdir};
use crate::engine::{ExitRecord, ExitStatus, Told};
use crate::spec::signal_name;

/// Messages come as this real-time signal with a value.
fn message_signal() -> i32 {
    libc::SIGRTMIN() + 3
}

/// Signals come through a descriptor, never by interruption.
pub(super) fn block_signals() {
    // SAFETY: signal masks of a process with one thread.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGCHLD, message_signal()] {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
}

/// Sends a message to the supervisor `pid`.
pub(crate) fn tell(pid: u32, told: Told) -> std::io::Result<()> {
    let (code, argument) = match told {
        Told::Cancel(grace_ms) => (1, grace_ms.min(0x00ff_ffff)),
        Told::Signal(number) => (2, u64::try_from(number).unwrap_or(0)),
        Told::Suspend => (3, 0),
        Told::Resume => (4, 0),
    };
    let value = usize::try_from(code << 24 | argument).unwrap_or(0);
    let value = libc::sigval { sival_ptr: std::ptr::without_provenance_mut(value) };
    let pid = i32::try_from(pid).map_err(std::io::Error::other)?;
    // SAFETY: sends a signal with a plain value.
    nix::errno::Errno::result(unsafe { libc::sigqueue(pid, message_signal(), value) })?;
    Ok(())
}

fn heard(signal: i32, value: i32) -> Option<Told> {
    if signal != message_signal() {
        // From an administrator's hand.
        return (signal != libc::SIGCHLD).then_some(Told::Cancel(10_000));
    }
    let argument = value & 0x00ff_ffff;
    match value >> 24 {
        1 => Some(Told::Cancel(u64::try_from(argument).unwrap_or(0))),
        2 => Some(Told::Signal(argument)),
        3 => Some(Told::Suspend),
        4 => Some(Told::Resume),
        _ => None,
    }
}

/// Runs the program to its end.
pub(super) fn run(order: &Order, cgroup: &Cgroup) -> ExitRecord {
    let by = format!("supervisor@{}", order.node);
    let refused = |what: &str, error: nix::errno::Errno| {
        let text = format!("{what}: {}", error.desc());
        bare_exit(ExitStatus::StartFailed, text, order.attempt, order.epoch, &by)
    };
    let limit_by_rlimit = !cgroup.limits_memory;
    let prepared = match program::prepare(order) {
        Ok(prepared) => prepared,
        Err((what, error)) => return refused(&what, error),
    };
    let started = Init::start(order, &prepared, limit_by_rlimit);
    let pump = prepared.into_pump();
    let finish_output = || {
        if let Some(pump) = pump {
            pump.finish();
        }
    };
    let mut init = match started {
        Ok(init) => init,
        Err((what, error)) => {
            finish_output();
            return refused(&what, error);
        }
    };
    cgroup.enter(init.pid);
    // The mark stands before the program can run: without it nothing ran.
    let marked = unitdir::open_dir(order, &order.unit_dir)
        .and_then(|dir| unitdir::append(&dir, "log", manifest::exec_line(order, init.pid).as_bytes()));
    if let Err(error) = marked {
        init.kill();
        reap(init.pid);
        finish_output();
        return refused("writing the unit's log", error);
    }
    crate::failpoint::reach("supervisor.after_mark");
    let started_ms = now_ms();
    init.release();
    crate::failpoint::reach("supervisor.running");
    let mut watch = Watch::new(order);
    let said = watch.until_end(&mut init);
    init.kill();
    cgroup.kill();
    reap(init.pid);
    // Whoever sees the exit record sees all of the output.
    finish_output();
    let mut exit = watch.judge(said, cgroup, &by);
    if exit.status != ExitStatus::StartFailed {
        exit.started_ms = started_ms;
    }
    exit
}

fn reap(pid: i32) {
    let mut status = 0;
    // SAFETY: waits for our own child.
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } < 0
        && nix::errno::Errno::last() == nix::errno::Errno::EINTR
    {}
}

struct Watch<'a> {
    order: &'a Order,
    start: Instant,
    /// Why we ended it, if we did.
    ended_as: Option<ExitStatus>,
    kill_at: Option<Instant>,
    early_sent: bool,
}

impl<'a> Watch<'a> {
    fn new(order: &'a Order) -> Self {
        Self { order, start: Instant::now(), ended_as: None, kill_at: None, early_sent: false }
    }

    /// The next moment at which time alone changes something.
    fn next_deadline(&self) -> Option<Instant> {
        let limit = self.order.time_ms.map(|ms| self.start + Duration::from_millis(ms));
        let early = match (self.order.early_signal, self.order.time_ms) {
            (Some((_, before)), Some(limit)) if !self.early_sent => {
                Some(self.start + Duration::from_millis(limit.saturating_sub(before)))
            }
            _ => None,
        };
        let limit = limit.filter(|_| self.ended_as.is_none());
        [limit, early, self.kill_at].into_iter().flatten().min()
    }

    fn until_end(&mut self, init: &mut Init) -> Option<Said> {
        let mut mask = SigSet::empty();
        for signal in [nix::sys::signal::SIGTERM, nix::sys::signal::SIGINT, nix::sys::signal::SIGHUP] {
            mask.add(signal);
        }
        // nix knows no real-time signals; the C set does.
        // SAFETY: adds one signal to a valid set.
        let mask = unsafe {
            let mut raw = *mask.as_ref();
            libc::sigaddset(&raw mut raw, message_signal());
            SigSet::from_sigset_t_unchecked(raw)
        };
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).ok();
        let mut reader = BufReader::new(init.said.try_clone().ok()?);
        loop {
            let now = Instant::now();
            self.on_time(now, init);
            let timeout = self.next_deadline().map_or(PollTimeout::NONE, |at| {
                let ms = at.saturating_duration_since(now).as_millis() + 1;
                PollTimeout::try_from(i32::try_from(ms).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
            });
            let mut fds = vec![PollFd::new(init.said.as_fd(), PollFlags::POLLIN)];
            if let Some(signals) = &signals {
                fds.push(PollFd::new(signals.as_fd(), PollFlags::POLLIN));
            }
            let _ = poll(&mut fds, timeout);
            let said = fds[0].any().unwrap_or(false);
            let signaled = fds.get(1).and_then(PollFd::any).unwrap_or(false);
            drop(fds);
            if signaled && let Some(signals) = &signals {
                while let Ok(Some(info)) = signals.read_signal() {
                    let signal = i32::try_from(info.ssi_signo).unwrap_or(0);
                    if let Some(told) = heard(signal, info.ssi_int) {
                        self.on_told(told, init);
                    }
                }
            }
            if said {
                let mut line = String::new();
                let _ = reader.read_line(&mut line);
                return serde_json::from_str(&line).ok();
            }
        }
    }

    fn on_told(&mut self, told: Told, init: &mut Init) {
        match told {
            Told::Cancel(grace_ms) => self.end(ExitStatus::Canceled, grace_ms, init),
            Told::Signal(number) => init.send(SIGNAL_GROUP, number),
            Told::Suspend => init.send(SIGNAL_ALL, libc::SIGSTOP),
            Told::Resume => init.send(SIGNAL_ALL, libc::SIGCONT),
        }
    }

    fn on_time(&mut self, now: Instant, init: &mut Init) {
        if let (Some((number, before)), Some(limit)) = (self.order.early_signal, self.order.time_ms)
            && !self.early_sent
            && now >= self.start + Duration::from_millis(limit.saturating_sub(before))
        {
            self.early_sent = true;
            init.send(SIGNAL_GROUP, number);
        }
        if let Some(limit) = self.order.time_ms
            && self.ended_as.is_none()
            && now >= self.start + Duration::from_millis(limit)
        {
            self.end(ExitStatus::Timeout, self.order.grace_ms, init);
        }
        if self.kill_at.is_some_and(|at| now >= at) {
            self.kill_at = None;
            init.send(SIGNAL_ALL, libc::SIGKILL);
            init.kill();
        }
    }

    /// TERM now (also to stopped processes), KILL after the grace.
    fn end(&mut self, why: ExitStatus, grace_ms: u64, init: &mut Init) {
        self.ended_as.get_or_insert(why);
        let at = Instant::now() + Duration::from_millis(grace_ms);
        self.kill_at = Some(self.kill_at.map_or(at, |old| old.min(at)));
        init.send(SIGNAL_GROUP, libc::SIGTERM);
        init.send(SIGNAL_ALL, libc::SIGCONT);
    }

    fn judge(&self, said: Option<Said>, cgroup: &Cgroup, by: &str) -> ExitRecord {
        let order = self.order;
        let mut exit = bare_exit(ExitStatus::Exited, String::new(), order.attempt, order.epoch, by);
        match said {
            Some(Said::Refused { what, errno }) => {
                exit.status = ExitStatus::StartFailed;
                exit.text = format!("{what}: {}", nix::errno::Errno::from_raw(errno).desc());
                return exit;
            }
            Some(Said::Ended { status, user_ms, system_ms, max_rss, at_ms }) => {
                (exit.user_ms, exit.system_ms, exit.max_rss, exit.ended_ms) =
                    (user_ms, system_ms, max_rss, at_ms);
                if libc::WIFEXITED(status) {
                    let code = libc::WEXITSTATUS(status);
                    exit.exit_code = Some(code);
                    exit.text = format!("exit status {code}");
                } else {
                    let signal = libc::WTERMSIG(status);
                    (exit.status, exit.signal) = (ExitStatus::Signaled, Some(signal));
                    exit.text = format!("killed by {}", signal_name(signal));
                }
            }
            None => {
                (exit.status, exit.signal) = (ExitStatus::Signaled, Some(libc::SIGKILL));
                exit.text = "killed by SIGKILL".into();
            }
        }
        let how = std::mem::take(&mut exit.text);
        let clean = exit.exit_code == Some(0);
        exit.text = match self.ended_as {
            Some(ExitStatus::Timeout) => {
                exit.status = ExitStatus::Timeout;
                format!("time limit of {} s reached, {how}", order.time_ms.unwrap_or(0) as f64 / 1e3)
            }
            Some(_) => {
                exit.status = ExitStatus::Canceled;
                format!("canceled, {how}")
            }
            None if !clean && cgroup.oom_killed() => {
                exit.status = ExitStatus::Oom;
                format!("memory limit of {} bytes reached, {how}", order.memory.unwrap_or(0))
            }
            None => how,
        };
        exit
    }
}
