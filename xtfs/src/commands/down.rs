//! `xtfs down`: stops what `xtfs up` started and loses nothing.

use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::args::{DataDir, Global};
use crate::failure::{Failure, Outcome};
use crate::instance::process::Process;
use crate::instance::{Home, lock};
use crate::launcher::supervisor;
use crate::{mounts, output};

/// Stop an instance: unmount, stop jobs and services
#[derive(Debug, Args)]
pub(crate) struct Down {
    #[command(flatten)]
    data: DataDir,
}

/// Longest orderly stop: each of five roles may use up its patience.
const LIMIT: Duration = Duration::from_secs(60);

impl Down {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let home = Home::at(&self.data.data)?;
        let instance = home.instance()?;
        let running = lock::holder(&home);
        if let Some(pid) = running {
            stop(&home, pid)?;
        }
        let left = supervisor::any_alive(&home, &instance);
        if left {
            supervisor::stop_processes(&home, &instance);
        }
        // A process that was killed leaves its mount behind.
        if mounts::exactly(&instance.mount).is_some_and(|mounted| mounts::is_ours(&mounted)) {
            mounts::unmount(&instance.mount)?;
        }
        let stopped = running.is_some() || left;
        if global.json {
            output::json(&json!({"data": home.data, "stopped": stopped}));
        } else if stopped {
            output::line(&format!("stopped {}", home.data.display()));
        } else {
            output::line(&format!("nothing ran in {}", home.data.display()));
        }
        Ok(0)
    }
}

/// Asks the running `up` to end and waits until it has let go of the lock.
fn stop(home: &Home, pid: i32) -> Result<(), Failure> {
    if let Some(process) = Process::of(pid) {
        process.signal(Signal::SIGTERM);
    }
    let end = Instant::now() + LIMIT;
    while lock::holder(home) == Some(pid) {
        if Instant::now() >= end {
            return Err(Failure::unreachable(
                format!("stopping process {pid}"),
                format!("it did not end within {} s", LIMIT.as_secs()),
            )
            .next(format!("look at {}; `kill -9 {pid}`, then `xtfs down` again", home.log("up").display())));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
