//! Makes a file, fifo, socket or device node without opening it.

use proto::error::{Code, WireError};
use proto::mrc::{MkNod, kind};
use rt::rpc::{Request, Response, parse};

use crate::command::{Body, Make};
use crate::leasing::claims;
use crate::service::Mrc;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let mut ask = parse::<MkNod>(&request)?;
    mrc.read(request.deadline).await?;
    let layout = match ask.mode >> 12 {
        0 | kind::FILE => {
            ask.mode = kind::FILE << 12 | ask.mode & 0o7777;
            Some(mrc.place(ask.head.volume, ask.parent)?)
        }
        kind::FIFO | kind::SOCKET | kind::CHAR | kind::BLOCK => None,
        other => {
            return Err(WireError::new(
                Code::InvalidArgument,
                format!("MkNod makes files, fifos, sockets and device nodes, not file type {other:#o}"),
            ));
        }
    };
    let (head, origin) = ((ask.head.session, ask.head.volume), ask.origin);
    let claims = claims::one(ask.head.volume, ask.parent, claims::DIRECTORY);
    mrc.change_leased(head, origin, claims, Body::Make(Make { request: ask, layout }), request.deadline).await
}
