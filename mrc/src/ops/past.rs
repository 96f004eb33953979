//! Reads of a snapshot: nothing of it changes, so nothing is leased, and no handle is counted.

use proto::error::WireError;
use proto::mrc::{
    AccessRequest, Attr, AttrReply, EntryRequest, GetXattrRequest, Head, InoRequest, LayoutReply, OpenReply,
    OpenRequest, ReadDirRequest, ReadLinkReply, WalkReply, WalkRequest, XattrNames, XattrReply,
};
use rt::rpc::{Request, Response};
use rt::table::Table;

use crate::namespace::past::Past;
use crate::namespace::{inode, make, read, snapshot, volume, xattr};
use crate::service::Mrc;

/// The volume as the head's snapshot shows it.
async fn view<'a>(mrc: &'a Mrc, head: &Head, request: &Request) -> Result<Past<'a, dyn Table>, WireError> {
    mrc.read(request.deadline).await?;
    snapshot::exists(&volume::live(mrc.table(), head.volume)?, head.snapshot)?;
    Ok(Past::new(mrc.table(), head.snapshot))
}

fn told(attr: Attr) -> Response {
    Response::of(&AttrReply { attr, ..AttrReply::default() })
}

pub(super) async fn lookup(mrc: &Mrc, ask: &EntryRequest, request: &Request) -> Result<Response, WireError> {
    Ok(told(read::lookup(&view(mrc, &ask.head, request).await?, ask)?))
}

pub(super) async fn getattr(mrc: &Mrc, ask: &InoRequest, request: &Request) -> Result<Response, WireError> {
    Ok(told(read::getattr(&view(mrc, &ask.head, request).await?, ask.head.volume, ask.ino)?))
}

pub(super) async fn walk(mrc: &Mrc, ask: &WalkRequest, request: &Request) -> Result<Response, WireError> {
    let attrs = read::walk(&view(mrc, &ask.head, request).await?, ask)?;
    Ok(Response::of(&WalkReply { attrs, leases: Vec::new() }))
}

pub(super) async fn readdir(
    mrc: &Mrc,
    ask: &ReadDirRequest,
    request: &Request,
) -> Result<Response, WireError> {
    Ok(Response::of(&read::readdir(&view(mrc, &ask.head, request).await?, ask)?))
}

pub(super) async fn readlink(mrc: &Mrc, ask: &InoRequest, request: &Request) -> Result<Response, WireError> {
    let target = read::readlink(&view(mrc, &ask.head, request).await?, ask.head.volume, ask.ino)?;
    Ok(Response::of(&ReadLinkReply { target }))
}

pub(super) async fn access(mrc: &Mrc, ask: &AccessRequest, request: &Request) -> Result<Response, WireError> {
    read::access(&view(mrc, &ask.head, request).await?, ask)?;
    Ok(Response::of(&proto::rpc::Empty {}))
}

pub(super) async fn getxattr(
    mrc: &Mrc,
    ask: &GetXattrRequest,
    request: &Request,
) -> Result<Response, WireError> {
    let value = xattr::get(&view(mrc, &ask.head, request).await?, ask)?;
    Ok(Response::of(&XattrReply { value }))
}

pub(super) async fn listxattr(mrc: &Mrc, ask: &InoRequest, request: &Request) -> Result<Response, WireError> {
    let names = xattr::list(&view(mrc, &ask.head, request).await?, &ask.head, ask.ino)?;
    Ok(Response::of(&XattrNames { names }))
}

/// Where the data is that a file showed then.
pub(super) async fn layout(mrc: &Mrc, ask: &InoRequest, request: &Request) -> Result<Response, WireError> {
    let inode = inode::get(&view(mrc, &ask.head, request).await?, ask.head.volume, ask.ino)?;
    let layout = inode::get_any(mrc.table(), ask.head.volume, inode.top())?.layout()?;
    Ok(Response::of(&LayoutReply { layout, attr: inode.attr, open_handles: 0, open_writers: 0 }))
}

pub(super) async fn open(mrc: &Mrc, ask: &OpenRequest, request: &Request) -> Result<Response, WireError> {
    let inode = inode::get(&view(mrc, &ask.head, request).await?, ask.head.volume, ask.ino)?;
    if ask.write {
        return Err(snapshot::read_only());
    }
    if ask.renew {
        make::is_openable(&inode)?;
    } else {
        make::may_open(&inode, &ask.head, false, false)?;
    }
    let signer = mrc.signer(ask.head.session)?;
    let credentials = mrc.credentials(&signer, (ask.head.volume, ask.head.session), false, &inode)?;
    Ok(Response::of(&OpenReply { attr: inode.attr, credentials, ..OpenReply::default() }))
}
