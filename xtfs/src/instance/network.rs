//! Servers in network namespaces: each has an address of its own, so that one can be cut off from the others.
//!
//! Made by `xtfs chaos` (`chaos/net.rs`), entered by the launcher when it starts a service. Server number N of every role
//! stands on host N, as it would in a small cluster.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::{Instance, Service};
use crate::failure::Failure;

/// Bits of an address that all have in common.
pub(crate) const PREFIX_LEN: u8 = 16;

/// Of a server in its network; clients have none of their own.
pub(crate) fn address(role: &str, index: u32) -> Option<Ipv4Addr> {
    let last = match role {
        "dir" => 1,
        "mrc" => 2,
        "osd" => 3,
        _ => return None,
    };
    Some(Ipv4Addr::new(10, 73, u8::try_from(index + 1).ok()?, last))
}

/// Of whoever stands outside of all hosts: launcher, mount, commands.
pub(crate) fn outside() -> Ipv4Addr {
    Ipv4Addr::new(10, 73, 0, 1)
}

/// The namespace of a service, where `ip netns` keeps it.
pub(crate) fn path(network: &str, service: &str) -> PathBuf {
    Path::new("/run/netns").join(format!("{network}-{service}"))
}

/// Opens the namespace in which a service has to run; `None` when it runs where the launcher does.
pub(crate) fn open(instance: &Instance, service: &Service) -> Result<Option<File>, Failure> {
    let Some(network) = instance.network.as_ref().filter(|_| address(&service.role, 0).is_some()) else {
        return Ok(None);
    };
    let path = path(network, &service.name);
    let missing = |error| {
        Failure::new(format!("network namespace {} of {}", path.display(), service.name), error)
            .next("it was made by an `xtfs chaos` that has ended; run `xtfs chaos` again with another --out")
    };
    File::open(&path).map(Some).map_err(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_one_number_share_a_host_and_no_address() {
        assert_eq!(address("mrc", 2), Some(Ipv4Addr::new(10, 73, 3, 2)));
        assert_eq!(address("osd", 300), None);
        assert_eq!(address("mount", 0), None);
        assert_eq!(path("xtfs-7", "osd-1"), Path::new("/run/netns/xtfs-7-osd-1"));
    }
}
