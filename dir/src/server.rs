//! The door: one match from requests to `ops`, and what every op needs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use proto::dir::{MrcGroup, OsdMap, VolumeEntry};
use proto::error::{Code, WireError};
use proto::id::GroupId;
use proto::rpc::{Method, Origin};
use proto::{dir, raft};
use quorum::{Group, GroupConfig, QuorumError};
use rt::clock::Clock;
use rt::rpc::{BoxFuture, Connector, Peer, Request, Response, Service, unknown_method};
use tokio::sync::{Notify, Semaphore, watch};

use crate::command::{Answer, Change, Command};
use crate::engine::services::Services;
use crate::engine::{Effect, Engine, Event};
use crate::state::{DirState, View};
use crate::{driver, ops};

/// Long polls waiting at the same time; more are told to come back.
const WAITERS_MAX: usize = 4096;
/// How long a request waits for the first leader to give the cluster its identity.
const IDENTITY_WAIT: Duration = Duration::from_secs(2);
/// The Raft group of the DIR.
const GROUP: GroupId = GroupId(1);
/// Where volumes live until there are several metadata groups.
pub(crate) const FIRST_METADATA_GROUP: u64 = 2;

/// What a DIR needs to start.
pub struct DirConfig {
    /// Its member of the Raft group; `group` must be group 1.
    pub quorum: GroupConfig,
    /// Name of the cluster for people; the first leader's counts.
    pub cluster: String,
    /// Addresses of the metadata group's members, by member; empty: learned from their heartbeats.
    pub mrc_addrs: Vec<String>,
    /// How often a new capability key replaces the newest one.
    pub key_rotation: Duration,
}

impl DirConfig {
    /// With defaults for everything but the Raft member.
    #[must_use]
    pub fn new(quorum: GroupConfig) -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self { quorum, cluster: "xtfs".to_owned(), mrc_addrs: Vec::new(), key_rotation: day }
    }
}

/// What only a leader knows, following the replicated state.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) engine: Engine,
    pub(crate) services: Services,
    /// Of the view that the engine has seen.
    revision: u64,
    epoch: u64,
    leads: Option<u64>,
}

/// One member of the DIR.
pub struct Dir {
    pub(crate) group: Arc<Group>,
    pub(crate) state: Arc<DirState>,
    pub(crate) connector: Arc<Connector>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cluster: String,
    pub(crate) key_rotation: Duration,
    pub(crate) waiters: Arc<Semaphore>,
    /// [`Engine::room_changes`], for those who wait for them.
    pub(crate) room: watch::Sender<u64>,
    /// Tells the driver to end.
    pub(crate) stop: Arc<Notify>,
    mrc_addrs: Vec<String>,
    /// order: before the state's watch and `room`; never held over an await.
    memory: Mutex<Memory>,
}

impl Dir {
    /// Starts a member: recovers its state, joins the others, begins to watch OSDs when it leads.
    pub async fn start(config: DirConfig) -> Result<Arc<Self>, QuorumError> {
        let DirConfig { quorum, cluster, mrc_addrs, key_rotation } = config;
        let stopped = |cause: String| QuorumError::Stopped { group: GROUP, cause };
        if quorum.group != GROUP {
            return Err(stopped(format!("a DIR is member of {GROUP}, not of {}", quorum.group)));
        }
        let state = DirState::new(quorum.table.clone()).map_err(|error| stopped(error.to_string()))?;
        let (connector, clock) = (quorum.connector.clone(), quorum.clock.clone());
        let group = Group::start(quorum, state.clone()).await?;
        let dir = Arc::new(Self {
            group,
            state,
            connector,
            clock,
            cluster,
            key_rotation,
            waiters: Arc::new(Semaphore::new(WAITERS_MAX)),
            room: watch::Sender::new(0),
            stop: Arc::new(Notify::new()),
            mrc_addrs,
            memory: Mutex::default(),
        });
        tokio::spawn(driver::run(Arc::downgrade(&dir), dir.state.watch(), dir.stop.clone()));
        Ok(dir)
    }

    /// The wall clock, Unix milliseconds.
    pub(crate) fn unix_ms(&self) -> u64 {
        u64::try_from(self.clock.unix().as_millis()).unwrap_or(u64::MAX)
    }

    /// Its member of the Raft group.
    #[must_use]
    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// The replicated state as this member knows it: for status pages.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.state.view()
    }

    /// Replaces the newest capability key now.
    pub async fn rotate_key(&self) -> Result<(), WireError> {
        self.lead()?;
        let after = self.view().keys.first().map_or(0, |row| row.key.number);
        driver::rotate(self, after).await
    }

    /// Hands over leadership, flushes, stops.
    pub async fn shutdown(&self) -> Result<(), QuorumError> {
        self.stop.notify_waiters();
        self.stop.notify_one();
        self.group.shutdown().await
    }

    /// Refuses when another member leads, naming it.
    pub(crate) fn lead(&self) -> Result<(), WireError> {
        if self.group.is_leader() {
            return Ok(());
        }
        let status = self.group.status();
        let prefix = format!("{}=", status.leader);
        let leader = status.voters.iter().find_map(|voter| voter.strip_prefix(&prefix)).map(str::to_owned);
        Err(QuorumError::NotLeader { group: GROUP, leader }.into())
    }

    /// Refuses until the replicated state shows everything acknowledged before.
    pub(crate) async fn fresh(&self, deadline: Duration) -> Result<(), WireError> {
        self.lead()?;
        Ok(self.group.read(deadline).await?)
    }

    /// The view once the cluster has an identity.
    pub(crate) async fn identified(&self, deadline: Duration) -> Result<Arc<View>, WireError> {
        let view = self.view();
        if !view.cluster.is_empty() {
            return Ok(view);
        }
        let mut watch = self.state.watch();
        let identified = watch.wait_for(|view| !view.cluster.is_empty());
        match tokio::time::timeout(IDENTITY_WAIT.min(deadline), identified).await {
            Ok(Ok(view)) => Ok(view.clone()),
            Ok(Err(_)) | Err(_) => {
                let text =
                    "the DIR has not given the cluster its identity yet; is a majority of its members up?";
                Err(WireError::new(Code::Unavailable, text))
            }
        }
    }

    /// Replicates a change; gives the reply's bytes or the state machine's refusal.
    pub(crate) async fn propose(
        &self,
        origin: Origin,
        change: Change,
        deadline: Duration,
    ) -> Result<Bytes, WireError> {
        let command = Command::from(change).encode_to_vec().into();
        // All of them are small, and without them services are not known or not known to be gone.
        Answer::decode_result(self.group.propose_in_need(origin, command, deadline).await?)
    }

    /// The leader's memory, following the replicated state.
    pub(crate) fn with_memory<T>(&self, use_it: impl FnOnce(&mut Memory, Duration) -> T) -> T {
        let now = self.clock.monotonic();
        let mut memory = self.memory.lock();
        memory.follow(&self.state, now);
        use_it(&mut memory, now)
    }

    /// Lets the engine decide.
    pub(crate) fn decide(&self, event: Event) -> Vec<Effect> {
        self.with_memory(|memory, now| {
            let effects = memory.engine.handle(event, now);
            let changes = memory.engine.room_changes();
            self.room.send_if_modified(|known| std::mem::replace(known, changes) != changes);
            effects
        })
    }

    /// The map with the newest reports of space.
    pub(crate) fn map(&self) -> OsdMap {
        let map = self.with_memory(|memory, _| memory.engine.map(memory.epoch));
        OsdMap { dirs: self.group.voter_addrs(), ..map }
    }

    /// A volume with the addresses at which its metadata is served now.
    pub(crate) fn located(&self, volume: VolumeEntry) -> VolumeEntry {
        let addrs = self.with_memory(|memory, _| memory.services.group_addrs(volume.mrc.group));
        let addrs = if addrs.is_empty() { self.mrc_addrs.clone() } else { addrs };
        VolumeEntry { mrc: MrcGroup { group: volume.mrc.group, addrs }, ..volume }
    }
}

impl Memory {
    fn follow(&mut self, state: &DirState, now: Duration) {
        let view = state.view();
        if view.revision != self.revision {
            (self.revision, self.epoch) = (view.revision, view.epoch);
            self.engine.handle(Event::Map(view.osds.clone()), now);
        }
        if view.leads == self.leads {
            return;
        }
        self.leads = view.leads;
        self.engine.handle(Event::Lost, now);
        if view.leads.is_some() {
            self.engine.handle(Event::Led, now);
            match state.services() {
                Ok(stored) => self.services.restart(stored, now),
                Err(error) => {
                    tracing::error!(%error, "stored services are unreadable; they show up as they renew")
                }
            }
        }
    }
}

impl Service for Dir {
    fn call(
        self: Arc<Self>,
        peer: Peer,
        request: Request,
    ) -> BoxFuture<'static, Result<Response, WireError>> {
        Box::pin(async move {
            match request.method {
                raft::Deliver::NUMBER
                | raft::Peer::NUMBER
                | raft::MemberAdd::NUMBER
                | raft::MemberRemove::NUMBER
                | raft::LeaderTransfer::NUMBER => self.group.serve(request).await,
                dir::HeartbeatOsd::NUMBER => ops::heartbeat_osd::run(&self, &request).await,
                dir::HeartbeatService::NUMBER => ops::heartbeat_service::run(&self, &request).await,
                dir::Map::NUMBER => ops::map::run(&self, &request).await,
                dir::Report::NUMBER => ops::report::run(&self, &peer, &request).await,
                dir::VolumeCreate::NUMBER => ops::volume_create::run(&self, &request).await,
                dir::VolumeRemove::NUMBER => ops::volume_remove::run(&self, &request).await,
                dir::Volumes::NUMBER => ops::volumes::run(&self, &request).await,
                dir::Services::NUMBER => ops::services::run(&self, &request).await,
                dir::OsdSetState::NUMBER => ops::osd_set_state::run(&self, &request).await,
                dir::OsdSetWeight::NUMBER => ops::osd_set_weight::run(&self, &request).await,
                dir::Group::NUMBER => Ok(Response::of(&self.group.status())),
                other => Err(unknown_method("the DIR", other)),
            }
        })
    }
}
