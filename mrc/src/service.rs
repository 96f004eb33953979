//! The service: one member of a metadata group.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::capability::{Capability, CapabilityKey, READ, WRITE};
use proto::dir::ServiceEntry;
use proto::error::{Code, WireError};
use proto::limits::CAPABILITY_TTL_MS;
use proto::mrc::{Base, FileCredentials};
use proto::raft::Deliver;
use proto::rpc::{Method as _, Origin};
use proto::stripe::{Layout, Striping};
use quorum::{Group, GroupConfig, QuorumError};
use rt::clock::Clock;
use rt::metrics::Metrics;
use rt::rpc::{BoxFuture, Connector, Peer, Request, Response, Service};
use rt::table::Table;
use tokio::task::JoinHandle;

use crate::checks::Checks;
use crate::cluster::Cluster;
use crate::command::{self, Body, Command, SessionEnd};
use crate::dumps::Dumps;
use crate::engine::placement;
use crate::engine::sessions::FileId;
use crate::leader::Leader;
use crate::leasing::metrics::LeaseMetrics;
use crate::machine::Machine;
use crate::namespace::inode::Inode;
use crate::namespace::{content, layers, layout, session, volume};
use crate::{agent, garbage, keeper, leasing, server};

/// What a member needs to start.
pub struct MrcConfig {
    /// Its Raft group; table, connector and clock are used by the service too.
    pub group: GroupConfig,
    /// RPC addresses of the DIR's members.
    pub dir: Vec<String>,
    /// What it says of itself to the DIR; role, group and member are filled in.
    pub entry: ServiceEntry,
}

/// See the module.
pub struct Mrc {
    group: Arc<Group>,
    member: u64,
    table: Arc<dyn Table>,
    clock: Arc<dyn Clock>,
    connector: Arc<Connector>,
    leader: Arc<Leader>,
    checks: Checks,
    dumps: Dumps,
    cluster: Arc<Cluster>,
    metrics: OnceLock<LeaseMetrics>,
    stopping: AtomicBool,
    /// order: never held while another lock is taken.
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Mrc {
    /// Starts a member: recovers its group, registers at the DIR, starts its background tasks.
    pub async fn start(config: MrcConfig) -> Result<Arc<Self>, WireError> {
        let MrcConfig { group, dir, mut entry } = config;
        entry.role = "mrc".to_owned();
        (entry.group, entry.member) = (group.group.0, group.me.0);
        let (table, clock, connector) = (group.table.clone(), group.clock.clone(), group.connector.clone());
        let member = group.me.0;
        let leader = Leader::new(clock.clone(), clock.unix().as_secs() ^ member << 48);
        let started_ns = u64::try_from(clock.unix().as_nanos()).unwrap_or(u64::MAX);
        let leads = {
            let leader = leader.clone();
            Arc::new(move || leader.sessions().leads())
        };
        let checks = Checks::new(clock.clone(), leads, started_ns);
        let dumps = Dumps::new(clock.clone(), started_ns);
        let machine = Arc::new(Machine::with_leading(leader.clone()));
        let mrc = Arc::new(Self {
            group: Group::start(group, machine).await?,
            member,
            table,
            clock,
            connector: connector.clone(),
            checks,
            dumps,
            leader,
            cluster: Arc::new(Cluster::default()),
            metrics: OnceLock::new(),
            stopping: AtomicBool::new(false),
            tasks: Mutex::default(),
        });
        let (cluster, group) = (mrc.cluster.clone(), mrc.group.clone());
        let mut tasks = agent::start(&dir, entry, connector, cluster, group, mrc.clock.clone());
        tasks.push(tokio::spawn(keeper::run(Arc::downgrade(&mrc), mrc.leader.clone())));
        tasks.push(tokio::spawn(leasing::run(Arc::downgrade(&mrc), mrc.leader.leasing().clone())));
        tasks.push(tokio::spawn(garbage::run(Arc::downgrade(&mrc))));
        *mrc.tasks.lock() = tasks;
        Ok(mrc)
    }

    /// Hands over, then stops the background tasks and the group.
    pub async fn shutdown(&self) -> Result<(), WireError> {
        // Served on meanwhile: whoever asks hears who leads as soon as somebody else does.
        if let Err(error) = self.group.hand_over().await {
            tracing::info!(%error, "nobody took over; the others elect without help");
        }
        self.stopping.store(true, Ordering::SeqCst);
        self.checks.stop_all();
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
        self.leader.wake_all_waiters();
        Ok(self.group.shutdown().await?)
    }

    /// The Raft group: status, members, leadership.
    #[must_use]
    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Keys and OSD map.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Sessions and open files.
    #[must_use]
    pub fn leader(&self) -> &Arc<Leader> {
        &self.leader
    }

    /// The metadata table, for reading.
    #[must_use]
    pub fn table(&self) -> &dyn Table {
        &*self.table
    }

    pub(crate) fn shared_table(&self) -> Arc<dyn Table> {
        self.table.clone()
    }

    pub(crate) fn dumps(&self) -> &Dumps {
        &self.dumps
    }

    pub(crate) fn checks(&self) -> &Checks {
        &self.checks
    }

    /// Shows this member's counts at `/metrics` from now on.
    pub fn publish(&self, metrics: &Metrics) {
        // A second registry would get nothing: there is one per process.
        let _ = self.metrics.set(LeaseMetrics::new(metrics));
        self.publish_counts();
    }

    pub(crate) fn publish_counts(&self) {
        if let Some(metrics) = self.metrics.get() {
            metrics.set(self.leader.lease_counts());
        }
    }

    pub(crate) fn connector(&self) -> &Connector {
        &self.connector
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Unix milliseconds.
    pub(crate) fn unix_ms(&self) -> u64 {
        u64::try_from(self.clock.unix().as_millis()).unwrap_or(u64::MAX)
    }

    /// When capabilities that are made now run out, Unix milliseconds. By this member's clock or the DIR's, whichever is ahead: one that is behind must not
    /// make capabilities that have run out already.
    pub(crate) fn capabilities_end_ms(&self) -> u64 {
        self.cluster.witness.later_ms(&*self.clock).saturating_add(CAPABILITY_TTL_MS)
    }

    /// By what is judged whether capabilities have run out, Unix milliseconds; OSDs judge alike.
    pub(crate) fn judging_ms(&self) -> u64 {
        self.cluster.witness.earlier_ms(&*self.clock)
    }

    /// Wall time, seconds since 1970.
    pub(crate) fn unix_s(&self) -> i64 {
        i64::try_from(self.clock.unix().as_secs()).unwrap_or(i64::MAX)
    }

    /// The newest log index that the table shows. Ask after [`Mrc::read`].
    pub(crate) fn applied(&self) -> u64 {
        match self.leader.applied_index() {
            // Nothing since the start: the group knows what the table came with.
            0 => self.group.status().applied,
            index => index,
        }
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Before reading the table: it shows everything acknowledged when this answers.
    pub(crate) async fn read(&self, deadline: Duration) -> Result<(), WireError> {
        Ok(self.group.read(deadline).await?)
    }

    /// Before using the leader's memory: this member leads and knows whom it has to wait for.
    pub(crate) async fn lead(&self, deadline: Duration) -> Result<(), WireError> {
        self.group.read(deadline).await?;
        if let Some(term) = self.leader.unread_term() {
            let known = session::list(self.table())?;
            let known: Vec<(u64, bool)> = known.into_iter().map(|(id, row)| (id, row.leases)).collect();
            self.leader.lead(term, self.member, &known);
            self.remember_fences()?;
        }
        if self.leader.sessions().leads() && self.group.is_leader() {
            return Ok(());
        }
        Err(self.not_leader())
    }

    fn not_leader(&self) -> WireError {
        let status = self.group.status();
        let prefix = format!("{}=", status.leader);
        let leader = status.voters.iter().find_map(|voter| voter.strip_prefix(&prefix)).map(str::to_owned);
        QuorumError::NotLeader { group: proto::id::GroupId(status.group), leader }.into()
    }

    /// Replicates a command and gives its reply message's bytes.
    pub(crate) async fn propose(
        &self,
        origin: Origin,
        body: Body,
        deadline: Duration,
    ) -> Result<Bytes, WireError> {
        let in_need = body.goes_on_when_full();
        let command = Command::from(body).to_bytes();
        command::parse_answer(match in_need {
            true => self.group.propose_in_need(origin, command, deadline).await?,
            false => self.group.propose(origin, command, deadline).await?,
        })
    }

    /// Replicates a command whose reply is the response.
    pub(crate) async fn change(
        &self,
        origin: Origin,
        body: Body,
        deadline: Duration,
    ) -> Result<Response, WireError> {
        let message = self.propose(origin, body, deadline).await?;
        Ok(Response { message, payload: Bytes::new() })
    }

    /// Chooses where a new file in a directory goes.
    pub(crate) fn place(&self, volume: u64, directory: u64) -> Result<Layout, WireError> {
        let record = volume::live(self.table(), volume)?;
        self.place_as(layout::default_of(self.table(), volume, &record, directory)?.striping)
    }

    /// Likewise for a file that is made already: when no OSD has room, or too few are up, among those that are there.
    pub(crate) fn place_promised(&self, volume: u64, directory: u64) -> Result<Layout, WireError> {
        let record = volume::live(self.table(), volume)?;
        let striping = layout::default_of(self.table(), volume, &record, directory)?.striping;
        let seed = self.leader.next_placement();
        let map = self.cluster.map()?;
        placement::place(&map, striping, seed)
            .or_else(|_| placement::place(&placement::at_their_best(&map), striping, seed))
    }

    /// Chooses where a new file with this striping goes.
    pub(crate) fn place_as(&self, striping: Striping) -> Result<Layout, WireError> {
        placement::place(&*self.cluster.map()?, striping, self.leader.next_placement())
    }

    /// Makes capabilities for a session that are valid from now on, of the epoch that it has now. An expelled session
    /// gets none until it is opened anew.
    pub(crate) fn signer(&self, session: u64) -> Result<Signer, WireError> {
        let (expelled, session_epoch) =
            self.leader.leasing().with(|engine, _| (engine.is_expelled(session), engine.epoch(session)));
        if expelled {
            return Err(leasing::unknown_session(session));
        }
        Ok(Signer { key: self.cluster.key()?, session_epoch, expires_ms: self.capabilities_end_ms() })
    }

    /// What a session needs to use a file's data, and what shows through it. `inode`: as it is now, or as a snapshot shows it.
    pub(crate) fn credentials(
        &self,
        signer: &Signer,
        (volume, session): (u64, u64),
        write: bool,
        inode: &Inode,
    ) -> Result<FileCredentials, WireError> {
        let mut shown = layers::shown(self.table(), volume, inode.top())?.into_iter();
        let top = shown
            .next()
            .ok_or_else(|| WireError::new(Code::Internal, format!("ino-{} shows no data", inode.attr.ino)))?;
        // Such data is never written: who may write the file gets another top first.
        let write = write && !top.layout.is_fixed();
        let capability = signer.capability((volume, top.data), session, write, &top.layout);
        let content = content::of(self.table(), volume, top.data, &top.layout)?;
        let mut bases = Vec::new();
        for below in shown {
            bases.push(Base {
                capability: signer.capability((volume, below.data), session, false, &below.layout),
                content: content::of(self.table(), volume, below.data, &below.layout)?,
                layout: below.layout.for_readers(),
                bytes: below.bytes,
            });
        }
        let truncate_epoch = inode.attr.truncate_epoch;
        let layout = top.layout.for_readers();
        Ok(FileCredentials { capability, layout, bases, truncate_epoch, content })
    }

    /// Ends a session everywhere.
    pub(crate) async fn end_session(&self, id: u64, deadline: Duration) -> Result<(), WireError> {
        if session::exists(self.table(), id)? {
            self.propose(Origin::default(), Body::SessionEnd(SessionEnd { session: id }), deadline).await?;
        }
        self.leader.leasing().close_session(id);
        self.leader.sessions().close_session(id);
        self.leader.wake_all_waiters();
        self.leader.wake_keeper();
        Ok(())
    }
}

/// Signs capabilities.
pub(crate) struct Signer {
    key: CapabilityKey,
    session_epoch: u64,
    expires_ms: u64,
}

impl Signer {
    /// The right to a file's data. A writer may read too: which of both a process may do is its mount's business.
    pub(crate) fn capability(&self, file: FileId, session: u64, write: bool, layout: &Layout) -> Capability {
        self.with_rights(file, session, if write { READ | WRITE } else { READ }, layout)
    }

    /// Any rights.
    pub(crate) fn with_rights(&self, file: FileId, session: u64, rights: u32, layout: &Layout) -> Capability {
        let (volume, ino) = file;
        Capability {
            volume,
            ino,
            rights,
            session,
            session_epoch: self.session_epoch,
            expires_ms: self.expires_ms,
            view: layout.view,
            key: 0,
            layout: layout.digest(),
            signature: Vec::new(),
        }
        .sign(&self.key)
    }
}

impl Service for Mrc {
    fn call(
        self: Arc<Self>,
        _peer: Peer,
        request: Request,
    ) -> BoxFuture<'static, Result<Response, WireError>> {
        Box::pin(async move {
            // The other members' messages are heard to the end.
            if self.stopping() && request.method != Deliver::NUMBER {
                // With whoever leads now as a hint: nothing was done, and nobody has to wait and search.
                return Err(self.not_leader());
            }
            server::dispatch(&self, request).await
        })
    }

    /// What they change goes to the log together.
    fn together<'a>(
        &'a self,
        begin_all: BoxFuture<'a, std::io::Result<()>>,
    ) -> BoxFuture<'a, std::io::Result<()>> {
        Box::pin(self.group.together(begin_all))
    }
}
