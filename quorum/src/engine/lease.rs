//! Leader leases: what a leader may conclude from echoed heartbeats, and what followers promise for it.
//!
//! A follower that hears a leader at its time `f` promises not to help another candidate before `f + promise`.
//! The leader sent that message at its time `s <= f`, so it may serve reads until `s + lease` with
//! `lease < promise`; the difference is what clocks may run apart in that time (a quarter).
//! A follower that restarts has forgotten its promise: it promises anew from its start. A leader that hands over
//! leadership lets its successor be elected within the promise; it has no lease for the rest of its term.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

/// Lengths of things in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Length of a tick.
    pub tick: Duration,
    /// A leader sends heartbeats this often, ticks.
    pub heartbeat_ticks: usize,
    /// A follower that hears nothing stands for election after this to twice this, ticks.
    pub election_ticks: usize,
}

impl Timing {
    /// Heartbeat 2 ticks, election 10 to 20.
    #[must_use]
    pub fn of(tick: Duration) -> Self {
        Self { tick, heartbeat_ticks: 2, election_ticks: 10 }
    }

    /// How long a follower helps no other candidate after hearing a leader.
    #[must_use]
    pub fn promise(&self) -> Duration {
        self.tick * u32::try_from(self.election_ticks).expect("a few ticks")
    }

    /// How long a leader counts on that.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.promise() * 3 / 4
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lease {
    promised_until: Duration,
    /// Newest echoed sending time by follower, in the present leadership.
    echoes: BTreeMap<u64, Duration>,
    /// Term in which leadership was offered to another member.
    handed_over: Option<u64>,
}

impl Lease {
    pub(super) fn new(promised_until: Duration) -> Self {
        Self { promised_until, echoes: BTreeMap::new(), handed_over: None }
    }

    pub(super) fn promised_until(&self) -> Duration {
        self.promised_until
    }

    pub(super) fn promise(&mut self, until: Duration) {
        self.promised_until = self.promised_until.max(until);
    }

    /// What a heartbeat carries and its answer echoes: the sending time, and the receiver's incarnation as far as
    /// the leader has heard of it.
    pub(super) fn stamp(now: Duration, incarnation: u64) -> Bytes {
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        Bytes::from([nanos.to_le_bytes(), incarnation.to_le_bytes()].concat())
    }

    pub(super) fn read_stamp(context: &[u8]) -> Option<Duration> {
        Some(Duration::from_nanos(u64::from_le_bytes(context.get(..8)?.try_into().ok()?)))
    }

    pub(super) fn read_incarnation(context: &[u8]) -> Option<u64> {
        Some(u64::from_le_bytes(context.get(8..16)?.try_into().ok()?))
    }

    pub(super) fn echoed(&mut self, member: u64, sent: Duration) {
        let newest = self.echoes.entry(member).or_default();
        *newest = (*newest).max(sent);
    }

    pub(super) fn forget_echoes(&mut self) {
        self.echoes.clear();
    }

    pub(super) fn forget_echo(&mut self, member: u64) {
        self.echoes.remove(&member);
    }

    /// The newest sending time that a member echoed.
    pub(super) fn echo(&self, member: u64) -> Option<Duration> {
        self.echoes.get(&member).copied()
    }

    pub(super) fn handed_over(&mut self, term: u64) {
        self.handed_over = Some(term);
    }

    pub(super) fn is_handed_over(&self, term: u64) -> bool {
        self.handed_over == Some(term)
    }

    /// The newest time such that a majority of `voters` echoed it or a later one. The leader itself counts.
    pub(super) fn majority(&self, voters: Vec<u64>, me: u64) -> Option<Duration> {
        let needed = voters.len() / 2 + 1;
        let mut times: Vec<Duration> = voters
            .iter()
            .filter_map(
                |voter| if *voter == me { Some(Duration::MAX) } else { self.echoes.get(voter).copied() },
            )
            .collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        times.get(needed - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lease_counts_from_the_slowest_member_of_the_fastest_majority() {
        let second = Duration::from_secs;
        let mut lease = Lease::new(Duration::ZERO);
        let five = || vec![1, 2, 3, 4, 5];
        assert_eq!(lease.majority(five(), 1), None);
        lease.echoed(2, second(9));
        assert_eq!(lease.majority(five(), 1), None);
        lease.echoed(3, second(5));
        lease.echoed(3, second(4));
        assert_eq!(lease.majority(five(), 1), Some(second(5)));
        lease.echoed(4, second(7));
        assert_eq!(lease.majority(five(), 1), Some(second(7)));
        assert_eq!(
            lease.majority(vec![2, 3, 4], 1),
            Some(second(7)),
            "a leader that is no voter does not count"
        );
        lease.echoed(9, second(99));
        assert_eq!(lease.majority(five(), 1), Some(second(7)), "a learner does not count");
    }

    #[test]
    fn the_lease_ends_before_the_promise_however_clocks_drift() {
        let timing = Timing::of(Duration::from_millis(50));
        assert!(timing.lease().mul_f64(1.1) < timing.promise().mul_f64(0.9));
    }
}
