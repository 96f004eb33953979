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
use proto::osd::{Probe, ProbeRequest};
use rt::rpc::{CallOptions, Connector, call_with};
use tokio::sync::{mpsc, oneshot, watch};

use crate::engine::slowness::Watch;
use crate::replication::Evidence;
use crate::server::Osd;

/// An OSD that is full and has not said so does not wait for its next heartbeat, but for so long after the last one.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);
/// How long a long poll for the map waits at the DIR.
const POLL: Duration = Duration::from_secs(10);
/// Pause after a poll that gave nothing.
const POLL_AGAIN: Duration = Duration::from_millis(200);
/// How long a stop waits until the DIR has heard of it.
const LEAVE: Duration = Duration::from_secs(1);
/// How long a probe of another OSD waits.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);
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
    told: Arc<Told>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    /// The heartbeats, and what ends them properly.
    heart: Option<(oneshot::Sender<()>, tokio::task::JoinHandle<()>)>,
}

impl Agent {
    /// Starts the heartbeats on the current tokio runtime.
    pub fn start(osd: Arc<Osd>, connector: Arc<Connector>, config: AgentConfig) -> Self {
        let leader = Arc::new(Mutex::new(None));
        let mut tasks = Vec::new();
        if let Some(evidence) = osd.replicas().connect(&connector) {
            let (connector, leader, uuid) = (connector.clone(), leader.clone(), osd.uuid().to_owned());
            tasks.push(tokio::spawn(report_evidence(evidence, connector, leader, uuid)));
            tasks.push(tokio::spawn(osd.replicas().clone().keep_mending()));
        }
        let told = Arc::new(Told {
            osd: osd.clone(),
            number: AtomicU64::new(0),
            map: watch::Sender::new(OsdMap::default()),
        });
        let poll = MapPoll { connector: connector.clone(), leader: leader.clone(), told: told.clone() };
        tasks.push(tokio::spawn(poll.run()));
        tasks.push(tokio::spawn(probe_others(osd.clone(), connector.clone(), told.clone())));
        let dirs = config.dirs.clone();
        let beat =
            Heart { osd, connector, config, dirs, told: told.clone(), leader, next: 0, tells_room: false };
        let (leave, leaves) = oneshot::channel();
        let heart = tokio::spawn(beat.run(leaves));
        Self { told, tasks, heart: Some((leave, heart)) }
    }

    /// The OSD is about to stop: it serves nobody from now on, and the DIR hears of it, so that others take over without
    /// waiting for a lease to run out.
    pub async fn leave(mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
        let Some((leave, heart)) = self.heart.take() else { return };
        let abort = heart.abort_handle();
        // It may be waiting for an answer to a heartbeat; that the DIR does not answer must not hold up the stop.
        if leave.send(()).is_ok() && tokio::time::timeout(LEAVE, heart).await.is_err() {
            abort.abort();
            tracing::warn!("the DIR did not hear that this OSD stops; its lease runs out");
        }
    }

    /// The OSD's number, once the DIR has told it.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        Some(self.told.number.load(Ordering::Acquire)).filter(|number| *number != 0)
    }

    /// The map as the DIR last told it, and its changes.
    #[must_use]
    pub fn map(&self) -> watch::Receiver<OsdMap> {
        self.told.map.subscribe()
    }

    /// Waits until the DIR has answered for the first time.
    pub async fn registered(&self) {
        let mut map = self.map();
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
        if let Some((_, heart)) = &self.heart {
            heart.abort();
        }
    }
}

/// What the DIR has told, by whichever way came first: news of the map must not wait for a heartbeat's answer.
struct Told {
    osd: Arc<Osd>,
    number: AtomicU64,
    map: watch::Sender<OsdMap>,
}

impl Told {
    fn number(&self, number: u64) {
        if self.number.swap(number, Ordering::AcqRel) != number {
            let known = self.map.borrow().clone();
            self.osd.replicas().learn(known, number);
            self.map.send_modify(|_| {});
        }
    }

    fn map(&self, map: OsdMap) {
        if map.epoch <= self.map.borrow().epoch {
            return;
        }
        self.osd.set_map_epoch(map.epoch);
        self.osd.replicas().learn(map.clone(), self.number.load(Ordering::Acquire));
        self.map.send_if_modified(|known| {
            let newer = map.epoch > known.epoch;
            if newer {
                *known = map;
            }
            newer
        });
    }
}

struct Heart {
    osd: Arc<Osd>,
    connector: Arc<Connector>,
    config: AgentConfig,
    /// Its members as it told them, then what was configured.
    dirs: Vec<String>,
    told: Arc<Told>,
    /// The DIR member that answered last or that another one named.
    leader: Leader,
    /// Which of the configured members to try next.
    next: usize,
    /// The last heartbeat said that there is room for new files.
    tells_room: bool,
}

impl Heart {
    async fn run(mut self, mut leaves: oneshot::Receiver<()>) {
        let period = Duration::from_millis(OSD_HEARTBEAT_MS);
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut silent = 0u32;
        let mut sent = Duration::ZERO;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.osd.replicas().refresh.notified() => {}
                () = self.osd.refused.notified() => {
                    if !self.tells_room {
                        continue;
                    }
                    tokio::time::sleep((sent + REFUSED_PAUSE).saturating_sub(self.osd.now())).await;
                }
                // Without a word the agent is gone, and this task with it.
                asked = &mut leaves => return if asked.is_ok() { self.leave(period).await },
            }
            if self.osd.store().has_failed() {
                // Without heartbeats others take over: what a failed store cannot keep it must not lead.
                if silent == 0 {
                    tracing::error!("OSD {}: its store has failed; no more heartbeats", self.osd.uuid());
                }
                silent = 1;
                continue;
            }
            sent = self.osd.now();
            match self.beat_somewhere(period, false).await {
                Ok(reply) => {
                    if silent > 10 {
                        tracing::info!("OSD {}: the DIR answers again", self.osd.uuid());
                    }
                    silent = 0;
                    // In this order: a lease must not be used under a map in which somebody else leads by now.
                    self.learn(reply);
                    self.osd.replicas().renew_lease(sent);
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

    /// The last word. What it was read under a lease ends first: another OSD leads as soon as the DIR has heard.
    async fn leave(&mut self, period: Duration) {
        self.osd.replicas().give_up_lease();
        if let Err(error) = self.beat_somewhere(period, true).await {
            tracing::warn!("OSD {}: the DIR did not hear that it stops: {error}", self.osd.uuid());
        }
    }

    /// One heartbeat: at the leader as far as known, else at every member once, following hints.
    async fn beat_somewhere(
        &mut self,
        period: Duration,
        leaving: bool,
    ) -> Result<OsdHeartbeatReply, WireError> {
        let mut last = WireError::new(Code::InvalidArgument, "no DIR address is configured");
        let entry = self.entry();
        self.tells_room = entry.has_room();
        for _ in 0..=self.dirs.len() * 2 {
            let member = match self.leader.lock().clone() {
                Some(leader) => leader,
                None => match self.dirs.get(self.next % self.dirs.len().max(1)) {
                    Some(member) => member.clone(),
                    None => return Err(last),
                },
            };
            match self.beat(&member, (entry.clone(), leaving), period).await {
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

    /// What it says of itself.
    fn entry(&self) -> OsdEntry {
        let (total_bytes, free_bytes) = self.osd.space();
        OsdEntry {
            osd: self.told.number.load(Ordering::Acquire),
            uuid: self.osd.uuid().to_owned(),
            addr: self.config.addr.clone(),
            domain: self.config.domain.clone(),
            total_bytes,
            free_bytes,
            http: self.config.http.clone(),
            life: self.osd.replicas().life(),
            slow: self.osd.replicas().is_slow(),
            ..OsdEntry::default()
        }
    }

    async fn beat(
        &self,
        member: &str,
        (entry, leaving): (OsdEntry, bool),
        period: Duration,
    ) -> Result<OsdHeartbeatReply, WireError> {
        let known_epoch = self.told.map.borrow().epoch;
        let options = CallOptions { deadline: period, ..CallOptions::default() };
        let channel = self.connector.channel(member)?;
        let message = OsdHeartbeat { entry, known_epoch, leaving };
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

    fn learn(&mut self, reply: OsdHeartbeatReply) {
        if !reply.dirs.is_empty() {
            let configured = self.config.dirs.iter().filter(|addr| !reply.dirs.contains(addr)).cloned();
            self.dirs = reply.dirs.iter().cloned().chain(configured).collect();
        }
        self.osd.hear_clock(reply.unix_ms);
        if !reply.keys.is_empty() {
            self.osd.set_keys(reply.keys);
        }
        if let Some(map) = reply.map {
            self.told.map(map);
        }
        self.told.number(reply.osd);
    }
}

/// Follows the map by long polls: a change is here as soon as the DIR has it, not with the next heartbeat.
struct MapPoll {
    connector: Arc<Connector>,
    leader: Leader,
    told: Arc<Told>,
}

impl MapPoll {
    async fn run(self) {
        loop {
            let known_epoch = self.told.map.borrow().epoch;
            match self.poll(known_epoch).await {
                Some(map) => self.told.map(map),
                None => tokio::time::sleep(POLL_AGAIN).await,
            }
        }
    }

    async fn poll(&self, known_epoch: u64) -> Option<OsdMap> {
        let leader = self.leader.lock().clone()?;
        let channel = self.connector.channel(&leader).ok()?;
        let wait_ms = u64::try_from(POLL.as_millis()).ok()?;
        let options = CallOptions { deadline: POLL + POLL_AGAIN, ..CallOptions::default() };
        let question = GetMap { known_epoch, wait_ms, dirs: 0, full: 0 };
        let started = tokio::time::Instant::now();
        let answer = call_with::<Map>(&*channel, &question, bytes::Bytes::new(), &options).await;
        let map = answer.ok().map(|(map, _)| map)?;
        // An answer without news that comes at once must not be asked for in a tight loop.
        (map.epoch > known_epoch || started.elapsed() > POLL_AGAIN).then_some(map)
    }
}

/// Looks how long the OSDs that follow in the map take to answer, and tells each what was found.
async fn probe_others(osd: Arc<Osd>, connector: Arc<Connector>, told: Arc<Told>) {
    let mut watch = Watch::default();
    let mut ticks = tokio::time::interval(Duration::from_millis(OSD_HEARTBEAT_MS));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let me = told.number.load(Ordering::Acquire);
        let up: Vec<(u64, String)> = {
            let map = told.map.borrow();
            let entries = map.osds.iter().filter(|entry| entry.serves());
            entries.map(|entry| (entry.osd, entry.addr.clone())).collect()
        };
        let numbers: Vec<u64> = up.iter().map(|(osd, _)| *osd).collect();
        let chosen = watch.choose(me, &numbers);
        let Ok(capability) = osd.replicas().right() else { continue };
        if me == 0 {
            continue;
        }
        let probes = up.iter().filter(|(other, _)| chosen.contains(other)).map(|(other, addr)| {
            let slow = watch.finds_slow(*other);
            let probe = ProbeRequest { capability: capability.clone(), from: me, slow };
            let (connector, osd) = (&connector, &osd);
            async move {
                let channel = connector.channel(addr).ok()?;
                let options = CallOptions { deadline: PROBE_PATIENCE, ..CallOptions::default() };
                let sent = osd.now();
                let answer = call_with::<Probe>(&*channel, &probe, bytes::Bytes::new(), &options);
                match tokio::time::timeout(PROBE_PATIENCE, answer).await {
                    // Who is not there, or does not know this question, is not slow.
                    Ok(Err(error)) if error.code != Code::DeadlineExceeded => None,
                    _ => Some((*other, osd.now().saturating_sub(sent))),
                }
            }
        });
        let probes: Vec<_> = probes.collect();
        for (other, took) in futures::future::join_all(probes).await.into_iter().flatten() {
            watch.answered(other, took);
        }
    }
}

/// Tells the DIR of OSDs that could not be reached, each at most once a second.
async fn report_evidence(
    mut evidence: mpsc::Receiver<Evidence>,
    connector: Arc<Connector>,
    leader: Leader,
    reporter: String,
) {
    let mut told: Option<(u64, bool, tokio::time::Instant)> = None;
    while let Some(Evidence { osd, addr, refused }) = evidence.recv().await {
        // That it refuses is news after a lost connection.
        let known = |(last, was_refused, _)| last == osd && (was_refused || !refused);
        if told.filter(|told| known(*told)).is_some_and(|(_, _, at)| at.elapsed() < REPORT_AGAIN) {
            continue;
        }
        let Some(channel) = leader.lock().clone().and_then(|leader| connector.channel(&leader).ok()) else {
            continue;
        };
        told = Some((osd, refused, tokio::time::Instant::now()));
        let report = ReportDown { osd, addr, reporter: reporter.clone(), refused };
        let options = CallOptions { deadline: REPORT_AGAIN, ..CallOptions::default() };
        if let Err(error) = call_with::<Report>(&*channel, &report, bytes::Bytes::new(), &options).await {
            tracing::debug!(osd, %error, "evidence could not be told");
        }
    }
}
