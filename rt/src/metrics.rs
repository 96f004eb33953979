//! Counters, gauges and latencies of a process, shown at `/metrics` in the Prometheus text format.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Labels of a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    /// The service (`mrc`).
    pub service: &'static str,
    /// The method (`Lookup`).
    pub method: &'static str,
    /// `ok` or the error code's name.
    pub outcome: &'static str,
}

/// A gauge per value of a label.
pub struct GaugeBy {
    label: &'static str,
    gauges: Family<Vec<(String, String)>, Gauge<i64>>,
}

impl GaugeBy {
    /// These are all there are from now on.
    pub fn set(&self, values: impl Iterator<Item = (String, i64)>) {
        self.gauges.clear();
        for (value, count) in values {
            self.gauges.get_or_create(&vec![(self.label.to_owned(), value)]).set(count);
        }
    }
}

/// The metrics of one service.
pub struct Metrics {
    /// order: leaf lock.
    registry: Mutex<Registry>,
    calls: Family<CallLabels, Counter>,
    seconds: Family<CallLabels, Histogram, fn() -> Histogram>,
}

fn latency_buckets() -> Histogram {
    // 10 us doubling up to 20 s.
    Histogram::new((0..22).map(|power| 10e-6 * f64::from(1u32 << power)))
}

impl Metrics {
    /// Metrics with the call counters in place; every name starts with `xtfs_`.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("xtfs");
        let calls = Family::<CallLabels, Counter>::default();
        let seconds: Family<CallLabels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(latency_buckets);
        registry.register("rpc_calls", "Calls answered", calls.clone());
        registry.register("rpc_seconds", "Time from decoding a call to its answer", seconds.clone());
        Arc::new(Self { registry: Mutex::new(registry), calls, seconds })
    }

    /// Counts one call.
    pub fn call(&self, labels: &CallLabels, took: Duration) {
        self.calls.get_or_create(labels).inc();
        self.seconds.get_or_create(labels).observe(took.as_secs_f64());
    }

    /// A counter of its own.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        let counter = Counter::default();
        self.registry.lock().register(name, help, counter.clone());
        counter
    }

    /// A gauge of its own.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge<i64> {
        let gauge = Gauge::default();
        self.registry.lock().register(name, help, gauge.clone());
        gauge
    }

    /// One gauge for each value of a label.
    pub fn gauge_by(&self, name: &str, help: &str, label: &'static str) -> GaugeBy {
        let gauges = Family::default();
        self.registry.lock().register(name, help, gauges.clone());
        GaugeBy { label, gauges }
    }

    /// A latency histogram of its own, seconds.
    pub fn latency(&self, name: &str, help: &str) -> Histogram {
        let histogram = latency_buckets();
        self.registry.lock().register(name, help, histogram.clone());
        histogram
    }

    /// The Prometheus text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry.lock()) {
            Ok(()) => text,
            Err(error) => format!("# cannot encode metrics: {error}\n"),
        }
    }
}
