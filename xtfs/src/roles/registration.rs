//! Tells the DIR of a service that does not do so itself: mounts, job services, its own members.

use std::time::Duration;

use proto::dir::HeartbeatService;
use tokio::task::JoinHandle;

use super::Host;
use super::mrc::entry;
use crate::cluster::Cluster;
use crate::config::Node;

/// How often.
const EVERY: Duration = Duration::from_secs(2);
/// For one heartbeat.
const PATIENCE: Duration = Duration::from_secs(5);

/// Heartbeats until it is dropped.
pub(crate) struct Registration(JoinHandle<()>);

impl Registration {
    /// Starts heartbeats on the current runtime.
    pub(crate) fn start(host: &Host, node: &Node, dirs: &[String]) -> Self {
        let mut cluster = Cluster::new(host.connector.clone(), dirs.to_vec(), PATIENCE);
        let mut entry = entry(node);
        if node.listen.is_empty() {
            entry.addr.clear();
        }
        let configured = dirs.to_vec();
        Self(tokio::spawn(async move {
            loop {
                match cluster.call::<HeartbeatService>(&cluster.dirs, &entry).await {
                    Ok(reply) if reply.dirs.is_empty() => {}
                    Ok(reply) => {
                        let others = configured.iter().filter(|addr| !reply.dirs.contains(addr)).cloned();
                        cluster.dirs = reply.dirs.iter().cloned().chain(others).collect();
                    }
                    Err(error) => tracing::debug!(%error, "the DIR did not take a heartbeat"),
                }
                tokio::time::sleep(EVERY).await;
            }
        }))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.0.abort();
    }
}
