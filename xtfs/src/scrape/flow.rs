//! What happened between two looks at services, or since they started. No clock, no network.

use std::collections::BTreeMap;
use std::time::Duration;

use super::prometheus::Page;
use super::{Look, Target};

/// Calls of one kind.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Flow {
    /// All, with those that failed.
    pub(crate) calls: f64,
    /// Those that were answered with an error.
    pub(crate) failed: f64,
    /// All together, seconds.
    pub(crate) seconds: f64,
    /// How many took at most so long, by the bits of the bound; empty where that is not counted.
    pub(crate) buckets: BTreeMap<u64, f64>,
    /// Bytes read, where they are counted.
    pub(crate) read: Option<f64>,
    /// And written.
    pub(crate) written: Option<f64>,
}

/// A counter's growth; one that is smaller than before began anew.
fn growth(before: f64, after: f64) -> f64 {
    if after >= before { after - before } else { after }
}

impl Flow {
    /// What came to it since `before`.
    fn since(&self, before: &Flow) -> Flow {
        let optional =
            |before: Option<f64>, after: Option<f64>| after.map(|after| growth(before.unwrap_or(0.0), after));
        // Whether the service began anew shows in the calls; the others of it did so as well.
        if self.calls < before.calls {
            return self.clone();
        }
        let bucket = |(bound, count): (&u64, &f64)| {
            (*bound, growth(before.buckets.get(bound).copied().unwrap_or(0.0), *count))
        };
        Flow {
            calls: growth(before.calls, self.calls),
            failed: growth(before.failed, self.failed),
            seconds: growth(before.seconds, self.seconds),
            buckets: self.buckets.iter().map(bucket).collect(),
            read: optional(before.read, self.read),
            written: optional(before.written, self.written),
        }
    }

    fn add(&mut self, other: &Flow) {
        let optional = |one: Option<f64>, other: Option<f64>| match (one, other) {
            (None, None) => None,
            (one, other) => Some(one.unwrap_or(0.0) + other.unwrap_or(0.0)),
        };
        self.calls += other.calls;
        self.failed += other.failed;
        self.seconds += other.seconds;
        for (bound, count) in &other.buckets {
            *self.buckets.entry(*bound).or_insert(0.0) += count;
        }
        (self.read, self.written) = (optional(self.read, other.read), optional(self.written, other.written));
    }

    /// How long one took in the mean, seconds.
    pub(crate) fn mean(&self) -> Option<f64> {
        (self.calls > 0.0).then(|| self.seconds / self.calls)
    }

    /// What 99 of 100 did not exceed, as far as the buckets tell: the bound of the one they end in. Seconds.
    pub(crate) fn p99(&self) -> Option<f64> {
        let all = self.buckets.values().copied().fold(0.0, f64::max);
        let enough = self.buckets.iter().find(|(_, count)| all > 0.0 && **count >= all * 0.99);
        enough.map(|(bound, _)| f64::from_bits(*bound)).filter(|bound| bound.is_finite())
    }
}

/// A service and what it did.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Service {
    /// Who.
    pub(crate) target: Target,
    /// What, or why that is not known.
    pub(crate) flow: Result<Flow, String>,
}

/// Everything that happened.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Report {
    /// Between the looks; `None`: since the services started.
    pub(crate) interval: Option<Duration>,
    /// By service.
    pub(crate) services: Vec<Service>,
    /// By volume: what its mounts did.
    pub(crate) volumes: BTreeMap<String, Flow>,
    /// By role and kind of call, busiest first.
    pub(crate) calls: Vec<(String, String, Flow)>,
}

impl Report {
    /// What happened since `before`, or since the start.
    pub(crate) fn of(before: Option<&Look>, after: &Look) -> Self {
        let mut report = Report { interval: before.map(|before| after.at - before.at), ..Report::default() };
        let mut calls: BTreeMap<(String, String), Flow> = BTreeMap::new();
        for (target, page) in &after.pages {
            let flow = page.as_ref().map_err(String::clone).map(|page| {
                let known = before.and_then(|before| before.pages.iter().find(|(other, _)| other == target));
                let nothing = Page::default();
                // Not there at the first look: what it did since its start is no rate of this interval.
                let first = match (before, known) {
                    (None, _) => Some(&nothing),
                    (Some(_), known) => known.and_then(|(_, page)| page.as_ref().ok()),
                };
                let Some(first) = first else { return Flow::default() };
                for (kind, flow) in kinds(target, page) {
                    let before = kinds(target, first).remove(&kind).unwrap_or_default();
                    calls.entry((target.role.clone(), kind)).or_default().add(&flow.since(&before));
                }
                for (volume, flow) in volumes(target, page) {
                    let before = volumes(target, first).remove(&volume).unwrap_or_default();
                    report.volumes.entry(volume).or_default().add(&flow.since(&before));
                }
                whole(target, page).since(&whole(target, first))
            });
            report.services.push(Service { target: target.clone(), flow });
        }
        report.calls = calls
            .into_iter()
            .map(|((role, kind), flow)| (role, kind, flow))
            .filter(|(.., flow)| flow.calls > 0.0)
            .collect();
        report.calls.sort_by(|x, y| y.2.calls.total_cmp(&x.2.calls));
        report
    }
}

/// All that a service did.
fn whole(target: &Target, page: &Page) -> Flow {
    let role = target.role.as_str();
    if role == "mount" {
        let mut sum = Flow::default();
        volumes(target, page).values().for_each(|flow| sum.add(flow));
        return sum;
    }
    let mut flow = calls(page, &[("service", role)]);
    if role == "osd" {
        let own = [("uuid", target.uuid.as_str())];
        flow.read = Some(page.sum("xtfs_osd_read_bytes_total", &own));
        flow.written = Some(page.sum("xtfs_osd_written_bytes_total", &own));
    }
    flow
}

/// Answered remote calls with these labels.
fn calls(page: &Page, labels: &[(&str, &str)]) -> Flow {
    let ok: Vec<(&str, &str)> = labels.iter().copied().chain([("outcome", "ok")]).collect();
    let all = page.sum("xtfs_rpc_calls_total", labels);
    Flow {
        calls: all,
        failed: all - page.sum("xtfs_rpc_calls_total", &ok),
        seconds: page.sum("xtfs_rpc_seconds_sum", labels),
        buckets: page.buckets("xtfs_rpc_seconds_bucket", labels),
        read: None,
        written: None,
    }
}

/// By kind of call: methods of a service, operations of a mount.
fn kinds(target: &Target, page: &Page) -> BTreeMap<String, Flow> {
    let mut kinds = BTreeMap::new();
    if target.role == "mount" {
        for sample in page.of("xtfs_mount_ops_total", &[]) {
            let op = sample.label("op");
            kinds.entry(op.to_owned()).or_insert_with(|| operations(page, &[("op", op)]));
        }
        return kinds;
    }
    let role = [("service", target.role.as_str())];
    for sample in page.of("xtfs_rpc_calls_total", &role) {
        let method = sample.label("method");
        let labels = [("service", target.role.as_str()), ("method", method)];
        kinds.entry(method.to_owned()).or_insert_with(|| calls(page, &labels));
    }
    kinds
}

/// Answered file system calls with these labels.
fn operations(page: &Page, labels: &[(&str, &str)]) -> Flow {
    Flow {
        calls: page.sum("xtfs_mount_ops_total", labels),
        failed: page.sum("xtfs_mount_op_errors_total", labels),
        seconds: page.sum("xtfs_mount_op_seconds_total", labels),
        ..Flow::default()
    }
}

/// By volume, of a mount.
fn volumes(target: &Target, page: &Page) -> BTreeMap<String, Flow> {
    let mut volumes = BTreeMap::new();
    if target.role == "mount" {
        for sample in page.of("xtfs_mount_read_bytes_total", &[]) {
            let volume = sample.label("volume");
            let labels = [("volume", volume)];
            volumes.entry(volume.to_owned()).or_insert_with(|| Flow {
                read: Some(page.sum("xtfs_mount_read_bytes_total", &labels)),
                written: Some(page.sum("xtfs_mount_written_bytes_total", &labels)),
                ..operations(page, &labels)
            });
        }
    }
    volumes
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn target(name: &str, role: &str) -> Target {
        Target { name: name.into(), role: role.into(), uuid: format!("u-{name}"), http: format!("{name}:1") }
    }

    fn mrc(calls: u32, failed: u32) -> String {
        let line = |method: &str, outcome: &str, count: u32| {
            let labels = format!("service=\"mrc\",method=\"{method}\",outcome=\"{outcome}\"");
            format!(
                "xtfs_rpc_calls_total{{{labels}}} {count}\nxtfs_rpc_seconds_sum{{{labels}}} {}\n\
                 xtfs_rpc_seconds_bucket{{{labels},le=\"0.001\"}} {count}\nxtfs_rpc_seconds_bucket{{{labels},le=\"+Inf\"}} {count}\n",
                f64::from(count) * 0.0005
            )
        };
        line("Lookup", "ok", calls) + &line("Create", "ok", 1) + &line("Create", "refused", failed)
    }

    fn osd(read: u32, other: u32) -> String {
        format!(
            "xtfs_osd_read_bytes_total{{uuid=\"u-osd#1\"}} {read}\nxtfs_osd_read_bytes_total{{uuid=\"u-else\"}} {other}\n"
        )
    }

    fn mount(volume: &str, ops: u32, bytes: u32) -> String {
        let labels = format!("volume=\"{volume}\",mount=\"/m\"");
        format!(
            "xtfs_mount_ops_total{{{labels},op=\"read\"}} {ops}\nxtfs_mount_op_errors_total{{{labels},op=\"read\"}} 1\n\
             xtfs_mount_op_seconds_total{{{labels},op=\"read\"}} {}\nxtfs_mount_read_bytes_total{{{labels}}} {bytes}\n\
             xtfs_mount_written_bytes_total{{{labels}}} 0\n",
            f64::from(ops) * 0.002
        )
    }

    fn look(start: Instant, after: u64, pages: Vec<(Target, Result<String, String>)>) -> Look {
        let at = start + Duration::from_secs(after);
        let pages =
            pages.into_iter().map(|(target, text)| (target, text.map(|text| Page::parse(&text)))).collect();
        Look { at, pages }
    }

    #[test]
    fn two_looks_give_what_happened_between_them() {
        let start = Instant::now();
        let all = |mrc, osd, mount, second| {
            vec![
                (target("mrc-0", "mrc"), Ok(mrc)),
                (target("osd#1", "osd"), Ok(osd)),
                (target("mount-0", "mount"), Ok(mount)),
                (target("mount-1", "mount"), second),
            ]
        };
        let before = look(start, 0, all(mrc(100, 2), osd(1000, 5), mount("v", 10, 100), Err("gone".into())));
        let after =
            look(start, 4, all(mrc(300, 5), osd(5000, 9), mount("v", 30, 900), Ok(mount("v", 7, 70))));
        let report = Report::of(Some(&before), &after);
        assert_eq!(report.interval, Some(Duration::from_secs(4)));
        let flows: Vec<&Flow> = report.services.iter().map(|one| one.flow.as_ref().unwrap()).collect();
        assert_eq!((flows[0].calls, flows[0].failed), (203.0, 3.0));
        assert!((flows[0].mean().unwrap() - 0.0005).abs() < 1e-9);
        assert_eq!(flows[0].p99(), Some(0.001));
        assert_eq!(flows[1].read, Some(4000.0), "the other OSD of its process is another service");
        assert_eq!((flows[2].calls, flows[2].failed, flows[2].read), (20.0, 0.0, Some(800.0)));
        assert_eq!(flows[3], &Flow::default(), "what it did before it was seen is no rate");
        assert_eq!(report.volumes["v"].read, Some(800.0));
        let calls: Vec<(&str, &str, f64)> = report
            .calls
            .iter()
            .map(|(role, kind, flow)| (role.as_str(), kind.as_str(), flow.calls))
            .collect();
        assert_eq!(calls, [("mrc", "Lookup", 200.0), ("mount", "read", 20.0), ("mrc", "Create", 3.0)]);
    }

    #[test]
    fn one_look_gives_all_since_the_start_and_volumes_are_summed() {
        let mounts = vec![
            (target("mount-0", "mount"), Ok(mount("v", 10, 100))),
            (target("mount-1", "mount"), Ok(mount("v", 5, 11))),
            (target("mrc-0", "mrc"), Err("it is down".to_owned())),
        ];
        let report = Report::of(None, &look(Instant::now(), 0, mounts));
        assert_eq!(report.interval, None);
        let volume = &report.volumes["v"];
        assert_eq!(
            (volume.calls, volume.failed, volume.read, volume.written),
            (15.0, 2.0, Some(111.0), Some(0.0))
        );
        assert_eq!(report.services[2].flow, Err("it is down".to_owned()));
    }

    #[test]
    fn a_service_that_began_anew_counts_from_nothing() {
        let start = Instant::now();
        let of = |calls| vec![(target("mrc-0", "mrc"), Ok(mrc(calls, 0)))];
        let report = Report::of(Some(&look(start, 0, of(1000))), &look(start, 1, of(10)));
        assert_eq!(report.services[0].flow.as_ref().unwrap().calls, 11.0);
    }

    #[test]
    fn the_99th_of_a_hundred_is_looked_up_in_the_buckets() {
        let flow = |counts: &[(f64, f64)]| Flow {
            buckets: counts.iter().map(|(bound, count)| (bound.to_bits(), *count)).collect(),
            ..Flow::default()
        };
        assert_eq!(flow(&[(0.1, 50.0), (0.2, 99.0), (0.4, 100.0), (f64::INFINITY, 100.0)]).p99(), Some(0.2));
        assert_eq!(flow(&[(0.1, 50.0), (0.2, 98.0), (0.4, 100.0)]).p99(), Some(0.4));
        assert_eq!(flow(&[(0.1, 0.0), (f64::INFINITY, 9.0)]).p99(), None, "longer than is counted");
        assert_eq!(flow(&[(0.1, 0.0)]).p99(), None);
        assert_eq!(Flow::default().p99(), None);
    }
}
