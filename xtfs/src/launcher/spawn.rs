//! Starting one service as a process of its own.

use std::io::{Read, Seek, SeekFrom};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;

use crate::config;
use crate::failure::Failure;
use crate::instance::process::Process;
use crate::instance::{Home, Instance, Service, files, network};

/// How long a service may take until it answers on its HTTP port.
const READY: Duration = Duration::from_secs(20);

/// Writes the service's configuration file.
pub(crate) fn configure(home: &Home, instance: &Instance, service: &Service) -> Result<(), Failure> {
    let path = home.config(&service.name);
    match service.role.as_str() {
        "dir" => config::store(&path, &files::dir(home, instance, service)),
        "mrc" => config::store(&path, &files::mrc(home, instance, service)),
        "osd" => config::store(&path, &files::osd(home, instance, service)),
        "exec" => config::store(&path, &files::exec(home, instance, service)),
        "rms" => config::store(&path, &files::rms(home, instance, service)),
        _ => {
            let mut file = files::mount(home, instance, service);
            file.launcher = home.launcher();
            config::store(&path, &file)
        }
    }
}

/// This program, also when its file was replaced since.
pub(crate) fn program() -> PathBuf {
    std::env::current_exe()
        .ok()
        .filter(|path| path.exists())
        .unwrap_or_else(|| PathBuf::from("/proc/self/exe"))
}

/// Starts it and writes its pid file. Its output goes to its log file.
pub(crate) fn spawn(
    home: &Home,
    instance: &Instance,
    service: &Service,
    log: Option<&str>,
) -> Result<Child, Failure> {
    let what = || format!("starting {}", service.name);
    configure(home, instance, service)?;
    let path = home.log(&service.name);
    let open = || std::fs::OpenOptions::new().create(true).append(true).open(&path);
    let output = open().and_then(|file| Ok((file.try_clone()?, file)));
    let (out, err) = output.map_err(|error| Failure::new(format!("opening {}", path.display()), error))?;
    let mut command = Command::new(program());
    command.arg0("xtfs").arg(&service.role).arg("--config").arg(home.config(&service.name));
    if let Some(filter) = log {
        command.arg("--log").arg(filter);
    }
    // A group of its own: Ctrl-C on the terminal is the launcher's business.
    command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0).current_dir("/");
    if let Some(namespace) = network::open(instance, service)? {
        // SAFETY: setns is async-signal-safe and touches nothing of this process's memory.
        unsafe {
            command.pre_exec(move || {
                nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET)
                    .map_err(std::io::Error::from)
            })
        };
    }
    // The launcher waits for its signals with them blocked; a service must not start that way.
    // SAFETY: changing the signal mask is async-signal-safe and touches nothing of this process's memory.
    unsafe { command.pre_exec(|| SigSet::empty().thread_set_mask().map_err(std::io::Error::from)) };
    let child = command.spawn().map_err(|error| Failure::new(what(), error))?;
    let pid = i32::try_from(child.id()).map_err(|error| Failure::new(what(), error))?;
    if let Some(process) = Process::of(pid) {
        process.record(&home.pid(&service.name))?;
    }
    Ok(child)
}

/// Waits until the service answers on its HTTP port, which it opens last.
pub(crate) fn wait_ready(home: &Home, service: &Service) -> Result<Process, Failure> {
    let what = || format!("starting {}", service.name);
    let log = || format!("its log: {}", home.log(&service.name).display());
    let at: SocketAddr = service.http.parse().map_err(|error| Failure::new(what(), error))?;
    let end = Instant::now() + READY;
    loop {
        let process = Process::recorded(&home.pid(&service.name)).ok_or_else(|| {
            Failure::new(what(), format!("it ended at once: {}", last_words(home, service))).next(log())
        })?;
        if TcpStream::connect_timeout(&at, Duration::from_millis(200)).is_ok() {
            return Ok(process);
        }
        if Instant::now() >= end {
            let why = format!("it does not answer on {} after {} s", service.http, READY.as_secs());
            return Err(Failure::unreachable(what(), why).next(log()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The last line of a service's log.
fn last_words(home: &Home, service: &Service) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(home.log(&service.name))?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(4096)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or("it said nothing").to_owned()
}
