//! Messages to other members: one bounded queue and one task per peer, which sends what has gathered as one call.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::id::{GroupId, MemberId};
use proto::limits::APPEND_INFLIGHT;
use proto::raft::{Deliver, RaftMessages};
use rt::rpc::{CallOptions, Connector};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::driver::Driver;
use crate::replica::Input;

/// Messages that may wait for one peer; raft sends again what is dropped.
const QUEUE_MAX: usize = 4 * APPEND_INFLIGHT;
/// Bytes of messages in one call.
const CALL_BYTES: usize = 4 << 20;
/// A call that takes longer is a lost one.
const CALL_DEADLINE: Duration = Duration::from_secs(2);

struct Peer {
    address: String,
    queue: Sender<Bytes>,
}

/// See the module.
pub(super) struct Senders {
    group: GroupId,
    me: MemberId,
    incarnation: u64,
    connector: Arc<Connector>,
    runtime: Handle,
    driver: Weak<Driver>,
    /// order: nothing is taken while it is held.
    peers: Mutex<BTreeMap<u64, Peer>>,
}

impl Senders {
    pub(super) fn new(
        group: GroupId,
        me: MemberId,
        incarnation: u64,
        connector: Arc<Connector>,
        driver: Weak<Driver>,
    ) -> Self {
        let runtime = Handle::current();
        Self { group, me, incarnation, connector, runtime, driver, peers: Mutex::default() }
    }

    /// These are the members now.
    pub(super) fn reach(&self, members: &BTreeMap<u64, String>) {
        let mut peers = self.peers.lock();
        peers.retain(|id, peer| members.get(id) == Some(&peer.address));
        for (id, address) in members {
            if *id == self.me.0 || peers.contains_key(id) {
                continue;
            }
            let (queue, messages) = channel(QUEUE_MAX);
            let route = Route {
                to: *id,
                address: address.clone(),
                head: RaftMessages {
                    group: self.group.0,
                    from: self.me.0,
                    incarnation: self.incarnation,
                    messages: Vec::new(),
                },
                connector: self.connector.clone(),
                driver: self.driver.clone(),
            };
            self.runtime.spawn(route.carry(messages));
            peers.insert(*id, Peer { address: address.clone(), queue });
        }
    }

    /// Sends a message, or drops it when the peer's queue is full or the peer is not known.
    pub(super) fn send(&self, to: u64, message: Bytes) {
        if let Some(peer) = self.peers.lock().get(&to) {
            let _ = peer.queue.try_send(message);
        }
    }

    pub(super) fn stop(&self) {
        self.peers.lock().clear();
    }
}

struct Route {
    to: u64,
    address: String,
    head: RaftMessages,
    connector: Arc<Connector>,
    driver: Weak<Driver>,
}

impl Route {
    async fn carry(self, mut queue: Receiver<Bytes>) {
        while let Some(first) = queue.recv().await {
            let mut bytes = first.len();
            let mut delivery = self.head.clone();
            delivery.messages.push(first);
            while bytes < CALL_BYTES {
                let Ok(message) = queue.try_recv() else { break };
                bytes += message.len();
                delivery.messages.push(message);
            }
            if let Err(error) = self.deliver(&delivery).await {
                tracing::debug!(to = self.to, address = %self.address, %error, "raft messages were lost");
                let Some(driver) = self.driver.upgrade() else { return };
                driver.push(Input::Unreachable(self.to));
                driver.drive();
                drop(driver);
                // The next message would fail too; what gathers meanwhile is stale anyway.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    async fn deliver(&self, delivery: &RaftMessages) -> Result<(), proto::error::WireError> {
        let channel = self.connector.channel(&self.address)?;
        let options = CallOptions { deadline: CALL_DEADLINE, ..CallOptions::default() };
        rt::rpc::call_with::<Deliver>(&*channel, delivery, Bytes::new(), &options).await.map(drop)
    }
}
