//! `xtfs mount`: a volume at a directory; with --config the mount process of an instance.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use serde_json::{Value, json};

use super::up::set_close_on_exec;
use crate::address::VolumeUrl;
use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::roles::{self, Host, Role, daemon};
use crate::{launcher, mounts, output};

/// Mount a volume
#[derive(Debug, Args)]
pub(crate) struct Mount {
    /// xtfs://HOST[:PORT]/VOLUME or HOST/VOLUME.
    #[arg(required_unless_present = "config")]
    url: Option<String>,
    /// An empty directory.
    #[arg(required_unless_present = "config")]
    at: Option<PathBuf>,
    /// Options as for mount(8): ro,nodev,nosuid,writeback,cache=none
    #[arg(short, value_name = "OPT,OPT")]
    options: Vec<String>,
    /// Stay in the foreground and log to stderr.
    #[arg(long, short = 'f')]
    foreground: bool,
    /// Run the mount process of an instance.
    #[arg(long, hide = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The descriptor on which a background mount says that it is ready.
    #[arg(long, hide = true, value_name = "FD")]
    ready_fd: Option<RawFd>,
}

impl Mount {
    pub(crate) fn run(mut self, global: &Global) -> Outcome {
        if let Some(file) = &self.config {
            return daemon::mount(file, global);
        }
        let (Some(url), Some(at)) = (self.url.take(), self.at.take()) else {
            return Err(Failure::usage("xtfs mount", "it wants a volume and a directory"));
        };
        let url = VolumeUrl::parse(&url)?;
        if url.volume.is_empty() || !url.path.is_empty() {
            return Err(Failure::usage("the volume to mount", "the address does not name one")
                .next("write xtfs://HOST[:PORT]/VOLUME"));
        }
        if self.foreground || self.ready_fd.is_some() {
            return self.serve(global, &url, &at);
        }
        self.background(global, &url, &at)
    }

    /// Serves the mount in this process until it is unmounted.
    fn serve(&self, global: &Global, url: &VolumeUrl, at: &Path) -> Outcome {
        let filter = global.log.as_deref().or(self.ready_fd.map(|_| "warn"));
        rt::log::init(filter).map_err(|why| Failure::usage("--log", why))?;
        // SAFETY: the number was passed by the `mount` that started this process and left the descriptor open for it.
        let mut tell = self.ready_fd.map(|raw| unsafe { OwnedFd::from_raw_fd(raw) });
        let served = self.serve_until_unmounted(global, url, at, &mut tell);
        if let (Err(failure), Some(descriptor)) = (&served, tell) {
            // Whoever waited may be gone.
            let _ = writeln!(std::fs::File::from(descriptor), "{}", failure.to_json());
        }
        served.map(|()| 0)
    }

    fn serve_until_unmounted(
        &self,
        global: &Global,
        url: &VolumeUrl,
        at: &Path,
        tell: &mut Option<OwnedFd>,
    ) -> Result<(), Failure> {
        let dirs = super::cluster(global, &url.dirs)?.dirs;
        let options = roles::mount::options(&dirs, &url.volume, &self.options.join(","))?;
        let at = mounts::prepare(at)?;
        let runtime = daemon::runtime()?;
        runtime.block_on(async {
            let host = Host::new();
            let mounting = roles::mount::mount(&host, &dirs, &url.volume, at.clone(), &options);
            let mounted = tokio::time::timeout(global.timeout, mounting).await.map_err(|_| {
                Failure::unreachable(format!("mounting volume {:?}", url.volume), "no answer in time")
                    .next(format!("is the DIR at {} up?", dirs.join(", ")))
            })??;
            let value = json!({"mount": at, "volume": url.volume, "pid": std::process::id()});
            match tell.take() {
                Some(descriptor) => drop(writeln!(std::fs::File::from(descriptor), "{value}")),
                None => show(&value, global.json),
            }
            tokio::select! {
                stopped = daemon::asked_to_stop() => stopped?,
                () = mounted.ended() => {}
            }
            mounted.stop().await.map_err(|why| Failure::new(format!("unmounting {}", at.display()), why))
        })?;
        runtime.shutdown_timeout(std::time::Duration::from_millis(500));
        Ok(())
    }

    /// Starts the same command in the background and waits until it is mounted.
    fn background(&self, global: &Global, url: &VolumeUrl, at: &Path) -> Outcome {
        let failed = |error: &dyn std::fmt::Display| Failure::new("starting the mount process", error);
        let (reader, writer) = std::io::pipe().map_err(|error| failed(&error))?;
        set_close_on_exec(writer.as_raw_fd(), false).map_err(|error| failed(&error))?;
        let mut command = Command::new(launcher::spawn::program());
        let dirs = super::cluster(global, &url.dirs)?.dirs;
        let at = std::path::absolute(at).map_err(|error| failed(&error))?;
        command.arg0("xtfs").arg("mount").arg(VolumeUrl::show(&dirs, &url.volume)).arg(&at);
        command.arg(format!("--ready-fd={}", writer.as_raw_fd()));
        command.arg("--timeout").arg(global.timeout.as_secs_f64().to_string());
        for option in &self.options {
            command.arg("-o").arg(option);
        }
        if let Some(log) = &global.log {
            command.arg("--log").arg(log);
        }
        // Nothing of the caller's stays open: whoever reads its output would wait for the unmount.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
        // SAFETY: setsid is async-signal-safe and touches nothing of this process's memory.
        unsafe { command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(std::io::Error::from)) };
        let mut child = command.spawn().map_err(|error| failed(&error))?;
        drop(writer);
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).map_err(|error| failed(&error))?;
        let Ok(value) = serde_json::from_str::<Value>(&line) else {
            let status = child.wait().map_err(|error| failed(&error))?;
            return Err(Failure::new("starting the mount process", format!("it ended with {status}"))
                .next("the same command with --foreground says more"));
        };
        if let Some(failure) = Failure::from_json(&value) {
            return Err(failure);
        }
        show(&value, global.json);
        Ok(0)
    }
}

fn show(value: &Value, json: bool) {
    if json {
        output::json(value);
    } else {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        output::line(&format!("mounted volume {} at {}", text("volume"), text("mount")));
    }
}
