//! Evidence that an OSD's process is dead. Answers when the evidence has been weighed.

use proto::dir::{Report, ReportDown};
use proto::error::WireError;
use proto::rpc::Empty;
use rt::rpc::{Peer, Request, Response, parse};

use crate::driver;
use crate::engine::Event;
use crate::server::Dir;

pub(crate) async fn run(dir: &Dir, peer: &Peer, request: &Request) -> Result<Response, WireError> {
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
    driver::carry_out(dir, effects).await;
    Ok(Response::of(&Empty {}))
}
