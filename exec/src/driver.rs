//! The only loop: takes what happened, asks the engine, has the effects carried out, feeds results back.

mod follow_news;
mod launch;
mod perform;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rt::clock::Clock;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::engine::{Engine, Event};
use crate::id::JobId;
use crate::spool::control::Wishes;
use crate::spool::recover::Found;
use crate::spool::scan::{Presence, Scan};
use crate::spool::{Hands, Settings};
use crate::store::{SpoolStore, StoreError};
use launch::Supervision;

/// What exec is told.
#[derive(Clone)]
pub struct ExecConfig {
    /// The file system.
    pub store: Arc<dyn SpoolStore>,
    /// Where jobs and supervisors see the same file system.
    pub mount: PathBuf,
    /// This node's name.
    pub node: String,
    /// Slots for jobs; the node's processors as a rule.
    pub cores: u32,
    /// Command that starts a supervisor: program and leading arguments, such as `/usr/bin/xtfs __supervise`.
    pub supervise: Vec<String>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Between looks into `new/` while something happens.
    pub poll_busy: Duration,
    /// Between looks while nothing happens.
    pub poll_idle: Duration,
    /// Where supervisors keep exit records while the file system is away.
    pub data_dir: PathBuf,
    /// Make spools for root and all people of the host, not only for this process's user.
    pub make_user_dirs: bool,
    /// Live jobs at most; more wait in `new/`.
    pub live_max: usize,
    /// How long a silent manager keeps the spool.
    pub lease_ttl: Duration,
}

impl ExecConfig {
    /// Defaults for everything that has one.
    pub fn new(store: Arc<dyn SpoolStore>, mount: PathBuf, supervise: Vec<String>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
        let node = nix::unistd::gethostname()
            .ok()
            .and_then(|n| n.into_string().ok())
            .unwrap_or_else(|| "node".into());
        Self {
            store,
            mount,
            node,
            cores,
            supervise,
            clock: rt::clock::SystemClock::new(),
            poll_busy: Duration::from_millis(200),
            poll_idle: Duration::from_secs(1),
            data_dir: PathBuf::from("/var/tmp/xtfs-exec"),
            make_user_dirs: true,
            live_max: 10_000,
            lease_ttl: Duration::from_secs(10),
        }
    }
}

/// What exec says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExecStatus {
    /// It is the manager (has the lease).
    pub active: bool,
    /// Its epoch.
    pub epoch: u64,
    /// Live jobs.
    pub live: usize,
    /// Of these, how many hold slots.
    pub slots_used: u32,
    /// Slots.
    pub slots: u32,
    /// Jobs that ended since the start.
    pub ended: u64,
    /// What goes wrong, if something does.
    pub trouble: Option<String>,
}

/// Why exec could not be started.
#[derive(Debug, thiserror::Error)]
#[error("exec: {0}")]
pub struct ExecError(String);

/// A running manager.
#[derive(Debug)]
pub struct Exec {
    stop: watch::Sender<bool>,
    status: Arc<Mutex<ExecStatus>>,
    task: JoinHandle<()>,
}

impl Exec {
    /// Starts serving the spool in the background. Jobs of an earlier manager are taken over.
    pub async fn start(config: ExecConfig) -> Result<Self, ExecError> {
        if config.supervise.is_empty() {
            return Err(ExecError("no supervise command is configured".into()));
        }
        let (stop, stopped) = watch::channel(false);
        let status = Arc::new(Mutex::new(ExecStatus::default()));
        let shared = status.clone();
        let task = tokio::spawn(async move { serve(config, stopped, &shared).await });
        Ok(Self { stop, status, task })
    }

    /// What it says of itself.
    pub fn status(&self) -> ExecStatus {
        self.status.lock().clone()
    }

    /// Stops serving: finishes what is under way and gives the lease up. Jobs run on; the next manager takes them over.
    pub async fn shutdown(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

/// Why a term as manager ended.
enum TermEnd {
    Stopped,
    Fenced,
}

async fn serve(config: ExecConfig, mut stop: watch::Receiver<bool>, status: &Arc<Mutex<ExecStatus>>) {
    let settings = Settings {
        mount: config.mount,
        node: config.node,
        cores: config.cores.max(1),
        supervise: config.supervise,
        data_dir: config.data_dir,
        make_user_dirs: config.make_user_dirs,
        live_max: config.live_max.max(1),
        lease_ttl: config.lease_ttl,
    };
    let polls = (config.poll_busy, config.poll_idle);
    loop {
        let hands = Arc::new(Hands {
            store: config.store.clone(),
            clock: config.clock.clone(),
            set: settings.clone(),
            lease: Default::default(),
            log_ends: Mutex::default(),
            accounts: Mutex::default(),
            told_waiting: Mutex::default(),
            privileged: nix::unistd::geteuid().is_root(),
        });
        let term = async {
            hands.make_spool().await?;
            hands.acquire_lease().await
        };
        let epoch = tokio::select! {
            epoch = term => epoch,
            _ = stop.changed() => return,
        };
        match epoch {
            Ok(epoch) => {
                tracing::info!(epoch, node = settings.node, "serving the spool");
                let driver = Driver::new(hands.clone(), epoch, polls, status.clone());
                match driver.run(&mut stop).await {
                    TermEnd::Stopped => {
                        hands.release_lease().await;
                        status.lock().active = false;
                        return;
                    }
                    TermEnd::Fenced => status.lock().active = false,
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the spool cannot be served yet");
                status.lock().trouble = Some(error.to_string());
            }
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            _ = stop.changed() => return,
        }
    }
}

/// What a task brings back.
enum Done {
    Event(Box<Event>),
    /// An attempt to be followed to its end, by its supervisor's report pipe if that is ours.
    Follow {
        job: JobId,
        attempt: u32,
        supervision: Option<Supervision>,
    },
    Scan(Result<Scan, StoreError>),
    Presence {
        result: Result<Presence, StoreError>,
        before: BTreeSet<JobId>,
        began: Duration,
    },
    Wishes {
        job: JobId,
        wishes: Wishes,
    },
    Answered {
        job: JobId,
        file: String,
    },
    Moved(JobId),
    Found(Box<Found>),
    Renewed(Result<(), StoreError>),
    Fenced(u64),
    Nothing,
}

impl Done {
    fn event(event: Event) -> Self {
        Done::Event(Box::new(event))
    }
}

struct Driver {
    hands: Arc<Hands>,
    engine: Engine,
    status: Arc<Mutex<ExecStatus>>,
    poll_busy: Duration,
    poll_idle: Duration,
    /// Work that is waited for at shutdown.
    tasks: JoinSet<Vec<Done>>,
    /// Waits for supervisors; dropped at shutdown.
    follows: JoinSet<Vec<Done>>,
    /// Descriptors being moved by us, and when the last move of each ended.
    moving: BTreeSet<JobId>,
    moved: BTreeMap<JobId, Duration>,
    /// Control files handed to the engine and not yet consumed.
    wished: BTreeSet<(JobId, String)>,
    /// Names in `run/` without a live job at the last look.
    strangers: BTreeSet<JobId>,
    /// A claim ended half-way at this time: until a look after it shows that all is well, `run/` may hold what no job knows.
    half_claimed: Option<Duration>,
    clocks: Clocks,
    scanning: bool,
    looking: bool,
    renewing: bool,
    busy: bool,
    ended: u64,
    wish_cursor: Option<JobId>,
    fenced: bool,
    /// Users whose `status` file says this.
    told_users: BTreeMap<String, String>,
    users: Vec<String>,
    /// The change stream works: looks are for what it cannot tell, and for safety.
    watching: bool,
    /// Something happened in `new/` during a look.
    look_again: bool,
}

/// When the periodic things are due, monotonic.
#[derive(Default)]
struct Clocks {
    scan: Duration,
    presence: Duration,
    wishes: Duration,
    lease: Duration,
    status: Duration,
    user_status: Duration,
}

/// The loop's heartbeat, and while there is nothing to look after but the change stream, which wakes it.
const TICK: Duration = Duration::from_millis(50);
const TICK_IDLE: Duration = Duration::from_millis(250);
/// How long a stopping manager waits for what is under way.
const DRAIN: Duration = Duration::from_secs(5);

impl Driver {
    fn new(
        hands: Arc<Hands>,
        epoch: u64,
        (poll_busy, poll_idle): (Duration, Duration),
        status: Arc<Mutex<ExecStatus>>,
    ) -> Self {
        let engine = Engine::new(&hands.set.node, epoch, hands.set.cores);
        Self {
            hands,
            engine,
            status,
            poll_busy,
            poll_idle,
            tasks: JoinSet::new(),
            follows: JoinSet::new(),
            moving: BTreeSet::new(),
            moved: BTreeMap::new(),
            wished: BTreeSet::new(),
            strangers: BTreeSet::new(),
            half_claimed: None,
            clocks: Clocks::default(),
            scanning: false,
            looking: false,
            renewing: false,
            busy: true,
            ended: 0,
            wish_cursor: None,
            fenced: false,
            told_users: BTreeMap::new(),
            users: Vec::new(),
            watching: false,
            look_again: false,
        }
    }

    async fn run(mut self, stop: &mut watch::Receiver<bool>) -> TermEnd {
        if let Err(error) = self.recover_all().await {
            tracing::warn!(%error, "taking over live jobs; trying again");
            return TermEnd::Fenced;
        }
        let (tell, mut news) = mpsc::channel(follow_news::QUEUE);
        let mut follower = JoinSet::new();
        follower.spawn(follow_news::run(self.hands.clone(), tell));
        let mut next = tokio::time::Instant::now();
        while !self.fenced {
            tokio::select! {
                Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => self.take(done),
                Some(done) = self.follows.join_next(), if !self.follows.is_empty() => self.take(done),
                Some(news) = news.recv() => self.on_news(news),
                () = tokio::time::sleep_until(next) => {
                    self.on_tick();
                    next = tokio::time::Instant::now() + self.until_next_tick();
                }
                _ = stop.changed() => break,
            }
            // What came in between may have to be looked after soon.
            next = next.min(tokio::time::Instant::now() + self.until_next_tick());
        }
        drop(follower);
        self.follows.abort_all();
        if self.fenced {
            self.tasks.abort_all();
            return TermEnd::Fenced;
        }
        let drain = async {
            while let Some(done) = self.tasks.join_next().await {
                // Records written on the way out are found by the next manager; nothing new is begun.
                drop(done);
            }
        };
        if tokio::time::timeout(DRAIN, drain).await.is_err() {
            tracing::warn!("some work was under way for more than {DRAIN:?} and is left to the next manager");
        }
        TermEnd::Stopped
    }

    fn until_next_tick(&self) -> Duration {
        if self.watching && !self.look_again && self.engine.live() == 0 { TICK_IDLE } else { TICK }
    }

    /// Reads back every job that an earlier manager left.
    async fn recover_all(&mut self) -> Result<(), StoreError> {
        let users = self.hands.users().await?;
        let live = self.hands.live_names(&users).await?;
        let count = live.len();
        for (user, file, id) in live {
            match self.hands.recover(&user, &file, &id).await {
                Ok(Some(found)) => self.on_found(found),
                Ok(None) => {}
                Err(error) => tracing::warn!(job = %id, %error, "taking over a job; it stays as it is"),
            }
        }
        if count > 0 {
            tracing::info!(jobs = count, "took over live jobs");
        }
        Ok(())
    }

    fn on_found(&mut self, found: Found) {
        let Found { facts, records, evidence } = found;
        self.feed(Event::Recovered { facts, records, evidence });
    }

    fn take(&mut self, done: Result<Vec<Done>, tokio::task::JoinError>) {
        match done {
            Ok(all) => all.into_iter().for_each(|done| self.on_done(done)),
            Err(error) if error.is_cancelled() => {}
            Err(error) => tracing::error!(%error, "a task of exec failed"),
        }
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Event(event) => {
                if let Event::Published { job } = event.as_ref() {
                    self.ended += 1;
                    self.hands.log_ends.lock().remove(job);
                    self.moved.remove(job);
                    self.wished.retain(|(id, _)| id != job);
                }
                self.feed(*event);
            }
            Done::Follow { job, attempt, supervision } => self.follow(job, attempt, supervision),
            Done::Scan(result) => self.on_scan(result),
            Done::Presence { result, before, began } => self.on_presence(result, &before, began),
            Done::Wishes { job, wishes } => self.on_wishes(&job, wishes),
            Done::Answered { job, file } => {
                self.wished.remove(&(job, file));
            }
            Done::Moved(job) => {
                self.moving.remove(&job);
                self.moved.insert(job, self.hands.clock.monotonic());
            }
            Done::Found(found) => self.on_found(*found),
            Done::Renewed(result) => {
                self.renewing = false;
                if let Err(error) = result {
                    tracing::warn!(%error, "renewing the lease");
                }
            }
            Done::Fenced(epoch) => {
                if !std::mem::replace(&mut self.fenced, true) {
                    tracing::warn!(epoch, "another exec took over the spool; this one stands by");
                }
            }
            Done::Nothing => {}
        }
    }

    /// One event through the engine, and its effects on their way.
    fn feed(&mut self, event: Event) {
        let now = self.hands.now_ms();
        for effect in self.engine.handle(event, now) {
            self.perform(effect);
        }
    }
}
