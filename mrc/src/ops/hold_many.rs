//! What a session that moves or removes one file after the other needs to do so unheard: the right to change names in the
//! directory, and all that there is of the files. See `docs/protocols/async-create.md`.

use proto::error::{Code, WireError};
use proto::mrc::{
    Attr, FURTHER_MAX, HOLDS_MAX, HoldMany, HoldManyReply, LEASE_ATTR, LEASE_READ, LEASE_WRITE, kind,
};
use rt::rpc::{Request, Response, parse};

use super::create::maker;
use crate::leasing::read::OF_MAKER;
use crate::namespace::{inode, layers, volume};
use crate::service::Mrc;

/// Names change in so many directories at once.
const DIRECTORIES_MAX: usize = 2;
/// What is given of a file.
const OF_FILE: u32 = LEASE_ATTR | LEASE_READ | LEASE_WRITE;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<HoldMany>(&request)?;
    let many = ask.directories.len() > DIRECTORIES_MAX || ask.further.len() > FURTHER_MAX;
    if many || ask.inos.len() > HOLDS_MAX {
        let text = format!(
            "at most {HOLDS_MAX} files, {DIRECTORIES_MAX} directories and {FURTHER_MAX} further ones in one call"
        );
        return Err(WireError::new(Code::InvalidArgument, text));
    }
    mrc.lead(request.deadline).await?;
    let (session, id) = (ask.head.session, ask.head.volume);
    mrc.leader().require_session(session)?;
    let mut reply = HoldManyReply::default();
    let mut all = true;
    for directory in &ask.directories {
        let given = maker(mrc, session, (id, *directory))?;
        all &= given.as_ref().is_some_and(|(_, grant)| grant.bits & OF_MAKER == OF_MAKER);
        add(&mut reply, given);
    }
    // Files without their directories are of no use, and one that a snapshot shows gets new data for whoever may write it.
    let record = volume::find(mrc.table(), id)?.filter(|record| all && record.snapshots.is_empty());
    let Some(record) = record else { return Ok(Response::of(&reply)) };
    for directory in &ask.further {
        let there =
            inode::find(mrc.table(), id, *directory)?.filter(|inode| inode.attr.mode >> 12 == kind::DIR);
        if there.is_some() {
            add(&mut reply, maker(mrc, session, (id, *directory))?);
        }
    }
    for ino in &ask.inos {
        let Some(inode) = inode::find(mrc.table(), id, *ino)? else { continue };
        let attr = &inode.attr;
        let plain = attr.mode >> 12 == kind::FILE && attr.flags == 0 && attr.nlink > 0;
        // So do shared ones, and coded ones are coded anew when somebody may write them.
        if plain && !(record.layered && layers::needs_thaw(mrc.table(), id, &record, &inode)?) {
            add(&mut reply, mrc.grant_after(session, (id, *ino), OF_FILE)?);
        }
    }
    Ok(Response::of(&reply))
}

fn add(reply: &mut HoldManyReply, given: Option<(Attr, proto::mrc::LeaseGrant)>) {
    if let Some((attr, grant)) = given {
        reply.attrs.push(attr);
        reply.leases.push(grant);
    }
}
