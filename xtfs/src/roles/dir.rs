//! The directory service.

use std::sync::Arc;

use dir::{Dir, DirConfig};
use rt::rpc::{BoxFuture, Service};
use serde_json::Value;

use super::registration::Registration;
use super::{Host, Role, member};
use crate::config::{DirFile, RoleFile};
use crate::failure::Failure;

struct Running {
    dir: Arc<Dir>,
    /// So that others know it by its name.
    _registration: Registration,
}

/// Starts a member.
pub(crate) async fn start(host: &Host, file: &DirFile) -> Result<Arc<dyn Role>, Failure> {
    let node = file.node();
    let group = member::Membership { group: 1, members: &file.members, join: file.join };
    let quorum = member::config(host, &node, &group, &file.durability).await?;
    let mut config = DirConfig::new(quorum);
    config.mrc_addrs.clone_from(&file.mrcs);
    let dir =
        Dir::start(config).await.map_err(|error| Failure::new(format!("starting {}", node.name), error))?;
    let known: Vec<String> =
        if file.members.is_empty() { vec![node.advertise.clone()] } else { file.members.clone() };
    let _registration = Registration::start(host, &node, &known);
    Ok(Arc::new(Running { dir, _registration }))
}

impl Role for Running {
    fn service(&self) -> Option<Arc<dyn Service>> {
        Some(self.dir.clone())
    }

    fn health(&self) -> Result<(), String> {
        member::health(&self.dir.group().status())
    }

    fn status(&self) -> BoxFuture<'_, Value> {
        Box::pin(async {
            let mut value = member::status(&self.dir.group().status());
            let view = self.dir.view();
            value["map_epoch"] = view.epoch.into();
            value["osds"] = view.osds.len().into();
            value["cluster"] = view.cluster.clone().into();
            value
        })
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { self.dir.shutdown().await.map_err(|error| error.to_string()) })
    }
}
