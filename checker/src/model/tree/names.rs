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

pub(super) fn rename(tree: &Tree, plan: &Plan, walked: &[Id], mode: RenameMode) -> Reply {
    let (from, to) = (place(plan, walked, 0), place(plan, walked, 1));
    let source = match tree.find(from.0, from.1) {
        Ok(found) => found,
        Err(errno) => return failed(errno),
    };
    if let Some(errno) = closed(tree, to.0) {
        return failed(errno);
    }
    let target = tree.entries.get(&to).copied();
    let source_is_directory = kind(tree, source) == Kind::Directory;
    match target {
        Some(_) if mode == RenameMode::NoReplace => return failed(libc::EEXIST),
        None if mode == RenameMode::Exchange => return failed(libc::ENOENT),
        _ => {}
    }
    if source_is_directory && is_above(tree, source, to.0) {
        return failed(libc::EINVAL);
    }
    if let Some(target) = target {
        let target_is_directory = kind(tree, target) == Kind::Directory;
        if target_is_directory && is_above(tree, target, from.0) {
            return failed(if mode == RenameMode::Exchange { libc::EINVAL } else { libc::ENOTEMPTY });
        }
        if target == source {
            return (Ok(Answer::Nothing), Some(tree.clone()));
        }
        if mode == RenameMode::Replace {
            match (source_is_directory, target_is_directory) {
                (true, false) => return failed(libc::ENOTDIR),
                (false, true) => return failed(libc::EISDIR),
                (true, true) if !is_empty(tree, target) => return failed(libc::ENOTEMPTY),
                _ => {}
            }
        }
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
