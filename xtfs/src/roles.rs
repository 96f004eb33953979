//! Services in this process: each role's start and stop, and the doors (RPC, HTTP) that lead to it.
//!
//! `dir`, `mrc`, `osd`, `exec`, `mount` start one service each; `embedded` runs all of an instance in this process,
//! `daemon` one from a configuration file.

pub(crate) mod daemon;
pub(crate) mod dir;
pub(crate) mod doors;
pub(crate) mod embedded;
pub(crate) mod exec;
pub(crate) mod member;
pub(crate) mod mount;
pub(crate) mod mrc;
pub(crate) mod osd;
mod predecessor;
pub(crate) mod registration;
pub(crate) mod rms;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proto::dir::{MrcGroup, VolumeEntry};
use proto::stripe::{Replication, Striping};
use rt::clock::{Clock, SystemClock};
use rt::metrics::Metrics;
use rt::rpc::{BoxFuture, Connector, Service};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::instance::Instance;
use crate::volumes::{self, Existing};

/// What all services of a process share.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) connector: Arc<Connector>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self { connector: Connector::new(), clock: SystemClock::new(), metrics: Metrics::new() }
    }
}

/// A running service.
pub(crate) trait Role: Send + Sync + 'static {
    /// What answers requests; `None` for roles that nobody calls.
    fn service(&self) -> Option<Arc<dyn Service>>;
    /// The RPC door is open: whoever hears of the service from now on reaches it.
    fn opened(&self) {}
    /// Whether it can serve, or why not.
    fn health(&self) -> Result<(), String>;
    /// Everything worth knowing.
    fn status(&self) -> BoxFuture<'_, Value>;
    /// Answers when the service has ended by itself (a mount that somebody unmounted).
    fn ended(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
    /// Whether requests still come when [`Role::stop`] has answered, for whoever comes after this process: what it has
    /// begun by then is neither ended nor given up, it just stops.
    fn is_handed_over(&self) -> bool {
        false
    }
    /// Hands over, flushes, ends.
    fn stop(&self) -> BoxFuture<'_, Result<(), String>>;
}

/// Identifies this boot of the machine: what was only in its page cache is gone when this changes.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Makes a service's directory.
pub(crate) fn make_dir(path: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(path).map_err(|error| Failure::new(format!("creating {}", path.display()), error))
}

/// The durability class of a configuration file.
pub(crate) fn durability(text: &str) -> Result<quorum::Durability, Failure> {
    match text {
        "quorum" => Ok(quorum::Durability::Quorum),
        "disk" => Ok(quorum::Durability::Disk),
        other => {
            Err(Failure::usage(format!("durability {other:?}"), "it is neither \"quorum\" nor \"disk\""))
        }
    }
}

/// Makes the volume of an instance and waits until its OSDs serve.
pub(crate) async fn volume(cluster: &Cluster, instance: &Instance) -> Result<VolumeEntry, Failure> {
    let replication = if instance.replicas > 2 { Replication::Quorum } else { Replication::None };
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let wanted = VolumeEntry {
        volume: 0,
        name: instance.volume.clone(),
        mrc: MrcGroup::default(),
        striping: Striping {
            stripe_bytes: proto::limits::STRIPE_BYTES_DEFAULT,
            width: instance.stripe_width,
            replicas: instance.replicas,
            replication: replication as i32,
            coding: None,
        },
        mode: 0o755,
        uid: uid.as_raw(),
        gid: gid.as_raw(),
        created_ms: 0,
        labels: Vec::new(),
        removed: false,
        access: "posix".to_owned(),
    };
    let made = volumes::create(cluster, wanted, Existing::Use).await?;
    volumes::wait_for_osds(cluster, instance.of_role("osd").count(), OSDS_PATIENCE).await?;
    Ok(made)
}

/// Makes the spool's directory at the root of the mounted volume; exec makes the users' parts.
pub(crate) fn make_spool(instance: &Instance) -> Result<(), Failure> {
    let path = instance.mount.join("spool");
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let at = path.clone();
    // A mount stalls for as long as a service is away; starting must not.
    std::thread::spawn(move || tell.send(std::fs::create_dir(at)));
    let failed = |why: &dyn std::fmt::Display| Failure::new(format!("making {}", path.display()), why);
    match told.recv_timeout(SPOOL_PATIENCE) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Ok(Err(error)) => Err(failed(&error)),
        Err(_) => Err(failed(&"the mount does not answer").next("xtfs ps, xtfs status")),
    }
}

/// How long the first change through a new mount may take.
const SPOOL_PATIENCE: Duration = Duration::from_secs(15);
/// How long `up` waits for its OSDs to register.
const OSDS_PATIENCE: Duration = Duration::from_secs(10);
