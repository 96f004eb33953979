//! Tells the DIR that the OSD is alive and learns number, map epoch and keys from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto::dir::{HeartbeatOsd, OsdEntry, OsdHeartbeat, OsdHeartbeatReply, OsdMap};
use proto::error::{Code, WireError};
use proto::limits::OSD_HEARTBEAT_MS;
use rt::rpc::{CallOptions, Connector, call_with};
use tokio::sync::watch;

use crate::server::Osd;

/// What the OSD says of itself beside its UUID and space.
#[derive(Debug, Clone, Default)]
pub struct AgentConfig {
    /// DIR members.
    pub dirs: Vec<String>,
    /// The address at which others reach this OSD.
    pub addr: String,
    /// Failure domain.
    pub domain: String,
    /// HTTP status address `host:port`, or empty.
    pub http: String,
}

/// The running agent; dropping it ends it.
pub struct Agent {
    number: Arc<AtomicU64>,
    map: watch::Receiver<OsdMap>,
    task: tokio::task::JoinHandle<()>,
}

impl Agent {
    /// Starts the heartbeats on the current tokio runtime.
    pub fn start(osd: Arc<Osd>, connector: Arc<Connector>, config: AgentConfig) -> Self {
        let number = Arc::new(AtomicU64::new(0));
        let (map_out, map) = watch::channel(OsdMap::default());
        let beat =
            Heart { osd, connector, config, number: number.clone(), map: map_out, leader: None, next: 0 };
        Self { number, map, task: tokio::spawn(beat.run()) }
    }

    /// The OSD's number, once the DIR has told it.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        Some(self.number.load(Ordering::Acquire)).filter(|number| *number != 0)
    }

    /// The map as the DIR last told it, and its changes.
    #[must_use]
    pub fn map(&self) -> watch::Receiver<OsdMap> {
        self.map.clone()
    }

    /// Waits until the DIR has answered for the first time.
    pub async fn registered(&self) {
        let mut map = self.map.clone();
        while self.number().is_none() {
            if map.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Heart {
    osd: Arc<Osd>,
    connector: Arc<Connector>,
    config: AgentConfig,
    number: Arc<AtomicU64>,
    map: watch::Sender<OsdMap>,
    /// The DIR member that answered last or that another one named.
    leader: Option<String>,
    /// Which of the configured members to try next.
    next: usize,
}

impl Heart {
    async fn run(mut self) {
        let period = Duration::from_millis(OSD_HEARTBEAT_MS);
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut silent = 0u32;
        loop {
            ticks.tick().await;
            match self.beat_somewhere(period).await {
                Ok(reply) => {
                    if silent > 10 {
                        tracing::info!("OSD {}: the DIR answers again", self.osd.uuid());
                    }
                    silent = 0;
                    self.learn(reply);
                }
                Err(error) => {
                    silent += 1;
                    if silent.is_power_of_two() && silent > 2 {
                        tracing::warn!(
                            "OSD {}: {silent} heartbeats without an answer: {error}",
                            self.osd.uuid()
                        );
                    }
                }
            }
        }
    }

    /// One heartbeat: at the leader as far as known, else at every member once, following hints.
    async fn beat_somewhere(&mut self, period: Duration) -> Result<OsdHeartbeatReply, WireError> {
        let mut last = WireError::new(Code::InvalidArgument, "no DIR address is configured");
        for _ in 0..=self.config.dirs.len() * 2 {
            let member = match self.leader.clone() {
                Some(leader) => leader,
                None => match self.config.dirs.get(self.next % self.config.dirs.len().max(1)) {
                    Some(member) => member.clone(),
                    None => return Err(last),
                },
            };
            match self.beat(&member, period).await {
                Ok(reply) => {
                    self.leader = Some(member);
                    return Ok(reply);
                }
                Err(error) => {
                    let hinted =
                        error.code == Code::NotLeader && !error.hint.is_empty() && error.hint != member;
                    self.leader = hinted.then(|| error.hint.clone());
                    if !hinted {
                        self.next = self.next.wrapping_add(1);
                    }
                    last = error;
                }
            }
        }
        Err(last)
    }

    async fn beat(&self, member: &str, period: Duration) -> Result<OsdHeartbeatReply, WireError> {
        let status = self.osd.status();
        let entry = OsdEntry {
            osd: self.number.load(Ordering::Acquire),
            uuid: status.uuid,
            addr: self.config.addr.clone(),
            domain: self.config.domain.clone(),
            total_bytes: status.total_bytes,
            free_bytes: status.free_bytes,
            http: self.config.http.clone(),
            ..OsdEntry::default()
        };
        let known_epoch = self.map.borrow().epoch;
        let options = CallOptions { deadline: period, ..CallOptions::default() };
        let channel = self.connector.channel(member)?;
        let message = OsdHeartbeat { entry, known_epoch };
        let answer = call_with::<HeartbeatOsd>(&*channel, &message, bytes::Bytes::new(), &options);
        // A transport that does not keep the deadline must not silence the OSD.
        match tokio::time::timeout(period, answer).await {
            Ok(answer) => answer.map(|(reply, _)| reply),
            Err(_) => Err(WireError::new(
                Code::DeadlineExceeded,
                format!("the DIR at {member} did not answer within {} ms", period.as_millis()),
            )),
        }
    }

    fn learn(&self, reply: OsdHeartbeatReply) {
        let news = self.number.swap(reply.osd, Ordering::AcqRel) != reply.osd;
        if !reply.keys.is_empty() {
            self.osd.set_keys(reply.keys);
        }
        match reply.map {
            Some(map) if map.epoch > self.map.borrow().epoch => {
                self.osd.set_map_epoch(map.epoch);
                self.map.send_replace(map);
            }
            _ if news => self.map.send_modify(|_| {}),
            _ => {}
        }
    }
}
