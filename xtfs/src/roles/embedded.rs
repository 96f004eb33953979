//! All services of an instance in this process.

use std::sync::Arc;
use std::time::Duration;

use super::daemon::{asked_to_stop, runtime};
use super::doors::Doors;
use super::{Host, Role};
use crate::args::Global;
use crate::cluster::Cluster;
use crate::commands::up::Ready;
use crate::config::{Node, RoleFile};
use crate::failure::Failure;
use crate::instance::{Home, Instance, Service, files};
use crate::launcher::supervisor::PATIENCE;

/// A service and its doors.
struct Running {
    node: Node,
    role: Arc<dyn Role>,
    doors: Doors,
}

/// Starts everything, says `ready`, waits for the end, stops everything.
pub(crate) fn run(home: &Home, instance: &Instance, global: &Global, ready: Ready) -> Result<(), Failure> {
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        let stop = asked_to_stop();
        tokio::pin!(stop);
        let mut running = Vec::new();
        let started = tokio::select! {
            started = start(home, instance, global, &mut running) => started.map(|()| true),
            stopped = &mut stop => stopped.map(|()| false),
        };
        if let Ok(true) = started {
            ready.tell(instance);
            stop.await?;
        }
        stop_all(running).await;
        started.map(drop)
    });
    // Whatever still waits (a lazily detached mount) must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(500));
    done
}

async fn start(
    home: &Home,
    instance: &Instance,
    global: &Global,
    running: &mut Vec<Running>,
) -> Result<(), Failure> {
    let host = Host::new();
    for service in instance.enabled().filter(|service| matches!(service.role.as_str(), "dir" | "mrc" | "osd"))
    {
        running.push(start_one(&host, home, instance, service).await?);
    }
    let cluster = Cluster::new(host.connector.clone(), instance.addrs("dir"), global.timeout);
    super::volume(&cluster, instance).await?;
    for service in
        instance.enabled().filter(|service| matches!(service.role.as_str(), "rms" | "mount" | "exec"))
    {
        running.push(start_one(&host, home, instance, service).await?);
        if service.role == "mount" {
            let instance = instance.clone();
            let made = tokio::task::spawn_blocking(move || super::make_spool(&instance)).await;
            made.map_err(|error| Failure::new("making the spool", error))??;
        }
    }
    Ok(())
}

async fn start_one(
    host: &Host,
    home: &Home,
    instance: &Instance,
    service: &Service,
) -> Result<Running, Failure> {
    let (node, role) = match service.role.as_str() {
        "dir" => {
            let file = files::dir(home, instance, service);
            (file.node(), super::dir::start(host, &file).await?)
        }
        "mrc" => {
            let file = files::mrc(home, instance, service);
            (file.node(), super::mrc::start(host, &file).await?)
        }
        "osd" => {
            let file = files::osd(home, instance, service);
            (file.node(), super::osd::start(host, &file).await?)
        }
        "exec" => {
            let file = files::exec(home, instance, service);
            (file.node(), super::exec::start(host, &file).await?)
        }
        "rms" => {
            let file = files::rms(home, instance, service);
            (file.node(), super::rms::start(host, &file).await?)
        }
        _ => {
            let file = files::mount(home, instance, service);
            (file.node(), super::mount::start(host, &file).await?)
        }
    };
    let doors = Doors::open(host, &node, role.clone()).await?;
    Ok(Running { node, role, doors })
}

/// In reverse order: jobs, mount, OSDs, MRCs, DIRs.
async fn stop_all(mut running: Vec<Running>) {
    while let Some(Running { node, role, doors }) = running.pop() {
        match tokio::time::timeout(PATIENCE, role.stop()).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => eprintln!("xtfs: stopping {}: {why}", node.name),
            Err(_) => {
                eprintln!("xtfs: {} did not stop within {} s; leaving it", node.name, PATIENCE.as_secs())
            }
        }
        doors.close().await;
    }
}
