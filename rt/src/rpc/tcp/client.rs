//! The calling side: one connection per address, made when first needed and again after a failure.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use prost::Message;
use proto::error::{Code, ErrorMessage, WireError};
use proto::frame::{Frame, Header, Kind};
use proto::limits::INFLIGHT_PER_CONNECTION;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};

use super::Source;
use crate::rpc::outbox::Outbox;
use crate::rpc::{BoxFuture, Channel, Request, Response};
use crate::tls::TlsIdentity;

/// How long the peer's kernel may take to accept. It answers in a round trip; a lost packet is tried anew sooner by the
/// next attempt than by the kernel, and who follows a hint to a leader that was cut off must not wait long.
const OPEN_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a connection may take to come up, certificates included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Whoever waits for an answer makes itself heard this often. A kernel looks for an idle peer that is gone only every second, so
/// long polls would hear of a cut after two; what was sent and not taken ends the connection after one.
const PULSE: Duration = Duration::from_millis(400);
/// No request has it: to cancel it does nothing.
const NO_REQUEST: u64 = 0;

type Answer = Result<Response, WireError>;

struct Connection {
    outbox: Arc<Outbox>,
    /// order: leaf lock.
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    next: AtomicU64,
    slots: Semaphore,
}

/// A connection to one address; connects when called, reconnects after a failure.
pub struct TcpChannel {
    address: String,
    at: String,
    identity: Option<Arc<TlsIdentity>>,
    /// order: leaf lock.
    live: Mutex<Option<Arc<Connection>>>,
    /// Only one caller connects; the others wait for it.
    connecting: tokio::sync::Mutex<()>,
}

/// A connection that notices when its peer is cut off.
pub(super) async fn open(at: &str) -> io::Result<TcpStream> {
    let stream =
        tokio::time::timeout(OPEN_TIMEOUT, TcpStream::connect(at)).await.map_err(io::Error::from)??;
    super::prepare(&stream)?;
    Ok(stream)
}

impl TcpChannel {
    /// Does not connect yet. `at` is `host:port`.
    pub fn new(address: &str, at: &str, identity: Option<Arc<TlsIdentity>>) -> Arc<Self> {
        Arc::new(Self {
            address: address.to_owned(),
            at: at.to_owned(),
            identity,
            live: Mutex::new(None),
            connecting: tokio::sync::Mutex::new(()),
        })
    }

    fn current(&self) -> Option<Arc<Connection>> {
        self.live.lock().as_ref().filter(|connection| !connection.outbox.is_closed()).cloned()
    }

    async fn connection(&self) -> Result<Arc<Connection>, WireError> {
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let _only_one = self.connecting.lock().await;
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, self.connect()).await;
        let connection = connected
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| self.unavailable("connect", &error))?;
        *self.live.lock() = Some(connection.clone());
        Ok(connection)
    }

    fn unavailable(&self, doing: &str, error: &io::Error) -> WireError {
        let hint = match error.kind() {
            io::ErrorKind::ConnectionRefused => "refused",
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
                "reset"
            }
            _ => "",
        };
        WireError::new(Code::Unavailable, format!("{doing} {}: {error}", self.address)).with_hint(hint)
    }

    async fn connect(&self) -> io::Result<Arc<Connection>> {
        let stream = open(&self.at).await?;
        let (outbox, source) = match &self.identity {
            None => {
                let (read, write) = stream.into_split();
                let write = Arc::new(write);
                let outbox = Outbox::new(Some(write.clone()));
                let writer = outbox.clone();
                tokio::spawn(async move { writer.drain_plain(&write).await });
                (outbox, Source::Plain(read))
            }
            Some(identity) => {
                let connector = tokio_rustls::TlsConnector::from(identity.client.clone());
                let stream = connector.connect(TlsIdentity::server_name(), stream).await?;
                let (read, write) = tokio::io::split(stream);
                let outbox = Outbox::new(None);
                let writer = outbox.clone();
                tokio::spawn(async move { writer.drain_stream(write).await });
                (outbox, Source::Stream(Box::new(read)))
            }
        };
        let connection = Arc::new(Connection {
            outbox,
            waiting: Mutex::default(),
            next: AtomicU64::new(1),
            slots: Semaphore::new(INFLIGHT_PER_CONNECTION),
        });
        tokio::spawn(receive(connection.clone(), source, self.address.clone()));
        Ok(connection)
    }

    async fn exchange(&self, request: Request) -> Answer {
        let connection = self.connection().await?;
        let _slot = connection.slots.acquire().await.map_err(|_| {
            WireError::new(Code::Unavailable, format!("the connection to {} closed", self.address))
        })?;
        let number = connection.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        connection.waiting.lock().insert(number, sender);
        let mut guard = Forget { connection: &connection, number, method: request.method, sent: false };
        self.send(&connection, Kind::Request, number, request).await?;
        guard.sent = true;
        answer.await.unwrap_or_else(|_| {
            Err(WireError::new(
                Code::Unavailable,
                format!("the connection to {} was lost before the answer", self.address),
            )
            .with_hint("reset"))
        })
    }

    async fn send(
        &self,
        connection: &Connection,
        kind: Kind,
        number: u64,
        request: Request,
    ) -> Result<(), WireError> {
        let header = Header {
            kind,
            method: request.method,
            request: number,
            trace: request.trace,
            deadline_ms: u32::try_from(request.deadline.as_millis()).unwrap_or(u32::MAX),
            message_bytes: u32::try_from(request.message.len()).unwrap_or(u32::MAX),
            payload_bytes: u32::try_from(request.payload.len()).unwrap_or(u32::MAX),
        };
        let sent = connection.outbox.send(header, request.message, request.payload).await;
        sent.map_err(|error| self.unavailable("send to", &error))
    }

    fn out_of_time(&self, deadline: Duration) -> WireError {
        WireError::new(
            Code::DeadlineExceeded,
            format!("{} did not answer within {} ms", self.address, deadline.as_millis()),
        )
    }
}

/// Takes the entry out again when the caller stops waiting, and tells the server.
struct Forget<'a> {
    connection: &'a Arc<Connection>,
    number: u64,
    method: u16,
    sent: bool,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let unanswered = self.connection.waiting.lock().remove(&self.number).is_some();
        if unanswered && self.sent {
            // A cancel that does not fit is dropped, the server answers into the void.
            self.connection.cancel(self.method, self.number);
        }
    }
}

impl Connection {
    /// Nobody waits for this request any more. Best effort.
    fn cancel(&self, method: u16, request: u64) {
        if self.outbox.is_closed() {
            return;
        }
        let header = Header {
            kind: Kind::Cancel,
            method,
            request,
            trace: 0,
            deadline_ms: 0,
            message_bytes: 0,
            payload_bytes: 0,
        };
        let _ = futures::FutureExt::now_or_never(self.outbox.send(header, Bytes::new(), Bytes::new()));
    }

    /// The peer's kernel is made to answer, if somebody waits for an answer.
    fn pulse(&self) {
        let waits = !self.waiting.lock().is_empty();
        if waits {
            self.cancel(0, NO_REQUEST);
        }
    }
}

async fn receive(connection: Arc<Connection>, mut source: Source, address: String) {
    let mut buffer = BytesMut::with_capacity(super::READ_BYTES);
    let mut pulse = crate::clock::ticks(PULSE);
    let why = loop {
        let next = tokio::select! {
            biased;
            next = source.next(&mut buffer) => next,
            _ = pulse.tick() => {
                connection.pulse();
                continue;
            }
        };
        match next {
            Ok(Some(frame)) => deliver(&connection, frame),
            Ok(None) => break "the peer closed the connection".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    connection.outbox.close();
    connection.slots.close();
    let waiting: Vec<_> = connection.waiting.lock().drain().map(|(_, sender)| sender).collect();
    for sender in waiting {
        // The caller may have gone; then nobody needs the error.
        let _ = sender.send(Err(
            WireError::new(Code::Unavailable, format!("lost {address}: {why}")).with_hint("reset")
        ));
    }
}

fn deliver(connection: &Connection, frame: Frame) {
    let Some(sender) = connection.waiting.lock().remove(&frame.header.request) else { return };
    let answer = match frame.header.kind {
        Kind::Error => Err(ErrorMessage::decode(frame.message).map_or_else(
            |error| WireError::new(Code::Internal, format!("unreadable error message: {error}")),
            WireError::from,
        )),
        _ => Ok(Response { message: frame.message, payload: frame.payload }),
    };
    // The caller may have gone.
    let _ = sender.send(answer);
}

impl Channel for TcpChannel {
    fn call(&self, request: Request) -> BoxFuture<'_, Answer> {
        let deadline = request.deadline;
        Box::pin(async move {
            let exchanged = tokio::time::timeout(deadline, self.exchange(request)).await;
            exchanged.unwrap_or_else(|_| Err(self.out_of_time(deadline)))
        })
    }

    fn tell(&self, request: Request) -> BoxFuture<'_, Result<(), WireError>> {
        let deadline = request.deadline;
        Box::pin(async move {
            let mut send = std::pin::pin!(async {
                let connection = self.connection().await?;
                self.send(&connection, Kind::Notice, 0, request).await
            });
            // The first poll costs no timer: on a live connection with room it is the only one.
            if let std::task::Poll::Ready(sent) = futures::poll!(&mut send) {
                return sent;
            }
            tokio::time::timeout(deadline, send).await.unwrap_or_else(|_| Err(self.out_of_time(deadline)))
        })
    }

    fn address(&self) -> &str {
        &self.address
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn who_waits_for_an_answer_makes_itself_heard() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let channel = TcpChannel::new(&format!("tcp://{at}"), &at, None);
        let request = Request {
            method: 7,
            message: Bytes::new(),
            payload: Bytes::new(),
            deadline: Duration::from_secs(60),
            trace: 0,
        };
        let caller = tokio::spawn(async move { channel.call(request).await });
        let (mut peer, _) = listener.accept().await.unwrap();
        let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
        while frames.len() < 3 {
            peer.read_buf(&mut buffer).await.unwrap();
            while let Some(frame) = proto::frame::take(&mut buffer).unwrap() {
                frames.push((frame.header.kind, frame.header.request));
            }
        }
        assert_eq!(frames, [(Kind::Request, 1), (Kind::Cancel, NO_REQUEST), (Kind::Cancel, NO_REQUEST)]);
        caller.abort();
    }
}
