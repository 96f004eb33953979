//! Trees of the file system in memory: a call is done as it should be, then the bug has its way.

use super::{Bug, Memory, Thing};
use crate::history::{Call, Operation, Outcome, RenameMode, TreeOp, Value};
use crate::model::tree::{self, Id, ROOT, Tree};

fn done() -> Outcome {
    Outcome::Ok(Value::Nothing)
}

/// Seconds of the clock of modification times before which no simulated file was written.
const LONG_AGO: u64 = 1_000;

impl Memory {
    fn tree(&mut self, call: &Call) -> &mut Tree {
        let thing = self.things.entry(call.object).or_insert_with(|| super::empty(call.object));
        match thing {
            Thing::Tree(tree) => tree,
            // Objects keep their kind: `perform` made this one from the object's own.
            _ => unreachable!("a tree holds names"),
        }
    }

    /// As it should be.
    fn rightly(&mut self, call: &Call, op: &TreeOp) -> Outcome {
        let call = Call { operation: Operation::Tree(op.clone()), ..call.clone() };
        let mut tree = self.tree(&call).clone();
        let outcome = tree::perform(&mut tree, &mut self.names, &call, self.done);
        *self.tree(&call) = tree;
        outcome
    }

    /// In what the client saw last.
    fn in_view(&mut self, call: &Call, op: &TreeOp) -> Option<Outcome> {
        let Some(Thing::Tree(view)) = self.views.get(&(call.client, call.object)) else { return None };
        let mut tree = (**view).clone();
        tree.handles = self.tree(call).handles.clone();
        let call = Call { operation: Operation::Tree(op.clone()), ..call.clone() };
        Some(tree::perform(&mut tree, &mut self.names, &call, self.done))
    }

    /// The inode at a path of one or two components.
    fn at(&mut self, call: &Call, path: &str) -> Option<(Id, u16, Id)> {
        let names: Vec<u16> = path.split('/').map(|part| self.names.number(part)).collect();
        let tree = self.tree(call);
        let (last, before) = names.split_last()?;
        let mut directory = ROOT;
        for name in before {
            directory = tree.find(directory, *name).ok()?;
        }
        Some((directory, *last, tree.find(directory, *last).ok()?))
    }

    pub(super) fn tree_call(&mut self, call: &Call, op: &TreeOp) -> Outcome {
        let before = self.tree(call).clone();
        let outcome = self.wrongly(call, op).unwrap_or_else(|| self.rightly(call, op));
        let forgets = match op {
            TreeOp::Sync { .. } => self.bug == Some(Bug::SyncLosesContent),
            TreeOp::SyncNames => self.bug == Some(Bug::SyncNamesLosesName),
            _ => {
                self.tree(call).keep(&before);
                false
            }
        };
        if forgets {
            *self.tree(call) = before;
            return outcome;
        }
        self.with_time(call, op, outcome)
    }

    fn with_time(&mut self, call: &Call, op: &TreeOp, outcome: Outcome) -> Outcome {
        match (op, outcome) {
            (TreeOp::Put { handle, .. }, outcome) => {
                if let Some(id) = self.tree(call).handles.get(&(call.process, *handle)).copied()
                    && !self.strikes(Bug::TimeStands)
                {
                    self.mtimes.insert(id, self.now);
                }
                outcome
            }
            (_, Outcome::Ok(Value::Attributes(mut seen))) => {
                let mtime = self.mtimes.get(&(seen.ino as u32)).copied().unwrap_or_default();
                seen.mtime = LONG_AGO + mtime;
                if self.strikes(Bug::TimeGoesBack) {
                    seen.mtime -= LONG_AGO / 2 + self.dice.below(mtime.max(1));
                }
                if self.strikes(Bug::InodeChanges) {
                    seen.ino += 500_000;
                }
                Outcome::Ok(Value::Attributes(seen))
            }
            (_, outcome) => outcome,
        }
    }

    /// What the bug makes of a call; `None` if it leaves it alone.
    fn wrongly(&mut self, call: &Call, op: &TreeOp) -> Option<Outcome> {
        self.bug?;
        match op {
            TreeOp::Rename { from, to, mode } => self.wrong_rename(call, op, (from, to, *mode)),
            TreeOp::Create { path, exclusive: true, .. } => self.wrong_create(call, op, path),
            TreeOp::Mkdir { .. } if self.strikes(Bug::MkdirTwoWinners) => match self.rightly(call, op) {
                Outcome::Failed(libc::EEXIST) => Some(done()),
                other => Some(other),
            },
            TreeOp::Mkdir { .. } => self.retried(Bug::MkdirRetried, call, op),
            TreeOp::Rmdir { path } if self.strikes(Bug::RmdirNotEmpty) => match self.rightly(call, op) {
                Outcome::Failed(libc::ENOTEMPTY) => {
                    let (directory, name, _) = self.at(call, path)?;
                    self.tree(call).entries.remove(&(directory, name));
                    Some(done())
                }
                other => Some(other),
            },
            TreeOp::Unlink { path } => self.wrong_unlink(call, op, path),
            TreeOp::Link { from, to } => self.wrong_link(call, op, from, to),
            TreeOp::Chmod { .. } if self.strikes(Bug::ChmodLost) => {
                let before = self.tree(call).clone();
                let outcome = self.rightly(call, op);
                *self.tree(call) = before;
                Some(outcome)
            }
            TreeOp::Chmod { .. } if self.strikes(Bug::ChmodLate) => Some(self.done_late(call, op)),
            TreeOp::Put { .. } if self.strikes(Bug::PutLost) => Some(done()),
            TreeOp::Put { .. } if self.strikes(Bug::PutLate) => Some(self.done_late(call, op)),
            _ => self.wrong_look(call, op),
        }
    }

    /// Acknowledged now, done later.
    fn done_late(&mut self, call: &Call, op: &TreeOp) -> Outcome {
        let before = self.tree(call).clone();
        let outcome = self.rightly(call, op);
        let after = std::mem::replace(self.tree(call), before.clone());
        let (object, call, op) = (call.object, call.clone(), op.clone());
        if after != before {
            self.late(move |memory| {
                if memory.things.contains_key(&object) {
                    memory.rightly(&call, &op);
                }
            });
        }
        outcome
    }

    /// Done twice, with the second answer.
    fn retried(&mut self, bug: Bug, call: &Call, op: &TreeOp) -> Option<Outcome> {
        if !self.strikes(bug) {
            return None;
        }
        let first = self.rightly(call, op);
        if !first.is_ok() {
            return Some(first);
        }
        self.done += 1_000_000;
        let second = self.rightly(call, op);
        self.done -= 1_000_000;
        Some(second)
    }

    fn wrong_rename(&mut self, call: &Call, op: &TreeOp, how: (&str, &str, RenameMode)) -> Option<Outcome> {
        let (from, to, mode) = how;
        let as_replace = TreeOp::Rename { from: from.into(), to: to.into(), mode: RenameMode::Replace };
        let source = self.at(call, from)?;
        let target = self.at(call, to);
        let before = self.tree(call).clone();
        if (mode == RenameMode::NoReplace && self.strikes(Bug::RenameNoReplaceReplaces))
            || (mode == RenameMode::Exchange && self.strikes(Bug::RenameExchangeReplaces))
        {
            return Some(self.rightly(call, &as_replace));
        }
        if let Some(retried) = self.retried(Bug::RenameRetried, call, op) {
            return Some(retried);
        }
        let outcome = self.rightly(call, op);
        let after = self.tree(call).clone();
        if !outcome.is_ok() {
            return Some(outcome);
        }
        let object = call.object;
        let same = target.is_some_and(|target| target.2 == source.2);
        if same && from != to && self.strikes(Bug::RenameSameFileRemoves) {
            self.tree(call).entries.remove(&(source.0, source.1));
        }
        let set = move |place: (Id, u16), id: Option<Id>| {
            move |memory: &mut Self| {
                if let Some(Thing::Tree(tree)) = memory.things.get_mut(&object) {
                    match id {
                        Some(id) => {
                            tree.entries.entry(place).or_insert(id);
                        }
                        None => drop(tree.entries.remove(&place)),
                    }
                }
            }
        };
        let new = after
            .entries
            .iter()
            .find(|(place, id)| **id == source.2 && before.entries.get(place) != Some(id));
        let new = new.map(|(place, _)| *place);
        match (mode, new) {
            _ if after == before || same => {}
            (RenameMode::Exchange, Some(new)) if self.strikes(Bug::RenameExchangeInSteps) => {
                self.tree(call).entries.remove(&new);
                self.late(set(new, Some(source.2)));
            }
            (RenameMode::Replace, Some(new)) if self.strikes(Bug::RenameShowsNeither) => {
                self.tree(call).entries.remove(&new);
                self.late(set(new, Some(source.2)));
            }
            (RenameMode::Replace, _) if self.strikes(Bug::RenameShowsBoth) => {
                self.tree(call).entries.insert((source.0, source.1), source.2);
                self.late(set((source.0, source.1), None));
            }
            (_, _) if self.strikes(Bug::RenameIgnored) => *self.tree(call) = before,
            (RenameMode::Replace, _) => {
                if let Some((_, _, replaced)) = target {
                    let open = before.handles.values().any(|id| *id == replaced);
                    if open && self.strikes(Bug::RenameFreesOpenFile) {
                        self.empty_file(call, replaced);
                    }
                    if self.strikes(Bug::RenameKeepsLinkCount) {
                        self.count(call, replaced, 1);
                    }
                }
            }
            _ => {}
        }
        Some(outcome)
    }

    fn empty_file(&mut self, call: &Call, id: Id) {
        if let Some(inode) = self.tree(call).inodes.get_mut(&id) {
            inode.tag = 0;
        }
    }

    fn count(&mut self, call: &Call, id: Id, by: i32) {
        if let Some(inode) = self.tree(call).inodes.get_mut(&id) {
            inode.links = inode.links.saturating_add_signed(by);
        }
    }

    fn wrong_create(&mut self, call: &Call, op: &TreeOp, path: &str) -> Option<Outcome> {
        let TreeOp::Create { mode, handle, .. } = *op else { return None };
        if self.strikes(Bug::CreateTwoWinners) {
            let op = TreeOp::Create { path: path.into(), mode, exclusive: false, handle };
            return Some(self.rightly(call, &op));
        }
        if let Some(retried) = self.retried(Bug::CreateRetried, call, op) {
            return Some(retried);
        }
        if self.strikes(Bug::CreateLate) {
            let outcome = self.rightly(call, op);
            if let (true, Some((directory, name, id))) = (outcome.is_ok(), self.at(call, path)) {
                self.tree(call).entries.remove(&(directory, name));
                let object = call.object;
                self.late(move |memory| {
                    if let Some(Thing::Tree(tree)) = memory.things.get_mut(&object) {
                        tree.entries.entry((directory, name)).or_insert(id);
                    }
                });
            }
            return Some(outcome);
        }
        if self.strikes(Bug::CreateInRemoved) {
            return match self.rightly(call, op) {
                Outcome::Failed(libc::ENOENT) => {
                    Some(Outcome::Ok(Value::Inode(700_000 + u64::from(self.done))))
                }
                other => Some(other),
            };
        }
        None
    }

    fn wrong_unlink(&mut self, call: &Call, op: &TreeOp, path: &str) -> Option<Outcome> {
        let (directory, name, id) = self.at(call, path)?;
        if let Some(retried) = self.retried(Bug::UnlinkRetried, call, op) {
            return Some(retried);
        }
        let before = self.tree(call).clone();
        let outcome = self.rightly(call, op);
        if !outcome.is_ok() {
            return Some(outcome);
        }
        if self.strikes(Bug::UnlinkIgnored) {
            *self.tree(call) = before;
        } else if self.strikes(Bug::UnlinkResurrects) {
            let object = call.object;
            self.late(move |memory| {
                if let Some(Thing::Tree(tree)) = memory.things.get_mut(&object) {
                    tree.entries.entry((directory, name)).or_insert(id);
                }
            });
        } else if before.handles.values().any(|held| *held == id) && self.strikes(Bug::UnlinkFreesOpenFile) {
            self.empty_file(call, id);
        } else if self.strikes(Bug::UnlinkKeepsLinkCount) {
            self.count(call, id, 1);
        }
        Some(outcome)
    }

    fn wrong_link(&mut self, call: &Call, op: &TreeOp, from: &str, to: &str) -> Option<Outcome> {
        let source = self.at(call, from)?;
        if let (Some(target), true) = (self.at(call, to), self.bug == Some(Bug::LinkReplaces)) {
            self.tree(call).entries.insert((target.0, target.1), source.2);
            self.count(call, source.2, 1);
            return Some(done());
        }
        let outcome = self.rightly(call, op);
        if outcome.is_ok() && self.strikes(Bug::LinkKeepsLinkCount) {
            self.count(call, source.2, -1);
        }
        if outcome.is_ok() && self.strikes(Bug::LinkDiverges) {
            let (directory, name, id) = self.at(call, to)?;
            let new = self.done + 2_000_000;
            let tree = self.tree(call);
            let mut copy = tree.inodes.get(&id)?.clone();
            copy.links = 1;
            tree.inodes.insert(new, copy);
            tree.entries.insert((directory, name), new);
        }
        Some(outcome)
    }

    fn wrong_look(&mut self, call: &Call, op: &TreeOp) -> Option<Outcome> {
        let bug = self.bug?;
        let stale = match op {
            TreeOp::Stat { .. } => {
                matches!(bug, Bug::AttributesStale | Bug::PositiveStale | Bug::NegativeStale)
            }
            TreeOp::Open { .. } => false,
            TreeOp::GetPath { .. } => matches!(bug, Bug::OpenStale | Bug::NegativeStale),
            TreeOp::Readlink { .. } => bug == Bug::ReadlinkStale,
            TreeOp::Get { .. } => bug == Bug::GetStale,
            TreeOp::List { .. } => bug == Bug::ListGhost,
            _ => false,
        };
        let right = self.rightly(call, op);
        if stale && self.strikes(bug) {
            let seen = self.in_view(call, op)?;
            let (was, is) = (seen.is_ok(), right.is_ok());
            let fits = match bug {
                Bug::PositiveStale => was && !is,
                Bug::ReadlinkStale => was,
                Bug::NegativeStale => !was && is,
                // A handle that the view does not know is none.
                _ => was && is,
            };
            return Some(if fits { seen } else { right });
        }
        match right {
            Outcome::Ok(Value::Names(mut names)) => {
                if self.strikes(Bug::ListMisses) {
                    names.pop();
                }
                if !names.is_empty() && self.strikes(Bug::ListTwice) {
                    names.push(names[0].clone());
                }
                Some(Outcome::Ok(Value::Names(names)))
            }
            right => Some(right),
        }
    }
}
