//! The configuration of each service of an instance: what a process gets as its file, and `up` in one process as it is.

use super::{Home, Instance, Service};
use crate::config::{DirFile, ExecFile, MountFile, MrcFile, OsdFile, RmsFile};

macro_rules! file {
    ($kind:ident, $home:ident, $service:ident, { $($field:ident: $value:expr),* $(,)? }) => {
        #[allow(clippy::needless_update, reason = "some kinds have no field left to default")]
        $kind {
            uuid: $service.uuid.clone(),
            name: $service.name.clone(),
            data: $home.state(&$service.name),
            listen: $service.listen().to_owned(),
            http: $service.http.clone(),
            advertise: $service.addr.clone(),
            $($field: $value,)*
            ..$kind::default()
        }
    };
}

pub(crate) fn dir(home: &Home, instance: &Instance, service: &Service) -> DirFile {
    file!(DirFile, home, service, { members: instance.addrs("dir"), join: service.join, mrcs: instance.addrs("mrc") })
}

pub(crate) fn mrc(home: &Home, instance: &Instance, service: &Service) -> MrcFile {
    file!(MrcFile, home, service, { dir: instance.addrs("dir"), members: instance.addrs("mrc"), join: service.join })
}

/// Every OSD of an instance on one machine is its own failure domain: replicas may go to any two.
pub(crate) fn osd(home: &Home, instance: &Instance, service: &Service) -> OsdFile {
    let sharers = u32::try_from(instance.addrs("osd").len()).unwrap_or(1).max(1);
    file!(OsdFile, home, service, { dir: instance.addrs("dir"), domain: service.name.clone(), sharers: sharers })
}

pub(crate) fn exec(home: &Home, instance: &Instance, service: &Service) -> ExecFile {
    let (volume, mount) = (instance.volume.clone(), instance.mount.clone());
    file!(ExecFile, home, service, { dir: instance.addrs("dir"), volume: volume, mount: mount })
}

pub(crate) fn rms(home: &Home, instance: &Instance, service: &Service) -> RmsFile {
    // For tests: how long a file has to be unchanged before it is erasure-coded.
    let quiet = std::env::var("XTFS_EC_QUIET_MS").ok().and_then(|text| text.parse().ok());
    let ec_quiet_ms = quiet.unwrap_or(RmsFile::default().ec_quiet_ms);
    file!(RmsFile, home, service, { dir: instance.addrs("dir"), ec_quiet_ms: ec_quiet_ms })
}

pub(crate) fn mount(home: &Home, instance: &Instance, service: &Service) -> MountFile {
    let (volume, mountpoint) = (instance.volume.clone(), instance.mount.clone());
    file!(MountFile, home, service, { dir: instance.addrs("dir"), volume: volume, mountpoint: mountpoint })
}
