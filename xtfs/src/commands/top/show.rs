//! Flows as tables and as JSON.

use serde_json::{Map, Value, json};

use crate::output;
use crate::scrape::flow::{Flow, Report};

/// As lines; of the kinds of calls the first `calls`.
pub(super) fn text(report: &Report, calls: usize) -> Vec<String> {
    let seconds = report.interval.map(|interval| interval.as_secs_f64());
    let [called, failed, read, written] = if seconds.is_some() {
        ["CALLS/S", "FAILED/S", "READ/S", "WRITTEN/S"]
    } else {
        ["CALLS", "FAILED", "READ", "WRITTEN"]
    };
    let header = |first| [first, called, failed, "MEAN", "P99", read, written];
    let services: Vec<Vec<String>> = report
        .services
        .iter()
        .map(|service| match &service.flow {
            Ok(flow) => row(service.target.name.clone(), flow, seconds),
            Err(_) => vec![service.target.name.clone(), "no answer".to_owned()],
        })
        .collect();
    let mut lines = output::table_lines(&header("SERVICE"), &services);
    for service in &report.services {
        if let Err(why) = &service.flow {
            lines.push(format!("  ! {}: {why}", service.target.name));
        }
    }
    if !report.volumes.is_empty() {
        let volumes: Vec<Vec<String>> =
            report.volumes.iter().map(|(name, flow)| row(name.clone(), flow, seconds)).collect();
        lines.push(String::new());
        lines.extend(output::table_lines(&header("VOLUME"), &volumes));
    }
    if !report.calls.is_empty() {
        let kinds: Vec<Vec<String>> = report
            .calls
            .iter()
            .take(calls)
            .map(|(role, kind, flow)| {
                row(format!("{role} {kind}"), flow, seconds).into_iter().take(5).collect()
            })
            .collect();
        lines.push(String::new());
        lines.extend(output::table_lines(&header("CALL")[..5], &kinds));
    }
    lines
}

fn row(name: String, flow: &Flow, seconds: Option<f64>) -> Vec<String> {
    let bytes = |bytes: Option<f64>| {
        bytes.map_or_else(|| "-".to_owned(), |bytes| output::bytes(per(bytes, seconds) as u64))
    };
    let time = |time: Option<f64>| time.map_or_else(|| "-".to_owned(), millis);
    vec![
        name,
        number(per(flow.calls, seconds), seconds.is_some()),
        number(per(flow.failed, seconds), seconds.is_some()),
        time(flow.mean()),
        time(flow.p99()),
        bytes(flow.read),
        bytes(flow.written),
    ]
}

fn per(count: f64, seconds: Option<f64>) -> f64 {
    count / seconds.unwrap_or(1.0).max(1e-9)
}

/// Small rates with a digit behind the point; counts have none.
fn number(number: f64, is_rate: bool) -> String {
    if is_rate && number > 0.0 && number < 10.0 { format!("{number:.1}") } else { format!("{number:.0}") }
}

fn millis(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 0.001 => format!("{:.0} us", seconds * 1e6),
        seconds if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        seconds => format!("{seconds:.1} s"),
    }
}

/// One object: rates per second where there is an interval, else counts.
pub(super) fn to_json(report: &Report) -> Value {
    let seconds = report.interval.map(|interval| interval.as_secs_f64());
    let services = report.services.iter().map(|service| {
        let mut fields = Map::new();
        fields.insert("name".to_owned(), json!(service.target.name));
        fields.insert("role".to_owned(), json!(service.target.role));
        match &service.flow {
            Ok(flow) => put(&mut fields, flow, seconds),
            Err(why) => drop(fields.insert("error".to_owned(), json!(why))),
        }
        Value::Object(fields)
    });
    let volumes = report.volumes.iter().map(|(name, flow)| {
        let mut fields = Map::new();
        fields.insert("name".to_owned(), json!(name));
        put(&mut fields, flow, seconds);
        Value::Object(fields)
    });
    let calls = report.calls.iter().map(|(role, kind, flow)| {
        let mut fields = Map::new();
        fields.insert("role".to_owned(), json!(role));
        fields.insert("call".to_owned(), json!(kind));
        put(&mut fields, flow, seconds);
        Value::Object(fields)
    });
    json!({
        "interval": seconds,
        "services": services.collect::<Vec<_>>(),
        "volumes": volumes.collect::<Vec<_>>(),
        "calls": calls.collect::<Vec<_>>(),
    })
}

fn put(fields: &mut Map<String, Value>, flow: &Flow, seconds: Option<f64>) {
    let suffix = if seconds.is_some() { "_per_second" } else { "" };
    let counts = [
        ("calls", Some(flow.calls)),
        ("failed", Some(flow.failed)),
        ("read_bytes", flow.read),
        ("written_bytes", flow.written),
    ];
    for (name, count) in counts {
        let value = match (count, seconds) {
            (Some(count), Some(_)) => json!(per(count, seconds)),
            // Whole numbers as such.
            (Some(count), None) => json!(count as u64),
            (None, _) => Value::Null,
        };
        fields.insert(format!("{name}{suffix}"), value);
    }
    fields.insert("mean".to_owned(), json!(flow.mean()));
    fields.insert("p99".to_owned(), json!(flow.p99()));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scrape::Target;
    use crate::scrape::flow::Service;

    fn report(interval: Option<Duration>) -> Report {
        let target = |name: &str| Target {
            name: name.into(),
            role: "osd".into(),
            uuid: String::new(),
            http: String::new(),
        };
        let flow = Flow { calls: 30.0, failed: 3.0, read: Some(4096.0), ..Flow::default() };
        Report {
            interval,
            services: vec![
                Service { target: target("osd#1"), flow: Ok(flow.clone()) },
                Service { target: target("osd#2"), flow: Err("refused".to_owned()) },
            ],
            volumes: [("v".to_owned(), Flow { written: Some(10.0), ..Flow::default() })].into(),
            calls: vec![("osd".into(), "Read".into(), flow.clone()), ("osd".into(), "Write".into(), flow)],
        }
    }

    #[test]
    fn rates_are_per_second_and_counts_are_not() {
        let rates = text(&report(Some(Duration::from_secs(4))), 1);
        assert_eq!(
            rates,
            [
                "SERVICE  CALLS/S    FAILED/S  MEAN  P99  READ/S   WRITTEN/S",
                "osd#1    7.5        0.8       0 us  -    1.0 KiB  -",
                "osd#2    no answer",
                "  ! osd#2: refused",
                "",
                "VOLUME  CALLS/S  FAILED/S  MEAN  P99  READ/S  WRITTEN/S",
                "v       0        0         -     -    -       2 B",
                "",
                "CALL      CALLS/S  FAILED/S  MEAN  P99",
                "osd Read  7.5      0.8       0 us  -",
            ]
        );
        assert!(
            text(&report(None), 9).contains(&"osd#1    30         3       0 us  -    4.0 KiB  -".to_owned())
        );
    }

    #[test]
    fn json_says_in_its_names_which_it_is() {
        let value = to_json(&report(Some(Duration::from_secs(4))));
        assert_eq!(
            (&value["interval"], &value["services"][0]["calls_per_second"]),
            (&json!(4.0), &json!(7.5))
        );
        assert_eq!(value["services"][1], json!({"name": "osd#2", "role": "osd", "error": "refused"}));
        let value = to_json(&report(None));
        assert_eq!((&value["interval"], &value["services"][0]["calls"]), (&Value::Null, &json!(30)));
        assert_eq!(value["calls"][1]["call"], "Write");
        assert_eq!(value["volumes"][0]["written_bytes"], 10);
    }
}
