//! Speaks with the DIR: registers this member, fetches the capability keys and keeps the OSD map fresh.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::dir::{GetMap, HeartbeatService, Map, ServiceEntry};
use proto::error::{Code, WireError};
use proto::rpc::Method;
use quorum::Group;
use rt::rpc::{CallOptions, Connector, call_with};
use tokio::task::JoinHandle;

use crate::cluster::Cluster;

/// How often this member renews its registration.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long a map request waits for a newer map; then the same epoch comes with newer free space.
const MAP_WAIT: Duration = Duration::from_secs(2);
/// Pauses between attempts while the DIR does not answer.
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Starts the tasks.
pub(crate) fn start(
    dir: &[String],
    entry: ServiceEntry,
    connector: Arc<Connector>,
    cluster: Arc<Cluster>,
    group: Arc<Group>,
) -> Vec<JoinHandle<()>> {
    let addrs = Arc::new(Mutex::new(dir.to_vec()));
    let caller = || DirCaller { addrs: addrs.clone(), at: 0, hinted: None, connector: connector.clone() };
    let registration = Registration { entry, configured: dir.to_vec(), group };
    vec![
        tokio::spawn(register(caller(), registration, cluster.clone())),
        tokio::spawn(follow_map(caller(), cluster.clone())),
    ]
}

/// What this member tells the DIR.
struct Registration {
    entry: ServiceEntry,
    /// The DIR's members as configured.
    configured: Vec<String>,
    group: Arc<Group>,
}

impl Registration {
    /// A leader also says who is in the group: that is where the DIR has it from.
    fn entry(&self) -> ServiceEntry {
        if !self.group.is_leader() {
            return self.entry.clone();
        }
        ServiceEntry {
            members: self.group.voter_addrs(),
            term: self.group.status().term,
            ..self.entry.clone()
        }
    }

    /// The DIR's members as it told them, then what was configured: the list may have been told from elsewhere.
    fn dirs(&self, told: Vec<String>) -> Vec<String> {
        let more = self.configured.iter().filter(|addr| !told.contains(addr)).cloned().collect::<Vec<_>>();
        told.into_iter().chain(more).collect()
    }
}

async fn register(mut dir: DirCaller, registration: Registration, cluster: Arc<Cluster>) {
    let mut pause = RETRY_MIN;
    loop {
        let entry = registration.entry();
        match dir.call::<HeartbeatService>(&entry, Duration::from_secs(2)).await {
            Ok(reply) => {
                cluster.set_keys(reply.keys);
                if !reply.dirs.is_empty() {
                    *dir.addrs.lock() = registration.dirs(reply.dirs);
                }
                cluster.set_trouble(String::new());
                pause = RETRY_MIN;
                tokio::time::sleep(HEARTBEAT).await;
            }
            Err(error) => {
                cluster.set_trouble(error.text);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    }
}

async fn follow_map(mut dir: DirCaller, cluster: Arc<Cluster>) {
    let mut pause = RETRY_MIN;
    loop {
        let known_epoch = cluster.epoch();
        let wait_ms = u64::try_from(MAP_WAIT.as_millis()).unwrap_or(u64::MAX);
        let asked = tokio::time::Instant::now();
        match dir
            .call::<Map>(&GetMap { known_epoch, wait_ms, dirs: 0 }, MAP_WAIT + Duration::from_secs(2))
            .await
        {
            Ok(map) => {
                let news = map.epoch > known_epoch;
                cluster.set_map(map);
                pause = RETRY_MIN;
                // A DIR that does not wait must not be asked in a tight loop.
                if !news && asked.elapsed() < MAP_WAIT / 2 {
                    tokio::time::sleep(MAP_WAIT / 4).await;
                }
            }
            Err(_) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    }
}

/// Finds the DIR member that answers: goes round the list, follows hints.
struct DirCaller {
    /// Shared by the tasks. order: a leaf.
    addrs: Arc<Mutex<Vec<String>>>,
    at: usize,
    hinted: Option<String>,
    connector: Arc<Connector>,
}

impl DirCaller {
    /// One attempt; after a failure the next one goes elsewhere.
    async fn call<M: Method>(
        &mut self,
        request: &M::Request,
        deadline: Duration,
    ) -> Result<M::Reply, WireError> {
        let listed = || {
            let addrs = self.addrs.lock();
            addrs.get(self.at % addrs.len().max(1)).cloned()
        };
        let addr = match self.hinted.clone().or_else(listed) {
            Some(addr) => addr,
            None => return Err(WireError::new(Code::Unavailable, "no DIR address is configured; set `dir`")),
        };
        let result = match self.connector.channel(&addr) {
            Ok(channel) => {
                let options = CallOptions { deadline, trace: 0 };
                call_with::<M>(&*channel, request, Bytes::new(), &options).await.map(|(reply, _)| reply)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = &result {
            let hint = (error.code == Code::NotLeader && !error.hint.is_empty()).then(|| error.hint.clone());
            if hint.is_none() && self.hinted.is_none() {
                self.at += 1;
            }
            self.hinted = hint.filter(|hint| *hint != addr);
        }
        result
    }
}
