//! One service in this process, from a configuration file: the processes of real hosts and of `up --separate`.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::doors::Doors;
use super::{Host, Role, make_dir};
use crate::args::Global;
use crate::config::{DirFile, ExecFile, MountFile, MrcFile, Node, OsdFile, RmsFile, RoleFile, load};
use crate::failure::{Failure, Outcome};

/// `xtfs dir`.
pub(crate) fn dir(path: &Path, global: &Global) -> Outcome {
    let file: DirFile = load(path)?;
    run(file.node(), global, |host| async move { super::dir::start(&host, &file).await })
}

/// `xtfs mrc`.
pub(crate) fn mrc(path: &Path, global: &Global) -> Outcome {
    let file: MrcFile = load(path)?;
    run(file.node(), global, |host| async move { super::mrc::start(&host, &file).await })
}

/// `xtfs osd`.
pub(crate) fn osd(path: &Path, global: &Global) -> Outcome {
    let file: OsdFile = load(path)?;
    run(file.node(), global, |host| async move { super::osd::start(&host, &file).await })
}

/// `xtfs exec`.
pub(crate) fn exec(path: &Path, global: &Global) -> Outcome {
    let file: ExecFile = load(path)?;
    run(file.node(), global, |host| async move { super::exec::start(&host, &file).await })
}

/// `xtfs rms`.
pub(crate) fn rms(path: &Path, global: &Global) -> Outcome {
    let file: RmsFile = load(path)?;
    run(file.node(), global, |host| async move { super::rms::start(&host, &file).await })
}

/// The mount process of an instance.
pub(crate) fn mount(path: &Path, global: &Global) -> Outcome {
    let file: MountFile = load(path)?;
    run(file.node(), global, |host| async move { super::mount::start(&host, &file).await })
}

/// Threads of a process's runtime: the machine may be small and other services want it too.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        // One for two cores: a second one is woken with every message and finds nothing to do.
        .worker_threads((cores / 2).clamp(1, 8))
        .thread_name("xtfs")
        .enable_all()
        .build()
        .map_err(|error| Failure::new("starting the runtime", error))
}

/// Waits for SIGTERM or SIGINT.
pub(crate) async fn asked_to_stop() -> Result<(), Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::new("listening for signals", error));
    let (mut term, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn run<F, S>(node: Node, global: &Global, start: F) -> Outcome
where
    F: FnOnce(Host) -> S,
    S: Future<Output = Result<Arc<dyn Role>, Failure>>,
{
    rt::log::init(global.log.as_deref()).map_err(|why| Failure::usage("--log", why))?;
    make_dir(&node.data)?;
    let runtime = runtime()?;
    let (code, handed_over) = runtime.block_on(async {
        let stop = asked_to_stop();
        tokio::pin!(stop);
        let host = Host::new();
        let started = async {
            let role = start(host.clone()).await?;
            let doors = Doors::open(&host, &node, role.clone()).await?;
            Ok::<_, Failure>((role, doors))
        };
        // A service that cannot start yet (no leader, no DIR) can still be asked to stop.
        let (role, doors) = tokio::select! {
            started = started => started?,
            stopped = &mut stop => return stopped.map(|()| (0, false)),
        };
        tracing::info!(name = node.name, addr = node.advertise, http = node.http, "serving");
        tokio::select! {
            stopped = &mut stop => stopped?,
            () = role.ended() => {}
        }
        tracing::info!(name = node.name, "stopping");
        let ended = role.stop().await;
        doors.close().await;
        ended.map_err(|why| Failure::new(format!("stopping {}", node.name), why))?;
        Ok((0, role.is_handed_over()))
    })?;
    if handed_over {
        // Its end would drop tasks half-way, and others would answer the kernel with errors of that.
        std::mem::forget(runtime);
    }
    Ok(code)
}
