//! A directory tree: names, links, attributes, handles, and one cell of content for each file.
//!
//! Walks take a step for each component, as they do on Linux: between two steps other calls may change the tree. What
//! is then done is done at once. Calls on an inode found by name (`stat`, `link`, `chmod`, `open`) find it in one
//! step and act in the next. A rename finds its two names in two steps when it ends without changing anything. Until a
//! call that changes names returns, other calls of its client may find what the names meant before: a kernel puts its own
//! idea of them right when it has the file system's answer.

mod act;
mod names;
mod plan;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use plan::Names;
pub use plan::{Plan, plans};

use crate::history::{Attributes, Call, Cell, Kind, Outcome, Value};
use crate::model::Part;
use crate::search::{Model, Span, Step};
use act::Act;
use names::Slow;

/// A name, by number.
pub type Name = u16;

/// An inode, by the number of the call that made it plus one.
pub type Id = u32;

/// The tree's root.
pub const ROOT: Id = 0;

/// Names in directories.
type Entries = BTreeMap<(Id, Name), Id>;

/// Everything in a tree at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Tree {
    /// Names in directories.
    pub entries: Entries,
    /// Inodes that a name, a handle or a pending call reaches.
    pub inodes: BTreeMap<Id, Inode>,
    /// Handles of processes.
    pub handles: BTreeMap<(u16, u16), Id>,
    /// Trees since the names were last synced, kept only if power goes at some time.
    past: Vec<(Entries, BTreeMap<Id, Inode>)>,
    /// What names meant before changes that have taken effect and not returned.
    ghosts: BTreeSet<Ghost>,
}

/// What a name meant before a change that has not returned, for calls of the client that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Ghost {
    call: usize,
    client: u16,
    directory: Id,
    name: Name,
    /// `None`: it was not there.
    meant: Option<Id>,
}

/// One inode.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Inode {
    /// What it is.
    pub kind: Kind,
    /// Names that it has; of a directory 1, or 0 when it was removed.
    pub links: u32,
    /// Permission bits.
    pub mode: u32,
    /// Its number, once anybody saw it.
    pub number: Option<u64>,
    /// A symlink's target.
    pub target: Option<Name>,
    /// A file's tag; 0: empty.
    pub tag: u32,
    /// Tags since the last sync that come back if power goes.
    unsynced: Vec<u32>,
    /// After a loss of power: the tag is one of these.
    choices: Vec<u32>,
}

impl Inode {
    pub(crate) fn new(kind: Kind, mode: u32) -> Self {
        let (number, target, tag) = (None, None, 0);
        Self { kind, links: 1, mode, number, target, tag, unsynced: Vec::new(), choices: Vec::new() }
    }
}

/// Does a whole call at once: what a file system without concurrency answers. `new` is the inode to make.
pub(crate) fn perform(tree: &mut Tree, names: &mut Names, call: &Call, new: Id) -> Outcome {
    let span = Span { from: 0, to: 0, optional: false };
    let call = Call { outcome: Outcome::Ok(Value::Nothing), ..call.clone() };
    let mut plans = Vec::new();
    plan::plan(&Part { source: None, call: Some(&call), span }, names, 0, &mut plans);
    let Some(plan) = plans.first() else { return Outcome::Failed(libc::EINVAL) };
    let mut walked: Vec<Id> = Vec::new();
    while let Some((path, component)) = plan.lookups.get(walked.len()) {
        let directory = if *component == 0 { ROOT } else { walked[walked.len() - 1] };
        match tree.pass(directory, plan, *path, *component) {
            Ok(found) => walked.push(found),
            Err(errno) => return Outcome::Failed(errno),
        }
    }
    let is_list = plan.act == Act::List;
    let directory = walked.last().copied().unwrap_or(ROOT);
    let (reply, changed) = act::act(tree, plan, &walked, new);
    if let Some(next) = changed {
        *tree = next;
    }
    match reply {
        Err(errno) => Outcome::Failed(errno),
        Ok(_) if is_list => {
            let listed = tree.entries.range((directory, 0)..=(directory, Name::MAX));
            Outcome::Ok(Value::Names(
                listed.map(|((_, name), _)| names.list[usize::from(*name)].clone()).collect(),
            ))
        }
        Ok(answer) => Outcome::Ok(tree.value(answer, names)),
    }
}

/// How far a call has come.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Stage {
    /// Inodes found so far.
    walked: Vec<Id>,
    /// Of a listing: names of which it is explained whether they were listed.
    explained: Vec<bool>,
    /// It has taken effect, and has to return.
    returns: bool,
}

impl Stage {
    fn with(&self, found: Id) -> Self {
        let walked = self.walked.iter().copied().chain([found]).collect();
        Self { walked, ..Self::default() }
    }
}

/// The model of a tree.
#[derive(Debug)]
pub struct TreeModel {
    plans: Vec<Plan>,
    /// Power goes for the last time at this moment; 0: never. Until then the past is kept.
    last_loss: u64,
}

impl TreeModel {
    /// A model of planned calls.
    #[must_use]
    pub fn new(plans: Vec<Plan>) -> Self {
        let losses = plans.iter().filter(|plan| plan.act == Act::PowerLost);
        let last_loss = losses.map(|plan| plan.span.from).max().unwrap_or(0);
        Self { plans, last_loss }
    }
}

impl Model for TreeModel {
    type State = Tree;
    type Stage = Stage;

    fn start(&self) -> Tree {
        let mut tree = Tree::default();
        tree.inodes.insert(ROOT, Inode::new(Kind::Directory, 0o755));
        tree
    }

    fn steps(&self, tree: &Tree, call: usize, stage: &Stage, out: &mut Vec<Step<Tree, Stage>>) {
        let (plan, walked) = (&self.plans[call], &stage.walked);
        if plan.act == Act::PowerLost {
            return tree.after_power_loss(out);
        }
        if stage.returns {
            let mut next = tree.clone();
            next.ghosts.retain(|ghost| ghost.call != call);
            return out.push(Step::Changed(next));
        }
        if let Some((path, component)) = plan.lookups.get(walked.len()) {
            let directory = if *component == 0 { ROOT } else { walked[walked.len() - 1] };
            let name = plan.paths[*path][*component];
            let ghosts = tree.ghosts.iter().filter(|ghost| {
                (ghost.client, ghost.directory, ghost.name) == (plan.client, directory, name)
            });
            let found = ghosts.map(|ghost| ghost.meant.ok_or(libc::ENOENT));
            let is_last = walked.len() + 1 == plan.lookups.len();
            for found in found.chain([tree.find(directory, name)]) {
                match found.and_then(|found| tree.goes_through(found, plan, *path, *component)) {
                    Ok(found) if is_last && !act::is_viable(tree, plan, found) => {}
                    Ok(found) => out.push(Step::Then(stage.with(found))),
                    Err(errno) if failed_so(&plan.outcome, errno) => out.push(Step::Seen),
                    Err(_) => {}
                }
            }
            return;
        }
        if let Some(listing) = &plan.listing {
            return out.extend(explain(tree, listing, stage));
        }
        if self.last_loss <= plan.span.from
            && matches!(plan.act, Act::Sync { .. } | Act::SyncNames)
            && plan.outcome.is_ok()
        {
            return out.push(Step::Seen);
        }
        if let Act::Rename(mode) = plan.act {
            match names::slow_rename(tree, plan, walked, mode) {
                Slow::Found(source) if plan.outcome != Outcome::Unknown => {
                    out.push(Step::Then(stage.with(source)))
                }
                Slow::Refused(errno) if failed_so(&plan.outcome, errno) => out.push(Step::Seen),
                // Not "seen": had it been asked at another time, it could have changed something.
                Slow::Nothing if plan.outcome.is_ok() => out.push(Step::Changed(tree.clone())),
                Slow::Found(_) | Slow::Refused(_) | Slow::Nothing | Slow::Asks => {}
            }
            if walked.len() > plan.lookups.len() || matches!(plan.outcome, Outcome::Failed(_)) {
                return;
            }
        }
        let (reply, mut changed) = act::act(tree, plan, walked, act::id_of(call));
        if let (Act::Close { .. }, true, Some(next)) = (plan.act, plan.outcome.is_ok(), &changed) {
            return out.push(Step::Unnoticed(next.clone()));
        }
        match (reply, &plan.outcome) {
            (Err(errno), outcome) if failed_so(outcome, errno) => out.push(Step::Seen),
            (Err(_), _) | (Ok(_), Outcome::Failed(_)) => {}
            (Ok(answer), Outcome::Ok(value)) => {
                let state = changed.as_mut();
                let bound = act::agree(state.as_deref().unwrap_or(tree), answer, value);
                match bound {
                    None => {}
                    Some(None) => match changed {
                        None => out.push(Step::Seen),
                        Some(next) => out.push(self.done(call, tree, next)),
                    },
                    Some(Some(next)) => out.push(self.done(call, tree, next)),
                }
            }
            (Ok(_), Outcome::Unknown) => {
                if let Some(next) = changed {
                    out.push(Step::Changed(self.remember(plan, tree, next)));
                }
            }
        }
    }

    fn forget(&self, tree: &Tree, pending: &[&Stage]) -> Option<Tree> {
        if self.last_loss > 0 {
            return None;
        }
        let dead = |id: &Id, inode: &Inode| {
            inode.links == 0
                && !tree.ghosts.iter().any(|ghost| ghost.meant == Some(*id))
                && !tree.handles.values().any(|held| held == id)
                && !pending.iter().any(|stage| stage.walked.contains(id))
        };
        if !tree.inodes.iter().any(|(id, inode)| dead(id, inode)) {
            return None;
        }
        let mut next = tree.clone();
        next.inodes.retain(|id, inode| !dead(id, inode));
        Some(next)
    }
}

/// A listing explained name by name: each was as listed at some time during the call.
fn explain(tree: &Tree, listing: &[bool], stage: &Stage) -> Option<Step<Tree, Stage>> {
    let directory = stage.walked.last().copied().unwrap_or(ROOT);
    let mut next = stage.clone();
    next.explained.resize(listing.len(), false);
    for (name, (explained, present)) in next.explained.iter_mut().zip(listing).enumerate() {
        *explained |= tree.entries.contains_key(&(directory, name as Name)) == *present;
    }
    if next.explained.iter().all(|explained| *explained) {
        return Some(Step::Seen);
    }
    (next != *stage).then_some(Step::Closer(next))
}

fn failed_so(outcome: &Outcome, errno: i32) -> bool {
    let same = |seen: i32| match (seen, errno) {
        // POSIX leaves the choice.
        (libc::EEXIST | libc::ENOTEMPTY, libc::ENOTEMPTY) | (libc::EPERM, libc::EISDIR) => true,
        (seen, errno) => seen == errno,
    };
    matches!(outcome, Outcome::Failed(seen) if same(*seen))
}

impl TreeModel {
    /// After a call that is known to have succeeded: names that it changed mean to its client what they did, until it
    /// returns.
    fn done(&self, call: usize, before: &Tree, after: Tree) -> Step<Tree, Stage> {
        let plan = &self.plans[call];
        let mut next = self.remember(plan, before, after);
        let names = before.entries.iter().chain(&next.entries).map(|(place, _)| *place);
        let meant = |place: (Id, Name)| (place, before.entries.get(&place).copied());
        let changed: Vec<_> =
            names.map(meant).filter(|(place, meant)| next.entries.get(place).copied() != *meant).collect();
        if changed.is_empty() {
            return Step::Changed(next);
        }
        let ghost = |((directory, name), meant)| Ghost { call, client: plan.client, directory, name, meant };
        next.ghosts.extend(changed.into_iter().map(ghost));
        Step::Midway(next, Stage { returns: true, ..Stage::default() })
    }

    fn remember(&self, plan: &Plan, before: &Tree, mut after: Tree) -> Tree {
        if plan.span.from < self.last_loss {
            after.keep(before);
        }
        after
    }
}

impl Tree {
    /// What a name in a directory leads to.
    pub(crate) fn find(&self, directory: Id, name: Name) -> Result<Id, i32> {
        match self.inodes.get(&directory).map(|inode| inode.kind) {
            Some(Kind::Directory) => self.entries.get(&(directory, name)).copied().ok_or(libc::ENOENT),
            // Targets never exist.
            Some(Kind::Symlink) | None => Err(libc::ENOENT),
            Some(Kind::File) => Err(libc::ENOTDIR),
        }
    }

    /// Finds a component of a path.
    fn pass(&self, directory: Id, plan: &Plan, path: usize, component: usize) -> Result<Id, i32> {
        let found = self.find(directory, plan.paths[path][component])?;
        self.goes_through(found, plan, path, component)
    }

    /// A component that is not the last must be a directory.
    fn goes_through(&self, found: Id, plan: &Plan, path: usize, component: usize) -> Result<Id, i32> {
        let names = &plan.paths[path];
        match self.inodes.get(&found).map(|inode| inode.kind) {
            Some(Kind::File) if component + 1 < names.len() => Err(libc::ENOTDIR),
            // Targets never exist.
            Some(Kind::Symlink) if component + 1 < names.len() => Err(libc::ENOENT),
            _ => Ok(found),
        }
    }

    fn value(&self, answer: act::Answer, names: &Names) -> Value {
        use act::Answer;
        let inode = |id: Id| self.inodes.get(&id).cloned().unwrap_or_else(|| Inode::new(Kind::File, 0));
        match answer {
            Answer::Nothing => Value::Nothing,
            Answer::Inode(id) => Value::Inode(u64::from(id)),
            Answer::Attributes(id) => {
                let Inode { kind, links, mode, tag, .. } = inode(id);
                let size = if tag == 0 { 0 } else { 8 };
                Value::Attributes(Attributes { ino: u64::from(id), kind, links, mode, size, mtime: 0 })
            }
            Answer::Target(id) => Value::Text(
                inode(id).target.map_or_else(String::new, |name| names.list[usize::from(name)].clone()),
            ),
            Answer::Content(id) => match inode(id).tag {
                0 => Value::Cells(Vec::new()),
                tag => Value::Cells(vec![Cell::Tag(tag)]),
            },
        }
    }

    /// Every tree that may be left when power goes, with contents chosen by `pick` (a number below its argument).
    pub(crate) fn lose_power(&self, pick: &mut dyn FnMut(usize) -> usize) -> Self {
        let mut steps = Vec::new();
        self.after_power_loss(&mut steps);
        let chosen = pick(steps.len());
        let Some(Step::Changed(mut tree)) = steps.into_iter().nth(chosen) else { return self.clone() };
        for inode in tree.inodes.values_mut().filter(|inode| !inode.choices.is_empty()) {
            inode.tag = inode.choices[pick(inode.choices.len())];
            inode.choices.clear();
        }
        tree
    }

    /// Keeps the tree before a change of names, to fall back to when power goes.
    pub(crate) fn keep(&mut self, before: &Self) {
        if self.entries != before.entries && self.past == before.past {
            self.past.push((before.entries.clone(), before.inodes.clone()));
        }
    }

    fn after_power_loss(&self, out: &mut Vec<Step<Self, Stage>>) {
        let now = (self.entries.clone(), self.inodes.clone());
        for (entries, inodes) in self.past.iter().chain([&now]) {
            let mut inodes = inodes.clone();
            for (id, inode) in &mut inodes {
                if let Some(latest) = self.inodes.get(id) {
                    inode.clone_from(&Inode { links: inode.links, mode: inode.mode, ..latest.clone() });
                }
                inode.choices.clone_from(&inode.unsynced);
                inode.choices.push(inode.tag);
                inode.choices.sort_unstable();
                inode.choices.dedup();
                inode.unsynced.clear();
                if inode.choices.len() == 1 {
                    inode.choices.clear();
                }
            }
            let (handles, past, ghosts) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
            out.push(Step::Changed(Self { entries: entries.clone(), inodes, handles, past, ghosts }));
        }
    }

    /// The state in words, with names from the plan that the model was built from.
    #[must_use]
    pub fn describe(&self, names: &[String]) -> String {
        let mut words = Vec::new();
        for ((directory, name), id) in &self.entries {
            let Some(inode) = self.inodes.get(id) else { continue };
            let place = if *directory == ROOT { String::new() } else { format!("[inode {directory}]/") };
            let kind = match inode.kind {
                Kind::File if inode.tag == 0 => format!("empty file, {} links", inode.links),
                Kind::File => format!("file t{}, {} links", inode.tag, inode.links),
                Kind::Directory => format!("directory, inode {id}"),
                Kind::Symlink => "symlink".into(),
            };
            words.push(format!("{place}{} = {kind}, mode {:o}", names[usize::from(*name)], inode.mode));
        }
        if words.is_empty() { "the tree is empty".into() } else { words.join("; ") }
    }
}
