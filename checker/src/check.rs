//! Verdicts: a history cut into objects, each put before its model and its rules.

pub(crate) mod naming;

use std::collections::BTreeMap;

use crate::explain;
use crate::history::{Call, Happening, History, Object, Operation, Outcome};
use crate::model::file::{self, File};
use crate::model::locks::{self, Locks};
use crate::model::tree::{self, TreeModel};
use crate::model::{Atomicity, Part};
use crate::rules;
use crate::search::{Budget, Span, Verdict, search};

/// How strict to be, and how long to search.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How much of a data call takes effect at once.
    pub atomicity: Atomicity,
    /// What a search may cost.
    pub budget: Budget,
    /// Modification times are checked too: they never go back, and a write later than this many nanoseconds, the tick of
    /// the clock that they come from, moves them.
    pub times: Option<u64>,
    /// Searches that making one violation short for a person may cost; 0: it is not made short.
    pub tries: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { atomicity: Atomicity::default(), budget: Budget::default(), times: None, tries: 150 }
    }
}

/// Violations that are made short: nobody reads more, and each costs many searches.
const SHORTENED_MAX: usize = 8;

/// A call that POSIX does not explain.
#[derive(Debug, Clone)]
pub struct Violation {
    /// What is broken, in a few words; the same words for the same kind of violation.
    pub rule: &'static str,
    /// Where.
    pub object: Object,
    /// The call, as an index into the history.
    pub call: usize,
    /// What was possible instead.
    pub state: String,
    /// A few calls that prove it, as indices into the history, the call itself among them.
    pub proof: Vec<usize>,
}

/// The verdict on a history.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Calls looked at.
    pub calls: usize,
    /// Objects looked at.
    pub objects: usize,
    /// Objects whose search took too much: nothing is known of them beyond this number of calls.
    pub undecided: Vec<(Object, usize)>,
    /// At most one for each object, or one for each cell of a file.
    pub violations: Vec<Violation>,
}

/// Something wrong with one object, before it is made short for a person.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) rule: &'static str,
    /// Index in the history.
    pub(crate) call: usize,
    pub(crate) state: String,
}

/// What came of one object.
#[derive(Debug, Default)]
pub(crate) struct Examined {
    pub(crate) findings: Vec<Finding>,
    /// The search gave up at the return of this call.
    pub(crate) gave_up: Option<usize>,
}

/// Checks everything.
#[must_use]
pub fn check(history: &History, options: &Options) -> Report {
    let mut report = Report { calls: history.calls.len(), ..Report::default() };
    for (object, calls) in objects(history) {
        report.objects += 1;
        let examined = examine(history, object, &calls, options);
        if let Some(at) = examined.gave_up {
            report.undecided.push((object, at));
        }
        for finding in examined.findings {
            let tries = if report.violations.len() < SHORTENED_MAX { options.tries } else { 0 };
            let options = Options { tries, ..*options };
            let proof = explain::shrink(history, object, &calls, &options, &finding);
            let Finding { rule, call, state } = finding;
            report.violations.push(Violation { rule, object, call, state, proof });
        }
    }
    report
}

/// Indices of the calls on each object, in the order in which they began.
fn objects(history: &History) -> BTreeMap<Object, Vec<usize>> {
    let mut objects: BTreeMap<Object, Vec<usize>> = BTreeMap::new();
    for (index, call) in history.calls.iter().enumerate() {
        objects.entry(call.object).or_default().push(index);
    }
    for calls in objects.values_mut() {
        calls.sort_by_key(|index| history.calls[*index].invoked);
    }
    objects
}

/// Checks some of the calls on one object.
pub(crate) fn examine(history: &History, object: Object, calls: &[usize], options: &Options) -> Examined {
    let parts = parts(history, calls);
    let mut examined = match object {
        Object::Tree(_) => trees(&parts, options),
        Object::File(_) => files(&parts, options),
        Object::Locks(_) => lock_files(&parts, options),
        Object::Log(_) => Examined { findings: rules::log::check(&parts), gave_up: None },
    };
    if examined.findings.is_empty() && matches!(object, Object::Tree(_)) {
        examined.findings.extend(rules::listing::check(&parts));
        if let Some(tick) = options.times {
            examined.findings.extend(rules::times::check(&parts, tick));
        }
    }
    examined
}

/// Calls with their spans, and losses of power between them.
fn parts<'a>(history: &'a History, calls: &[usize]) -> Vec<Part<'a>> {
    let span = |call: &Call| {
        let fence = history
            .events
            .iter()
            .filter(|event| event.what == Happening::Fenced(call.client) && event.at >= call.invoked);
        let optional = call.outcome == Outcome::Unknown;
        let open = fence.map(|event| event.at).min().unwrap_or(u64::MAX);
        Span { from: call.invoked, to: if optional { open } else { call.end() }, optional }
    };
    let mut parts: Vec<Part<'a>> = calls
        .iter()
        .map(|index| {
            let call = &history.calls[*index];
            Part { source: Some(*index), call: Some(call), span: span(call) }
        })
        .collect();
    for event in history.events.iter().filter(|event| event.what == Happening::PowerLost) {
        let span = Span { from: event.at, to: event.at, optional: false };
        parts.push(Part { source: None, call: None, span });
    }
    parts.sort_by_key(|part| part.span.from);
    parts
}

fn trees(parts: &[Part<'_>], options: &Options) -> Examined {
    let (plans, names) = tree::plans(parts);
    let spans: Vec<Span> = plans.iter().map(|plan| plan.span).collect();
    let sources: Vec<Option<usize>> = plans.iter().map(|plan| plan.source).collect();
    let model = TreeModel::new(plans.clone());
    match search(&model, &spans, options.budget) {
        Verdict::Explained => Examined::default(),
        Verdict::Undecided { call } => Examined { findings: Vec::new(), gave_up: sources[call] },
        Verdict::Violated { call, states, .. } => {
            let Some(source) = sources[call] else { return Examined::default() };
            let rule = naming::tree(parts, &plans[call], &states);
            let mut state: Vec<String> = states.iter().map(|state| state.describe(&names)).collect();
            if let Some((name, present)) = states.first().and_then(|state| plans[call].differs(state)) {
                let name = &names[usize::from(name)];
                state.push(format!("the listing {} `{name}`", if present { "has" } else { "lacks" }));
            }
            found(rule, source, &state)
        }
    }
}

fn files(parts: &[Part<'_>], options: &Options) -> Examined {
    let pieces = file::pieces(parts, options.atomicity);
    let Some((_, cells)) = file::by_cell(&pieces) else {
        return one_file(parts, &pieces, Vec::new(), options);
    };
    let mut examined = Examined::default();
    for cell in cells {
        let one = one_file(parts, &cell, vec![0], options);
        examined.findings.extend(one.findings);
        examined.gave_up = examined.gave_up.or(one.gave_up);
    }
    examined
}

fn one_file(parts: &[Part<'_>], pieces: &[file::Piece], start: Vec<u32>, options: &Options) -> Examined {
    let spans: Vec<Span> = pieces.iter().map(|piece| piece.span).collect();
    match search(&File::new(pieces, start), &spans, options.budget) {
        Verdict::Explained => Examined::default(),
        Verdict::Undecided { call } => Examined { findings: Vec::new(), gave_up: pieces[call].source },
        Verdict::Violated { call, states, .. } => {
            let Some(source) = pieces[call].source else { return Examined::default() };
            let rule = naming::file(parts, &pieces[call], &states);
            let state: Vec<String> = states.iter().map(file::describe).collect();
            found(rule, source, &state)
        }
    }
}

fn lock_files(parts: &[Part<'_>], options: &Options) -> Examined {
    let spans: Vec<Span> = parts.iter().map(|part| part.span).collect();
    match search(&Locks::new(parts), &spans, options.budget) {
        Verdict::Explained => Examined::default(),
        Verdict::Undecided { call } => Examined { findings: Vec::new(), gave_up: parts[call].source },
        Verdict::Violated { call, states, .. } => {
            let (Some(source), Some(of)) = (parts[call].source, parts[call].call) else {
                return Examined::default();
            };
            let rule = match (&of.operation, of.outcome.is_ok()) {
                (Operation::Lock(crate::history::LockOp::Unlock { .. }), _) => {
                    "a lock could not be given back"
                }
                (_, true) => "a lock was granted beside one that excludes it",
                (_, false) => "a lock was refused though nobody held one",
            };
            let state: Vec<String> = states.iter().map(locks::describe).collect();
            found(rule, source, &state)
        }
    }
}

fn found(rule: &'static str, call: usize, states: &[String]) -> Examined {
    let state = states.join("\n  or: ");
    Examined { findings: vec![Finding { rule, call, state }], gave_up: None }
}
