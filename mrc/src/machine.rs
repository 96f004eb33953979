//! The replicated state machine: a command in, changes of the table and an answer out.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use proto::changes::event;
use proto::mrc::{Attr, AttrReply, ChangeReply, ReplicasReply, ReportWrite, Time};
use proto::rpc::Empty;
use proto::snapshot::SnapshotReply;
use quorum::{Applied, StateMachine};
use rt::table::Txn;

use crate::changes::{Log, trim};
use crate::command::{self, Body, CodingBegun, Command, CreateDone, DropDone, InosReserved, SessionRaised};
use crate::dump::load;
use crate::fsck::mend::mend;
use crate::namespace::{
    Broken, Fail, Outcome, coding, collect, inode, inode::Inode, layers, layout, link, locks, make, past,
    rename, replicas, session, setattr, snapshot, time_of, volume, xattr,
};
use crate::quota::count;
use crate::quota::room::room;
use crate::{trash, usage};

/// Told when this member starts or stops leading.
pub trait Leading: Send + Sync + 'static {
    /// See [`StateMachine::leadership`].
    fn leadership(&self, leading: bool, term: u64);
    /// See [`StateMachine::applied`].
    fn applied(&self, index: u64);
}

/// See the module.
#[derive(Default)]
pub struct Machine {
    leading: Option<Arc<dyn Leading>>,
}

impl Machine {
    /// A machine that tells nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A machine that tells `leading` of leadership.
    #[must_use]
    pub fn with_leading(leading: Arc<dyn Leading>) -> Self {
        Self { leading: Some(leading) }
    }
}

impl StateMachine for Machine {
    fn apply(&self, txn: &mut Txn<'_>, at: Applied, command: &[u8]) -> rt::table::Result<Bytes> {
        txn.savepoint();
        let result = match Command::parse(command) {
            Ok(body) => match expectation_holds(txn, &body) {
                Ok(true) => run(txn, at, &body).and_then(|reply| past::keep(txn).map(|()| reply)),
                Ok(false) => return Ok(command::moved()),
                Err(fail) => Err(fail),
            },
            // Skipping what the others apply would make this replica differ from them: it stops instead.
            Err(error) => Err(Fail::Broken(Broken { table: "metadata log".into(), cause: error.text })),
        };
        match result {
            Ok(reply) => Ok(command::answer(Ok(reply))),
            Err(Fail::Refused(error)) => {
                txn.rollback();
                Ok(command::answer(Err(error)))
            }
            Err(Fail::Broken(broken)) => Err(broken.into()),
        }
    }

    fn is_recorded(&self, answer: &[u8]) -> bool {
        command::is_recorded(answer)
    }

    fn applied(&self, index: u64) {
        if let Some(told) = &self.leading {
            told.applied(index);
        }
    }

    fn leadership(&self, leading: bool, term: u64) {
        if let Some(told) = &self.leading {
            told.leadership(leading, term);
        }
    }
}

/// Whether the names still lead where they led when the leader recalled leases.
fn expectation_holds(txn: &Txn<'_>, body: &Body) -> Outcome<bool> {
    let leads_to = |volume, parent, name: &[u8], expected: Option<u64>| -> Outcome<bool> {
        let Some(expected) = expected else { return Ok(true) };
        // A name that is not allowed is refused by the operation itself.
        let Ok(found) = link::victim(txn, volume, parent, name) else { return Ok(true) };
        Ok(found.map_or(0, |entry| entry.ino) == expected)
    };
    match body {
        Body::Unlink(remove) | Body::RmDir(remove) => {
            let request = &remove.request;
            leads_to(request.head.volume, request.parent, &request.name, remove.expected)
        }
        Body::Rename(rename) => {
            let (request, volume) = (&rename.request, rename.request.head.volume);
            Ok(leads_to(volume, request.parent, &request.name, rename.expected_moved)?
                && leads_to(volume, request.new_parent, &request.new_name, rename.expected_replaced)?)
        }
        Body::Create(create) if create.must_exist => {
            let make = &create.request.make;
            Ok(!leads_to(make.head.volume, make.parent, &make.name, Some(0))?)
        }
        _ => Ok(true),
    }
}

/// Makes, or finds, a file.
fn created(txn: &mut Txn<'_>, at: Applied, create: &command::Create) -> Outcome<Vec<u8>> {
    let request = &create.request;
    let done = make::create(txn, time_of(at), request, &create.layout)?;
    if done.created {
        let make = &request.make;
        Log::new(at, &make.head).named(txn, &done.inode, make.parent, &make.name, false);
    }
    let layout = if done.created { create.layout.clone() } else { done.inode.layout()? };
    let touched: &[u64] = if done.created { &[request.make.parent] } else { &[] };
    let changed = after(txn, request.make.head.volume, touched)?;
    Ok(CreateDone { attr: done.inode.attr, layout, created: done.created, changed }.encode_to_vec())
}

/// Makes a file that its maker shows already.
fn created_as(txn: &mut Txn<'_>, at: Applied, create: &command::CreateAs) -> Outcome<Vec<u8>> {
    let (head, file) = (&create.head, &create.file);
    let done = make::create_as(txn, head, file, Some(&create.layout))?;
    let mut inode = done.inode;
    if done.created {
        let mut log = Log::new(at, head);
        log.named(txn, &inode, file.parent, &file.name, false);
        if let Some(content) = file.content.as_ref().filter(|_| create.layout.is_inline()) {
            // As if its writer had reported it.
            let report = ReportWrite {
                head: head.clone(),
                ino: file.ino,
                size: content.data.len() as u64,
                mtime: Some(content.mtime),
                kept: content.kept,
                ..ReportWrite::default()
            };
            let (written, changed) = setattr::report_write(txn, time_of(at), &report)?;
            inode = written;
            log.changed(txn, event::WRITTEN, &inode)?;
            if changed.attributes {
                log.changed_too(txn, event::ATTRIBUTES, &inode);
            }
        }
    }
    let layout = inode.layout()?;
    let changed = after(txn, head.volume, &[file.parent])?;
    Ok(CreateDone { attr: inode.attr, layout, created: true, changed }.encode_to_vec())
}

/// Moves or removes a file, as its session shows it already.
fn changed_as(txn: &mut Txn<'_>, at: Applied, ask: &command::ChangeAs) -> Outcome<Vec<u8>> {
    let (head, file, mut log) = (&ask.head, &ask.file, Log::new(at, &ask.head));
    let moved = match &file.moved {
        Some(to) => {
            let request = rename::as_told(head, file, to);
            rename::rename_as(txn, &request, file, ask.closed)?.map(|done| (request, done))
        }
        None => None,
    };
    // Moved before, and still under its old name: a link from before the move was told once more. That name goes again.
    if let Some((request, done)) = moved {
        log.renamed(txn, &request, done);
    } else if let Some(entry) = link::remove_as(txn, head, file, ask.closed)? {
        log.removed(txn, entry, file.parent, &file.name);
    }
    // As for one that was asked for: the kernel's request may come again when its maker was killed.
    let mut touched: Vec<u64> = file.directories().chain(file.known()).collect();
    touched.sort_unstable();
    touched.dedup();
    answer(txn, head.volume, &touched)
}

/// Gives a file a further name, makes a directory or sets its attributes, as its session shows it already.
fn done_as(txn: &mut Txn<'_>, at: Applied, ask: &command::DoneAs) -> Outcome<Vec<u8>> {
    let (head, file, mut log) = (&ask.head, &ask.file, Log::new(at, &ask.head));
    if let Some(kept) = file.kept {
        if let Some(inode) = setattr::directory_as(txn, head, file, kept)? {
            log.changed(txn, event::ATTRIBUTES, &inode)?;
        }
    } else if file.directory {
        let done = make::create_as(txn, head, file, None)?;
        if done.created {
            log.named(txn, &done.inode, file.parent, &file.name, false);
        }
    } else if let Some(inode) = link::link_as(txn, head, file)? {
        log.named(txn, &inode, file.parent, &file.name, true);
    }
    match inode::find(txn, head.volume, file.ino)? {
        Some(inode) => named(txn, head.volume, inode, file.parent),
        // Told before, and all its names were taken away since.
        None => Ok(AttrReply::default().encode_to_vec()),
    }
}

/// Makes a file without a name.
fn nameless(txn: &mut Txn<'_>, now: Time, create: &command::Create) -> Outcome<Vec<u8>> {
    let inode = make::tmpfile(txn, now, &create.request, &create.layout)?;
    let (attr, layout) = (inode.attr, create.layout.clone());
    Ok(CreateDone { attr, layout, created: true, changed: Vec::new() }.encode_to_vec())
}

/// Attributes of inodes as a change left them, of those that it left.
fn after(txn: &Txn<'_>, volume: u64, touched: &[u64]) -> Outcome<Vec<Attr>> {
    let mut changed = Vec::with_capacity(touched.len());
    for ino in touched {
        changed.extend(inode::find(txn, volume, *ino)?.map(|inode| inode.attr));
    }
    Ok(changed)
}

/// The answer to a change of names.
fn answer(txn: &Txn<'_>, volume: u64, touched: &[u64]) -> Outcome<Vec<u8>> {
    Ok(ChangeReply { changed: after(txn, volume, touched)?, freed: 0 }.encode_to_vec())
}

/// Likewise, to one that made a name for an inode.
fn named(txn: &Txn<'_>, volume: u64, inode: Inode, parent: u64) -> Outcome<Vec<u8>> {
    let changed = after(txn, volume, &[parent])?;
    Ok(AttrReply { attr: inode.attr, changed, ..AttrReply::default() }.encode_to_vec())
}

/// Moves a name.
fn renamed(txn: &mut Txn<'_>, at: Applied, rename: &command::Move) -> Outcome<Vec<u8>> {
    let request = &rename.request;
    let Some(done) = rename::rename(txn, time_of(at), request, rename.closed)? else {
        return answer(txn, request.head.volume, &[]);
    };
    Log::new(at, &request.head).renamed(txn, request, done);
    let mut touched = vec![request.parent, request.new_parent, done.moved.ino];
    touched.extend(done.target.map(|entry| entry.ino));
    touched.sort_unstable();
    touched.dedup();
    answer(txn, request.head.volume, &touched)
}

/// Names that are given and taken away.
fn of_names(txn: &mut Txn<'_>, at: Applied, body: &Body) -> Outcome<Vec<u8>> {
    let now = time_of(at);
    match body {
        Body::Unlink(remove) => {
            let request = &remove.request;
            let entry = link::unlink(txn, now, request, remove.closed)?;
            Log::new(at, &request.head).removed(txn, entry, request.parent, &request.name);
            answer(txn, request.head.volume, &[request.parent, entry.ino])
        }
        Body::RmDir(remove) => {
            let request = &remove.request;
            let entry = link::rmdir(txn, now, request)?;
            Log::new(at, &request.head).removed(txn, entry, request.parent, &request.name);
            answer(txn, request.head.volume, &[request.parent])
        }
        Body::Link(request) => {
            let inode = link::link(txn, now, request)?;
            Log::new(at, &request.head).named(txn, &inode, request.parent, &request.name, true);
            named(txn, request.head.volume, inode, request.parent)
        }
        _ => unreachable!("run() passes on only what is above"),
    }
}

/// Snapshots, and data that is shared.
fn of_snapshots(txn: &mut Txn<'_>, at: Applied, body: &Body) -> Outcome<Vec<u8>> {
    let now = time_of(at);
    let empty = |(): ()| Empty {}.encode_to_vec();
    let made = |inode: Inode| AttrReply { attr: inode.attr, ..AttrReply::default() }.encode_to_vec();
    match body {
        Body::Thaw(ask) => layers::thaw(txn, now, (ask.volume, ask.ino), ask.layout.as_ref()).map(made),
        Body::EncodeBegin(ask) => {
            let (inode, data) = coding::begin(txn, now, (ask.volume, ask.ino), ask.session, &ask.layout)?;
            Ok(CodingBegun { attr: inode.attr, data }.encode_to_vec())
        }
        Body::EncodeCommit(ask) => coding::commit(txn, ask.head.volume, ask.ino, ask.data).map(made),
        Body::EncodeDrop(which) => coding::give_up(txn, which.volume, which.ino).map(empty),
        Body::EncodeDamaged(which) => coding::damaged(txn, which.volume, which.ino).map(empty),
        Body::SnapshotCreate(ask) => {
            let snapshot = snapshot::create(txn, now, ask)?;
            Ok(SnapshotReply { snapshot }.encode_to_vec())
        }
        Body::SnapshotRemove(ask) => snapshot::remove(txn, ask).map(empty),
        Body::SnapshotSweep(step) => snapshot::sweep(txn, step.volume, step.limit).map(empty),
        Body::FoldLayers(ask) => layers::fold(txn, ask).map(empty),
        Body::CloneData(ask) => {
            let inode = layers::clone(txn, now, ask)?;
            Log::new(at, &ask.head).changed(txn, event::WRITTEN, &inode)?;
            Ok(made(inode))
        }
        _ => unreachable!("run() passes on only what is above"),
    }
}

/// Files that are made, and what their makers do with them unheard; numbers for them.
fn of_makers(txn: &mut Txn<'_>, at: Applied, body: &Body) -> Outcome<Vec<u8>> {
    match body {
        Body::Create(create) => created(txn, at, create),
        Body::TmpFile(create) => nameless(txn, time_of(at), create),
        Body::CreateAs(create) | Body::CreateFilled(create) => created_as(txn, at, create),
        Body::ChangeAs(change) => changed_as(txn, at, change),
        Body::DoneAs(done) => done_as(txn, at, done),
        _ => unreachable!("run() passes on only what is above"),
    }
}

/// Runs one command and gives its reply message's bytes.
fn run(txn: &mut Txn<'_>, at: Applied, body: &Body) -> Outcome<Vec<u8>> {
    let now = time_of(at);
    let lists = |layout| ReplicasReply { layout }.encode_to_vec();
    let empty = |(): ()| Empty {}.encode_to_vec();
    let made = |inode: Inode| AttrReply { attr: inode.attr, ..AttrReply::default() }.encode_to_vec();
    match body {
        Body::InitVolume(request) => volume::init(txn, now, request).map(empty),
        Body::DropVolume(request) => volume::start_drop(txn, request.volume).map(empty),
        Body::DropStep(step) => volume::drop_step(txn, step.volume, step.limit)
            .map(|finished| DropDone { finished }.encode_to_vec()),
        Body::Make(make) => {
            let inode = make::make(txn, now, &make.request, make.layout.as_ref())?;
            let request = &make.request;
            Log::new(at, &request.head).named(txn, &inode, request.parent, &request.name, false);
            named(txn, request.head.volume, inode, request.parent)
        }
        Body::Create(_)
        | Body::TmpFile(_)
        | Body::CreateAs(_)
        | Body::CreateFilled(_)
        | Body::ChangeAs(_)
        | Body::DoneAs(_) => of_makers(txn, at, body),
        Body::ReserveInos(ask) => {
            let first = volume::reserve(txn, ask.volume, ask.count)?;
            Ok(InosReserved { first }.encode_to_vec())
        }
        Body::Unlink(_) | Body::RmDir(_) | Body::Link(_) => of_names(txn, at, body),
        Body::Rename(rename) => renamed(txn, at, rename),
        Body::SetAttr(request) => {
            let inode = setattr::setattr(txn, now, request)?;
            let kind = if request.size.is_some() { event::WRITTEN } else { event::ATTRIBUTES };
            Log::new(at, &request.head).changed(txn, kind, &inode)?;
            Ok(made(inode))
        }
        Body::WriteDone(request) => {
            let (inode, changed) = setattr::report_write(txn, now, request)?;
            let mut log = Log::new(at, &request.head);
            if changed.written {
                log.changed(txn, event::WRITTEN, &inode)?;
            }
            if changed.attributes {
                log.changed_too(txn, event::ATTRIBUTES, &inode);
            }
            let room = room(txn, request.head.volume, &inode, request.want)?;
            Ok(AttrReply { attr: inode.attr, room, ..AttrReply::default() }.encode_to_vec())
        }
        Body::SetXattr(request) => {
            let inode = xattr::set(txn, now, request)?;
            Log::new(at, &request.head).changed(txn, event::XATTR, &inode)?;
            Ok(empty(()))
        }
        Body::SetReplicas(request) => replicas::set(txn, request).map(lists),
        Body::CompleteReplicas(request) => replicas::complete(txn, request).map(lists),
        Body::Lock(request) => locks::change(txn, request).map(|reply| reply.encode_to_vec()),
        Body::TellLocks(request) => locks::tell(txn, request).map(|()| Vec::new()),
        Body::Reap(which) => collect::reap(txn, which.volume, which.ino).map(empty),
        Body::Removed(removed) => {
            collect::forget_garbage(txn, removed.volume, &removed.inos);
            Ok(empty(()))
        }
        Body::TrimChanges(cut) => trim::trim(txn, cut.volume, cut.upto, cut.limit).map(empty),
        Body::FoldUsage(step) => usage::fold(txn, step.volume, step.limit).map(empty),
        Body::SetQuota(request) => count::set(txn, request).map(|quota| quota.encode_to_vec()),
        Body::SetLayout(ask) => layout::set(txn, ask).map(empty),
        Body::TrashKeep(ask) => trash::keep(txn, now, ask.head.volume, ask.keep_ms).map(empty),
        Body::TrashRestore(ask) => {
            let (inode, parent, name) = trash::restore(txn, now, ask)?;
            Log::new(at, &ask.head).named(txn, &inode, parent, &name, false);
            Ok(empty(()))
        }
        Body::TrashRemove(ask) => trash::remove(txn, now, ask).map(empty),
        Body::Load(page) => load(txn, page).map(empty),
        Body::Mend(ask) => {
            mend(txn, now, ask.head.volume, ask.seen, &ask.findings).map(|done| done.encode_to_vec())
        }
        Body::CountOwned(step) => count::step(txn, step.volume, step.limit).map(empty),
        Body::Thaw(_)
        | Body::SnapshotCreate(_)
        | Body::SnapshotRemove(_)
        | Body::SnapshotSweep(_)
        | Body::FoldLayers(_)
        | Body::CloneData(_)
        | Body::EncodeBegin(_)
        | Body::EncodeCommit(_)
        | Body::EncodeDrop(_)
        | Body::EncodeDamaged(_) => of_snapshots(txn, at, body),
        Body::SessionBegin(begin) => session::open(txn, now, begin.session, &begin.client).map(empty),
        Body::SessionEnd(end) => session::end(txn, now, end.session).map(empty),
        Body::SessionLeases(leases) => session::enable_leases(txn, leases.session).map(empty),
        Body::SessionRaise(raise) => session::raise(txn, now, raise.session, raise.fence)
            .map(|epoch| SessionRaised { epoch }.encode_to_vec()),
    }
}
