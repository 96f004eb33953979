//! The replica management service.

use std::sync::Arc;

use client::{Client, ClientConfig, Patience};
use parking_lot::Mutex;
use rms::Rms;
use rt::rpc::{BoxFuture, Service};
use serde_json::{Value, json};

use super::registration::Registration;
use super::{Host, Role, make_dir};
use crate::config::{RmsFile, RoleFile};
use crate::failure::Failure;

struct Running {
    client: Arc<Client>,
    /// Taken when it stops. order: never held over an await.
    rms: Mutex<Option<Rms>>,
    _registration: Registration,
}

/// Starts looking after replicas.
pub(crate) async fn start(host: &Host, file: &RmsFile) -> Result<Arc<dyn Role>, Failure> {
    let node = file.node();
    make_dir(&node.data)?;
    let config = ClientConfig {
        dir_addrs: file.dir.clone(),
        connector: host.connector.clone(),
        clock: host.clock.clone(),
        name: node.name.clone(),
        patience: Patience::For(std::time::Duration::from_secs(30)),
        leases: false,
    };
    let what = || format!("starting {}", node.name);
    let client = Client::connect(config).await.map_err(|error| Failure::wire(what(), &error))?;
    let rms = Rms::start(client.clone(), std::time::Duration::from_millis(file.ec_quiet_ms));
    let registration = Registration::start(host, &node, &file.dir);
    Ok(Arc::new(Running { client, rms: Mutex::new(Some(rms)), _registration: registration }))
}

impl Role for Running {
    fn service(&self) -> Option<Arc<dyn Service>> {
        None
    }

    fn health(&self) -> Result<(), String> {
        if self.rms.lock().is_some() { Ok(()) } else { Err("it is stopping".to_owned()) }
    }

    fn status(&self) -> BoxFuture<'_, Value> {
        let status = self.rms.lock().as_ref().map(Rms::status).unwrap_or_default();
        let coding = self.rms.lock().as_ref().map(Rms::coding).unwrap_or_default();
        Box::pin(async move {
            json!({
                "waiting": status.waiting,
                "done": status.done,
                "failed": status.failed,
                "leaving": status.leaving,
                "trouble": status.trouble,
                "ec": {
                    "encoded": coding.encoded,
                    "waiting": coding.waiting,
                    "busy": coding.busy,
                    "done": coding.done,
                    "failed": coding.failed,
                    "trouble": coding.trouble,
                },
            })
        })
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), String>> {
        drop(self.rms.lock().take());
        Box::pin(async move {
            // The metadata service may be gone by now; the session runs out by itself.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(2), self.client.shutdown()).await;
            Ok(())
        })
    }
}
