//! One client per process: the DIR, the OSD map, a session with each metadata group, and the volumes it uses.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use proto::dir::{ListVolumes, VolumeEntry, Volumes};
use proto::error::{Code, WireError};
use proto::mrc::{RenewSession, SessionClose};

use crate::config::{ClientConfig, Patience};
use crate::error::Result;
use crate::lease::Leasing;
use crate::remote::{Group, Osds, Session};
use crate::stage::Stage;
use crate::stage::replay::Predecessor;
use crate::volume::Volume;

/// How long what an earlier process acknowledged waits for room when its kernel side is gone.
const LAST_ROOM: Duration = Duration::from_secs(60);
/// How long the end of an earlier process's session may take.
const END_PREDECESSOR: Duration = Duration::from_secs(5);
/// How often it is looked whether a metadata group has to be found again.
const FIND_AGAIN: Duration = Duration::from_secs(2);

/// A connection to an instance.
pub struct Client {
    config: ClientConfig,
    dir: Arc<Group>,
    osds: Arc<Osds>,
    /// order: a leaf. By metadata group.
    sessions: Mutex<BTreeMap<u64, Arc<Session>>>,
}

impl Client {
    /// Connects: reads the OSD map and keeps following it. Needs a tokio runtime, on which it stays.
    pub async fn connect(config: ClientConfig) -> Result<Arc<Self>> {
        if config.dir_addrs.is_empty() {
            return Err(WireError::new(
                Code::InvalidArgument,
                "no DIR address; set XTFS_DIR or name the volume as xtfs://HOST/VOLUME",
            ));
        }
        let (connector, clock) = (config.connector.clone(), config.clock.clone());
        let dir =
            Group::new("DIR", config.dir_addrs.clone(), connector.clone(), clock.clone(), config.patience);
        let osds = Osds::new(connector, clock, dir.clone(), config.name.clone());
        osds.refresh().await?;
        osds.watch();
        Ok(Arc::new(Self { config, dir, osds, sessions: Mutex::new(BTreeMap::new()) }))
    }

    /// How it was made.
    #[must_use]
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// The DIR, for tools that ask it directly.
    #[must_use]
    pub fn dir(&self) -> &Arc<Group> {
        &self.dir
    }

    /// The OSD map and calls to OSDs.
    #[must_use]
    pub fn osds(&self) -> &Arc<Osds> {
        &self.osds
    }

    /// All volumes.
    pub async fn volumes(&self) -> Result<Vec<VolumeEntry>> {
        Ok(self.dir.call::<Volumes>(&ListVolumes { name: String::new() }).await?.volumes)
    }

    /// The OSD map as the DIR has it now.
    pub async fn osd_map(&self) -> Result<proto::dir::OsdMap> {
        self.dir.call::<proto::dir::Map>(&proto::dir::GetMap::default()).await
    }

    /// The OSD map when it is another one than that of `known_epoch`, or after `wait`.
    pub async fn osd_map_after(
        &self,
        known_epoch: u64,
        wait: std::time::Duration,
    ) -> Result<proto::dir::OsdMap> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let request = proto::dir::GetMap { known_epoch, wait_ms, ..proto::dir::GetMap::default() };
        self.dir.call::<proto::dir::Map>(&request).await
    }

    /// A volume by name.
    pub async fn volume(self: &Arc<Self>, name: &str) -> Result<Arc<Volume>> {
        let list = self.dir.call::<Volumes>(&ListVolumes { name: name.to_owned() }).await?;
        let entry = list.volumes.into_iter().find(|volume| volume.name == name && !volume.removed);
        let entry = entry.ok_or_else(|| {
            WireError::new(
                Code::NotFound,
                format!("volume {name:?} does not exist; see `xtfs ls`, make it with `xtfs mkfs`"),
            )
        })?;
        let session = self.session(&entry).await?;
        Ok(Volume::new(self.clone(), entry, session))
    }

    async fn session(self: &Arc<Self>, entry: &VolumeEntry) -> Result<Arc<Session>> {
        let known = self.sessions.lock().get(&entry.mrc.group).cloned();
        if let Some(session) = known {
            session.group().set_addrs(entry.mrc.addrs.clone());
            return Ok(session);
        }
        let (connector, clock) = (self.config.connector.clone(), self.config.clock.clone());
        let what = format!("MRC group-{}", entry.mrc.group);
        let group = Group::new(what, entry.mrc.addrs.clone(), connector, clock, self.config.patience);
        let session = self.new_session(random_id(), group);
        session.reopen().await?;
        let session = self
            .sessions
            .lock()
            .entry(entry.mrc.group)
            .or_insert_with(|| {
                session.keep_alive();
                if self.config.leases {
                    Leasing::start(&session);
                }
                tokio::spawn(keep_finding(session.group().clone(), entry.name.clone(), Arc::downgrade(self)));
                session
            })
            .clone();
        if self.config.leases {
            session.leasing().decided().await;
        }
        Ok(session)
    }

    fn new_session(&self, id: u64, group: Arc<Group>) -> Arc<Session> {
        let config = &self.config;
        Session::new(id, random_id(), config.name.clone(), group, config.clock.clone(), config.patience)
    }

    /// The same volume within the session of an earlier process, so that its handles and locks live on.
    /// What that one had acknowledged and not written out yet is written first.
    pub(crate) async fn take_up(
        self: &Arc<Self>,
        volume: &Volume,
        session: u64,
        stage: Option<&Arc<Stage>>,
    ) -> Result<Arc<Volume>> {
        let group = volume.session().group().clone();
        let session = self.new_session(session, group);
        let left = stage.map(Predecessor::of).transpose().map_err(unreadable)?;
        if let Some(left) = &left {
            left.prepare(&session);
        }
        if !session.take_up().await? {
            tracing::warn!(
                "the earlier process's session is over: its locks and unlinked open files are gone"
            );
        }
        session.keep_alive();
        let taken = Volume::new(self.clone(), volume.entry().clone(), session.clone());
        if let Some(left) = left {
            // Before anything is returned: its leases keep others away from what is to be written.
            left.replay(&taken).await.map_err(unreadable)?.report().await;
            session.leasing().assume_nothing();
        }
        Leasing::start(&session);
        session.leasing().decided().await;
        let fresh = self.sessions.lock().insert(volume.entry().mrc.group, session);
        if let Some(fresh) = fresh {
            let _ = fresh.end().await;
        }
        Ok(taken)
    }

    /// Writes out what an earlier process of a mount left whose kernel side is gone too, in its session, and ends that.
    /// That session, if there was something.
    pub(crate) async fn replay(
        self: &Arc<Self>,
        volume: &Volume,
        stage: &Arc<Stage>,
    ) -> std::io::Result<Option<u64>> {
        let left = Predecessor::of(stage)?;
        let Some(id) = left.session() else { return Ok(None) };
        let session = self.new_session(id, volume.session().group().clone());
        left.prepare(&session);
        session.reopen().await.map_err(|error| std::io::Error::other(error.to_string()))?;
        session.keep_alive();
        let old = Volume::new(self.clone(), volume.entry().clone(), session.clone());
        let written = left.replay(&old).await?;
        // Until its session has ended, who asks for these files waits. A new leader may let us wait for others.
        tokio::spawn(async move {
            written.report().await;
            let pieces = old.placed(LAST_ROOM).await;
            if pieces > 0 {
                tracing::error!(
                    pieces,
                    "writes that an earlier process acknowledged found no room and are lost"
                );
            }
            if let Err(error) = session.end().await {
                tracing::debug!(%error, "the session of an earlier process was not ended; it will run out");
            }
            drop(old);
        });
        Ok(Some(id))
    }

    /// Ends the session of an earlier process, which is surely dead and left nothing that is still wanted: else a new leader waits
    /// for it until its leases have run out.
    pub async fn end_predecessor(&self, volume: &Volume, session: u64) {
        if session == 0 || session == volume.session().id() {
            return;
        }
        let (request, patience) = (RenewSession { session }, Patience::For(END_PREDECESSOR));
        let group = volume.session().group();
        if let Err(error) = group.call_for::<SessionClose>(&request, patience, Duration::ZERO).await.0 {
            tracing::debug!(%error, "the session of an earlier process was not ended; it will run out");
        }
    }

    /// Ends all sessions at once instead of letting them run out.
    pub async fn shutdown(&self) {
        let sessions: Vec<_> = std::mem::take(&mut *self.sessions.lock()).into_values().collect();
        for session in sessions {
            if let Err(error) = session.end().await {
                tracing::debug!(%error, "a session was not ended; it will run out");
            }
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.config.clock.unix()
    }
}

fn unreadable(error: std::io::Error) -> WireError {
    WireError::new(
        Code::Io,
        format!("what an earlier process of this mount staged cannot be dealt with: {error}"),
    )
}

/// Asks the DIR where a volume's metadata is served while nobody answers: a client that heard nothing for long may know
/// none of the members that there are now.
async fn keep_finding(group: Arc<Group>, volume: String, client: Weak<Client>) {
    loop {
        tokio::time::sleep(FIND_AGAIN).await;
        let Some(dir) = client.upgrade().map(|client| client.dir.clone()) else { return };
        if !group.is_lost() {
            continue;
        }
        let ask = ListVolumes { name: volume.clone() };
        let patience = Patience::For(FIND_AGAIN);
        match dir.call_for::<Volumes>(&ask, patience, Duration::ZERO).await.0 {
            Ok(list) => {
                let entry = list.volumes.into_iter().find(|entry| entry.name == volume);
                group.set_addrs(entry.map(|entry| entry.mrc.addrs).unwrap_or_default());
            }
            Err(error) => tracing::debug!(%error, volume, "the DIR does not say who serves its metadata"),
        }
    }
}

/// 64 random bits, not 0.
fn random_id() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // RandomState is seeded by the operating system and differs for each call.
    (0u64..)
        .map(|salt| RandomState::new().hash_one((salt, std::process::id())))
        .find(|id| *id != 0)
        .unwrap_or(1)
}
