//! Files and directories that a session has made, moved, linked or removed under its leases of their directories: one command each, replicated together. See
//! `docs/protocols/async-create.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use prost::Message;
use proto::error::{Code, WireError};
use proto::limits::INLINE_BYTES_MAX;
use proto::mrc::{
    AttrReply, CREATES_MAX, CreateMany, CreateManyReply, CreatedReply, EarlyFile, Head, LEASE_WRITE,
    LeaseGrant, RESERVE_MAX, TAKES_CONTENT, TAKES_DIRECTORIES, TAKES_LINKS, may_be_told_again,
};
use proto::rpc::Origin;
use proto::stripe::Inline;
use rt::rpc::{Request, Response, parse};

use super::create::{Made, rights};
use crate::command::{Body, ChangeAs, CreateAs, CreateDone, DoneAs, InosReserved, ReserveInos};
use crate::engine::leases::{Claim, Claims};
use crate::leasing::read::{OF_MAKER, Reading};
use crate::leasing::{Change, claims};
use crate::namespace::{content, inode, link as names};
use crate::service::{Mrc, Signer};
use crate::trash;

/// What changes with a file or a directory that is moved or removed.
const OF_KNOWN: u32 = claims::DATA | claims::DIRECTORY;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<CreateMany>(&request)?;
    if ask.files.len() > CREATES_MAX || ask.reserve > RESERVE_MAX {
        let text = format!("at most {CREATES_MAX} files and {RESERVE_MAX} numbers in one call");
        return Err(WireError::new(Code::InvalidArgument, text));
    }
    mrc.lead(request.deadline).await?;
    let (head, session) = (&ask.head, ask.head.session);
    mrc.leader().require_session(session)?;
    let takes = TAKES_LINKS | TAKES_DIRECTORIES | TAKES_CONTENT;
    let mut reply = CreateManyReply { takes, ..CreateManyReply::default() };
    if !ask.files.is_empty() {
        let signer = mrc.signer(session)?;
        let mut announced = announce(mrc, head, &ask.files, request.deadline).await?;
        let all = in_order(mrc, &signer, head, &ask.files, request.deadline);
        for (done, leases) in Change::run_all(&mut announced, all).await? {
            reply.files.push(done);
            reply.leases.extend(leases);
        }
    }
    if ask.reserve > 0 {
        let body = Body::ReserveInos(ReserveInos { volume: head.volume, count: ask.reserve });
        let bytes = mrc.propose(Origin::default(), body, request.deadline).await?;
        reply.first = InosReserved::decode(bytes).map_err(unreadable)?.first;
    }
    Ok(Response::of(&reply))
}

fn unreadable(error: prost::DecodeError) -> WireError {
    WireError::new(Code::Internal, format!("unreadable answer to CreateMany: {error}"))
}

/// Changes begin of the directories, and of files that were moved or removed. Nobody else holds anything that stands against them, so
/// nobody is waited for, not even those who have yet to come back after a change of leader. What a new leader was not told of is waited
/// for like any change, and so is the trash.
async fn announce(
    mrc: &Mrc,
    head: &Head,
    files: &[EarlyFile],
    deadline: Duration,
) -> Result<Vec<Change>, WireError> {
    let (volume, leasing) = (head.volume, mrc.leader().leasing());
    let mut known: BTreeSet<u64> = files.iter().flat_map(EarlyFile::known).collect();
    // Directories in which nobody can hold anything: they have yet to be made. One that is there was made by this call when it was made before.
    let made: BTreeSet<u64> =
        files.iter().filter(|file| file.is_made() && file.directory).map(|file| file.ino).collect();
    known.extend(&made);
    let directories = files.iter().flat_map(EarlyFile::directories).map(|ino| (ino, claims::DIRECTORY));
    // What was in a directory may go with it.
    let mut of_inodes: BTreeMap<u64, u32> = directories.collect();
    of_inodes.extend(known.iter().map(|ino| (*ino, OF_KNOWN)));
    let mut is_new = BTreeSet::new();
    for ino in made {
        if inode::find(mrc.table(), volume, ino)?.is_none() {
            is_new.insert(ino);
        }
    }
    let all: Vec<(u64, u32)> = of_inodes.into_iter().collect();
    let mut begun = Vec::with_capacity(all.len() / Claims::MAX + 1);
    for some in all.chunks(Claims::MAX) {
        let claim = |ino, bits| Claim { new: is_new.contains(&ino), ..Claim::change((volume, ino), bits) };
        let with = |claims: Claims, (ino, bits): &(u64, u32)| claims.with(claim(*ino, *bits));
        begun.push(leasing.begin_as_maker(head.session, some.iter().fold(Claims::default(), with))?);
    }
    let is_ours = |ino| leasing.with(|engine, _| engine.held(head.session, (volume, ino)) & LEASE_WRITE != 0);
    for ino in known.into_iter().filter(|ino| !is_ours(*ino)) {
        // Not one that has yet to be made.
        if inode::find(mrc.table(), volume, ino)?.is_some() {
            let all = Claim { tell: true, ..Claim::change((volume, ino), OF_KNOWN) };
            begun.push(leasing.begin_change(head.session, Claims::default().with(all), deadline).await?);
        }
    }
    let takes = |file: &EarlyFile| file.removed || file.moved.as_ref().is_some_and(|to| to.replaced != 0);
    if files.iter().any(takes)
        && let Some(trash) = trash::is_kept(mrc.table(), volume)?
    {
        let claims = claims::one(volume, trash, claims::DIRECTORY);
        begun.push(leasing.begin_change(head.session, claims, deadline).await?);
    }
    Ok(begun)
}

/// One after the other where one follows from another, else together.
async fn in_order(
    mrc: &Mrc,
    signer: &Signer,
    head: &Head,
    files: &[EarlyFile],
    deadline: Duration,
) -> Result<Vec<(CreatedReply, Vec<LeaseGrant>)>, WireError> {
    let mut done = vec![(CreatedReply::default(), Vec::new()); files.len()];
    for together in rounds(files) {
        let each = together.iter().map(|at| one(mrc, signer, head, &files[*at], deadline));
        let answers = mrc.group().together(try_join_all(each)).await?;
        for (at, answer) in together.iter().zip(answers) {
            done[*at] = answer;
        }
    }
    Ok(done)
}

/// Which may be done together, round by round: those of one have nothing to do with one another, so it does not matter in which order they
/// are done, nor whether some are and others are not; and each comes after all that it follows from.
fn rounds(files: &[EarlyFile]) -> Vec<Vec<usize>> {
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    // The first round that may use it again.
    let (mut names, mut inos, mut filled) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (at, file) in files.iter().enumerate() {
        let to = file.moved.as_ref();
        let of_names =
            || std::iter::once((file.parent, &file.name)).chain(to.map(|to| (to.parent, &to.name)));
        let of_inos = || std::iter::once(file.ino).chain(file.known());
        let free = |rounds: &BTreeMap<u64, usize>, ino| rounds.get(&ino).copied().unwrap_or(0);
        let after_names = of_names().filter_map(|name| names.get(&name).copied());
        // A directory goes after what was in it.
        let after_inos = of_inos().map(|ino| free(&inos, ino).max(free(&filled, ino)));
        let after_directories = file.directories().map(|ino| free(&inos, ino));
        let round = after_names.chain(after_inos).chain(after_directories).max().unwrap_or(0);
        names.extend(of_names().map(|name| (name, round + 1)));
        inos.extend(of_inos().map(|ino| (ino, round + 1)));
        for directory in file.directories() {
            let next = filled.entry(directory).or_insert(0);
            *next = (*next).max(round + 1);
        }
        if rounds.len() == round {
            rounds.push(Vec::new());
        }
        rounds[round].push(at);
    }
    rounds
}

/// Does one. An error: nobody knows whether it was done, the whole call is to be repeated.
async fn one(
    mrc: &Mrc,
    signer: &Signer,
    head: &Head,
    file: &EarlyFile,
    deadline: Duration,
) -> Result<(CreatedReply, Vec<LeaseGrant>), WireError> {
    let nothing_new = |freed| (CreatedReply { freed, ..CreatedReply::default() }, Vec::new());
    let result = if file.is_made() && file.directory {
        make_directory(mrc, head, file, deadline).await
    } else if file.is_made() {
        make(mrc, signer, head, file, deadline).await
    } else if file.linked || file.kept.is_some() {
        done(mrc, head, file, deadline).await.map(|_| nothing_new(0))
    } else {
        change(mrc, head, file, deadline).await.map(nothing_new)
    };
    let result = match result {
        Ok((mut reply, leases)) => {
            reply.cookie = cookie(mrc, head.volume, file)?;
            Ok((reply, leases))
        }
        refused => refused,
    };
    match result {
        Err(error) if !may_be_told_again(error.code) => {
            Ok((CreatedReply { refused: Some(error.into()), ..CreatedReply::default() }, Vec::new()))
        }
        result => result,
    }
}

/// Where a new name stands in its directory, so that its maker can list it.
fn cookie(mrc: &Mrc, volume: u64, file: &EarlyFile) -> Result<u64, WireError> {
    let Some((parent, name)) = file.new_name() else { return Ok(0) };
    let there = names::victim(mrc.table(), volume, parent, name)?;
    Ok(there.filter(|entry| entry.ino == file.ino).map_or(0, |entry| entry.cookie))
}

fn must_hold(mrc: &Mrc, head: &Head, file: &EarlyFile) -> Result<(), WireError> {
    let leasing = mrc.leader().leasing();
    let holds =
        |ino| leasing.with(|engine, _| engine.held(head.session, (head.volume, ino)) & LEASE_WRITE != 0);
    match file.directories().find(|ino| !holds(*ino)) {
        None => Ok(()),
        Some(ino) => {
            let text = format!("ino-{ino}: the session has lost the right to change names in it");
            Err(WireError::new(Code::CapabilityExpired, text))
        }
    }
}

async fn make(
    mrc: &Mrc,
    signer: &Signer,
    head: &Head,
    file: &EarlyFile,
    deadline: Duration,
) -> Result<(CreatedReply, Vec<LeaseGrant>), WireError> {
    must_hold(mrc, head, file)?;
    let mut layout = mrc.place_promised(head.volume, file.parent)?;
    layout.inline = inline(mrc, file)?;
    let is_filled = layout.is_inline();
    let mut create = CreateAs { head: head.clone(), file: file.clone(), layout };
    create.file.content.take_if(|_| !is_filled);
    let body = if is_filled { Body::CreateFilled(create) } else { Body::CreateAs(create) };
    let done = CreateDone::decode(propose(mrc, file, body, deadline).await?).map_err(unreadable)?;
    // The layout of its own data, also when it shows other data since.
    let has_content = file.content.is_some() && done.layout.is_inline();
    let reading = Reading { head, directory: None, deadline };
    let Made { attr, credentials, leases } = rights(mrc, signer, reading, done, true).await?;
    let (attr, credentials) = (Some(attr), Some(credentials));
    Ok((CreatedReply { attr, credentials, has_content, ..CreatedReply::default() }, leases))
}

/// What is in it is kept here; `None`: it goes to the OSDs.
fn inline(mrc: &Mrc, file: &EarlyFile) -> Result<Option<Inline>, WireError> {
    let Some(told) = file.content.as_ref().filter(|_| mrc.group().has_room()) else { return Ok(None) };
    match content::inline_of(told) {
        None if (1..=INLINE_BYTES_MAX).contains(&told.data.len()) => {
            // To be told again.
            let text = format!("what is in ino-{} was damaged on its way here", file.ino);
            Err(WireError::new(Code::Internal, text))
        }
        inline => Ok(inline),
    }
}

/// Makes it, a directory. Its maker may have made names in it already: it is given the right to, whatever is given to others now.
async fn make_directory(
    mrc: &Mrc,
    head: &Head,
    file: &EarlyFile,
    deadline: Duration,
) -> Result<(CreatedReply, Vec<LeaseGrant>), WireError> {
    let reply = AttrReply::decode(done(mrc, head, file, deadline).await?).map_err(unreadable)?;
    let (session, directory) = (head.session, (head.volume, file.ino));
    let grant = mrc.leader().leasing().with(|engine, _| engine.grant_made(session, directory, OF_MAKER));
    Ok((CreatedReply { attr: Some(reply.attr), ..CreatedReply::default() }, grant.into_iter().collect()))
}

/// Gives a file a further name, makes a directory or sets its attributes.
async fn done(mrc: &Mrc, head: &Head, file: &EarlyFile, deadline: Duration) -> Result<Bytes, WireError> {
    must_hold(mrc, head, file)?;
    let head = Head { uid: file.uid, gid: file.gid, ..head.clone() };
    propose(mrc, file, Body::DoneAs(DoneAs { head, file: file.clone() }), deadline).await
}

/// Moves or removes it. Gives the number of the inode that exists no more by it, or 0.
async fn change(mrc: &Mrc, head: &Head, file: &EarlyFile, deadline: Duration) -> Result<u64, WireError> {
    must_hold(mrc, head, file)?;
    let volume = head.volume;
    let (parent, name, gone) = match &file.moved {
        Some(to) => (to.parent, &to.name, to.replaced),
        None => (file.parent, &file.name, file.ino),
    };
    let victim = names::victim(mrc.table(), volume, parent, name)?.filter(|entry| entry.ino == gone);
    if file.moved.is_some() {
        mrc.leader().replaces(volume, victim);
    }
    let is_kept = trash::is_kept(mrc.table(), volume)?.is_some();
    // What goes to the trash is not freed.
    let freeing = mrc.leader().begin_free(volume, victim.filter(|_| !is_kept));
    let closed = freeing.as_ref().map_or(0, |freeing| freeing.ino());
    // Whose trash it goes to.
    let head = Head { uid: file.uid, gid: file.gid, ..head.clone() };
    let body = Body::ChangeAs(ChangeAs { head, file: file.clone(), closed });
    propose(mrc, file, body.clone(), deadline).await?;
    let is_there = names::victim(mrc.table(), volume, file.parent, &file.name)?;
    if is_there.is_some_and(|entry| entry.ino == file.ino) {
        // Made once more by a repeat whose answer was not kept any more, and this is another repeat, whose answer was.
        mrc.propose(Origin::default(), body, deadline).await?;
    }
    super::freed(mrc, (volume, gone))
}

/// Proposes it under its origin; when the answer to that is not kept any more its number tells as well whether it was done.
async fn propose(mrc: &Mrc, file: &EarlyFile, body: Body, deadline: Duration) -> Result<Bytes, WireError> {
    match mrc.propose(file.origin, body.clone(), deadline).await {
        Err(error) if error.code == Code::BadRequest => mrc.propose(Origin::default(), body, deadline).await,
        result => result,
    }
}
