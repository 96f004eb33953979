//! Opens a file: counts the handle in memory, reads one row, signs a capability.

use proto::error::WireError;
use proto::mrc::{FileCredentials, Open, OpenReply, OpenRequest};
use rt::rpc::{Request, Response, parse};

use crate::namespace::{inode, make};
use crate::service::{Mrc, Signer};

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<Open>(&request)?;
    mrc.lead(request.deadline).await?;
    let signer = mrc.signer()?;
    let (session, file) = (ask.head.session, (ask.head.volume, ask.ino));
    if ask.renew || session == 0 {
        return reply(mrc, &ask, &signer);
    }
    // Counted before the row is read: a removal that is decided after this sees the handle.
    mrc.leader().sessions().open_file(session, file, ask.write)?;
    reply(mrc, &ask, &signer).inspect_err(|_| {
        mrc.leader().sessions().close_file(session, file, ask.write);
    })
}

fn reply(mrc: &Mrc, ask: &OpenRequest, signer: &Signer) -> Result<Response, WireError> {
    let inode = inode::get(mrc.table(), ask.head.volume, ask.ino)?;
    if ask.renew {
        make::is_openable(&inode)?;
    } else {
        make::may_open(&inode, &ask.head, ask.write)?;
    }
    let layout = inode.layout()?;
    let file = (ask.head.volume, ask.ino);
    let capability = signer.capability(file, ask.head.session, ask.write, layout.view);
    Ok(Response::of(&OpenReply {
        attr: inode.attr,
        credentials: FileCredentials { capability, layout },
        created: false,
        leases: Vec::new(),
    }))
}
