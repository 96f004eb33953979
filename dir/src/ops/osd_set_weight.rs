//! Changes an OSD's share of new files.

use proto::dir::{OsdSetWeight, SetOsdWeight};
use proto::error::WireError;
use proto::rpc::Empty;
use rt::rpc::{Request, Response, parse};

use crate::command::{Change, SetWeight};
use crate::server::Dir;

pub(crate) async fn run(dir: &Dir, request: &Request) -> Result<Response, WireError> {
    let SetOsdWeight { origin, osd, weight } = parse::<OsdSetWeight>(request)?;
    dir.lead()?;
    dir.propose(origin, Change::SetWeight(SetWeight { osd, weight }), request.deadline).await?;
    Ok(Response::of(&Empty {}))
}
