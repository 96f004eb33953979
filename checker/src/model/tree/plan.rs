//! Calls on a tree made ready for the search: names as numbers, walks as lists, listings name by name.

use std::collections::BTreeMap;

use super::act::Act;
use super::{Name, ROOT, Tree};
use crate::check::naming::only_looks;
use crate::history::{Operation, Outcome, TreeOp, Value};
use crate::model::Part;
use crate::search::Span;

/// A call, or the part of a listing that is about one name.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Index in the history; `None` for an event.
    pub source: Option<usize>,
    /// When.
    pub span: Span,
    /// On which mount.
    pub(super) client: u16,
    /// Who.
    pub process: u16,
    pub(super) act: Act,
    /// Paths as names.
    pub(super) paths: Vec<Vec<Name>>,
    /// Walks: components (path, index) to be found, one after the other.
    pub(super) lookups: Vec<(usize, usize)>,
    /// A symlink's target is given by its number.
    pub(super) outcome: Outcome,
    /// Of a listing: which names were in it.
    pub(super) listing: Option<Vec<bool>>,
}

impl Plan {
    /// The first name that a listing shows otherwise than it is in this tree, and whether it was listed.
    #[must_use]
    pub fn differs(&self, tree: &Tree) -> Option<(Name, bool)> {
        let listing = self.listing.as_ref()?;
        let mut directory = ROOT;
        for name in self.paths.first()? {
            directory = tree.find(directory, *name).ok()?;
        }
        let is = |name: &usize| tree.entries.contains_key(&(directory, *name as Name));
        (0..listing.len()).find(|name| is(name) != listing[*name]).map(|name| (name as Name, listing[name]))
    }
}

/// Plans of the calls on a tree, and the names by number.
#[must_use]
pub fn plans(parts: &[Part<'_>]) -> (Vec<Plan>, Vec<String>) {
    let mut names = Names::default();
    for part in parts {
        let Some(Operation::Tree(op)) = part.operation() else { continue };
        for path in op.paths() {
            names.path(path);
        }
        if let Some(Outcome::Ok(Value::Names(listed))) = part.call.map(|call| &call.outcome) {
            for name in listed {
                names.number(name);
            }
        }
    }
    let universe = names.list.len();
    let mut plans = Vec::new();
    for part in parts {
        plan(part, &mut names, universe, &mut plans);
    }
    (plans, names.list)
}

/// Names by number.
#[derive(Debug, Default)]
pub(crate) struct Names {
    numbers: BTreeMap<String, Name>,
    pub(crate) list: Vec<String>,
}

impl Names {
    pub(crate) fn number(&mut self, name: &str) -> Name {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        // A tree with more names than that is not searched in a life-time.
        let number = Name::try_from(self.list.len()).unwrap_or(Name::MAX);
        self.numbers.insert(name.to_owned(), number);
        self.list.push(name.to_owned());
        number
    }

    fn path(&mut self, path: &str) -> Vec<Name> {
        path.split('/').filter(|part| !part.is_empty()).map(|part| self.number(part)).collect()
    }
}

pub(super) fn plan(part: &Part<'_>, names: &mut Names, universe: usize, out: &mut Vec<Plan>) {
    let (source, span) = (part.source, part.span);
    let Some(call) = part.call else {
        let (paths, lookups, outcome) = (Vec::new(), Vec::new(), Outcome::Ok(Value::Nothing));
        out.push(Plan {
            source,
            span,
            client: 0,
            process: 0,
            act: Act::PowerLost,
            paths,
            lookups,
            outcome,
            listing: None,
        });
        return;
    };
    let Operation::Tree(op) = &call.operation else { return };
    let paths: Vec<Vec<Name>> = op.paths().iter().map(|path| names.path(path)).collect();
    let mut lookups = Vec::new();
    for (index, path) in paths.iter().enumerate() {
        let found = if finds(op, index) { path.len() } else { path.len().saturating_sub(1) };
        lookups.extend((0..found).map(|component| (index, component)));
    }
    let act = act(op, names);
    let outcome = match &call.outcome {
        Outcome::Ok(Value::Text(text)) => Outcome::Ok(Value::Offset(u32::from(names.number(text)))),
        other => other.clone(),
    };
    if outcome == Outcome::Unknown && only_looks(&call.operation) {
        return;
    }
    let listing = match &outcome {
        // Twice is a finding of its own (`crate::rules`).
        Outcome::Ok(Value::Names(listed)) => {
            let universe = &names.list[..universe.min(names.list.len())];
            Some(universe.iter().map(|name| listed.contains(name)).collect())
        }
        _ => None,
    };
    let (client, process) = (call.client, call.process);
    out.push(Plan { source, span, client, process, act, paths, lookups, outcome, listing });
}

/// Whether the last component of this path is looked up first, and what is found acted on in a second step.
fn finds(op: &TreeOp, path: usize) -> bool {
    match op {
        TreeOp::Link { .. } => path == 0,
        TreeOp::Open { .. }
        | TreeOp::Readlink { .. }
        | TreeOp::Stat { .. }
        | TreeOp::List { .. }
        | TreeOp::Chmod { .. }
        | TreeOp::GetPath { .. } => true,
        _ => false,
    }
}

fn act(op: &TreeOp, names: &mut Names) -> Act {
    match op {
        TreeOp::Mkdir { mode, .. } => Act::Mkdir { mode: *mode },
        TreeOp::Rmdir { .. } => Act::Rmdir,
        TreeOp::Create { mode, exclusive, handle, .. } => {
            Act::Create { mode: *mode, exclusive: *exclusive, handle: *handle }
        }
        TreeOp::Open { handle, .. } => Act::Open { handle: *handle },
        TreeOp::Close { handle } => Act::Close { handle: *handle },
        TreeOp::Unlink { .. } => Act::Unlink,
        TreeOp::Link { .. } => Act::Link,
        TreeOp::Symlink { target, .. } => Act::Symlink { target: names.number(target) },
        TreeOp::Readlink { .. } => Act::Readlink,
        TreeOp::Rename { mode, .. } => Act::Rename(*mode),
        TreeOp::Stat { .. } => Act::Stat,
        TreeOp::StatHandle { handle } => Act::StatHandle { handle: *handle },
        TreeOp::List { .. } => Act::List,
        TreeOp::Chmod { mode, .. } => Act::Chmod { mode: *mode },
        TreeOp::Put { handle, tag } => Act::Put { handle: *handle, tag: *tag },
        TreeOp::Get { handle } => Act::Get { handle: *handle },
        TreeOp::GetPath { .. } => Act::GetPath,
        TreeOp::Sync { handle } => Act::Sync { handle: *handle },
        TreeOp::SyncNames => Act::SyncNames,
    }
}
