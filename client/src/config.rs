//! What a client is told by its owner: where the DIR is, how long to try, and on whose behalf it acts.

use std::sync::Arc;
use std::time::Duration;

use proto::limits::DEADLINE_DEFAULT_MS;
use proto::mrc::Head;
use rt::clock::{Clock, SystemClock};
use rt::rpc::Connector;

/// How long an operation is tried before the caller hears of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// This long, then the last error.
    For(Duration),
    /// For ever: a mount stalls while a service is away and then goes on.
    Forever,
}

impl Default for Patience {
    fn default() -> Self {
        Self::For(Duration::from_millis(DEADLINE_DEFAULT_MS))
    }
}

/// How to make a client.
#[derive(Clone)]
pub struct ClientConfig {
    /// Addresses of all DIR members.
    pub dir_addrs: Vec<String>,
    /// Makes channels; one per process.
    pub connector: Arc<Connector>,
    /// The only source of time.
    pub clock: Arc<dyn Clock>,
    /// For people, in session lists and reports: `mount host:/path pid`.
    pub name: String,
    /// How long to try.
    pub patience: Patience,
    /// Whether answers are kept under leases. Who reads everything once gains nothing by it, and when it is killed a new leader
    /// would wait for it.
    pub leases: bool,
}

impl ClientConfig {
    /// A client with its own connector, the machine's clock and the default patience.
    #[must_use]
    pub fn new(dir_addrs: Vec<String>, name: impl Into<String>) -> Self {
        Self {
            dir_addrs,
            connector: Connector::new(),
            clock: SystemClock::new(),
            name: name.into(),
            patience: Patience::default(),
            leases: true,
        }
    }
}

/// On whose behalf an operation is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creds {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Permissions have been checked already (by the kernel); the MRC then checks only what a kernel cannot.
    pub checked: bool,
    /// Taken out of the mode of what is made, unless the directory has a default access control list.
    pub umask: u32,
}

impl Creds {
    /// A user without supplementary groups; the MRC checks permissions.
    #[must_use]
    pub fn new(uid: u32, gid: u32) -> Self {
        Self { uid, gid, groups: Vec::new(), checked: false, umask: 0 }
    }

    /// The superuser.
    #[must_use]
    pub fn root() -> Self {
        Self::new(0, 0)
    }

    /// A caller whose kernel has checked permissions.
    #[must_use]
    pub fn checked(uid: u32, gid: u32) -> Self {
        Self { checked: true, ..Self::new(uid, gid) }
    }

    /// Whether what is kept under leases may be shown without asking the MRC for permission.
    pub(crate) fn may_use_kept(&self) -> bool {
        self.checked || self.uid == 0
    }

    pub(crate) fn head(&self, volume: u64, session: u64) -> Head {
        Head {
            volume,
            session,
            uid: self.uid,
            gid: self.gid,
            groups: self.groups.clone(),
            permission_checked: self.checked,
            snapshot: 0,
        }
    }
}
