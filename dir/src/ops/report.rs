//! Evidence that an OSD's process is dead. Answers when the evidence has been weighed.

use std::sync::Arc;

use proto::dir::{Report, ReportDown};
use proto::error::{Code, WireError};
use proto::rpc::Empty;
use rt::rpc::{Peer, Request, Response, parse};

use crate::driver;
use crate::engine::Event;
use crate::server::Dir;

pub(crate) async fn run(dir: &Arc<Dir>, peer: &Peer, request: &Request) -> Result<Response, WireError> {
    let ReportDown { osd, addr, reporter, refused } = parse::<Report>(request)?;
    super::text("the OSD's address", &addr)?;
    super::text("the reporter", &reporter)?;
    dir.lead()?;
    // Where the connection proves who speaks, one party cannot pose as two.
    let reporter = match peer {
        Peer::Certified(subject) => subject.clone(),
        Peer::Local | Peer::Plain(_) => reporter,
    };
    let effects = dir.decide(Event::Reported { osd, addr, reporter, refused });
    // What was begun is ended even if the reporter stops waiting: only one look at an OSD is made at a time.
    let dir = dir.clone();
    let weighed = tokio::spawn(async move { driver::carry_out(&dir, effects).await });
    weighed.await.map_err(|error| WireError::new(Code::Internal, format!("weighing a report: {error}")))?;
    Ok(Response::of(&Empty {}))
}
