//! A mount as a service: of an instance (embedded or as its own process) and of `xtfs mount`.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use client::fuse::{self, Counts, MountOptions, OpCount};
use client::remote::HedgedReads;
use client::{Client, ClientConfig, Patience, Volume};
use rt::rpc::{BoxFuture, Service};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::predecessor::dead_beside;
use super::registration::Registration;
use super::{Host, Role};
use crate::address::VolumeUrl;
use crate::config::{MountFile, RoleFile};
use crate::failure::Failure;
use crate::launcher::control::{Request, ask};
use crate::mounts;

/// What is mounted where.
pub(crate) struct Running {
    client: Arc<Client>,
    volume: Arc<Volume>,
    at: PathBuf,
    /// What a successor of this process needs beside the descriptor.
    state: String,
    /// The launcher holds the descriptor and unmounts.
    survivable: bool,
    /// Becomes true when the file system is unmounted.
    ended: watch::Receiver<bool>,
    /// For mounts that are services of an instance.
    registration: Option<Registration>,
}

/// Options for a volume of these DIR services; ordinary users may not let others in or use devices.
pub(crate) fn options(dirs: &[String], volume: &str, text: &str) -> Result<MountOptions, Failure> {
    let root = nix::unistd::geteuid().is_root();
    let start = MountOptions {
        fsname: VolumeUrl::show(dirs, volume),
        allow_other: root,
        dev: root,
        suid: root,
        ..MountOptions::default()
    };
    start.parse(text).map_err(|why| Failure::usage("mount options", why))
}

/// Starts the mount of a configuration file; with a launcher it serves the launcher's descriptor.
pub(crate) async fn start(host: &Host, file: &MountFile) -> Result<Arc<dyn Role>, Failure> {
    let node = file.node();
    let mut options = options(&file.dir, &file.volume, &file.options.join(","))?;
    let what = || format!("starting {}", node.name);
    if file.launcher.as_os_str().is_empty() {
        let mut running = mount(host, &file.dir, &file.volume, file.mountpoint.clone(), &options).await?;
        running.registration = Some(Registration::start(host, &node, &file.dir));
        return Ok(Arc::new(running));
    }
    options.survivable = true;
    let (answer, descriptor) = ask(&file.launcher, &Request::Fuse)
        .ok_or_else(|| Failure::unreachable(what(), "its launcher is gone").next("xtfs up"))??;
    let descriptor = descriptor.ok_or_else(|| Failure::new(what(), "the launcher sent no descriptor"))?;
    let resumed = !answer["state"].is_null();
    // The predecessor's session goes on: resent requests keep their origins, locks and open files their owner.
    options.predecessor = answer["state"].as_str().map(str::to_owned);
    let (client, volume) = open(host, &file.dir, &file.volume, &file.mountpoint).await?;
    for session in dead_beside(&node.data) {
        client.end_predecessor(&volume, session).await;
    }
    let mut running =
        serve(host, client, volume, file.mountpoint.clone(), Some((descriptor, resumed)), options).await?;
    running.registration = Some(Registration::start(host, &node, &file.dir));
    let served = Request::FuseState { state: running.state.clone() };
    match ask(&file.launcher, &served) {
        Some(answer) => drop(answer?),
        None => tracing::warn!("the launcher is gone; this mount will not survive its process"),
    }
    Ok(Arc::new(running))
}

/// Mounts a volume in this process.
pub(crate) async fn mount(
    host: &Host,
    dirs: &[String],
    volume: &str,
    at: PathBuf,
    options: &MountOptions,
) -> Result<Running, Failure> {
    let (client, volume) = open(host, dirs, volume, &at).await?;
    serve(host, client, volume, at, None, options.clone()).await
}

async fn open(
    host: &Host,
    dirs: &[String],
    volume: &str,
    at: &std::path::Path,
) -> Result<(Arc<Client>, Arc<Volume>), Failure> {
    let node = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let config = ClientConfig {
        dir_addrs: dirs.to_vec(),
        connector: host.connector.clone(),
        clock: host.clock.clone(),
        name: format!("mount {node}:{} {}", at.display(), std::process::id()),
        // Operations on a mount stall while a service is away, then go on.
        patience: Patience::Forever,
        leases: true,
    };
    let what = || format!("mounting volume {volume:?}");
    let client = Client::connect(config).await.map_err(|error| Failure::wire(what(), &error))?;
    let volume = client.volume(volume).await.map_err(|error| Failure::wire(what(), &error))?;
    Ok((client, volume))
}

/// Memory that outlives this process, for writes that are acknowledged before the OSDs have them: the same file for each
/// process that serves this mount point.
fn stage_path(at: &std::path::Path, volume: u64) -> PathBuf {
    let mut of = at.as_os_str().as_encoded_bytes().to_vec();
    of.extend(volume.to_le_bytes());
    let (uid, sum) = (nix::unistd::geteuid(), proto::checksum::crc32c(&of));
    PathBuf::from(format!("/dev/shm/xtfs-{uid}-{sum:08x}.stage"))
}

/// Shows at `/metrics` what a mount does; `volume` and `mount` tell it from others of the process.
fn publish(host: &Host, counts: &Counts, volume: &str, at: &std::path::Path) {
    let labels = vec![("volume", volume.to_owned()), ("mount", at.display().to_string())];
    let with_op = move |op: &OpCount| {
        let mut all = labels.clone();
        all.push(("op", op.name.to_owned()));
        all
    };
    let told = |name, help, count: fn(&OpCount) -> f64| {
        let (counts, with_op) = (counts.clone(), with_op.clone());
        host.metrics.told(name, help, move || {
            counts.operations().iter().map(|op| (with_op(op), count(op))).collect()
        });
    };
    told("mount_ops", "File system calls answered", |op| op.done as f64);
    told("mount_op_errors", "File system calls answered with an error", |op| op.failed as f64);
    told("mount_op_seconds", "Time that file system calls took", |op| op.micros as f64 / 1e6);
    let bytes = |name, help, count: fn((u64, u64)) -> u64| {
        let (counts, labels) =
            (counts.clone(), [("volume", volume.to_owned()), ("mount", at.display().to_string())]);
        host.metrics.told(name, help, move || vec![(labels.to_vec(), count(counts.bytes()) as f64)]);
    };
    bytes("mount_read_bytes", "Bytes read through the mount", |(read, _)| read);
    bytes("mount_written_bytes", "Bytes written through the mount", |(_, written)| written);
}

/// Shows at `/metrics` how reads of replicated files were answered.
fn publish_reads(host: &Host, client: &Arc<Client>, volume: &str, at: &std::path::Path) {
    let told = |name, help, count: fn(HedgedReads) -> u64| {
        let labels = [("volume", volume.to_owned()), ("mount", at.display().to_string())];
        let osds = Arc::downgrade(client.osds());
        host.metrics.told(name, help, move || {
            let reads = osds.upgrade().map(|osds| osds.hedged_reads());
            reads.map(|reads| (labels.to_vec(), count(reads) as f64)).into_iter().collect()
        });
    };
    told(
        "client_hedged_reads",
        "Times that a read was asked of replicas too, the primary taking long",
        |reads| reads.hedged,
    );
    told("client_replica_reads", "Reads that replicas answered in place of the primary", |reads| {
        reads.by_replicas
    });
}

async fn serve(
    host: &Host,
    client: Arc<Client>,
    volume: Arc<Volume>,
    at: PathBuf,
    handed: Option<(OwnedFd, bool)>,
    mut options: MountOptions,
) -> Result<Running, Failure> {
    let survivable = handed.is_some();
    options.stage = Some(stage_path(&at, volume.id()));
    options.place = Some(at.clone());
    let (to_serve, place) = (volume.clone(), at.clone());
    // The handshake with the kernel blocks.
    let runtime = tokio::runtime::Handle::current();
    let started = tokio::task::spawn_blocking(move || {
        let _inside = runtime.enter();
        match handed {
            Some((descriptor, resumed)) => fuse::serve(to_serve, descriptor, resumed, &options),
            None => fuse::mount(to_serve, place, &options),
        }
    });
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!("mounting at {}", at.display()), error).next("dmesg | tail may say more")
    };
    let mounted = started.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    let (state, volume) = (mounted.state().to_owned(), mounted.volume().clone());
    publish(host, &mounted.counts(), &volume.entry().name, &at);
    publish_reads(host, &client, &volume.entry().name, &at);
    let (end, ended) = watch::channel(false);
    std::thread::spawn(move || {
        if let Err(error) = mounted.join() {
            tracing::warn!(%error, "serving the mount ended with an error");
        }
        end.send_replace(true);
    });
    Ok(Running { client, volume, at, state, survivable, ended, registration: None })
}

impl Role for Running {
    fn service(&self) -> Option<Arc<dyn Service>> {
        None
    }

    fn health(&self) -> Result<(), String> {
        if *self.ended.borrow() {
            return Err(format!("{} is no longer mounted", self.at.display()));
        }
        Ok(())
    }

    fn status(&self) -> BoxFuture<'_, Value> {
        Box::pin(async {
            json!({
                "volume": self.volume.entry().name,
                "mount": self.at,
                "mounted": !*self.ended.borrow(),
                "registered": self.registration.is_some(),
                "dir": self.client.config().dir_addrs,
            })
        })
    }

    fn ended(&self) -> BoxFuture<'_, ()> {
        let mut ended = self.ended.clone();
        Box::pin(async move { drop(ended.wait_for(|ended| *ended).await) })
    }

    fn is_handed_over(&self) -> bool {
        self.survivable && !*self.ended.borrow()
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            if !self.survivable {
                let at = self.at.clone();
                let unmounted = tokio::task::spawn_blocking(move || mounts::unmount(&at)).await;
                unmounted.map_err(|error| error.to_string())?.map_err(|failure| failure.to_string())?;
                // A lazily detached mount goes on for its last users, who must not hold up the stop.
                let _ = tokio::time::timeout(std::time::Duration::from_secs(2), self.ended()).await;
            }
            self.volume.report_all().await;
            if self.is_handed_over() {
                // Still mounted: the next process takes up this session, with its locks and unlinked open files.
                return Ok(());
            }
            // Services may be gone by now; sessions run out by themselves.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(2), self.client.shutdown()).await;
            Ok(())
        })
    }
}
