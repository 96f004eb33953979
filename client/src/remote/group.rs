//! A Raft group as its clients see it: several addresses, one of which leads and answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::error::{Code, WireError};
use proto::rpc::Method;
use rt::clock::Clock;
use rt::rpc::{Address, CallOptions, Channel, Connector, call_with};

use crate::config::Patience;
use crate::engine::backoff::Backoff;
use crate::error::Result;

/// One attempt at one member; a member that does not answer for so long is asked again through another.
const ATTEMPT: Duration = Duration::from_secs(3);

/// See [`Group::is_lost`].
const LOST_AFTER: u32 = 6;
/// Rounds through the members before those that were configured at first are tried too.
const ROUNDS: usize = 2;

/// An attempt that ended without an answer after so long met silence: the member hangs or is cut off.
const SILENCE: Duration = Duration::from_millis(300);
/// For so long hints to it are not believed: who gives them does not know yet.
const SHUNNED: Duration = Duration::from_secs(1);

/// Members and the one that led when last heard of.
struct Members {
    addrs: Vec<String>,
    /// Where the group was when this client began, if not in `addrs`: what it was told later may not be reachable from
    /// here, or have been replaced while it heard nothing.
    first: Vec<String>,
    next: usize,
    leader: Option<Arc<dyn Channel>>,
    /// Did not answer a moment ago, and until when that counts.
    silent: Option<(String, Duration)>,
}

impl Members {
    /// The address to try next.
    fn candidate(&self) -> Option<&String> {
        let often = self.addrs.len() * ROUNDS;
        let mut strangers = self.first.iter().filter(|addr| !self.addrs.contains(addr));
        let at = self.next % (often + strangers.clone().count()).max(1);
        if at < often {
            return self.addrs.get(at % self.addrs.len());
        }
        strangers.nth(at - often)
    }
}

/// A stub for a group of replicas with a leader.
pub struct Group {
    what: String,
    connector: Arc<Connector>,
    clock: Arc<dyn Clock>,
    patience: Patience,
    /// Attempts without an answer of a leader since the last one.
    failures: AtomicU32,
    /// order: never held while another lock is taken, except the connector's own.
    members: Mutex<Members>,
}

/// What one call took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attempts {
    /// Some attempt ended without an answer: the request may have been done more than once.
    pub uncertain: bool,
}

impl Group {
    /// A group with these members; `what` names it in errors (`DIR`, `MRC group-2`).
    pub fn new(
        what: impl Into<String>,
        addrs: Vec<String>,
        connector: Arc<Connector>,
        clock: Arc<dyn Clock>,
        patience: Patience,
    ) -> Arc<Self> {
        let members =
            Mutex::new(Members { first: addrs.clone(), addrs, next: 0, leader: None, silent: None });
        let failures = AtomicU32::new(0);
        Arc::new(Self { what: what.into(), connector, clock, patience, failures, members })
    }

    /// Replaces the list of members (a later answer of the DIR or of the group). Whoever answers goes on doing so, also
    /// when it is to leave the group: it says who leads.
    pub fn set_addrs(&self, addrs: Vec<String>) {
        let mut members = self.members.lock();
        if !addrs.is_empty() && members.addrs != addrs {
            members.addrs = addrs;
            members.next = 0;
        }
    }

    /// Nobody has answered for several attempts in a row: perhaps all members have been replaced.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= LOST_AFTER
    }

    /// Addresses of the members.
    #[must_use]
    pub fn addrs(&self) -> Vec<String> {
        self.members.lock().addrs.clone()
    }

    /// Calls the leader with the group's own patience.
    pub async fn call<M: Method>(&self, request: &M::Request) -> Result<M::Reply> {
        self.call_for::<M>(request, self.patience, Duration::ZERO).await.0
    }

    /// Calls the leader; `extra` is time that the service may spend waiting (long polls). The same request is sent
    /// again while there is no answer, so a mutation carries its origin.
    pub async fn call_for<M: Method>(
        &self,
        request: &M::Request,
        patience: Patience,
        extra: Duration,
    ) -> (Result<M::Reply>, Attempts) {
        let mut attempts = Attempts::default();
        let mut backoff = Backoff::new(patience);
        let options = CallOptions { deadline: ATTEMPT + extra, trace: 0 };
        let mut hinted = false;
        loop {
            let begun = self.clock.monotonic();
            let outcome = match self.leader() {
                Ok(channel) => call_with::<M>(&*channel, request, Bytes::new(), &options)
                    .await
                    .map_err(|error| (error, Some(channel))),
                Err(error) => Err((error, None)),
            };
            let (error, channel) = match outcome {
                Ok((reply, _)) => {
                    self.failures.store(0, Ordering::Relaxed);
                    return (Ok(reply), attempts);
                }
                Err(failed) => failed,
            };
            tracing::debug!(what = self.what, method = M::NAME, %error, "an attempt failed");
            if matches!(error.code, Code::NotLeader | Code::Unavailable | Code::DeadlineExceeded) {
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
            match error.code {
                Code::NotLeader => {
                    // The first hint is followed at once; a second one in a row means that there is no leader yet.
                    let followed = self.follow(channel.as_ref(), &error.hint);
                    if followed && !hinted {
                        hinted = true;
                        continue;
                    }
                }
                Code::Unavailable | Code::DeadlineExceeded => {
                    attempts.uncertain = true;
                    let now = self.clock.monotonic();
                    if let Some(channel) = channel.as_ref().filter(|_| now.saturating_sub(begun) >= SILENCE) {
                        let silent = Some((channel.address().to_owned(), now + SHUNNED));
                        self.members.lock().silent = silent;
                    }
                    self.follow(channel.as_ref(), "");
                }
                Code::Busy => {}
                _ => return (Err(error), attempts),
            }
            hinted = false;
            match backoff.failed(self.clock.monotonic()) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return (Err(self.out_of_patience::<M>(&error)), attempts),
            }
        }
    }

    fn out_of_patience<M: Method>(&self, last: &WireError) -> WireError {
        WireError::new(
            last.code,
            format!(
                "{} did not do {} in time (members {}): {}; check that a majority of its members runs",
                self.what,
                M::NAME,
                self.addrs().join(", "),
                last.text
            ),
        )
    }

    /// The channel to whom we believe to lead.
    fn leader(&self) -> Result<Arc<dyn Channel>> {
        let mut members = self.members.lock();
        if let Some(leader) = &members.leader {
            return Ok(leader.clone());
        }
        let Some(addr) = members.candidate() else {
            return Err(WireError::new(Code::InvalidArgument, format!("{} has no addresses", self.what)));
        };
        match self.connector.channel(addr) {
            Ok(channel) => {
                members.leader = Some(channel.clone());
                Ok(channel)
            }
            Err(error) => {
                members.next = members.next.wrapping_add(1);
                Err(error)
            }
        }
    }

    /// `failed` is not the leader: believe the hint, or try the next member. False when there was no usable hint.
    fn follow(&self, failed: Option<&Arc<dyn Channel>>, hint: &str) -> bool {
        let mut members = self.members.lock();
        let current = members.leader.as_ref().map(|leader| leader.address().to_owned());
        if let (Some(failed), Some(current)) = (failed, &current)
            && failed.address() != current
        {
            return true; // somebody else has moved on already
        }
        let now = self.clock.monotonic();
        let shunned = members.silent.as_ref().is_some_and(|(addr, until)| addr == hint && now < *until);
        if Address::parse(hint).is_ok()
            && !shunned
            && current.as_deref() != Some(hint)
            && let Ok(channel) = self.connector.channel(hint)
        {
            members.leader = Some(channel);
            return true;
        }
        members.next = members.next.wrapping_add(1);
        members.leader = None;
        // Whoever was silent comes last.
        let skipped = members.silent.as_ref().is_some_and(|(addr, until)| {
            now < *until && members.addrs.len() > 1 && members.candidate() == Some(addr)
        });
        members.next = members.next.wrapping_add(usize::from(skipped));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(addrs: &[&str]) -> Vec<String> {
        addrs.iter().map(|addr| (*addr).to_owned()).collect()
    }

    #[test]
    fn members_come_before_where_the_group_was_at_first() {
        let mut members = Members {
            addrs: list(&["b", "c"]),
            first: list(&["a", "b"]),
            next: 0,
            leader: None,
            silent: None,
        };
        let tried: Vec<String> = (0..7)
            .map(|next| {
                members.next = next;
                members.candidate().unwrap().clone()
            })
            .collect();
        assert_eq!(tried, list(&["b", "c", "b", "c", "a", "b", "c"]));
        members.addrs.clear();
        assert_eq!(members.candidate().map(String::as_str), Some("a"));
        members.first.clear();
        assert_eq!(members.candidate(), None);
    }

    /// A member of a test: does not answer, or says who leads, or answers.
    enum Acts {
        Hangs,
        Follows { leader: &'static str, answers_from: u32 },
    }

    struct Stub(Acts, AtomicU32);

    /// The runtime's time, which stands still while something runs.
    struct Paused(tokio::time::Instant);

    impl Clock for Paused {
        fn monotonic(&self) -> Duration {
            self.0.elapsed()
        }

        fn unix(&self) -> Duration {
            self.0.elapsed()
        }
    }

    impl rt::rpc::Service for Stub {
        fn call(
            self: Arc<Self>,
            _peer: rt::rpc::Peer,
            _request: rt::rpc::Request,
        ) -> rt::rpc::BoxFuture<'static, std::result::Result<rt::rpc::Response, WireError>> {
            let asked = self.1.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                match self.0 {
                    Acts::Hangs => std::future::pending().await,
                    Acts::Follows { answers_from, .. } if asked >= answers_from => {
                        Ok(rt::rpc::Response::of(&proto::dir::VolumeList::default()))
                    }
                    Acts::Follows { leader, .. } => {
                        Err(WireError::new(Code::NotLeader, "it follows").with_hint(leader))
                    }
                }
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_was_cut_off_is_not_asked_again_because_others_still_believe_in_it() {
        let (connector, clock) = (Connector::new(), Arc::new(Paused(tokio::time::Instant::now())));
        let stub = |acts| Arc::new(Stub(acts, AtomicU32::new(0)));
        let cut_off = stub(Acts::Hangs);
        connector.register_local("a", cut_off.clone());
        let follows = |answers_from| Acts::Follows { leader: "local://a", answers_from };
        connector.register_local("b", stub(follows(3)));
        connector.register_local("c", stub(follows(u32::MAX)));
        let addrs = list(&["local://a", "local://b", "local://c"]);
        let group = Group::new("test", addrs, connector, clock, Patience::Forever);
        let request = proto::dir::ListVolumes { name: String::new() };
        let begun = tokio::time::Instant::now();
        group.call::<proto::dir::Volumes>(&request).await.unwrap();
        assert_eq!(cut_off.1.load(Ordering::Relaxed), 1, "asked again after {:?}", begun.elapsed());
        assert!(begun.elapsed() < 2 * ATTEMPT, "{:?}", begun.elapsed());
    }
}
