//! Calls over TCP, plain or TLS 1.3.
//!
//! Run to completion on both sides: the caller writes its request on its own thread; the server polls the
//! service's future once on the thread that read the request and answers from there; only what has to wait becomes
//! a task.

mod client;
mod server;

pub use client::TcpChannel;
pub use server::{CallCounts, ServerOptions, serve, serve_with};

use std::io;

use bytes::BytesMut;
use proto::frame::{self, Frame};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::tcp::OwnedReadHalf;

/// Where frames come from.
enum Source {
    /// By its own type: a read that does not fill the buffer is known to have taken all there was.
    Plain(OwnedReadHalf),
    Stream(Box<dyn AsyncRead + Send + Unpin>),
}

const READ_BYTES: usize = 64 << 10;

impl Source {
    /// The next frame; `None` at a clean end.
    async fn next(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) =
                frame::take(buffer).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
            {
                return Ok(Some(frame));
            }
            if buffer.capacity() - buffer.len() < READ_BYTES / 4 {
                buffer.reserve(READ_BYTES);
            }
            let read = match self {
                Source::Plain(stream) => stream.read_buf(buffer).await?,
                Source::Stream(stream) => stream.read_buf(buffer).await?,
            };
            if read == 0 {
                return if buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }
}
