//! The mount of a `--separate` instance: mounted by the launcher, served by the mount process.

use std::os::fd::OwnedFd;

use crate::failure::Failure;
use crate::instance::Instance;
use crate::roles::mount;

/// A mounted FUSE descriptor.
pub(crate) struct FuseMount {
    /// `/dev/fuse`, connected to the mount.
    pub(crate) descriptor: OwnedFd,
    /// What the mount process said once it had shaken hands with the kernel; a successor must not do so again.
    pub(crate) state: Option<String>,
}

impl FuseMount {
    /// Mounts. Nobody serves it yet: whoever looks inside waits.
    pub(crate) fn new(instance: &Instance) -> Result<Self, Failure> {
        let mut options = mount::options(&instance.addrs("dir"), &instance.volume, "")?;
        options.survivable = true;
        let descriptor = client::fuse::mount::attach(&instance.mount, &options)
            .map_err(|error| Failure::new(format!("mounting volume {:?}", instance.volume), error))?;
        Ok(Self { descriptor, state: None })
    }
}
