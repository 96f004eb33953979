//! Erasure coding of closed files: the leader makes sure that nobody writes, then replicates. See
//! docs/protocols/erasure-coding.md.

use std::time::Duration;

use prost::Message;
use proto::coding::{EncodeBegin, EncodeCommit, EncodeDamaged, EncodeDrop, EncodeList, EncodingBegun};
use proto::error::{Code, WireError};
use proto::mrc::FileCredentials;
use proto::rpc::{Empty, Origin};
use proto::stripe::{Coding, Layout, Striping};
use rt::rpc::{Request, Response, parse};

use crate::command::{BeginCoding, Body, CodingBegun, Which};
use crate::engine::leases::{Claim, Claims};
use crate::engine::placement;
use crate::engine::sessions::FileId;
use crate::leasing::claims;
use crate::namespace::coding::{self, Known};
use crate::namespace::inode::Inode;
use crate::namespace::{Fail, access, content, inode, layers, layout, session, volume};
use crate::service::Mrc;

/// Encodings that one round of the keeper looks at.
const PENDING_PER_ROUND: usize = 1024;
/// An encoding that takes longer is given up, milliseconds.
const PENDING_MAX_MS: u64 = 24 * 3600 * 1000;

pub(crate) async fn begin(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<EncodeBegin>(&request)?;
    access::require_root(&ask.head, "encode files")?;
    let wanted = ask.coding.check().map_err(|why| WireError::new(Code::InvalidArgument, why))?;
    mrc.lead(request.deadline).await?;
    let (file, session) = ((ask.head.volume, ask.ino), ask.head.session);
    // Before anybody is disturbed: whether it can be placed at all.
    mrc.place_coded(file, wanted)?;
    let claims = Claims::default().with(Claim { own: true, ..Claim::change(file, claims::ATTRIBUTES) });
    let mut change = mrc.leader().leasing().begin_change(session, claims, request.deadline).await?;
    let _closed = mrc.leader().begin_closed(file)?;
    // Whoever wrote has told its size.
    let layout = mrc.place_coded(file, wanted)?;
    let body =
        Body::EncodeBegin(BeginCoding { volume: file.0, ino: file.1, session, layout: layout.clone() });
    let message = change.run(mrc.propose(ask.origin, body, request.deadline)).await?;
    let begun = CodingBegun::decode(message).map_err(|error| unreadable(&error))?;
    // A repeat got what was placed the first time.
    let layout = inode::get_any(mrc.table(), file.0, begun.data)?.layout()?;
    let capability = mrc.signer(session)?.capability((file.0, begun.data), session, true, &layout);
    let credentials = FileCredentials { capability, layout, ..FileCredentials::default() };
    Ok(Response::of(&EncodingBegun { attr: begun.attr, credentials }))
}

fn unreadable(error: &prost::DecodeError) -> WireError {
    WireError::new(Code::Internal, format!("unreadable answer to EncodeBegin: {error}"))
}

pub(crate) async fn commit(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<EncodeCommit>(&request)?;
    access::require_root(&ask.head, "encode files")?;
    mrc.lead(request.deadline).await?;
    let file = (ask.head.volume, ask.ino);
    let claims = Claims::default().with(Claim { own: true, ..Claim::change(file, claims::DATA) });
    let mut change = mrc.leader().leasing().begin_change(ask.head.session, claims, request.deadline).await?;
    // Who reads without leases would not hear of it.
    let _closed = mrc.leader().begin_closed(file)?;
    let message = change.run(mrc.propose(ask.origin, Body::EncodeCommit(ask), request.deadline)).await?;
    Ok(Response { message, payload: bytes::Bytes::new() })
}

pub(crate) async fn drop_pending(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<EncodeDrop>(&request)?;
    access::require_root(&ask.head, "encode files")?;
    mrc.lead(request.deadline).await?;
    let body = Body::EncodeDrop(Which { volume: ask.head.volume, ino: ask.data });
    mrc.change(ask.origin, body, request.deadline).await
}

pub(crate) async fn list(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<EncodeList>(&request)?;
    access::require_root(&ask.head, "list what is to be encoded")?;
    mrc.lead(request.deadline).await?;
    let volume = ask.head.volume;
    let is_written = |ino| mrc.leader().sessions().handles((volume, ino)).writing > 0;
    let known = Known { now_ms: mrc.unix_ms(), is_written: &is_written };
    Ok(Response::of(&coding::page(mrc.table(), &ask, &known)?))
}

/// Anybody who read may tell: at worst a file is encoded anew.
pub(crate) async fn damaged(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<EncodeDamaged>(&request)?;
    mrc.lead(request.deadline).await?;
    let volume = ask.head.volume;
    let Some(row) = inode::find_any(mrc.table(), volume, ask.data)? else {
        return Ok(Response::of(&Empty {}));
    };
    if !coding::is_coded(&row)? || row.shares().damaged {
        return Ok(Response::of(&Empty {}));
    }
    mrc.change(ask.origin, Body::EncodeDamaged(Which { volume, ino: ask.data }), request.deadline).await
}

/// Encodings whose encoder is gone are given up.
pub(crate) async fn sweep(mrc: &Mrc, volume: u64, deadline: Duration) -> Result<(), WireError> {
    for (data, pending) in coding::all_pending(mrc.table(), volume, PENDING_PER_ROUND)? {
        let too_old = mrc.unix_ms().saturating_sub(pending.begun_ms) > PENDING_MAX_MS;
        if too_old || !session::exists(mrc.table(), pending.session)? {
            tracing::info!(volume, ino = pending.ino, data, "an encoding that was not ended is given up");
            let body = Body::EncodeDrop(Which { volume, ino: data });
            mrc.propose(Origin::default(), body, deadline).await?;
        }
    }
    Ok(())
}

impl Mrc {
    /// Where a file goes when it is encoded.
    fn place_coded(&self, file: FileId, coding: Coding) -> Result<Layout, WireError> {
        let inode = inode::get(self.table(), file.0, file.1)?;
        let record = volume::live(self.table(), file.0)?;
        let striping = match inode.parent {
            0 => record.striping,
            parent => layout::default_of(self.table(), file.0, &record, parent)?.striping,
        };
        let stripe_bytes = coding.stripe_bytes(inode.attr.size, striping.stripe_bytes);
        let seed = self.leader().next_placement();
        let columns = placement::place_group(&*self.cluster().map()?, coding, seed)?;
        let coded_bytes = inode.attr.size;
        Ok(Layout { stripe_bytes, columns, view: 1, coding: Some(coding), coded_bytes, ..Layout::default() })
    }

    /// Where the replicas go of a file that is encoded now, or kept here; `None`: where they were.
    pub(crate) fn place_promoted(&self, volume: u64, inode: &Inode) -> Result<Option<Layout>, WireError> {
        let is_coded = coding::shows_coded(self.table(), volume, inode)?;
        if !is_coded && !content::shows_inline(self.table(), volume, inode)? {
            return Ok(None);
        }
        let own = inode.layout()?;
        let Some(first) = own.columns.first() else {
            return Ok(self.place(volume, inode.parent).ok());
        };
        let count = |many: usize| u32::try_from(many).unwrap_or(u32::MAX);
        let striping = Striping {
            stripe_bytes: own.stripe_bytes,
            width: count(own.columns.len()),
            replicas: count(first.osds.len()),
            replication: own.replication,
            coding: None,
        };
        // With OSDs that are down it may still be written where it was.
        Ok(self.place_as(striping).ok())
    }

    /// The file's size is about to be set: encoded data cannot be cut, nor what is kept here.
    pub(crate) async fn thaw_fixed(
        &self,
        file: FileId,
        size: u64,
        deadline: Duration,
    ) -> Result<(), WireError> {
        let Some(inode) = inode::find(self.table(), file.0, file.1)? else { return Ok(()) };
        let record = volume::live(self.table(), file.0)?;
        // All of it may go, unless others need it.
        let stays = || Ok::<_, Fail>(size > 0 || layers::needs_thaw(self.table(), file.0, &record, &inode)?);
        let fixed = inode.shares().encoding != 0
            || coding::shows_coded(self.table(), file.0, &inode)?
            || content::shows_inline(self.table(), file.0, &inode)? && stays()?;
        if fixed {
            self.thaw_to_write(file, deadline).await?;
        }
        Ok(())
    }
}
