//! The metadata service.

use std::sync::Arc;

use mrc::{Mrc, MrcConfig};
use proto::dir::ServiceEntry;
use rt::rpc::{BoxFuture, Service};
use serde_json::Value;

use super::{Host, Role, member};
use crate::config::{MrcFile, Node, RoleFile};
use crate::failure::Failure;

struct Running(Arc<Mrc>);

/// Starts a member.
pub(crate) async fn start(host: &Host, file: &MrcFile) -> Result<Arc<dyn Role>, Failure> {
    let node = file.node();
    let group = member::Membership { group: file.group, members: &file.members, join: file.join };
    let group = member::config(host, &node, &group, &file.durability).await?;
    let config = MrcConfig { group, dir: file.dir.clone(), entry: entry(&node) };
    let mrc =
        Mrc::start(config).await.map_err(|error| Failure::wire(format!("starting {}", node.name), &error))?;
    mrc.publish(&host.metrics);
    Ok(Arc::new(Running(mrc)))
}

/// What a service says of itself to the DIR.
pub(crate) fn entry(node: &Node) -> ServiceEntry {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    ServiceEntry {
        uuid: node.uuid.clone(),
        role: node.role.to_owned(),
        name: node.name.clone(),
        addr: node.advertise.clone(),
        http: node.http.clone(),
        host: host.unwrap_or_default(),
        silent_ms: 0,
        ..ServiceEntry::default()
    }
}

impl Role for Running {
    fn service(&self) -> Option<Arc<dyn Service>> {
        Some(self.0.clone())
    }

    fn health(&self) -> Result<(), String> {
        member::health(&self.0.group().status())
    }

    fn status(&self) -> BoxFuture<'_, Value> {
        Box::pin(async { member::status(&self.0.group().status()) })
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { self.0.shutdown().await.map_err(|error| error.to_string()) })
    }
}
