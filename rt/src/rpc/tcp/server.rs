//! The answering side.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use prost::Message;
use proto::error::{Code, ErrorMessage, WireError};
use proto::frame::{Frame, Header, Kind};
use proto::limits::INFLIGHT_PER_SERVER;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;

use super::Source;
use crate::metrics::{CallLabels, Metrics};
use crate::rpc::outbox::Outbox;
use crate::rpc::{Peer, Request, Response, Service};
use crate::tls::{TlsIdentity, subject};

/// Counts a server's calls.
#[derive(Clone)]
pub struct CallCounts {
    /// Where to.
    pub metrics: Arc<Metrics>,
    /// The service's name (`mrc`).
    pub service: &'static str,
    /// Names of its methods by number (`proto::<service>::METHODS`).
    pub methods: Arc<HashMap<u16, &'static str>>,
}

impl CallCounts {
    /// Counts the methods of these tables.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, service: &'static str, tables: &[&[(u16, &'static str)]]) -> Self {
        let methods = tables.iter().flat_map(|table| table.iter().copied()).collect();
        Self { metrics, service, methods: Arc::new(methods) }
    }
}

/// What a server may be told.
#[derive(Clone, Default)]
pub struct ServerOptions {
    /// Serves TLS 1.3 and demands peers' certificates; plain TCP without it.
    pub identity: Option<Arc<TlsIdentity>>,
    /// Counts calls.
    pub metrics: Option<CallCounts>,
}

struct Server {
    service: Arc<dyn Service>,
    options: ServerOptions,
    slots: Arc<Semaphore>,
}

/// Serves until `shutdown` becomes true; then connections are closed.
pub async fn serve(
    listener: TcpListener,
    service: Arc<dyn Service>,
    identity: Option<Arc<TlsIdentity>>,
    shutdown: watch::Receiver<bool>,
) {
    serve_with(listener, service, ServerOptions { identity, metrics: None }, shutdown).await;
}

/// [`serve`] with options.
pub async fn serve_with(
    listener: TcpListener,
    service: Arc<dyn Service>,
    options: ServerOptions,
    mut shutdown: watch::Receiver<bool>,
) {
    let server = Arc::new(Server { service, options, slots: Arc::new(Semaphore::new(INFLIGHT_PER_SERVER)) });
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut shutdown) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    connections.spawn(connection(server.clone(), stream, from));
                }
                Err(error) => {
                    // Out of file descriptors, mostly: the next accept may work.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
    // Nobody gets in any more before those inside are sent away: a caller sees "refused", not another reset.
    drop(listener);
    connections.shutdown().await;
}

/// Ends when the owner says stop, or is gone.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

async fn connection(server: Arc<Server>, stream: TcpStream, from: SocketAddr) {
    if let Err(error) = super::prepare(&stream) {
        tracing::debug!(%from, %error, "prepare a connection");
    }
    let (outbox, source, peer) = match &server.options.identity {
        None => {
            let (read, write) = stream.into_split();
            let write = Arc::new(write);
            let outbox = Outbox::new(Some(write.clone()));
            let writer = outbox.clone();
            tokio::spawn(async move { writer.drain_plain(&write).await });
            (outbox, Source::Plain(read), Peer::Plain(from.to_string()))
        }
        Some(identity) => {
            let acceptor = tokio_rustls::TlsAcceptor::from(identity.server.clone());
            let accepted = tokio::time::timeout(Duration::from_secs(5), acceptor.accept(stream)).await;
            let stream = match accepted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%from, %error, "refused a connection: no valid node certificate");
                    return;
                }
            };
            let name = subject(stream.get_ref().1.peer_certificates()).unwrap_or_default();
            let (read, write) = tokio::io::split(stream);
            let outbox = Outbox::new(None);
            let writer = outbox.clone();
            tokio::spawn(async move { writer.drain_stream(write).await });
            (outbox, Source::Stream(Box::new(read)), Peer::Certified(name))
        }
    };
    let link = Arc::new(Link { outbox, running: Mutex::default() });
    let _closing = Closing(link.clone());
    if let Err(error) = requests(&server, &link, source, &peer).await {
        tracing::debug!(%from, %error, "connection ended");
    }
}

/// Requests that arrived together and are begun so.
const TOGETHER_MAX: usize = 63;

/// One connection's answers and the requests that wait.
struct Link {
    outbox: Arc<Outbox>,
    /// order: leaf lock.
    running: Mutex<HashMap<u64, AbortHandle>>,
}

/// However the connection ends, its writer and its waiting requests end too.
struct Closing(Arc<Link>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.outbox.close();
        for (_, task) in self.0.running.lock().drain() {
            task.abort();
        }
    }
}

async fn requests(server: &Arc<Server>, link: &Arc<Link>, mut source: Source, peer: &Peer) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(super::READ_BYTES);
    while let Some(frame) = source.next(&mut buffer).await? {
        let mut others = Vec::new();
        while others.len() < TOGETHER_MAX
            && let Some(frame) = super::take_whole(&mut buffer)?
        {
            others.push(frame);
        }
        if others.is_empty() {
            begin(server, link, peer, frame).await?;
            continue;
        }
        let all = async {
            for frame in std::iter::once(frame).chain(others) {
                begin(server, link, peer, frame).await?;
            }
            Ok(())
        };
        server.service.together(Box::pin(all)).await?;
    }
    Ok(())
}

/// Until it is answered, or waits for something.
async fn begin(server: &Arc<Server>, link: &Arc<Link>, peer: &Peer, frame: Frame) -> io::Result<()> {
    match frame.header.kind {
        Kind::Request => dispatch(server, link, peer.clone(), frame).await,
        Kind::Notice => take_notice(server, peer.clone(), frame).await,
        Kind::Cancel => {
            if let Some(task) = link.running.lock().remove(&frame.header.request) {
                task.abort();
            }
            Ok(())
        }
        Kind::Reply | Kind::Error => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "a caller sent an answer"))
        }
    }
}

async fn dispatch(server: &Arc<Server>, link: &Arc<Link>, peer: Peer, frame: Frame) -> io::Result<()> {
    let slot = server.slots.clone().acquire_owned().await.map_err(io::Error::other)?;
    let header = frame.header;
    let started = Instant::now();
    let request = request_of(frame);
    let deadline = request.deadline;
    let mut answer = server.service.clone().call(peer, request);
    if let Poll::Ready(result) = futures::poll!(&mut answer) {
        server.count(header.method, &result, started);
        return reply(&link.outbox, header, result).await;
    }
    let (server, link_of_task) = (server.clone(), link.clone());
    // The entry is made before the task can end: the lock is held over the spawn.
    let mut running = link.running.lock();
    let task = tokio::spawn(async move {
        let _slot = slot;
        let result = tokio::time::timeout(deadline, answer).await.unwrap_or_else(|_| {
            Err(WireError::new(
                Code::DeadlineExceeded,
                format!("not done within {} ms", deadline.as_millis()),
            ))
        });
        server.count(header.method, &result, started);
        link_of_task.running.lock().remove(&header.request);
        // A lost connection: the caller asks again with the same origin.
        let _ = reply(&link_of_task.outbox, header, result).await;
    });
    running.insert(header.request, task.abort_handle());
    Ok(())
}

/// A request that nobody waits for.
async fn take_notice(server: &Arc<Server>, peer: Peer, frame: Frame) -> io::Result<()> {
    let slot = server.slots.clone().acquire_owned().await.map_err(io::Error::other)?;
    let method = frame.header.method;
    let started = Instant::now();
    let request = request_of(frame);
    let deadline = request.deadline;
    let mut done = server.service.clone().call(peer, request);
    if let Poll::Ready(result) = futures::poll!(&mut done) {
        server.count(method, &result, started);
        return Ok(());
    }
    let server = server.clone();
    tokio::spawn(async move {
        let _slot = slot;
        // Bounded like a request that is waited for; its sender does not hear of it.
        if let Ok(result) = tokio::time::timeout(deadline, done).await {
            server.count(method, &result, started);
        }
    });
    Ok(())
}

fn request_of(frame: Frame) -> Request {
    Request {
        method: frame.header.method,
        message: frame.message,
        payload: frame.payload,
        deadline: Duration::from_millis(u64::from(frame.header.deadline_ms)),
        trace: frame.header.trace,
    }
}

async fn reply(outbox: &Outbox, request: Header, result: Result<Response, WireError>) -> io::Result<()> {
    let (kind, message, payload) = match result {
        Ok(response) => (Kind::Reply, response.message, response.payload),
        Err(error) => (Kind::Error, Bytes::from(ErrorMessage::from(error).encode_to_vec()), Bytes::new()),
    };
    let header = Header {
        kind,
        deadline_ms: 0,
        message_bytes: u32::try_from(message.len()).map_err(io::Error::other)?,
        payload_bytes: u32::try_from(payload.len()).map_err(io::Error::other)?,
        ..request
    };
    outbox.send(header, message, payload).await
}

impl Server {
    fn count(&self, method: u16, result: &Result<Response, WireError>, started: Instant) {
        if let Some(CallCounts { metrics, service, methods }) = &self.options.metrics {
            let outcome = match result {
                Ok(_) => "ok",
                Err(error) if error.code.is_retryable() => "retry",
                Err(_) => "refused",
            };
            let method = methods.get(&method).copied().unwrap_or("unknown");
            metrics.call(&CallLabels { service, method, outcome }, started.elapsed());
        }
    }
}
