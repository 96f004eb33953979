//! Runs the checker over a model and says what came of it: how much there was, what was reached, and the shortest way to
//! what must not be.

use std::fmt;
use std::hash::Hash;
use std::time::{Duration, Instant};

use stateright::{Checker, Expectation, HasDiscoveries, Model, Path};

/// A model whose traces can be read.
pub trait Readable: Model {
    /// What an action does in a state, in a line.
    fn tell(&self, state: &Self::State, action: &Self::Action) -> String;
    /// What a state is, in a line.
    fn show(&self, state: &Self::State) -> String;
}

/// How far a search goes. The default: to the end.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Threads that search. One finds the shortest traces.
    pub threads: usize,
    /// It is given up after so many steps.
    pub steps: Option<usize>,
    /// Deep first: needs less memory, finds long traces.
    pub deep: bool,
    /// It ends when this property is broken, whatever else is; `None`: when any is.
    pub until: Option<&'static str>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { threads: 1, steps: None, deep: false, until: None }
    }
}

/// A property that does not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its name.
    pub property: &'static str,
    /// The way there, a line per step, and the state at its end.
    pub trace: Vec<String>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Report {
    /// Different states.
    pub states: usize,
    /// States looked at, those seen before included.
    pub steps: usize,
    /// Length of the longest of the shortest ways (of the longest way, when the search went deep first).
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// Nothing is left to look at.
    pub complete: bool,
    /// What does not hold.
    pub failures: Vec<Failure>,
    /// What must be reached sometimes and was.
    pub reached: Vec<&'static str>,
    /// What must be reached sometimes and was not.
    pub missed: Vec<&'static str>,
}

impl Report {
    /// Everything was looked at, holds, and is not vacuous.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.complete && self.failures.is_empty() && self.missed.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.complete { "exhausted" } else { "NOT exhausted" };
        let seconds = self.took.as_secs_f64();
        writeln!(
            out,
            "{end}: {} states, {} steps, depth {}, {seconds:.1} s",
            self.states, self.steps, self.depth
        )?;
        for name in &self.reached {
            writeln!(out, "  reached: {name}")?;
        }
        for name in &self.missed {
            writeln!(out, "  MISSED:  {name}")?;
        }
        for failure in &self.failures {
            writeln!(out, "  BROKEN:  {}", failure.property)?;
            for (number, line) in (1..).zip(&failure.trace) {
                writeln!(out, "  {number:>4}. {line}")?;
            }
        }
        Ok(())
    }
}

/// Looks at every state that a model can come to, or until something does not hold.
pub fn search<M>(model: M, limits: Limits) -> Report
where
    M: Readable + Clone + Send + Sync + 'static,
    M::State: Clone + PartialEq + Hash + Send + Sync + 'static,
    M::Action: Clone + PartialEq,
{
    let start = Instant::now();
    let mut builder = model.clone().checker().threads(limits.threads);
    builder = builder.finish_when(match limits.until {
        Some(property) => HasDiscoveries::AnyOf([property].into()),
        None => HasDiscoveries::AnyFailures,
    });
    if let Some(steps) = limits.steps {
        builder = builder.target_state_count(steps);
    }
    if limits.deep {
        summary(&model, builder.spawn_dfs().join(), limits, start)
    } else {
        summary(&model, builder.spawn_bfs().join(), limits, start)
    }
}

fn summary<M>(model: &M, checker: impl Checker<M>, limits: Limits, start: Instant) -> Report
where
    M: Readable,
    M::State: Clone + PartialEq + Hash,
    M::Action: Clone + PartialEq,
{
    let took = start.elapsed();
    let mut found = checker.discoveries();
    let mut report = Report {
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        took,
        complete: false,
        failures: Vec::new(),
        reached: Vec::new(),
        missed: Vec::new(),
    };
    for property in model.properties() {
        let path = found.remove(property.name);
        match (property.expectation, path) {
            (Expectation::Sometimes, Some(_)) => report.reached.push(property.name),
            (Expectation::Sometimes, None) => report.missed.push(property.name),
            (_, Some(path)) => {
                report.failures.push(Failure { property: property.name, trace: trace(model, path) });
            }
            (_, None) => {}
        }
    }
    let in_count = limits.steps.is_none_or(|steps| report.steps < steps);
    report.complete = in_count && report.failures.is_empty();
    report
}

fn trace<M: Readable>(model: &M, path: Path<M::State, M::Action>) -> Vec<String> {
    let step = |(state, action): (M::State, Option<M::Action>)| match action {
        Some(action) => model.tell(&state, &action),
        None => format!("then: {}", model.show(&state)),
    };
    path.into_vec().into_iter().map(step).collect()
}
