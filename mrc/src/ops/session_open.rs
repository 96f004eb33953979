//! Opens a session, or re-opens one with what it has open and the leases it holds.

use proto::error::{Code, WireError};
use proto::limits::SESSION_TTL_MS;
use proto::mrc::{OpenSession, SessionOpen, SessionReply};
use proto::rpc::Origin;
use rt::rpc::{Request, Response, parse};

use crate::command::{Body, SessionBegin};
use crate::engine::leases::{OpenRefused, Opening};
use crate::engine::sessions::FileId;
use crate::namespace::session::{self, SessionRow};
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<SessionOpen>(&request)?;
    if ask.session == 0 {
        return Err(WireError::new(
            Code::InvalidArgument,
            "session 0 cannot be opened; choose a random number",
        ));
    }
    mrc.lead(request.deadline).await?;
    mrc.leader().sessions().room_for(ask.session)?;
    let known = session::find(mrc.table(), ask.session)?;
    // A leader has opened it before, perhaps this one.
    let is_new = known.is_none();
    let row = match known {
        Some(row) => row,
        None => {
            let begin = SessionBegin { session: ask.session, client: ask.client.clone() };
            mrc.propose(Origin::default(), Body::SessionBegin(begin), request.deadline).await?;
            session::find(mrc.table(), ask.session)?.ok_or_else(|| {
                WireError::new(Code::Busy, "the session ended while it was opened; open it again")
            })?
        }
    };
    // Open files first: with the leases the grace period may end.
    let incarnation = {
        let now = mrc.now();
        let mut sessions = mrc.leader().sessions();
        // One that is meant for whoever leads is the session's first, and nothing is told by it. When another leader has opened
        // the session since, it came late.
        let first = ask.incarnation == 0 && (is_new || sessions.knows(ask.session));
        if ask.incarnation != sessions.incarnation() && !first {
            return Err(not_now(ask.session, sessions.incarnation(), 0));
        }
        let highest = mrc.leader().leasing().with(|engine, _| engine.opening(ask.session));
        if ask.opening != 0 && ask.opening <= highest {
            return Err(not_now(ask.session, sessions.incarnation(), highest));
        }
        sessions.open_session(now, ask.session, &ask.open_files)?;
        sessions.incarnation()
    };
    let session_epoch = open_leases(mrc, &ask, &row).await?;
    // Not longer than its open recalls leave it.
    let leased = mrc.leader().leasing().with(|engine, now| engine.renew(now, ask.session));
    let still = session::find(mrc.table(), ask.session)?.map(|row| row.epoch) == Some(session_epoch);
    let number = mrc.leader().leasing().with(|engine, _| engine.number());
    let Some(ttl) = leased.filter(|_| still) else { return Err(expelling()) };
    Ok(Response::of(&SessionReply {
        ttl_ms: SESSION_TTL_MS,
        incarnation,
        lease_ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
        session_epoch,
        members: mrc.group().voter_addrs(),
        number,
    }))
}

/// The opening was meant for another leader, or a later one was here before it: what it tells may not be so any more.
fn not_now(session: u64, incarnation: u64, highest: u64) -> WireError {
    let text = format!("the opening of session {session:016x} was overtaken; open it again");
    WireError { hint: format!("{incarnation} {highest}"), ..WireError::new(Code::SessionUnknown, text) }
}

fn expelling() -> WireError {
    WireError::new(Code::Busy, "the session is being expelled at this moment; open it again")
}

/// Takes the leases that the client tells of, and gives the session's epoch. Leases of an epoch before an expulsion
/// are not taken: the answer's epoch tells the client.
async fn open_leases(mrc: &Mrc, ask: &OpenSession, row: &SessionRow) -> Result<u64, WireError> {
    let leasing = mrc.leader().leasing();
    let told: Vec<(FileId, u32)> = match ask.session_epoch == row.epoch {
        true => ask.leases.iter().map(|lease| ((lease.volume, lease.ino), lease.bits)).collect(),
        false => Vec::new(),
    };
    if ask.session_epoch != 0 && ask.session_epoch < row.epoch {
        // A former leader may have raised the epoch and not have come to telling the OSDs.
        mrc.fence(ask.session, row.epoch).await?;
    }
    let open = |epoch, told: &[(FileId, u32)]| {
        let opening = Opening { number: ask.opening, epoch, part: row.leases, told };
        leasing.with(|engine, now| engine.open_session(now, ask.session, opening))
    };
    let refused = match open(row.epoch, &told) {
        Ok(()) => return Ok(row.epoch),
        Err(refused) => refused,
    };
    if let OpenRefused::Late(highest) = refused {
        let incarnation = mrc.leader().sessions().incarnation();
        return Err(not_now(ask.session, incarnation, highest));
    }
    if refused == OpenRefused::NotHeld {
        tracing::warn!(
            session = format!("{:016x}", ask.session),
            "a client tells of leases that it does not hold"
        );
        let epoch = mrc.raise(ask.session, true).await?;
        if open(epoch, &[]).is_ok() {
            return Ok(epoch);
        }
    }
    Err(expelling())
}
