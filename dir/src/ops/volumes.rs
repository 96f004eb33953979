//! Lists volumes, or finds one by name.

use proto::dir::{ListVolumes, VolumeList, Volumes};
use proto::error::{Code, WireError};
use rt::rpc::{Request, Response, parse};

use crate::server::Dir;

pub(crate) async fn run(dir: &Dir, request: &Request) -> Result<Response, WireError> {
    let ListVolumes { name } = parse::<Volumes>(request)?;
    dir.fresh(request.deadline).await?;
    let volumes =
        dir.state.volumes(&name).map_err(|error| WireError::new(Code::Internal, error.to_string()))?;
    let volumes = volumes.into_iter().map(|volume| dir.located(volume)).collect();
    Ok(Response::of(&VolumeList { volumes }))
}
