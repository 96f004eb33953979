//! Counters, gauges and latencies of a process, shown at `/metrics` in the Prometheus text format.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
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

/// Labels and a count.
pub type Counted = (Vec<(&'static str, String)>, f64);

type Source = Box<dyn Fn() -> Vec<Counted> + Send + Sync>;

/// Counts that their owner keeps anyway: read when somebody looks. Services of one process may share a name.
#[derive(Clone, Default)]
struct Told(
    /// By name. order: a leaf, but for what sources take.
    Arc<Mutex<BTreeMap<&'static str, Shown>>>,
);

struct Shown {
    help: &'static str,
    sources: Vec<Source>,
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.lock().keys()).finish()
    }
}

impl Collector for Told {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, Shown { help, sources }) in &*self.0.lock() {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (mut labels, count) in sources.iter().flat_map(|source| source()) {
                labels.iter_mut().for_each(|(_, value)| *value = escaped(value));
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// A label's value as it stands between quotation marks. (prometheus-client writes it as it is, and so breaks the page.)
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The metrics of one service.
pub struct Metrics {
    told: Told,
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
        let told = Told::default();
        registry.register_collector(Box::new(told.clone()));
        Arc::new(Self { told, registry: Mutex::new(registry), calls, seconds })
    }

    /// Counters that somebody keeps already; `read` is asked whenever they are shown and must not wait. `_total` is appended
    /// to the name.
    pub fn told(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> Vec<Counted> + Send + Sync + 'static,
    ) {
        self.told
            .0
            .lock()
            .entry(name)
            .or_insert_with(|| Shown { help, sources: Vec::new() })
            .sources
            .push(Box::new(read));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_counters_are_read_when_they_are_shown_and_share_a_name() {
        let metrics = Metrics::new();
        let count = Arc::new(Mutex::new(1.0));
        let seen = count.clone();
        metrics.told("osd_reads", "Reads", move || vec![(vec![("name", "osd-0".to_owned())], *seen.lock())]);
        metrics.told("osd_reads", "Reads", || vec![(vec![("name", "osd-1".to_owned())], 7.5)]);
        *count.lock() = 41.0;
        let text = metrics.render();
        assert!(text.contains("xtfs_osd_reads_total{name=\"osd-0\"} 41.0\n"), "{text}");
        assert!(text.contains("xtfs_osd_reads_total{name=\"osd-1\"} 7.5\n"), "{text}");
        metrics.told("odd", "Odd", || vec![(vec![("path", "/a \"b\"\\c\nd".to_owned())], 1.0)]);
        let text = metrics.render();
        assert!(text.contains("xtfs_odd_total{path=\"/a \\\"b\\\"\\\\c\\nd\"} 1.0\n"), "{text}");
        assert_eq!(text.matches("# TYPE xtfs_osd_reads counter").count(), 1, "{text}");
    }
}
