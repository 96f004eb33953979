//! The report: one value, shown as text, as JSON and as a page.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Value, json};

use super::schedule::Nemesis;
use super::track::{Op, Track, Trouble};
use super::verdict::{Check, passed};
use crate::output;

/// A fault as it happened.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Happened {
    pub(super) at_ms: u64,
    pub(super) until_ms: u64,
    pub(super) nemesis: Nemesis,
    pub(super) what: Vec<String>,
    pub(super) failures: Vec<String>,
}

/// See the module.
pub(super) struct Report {
    pub(super) seed: u64,
    pub(super) repeat: String,
    pub(super) started: String,
    /// From the first operation of the loads to the end of the last.
    pub(super) end_ms: u64,
    pub(super) faults: Vec<Happened>,
    pub(super) loads: Vec<(&'static str, Track)>,
    pub(super) checks: Vec<Check>,
    /// Where what belongs to it is kept, or nothing.
    pub(super) kept: Vec<String>,
}

impl Report {
    /// When the next fault begins.
    fn until(&self, index: usize) -> u64 {
        self.faults.get(index + 1).map_or(self.end_ms, |next| next.at_ms)
    }

    /// The longest operation of each load from this fault to the next.
    pub(super) fn stalls(&self, index: usize) -> Vec<(&'static str, Option<Op>)> {
        let (from_ms, to_ms) = (self.faults[index].at_ms, self.until(index));
        self.loads.iter().map(|(name, track)| (*name, track.longest(from_ms, to_ms))).collect()
    }

    /// Before the first fault: what this machine needs anyway.
    pub(super) fn calm(&self) -> Vec<(&'static str, Option<Op>)> {
        let to_ms = self.faults.first().map_or(self.end_ms, |fault| fault.at_ms);
        self.loads.iter().map(|(name, track)| (*name, track.longest(0, to_ms))).collect()
    }

    /// What went wrong, in order of time.
    pub(super) fn troubles(&self) -> Vec<(&'static str, &Trouble)> {
        let mut all: Vec<(&'static str, &Trouble)> = self
            .loads
            .iter()
            .flat_map(|(name, track)| {
                track.errors.first.iter().chain(&track.wrong.first).map(|trouble| (*name, trouble))
            })
            .collect();
        all.sort_by_key(|(_, trouble)| trouble.at_ms);
        all
    }

    pub(super) fn passed(&self) -> bool {
        passed(&self.checks)
    }

    pub(super) fn to_json(&self) -> Value {
        let stalls = |of: Vec<(&'static str, Option<Op>)>| -> Value {
            of.into_iter().map(|(name, op)| (name.to_owned(), json!(op.map(seconds)))).collect()
        };
        let faults: Vec<Value> = (0..self.faults.len())
            .map(|index| {
                let fault = &self.faults[index];
                json!({
                    "at": fault.at_ms as f64 / 1000.0,
                    "until": fault.until_ms as f64 / 1000.0,
                    "nemesis": fault.nemesis,
                    "what": fault.what,
                    "failures": fault.failures,
                    "longest_stall": stalls(self.stalls(index)),
                })
            })
            .collect();
        let loads: Vec<Value> = self
            .loads
            .iter()
            .map(|(name, track)| {
                json!({
                    "name": name,
                    "operations": track.count,
                    "longest": track.longest(0, self.end_ms).map(seconds),
                    "errors": track.errors,
                    "wrong": track.wrong,
                    "no_room": track.no_room,
                    "slow": track.bins.values().filter(|op| op.took_ms >= 50).collect::<Vec<_>>(),
                })
            })
            .collect();
        json!({
            "passed": self.passed(),
            "seed": self.seed,
            "repeat": self.repeat,
            "started": self.started,
            "duration": self.end_ms as f64 / 1000.0,
            "checks": self.checks,
            "longest_stall_before_faults": stalls(self.calm()),
            "faults": faults,
            "loads": loads,
            "kept": self.kept,
        })
    }

    /// For the terminal.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "seed {}, {:.1} s, {} faults\n\n",
            self.seed,
            self.end_ms as f64 / 1000.0,
            self.faults.len()
        );
        let mut header = vec!["AT", "FAULT"];
        let names: Vec<String> = self.loads.iter().map(|(name, _)| format!("{name} (ms)")).collect();
        header.extend(names.iter().map(String::as_str));
        let row = |at: String, what: String, stalls: Vec<(&'static str, Option<Op>)>| {
            let cells = stalls
                .into_iter()
                .map(|(_, op)| op.map_or_else(|| "-".to_owned(), |op| format!("{} {}", op.took_ms, op.what)));
            [at, what].into_iter().chain(cells).collect::<Vec<String>>()
        };
        let mut rows = vec![row("0.0".to_owned(), "(none yet)".to_owned(), self.calm())];
        for (index, fault) in self.faults.iter().enumerate() {
            let at = format!("{:.1}", fault.at_ms as f64 / 1000.0);
            rows.push(row(at, fault.what.join(" + "), self.stalls(index)));
        }
        text += "longest operation of each load from one fault to the next:\n";
        for line in output::table_lines(&header, &rows) {
            let _ = writeln!(text, "{line}");
        }
        let full: Vec<String> = self
            .loads
            .iter()
            .filter(|(_, track)| track.no_room > 0)
            .map(|(name, track)| format!("{name} {}", track.no_room))
            .collect();
        if !full.is_empty() {
            let _ = writeln!(text, "refused for lack of room, as they had to be: {}", full.join(", "));
        }
        for (name, trouble) in self.troubles().iter().take(10) {
            let _ = writeln!(text, "  ! {:.1} s, {name}: {}", trouble.at_ms as f64 / 1000.0, trouble.text);
        }
        text.push('\n');
        for check in &self.checks {
            let word = if check.passed { "ok  " } else { "FAIL" };
            let _ = writeln!(text, "{word} {}: {}", check.name, check.text);
        }
        text.push('\n');
        for kept in &self.kept {
            let _ = writeln!(text, "{kept}");
        }
        let verdict = if self.passed() { "passed" } else { "FAILED" };
        let _ = write!(text, "{verdict}; the same faults again: {}", self.repeat);
        text
    }
}

fn seconds(op: Op) -> f64 {
    op.took_ms as f64 / 1000.0
}
