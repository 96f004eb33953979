//! Proof that the checker finds what it is for: a file system in memory whose bugs can be switched on one at a time.
//!
//! Time is virtual and everything is drawn from a seed, so a run is the same on every machine. Without a bug the file
//! system does every call at one instant, and no violation may be found.

mod bugs;
mod memory;
mod simulator;

pub use bugs::{Bug, CASES, Case};
pub use simulator::{Setting, simulate};

use crate::check::{Options, Report, check};
use crate::model::Atomicity;

/// What came of the search for one bug.
#[derive(Debug)]
pub struct Hunt {
    /// Calls made until a violation was found, or all that were allowed.
    pub calls: usize,
    /// The rule that found it; `None`: it was not found.
    pub rule: Option<&'static str>,
}

/// Calls in one history of a hunt.
const CALLS_AT_ONCE: usize = 600;

/// Options that a simulated history is checked with: the file system in memory does whole calls at once.
#[must_use]
pub fn options() -> Options {
    Options { atomicity: Atomicity::Call, times: Some(1), tries: 0, ..Options::default() }
}

/// Runs a file system with this bug until the checker finds it or `calls_max` calls were made.
#[must_use]
pub fn hunt(case: &Case, seed: u64, calls_max: usize) -> Hunt {
    let (mut calls, mut run) = (0, 0);
    while calls < calls_max {
        let setting = Setting {
            bug: Some(case.bug),
            seed: seed.wrapping_add(run),
            calls: CALLS_AT_ONCE,
            classes: case.classes.to_vec(),
            power_losses: case.power_losses,
            fences: case.fences,
        };
        let history = simulate(&setting);
        calls += history.calls.len();
        let report = check(&history, &options());
        if let Some(violation) = report.violations.first() {
            return Hunt { calls, rule: Some(violation.rule) };
        }
        run += 1;
    }
    Hunt { calls, rule: None }
}

/// Runs the file system without any bug: whatever is reported is a false alarm.
#[must_use]
pub fn false_alarms(setting: &Setting) -> Report {
    check(&simulate(setting), &options())
}
