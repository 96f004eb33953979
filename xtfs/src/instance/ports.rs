//! Loopback ports: chosen free once, kept in the instance.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};

use rand::Rng;

use crate::failure::Failure;

/// Below the range from which the kernel takes ports of outgoing connections, so that a kept port stays free.
const RANGE: std::ops::Range<u16> = 20_000..30_000;

/// Whether nobody listens on the port.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A free port that is not in `taken`; it is added there.
pub(crate) fn choose(taken: &mut BTreeSet<u16>) -> Result<u16, Failure> {
    let mut rng = rand::rng();
    for _ in 0..1000 {
        let port = rng.random_range(RANGE);
        if !taken.contains(&port) && is_free(port) {
            taken.insert(port);
            return Ok(port);
        }
    }
    Err(Failure::new("choosing a loopback port", format!("none was free in {RANGE:?} after 1000 tries")))
}

/// The port of `host:port` or `tcp://host:port`; 0 when there is none.
pub(crate) fn of(address: &str) -> u16 {
    address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(0)
}
