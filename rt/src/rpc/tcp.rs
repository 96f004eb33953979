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
use std::time::Duration;

use bytes::BytesMut;
use proto::frame::{self, Frame};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

/// A peer whose kernel is silent for so long is gone: a cut cable refuses and resets nothing. The kernel answers for a process
/// that is slow or stopped, so this says nothing about those; they are found by deadlines.
const SILENCE: Duration = Duration::from_secs(1);

/// Small frames go out at once, and silence ends the connection: without that the one that waits for an answer waits for its
/// own deadline, and after a long cut for the next try of a kernel that has backed off.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    // For what was sent and not taken.
    socket.set_tcp_user_timeout(Some(SILENCE))?;
    // For an answer that is waited for with nothing under way: asked after this time, given up after as much again.
    socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(SILENCE).with_interval(SILENCE))
}

/// Where frames come from.
enum Source {
    /// By its own type: a read that does not fill the buffer is known to have taken all there was.
    Plain(OwnedReadHalf),
    Stream(Box<dyn AsyncRead + Send + Unpin>),
}

const READ_BYTES: usize = 64 << 10;

/// A frame that has arrived to its end.
fn take_whole(buffer: &mut BytesMut) -> io::Result<Option<Frame>> {
    frame::take(buffer).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

impl Source {
    /// The next frame; `None` at a clean end.
    async fn next(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = take_whole(buffer)? {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_ends_give_up_a_silent_peer() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let calling = client::open(&at).await.unwrap();
        let (answering, _) = listener.accept().await.unwrap();
        prepare(&answering).unwrap();
        for stream in [&calling, &answering] {
            let socket = socket2::SockRef::from(stream);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(SILENCE));
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), SILENCE);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), SILENCE);
        }
    }
}
