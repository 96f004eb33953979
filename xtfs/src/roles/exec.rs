//! The job service.

use std::sync::Arc;

use client::{Client, ClientConfig, Patience};
use exec::store::VolumeStore;
use exec::{Exec, ExecConfig};
use parking_lot::Mutex;
use rt::rpc::{BoxFuture, Service};
use serde_json::{Value, json};

use super::predecessor::Predecessor;
use super::registration::Registration;
use super::{Host, Role, make_dir};
use crate::config::{ExecFile, RoleFile};
use crate::failure::Failure;
use crate::launcher::spawn::program;

struct Running {
    client: Arc<Client>,
    /// Taken when it stops. order: never held over an await.
    exec: Mutex<Option<Exec>>,
    _registration: Registration,
    /// Locked for as long as this runs.
    _session: Predecessor,
}

/// Starts serving the spool of the volume.
pub(crate) async fn start(host: &Host, file: &ExecFile) -> Result<Arc<dyn Role>, Failure> {
    let node = file.node();
    make_dir(&node.data)?;
    let config = ClientConfig {
        dir_addrs: file.dir.clone(),
        connector: host.connector.clone(),
        clock: host.clock.clone(),
        name: node.name.clone(),
        patience: Patience::default(),
        leases: true,
    };
    let what = || format!("starting {}", node.name);
    let client = Client::connect(config).await.map_err(|error| Failure::wire(what(), &error))?;
    let volume = client.volume(&file.volume).await.map_err(|error| Failure::wire(what(), &error))?;
    let predecessor = Predecessor::replace(&node.data, volume.session().id())
        .map_err(|error| Failure::new(format!("{}: {}", what(), node.data.display()), error))?;
    client.end_predecessor(&volume, predecessor.session).await;
    let store = Arc::new(VolumeStore::new(volume));
    let supervise = vec![program().to_string_lossy().into_owned(), SUPERVISE.to_owned()];
    let config = ExecConfig {
        clock: host.clock.clone(),
        data_dir: node.data.clone(),
        // Only root can act for others.
        make_user_dirs: nix::unistd::geteuid().is_root(),
        ..ExecConfig::new(store, file.mount.clone(), supervise)
    };
    let exec = Exec::start(config).await.map_err(|error| Failure::new(what(), error))?;
    let registration = Registration::start(host, &node, &file.dir);
    Ok(Arc::new(Running {
        client,
        exec: Mutex::new(Some(exec)),
        _registration: registration,
        _session: predecessor,
    }))
}

/// The word by which this program is called as the supervisor of one job.
pub(crate) const SUPERVISE: &str = "__supervise";

impl Role for Running {
    fn service(&self) -> Option<Arc<dyn Service>> {
        None
    }

    fn health(&self) -> Result<(), String> {
        match self.exec.lock().as_ref().map(Exec::status) {
            None => Err("it is stopping".to_owned()),
            Some(status) => status.trouble.map_or(Ok(()), Err),
        }
    }

    fn status(&self) -> BoxFuture<'_, Value> {
        let status = self.exec.lock().as_ref().map(Exec::status).unwrap_or_default();
        Box::pin(async move {
            json!({
                "active": status.active,
                "epoch": status.epoch,
                "live": status.live,
                "slots": status.slots,
                "slots_used": status.slots_used,
                "ended": status.ended,
                "trouble": status.trouble,
            })
        })
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), String>> {
        let exec = self.exec.lock().take();
        Box::pin(async move {
            if let Some(exec) = exec {
                exec.shutdown().await;
            }
            // The metadata service may be gone by now; the session runs out by itself.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(2), self.client.shutdown()).await;
            Ok(())
        })
    }
}
