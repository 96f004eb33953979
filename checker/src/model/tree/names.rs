//! Calls that change names.

use super::act::{Answer, Reply, failed};
use super::{Id, Inode, Name, Plan, ROOT, Tree};
use crate::history::{Kind, RenameMode};

/// The directory and the last name of a path; its other components are in `walked`.
pub(super) fn place(plan: &Plan, walked: &[Id], path: usize) -> (Id, Name) {
    let components = &plan.paths[path];
    let before = plan.lookups.iter().take_while(|(one, _)| *one < path).count();
    let own = plan.lookups.iter().filter(|(one, _)| *one == path).count();
    let directory = if own == 0 { ROOT } else { walked[before + own - 1] };
    // The root itself has no name: no call of ours changes it.
    (directory, components.last().copied().unwrap_or(Name::MAX))
}

/// Why nothing can be made in a directory.
fn closed(tree: &Tree, directory: Id) -> Option<i32> {
    match tree.inodes.get(&directory) {
        Some(inode) if inode.kind == Kind::File => Some(libc::ENOTDIR),
        Some(inode) if inode.kind == Kind::Directory && inode.links > 0 => None,
        _ => Some(libc::ENOENT),
    }
}

pub(super) fn make(tree: &Tree, plan: &Plan, walked: &[Id], new: Id, inode: Inode) -> Reply {
    let (directory, name) = place(plan, walked, 0);
    if tree.find(directory, name).is_ok() {
        return failed(libc::EEXIST);
    }
    if let Some(errno) = closed(tree, directory) {
        return failed(errno);
    }
    let mut next = tree.clone();
    next.inodes.insert(new, inode);
    next.entries.insert((directory, name), new);
    (Ok(Answer::Nothing), Some(next))
}

fn is_empty(tree: &Tree, directory: Id) -> bool {
    tree.entries.range((directory, 0)..=(directory, Name::MAX)).next().is_none()
}

fn kind(tree: &Tree, id: Id) -> Kind {
    tree.inodes.get(&id).map_or(Kind::File, |inode| inode.kind)
}

fn drop_link(tree: &mut Tree, id: Id) {
    if let Some(inode) = tree.inodes.get_mut(&id) {
        inode.links = inode.links.saturating_sub(1);
    }
}

pub(super) fn rmdir(tree: &Tree, plan: &Plan, walked: &[Id]) -> Reply {
    let (directory, name) = place(plan, walked, 0);
    let found = match tree.find(directory, name) {
        Ok(found) => found,
        Err(errno) => return failed(errno),
    };
    if kind(tree, found) != Kind::Directory {
        return failed(libc::ENOTDIR);
    }
    if !is_empty(tree, found) {
        return failed(libc::ENOTEMPTY);
    }
    let mut next = tree.clone();
    next.entries.remove(&(directory, name));
    drop_link(&mut next, found);
    (Ok(Answer::Nothing), Some(next))
}

pub(super) fn unlink(tree: &Tree, plan: &Plan, walked: &[Id]) -> Reply {
    let (directory, name) = place(plan, walked, 0);
    let found = match tree.find(directory, name) {
        Ok(found) => found,
        Err(errno) => return failed(errno),
    };
    if kind(tree, found) == Kind::Directory {
        return failed(libc::EISDIR);
    }
    let mut next = tree.clone();
    next.entries.remove(&(directory, name));
    drop_link(&mut next, found);
    (Ok(Answer::Nothing), Some(next))
}

pub(super) fn link(tree: &Tree, plan: &Plan, walked: &[Id]) -> Reply {
    let found = walked[plan.paths[0].len() - 1];
    let (directory, name) = place(plan, walked, 1);
    if tree.find(directory, name).is_ok() {
        return failed(libc::EEXIST);
    }
    if let Some(errno) = closed(tree, directory) {
        return failed(errno);
    }
    match tree.inodes.get(&found) {
        Some(inode) if inode.kind == Kind::Directory => return failed(libc::EPERM),
        Some(inode) if inode.links > 0 => {}
        _ => return failed(libc::ENOENT),
    }
    let mut next = tree.clone();
    next.entries.insert((directory, name), found);
    if let Some(inode) = next.inodes.get_mut(&found) {
        inode.links += 1;
    }
    (Ok(Answer::Nothing), Some(next))
}

/// Whether `id` is `directory` or above it.
fn is_above(tree: &Tree, id: Id, directory: Id) -> bool {
    let mut at = directory;
    // A tree has no more levels than inodes.
    for _ in 0..=tree.inodes.len() {
        if at == id {
            return true;
        }
        match tree.entries.iter().find(|(_, child)| **child == at) {
            Some(((parent, _), _)) => at = *parent,
            None => return false,
        }
    }
    false
}

/// Why `source`, found in the directory `from`, cannot be moved to the place `to`.
fn refusal(tree: &Tree, from: Id, source: Id, to: (Id, Name), mode: RenameMode) -> Option<i32> {
    if let Some(errno) = closed(tree, to.0) {
        return Some(errno);
    }
    let target = tree.entries.get(&to).copied();
    let source_is_directory = kind(tree, source) == Kind::Directory;
    match target {
        Some(_) if mode == RenameMode::NoReplace => return Some(libc::EEXIST),
        None if mode == RenameMode::Exchange => return Some(libc::ENOENT),
        _ => {}
    }
    if source_is_directory && is_above(tree, source, to.0) {
        return Some(libc::EINVAL);
    }
    let target = target?;
    let target_is_directory = kind(tree, target) == Kind::Directory;
    if target_is_directory && is_above(tree, target, from) {
        return Some(if mode == RenameMode::Exchange { libc::EINVAL } else { libc::ENOTEMPTY });
    }
    if target == source || mode != RenameMode::Replace {
        return None;
    }
    match (source_is_directory, target_is_directory) {
        (true, false) => Some(libc::ENOTDIR),
        (false, true) => Some(libc::EISDIR),
        (true, true) if !is_empty(tree, target) => Some(libc::ENOTEMPTY),
        _ => None,
    }
}

/// A rename that changes nothing may have found its two names one after the other: a kernel asks a file system that
/// others change too twice, and ends by itself on what the answers said. `rename n n` fails with `EISDIR` when a directory
/// takes the place of a file in between, and two clients that rename `n` to `m` may both succeed: the second one finds
/// one file under both. One that is asked of the file system is done at once.
pub(super) fn slow_rename(tree: &Tree, plan: &Plan, walked: &[Id], mode: RenameMode) -> Slow {
    let (from, to) = (place(plan, walked, 0), place(plan, walked, 1));
    let Some(source) = walked.get(plan.lookups.len()) else {
        return tree.find(from.0, from.1).map_or_else(Slow::Refused, Slow::Found);
    };
    match refusal(tree, from.0, *source, to, mode) {
        Some(errno) => Slow::Refused(errno),
        None if tree.entries.get(&to) == Some(source) => Slow::Nothing,
        None => Slow::Asks,
    }
}

/// What a kernel makes of a rename before it asks.
pub(super) enum Slow {
    /// The first name was found.
    Found(Id),
    Refused(i32),
    /// Both names mean one inode.
    Nothing,
    Asks,
}

pub(super) fn rename(tree: &Tree, plan: &Plan, walked: &[Id], mode: RenameMode) -> Reply {
    let (from, to) = (place(plan, walked, 0), place(plan, walked, 1));
    let source = match tree.find(from.0, from.1) {
        Ok(found) => found,
        Err(errno) => return failed(errno),
    };
    if let Some(errno) = refusal(tree, from.0, source, to, mode) {
        return failed(errno);
    }
    let target = tree.entries.get(&to).copied();
    if target == Some(source) {
        return (Ok(Answer::Nothing), Some(tree.clone()));
    }
    let mut next = tree.clone();
    next.entries.remove(&from);
    next.entries.insert(to, source);
    match (target, mode) {
        (Some(target), RenameMode::Exchange) => drop(next.entries.insert(from, target)),
        (Some(target), _) => drop_link(&mut next, target),
        (None, _) => {}
    }
    (Ok(Answer::Nothing), Some(next))
}
