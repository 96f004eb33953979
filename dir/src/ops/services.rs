//! Lists services with how long each has been silent.

use proto::dir::{ServiceList, Services};
use proto::error::WireError;
use rt::rpc::{Request, Response, parse};

use crate::server::Dir;

pub(crate) async fn run(dir: &Dir, request: &Request) -> Result<Response, WireError> {
    parse::<Services>(request)?;
    dir.lead()?;
    let services = dir.with_memory(|memory, now| memory.services.list(now));
    Ok(Response::of(&ServiceList { services }))
}
