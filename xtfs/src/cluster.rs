//! Typed calls to the services of a cluster, for tools: finds the leader of a group, waits, gives up in time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::Patience;
use client::remote::Group;
use proto::dir::{GroupStatus, ListVolumes, OsdMap, ServiceList, VolumeEntry};
use proto::error::{Code, WireError};
use proto::mrc::Head;
use proto::rpc::{Empty, Method, Origin};
use rand::Rng;
use rt::clock::{Clock, SystemClock};
use rt::rpc::{CallOptions, Connector};

use crate::failure::Failure;

/// How long a member may take to tell its Raft state.
const STATUS_PATIENCE: Duration = Duration::from_millis(700);

/// A cluster, known by its DIR services.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) connector: Arc<Connector>,
    /// RPC addresses of the DIR services.
    pub(crate) dirs: Vec<String>,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl Cluster {
    /// Does not connect yet.
    pub(crate) fn new(connector: Arc<Connector>, dirs: Vec<String>, timeout: Duration) -> Self {
        Self { connector, dirs, timeout, clock: SystemClock::new() }
    }

    /// Calls the leader of the group with these members; a mutation's message carries its origin, so that the
    /// same message may be sent again.
    pub(crate) async fn call<M: Method>(
        &self,
        members: &[String],
        message: &M::Request,
    ) -> Result<M::Reply, WireError> {
        let patience = Patience::For(self.timeout);
        let group =
            Group::new("the service", members.to_vec(), self.connector.clone(), self.clock.clone(), patience);
        // A member that hangs must not use up more than the whole patience.
        tokio::time::timeout(self.timeout, group.call::<M>(message)).await.unwrap_or_else(|_| {
            let text = format!("none of {} answered {} in time", members.join(", "), M::NAME);
            Err(WireError::new(Code::DeadlineExceeded, text))
        })
    }

    /// Calls the service at one address, once.
    pub(crate) async fn call_one<M: Method>(
        &self,
        address: &str,
        message: &M::Request,
        deadline: Duration,
    ) -> Result<M::Reply, WireError> {
        let channel = self.connector.channel(address)?;
        let options = CallOptions { deadline, ..CallOptions::default() };
        let call = rt::rpc::call_with::<M>(&*channel, message, Bytes::new(), &options);
        match tokio::time::timeout(deadline, call).await {
            Ok(answer) => Ok(answer?.0),
            Err(_) => Err(WireError::new(
                Code::DeadlineExceeded,
                format!("{address} did not answer {} within {} ms", M::NAME, deadline.as_millis()),
            )),
        }
    }

    /// Calls the DIR.
    pub(crate) async fn dir<M: Method>(&self, what: &str, message: &M::Request) -> Result<M::Reply, Failure> {
        self.call::<M>(&self.dirs, message).await.map_err(|error| self.explain(what, &error))
    }

    /// Calls a volume's metadata group.
    pub(crate) async fn mrc<M: Method>(
        &self,
        what: &str,
        volume: &VolumeEntry,
        message: &M::Request,
    ) -> Result<M::Reply, Failure> {
        self.call::<M>(&volume.mrc.addrs, message).await.map_err(|error| Failure::wire(what, &error))
    }

    fn explain(&self, what: &str, error: &WireError) -> Failure {
        let failure = Failure::wire(what, error);
        if failure.status == 3 {
            return failure.next(format!(
                "is the DIR at {} up? --dir HOST[:PORT] or XTFS_DIR names another one",
                self.dirs.join(", ")
            ));
        }
        failure
    }

    /// The volume of that name.
    pub(crate) async fn volume(&self, name: &str) -> Result<VolumeEntry, Failure> {
        let what = format!("volume {name:?}");
        let list = self.dir::<proto::dir::Volumes>(&what, &ListVolumes { name: name.to_owned() }).await?;
        list.volumes.into_iter().find(|volume| volume.name == name && !volume.removed).ok_or_else(|| {
            Failure::new(what, format!("the DIR at {} knows no volume of that name", self.dirs.join(", ")))
                .next("`xtfs ls` lists them, `xtfs mkfs` makes one")
        })
    }

    /// All volumes.
    pub(crate) async fn volumes(&self) -> Result<Vec<VolumeEntry>, Failure> {
        let list = self.dir::<proto::dir::Volumes>("listing volumes", &ListVolumes::default()).await?;
        Ok(list.volumes.into_iter().filter(|volume| !volume.removed).collect())
    }

    /// The OSD map.
    pub(crate) async fn map(&self) -> Result<OsdMap, Failure> {
        self.dir::<proto::dir::Map>("reading the OSD map", &proto::dir::GetMap::default()).await
    }

    /// Registered services.
    pub(crate) async fn services(&self) -> Result<ServiceList, Failure> {
        self.dir::<proto::dir::Services>("listing services", &Empty {}).await
    }

    /// The Raft state of one member; the error says why it is not known.
    pub(crate) async fn group(&self, address: &str) -> Result<GroupStatus, WireError> {
        self.call_one::<proto::dir::Group>(address, &Empty {}, STATUS_PATIENCE).await
    }
}

/// An origin for one mutation of a tool: a session of its own with a single sequence number.
pub(crate) fn once() -> Origin {
    Origin { session: rand::rng().random_range(1..=u64::MAX), sequence: 1, acked_below: 0 }
}

/// The head of requests that a tool sends in the name of whoever runs it.
pub(crate) fn head(volume: u64) -> Head {
    let groups = nix::unistd::getgroups().unwrap_or_default();
    Head {
        volume,
        session: 0,
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        groups: groups.into_iter().map(nix::unistd::Gid::as_raw).collect(),
        permission_checked: false,
        snapshot: 0,
    }
}
