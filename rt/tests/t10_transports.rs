//! One contract suite for every transport: in process, TCP, TLS 1.3, simulated.
#![allow(clippy::unwrap_used, reason = "a test: unwrap is its assertion")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use proto::error::{Code, WireError};
use rt::rpc::sim::{SimNetwork, Weather};
use rt::rpc::{BoxFuture, Channel, Connector, Peer, Request, Response, Service, tcp};
use rt::tls::{Authority, TlsIdentity};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// 1 echoes at once, 2 echoes after 20 ms, 3 refuses, 4 never answers (and counts who gave up), 5 tells the peer.
#[derive(Default)]
struct Echo {
    given_up: Arc<AtomicUsize>,
}

struct CountDrop(Arc<AtomicUsize>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Service for Echo {
    fn call(
        self: Arc<Self>,
        peer: Peer,
        request: Request,
    ) -> BoxFuture<'static, Result<Response, WireError>> {
        Box::pin(async move {
            match request.method {
                1 => {}
                2 => tokio::time::sleep(Duration::from_millis(20)).await,
                3 => return Err(WireError::new(Code::NoSpace, "full: add an OSD").with_hint("hint")),
                4 => {
                    let _counted = CountDrop(self.given_up.clone());
                    std::future::pending::<()>().await;
                }
                5 => {
                    return Ok(Response { message: Bytes::from(format!("{peer:?}")), payload: Bytes::new() });
                }
                other => return Err(rt::rpc::unknown_method("echo", other)),
            }
            Ok(Response { message: request.message, payload: request.payload })
        })
    }
}

fn request(method: u16, message: impl Into<Bytes>, payload: impl Into<Bytes>) -> Request {
    Request {
        method,
        message: message.into(),
        payload: payload.into(),
        deadline: Duration::from_secs(10),
        trace: 7,
    }
}

async fn contract(channel: Arc<dyn Channel>, given_up: Arc<AtomicUsize>) {
    // Small, empty and large.
    let answer = channel.call(request(1, "hello", "")).await.unwrap();
    assert_eq!((&answer.message[..], answer.payload.len()), (&b"hello"[..], 0));
    let answer = channel.call(request(1, "", "")).await.unwrap();
    assert!(answer.message.is_empty());
    let large: Vec<u8> = (0..9u32 << 20).map(|i| ((i * 31) >> 3) as u8).collect();
    let answer = channel.call(request(1, "big", large.clone())).await.unwrap();
    assert!(answer.payload == large, "9 MiB come back unchanged");
    // Refusals arrive whole.
    let error = channel.call(request(3, "", "")).await.unwrap_err();
    assert_eq!(error, WireError::new(Code::NoSpace, "full: add an OSD").with_hint("hint"));
    assert_eq!(channel.call(request(9, "", "")).await.unwrap_err().code, Code::UnknownMethod);
    // Many at once, slow and quick mixed, each gets its own answer.
    let calls = (0..500u32).map(|i| {
        let channel = channel.clone();
        async move {
            let text = format!("call {i}");
            let payload = vec![i as u8; (i as usize * 97) % 20_000];
            let answer =
                channel.call(request(1 + (i % 2) as u16, text.clone(), payload.clone())).await.unwrap();
            assert_eq!(&answer.message[..], text.as_bytes());
            assert!(answer.payload == payload);
        }
    });
    futures::future::join_all(calls).await;
    // A deadline is kept, and the server hears that nobody waits any more.
    let mut late = request(4, "", "");
    late.deadline = Duration::from_millis(50);
    assert_eq!(channel.call(late).await.unwrap_err().code, Code::DeadlineExceeded);
    for _ in 0..200 {
        if given_up.load(Ordering::SeqCst) == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(given_up.load(Ordering::SeqCst), 1, "the abandoned request was cancelled");
    assert!(channel.call(request(1, "still fine", "")).await.is_ok());
}

/// Echoes, and counts bursts and what was begun within one.
#[derive(Default)]
struct Bursts {
    inside: AtomicUsize,
    bursts: AtomicUsize,
    begun: AtomicUsize,
}

impl Service for Bursts {
    fn call(self: Arc<Self>, _: Peer, request: Request) -> BoxFuture<'static, Result<Response, WireError>> {
        Box::pin(async move {
            self.begun.fetch_add(self.inside.load(Ordering::SeqCst), Ordering::SeqCst);
            Ok(Response { message: request.message, payload: request.payload })
        })
    }

    fn together<'a>(
        &'a self,
        begin_all: BoxFuture<'a, std::io::Result<()>>,
    ) -> BoxFuture<'a, std::io::Result<()>> {
        Box::pin(async move {
            self.bursts.fetch_add(1, Ordering::SeqCst);
            self.inside.store(1, Ordering::SeqCst);
            let done = begin_all.await;
            self.inside.store(0, Ordering::SeqCst);
            done
        })
    }
}

#[tokio::test]
async fn requests_that_arrive_together_are_begun_together() {
    let service = Arc::new(Bursts::default());
    let (port, _stop) = listen(service.clone(), None).await;
    let channel = Connector::new().channel(&format!("tcp://127.0.0.1:{port}")).unwrap();
    channel.call(request(1, "alone", "")).await.unwrap();
    assert_eq!(service.bursts.load(Ordering::SeqCst), 0);
    // The server's task has the same thread: it reads when all of them are on their way.
    let calls = (0..40u32).map(|number| {
        let channel = channel.clone();
        async move {
            let answer = channel.call(request(1, number.to_string(), "")).await.unwrap();
            assert_eq!(answer.message, number.to_string());
        }
    });
    futures::future::join_all(calls).await;
    let (bursts, begun) = (service.bursts.load(Ordering::SeqCst), service.begun.load(Ordering::SeqCst));
    assert!((1..=10).contains(&bursts) && begun >= 30, "{bursts} bursts of {begun} requests");
}

async fn listen(service: Arc<dyn Service>, identity: Option<Arc<TlsIdentity>>) -> (u16, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(tcp::serve(listener, service, identity, stopped));
    (port, stop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_passes_the_contract() {
    let echo = Arc::new(Echo::default());
    let given_up = echo.given_up.clone();
    let connector = Connector::new();
    connector.register_local("echo", echo);
    contract(connector.channel("local://echo").unwrap(), given_up).await;
    let missing = connector.channel("local://nobody").err().unwrap();
    assert_eq!(missing.code, Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_passes_the_contract() {
    let echo = Arc::new(Echo::default());
    let given_up = echo.given_up.clone();
    let (port, _stop) = listen(echo, None).await;
    contract(Connector::new().channel(&format!("tcp://127.0.0.1:{port}")).unwrap(), given_up).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_passes_the_contract_and_identity_comes_from_the_certificate() {
    let authority = Authority::create("test").unwrap();
    let node = |name: &str| TlsIdentity::new(&authority.issue(name, &[]).unwrap()).unwrap();
    let echo = Arc::new(Echo::default());
    let given_up = echo.given_up.clone();
    let (port, _stop) = listen(echo, Some(node("server-1"))).await;
    let address = format!("tls://127.0.0.1:{port}");
    let channel = Connector::with_identity(node("client-7")).channel(&address).unwrap();
    contract(channel.clone(), given_up).await;
    let peer = channel.call(request(5, "", "")).await.unwrap().message;
    assert_eq!(&peer[..], b"Certified(\"client-7\")");

    // Another cluster's certificate, no certificate, and no TLS at all are refused.
    let stranger = Authority::create("other").unwrap().issue("client-7", &[]).unwrap();
    let stranger = Connector::with_identity(TlsIdentity::new(&stranger).unwrap()).channel(&address).unwrap();
    let mut ask = request(1, "", "");
    ask.deadline = Duration::from_secs(2);
    assert!(stranger.call(ask.clone()).await.is_err());
    assert_eq!(Connector::new().channel(&address).err().unwrap().code, Code::Unauthenticated);
    let plain = Connector::new().channel(&format!("tcp://127.0.0.1:{port}")).unwrap();
    assert!(plain.call(ask).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn simulated_passes_the_contract() {
    let network = SimNetwork::new(1, Weather::default());
    let echo = Arc::new(Echo::default());
    let given_up = echo.given_up.clone();
    network.bind("server", echo);
    contract(network.channel("client", "server"), given_up).await;
    network.cut("server", "client");
    let error = network.channel("client", "server").call(request(1, "", "")).await.unwrap_err();
    assert_eq!(error.code, Code::DeadlineExceeded, "a lost answer is silence");
    network.heal();
    network.unbind("server");
    let error = network.channel("client", "server").call(request(1, "", "")).await.unwrap_err();
    assert_eq!((error.code, error.hint.as_str()), (Code::Unavailable, "refused"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_tells_a_dead_process_apart_and_reconnects() {
    let (port, stop) = listen(Arc::new(Echo::default()), None).await;
    let channel = Connector::new().channel(&format!("tcp://127.0.0.1:{port}")).unwrap();
    channel.call(request(1, "up", "")).await.unwrap();
    let waiting = {
        let channel = channel.clone();
        tokio::spawn(async move { channel.call(request(4, "", "")).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    stop.send(true).unwrap();
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!((error.code, error.hint.as_str()), (Code::Unavailable, "reset"));
    let error = channel.call(request(1, "", "")).await.unwrap_err();
    assert_eq!((error.code, error.hint.as_str()), (Code::Unavailable, "refused"));
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(tcp::serve(listener, Arc::new(Echo::default()), None, stopped));
    assert!(channel.call(request(1, "back", "")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_a_connection_ends_that_connection_only() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (port, _stop) = listen(Arc::new(Echo::default()), None).await;
    let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    socket.write_all(&[b'x'; 200]).await.unwrap();
    let mut rest = Vec::new();
    // Closed or reset, with nothing answered.
    let _ = socket.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    let channel = Connector::new().channel(&format!("tcp://127.0.0.1:{port}")).unwrap();
    assert!(channel.call(request(1, "fine", "")).await.is_ok());
}
