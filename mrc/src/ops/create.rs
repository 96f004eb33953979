//! Makes (or finds) a regular file and opens it: one command, then the capability from memory.

use prost::Message;
use proto::error::{Code, WireError};
use proto::mrc::{
    ACL_DEFAULT, Attr, Create, CreateRequest, FileCredentials, LEASE_ATTR, LEASE_READ, LEASE_WRITE,
    LeaseGrant, OpenReply, kind,
};
use rt::rpc::{Request, Response, parse};

use crate::command::{self, Body, CreateDone};
use crate::engine::leases::Claims;
use crate::engine::sessions::FileId;
use crate::leasing::claims;
use crate::leasing::read::{OF_MAKER, Reading};
use crate::namespace::{inode, link, read, volume};
use crate::quota::room::room;
use crate::service::{Mrc, Signer};

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let mut ask = parse::<Create>(&request)?;
    mrc.lead(request.deadline).await?;
    let (session, volume, write) = (ask.make.head.session, ask.make.head.volume, ask.write);
    let (origin, head, parent) = (ask.make.origin, ask.make.head.clone(), ask.make.parent);
    mrc.leader().require_session(session)?;
    ask.make.mode = kind::FILE << 12 | ask.make.mode & 0o7777;
    let signer = mrc.signer(session)?;
    let done = run(mrc, ask, &request).await?;
    let file = (volume, done.attr.ino);
    mrc.leader().count_created(session, file, write, origin)?;
    let (created, mut changed) = (done.created, done.changed.clone());
    let reading = Reading { head: &head, directory: None, deadline: request.deadline };
    let Made { attr, credentials, mut leases } = rights(mrc, &signer, reading, done, write).await?;
    if created && let Some((directory, grant)) = maker(mrc, session, (volume, parent))? {
        leases.push(grant);
        changed = vec![directory];
    }
    let room = if write { room_of(mrc, file)? } else { None };
    Ok(Response::of(&OpenReply { attr, credentials, created, leases, room, changed }))
}

/// A file that was made or found, and what its maker may do with it.
pub(super) struct Made {
    pub(super) attr: Attr,
    pub(super) credentials: FileCredentials,
    pub(super) leases: Vec<LeaseGrant>,
}

/// The rights to a file's data, and leases on it.
pub(super) async fn rights(
    mrc: &Mrc,
    signer: &Signer,
    reading: Reading<'_>,
    done: CreateDone,
    write: bool,
) -> Result<Made, WireError> {
    let (session, volume, deadline) = (reading.head.session, reading.head.volume, reading.deadline);
    let file = (volume, done.attr.ino);
    let wanted = LEASE_ATTR | LEASE_READ | if write { LEASE_WRITE } else { 0 };
    let (mut attr, leases) = lease(mrc, reading, &done, wanted).await?;
    let mut found = mrc.thawed(file, &leases, deadline).await?;
    if found.is_none() && attr.layer != 0 {
        found = inode::find(mrc.table(), volume, file.1)?;
    }
    let credentials = match found {
        Some(inode) => {
            attr = inode.attr.clone();
            mrc.credentials(signer, (volume, session), write, &inode)?
        }
        None => {
            let write = write && !done.layout.is_fixed();
            let capability = signer.capability(file, session, write, &done.layout);
            FileCredentials { capability, layout: done.layout.for_readers(), ..FileCredentials::default() }
        }
    };
    Ok(Made { attr, credentials, leases })
}

/// What the maker of a name is given of the directory, and the directory as it is under that: the right to make further names
/// unheard, where the MRC has nothing to decide about them.
pub(super) fn maker(
    mrc: &Mrc,
    session: u64,
    directory: FileId,
) -> Result<Option<(Attr, LeaseGrant)>, WireError> {
    let leasing = mrc.leader().leasing();
    if !mrc.group().has_room() || !leasing.with(|engine, _| engine.takes_part(session)) {
        return Ok(None);
    }
    let Some(record) = volume::find(mrc.table(), directory.0)? else { return Ok(None) };
    let plain = inode::find(mrc.table(), directory.0, directory.1)?
        .is_some_and(|inode| inode.attr.flags == 0 && inode.attr.acl & ACL_DEFAULT == 0);
    if !plain || record.has_quota() {
        return Ok(None);
    }
    mrc.grant_after(session, directory, OF_MAKER)
}

/// The command, again when the name came or went in between.
async fn run(mrc: &Mrc, ask: CreateRequest, request: &Request) -> Result<CreateDone, WireError> {
    let (volume, origin) = (ask.make.head.volume, ask.make.origin);
    let mut last = None;
    for _ in 0..super::DECISIONS {
        // A name that exists is opened, which changes nothing in the directory.
        let must_exist = !ask.exclusive
            && !mrc.leader().leasing().with(|engine, _| engine.is_alone(ask.make.head.session))
            && link::victim(mrc.table(), volume, ask.make.parent, &ask.make.name)?.is_some();
        let claims = match must_exist {
            true => Claims::default(),
            false => claims::one(volume, ask.make.parent, claims::DIRECTORY),
        };
        let create =
            command::Create { request: ask.clone(), layout: mrc.place(volume, ask.make.parent)?, must_exist };
        let session = ask.make.head.session;
        match mrc.propose_leased(session, origin, claims, Body::Create(create), request.deadline).await {
            Err(error) if error.hint == command::MOVED_HINT => last = Some(error),
            Err(error) => return Err(error),
            Ok(bytes) => {
                return CreateDone::decode(bytes).map_err(|error| {
                    WireError::new(Code::Internal, format!("unreadable answer to Create: {error}"))
                });
            }
        }
    }
    Err(last.expect("the loop ran"))
}

/// What the session may keep of the file, and its attributes under that.
async fn lease(
    mrc: &Mrc,
    reading: Reading<'_>,
    done: &CreateDone,
    wanted: u32,
) -> Result<(Attr, Vec<LeaseGrant>), WireError> {
    let (volume, ino) = (reading.head.volume, done.attr.ino);
    let session = reading.head.session;
    let alone =
        mrc.leader().leasing().with(|engine, _| engine.is_alone(session) && !engine.takes_part(session));
    if alone {
        return Ok((done.attr.clone(), Vec::new()));
    }
    let again = || match read::getattr(mrc.table(), volume, ino) {
        Ok(attr) => Ok(attr),
        // A repeat whose file is removed already: the recorded answer stands.
        Err(_) => Ok(done.attr.clone()),
    };
    let each = |attr: &Attr, each: &mut dyn FnMut(&Attr)| each(attr);
    mrc.read_leased(reading, again, each, |_| wanted).await
}

/// How much may be written to a file that was just made.
pub(super) fn room_of(mrc: &Mrc, file: FileId) -> Result<Option<u64>, WireError> {
    // A repeat whose file is removed already has nothing to write.
    let Some(inode) = inode::find(mrc.table(), file.0, file.1)? else { return Ok(None) };
    Ok(room(mrc.table(), file.0, &inode, 0)?)
}
