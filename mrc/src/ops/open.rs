//! Opens a file: counts the handle in memory, reads one row, signs a capability.

use proto::error::WireError;
use proto::mrc::{Attr, FileCredentials, LEASE_ATTR, LEASE_READ, LEASE_WRITE, Open, OpenReply, OpenRequest};
use rt::rpc::{Request, Response, parse};

use crate::leasing::read::Reading;
use crate::namespace::inode::Inode;
use crate::namespace::{coding, inode, make};
use crate::quota::room::room;
use crate::service::{Mrc, Signer};

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<Open>(&request)?;
    if ask.head.snapshot != 0 {
        return super::past::open(mrc, &ask, &request).await;
    }
    mrc.lead(request.deadline).await?;
    let signer = mrc.signer(ask.head.session)?;
    let (session, file) = (ask.head.session, (ask.head.volume, ask.ino));
    if ask.renew || session == 0 {
        return reply(mrc, &ask, &signer, &request).await;
    }
    // Counted before the row is read: a removal that is decided after this sees the handle.
    mrc.leader().sessions().open_file(session, file, ask.write)?;
    let mut counted = Counted { mrc, ask: &ask, keep: false };
    let reply = reply(mrc, &ask, &signer, &request).await?;
    counted.keep = true;
    Ok(reply)
}

/// Uncounts the handle when the caller gets none, or leaves while others have to be waited for.
struct Counted<'a> {
    mrc: &'a Mrc,
    ask: &'a OpenRequest,
    keep: bool,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if !self.keep {
            let file = (self.ask.head.volume, self.ask.ino);
            self.mrc.leader().sessions().close_file(self.ask.head.session, file, self.ask.write);
        }
    }
}

async fn reply(
    mrc: &Mrc,
    ask: &OpenRequest,
    signer: &Signer,
    request: &Request,
) -> Result<Response, WireError> {
    let reading = Reading { head: &ask.head, directory: None, deadline: request.deadline };
    let wanted = LEASE_ATTR | LEASE_READ | if ask.write { LEASE_WRITE } else { 0 };
    let (mut inode, leases) = mrc
        .read_leased(
            reading,
            || read(mrc, ask),
            |inode: &Inode, each: &mut dyn FnMut(&Attr)| each(&inode.attr),
            |_| wanted,
        )
        .await?;
    let file = (ask.head.volume, ask.ino);
    let session = ask.head.session;
    // Who opens a file to write it may cut it first; who is about to write it asks for a new right to.
    let writes = mrc.leader().leasing().with(|engine, _| {
        !engine.takes_part(session) || ask.renew && engine.held(session, file) & LEASE_WRITE != 0
    });
    let thawed = match ask.write && !ask.exact && writes {
        true => mrc.thaw_to_write(file, request.deadline).await?,
        false => mrc.thawed(file, &leases, request.deadline).await?,
    };
    inode = thawed.unwrap_or(inode);
    let room = if ask.write { room(mrc.table(), ask.head.volume, &inode, 0)? } else { None };
    if ask.exact {
        // Only who encodes it writes with it.
        let pending = coding::pending(mrc.table(), file.0, file.1)?;
        let encodes = ask.write && pending.is_some_and(|pending| pending.session == ask.head.session);
        let layout = inode.layout()?;
        let capability = signer.capability(file, ask.head.session, encodes, &layout);
        let credentials = FileCredentials { capability, layout, ..FileCredentials::default() };
        return Ok(Response::of(&OpenReply { attr: inode.attr, credentials, ..OpenReply::default() }));
    }
    let credentials = mrc.credentials(signer, (file.0, ask.head.session), ask.write, &inode)?;
    Ok(Response::of(&OpenReply {
        attr: inode.attr,
        credentials,
        created: false,
        leases,
        room,
        changed: Vec::new(),
    }))
}

fn read(mrc: &Mrc, ask: &OpenRequest) -> Result<Inode, WireError> {
    if ask.renew {
        // Who looks after replicas opens data that only others need, too.
        let inode = inode::get_any(mrc.table(), ask.head.volume, ask.ino)?;
        make::is_openable(&inode)?;
        return Ok(inode);
    }
    let inode = inode::get(mrc.table(), ask.head.volume, ask.ino)?;
    {
        make::may_open(&inode, &ask.head, ask.write, ask.append)?;
    }
    Ok(inode)
}
