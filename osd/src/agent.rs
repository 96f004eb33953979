//! Tells the DIR that the OSD is alive and learns number, map epoch and keys from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use proto::dir::{
    GetMap, HeartbeatOsd, Map, OsdEntry, OsdHeartbeat, OsdHeartbeatReply, OsdMap, Report, ReportDown,
};
use proto::error::{Code, WireError};
use proto::limits::OSD_HEARTBEAT_MS;
use rt::rpc::{CallOptions, Connector, call_with};
use tokio::sync::{mpsc, watch};

use crate::server::Osd;

/// How long a long poll for the map waits at the DIR.
const POLL: Duration = Duration::from_secs(10);
/// Pause after a poll that gave nothing.
const POLL_AGAIN: Duration = Duration::from_millis(200);
/// The same OSD is reported at most so often.
const REPORT_AGAIN: Duration = Duration::from_secs(1);

/// The DIR member that answers, shared by the agent's tasks. order: a leaf.
type Leader = Arc<Mutex<Option<String>>>;

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
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Agent {
    /// Starts the heartbeats on the current tokio runtime.
    pub fn start(osd: Arc<Osd>, connector: Arc<Connector>, config: AgentConfig) -> Self {
        let number = Arc::new(AtomicU64::new(0));
        let (map_out, map) = watch::channel(OsdMap::default());
        let leader = Arc::new(Mutex::new(None));
        let mut tasks = Vec::new();
        if let Some(evidence) = osd.replicas().connect(&connector) {
            let (connector, leader, uuid) = (connector.clone(), leader.clone(), osd.uuid().to_owned());
            tasks.push(tokio::spawn(report_evidence(evidence, connector, leader, uuid)));
        }
        let poll = MapPoll { connector: connector.clone(), leader: leader.clone(), map: map.clone() };
        let (news_out, news) = mpsc::channel(1);
        tasks.push(tokio::spawn(poll.run(news_out)));
        let number_out = number.clone();
        let beat = Heart { osd, connector, config, number: number_out, map: map_out, leader, next: 0 };
        tasks.push(tokio::spawn(beat.run(news)));
        Self { number, map, tasks }
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
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

struct Heart {
    osd: Arc<Osd>,
    connector: Arc<Connector>,
    config: AgentConfig,
    number: Arc<AtomicU64>,
    map: watch::Sender<OsdMap>,
    /// The DIR member that answered last or that another one named.
    leader: Leader,
    /// Which of the configured members to try next.
    next: usize,
}

impl Heart {
    async fn run(mut self, mut news: mpsc::Receiver<OsdMap>) {
        let period = Duration::from_millis(OSD_HEARTBEAT_MS);
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut silent = 0u32;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.osd.replicas().refresh.notified() => {}
                Some(map) = news.recv() => {
                    self.learn_map(map);
                    continue;
                }
            }
            if self.osd.store().has_failed() {
                // Without heartbeats others take over: what a failed store cannot keep it must not lead.
                if silent == 0 {
                    tracing::error!("OSD {}: its store has failed; no more heartbeats", self.osd.uuid());
                }
                silent = 1;
                continue;
            }
            let sent = self.osd.now();
            match self.beat_somewhere(period).await {
                Ok(reply) => {
                    if silent > 10 {
                        tracing::info!("OSD {}: the DIR answers again", self.osd.uuid());
                    }
                    silent = 0;
                    self.osd.replicas().renew_lease(sent);
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
            let member = match self.leader.lock().clone() {
                Some(leader) => leader,
                None => match self.config.dirs.get(self.next % self.config.dirs.len().max(1)) {
                    Some(member) => member.clone(),
                    None => return Err(last),
                },
            };
            match self.beat(&member, period).await {
                Ok(reply) => {
                    *self.leader.lock() = Some(member);
                    return Ok(reply);
                }
                Err(error) => {
                    let hinted =
                        error.code == Code::NotLeader && !error.hint.is_empty() && error.hint != member;
                    *self.leader.lock() = hinted.then(|| error.hint.clone());
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
            life: self.osd.replicas().life(),
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
            Some(map) if map.epoch > self.map.borrow().epoch => self.learn_map(map),
            _ if news => {
                let known = self.map.borrow().clone();
                self.osd.replicas().learn(known, reply.osd);
                self.map.send_modify(|_| {});
            }
            _ => {}
        }
    }

    fn learn_map(&self, map: OsdMap) {
        if map.epoch > self.map.borrow().epoch {
            self.osd.set_map_epoch(map.epoch);
            self.osd.replicas().learn(map.clone(), self.number.load(Ordering::Acquire));
            self.map.send_replace(map);
        }
    }
}

/// Follows the map by long polls: a change is here as soon as the DIR has it, not with the next heartbeat.
struct MapPoll {
    connector: Arc<Connector>,
    leader: Leader,
    map: watch::Receiver<OsdMap>,
}

impl MapPoll {
    async fn run(self, news: mpsc::Sender<OsdMap>) {
        loop {
            let known_epoch = self.map.borrow().epoch;
            match self.poll(known_epoch).await {
                Some(map) if map.epoch > known_epoch => {
                    if news.send(map).await.is_err() {
                        return;
                    }
                    // The heart takes it over before the next question.
                    tokio::task::yield_now().await;
                }
                Some(_) => {}
                None => tokio::time::sleep(POLL_AGAIN).await,
            }
        }
    }

    async fn poll(&self, known_epoch: u64) -> Option<OsdMap> {
        let leader = self.leader.lock().clone()?;
        let channel = self.connector.channel(&leader).ok()?;
        let wait_ms = u64::try_from(POLL.as_millis()).ok()?;
        let options = CallOptions { deadline: POLL + POLL_AGAIN, ..CallOptions::default() };
        let question = GetMap { known_epoch, wait_ms };
        let started = tokio::time::Instant::now();
        let answer = call_with::<Map>(&*channel, &question, bytes::Bytes::new(), &options).await;
        let map = answer.ok().map(|(map, _)| map)?;
        // An answer without news that comes at once must not be asked for in a tight loop.
        (map.epoch > known_epoch || started.elapsed() > POLL_AGAIN).then_some(map)
    }
}

/// Tells the DIR of OSDs that could not be reached, each at most once a second.
async fn report_evidence(
    mut evidence: mpsc::Receiver<(u64, String)>,
    connector: Arc<Connector>,
    leader: Leader,
    reporter: String,
) {
    let mut told: Option<(u64, tokio::time::Instant)> = None;
    while let Some((osd, addr)) = evidence.recv().await {
        if told.is_some_and(|(last, at)| last == osd && at.elapsed() < REPORT_AGAIN) {
            continue;
        }
        let Some(channel) = leader.lock().clone().and_then(|leader| connector.channel(&leader).ok()) else {
            continue;
        };
        told = Some((osd, tokio::time::Instant::now()));
        let report = ReportDown { osd, addr, reporter: reporter.clone() };
        let options = CallOptions { deadline: REPORT_AGAIN, ..CallOptions::default() };
        if let Err(error) = call_with::<Report>(&*channel, &report, bytes::Bytes::new(), &options).await {
            tracing::debug!(osd, %error, "evidence could not be told");
        }
    }
}
