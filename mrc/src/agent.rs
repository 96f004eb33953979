//! Speaks with the DIR: registers this member, fetches the capability keys and keeps the OSD map fresh.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::dir::{GetMap, HeartbeatService, Map, ServiceEntry};
use proto::error::{Code, WireError};
use proto::rpc::Method;
use quorum::Group;
use rt::clock::Clock;
use rt::rpc::{CallOptions, Connector, call_with};
use tokio::task::JoinHandle;

use crate::cluster::Cluster;

/// How often this member renews its registration.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long a map request waits for a newer map, or for an OSD that is full now or not any more; then the same comes with
/// newer free space.
const MAP_WAIT: Duration = Duration::from_secs(2);
/// Pause after an answer that tells of full OSDs only: many may become full at the same time.
const FULL_PAUSE: Duration = Duration::from_millis(20);
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
    clock: Arc<dyn Clock>,
) -> Vec<JoinHandle<()>> {
    let addrs = Arc::new(Mutex::new(dir.to_vec()));
    let caller = || DirCaller { addrs: addrs.clone(), at: 0, hinted: None, connector: connector.clone() };
    let registration = Registration { entry, configured: dir.to_vec(), group, clock };
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
    clock: Arc<dyn Clock>,
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
                if let Some(ahead_ms) = cluster.witness.told(reply.unix_ms, &*registration.clock) {
                    let name = &entry.name;
                    tracing::warn!(
                        "MRC {name}: its clock is {ahead_ms} ms ahead of the DIR's; set the clocks of both machines"
                    );
                }
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
        let (known_epoch, full) = (cluster.epoch(), cluster.full());
        let wait_ms = u64::try_from(MAP_WAIT.as_millis()).unwrap_or(u64::MAX);
        let asked = tokio::time::Instant::now();
        match dir
            .call::<Map>(&GetMap { known_epoch, wait_ms, dirs: 0, full }, MAP_WAIT + Duration::from_secs(2))
            .await
        {
            Ok(map) => {
                let news = map.epoch > known_epoch;
                cluster.set_map(map);
                pause = RETRY_MIN;
                if !news && cluster.full() != full {
                    tokio::time::sleep(FULL_PAUSE).await;
                // A DIR that does not wait must not be asked in a tight loop.
                } else if !news && asked.elapsed() < MAP_WAIT / 2 {
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

#[cfg(test)]
mod tests {
    use proto::dir::{OsdEntry, OsdMap, digest_of_full};
    use rt::rpc::{BoxFuture, Peer, Request, Response, Service, parse};
    use tokio::sync::watch;

    use super::*;

    /// A DIR whose map keeps its epoch: it waits for another set of full OSDs.
    struct PatientDir(watch::Sender<OsdMap>);

    impl Service for PatientDir {
        fn call(
            self: Arc<Self>,
            _: Peer,
            request: Request,
        ) -> BoxFuture<'static, Result<Response, WireError>> {
            Box::pin(async move {
                let GetMap { known_epoch, wait_ms, full, .. } = parse::<Map>(&request)?;
                let mut map = self.0.subscribe();
                let news = map.wait_for(|map| map.epoch != known_epoch || full != digest_of_full(&map.osds));
                let _ = tokio::time::timeout(Duration::from_millis(wait_ms), news).await;
                Ok(Response::of(&*self.0.borrow()))
            })
        }
    }

    fn map(free: [u64; 2]) -> OsdMap {
        let entry =
            |(at, free_bytes)| OsdEntry { osd: at, free_bytes, total_bytes: 1 << 40, ..OsdEntry::default() };
        OsdMap { epoch: 3, osds: (1..).zip(free).map(entry).collect(), dirs: Vec::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn that_an_osd_is_full_is_known_long_before_a_poll_ends() {
        let (connector, cluster) = (Connector::new(), Arc::new(Cluster::default()));
        let dir = Arc::new(PatientDir(watch::Sender::new(map([1 << 39; 2]))));
        connector.register_local("dir", dir.clone());
        let addrs = Arc::new(Mutex::new(vec!["local://dir".to_owned()]));
        let caller = DirCaller { addrs, at: 0, hinted: None, connector };
        let task = tokio::spawn(follow_map(caller, cluster.clone()));
        tokio::time::sleep(Duration::from_millis(500)).await;
        // Twice in a row: the first answer must not be followed by a long pause.
        for free in [[0, 1 << 39], [0, 0], [1 << 39, 0]] {
            dir.0.send_replace(map(free));
            tokio::time::sleep(FULL_PAUSE * 2).await;
            assert_eq!(*cluster.map().unwrap(), map(free));
        }
        task.abort();
    }
}
