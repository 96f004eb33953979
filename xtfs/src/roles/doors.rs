//! What leads to a service: its RPC listener and its HTTP pages.

use std::sync::Arc;

use rt::http::StatusSource;
use rt::rpc::BoxFuture;
use rt::rpc::tcp::{CallCounts, ServerOptions, serve_with};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Host, Role};
use crate::config::Node;
use crate::failure::Failure;

/// Open doors; closed with [`Doors::close`].
pub(crate) struct Doors {
    shutdown: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

struct Page {
    node: Node,
    role: Arc<dyn Role>,
    host: Host,
}

impl StatusSource for Page {
    fn name(&self) -> String {
        self.node.name.clone()
    }

    fn health(&self) -> Result<(), String> {
        self.role.health()
    }

    fn status(&self) -> BoxFuture<'_, Value> {
        Box::pin(async {
            let health = self.role.health();
            json!({
                "name": self.node.name,
                "role": self.node.role,
                "uuid": self.node.uuid,
                "addr": self.node.advertise,
                "http": self.node.http,
                "pid": std::process::id(),
                "version": env!("CARGO_PKG_VERSION"),
                "health": match &health { Ok(()) => "ok", Err(why) => why },
                "service": self.role.status().await,
            })
        })
    }

    fn metrics(&self) -> String {
        self.host.metrics.render()
    }
}

fn method_tables(role: &str) -> &'static [&'static [(u16, &'static str)]] {
    match role {
        "dir" => &[proto::dir::METHODS, proto::raft::METHODS],
        "mrc" => &[proto::mrc::METHODS, proto::raft::METHODS],
        "osd" => &[proto::osd::METHODS],
        _ => &[],
    }
}

async fn bind(what: &str, node: &Node, address: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let failure = Failure::new(format!("{what} listener of {} on {address}", node.name), &error);
        match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                failure.next(format!("see who has it: ss -ltnp | grep {address}"))
            }
            _ => failure.next(format!("change it in the configuration of {}", node.name)),
        }
    })
}

impl Doors {
    /// Opens the RPC door (for roles that are called), then the HTTP door: who reaches that one finds the service
    /// ready.
    pub(crate) async fn open(host: &Host, node: &Node, role: Arc<dyn Role>) -> Result<Self, Failure> {
        let (shutdown, stopped) = watch::channel(false);
        let mut tasks = Vec::new();
        if let Some(service) = role.service() {
            let listener = bind("RPC", node, &node.listen).await?;
            // Calls from within the process go straight to the service, at the same address.
            host.connector.register_at(&node.advertise, service.clone());
            let counts = CallCounts::new(host.metrics.clone(), node.role, method_tables(node.role));
            let options = ServerOptions { identity: None, metrics: Some(counts) };
            tasks.push(tokio::spawn(serve_with(listener, service, options, stopped.clone())));
        }
        role.opened();
        let listener = bind("HTTP", node, &node.http).await?;
        let page = Arc::new(Page { node: node.clone(), role, host: host.clone() });
        tasks.push(tokio::spawn(async move {
            if let Err(error) = rt::http::serve(listener, page, stopped).await {
                tracing::error!(%error, "the HTTP door broke");
            }
        }));
        Ok(Self { shutdown, tasks })
    }

    /// Closes them.
    pub(crate) async fn close(self) {
        self.shutdown.send_replace(true);
        for task in self.tasks {
            // A client that keeps a connection open must not hold up the stop.
            let _ = tokio::time::timeout(std::time::Duration::from_millis(300), task).await;
        }
    }
}
