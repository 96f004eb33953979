//! From addresses to channels: `local://name`, `tcp://host:port`, `tls://host:port`, `sim://node`.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use proto::error::{Code, WireError};

use super::local::LocalChannel;
use super::tcp::TcpChannel;
use super::{Channel, Service};
use crate::tls::TlsIdentity;

/// A parsed address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// A service of this process.
    Local(String),
    /// Plain TCP, `host:port`.
    Tcp(String),
    /// TLS 1.3 with mutual certificates, `host:port`.
    Tls(String),
}

impl Address {
    /// Parses; the error says what was expected.
    pub fn parse(text: &str) -> Result<Self, WireError> {
        let bad = |why: &str| {
            WireError::new(
                Code::InvalidArgument,
                format!("address {text:?}: {why} (expected tcp://HOST:PORT)"),
            )
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("no scheme"))?;
        if rest.is_empty() {
            return Err(bad("nothing after the scheme"));
        }
        let host_port = || match rest.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(rest.to_owned()),
            _ => Err(bad("no valid port")),
        };
        match scheme {
            "local" => Ok(Self::Local(rest.to_owned())),
            "tcp" => Ok(Self::Tcp(host_port()?)),
            "tls" => Ok(Self::Tls(host_port()?)),
            other => Err(bad(&format!("unknown scheme {other:?}"))),
        }
    }
}

/// Makes channels and keeps them; one connector per process.
#[derive(Default)]
pub struct Connector {
    identity: Option<Arc<TlsIdentity>>,
    /// order: never held while another lock is taken.
    local: Mutex<BTreeMap<String, Arc<dyn Service>>>,
    /// order: never held while another lock is taken.
    channels: Mutex<BTreeMap<String, Arc<dyn Channel>>>,
}

impl Connector {
    /// A connector without a certificate: `tls://` addresses are refused.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// A connector that shows this certificate to `tls://` peers.
    #[must_use]
    pub fn with_identity(identity: Arc<TlsIdentity>) -> Arc<Self> {
        Arc::new(Self { identity: Some(identity), ..Self::default() })
    }

    /// Makes a service reachable as `local://name`.
    pub fn register_local(&self, name: &str, service: Arc<dyn Service>) {
        self.local.lock().insert(name.to_owned(), service);
        self.channels.lock().remove(&format!("local://{name}"));
    }

    /// Makes calls to `address` (of any scheme) go straight to a service of this process. Others keep reaching the
    /// service at the same address over the network, so both sides may use one address everywhere.
    pub fn register_at(&self, address: &str, service: Arc<dyn Service>) {
        let channel: Arc<dyn Channel> = LocalChannel::new(service, address);
        self.channels.lock().insert(address.to_owned(), channel);
    }

    /// The channel to an address, made on first use. TCP channels connect (and reconnect) when called.
    pub fn channel(&self, address: &str) -> Result<Arc<dyn Channel>, WireError> {
        if let Some(channel) = self.channels.lock().get(address) {
            return Ok(channel.clone());
        }
        let channel: Arc<dyn Channel> = match Address::parse(address)? {
            Address::Local(name) => {
                let service = self.local.lock().get(&name).cloned().ok_or_else(|| {
                    WireError::new(Code::Unavailable, format!("no service {name:?} runs in this process"))
                })?;
                LocalChannel::new(service, address)
            }
            Address::Tcp(at) => TcpChannel::new(address, &at, None),
            Address::Tls(at) => {
                let identity = self.identity.clone().ok_or_else(|| {
                    WireError::new(
                        Code::Unauthenticated,
                        format!("{address} needs a node certificate; run `xtfs join`"),
                    )
                })?;
                TcpChannel::new(address, &at, Some(identity))
            }
        };
        Ok(self.channels.lock().entry(address.to_owned()).or_insert(channel).clone())
    }
}
