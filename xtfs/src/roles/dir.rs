//! The directory service.

use std::sync::Arc;

use dir::{Dir, DirConfig};
use rt::rpc::{BoxFuture, Service};
use serde_json::Value;

use super::{Host, Role, member};
use crate::config::{DirFile, RoleFile};
use crate::failure::Failure;

struct Running(Arc<Dir>);

/// Starts a member.
pub(crate) async fn start(host: &Host, file: &DirFile) -> Result<Arc<dyn Role>, Failure> {
    let node = file.node();
    let quorum = member::config(host, &node, proto::id::GroupId(1).0, &file.members, &file.durability)?;
    let mut config = DirConfig::new(quorum);
    config.mrc_addrs.clone_from(&file.mrcs);
    let dir =
        Dir::start(config).await.map_err(|error| Failure::new(format!("starting {}", node.name), error))?;
    Ok(Arc::new(Running(dir)))
}

impl Role for Running {
    fn service(&self) -> Option<Arc<dyn Service>> {
        Some(self.0.clone())
    }

    fn health(&self) -> Result<(), String> {
        member::health(&self.0.group().status())
    }

    fn status(&self) -> BoxFuture<'_, Value> {
        Box::pin(async {
            let mut value = member::status(&self.0.group().status());
            let view = self.0.view();
            value["map_epoch"] = view.epoch.into();
            value["osds"] = view.osds.len().into();
            value["cluster"] = view.cluster.clone().into();
            value
        })
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { self.0.shutdown().await.map_err(|error| error.to_string()) })
    }
}
