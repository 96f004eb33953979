//! A simulated network in virtual time: delay, loss and partitions decided by a seed.
//!
//! Runs on tokio's paused clock (`start_paused`), so a test with minutes of timeouts takes milliseconds and gives the
//! same run for the same seed. A lost request or answer shows as what it is in life: silence until the deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proto::error::{Code, WireError};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{BoxFuture, Channel, Peer, Request, Response, Service};

/// What the network does to messages.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// One way takes between these.
    pub delay: (Duration, Duration),
    /// Of 1,000 messages (each way) this many vanish.
    pub lost_per_mille: u32,
    /// Of 1,000 requests this many arrive twice.
    pub doubled_per_mille: u32,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            delay: (Duration::from_micros(50), Duration::from_micros(500)),
            lost_per_mille: 0,
            doubled_per_mille: 0,
        }
    }
}

struct State {
    rng: StdRng,
    weather: Weather,
    services: BTreeMap<String, Arc<dyn Service>>,
    /// Ordered pairs (from, to) that hear nothing.
    cut: BTreeSet<(String, String)>,
}

/// See the module. Clones are the same network.
#[derive(Clone)]
pub struct SimNetwork {
    /// order: leaf lock.
    state: Arc<Mutex<State>>,
}

impl SimNetwork {
    /// A network whose every decision comes from `seed`.
    #[must_use]
    pub fn new(seed: u64, weather: Weather) -> Self {
        let state = State {
            rng: StdRng::seed_from_u64(seed),
            weather,
            services: BTreeMap::new(),
            cut: BTreeSet::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Puts a service at a node.
    pub fn bind(&self, node: &str, service: Arc<dyn Service>) {
        self.state.lock().services.insert(node.to_owned(), service);
    }

    /// Nobody listens at that node any more: calls are refused.
    pub fn unbind(&self, node: &str) {
        self.state.lock().services.remove(node);
    }

    /// Messages from one node to the other vanish (one way).
    pub fn cut(&self, from: &str, to: &str) {
        self.state.lock().cut.insert((from.to_owned(), to.to_owned()));
    }

    /// All cuts mend.
    pub fn heal(&self) {
        self.state.lock().cut.clear();
    }

    /// A channel between two nodes.
    #[must_use]
    pub fn channel(&self, from: &str, to: &str) -> Arc<dyn Channel> {
        Arc::new(SimChannel {
            network: self.clone(),
            from: from.to_owned(),
            to: to.to_owned(),
            address: format!("sim://{to}"),
        })
    }

    /// How long a message takes, or `None` when it vanishes.
    fn travel(&self, from: &str, to: &str) -> Option<Duration> {
        let mut state = self.state.lock();
        let weather = state.weather;
        let (least, most) = weather.delay;
        let delay = state.rng.random_range(least..=most);
        let lost = state.rng.random_range(0..1000) < weather.lost_per_mille;
        let cut = state.cut.contains(&(from.to_owned(), to.to_owned()));
        (!lost && !cut).then_some(delay)
    }

    fn doubled(&self) -> bool {
        let mut state = self.state.lock();
        let per_mille = state.weather.doubled_per_mille;
        state.rng.random_range(0..1000) < per_mille
    }
}

struct SimChannel {
    network: SimNetwork,
    from: String,
    to: String,
    address: String,
}

impl SimChannel {
    async fn exchange(&self, request: Request) -> Result<Response, WireError> {
        let Some(there) = self.network.travel(&self.from, &self.to) else {
            return std::future::pending().await;
        };
        tokio::time::sleep(there).await;
        let service = self.network.state.lock().services.get(&self.to).cloned();
        let Some(service) = service else {
            return Err(WireError::new(Code::Unavailable, format!("connect {}: refused", self.address))
                .with_hint("refused"));
        };
        let peer = Peer::Plain(self.from.clone());
        if self.network.doubled() {
            let (service, peer, request) = (service.clone(), peer.clone(), request.clone());
            tokio::spawn(async move { drop(service.call(peer, request).await) });
        }
        let answer = service.call(peer, request).await;
        let Some(back) = self.network.travel(&self.to, &self.from) else {
            return std::future::pending().await;
        };
        tokio::time::sleep(back).await;
        answer
    }
}

impl Channel for SimChannel {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, WireError>> {
        let deadline = request.deadline;
        Box::pin(async move {
            tokio::time::timeout(deadline, self.exchange(request)).await.unwrap_or_else(|_| {
                Err(WireError::new(
                    Code::DeadlineExceeded,
                    format!("{} did not answer within {} ms", self.address, deadline.as_millis()),
                ))
            })
        })
    }

    fn address(&self) -> &str {
        &self.address
    }
}
