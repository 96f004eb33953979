//! What a call on a tree does in its last step, with everything on its way found. Errors come in Linux's order.

use super::names;
use super::{Id, Inode, Name, Plan, ROOT, Tree};
use crate::history::{Cell, Kind, Outcome, RenameMode, Value};

/// A call without its paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Mkdir { mode: u32 },
    Rmdir,
    Create { mode: u32, exclusive: bool, handle: u16 },
    Open { handle: u16 },
    Close { handle: u16 },
    Unlink,
    Link,
    Symlink { target: Name },
    Readlink,
    Rename(RenameMode),
    Stat,
    StatHandle { handle: u16 },
    List,
    Chmod { mode: u32 },
    Put { handle: u16, tag: u32 },
    Get { handle: u16 },
    GetPath,
    Sync { handle: u16 },
    SyncNames,
    PowerLost,
}

/// What a call gives if it succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Nothing,
    /// The inode's number.
    Inode(Id),
    Attributes(Id),
    Target(Id),
    Content(Id),
}

pub(super) type Reply = (Result<Answer, i32>, Option<Tree>);

/// The inode that a call makes.
pub(super) fn id_of(call: usize) -> Id {
    u32::try_from(call + 1).unwrap_or(Id::MAX)
}

pub(super) fn failed(errno: i32) -> Reply {
    (Err(errno), None)
}

/// Does it. The tree is `None` if the call never changes anything.
pub(super) fn act(tree: &Tree, plan: &Plan, walked: &[Id], new: Id) -> Reply {
    let target = walked.last().copied().unwrap_or(ROOT);
    match plan.act {
        Act::Mkdir { mode } => names::make(tree, plan, walked, new, Inode::new(Kind::Directory, mode)),
        Act::Symlink { target } => {
            let inode = Inode { target: Some(target), ..Inode::new(Kind::Symlink, 0o777) };
            names::make(tree, plan, walked, new, inode)
        }
        Act::Create { mode, exclusive, handle } => create(tree, plan, walked, new, (mode, exclusive, handle)),
        Act::Rmdir => names::rmdir(tree, plan, walked),
        Act::Unlink => names::unlink(tree, plan, walked),
        Act::Link => names::link(tree, plan, walked),
        Act::Rename(mode) => names::rename(tree, plan, walked, mode),
        Act::Open { handle } => match kind(tree, target) {
            Kind::Directory => failed(libc::EISDIR),
            Kind::Symlink => failed(libc::ELOOP),
            Kind::File => opened(tree.clone(), plan.process, handle, target),
        },
        Act::Close { handle } => {
            let mut next = tree.clone();
            next.handles.remove(&(plan.process, handle));
            (Ok(Answer::Nothing), Some(next))
        }
        Act::Readlink if kind(tree, target) != Kind::Symlink => failed(libc::EINVAL),
        Act::Readlink => (Ok(Answer::Target(target)), None),
        Act::Stat => (Ok(Answer::Attributes(target)), None),
        Act::GetPath => match kind(tree, target) {
            Kind::Directory => failed(libc::EISDIR),
            Kind::Symlink => failed(libc::ELOOP),
            Kind::File => (Ok(Answer::Content(target)), None),
        },
        Act::List if kind(tree, target) == Kind::Directory => (Ok(Answer::Nothing), None),
        Act::List => failed(libc::ENOTDIR),
        Act::Chmod { mode } => match kind(tree, target) {
            // It follows the link, whose target never exists.
            Kind::Symlink => failed(libc::ENOENT),
            _ => changed(tree, target, |inode| inode.mode = mode),
        },
        Act::StatHandle { handle } => {
            with_handle(tree, plan, handle, |id| (Ok(Answer::Attributes(id)), None))
        }
        Act::Get { handle } => with_handle(tree, plan, handle, |id| (Ok(Answer::Content(id)), None)),
        Act::Put { handle, tag } => with_handle(tree, plan, handle, |id| {
            changed(tree, id, |inode| {
                inode.unsynced.push(inode.tag);
                inode.unsynced.append(&mut inode.choices);
                inode.unsynced.sort_unstable();
                inode.unsynced.dedup();
                inode.tag = tag;
            })
        }),
        Act::Sync { handle } => {
            with_handle(tree, plan, handle, |id| changed(tree, id, |inode| inode.unsynced.clear()))
        }
        Act::SyncNames => {
            let next = Tree { past: Vec::new(), ..tree.clone() };
            (Ok(Answer::Nothing), Some(next))
        }
        Act::PowerLost => failed(0),
    }
}

fn kind(tree: &Tree, id: Id) -> Kind {
    tree.inodes.get(&id).map_or(Kind::File, |inode| inode.kind)
}

fn changed(tree: &Tree, id: Id, change: impl FnOnce(&mut Inode)) -> Reply {
    let mut next = tree.clone();
    if let Some(inode) = next.inodes.get_mut(&id) {
        change(inode);
    }
    (Ok(Answer::Nothing), Some(next))
}

fn with_handle(tree: &Tree, plan: &Plan, handle: u16, act: impl FnOnce(Id) -> Reply) -> Reply {
    tree.handles.get(&(plan.process, handle)).map_or(failed(libc::EBADF), |id| act(*id))
}

fn opened(mut tree: Tree, process: u16, handle: u16, id: Id) -> Reply {
    tree.handles.insert((process, handle), id);
    (Ok(Answer::Inode(id)), Some(tree))
}

fn create(tree: &Tree, plan: &Plan, walked: &[Id], new: Id, how: (u32, bool, u16)) -> Reply {
    let (mode, exclusive, handle) = how;
    let (directory, name) = names::place(plan, walked, 0);
    if let Ok(found) = tree.find(directory, name) {
        return match kind(tree, found) {
            _ if exclusive => failed(libc::EEXIST),
            Kind::Directory => failed(libc::EISDIR),
            Kind::Symlink => failed(libc::ELOOP),
            Kind::File => opened(tree.clone(), plan.process, handle, found),
        };
    }
    match names::make(tree, plan, walked, new, Inode::new(Kind::File, mode)) {
        (Ok(_), Some(next)) => opened(next, plan.process, handle, new),
        other => other,
    }
}

/// Whether a call whose walk ends at `found` can still end as it was seen: kinds and numbers never change.
pub(super) fn is_viable(tree: &Tree, plan: &Plan, found: Id) -> bool {
    let Some(inode) = tree.inodes.get(&found) else { return true };
    let number = |seen: u64| inode.number.is_none_or(|known| known == seen);
    match (plan.act, &plan.outcome) {
        (_, Outcome::Unknown) => true,
        (Act::Stat, Outcome::Ok(Value::Attributes(seen))) => inode.kind == seen.kind && number(seen.ino),
        (Act::Stat, Outcome::Failed(_)) => false,
        (Act::Open { .. } | Act::GetPath, outcome) => match (inode.kind, outcome) {
            (Kind::File, Outcome::Ok(Value::Inode(seen))) => number(*seen),
            (Kind::File, outcome) => outcome.is_ok(),
            (Kind::Directory, outcome) => *outcome == Outcome::Failed(libc::EISDIR),
            (Kind::Symlink, outcome) => *outcome == Outcome::Failed(libc::ELOOP),
        },
        (Act::Readlink, Outcome::Ok(Value::Offset(name))) => inode.target.map(u32::from) == Some(*name),
        (Act::Readlink, _) => inode.kind != Kind::Symlink,
        (Act::List, outcome) => (inode.kind == Kind::Directory) == outcome.is_ok(),
        (Act::Chmod { .. }, outcome) => (inode.kind == Kind::Symlink) != outcome.is_ok(),
        _ => true,
    }
}

/// Whether what a call gives is what was seen: `None` if not, otherwise the tree with what was learned from it.
pub(super) fn agree(tree: &Tree, answer: Answer, value: &Value) -> Option<Option<Tree>> {
    match (answer, value) {
        (Answer::Nothing, Value::Nothing) => Some(None),
        (Answer::Inode(id), Value::Inode(number)) => numbered(tree, id, *number),
        (Answer::Inode(_), Value::Nothing) => Some(None),
        (Answer::Attributes(id), Value::Attributes(seen)) => {
            let inode = tree.inodes.get(&id)?;
            let links = inode.kind == Kind::Directory || inode.links == seen.links;
            let mode = inode.kind == Kind::Symlink || inode.mode == seen.mode;
            let size = inode.kind != Kind::File || sizes(inode).contains(&seen.size);
            if inode.kind == seen.kind && links && mode && size { numbered(tree, id, seen.ino) } else { None }
        }
        (Answer::Target(id), Value::Offset(name)) => {
            let target = tree.inodes.get(&id)?.target?;
            (*name == u32::from(target)).then_some(None)
        }
        (Answer::Content(id), Value::Cells(seen)) => content(tree, id, seen),
        _ => None,
    }
}

fn sizes(inode: &Inode) -> Vec<u64> {
    let size = |tag: &u32| if *tag == 0 { 0 } else { 8 };
    if inode.choices.is_empty() { vec![size(&inode.tag)] } else { inode.choices.iter().map(size).collect() }
}

fn numbered(tree: &Tree, id: Id, number: u64) -> Option<Option<Tree>> {
    match tree.inodes.get(&id)?.number {
        Some(known) => (known == number).then_some(None),
        None if tree.inodes.values().any(|inode| inode.number == Some(number) && inode.links > 0) => None,
        None => {
            let mut next = tree.clone();
            next.inodes.get_mut(&id)?.number = Some(number);
            Some(Some(next))
        }
    }
}

fn content(tree: &Tree, id: Id, seen: &[Cell]) -> Option<Option<Tree>> {
    let inode = tree.inodes.get(&id)?;
    let tag = match seen {
        [] => 0,
        [Cell::Tag(tag)] => *tag,
        _ => return None,
    };
    if inode.choices.is_empty() {
        return (inode.tag == tag).then_some(None);
    }
    if !inode.choices.contains(&tag) {
        return None;
    }
    let mut next = tree.clone();
    let inode = next.inodes.get_mut(&id)?;
    (inode.tag, inode.choices) = (tag, Vec::new());
    Some(Some(next))
}
