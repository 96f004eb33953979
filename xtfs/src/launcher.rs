//! `xtfs up --separate`: every service its own process, started, watched and stopped from here.
//!
//! Killed services stay down until `xtfs start NAME`. The launcher holds the mount's FUSE descriptor, so that a mount
//! process that was killed can be started again under the same mount.

pub(crate) mod control;
pub(crate) mod fuse;
pub(crate) mod spawn;
pub(crate) mod supervisor;

use std::sync::Arc;

use nix::sys::signal::{SigSet, Signal};

use crate::args::Global;
use crate::cluster::Cluster;
use crate::commands::up::Ready;
use crate::failure::Failure;
use crate::instance::{Home, Instance};
use supervisor::Supervisor;

/// Starts everything, says `ready`, waits for the end, stops everything.
pub(crate) fn run(home: &Home, instance: &Instance, global: &Global, ready: Ready) -> Result<(), Failure> {
    // Blocked before any thread starts, so that `wait` below gets them.
    let ends: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect();
    ends.thread_block().map_err(|error| Failure::new("blocking signals", error))?;
    let supervisor = Supervisor::new(home.clone(), instance.clone());
    let started = start(&supervisor, global);
    if let Err(failure) = started {
        supervisor.stop_all();
        return Err(failure);
    }
    ready.tell(instance);
    let _ = ends.wait();
    supervisor.stop_all();
    Ok(())
}

fn start(supervisor: &Arc<Supervisor>, global: &Global) -> Result<(), Failure> {
    control::listen(supervisor)?;
    let instance = supervisor.instance();
    for role in ["dir", "mrc", "osd"] {
        for service in instance.of_role(role).filter(|service| service.enabled) {
            supervisor.spawn(&service.name)?;
        }
    }
    for service in instance.enabled().filter(|service| matches!(service.role.as_str(), "dir" | "mrc" | "osd"))
    {
        supervisor.wait_ready(service)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("starting the runtime", error))?;
    let cluster = Cluster::new(rt::rpc::Connector::new(), instance.addrs("dir"), global.timeout);
    runtime.block_on(crate::roles::volume(&cluster, &instance))?;
    runtime.shutdown_background();
    for service in
        instance.enabled().filter(|service| matches!(service.role.as_str(), "rms" | "mount" | "exec"))
    {
        supervisor.spawn(&service.name)?;
        supervisor.wait_ready(service)?;
        if service.role == "mount" {
            crate::roles::make_spool(&instance)?;
        }
    }
    Ok(())
}
