//! A violation for a person: few calls, in the order of the clock, with what overlapped what.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::check::naming::only_looks;
use crate::check::{Finding, Options, Violation, examine};
use crate::history::{Happening, History, Object, text};

/// Calls beyond which a history is not made short: each try costs a search.
const CALLS_MAX: usize = 3000;

/// Few of the calls that still break the same rule at the same call. What is left out is either a call that only
/// looked, or one without which the others can be explained up to that call.
pub(crate) fn shrink(
    history: &History,
    object: Object,
    calls: &[usize],
    options: &Options,
    finding: &Finding,
) -> Vec<usize> {
    let end = history.calls[finding.call].end();
    // What began after the call returned explains nothing.
    let mut kept: Vec<usize> =
        calls.iter().copied().filter(|one| history.calls[*one].invoked <= end).collect();
    if kept.len() > CALLS_MAX {
        return kept;
    }
    let mut tries = 0;
    let mut breaks = |calls: &[usize]| {
        tries += 1;
        tries <= options.tries && {
            let examined = examine(history, object, calls, options);
            examined.findings.first().is_some_and(|one| one.rule == finding.rule && one.call == finding.call)
        }
    };
    let necessary: Vec<usize> = kept
        .iter()
        .copied()
        .filter(|one| *one == finding.call || !only_looks(&history.calls[*one].operation))
        .collect();
    if breaks(&necessary) {
        kept = necessary;
    }
    let mut size = kept.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < kept.len() {
            let out = at..(at + size).min(kept.len());
            let fewer: Vec<usize> = kept
                .iter()
                .enumerate()
                .filter(|(place, _)| !out.contains(place))
                .map(|(_, one)| *one)
                .collect();
            if fewer.contains(&finding.call) && breaks(&fewer) {
                kept = fewer;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    kept
}

/// The violation in words, with its timeline.
#[must_use]
pub fn text(history: &History, violation: &Violation) -> String {
    let mut out = String::new();
    let object = text::object_text(violation.object);
    let _ = writeln!(out, "VIOLATION on {object}: {}", violation.rule);
    if !violation.state.is_empty() {
        let _ = writeln!(out, "  when the call marked > returned: {}", violation.state);
    }
    let first = violation.proof.iter().map(|one| history.calls[*one].invoked).min().unwrap_or(0);
    let last = violation.proof.iter().filter_map(|one| history.calls[*one].returned).max().unwrap_or(first);
    let _ = writeln!(out, "       began us    ended us  client process  call");
    let mut lines: Vec<(u64, String)> = Vec::new();
    for one in &violation.proof {
        let call = &history.calls[*one];
        let since = |at: u64| (at.saturating_sub(first)) as f64 / 1000.0;
        let ended = call.returned.map_or_else(|| "-".to_owned(), |at| format!("{:.1}", since(at)));
        let mark = if *one == violation.call { '>' } else { ' ' };
        let (client, process) = (call.client, call.process);
        let (asked, got) = (text::operation_text(&call.operation), text::outcome_text(&call.outcome));
        let began = since(call.invoked);
        lines.push((
            call.invoked,
            format!(
                "  {mark} {began:>10.1}  {ended:>10}  {client:>6} {process:>7}  {asked} = {got}  |{}|",
                bar(call.invoked, call.returned, first, last)
            ),
        ));
    }
    for event in history.events.iter().filter(|event| event.what != Happening::Killed) {
        if event.at >= first && event.at <= last {
            lines.push((event.at, format!("    {}", text::event_line(event))));
        }
    }
    lines.sort();
    for (_, line) in lines {
        let _ = writeln!(out, "{line}");
    }
    out
}

/// Where a call lies between the first and the last moment.
fn bar(from: u64, to: Option<u64>, first: u64, last: u64) -> String {
    const WIDTH: u64 = 32;
    let span = (last - first).max(1);
    let place = |at: u64| at.saturating_sub(first).min(span) * (WIDTH - 1) / span;
    let (from, to) = (place(from), to.map_or(WIDTH - 1, place));
    (0..WIDTH).map(|at| if at >= from && at <= to { '=' } else { ' ' }).collect()
}

/// The calls of a violation as a history of their own.
#[must_use]
pub fn extract(history: &History, violation: &Violation) -> History {
    let kept: BTreeSet<usize> = violation.proof.iter().copied().collect();
    let calls = kept.into_iter().map(|one| history.calls[one].clone()).collect();
    History { calls, events: history.events.clone() }
}
