//! Removes a volume by name; its id stays used up, its name is free again.

use proto::dir::{RemoveVolume, VolumeRemove};
use proto::error::WireError;
use proto::rpc::Empty;
use rt::rpc::{Request, Response, parse};

use crate::command::Change;
use crate::server::Dir;

pub(crate) async fn run(dir: &Dir, request: &Request) -> Result<Response, WireError> {
    let RemoveVolume { origin, name } = parse::<VolumeRemove>(request)?;
    super::text("a volume's name", &name)?;
    dir.lead()?;
    dir.propose(origin, Change::RemoveVolume(name), request.deadline).await?;
    Ok(Response::of(&Empty {}))
}
