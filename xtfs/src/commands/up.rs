//! `xtfs up`: an instance on this machine, running until Ctrl-C or `xtfs down`.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::Args;
use serde_json::{Value, json};

use crate::args::{DataDir, Global};
use crate::failure::{Failure, Outcome};
use crate::instance::plan::{Wish, plan};
use crate::instance::{Home, Instance, lock};
use crate::launcher::supervisor;
use crate::{launcher, mounts, output, roles};

/// Start (or resume) a file system on this machine and mount it
///
/// Everything runs in this one process and lives in the data directory. Ctrl-C or `xtfs down` stops it; the next `up`
/// goes on where it was.
#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    data: DataDir,
    /// Where to mount the volume [default: DATA/mnt].
    #[arg(long, value_name = "DIR")]
    mount: Option<PathBuf>,
    /// The volume to make and mount [default: default].
    #[arg(long, value_name = "NAME")]
    volume: Option<String>,
    /// Number of DIR services: 1, or 3 and more to survive the loss of some.
    #[arg(long, value_name = "N")]
    dirs: Option<u32>,
    /// Number of MRC (metadata) services: 1, or 3 and more to survive the loss of some.
    #[arg(long, value_name = "N")]
    mrcs: Option<u32>,
    /// Number of OSDs (storage services).
    #[arg(long, value_name = "N")]
    osds: Option<u32>,
    /// Copies of the data of new files.
    #[arg(long, value_name = "R")]
    replicas: Option<u32>,
    /// OSDs over which a new file is spread.
    #[arg(long, value_name = "W")]
    stripe_width: Option<u32>,
    /// Run every service as a process of its own.
    #[arg(long)]
    separate: bool,
    /// Return when everything is ready and leave it running.
    #[arg(long)]
    detach: bool,
    /// Do not mount (implies --no-exec: jobs see their files through the mount).
    #[arg(long)]
    no_mount: bool,
    /// Do not run jobs.
    #[arg(long)]
    no_exec: bool,
    /// DIRs, MRCs and OSDs in the network namespaces PREFIX-NAME, which are there (`xtfs chaos`).
    #[arg(long, hide = true, value_name = "PREFIX", requires = "separate")]
    network: Option<String>,
    /// The descriptor on which a detached `up` says that it is ready.
    #[arg(long, hide = true, value_name = "FD")]
    ready_fd: Option<RawFd>,
}

/// People who run `up` want to hear of trouble; glommio's warning about locked memory is none.
const LOG: &str = "warn,glommio=error";

/// Where to say that everything runs.
pub(crate) struct Ready {
    json: bool,
    to: Option<OwnedFd>,
}

impl Ready {
    /// Says so.
    pub(crate) fn tell(self, instance: &Instance) {
        let summary = summary(instance, std::process::id());
        match self.to {
            Some(descriptor) => say(descriptor, &summary),
            None => show(&summary, instance, self.json),
        }
    }
}

fn say(descriptor: OwnedFd, value: &Value) {
    // Whoever waited may be gone; the instance runs on.
    let _ = writeln!(std::fs::File::from(descriptor), "{value}");
}

/// The object of `--json`.
fn summary(instance: &Instance, pid: u32) -> Value {
    let http = instance.enabled().next().map(|service| format!("http://{}/", service.http));
    let mount = instance.mounted.then_some(&instance.mount);
    json!({
        "mount": mount,
        "volume": instance.volume,
        "spool": mount.map(|mount| mount.join("spool")),
        "http": http,
        "dir": crate::address::hosts(&instance.addrs("dir")),
        "pid": pid,
    })
}

fn show(summary: &Value, instance: &Instance, json: bool) {
    if json {
        return output::json(summary);
    }
    let text = |key: &str| summary[key].as_str().unwrap_or("none").to_owned();
    output::line(&format!("volume  {} ({} services)", instance.volume, instance.enabled().count()));
    output::line(&format!("mount   {}", text("mount")));
    output::line(&format!("spool   {}", text("spool")));
    output::line(&format!("web     {}", text("http")));
    let url = crate::address::VolumeUrl::show(&instance.addrs("dir"), &instance.volume);
    output::line(&format!("url     {url}"));
}

impl Up {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        if self.detach && self.ready_fd.is_none() {
            return self.detached(global);
        }
        // SAFETY: the number was passed by the `up` that started this process and that left the descriptor open for it.
        let to = self.ready_fd.map(|raw| unsafe { OwnedFd::from_raw_fd(raw) });
        if let Some(descriptor) = &to {
            // Services started from here must not keep the pipe open.
            set_close_on_exec(descriptor.as_raw_fd(), true)
                .map_err(|error| Failure::new("preparing", error))?;
        }
        let tell_failure = to.as_ref().and_then(|descriptor| descriptor.try_clone().ok());
        let done = self.foreground(global, Ready { json: global.json, to });
        if let (Err(failure), Some(descriptor)) = (&done, tell_failure) {
            say(descriptor, &failure.to_json());
        }
        done.map(|()| 0)
    }

    fn foreground(&self, global: &Global, ready: Ready) -> Result<(), Failure> {
        rt::log::init(Some(global.log.as_deref().unwrap_or(LOG)))
            .map_err(|why| Failure::usage("--log", why))?;
        let mut home = Home::at(&self.data.data)?;
        home.prepare()?;
        let _lock = lock::take(&home)?;
        let old = home.read()?;
        if let Some(left) = old.as_ref().filter(|old| supervisor::any_alive(&home, old)) {
            eprintln!("xtfs: services of an `up` that was killed still run; stopping them first");
            supervisor::stop_processes(&home, left);
        }
        let mut instance = plan(old, &self.wish(), &home)?;
        if instance.mounted {
            instance.mount = mounts::prepare(&instance.mount)?;
        }
        home.write(&instance)?;
        let how_to_stop = !global.json && ready.to.is_none();
        if how_to_stop {
            eprintln!("xtfs: starting; Ctrl-C or `xtfs down --data {}` stops it", self.data.data.display());
        }
        if instance.separate {
            launcher::run(&home, &instance, global, ready)
        } else {
            roles::embedded::run(&home, &instance, global, ready)
        }
    }

    fn wish(&self) -> Wish {
        Wish {
            mount: self.mount.clone(),
            volume: self.volume.clone(),
            dirs: self.dirs,
            mrcs: self.mrcs,
            osds: self.osds,
            replicas: self.replicas,
            stripe_width: self.stripe_width,
            separate: self.separate,
            no_mount: self.no_mount,
            no_exec: self.no_exec,
            network: self.network.clone(),
        }
    }

    /// Starts the same command in the background and waits until it says that it is ready, or why not.
    fn detached(&self, global: &Global) -> Outcome {
        let failed = |error: &dyn std::fmt::Display| Failure::new("starting in the background", error);
        let mut home = Home::at(&self.data.data)?;
        home.prepare()?;
        let log = home.log("up");
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(|error| failed(&error))?;
        let (reader, writer) = std::io::pipe().map_err(|error| failed(&error))?;
        set_close_on_exec(writer.as_raw_fd(), false).map_err(|error| failed(&error))?;
        let mut command = Command::new(launcher::spawn::program());
        command
            .arg0("xtfs")
            .args(std::env::args_os().skip(1))
            .arg(format!("--ready-fd={}", writer.as_raw_fd()));
        command.stdin(Stdio::null()).stdout(file.try_clone().map_err(|error| failed(&error))?).stderr(file);
        // SAFETY: setsid is async-signal-safe and touches nothing of this process's memory.
        unsafe { command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(std::io::Error::from)) };
        let mut child = command.spawn().map_err(|error| failed(&error))?;
        drop(writer);
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).map_err(|error| failed(&error))?;
        let Ok(value) = serde_json::from_str::<Value>(&line) else {
            let status = child.wait().map_err(|error| failed(&error))?;
            return Err(Failure::new("starting in the background", format!("it ended with {status}"))
                .next(format!("its log: {}", log.display())));
        };
        if let Some(failure) = Failure::from_json(&value) {
            return Err(failure);
        }
        show(&value, &home.instance()?, global.json);
        if !global.json {
            output::line(&format!("stop    xtfs down --data {}", self.data.data.display()));
        }
        Ok(0)
    }
}

/// Whether a descriptor is closed in programs that this process starts.
pub(super) fn set_close_on_exec(descriptor: RawFd, on: bool) -> std::io::Result<()> {
    // SAFETY: sets a flag of a descriptor that the caller holds open.
    let done = unsafe { libc::fcntl(descriptor, libc::F_SETFD, if on { libc::FD_CLOEXEC } else { 0 }) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
