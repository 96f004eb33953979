//! Signals of processes that wait for us. fuser 0.18 answers the kernel's INTERRUPT with ENOSYS, and then a process
//! that waits for a reply could not even be killed. So operations that take long look after their process themselves.

use std::time::Duration;

/// How often a waiting operation looks whether its process was killed.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// SIGKILL; the kernel also sets it for other signals that end a process by default.
const KILL: u64 = 1 << (libc::SIGKILL - 1);

/// What a thread's `/proc/PID/status` says of its signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Signals {
    pending: u64,
    blocked: u64,
    ignored: u64,
}

impl Signals {
    fn parse(status: &str) -> Self {
        let mut signals = Self::default();
        for line in status.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let bits = || u64::from_str_radix(value.trim(), 16).unwrap_or(0);
            match name {
                "SigPnd" | "ShdPnd" => signals.pending |= bits(),
                "SigBlk" => signals.blocked = bits(),
                "SigIgn" => signals.ignored = bits(),
                _ => {}
            }
        }
        signals
    }

    fn of(thread: u32) -> Option<Self> {
        // Thread 0 is of another PID namespace: we cannot look.
        let path = format!("/proc/{thread}/status");
        (thread != 0).then(|| std::fs::read_to_string(path).ok()).flatten().map(|text| Self::parse(&text))
    }
}

/// Whether a thread is being killed.
pub(super) fn is_killed(thread: u32) -> bool {
    Signals::of(thread).is_some_and(|signals| signals.pending & KILL != 0)
}

/// Whether a system call of this thread that waits should end with `EINTR`.
pub(super) fn is_interrupted(thread: u32) -> bool {
    Signals::of(thread)
        .is_some_and(|signals| signals.pending & (KILL | !(signals.blocked | signals.ignored)) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pending_signals_are_read() {
        let text =
            "Name:\tx\nSigPnd:\t0000000000000100\nShdPnd:\t0000000000000002\nSigBlk:\t0000000000000002\n";
        let signals = Signals::parse(text);
        assert_eq!(signals, Signals { pending: 0x102, blocked: 2, ignored: 0 });
        assert!(signals.pending & KILL != 0);
        assert!(!is_killed(std::process::id()) && !is_killed(0));
    }
}
