//! Messages to other members. What one turn of the driver has for a peer leaves as one message, on the driver's own
//! thread while the connection takes it; only the rest waits, in a bounded queue, for the peer's task.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::error::WireError;
use proto::id::{GroupId, MemberId};
use proto::limits::APPEND_INFLIGHT;
use proto::raft::{Deliver, RaftMessages};
use rt::rpc::Connector;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::driver::Driver;
use crate::replica::Input;

/// Messages that may wait for one peer; raft sends again what is dropped.
const QUEUE_MAX: usize = 4 * APPEND_INFLIGHT;
/// Bytes of messages in one call.
const CALL_BYTES: usize = 4 << 20;
/// What takes longer to leave is lost.
const SEND_DEADLINE: Duration = Duration::from_secs(2);
/// The next message to a peer that cannot be reached would fail too; what gathers meanwhile is stale anyway.
const AFTER_FAILURE: Duration = Duration::from_millis(20);

/// See the module.
pub(super) struct Senders {
    group: GroupId,
    me: MemberId,
    incarnation: AtomicU64,
    connector: Arc<Connector>,
    runtime: Handle,
    driver: Weak<Driver>,
    /// order: before a peer's queue.
    peers: Mutex<BTreeMap<u64, Arc<Peer>>>,
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
        let incarnation = AtomicU64::new(incarnation);
        Self { group, me, incarnation, connector, runtime, driver, peers: Mutex::default() }
    }

    /// These are the members now.
    pub(super) fn reach(&self, members: &BTreeMap<u64, String>) {
        let mut peers = self.peers.lock();
        peers.retain(|id, peer| {
            let stays = members.get(id) == Some(&peer.address);
            if !stays {
                peer.close();
            }
            stays
        });
        for (id, address) in members {
            if *id == self.me.0 || peers.contains_key(id) {
                continue;
            }
            let peer = Arc::new(Peer {
                to: *id,
                address: address.clone(),
                head: RaftMessages {
                    group: self.group.0,
                    from: self.me.0,
                    incarnation: self.incarnation.load(Ordering::Acquire),
                    messages: Vec::new(),
                },
                connector: self.connector.clone(),
                queue: Mutex::default(),
                work: Notify::new(),
            });
            self.runtime.spawn(carry(peer.clone(), self.driver.clone()));
            peers.insert(*id, peer);
        }
    }

    /// Sends what one turn has for a member; drops it when its queue is full or it is not known. Gives the member when
    /// it turned out that it cannot be reached.
    pub(super) fn send(&self, to: u64, messages: Vec<Bytes>) -> Option<u64> {
        let peer = self.peers.lock().get(&to).cloned()?;
        let _inside = self.runtime.enter();
        peer.send(messages).is_err().then_some(to)
    }

    /// The member has started anew.
    pub(super) fn renew(&self, incarnation: u64, members: &BTreeMap<u64, String>) {
        self.incarnation.store(incarnation, Ordering::Release);
        self.stop();
        self.reach(members);
    }

    pub(super) fn stop(&self) {
        for (_, peer) in std::mem::take(&mut *self.peers.lock()) {
            peer.close();
        }
    }
}

#[derive(Default)]
struct Queue {
    messages: Vec<Bytes>,
    /// The peer's task is at it: what comes now must not overtake.
    busy: bool,
    closed: bool,
}

struct Peer {
    to: u64,
    address: String,
    head: RaftMessages,
    connector: Arc<Connector>,
    /// order: held while a message is given to the connection, whose own locks are leaves.
    queue: Mutex<Queue>,
    work: Notify,
}

impl Peer {
    fn close(&self) {
        self.queue.lock().closed = true;
        self.work.notify_one();
    }

    /// On this thread, if the connection takes it at once.
    fn send(&self, messages: Vec<Bytes>) -> Result<(), WireError> {
        let mut queue = self.queue.lock();
        if queue.closed {
            return Ok(());
        }
        let small = messages.iter().map(Bytes::len).sum::<usize>() <= CALL_BYTES;
        if !queue.busy && small {
            let delivery = RaftMessages { messages: messages.clone(), ..self.head.clone() };
            let mut sent = Box::pin(self.deliver(&delivery));
            match sent.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(result) => return result,
                // No connection yet, or no room: nothing has left.
                Poll::Pending => {}
            }
        }
        queue.busy = true;
        let room = QUEUE_MAX.saturating_sub(queue.messages.len());
        queue.messages.extend(messages.into_iter().take(room));
        drop(queue);
        self.work.notify_one();
        Ok(())
    }

    /// What waits, as much as goes into one call; `None`: the peer is no member any more.
    async fn next(&self) -> Option<RaftMessages> {
        loop {
            {
                let mut queue = self.queue.lock();
                if queue.closed {
                    return None;
                }
                if !queue.messages.is_empty() {
                    let mut bytes = 0;
                    let fits = queue.messages.iter().take_while(|message| {
                        bytes += message.len();
                        bytes <= CALL_BYTES
                    });
                    let count = fits.count().max(1);
                    let messages = queue.messages.drain(..count).collect();
                    return Some(RaftMessages { messages, ..self.head.clone() });
                }
                queue.busy = false;
            }
            self.work.notified().await;
        }
    }

    async fn deliver(&self, delivery: &RaftMessages) -> Result<(), WireError> {
        let channel = self.connector.channel(&self.address)?;
        rt::rpc::tell::<Deliver>(&*channel, delivery, SEND_DEADLINE).await
    }
}

async fn carry(peer: Arc<Peer>, driver: Weak<Driver>) {
    while let Some(delivery) = peer.next().await {
        if let Err(error) = peer.deliver(&delivery).await {
            tracing::debug!(to = peer.to, address = %peer.address, %error, "raft messages were lost");
            let Some(driver) = driver.upgrade() else { return };
            driver.push(Input::Unreachable(peer.to));
            driver.drive();
            drop(driver);
            tokio::time::sleep(AFTER_FAILURE).await;
        }
    }
}
