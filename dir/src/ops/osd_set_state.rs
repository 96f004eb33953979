//! Drains, undrains or removes an OSD.

use proto::dir::{OsdSetState, SetOsdState};
use proto::error::WireError;
use proto::rpc::Empty;
use rt::rpc::{Request, Response, parse};

use crate::command::{Change, SetAdmin};
use crate::server::Dir;

pub(crate) async fn run(dir: &Dir, request: &Request) -> Result<Response, WireError> {
    let SetOsdState { origin, osd, state } = parse::<OsdSetState>(request)?;
    dir.lead()?;
    dir.propose(origin, Change::SetAdmin(SetAdmin { osd, admin: state }), request.deadline).await?;
    Ok(Response::of(&Empty {}))
}
