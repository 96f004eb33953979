//! The storage service.

use std::sync::Arc;

use osd::agent::{Agent, AgentConfig};
use osd::{Load, Osd, OsdConfig, StoreError};
use parking_lot::Mutex;
use rt::rpc::{BoxFuture, Connector, Service};
use serde_json::{Value, json};

use super::{Host, Role, make_dir};
use crate::config::{OsdFile, RoleFile};
use crate::failure::Failure;

/// How often it is tried to start on a full disk.
const ROOM_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);
/// How often the gauges of what is not in sync are set.
const LAG_SHOWN_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

struct Running {
    osd: Arc<Osd>,
    connector: Arc<Connector>,
    config: AgentConfig,
    /// Tells the DIR that the OSD is alive, from when its door is open until it stops. order: never held over an await.
    agent: Mutex<Option<Agent>>,
}

/// Opens the store; registers when the door is open.
pub(crate) async fn start(host: &Host, file: &OsdFile) -> Result<Arc<dyn Role>, Failure> {
    let node = file.node();
    make_dir(&node.data)?;
    let mut config = OsdConfig::new(&node.data, &node.uuid, host.clock.clone());
    config.capacity_bytes = file.capacity;
    config.sharers = file.sharers;
    let name = node.name.clone();
    let failed = |error: &dyn std::fmt::Display| Failure::new(format!("starting {name}"), error);
    let mut attempts = 0u32;
    let osd = loop {
        let config = config.clone();
        let opened = tokio::task::spawn_blocking(move || Osd::open(config)).await;
        match opened.map_err(|error| failed(&error))? {
            // An OSD that ended for that would have to be started by hand when there is room again.
            Err(StoreError::NoSpace(why)) => {
                if attempts.is_multiple_of(10) {
                    tracing::error!(name, why, "the OSD waits for room to start");
                }
                attempts += 1;
                tokio::time::sleep(ROOM_AGAIN).await;
            }
            opened => break opened.map_err(|error| failed(&error))?,
        }
    };
    let domain = if file.domain.is_empty() {
        nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
    } else {
        file.domain.clone()
    };
    let config =
        AgentConfig { dirs: file.dir.clone(), addr: node.advertise.clone(), domain, http: node.http.clone() };
    show_lag(host, &osd);
    publish(host, &osd, &node.uuid);
    Ok(Arc::new(Running { osd, connector: host.connector.clone(), config, agent: Mutex::new(None) }))
}

/// Shows at `/metrics` what the OSD reads and writes.
fn publish(host: &Host, osd: &Arc<Osd>, uuid: &str) {
    let told = |metric, help, count: fn(Load) -> u64| {
        let (osd, uuid) = (Arc::downgrade(osd), uuid.to_owned());
        host.metrics.told(metric, help, move || {
            // Once it is stopped nothing is told of it.
            let load = osd.upgrade().map(|osd| osd.load());
            load.map(|load| (vec![("uuid", uuid.clone())], count(load) as f64)).into_iter().collect()
        });
    };
    told("osd_reads", "Reads answered", |load| load.reads);
    told("osd_writes", "Writes answered", |load| load.writes);
    told("osd_replica_reads", "Reads answered without leading the column", |load| load.replica_reads);
    told("osd_read_bytes", "Bytes read", |load| load.read_bytes);
    told("osd_written_bytes", "Bytes written", |load| load.written_bytes);
}

/// Keeps the gauges of what is not in sync at `/metrics`, as long as the OSD lives.
fn show_lag(host: &Host, osd: &Arc<Osd>) {
    let replicas =
        host.metrics.gauge("osd_lagging_replicas", "Replicas that lag or are not known, of columns led here");
    let objects =
        host.metrics.gauge("osd_unsynced_objects", "Objects that differ at replicas of columns led here");
    let behind = host.metrics.gauge_by(
        "osd_behind_objects",
        "Objects that differ at the replicas of one OSD, of columns led here",
        "behind",
    );
    let damaged = host.metrics.gauge("osd_damaged_blocks", "Blocks known not to match their checksum");
    let mended = host.metrics.gauge("osd_mended_blocks", "Damaged blocks made good from another replica");
    let moved = host.metrics.gauge(
        "osd_resync_bytes",
        "Bytes sent and received since the start to bring replicas of columns led here into sync",
    );
    let patches = host.metrics.gauge("osd_resync_patches", "Objects of which only what differed was sent");
    let osd = Arc::downgrade(osd);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(LAG_SHOWN_EVERY);
        loop {
            ticks.tick().await;
            let Some(osd) = osd.upgrade() else { return };
            let lag = osd.replicas().lag();
            replicas.set(i64::try_from(lag.replicas).unwrap_or(i64::MAX));
            objects.set(i64::try_from(lag.objects).unwrap_or(i64::MAX));
            behind.set(lag.behind.iter().map(|(osd, (_, objects))| {
                (format!("osd-{osd}"), i64::try_from(*objects).unwrap_or(i64::MAX))
            }));
            let damage = osd.store().damage_count();
            damaged.set(i64::try_from(damage.left).unwrap_or(i64::MAX));
            mended.set(i64::try_from(damage.mended).unwrap_or(i64::MAX));
            let resync = osd.replicas().moved();
            moved.set(i64::try_from(resync.bytes).unwrap_or(i64::MAX));
            patches.set(i64::try_from(resync.patches).unwrap_or(i64::MAX));
        }
    });
}

impl Role for Running {
    fn service(&self) -> Option<Arc<dyn Service>> {
        Some(self.osd.clone())
    }

    fn opened(&self) {
        let agent = Agent::start(self.osd.clone(), self.connector.clone(), self.config.clone());
        *self.agent.lock() = Some(agent);
    }

    fn health(&self) -> Result<(), String> {
        if self.agent.lock().as_ref().is_some_and(|agent| agent.number().is_some()) {
            return Ok(());
        }
        Err("the DIR has not answered yet".to_owned())
    }

    fn status(&self) -> BoxFuture<'_, Value> {
        let number = self.agent.lock().as_ref().and_then(Agent::number);
        Box::pin(async move {
            let status = self.osd.status();
            let lag = self.osd.replicas().lag();
            let behind: Vec<Value> = lag
                .behind
                .iter()
                .map(|(osd, (columns, objects))| json!({"osd": osd, "columns": columns, "objects": objects}))
                .collect();
            json!({
                "replicated_columns": lag.columns,
                "columns_led": lag.leading,
                "lagging_replicas": lag.replicas,
                "unsynced_objects": lag.objects,
                "in_sync": lag.replicas == 0,
                "behind": behind,
                "damage_found": status.damage_found,
                "damage_mended": status.damage_mended,
                "damaged_blocks": status.damaged_blocks,
                "resync_bytes": status.resync_bytes,
                "resync_objects": status.resync_objects,
                "resync_patches": status.resync_patches,
                "resync_at_once": self.osd.replicas().copies_at_once(),
                "replica_reads": status.replica_reads,
                "osd": number,
                "map_epoch": self.osd.map_epoch(),
                "total_bytes": status.total_bytes,
                "free_bytes": status.free_bytes,
                "objects": status.objects,
                "reads": status.reads,
                "writes": status.writes,
                "read_bytes": status.read_bytes,
                "written_bytes": status.written_bytes,
            })
        })
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), String>> {
        let agent = self.agent.lock().take();
        Box::pin(async move {
            if let Some(agent) = agent {
                agent.leave().await;
            }
            self.osd.shutdown().await.map_err(|error| error.to_string())
        })
    }
}
