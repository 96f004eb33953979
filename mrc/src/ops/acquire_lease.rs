//! Asks for a lease; waits for others to give theirs back.

use proto::error::{Code, WireError};
use proto::mrc::{AcquireLease, Attr, AttrReply, LEASE_LOCKS, LEASE_WRITE};
use rt::rpc::{Request, Response, parse};

use crate::engine::leases::ALL_BITS;
use crate::leasing::read::Reading;
use crate::namespace::read;
use crate::service::Mrc;

/// The right to decide about locks comes with what is locked.
const GIVEN: u32 = ALL_BITS & !LEASE_LOCKS;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<AcquireLease>(&request)?;
    if ask.bits & !GIVEN != 0 {
        return Err(WireError::new(
            Code::InvalidArgument,
            format!("lease bits {:#x}; this version gives {GIVEN:#x}", ask.bits),
        ));
    }
    mrc.lead(request.deadline).await?;
    mrc.leader().require_session(ask.head.session)?;
    let file = (ask.head.volume, ask.ino);
    // Nothing is given on what does not exist.
    read::getattr(mrc.table(), file.0, file.1)?;
    let given = mrc.leader().leasing().acquire(ask.head.session, file, ask.bits, request.deadline).await?;
    // A snapshot that comes after this has to take the right back first.
    if ask.bits & LEASE_WRITE != 0 {
        match given {
            Some(_) => mrc.thaw(file, request.deadline).await?,
            // It writes without.
            None => mrc.thaw_to_write(file, request.deadline).await?,
        };
    }
    // Given before the row is read.
    let reading = Reading { head: &ask.head, directory: None, deadline: request.deadline };
    let (attr, _) = mrc
        .read_leased(
            reading,
            || Ok(read::getattr(mrc.table(), file.0, file.1)?),
            |attr: &Attr, each: &mut dyn FnMut(&Attr)| each(attr),
            |_| 0,
        )
        .await?;
    Ok(Response::of(&AttrReply { attr, leases: given.into_iter().collect(), ..AttrReply::default() }))
}
