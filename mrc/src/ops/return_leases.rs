//! Gives leases back, and tells of files that the client opened by itself.

use proto::error::WireError;
use proto::mrc::ReturnLeases;
use proto::rpc::Empty;
use rt::rpc::{Request, Response, parse};

use crate::engine::sessions::Handles;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<ReturnLeases>(&request)?;
    mrc.lead(request.deadline).await?;
    mrc.leader().require_session(ask.session)?;
    let leasing = mrc.leader().leasing();
    if ask.opening != 0 && ask.opening < leasing.with(|engine, _| engine.opening(ask.session)) {
        // The session was opened since, and has told what it held then: perhaps the same again.
        return Ok(Response::of(&Empty {}));
    }
    for returned in &ask.returned {
        let file = (returned.volume, returned.ino);
        let handles = Handles {
            all: returned.untold_readers.saturating_add(returned.untold_writers),
            writing: returned.untold_writers,
        };
        // Counted before the bits are free: a removal that waits for them sees the handles.
        mrc.leader().sessions().count_untold(ask.session, file, handles);
        leasing.with(|engine, now| engine.returned(now, ask.session, file, returned.bits, returned.number));
    }
    Ok(Response::of(&Empty {}))
}
