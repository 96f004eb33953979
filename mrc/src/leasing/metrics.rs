//! Lease counts at `/metrics`.

use rt::metrics::{Gauge, Metrics};

use crate::engine::leases::Counts;

/// See the module. Sums are gauges that only grow: the engine counts, a scrape reads.
pub(crate) struct LeaseMetrics {
    held: Gauge<i64>,
    grants: Gauge<i64>,
    recalls: Gauge<i64>,
    waits: Gauge<i64>,
    expels: Gauge<i64>,
}

impl LeaseMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            held: metrics.gauge("leases_held", "Leases that clients hold, per session and inode"),
            grants: metrics.gauge("lease_grants", "Grants given since start, repeats included"),
            recalls: metrics.gauge("lease_recalls", "Recalls sent since start"),
            waits: metrics.gauge("lease_waits", "Requests since start that waited for others' leases"),
            expels: metrics.gauge("lease_expels", "Sessions expelled since start"),
        }
    }

    pub(crate) fn set(&self, counts: Counts) {
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.held.set(number(counts.held as u64));
        self.grants.set(number(counts.grants));
        self.recalls.set(number(counts.recalls));
        self.waits.set(number(counts.waits));
        self.expels.set(number(counts.expels));
    }
}
