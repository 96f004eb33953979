//! Takes what a session that decided about a file's locks alone has there, in place of all that was known of it.

use proto::error::{Code, WireError};
use proto::locks::LOCKS_PER_INODE;
use proto::mrc::TellLocks;
use rt::rpc::{Request, Response, parse};

use crate::command::Body;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<TellLocks>(&request)?;
    let file = (ask.head.volume, ask.ino);
    if ask.locks.len() > LOCKS_PER_INODE {
        let text = format!("{} locks on ino-{}; at most {LOCKS_PER_INODE}", ask.locks.len(), file.1);
        return Err(WireError::new(Code::InvalidArgument, text));
    }
    mrc.lead(request.deadline).await?;
    mrc.leader().require_session(ask.head.session)?;
    // Nobody else has the right to decide: it was the session's until this is answered.
    let response = mrc.change(ask.origin, Body::TellLocks(ask), request.deadline).await?;
    mrc.leader().wake_waiters(file);
    Ok(response)
}
