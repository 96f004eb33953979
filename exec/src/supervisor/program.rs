//! From a fork to the program: identity, limits, files, then `execve`.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};

use super::pump::Pump;
use super::{Order, Sink};

/// Everything that must be made before the fork: no allocation fails between fork and exec for want of a string.
pub(super) struct Prepared {
    argv: Vec<CString>,
    env: Vec<CString>,
    candidates: Vec<CString>,
    /// Pipes to the pump, for output that goes into the job's directory.
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    /// Carries that output.
    pump: Option<Pump>,
}

impl Prepared {
    /// Gives the supervisor's ends of the pipes up; what remains is the pump, to be finished after the program.
    pub(super) fn into_pump(self) -> Option<Pump> {
        self.pump
    }
}

/// Why the program did not come to run: which step, on what, and the error.
pub(super) type Refusal = (String, Errno);

/// Where programs without a slash are looked up.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn prepare(order: &Order) -> Result<Prepared, Refusal> {
    let c = |text: &str| CString::new(text).map_err(|_| ("a NUL in the order".to_string(), Errno::EINVAL));
    let program = order.argv.first().ok_or_else(|| ("no program".to_string(), Errno::EINVAL))?;
    let mut candidates = Vec::new();
    if program.contains('/') {
        candidates.push(c(program)?);
    } else {
        let path = order.env.iter().find(|(k, _)| k == "PATH").map_or(DEFAULT_PATH, |(_, v)| v.as_str());
        for dir in path.split(':').filter(|d| !d.is_empty()) {
            candidates.push(c(&format!("{dir}/{program}"))?);
        }
    }
    let mut sinks: Vec<&str> = Vec::new();
    for sink in [&order.stdout, &order.stderr] {
        if let Sink::JobFile(name) = sink {
            sinks.push(name);
        }
    }
    let (pump, ends) = if sinks.is_empty() {
        (None, Vec::new())
    } else {
        let (pump, ends) = Pump::start(order, &sinks)?;
        (Some(pump), ends)
    };
    let mut ends = ends.into_iter();
    let mut end = |sink: &Sink| if matches!(sink, Sink::JobFile(_)) { ends.next() } else { None };
    let (stdout, stderr) = (end(&order.stdout), end(&order.stderr));
    Ok(Prepared {
        argv: order.argv.iter().map(|a| c(a)).collect::<Result<_, _>>()?,
        env: order.env.iter().map(|(k, v)| c(&format!("{k}={v}"))).collect::<Result<_, _>>()?,
        candidates,
        stdout,
        stderr,
        pump,
    })
}

/// Becomes the program; comes back only with the reason why it could not.
pub(super) fn become_program(order: &Order, prepared: &Prepared, limit_memory: bool) -> Refusal {
    match setup(order, prepared, limit_memory) {
        Ok(()) => {}
        Err(refusal) => return refusal,
    }
    let mut last = Errno::ENOENT;
    for candidate in &prepared.candidates {
        let Err(error) = nix::unistd::execve(candidate, &prepared.argv, &prepared.env);
        // As a shell does: a name found without the right to run it says more than one not found.
        if error != Errno::ENOENT || prepared.candidates.len() == 1 {
            last = error;
        }
    }
    (format!("executing {}", order.argv[0]), last)
}

fn setup(order: &Order, prepared: &Prepared, limit_memory: bool) -> Result<(), Refusal> {
    let step = |what: &'static str| move |e: Errno| (what.to_string(), e);
    nix::unistd::setsid().map_err(step("setsid"))?;
    // SAFETY: plain prctl calls; the program must not outlive its init.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    reset_signals();
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    limits(order, limit_memory);
    if let Some(identity) = &order.identity {
        let groups: Vec<Gid> = identity.groups.iter().map(|g| Gid::from_raw(*g)).collect();
        nix::unistd::setgroups(&groups).map_err(step("setgroups"))?;
        let gid = Gid::from_raw(identity.gid);
        nix::unistd::setresgid(gid, gid, gid).map_err(step("setgid"))?;
        let uid = Uid::from_raw(identity.uid);
        nix::unistd::setresuid(uid, uid, uid).map_err(step("setuid"))?;
        if identity.uid != 0 {
            nix::sys::prctl::set_no_new_privs().map_err(step("no_new_privs"))?;
        }
        // Changing the identity clears it.
        // SAFETY: a plain prctl call.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    }
    nix::unistd::chdir(order.cwd.as_str()).map_err(|e| (format!("entering directory {}", order.cwd), e))?;
    let stdin = nix::fcntl::open(order.stdin.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|e| (format!("opening stdin {}", order.stdin), e))?;
    put(stdin.as_raw_fd(), 0)?;
    let stdout = user_sink(&order.stdout)?;
    let out_fd = stdout.as_ref().or(prepared.stdout.as_ref()).map_or(1, AsRawFd::as_raw_fd);
    let same = matches!((&order.stdout, &order.stderr),
        (Sink::UserPath { path: a, .. }, Sink::UserPath { path: b, .. }) if a == b);
    let stderr = if same { None } else { user_sink(&order.stderr)? };
    let err_fd = stderr.as_ref().or(prepared.stderr.as_ref()).map_or(out_fd, AsRawFd::as_raw_fd);
    put(err_fd, 2)?;
    put(out_fd, 1)
}

fn put(from: RawFd, to: RawFd) -> Result<(), Refusal> {
    // SAFETY: both are descriptors of this process, which runs nothing else.
    Errno::result(unsafe { libc::dup2(from, to) }).map(drop).map_err(|e| ("dup2".into(), e))
}

fn user_sink(sink: &Sink) -> Result<Option<OwnedFd>, Refusal> {
    let Sink::UserPath { path, append } = sink else { return Ok(None) };
    if let Some(parent) = std::path::Path::new(path).parent() {
        let _ = std::fs::create_dir_all(parent);
    }
    let how = if *append { OFlag::O_APPEND } else { OFlag::O_TRUNC };
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_CLOEXEC | how;
    let fd = nix::fcntl::open(path.as_str(), flags, Mode::from_bits_truncate(0o644));
    fd.map(Some).map_err(|e| (format!("opening output {path}"), e))
}

/// The program starts with default signal handling and nothing blocked.
fn reset_signals() {
    // SAFETY: async-signal-safe calls on this process only.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Limits that hold without control groups.
fn limits(order: &Order, limit_memory: bool) {
    use nix::sys::resource::{Resource, setrlimit};
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    if let Some(bytes) = order.memory.filter(|_| limit_memory) {
        let _ = setrlimit(Resource::RLIMIT_DATA, bytes, bytes);
    }
}
