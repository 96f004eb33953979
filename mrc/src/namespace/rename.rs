//! Moving and exchanging names.

use proto::error::Code;
use proto::id::Ino;
use proto::limits::LINKS_MAX;
use proto::mrc::{EarlyFile, EarlyMove, Head, RENAME_EXCHANGE, RENAME_NOREPLACE, RenameRequest, Time};
use rt::table::{Reader, Txn};

use super::entry::{self, Entry};
use super::inode::{self, Inode};
use super::name::Name;
use super::{Outcome, access, collect, home, refuse, session};
use crate::quota::{self, Shift};
use crate::{trash, usage};

/// Everything that a rename looks at.
struct Plan<'a> {
    volume: u64,
    now: Time,
    from_name: Name<'a>,
    to_name: Name<'a>,
    from: Inode,
    /// `None`: the same directory.
    to: Option<Inode>,
    source: Entry,
    moved: Inode,
    target: Option<(Entry, Inode)>,
}

/// What a rename did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Renamed {
    /// What moved; the cookie is the one it had.
    pub moved: Entry,
    /// What it replaced, or what moved the other way.
    pub target: Option<Entry>,
}

/// Moves a name, replacing what is there; or exchanges two. `closed` as for unlink. `None`: both names led to one
/// inode and nothing happened.
pub fn rename(
    txn: &mut Txn<'_>,
    now: Time,
    request: &RenameRequest,
    closed: u64,
) -> Outcome<Option<Renamed>> {
    if request.flags & !(RENAME_NOREPLACE | RENAME_EXCHANGE) != 0
        || request.flags == RENAME_NOREPLACE | RENAME_EXCHANGE
    {
        return refuse(
            Code::InvalidArgument,
            format!("rename flags {:#x} do not go together", request.flags),
        );
    }
    let Some(plan) = plan(txn, now, request)? else { return Ok(None) };
    if request.flags != RENAME_EXCHANGE
        && let Some((_, victim)) = &plan.target
    {
        may_replace(&plan.moved, victim)?;
    }
    within_quotas(txn, request, &plan)?;
    let done = Renamed { moved: plan.source, target: plan.target.as_ref().map(|(entry, _)| *entry) };
    if request.flags == RENAME_EXCHANGE {
        exchange(txn, request, plan)?;
    } else {
        replace(txn, request, plan, closed)?;
    }
    Ok(Some(done))
}

/// The move of a file that a session tells of, as one that is asked for.
#[must_use]
pub fn as_told(head: &Head, file: &EarlyFile, to: &EarlyMove) -> RenameRequest {
    RenameRequest {
        head: head.clone(),
        parent: file.parent,
        name: file.name.clone(),
        new_parent: to.parent,
        new_name: to.name.clone(),
        victim: to.replaced,
        ..RenameRequest::default()
    }
}

/// Moves a file that a session has moved under its leases, as [`rename`] does, at the time that it tells. `None`: that was done already.
/// The kernel of the mount has checked the rights.
pub fn rename_as(
    txn: &mut Txn<'_>,
    request: &RenameRequest,
    file: &EarlyFile,
    closed: u64,
) -> Outcome<Option<Renamed>> {
    let volume = request.head.volume;
    let (from, to) = (Name::parse(&request.name)?, Name::parse_new(&request.new_name)?);
    session::require_epoch(txn, request.head.session, file.epoch, from)?;
    let (moved, target) = ends(txn, request)?;
    if moved.is_none_or(|entry| entry.ino != file.ino) {
        return Ok(None);
    }
    if target.is_some_and(|entry| entry.ino == file.ino) {
        return Ok(None);
    }
    if target.map_or(0, |entry| entry.ino) != request.victim {
        let what = format!("{to} in directory {} is not what its mover saw there", Ino(request.new_parent));
        return refuse(Code::Exists, what);
    }
    let directories = [request.parent, request.new_parent];
    let now = inode::not_before(txn, volume, file.at, &directories, file.ino)?;
    rename(txn, now, request, closed)
}

fn within_quotas(txn: &mut Txn<'_>, request: &RenameRequest, plan: &Plan<'_>) -> Outcome<()> {
    if plan.to.is_none() {
        return Ok(());
    }
    let shift = Shift {
        from: request.parent,
        to: request.new_parent,
        moved: &plan.moved,
        other: plan.target.as_ref().map(|(_, inode)| inode),
        exchange: request.flags == RENAME_EXCHANGE,
    };
    quota::admit_move(txn, plan.volume, &shift)
}

/// The entry at each end that a rename would touch: (moved, replaced).
pub fn ends(
    reader: &(impl Reader + ?Sized),
    request: &RenameRequest,
) -> Outcome<(Option<Entry>, Option<Entry>)> {
    let volume = request.head.volume;
    Ok((
        entry::find(reader, volume, request.parent, Name::parse(&request.name)?)?,
        entry::find(reader, volume, request.new_parent, Name::parse(&request.new_name)?)?,
    ))
}

/// Resolves both ends and refuses what no form of rename may do. `None`: both names lead to the same inode.
fn plan<'a>(txn: &Txn<'_>, now: Time, request: &'a RenameRequest) -> Outcome<Option<Plan<'a>>> {
    let (volume, head) = (request.head.volume, &request.head);
    let (from_name, to_name) = (Name::parse(&request.name)?, Name::parse(&request.new_name)?);
    let from = inode::directory(txn, volume, request.parent)?;
    access::require(&from, head, access::X)?;
    let to = match request.parent == request.new_parent {
        true => None,
        false => Some(inode::directory(txn, volume, request.new_parent)?),
    };
    access::require(to.as_ref().unwrap_or(&from), head, access::X)?;
    let Some(source) = entry::find(txn, volume, request.parent, from_name)? else {
        return refuse(
            Code::NotFound,
            format!("{from_name} does not exist in directory {}", Ino(request.parent)),
        );
    };
    let target = entry::find(txn, volume, request.new_parent, to_name)?;
    match target {
        Some(_) if request.flags == RENAME_NOREPLACE => {
            return refuse(
                Code::Exists,
                format!("{to_name} exists in directory {}", Ino(request.new_parent)),
            );
        }
        None if request.flags == RENAME_EXCHANGE => {
            return refuse(
                Code::NotFound,
                format!("{to_name} does not exist in directory {}", Ino(request.new_parent)),
            );
        }
        Some(target) if target.ino == source.ino => return Ok(None),
        _ => {}
    }
    let moved = inode::get(txn, volume, source.ino)?;
    let target = match target {
        Some(target) => Some((target, inode::get(txn, volume, target.ino)?)),
        None => None,
    };
    let plan = Plan { volume, now, from_name, to_name, from, to, source, moved, target };
    permitted(txn, request, &plan)?;
    Ok(Some(plan))
}

fn permitted(txn: &Txn<'_>, request: &RenameRequest, plan: &Plan<'_>) -> Outcome<()> {
    let head = &request.head;
    let to = plan.to.as_ref().unwrap_or(&plan.from);
    let lies_within = |directory: u64, inode: &Inode| -> Outcome<bool> {
        Ok(plan.to.is_some() && inode.is_dir() && is_within(txn, plan.volume, directory, inode.attr.ino)?)
    };
    let outside = |directory: u64, inode: &Inode| {
        if lies_within(directory, inode)? {
            return refuse(
                Code::InvalidArgument,
                format!("directory {} cannot move into itself", Ino(inode.attr.ino)),
            );
        }
        Ok(())
    };
    outside(request.new_parent, &plan.moved)?;
    match &plan.target {
        Some((_, victim)) if request.flags == RENAME_EXCHANGE => outside(request.parent, victim)?,
        // Whatever moves, a file too: what it would replace holds it.
        Some((_, victim)) if lies_within(request.parent, victim)? => {
            return refuse(Code::NotEmpty, format!("directory {} holds what moves", Ino(victim.attr.ino)));
        }
        _ => {}
    }
    access::may_remove(&plan.from, &plan.moved, head)?;
    match &plan.target {
        Some((_, victim)) => access::may_remove(to, victim, head)?,
        None => access::may_add(to, head)?,
    }
    if plan.to.is_some() {
        // `..` of a directory changes: that writes to it.
        let exchanged =
            plan.target.as_ref().filter(|_| request.flags == RENAME_EXCHANGE).map(|(_, inode)| inode);
        for inode in [Some(&plan.moved), exchanged].into_iter().flatten().filter(|inode| inode.is_dir()) {
            access::require(inode, head, access::W)?;
        }
    }
    Ok(())
}

/// Whether `directory` is `ancestor` or lies below it.
fn is_within(txn: &Txn<'_>, volume: u64, directory: u64, ancestor: u64) -> Outcome<bool> {
    let mut at = directory;
    loop {
        if at == ancestor {
            return Ok(true);
        }
        if at == Ino::ROOT.0 {
            return Ok(false);
        }
        let inode = inode::directory(txn, volume, at)?;
        at = entry::parent_of(&inode).expect("inode::directory gives directories");
    }
}

fn exchange(txn: &mut Txn<'_>, request: &RenameRequest, plan: Plan<'_>) -> Outcome<()> {
    let Plan { volume, now, from_name, to_name, mut from, mut to, source, mut moved, target } = plan;
    let (target, mut other) = target.expect("plan() refused an exchange without a target");
    entry::put(txn, volume, request.parent, from_name, Entry { cookie: source.cookie, ..target });
    entry::put(txn, volume, request.new_parent, to_name, Entry { cookie: target.cookie, ..source });
    if let Some(to) = &mut to {
        match (moved.is_dir(), other.is_dir()) {
            (true, false) => shift_link(&mut from, to)?,
            (false, true) => shift_link(to, &mut from)?,
            _ => {}
        }
        to.modified(now);
        inode::put(txn, volume, to);
    }
    let (here, there) = ((request.parent, source.cookie), (request.new_parent, target.cookie));
    home::shift(txn, volume, &mut moved, here, there)?;
    home::shift(txn, volume, &mut other, there, here)?;
    from.modified(now);
    inode::put(txn, volume, &from);
    for inode in [&mut moved, &mut other] {
        inode.touch(now);
        inode::put(txn, volume, inode);
    }
    Ok(())
}

/// A subdirectory leaves `from` for `to`.
fn shift_link(from: &mut Inode, to: &mut Inode) -> Outcome<()> {
    if to.attr.nlink >= LINKS_MAX {
        return refuse(
            Code::TooManyLinks,
            format!("directory {} has {LINKS_MAX} links, the limit", Ino(to.attr.ino)),
        );
    }
    from.attr.nlink -= 1;
    to.attr.nlink += 1;
    Ok(())
}

fn replace(txn: &mut Txn<'_>, request: &RenameRequest, plan: Plan<'_>, closed: u64) -> Outcome<()> {
    let Plan { volume, now, from_name, to_name, mut from, mut to, source, mut moved, target } = plan;
    entry::remove(txn, volume, request.parent, from_name, source);
    from.attr.size -= 1;
    {
        // The victim's link goes before the moved directory's comes, so that a full directory can replace one.
        let to = to.as_mut().unwrap_or(&mut from);
        if target.as_ref().is_some_and(|(_, victim)| victim.is_dir()) {
            to.attr.nlink -= 1;
        }
    }
    if let Some(to) = &mut to
        && moved.is_dir()
    {
        shift_link(&mut from, to)?;
    }
    let same_directory = to.is_none();
    let into = to.as_mut().unwrap_or(&mut from);
    let cookie = match &target {
        Some((target, _)) => target.cookie,
        None if same_directory => source.cookie,
        None => entry::take_cookie(into),
    };
    if target.is_none() {
        into.attr.size += 1;
    }
    entry::put(txn, volume, request.new_parent, to_name, Entry { cookie, ..source });
    from.modified(now);
    inode::put(txn, volume, &from);
    if let Some(to) = &mut to {
        to.modified(now);
        inode::put(txn, volume, to);
    }
    home::shift(txn, volume, &mut moved, (request.parent, source.cookie), (request.new_parent, cookie))?;
    moved.touch(now);
    inode::put(txn, volume, &moved);
    match target {
        Some((_, victim)) if victim.is_dir() => {
            trash::take_directory(txn, now, &request.head, &victim, (request.new_parent, &request.new_name))?;
            usage::end(txn, volume, request.new_parent, &victim)?;
            collect::free(txn, volume, &victim)
        }
        Some((entry, mut victim)) => {
            let was = (request.new_parent, request.new_name.as_slice(), entry.cookie);
            if trash::take(txn, now, &request.head, &mut victim, was)? {
                return Ok(());
            }
            home::remove(txn, volume, &mut victim, (request.new_parent, entry.cookie))?;
            collect::drop_link(txn, now, volume, &mut victim, closed)
        }
        None => Ok(()),
    }
}

fn may_replace(moved: &Inode, victim: &Inode) -> Outcome<()> {
    let what = Ino(victim.attr.ino);
    match (moved.is_dir(), victim.is_dir()) {
        (true, false) => refuse(Code::NotDirectory, format!("{what} is not a directory, what moves is one")),
        (false, true) => refuse(Code::IsDirectory, format!("{what} is a directory, what moves is none")),
        (true, true) if victim.attr.size > 0 => {
            refuse(Code::NotEmpty, format!("directory {what} has {} entries", victim.attr.size))
        }
        _ => Ok(()),
    }
}
