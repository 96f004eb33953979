//! The report as one HTML file without anything from elsewhere: verdict, picture of stalls and faults, tables.

use std::fmt::Write;

use super::report::Report;
use super::schedule::Nemesis;
use super::track::BIN_MS;

const WIDTH: f64 = 1080.0;
const LEFT: f64 = 70.0;
const LANE: f64 = 110.0;
const TOP: f64 = 26.0;
/// Bars are as high as the logarithm of their time: from 1 ms to this.
const MOST_MS: f64 = 20_000.0;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1d2430; --paper: #fff; --faint: #8a93a0; --bar: #3b6ea8; --bad: #c62828; --ok: #2e7d32 }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e7ee; --paper: #161a20; --faint: #7d8794; --bar: #7fb0e6; --bad: #ff7b72; --ok: #6fcf7a } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1100px; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0 } td, th { text-align: left; padding: .2em 1em .2em 0; vertical-align: top }
th { color: var(--faint); font-weight: normal } .ok { color: var(--ok) } .bad { color: var(--bad); font-weight: 600 }
svg { width: 100%; height: auto } svg text { fill: var(--faint); font-size: 11px } .bar { fill: var(--bar) } .error { fill: var(--bad) }
.grid { stroke: var(--faint); stroke-opacity: .25 } code { font-size: .9em } .number { text-align: right }
";

fn colour(nemesis: Nemesis) -> &'static str {
    match nemesis {
        Nemesis::Kill => "#d64545",
        Nemesis::Pause => "#e0a100",
        Nemesis::Corrupt => "#8e5bd0",
        Nemesis::Restart => "#6b7280",
        Nemesis::Pair => "#189aa8",
        Nemesis::Partition => "#2563eb",
        Nemesis::OneWay => "#60a5fa",
        Nemesis::Host => "#1e3a8a",
        Nemesis::Members => "#15803d",
        Nemesis::Slow => "#b45309",
        Nemesis::Full => "#be185d",
        Nemesis::Clock => "#7c8a00",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

pub(super) fn page(report: &Report) -> String {
    let (class, word) = if report.passed() { ("ok", "passed") } else { ("bad", "FAILED") };
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>xtfs chaos, seed {seed}: {word}</title>\n<style>{STYLE}</style>\n\
         <h1>xtfs chaos, seed {seed}: <span class=\"{class}\">{word}</span></h1>\n<p>{started}, {seconds:.1} s under load, {faults} faults. \
         The same faults again: <code>{repeat}</code></p>\n<table>",
        seed = report.seed,
        started = escape(&report.started),
        seconds = report.end_ms as f64 / 1000.0,
        faults = report.faults.len(),
        repeat = escape(&report.repeat),
    );
    for check in &report.checks {
        let (class, word) = if check.passed { ("ok", "ok") } else { ("bad", "FAIL") };
        let _ =
            writeln!(page, "<tr><td class=\"{class}\">{word}<td>{}<td>{}", check.name, escape(&check.text));
    }
    page += "</table>\n<h2>Stalls and faults</h2>\n<p>Each bar is the longest operation that ended in its tenth of a second (logarithmic); \
             bands are faults, from the deed until the victim was back; red marks are errors and wrong answers. Point at them for details.</p>\n";
    picture(report, &mut page);
    table(report, &mut page);
    let troubles = report.troubles();
    if !troubles.is_empty() {
        page += "<h2>Errors and wrong answers</h2>\n<table><tr><th>s<th>load<th>what\n";
        for (name, trouble) in troubles {
            let at = trouble.at_ms as f64 / 1000.0;
            let _ = writeln!(page, "<tr><td>{at:.1}<td>{name}<td>{}", escape(&trouble.text));
        }
        page += "</table>\n";
    }
    page + "</html>\n"
}

fn picture(report: &Report, page: &mut String) {
    let end = report.end_ms.max(1) as f64;
    let x = |ms: u64| LEFT + (WIDTH - LEFT) * (ms as f64 / end).min(1.0);
    let height = |ms: f64| (LANE - 20.0) * (ms.max(1.0).ln() / MOST_MS.ln()).min(1.0);
    let bottom = TOP + LANE * report.loads.len() as f64;
    let _ = writeln!(
        page,
        "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"timeline\">",
        bottom + 20.0
    );
    for (number, fault) in report.faults.iter().enumerate() {
        let (from, to) = (x(fault.at_ms), x(fault.until_ms.max(fault.at_ms + BIN_MS)));
        let _ = writeln!(
            page,
            "<g><title>{:.1} s: {}</title><rect x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\" fill-opacity=\".28\"/>\
             <text x=\"{from:.1}\" y=\"{}\">{}</text></g>",
            fault.at_ms as f64 / 1000.0,
            escape(&fault.what.join(" + ")),
            (to - from).max(2.0),
            bottom - TOP,
            colour(fault.nemesis),
            TOP - 8.0,
            number + 1,
        );
    }
    for (lane, (name, track)) in report.loads.iter().enumerate() {
        let base = TOP + LANE * (lane + 1) as f64;
        let _ = writeln!(page, "<text x=\"0\" y=\"{:.1}\">{name}</text>", base - LANE / 2.0);
        for (ms, word) in
            [(1.0, "1 ms"), (10.0, "10 ms"), (100.0, "0.1 s"), (1000.0, "1 s"), (10_000.0, "10 s")]
        {
            let y = base - height(ms);
            let _ = writeln!(
                page,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{}\" y=\"{y:.1}\" text-anchor=\"end\">{word}</text>",
                LEFT - 4.0
            );
        }
        let width = (WIDTH - LEFT) * BIN_MS as f64 / end;
        for (bin, op) in &track.bins {
            let tall = height(op.took_ms as f64);
            let _ = writeln!(
                page,
                "<rect class=\"bar\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.2}\" height=\"{tall:.1}\"><title>{} ms {} at {:.1} s</title></rect>",
                x(bin * BIN_MS),
                base - tall,
                width.max(0.5),
                op.took_ms,
                op.what,
                op.start_ms as f64 / 1000.0,
            );
        }
        for trouble in track.errors.first.iter().chain(&track.wrong.first) {
            let at = x(trouble.at_ms);
            let _ = writeln!(
                page,
                "<rect class=\"error\" x=\"{at:.1}\" y=\"{:.1}\" width=\"3\" height=\"{LANE}\"><title>{}</title></rect>",
                base - LANE,
                escape(&trouble.text)
            );
        }
    }
    let step =
        [1, 2, 5, 10, 30, 60, 300, 600].into_iter().find(|step| end / 1000.0 / f64::from(*step) <= 16.0);
    let step = u64::try_from(step.unwrap_or(3600)).unwrap_or(3600);
    for second in (0..=report.end_ms / 1000).step_by(usize::try_from(step).unwrap_or(1)) {
        let _ =
            writeln!(page, "<text x=\"{:.1}\" y=\"{}\">{second} s</text>", x(second * 1000), bottom + 14.0);
    }
    *page += "</svg>\n";
}

fn table(report: &Report, page: &mut String) {
    *page += "<h2>Longest operation of each load from one fault to the next</h2>\n<table><tr><th>#<th>s<th>fault<th>back after";
    for (name, _) in &report.loads {
        let _ = write!(page, "<th>{name}");
    }
    let cells = |page: &mut String, stalls: Vec<(&str, Option<super::track::Op>)>| {
        for (_, op) in stalls {
            let text = op.map_or_else(|| "-".to_owned(), |op| format!("{} ms {}", op.took_ms, op.what));
            let _ = write!(page, "<td>{text}");
        }
        page.push('\n');
    };
    *page += "\n<tr><td><td>0.0<td>none yet<td>";
    cells(page, report.calm());
    for (index, fault) in report.faults.iter().enumerate() {
        let _ = write!(
            page,
            "<tr><td>{}<td>{:.1}<td><span style=\"color:{}\">&#9632;</span> {}<td>{:.1} s",
            index + 1,
            fault.at_ms as f64 / 1000.0,
            colour(fault.nemesis),
            escape(&fault.what.iter().chain(&fault.failures).cloned().collect::<Vec<_>>().join(" + ")),
            (fault.until_ms - fault.at_ms) as f64 / 1000.0,
        );
        cells(page, report.stalls(index));
    }
    *page += "</table>\n<table><tr><th>load<th>operations<th>longest<th>errors<th>wrong<th>without room\n";
    for (name, track) in &report.loads {
        let longest = track.longest(0, report.end_ms).map_or(0, |op| op.took_ms);
        let (count, errors, wrong) = (track.count, track.errors.count, track.wrong.count);
        let full = track.no_room;
        let _ = writeln!(page, "<tr><td>{name}<td>{count}<td>{longest} ms<td>{errors}<td>{wrong}<td>{full}");
    }
    *page += "</table>\n";
}

#[cfg(test)]
mod tests {
    use super::super::report::Happened;
    use super::super::track::{Op, Track};
    use super::super::verdict::Check;
    use super::*;

    fn report(passed: bool) -> Report {
        let mut track = Track::default();
        track.bins.insert(15, Op { start_ms: 1100, took_ms: 420, what: "write" });
        track.wrong.add(1600, "block <7>".to_owned());
        let fault = |at_ms, nemesis| Happened {
            at_ms,
            until_ms: at_ms + 500,
            nemesis,
            what: vec!["kill -9 osd-1".to_owned()],
            failures: Vec::new(),
        };
        Report {
            seed: 7,
            repeat: "xtfs chaos --seed 7".to_owned(),
            started: "2026-01-01T00:00:00Z".to_owned(),
            end_ms: 5000,
            faults: vec![fault(1000, Nemesis::Kill), fault(3000, Nemesis::Pause)],
            loads: vec![("data", track)],
            checks: vec![Check { name: "no errors", passed, text: "a <b>".to_owned() }],
            kept: Vec::new(),
        }
    }

    #[test]
    fn the_page_stands_alone_and_says_what_happened() {
        let page = page(&report(false));
        assert!(page.contains("FAILED") && page.contains("420 ms write") && page.contains("kill -9 osd-1"));
        assert!(page.contains("a &lt;b&gt;") && page.contains("block &lt;7&gt;") && !page.contains("<b>"));
        assert!(!page.contains("http") && !page.contains("src="));
    }

    #[test]
    fn text_and_json_give_each_fault_its_stall() {
        let report = report(true);
        let text = report.text();
        assert!(
            text.contains("420 write") && text.contains("ok   no errors") && text.contains("passed"),
            "{text}"
        );
        let json = report.to_json();
        assert_eq!(json["faults"][0]["longest_stall"]["data"], 0.42);
        assert!(json["faults"][1]["longest_stall"]["data"].is_null());
        assert_eq!(json["passed"], true);
    }
}
