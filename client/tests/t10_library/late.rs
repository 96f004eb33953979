//! What was on its way for long: answers, over which this client does not forget what it has reported meanwhile, and writes,
//! which do not come over what was written since.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, ClientConfig, Code, Creds, Volume};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use proto::error::WireError;
use proto::mrc::{AwaitRecalls, GetAttr, Lookup, Open};
use proto::osd::Write;
use proto::rpc::Method;
use rt::rpc::{Connector, Peer, Request, Response, Service};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::bed::{Bed, pattern};
use super::leases::keeps_leases;

/// The way to an MRC, on which the next answer to a method can be stopped.
struct Way {
    to: Arc<dyn Service>,
    stops: Mutex<Option<u16>>,
    stopped: Semaphore,
    goes_on: Semaphore,
}

impl Service for Way {
    fn call(
        self: Arc<Self>,
        peer: Peer,
        request: Request,
    ) -> BoxFuture<'static, Result<Response, WireError>> {
        let stops = self.stops.lock().take_if(|method| *method == request.method).is_some();
        let answer = self.to.clone().call(peer, request);
        Box::pin(async move {
            let answer = answer.await;
            if stops {
                self.stopped.add_permits(1);
                self.goes_on.acquire().await.expect("never closed").forget();
            }
            answer
        })
    }
}

async fn volume(bed: &Bed) -> (Arc<Volume>, Arc<Way>) {
    let (client, way) = client(bed, false).await;
    (client.volume("v").await.unwrap(), way)
}

async fn client(bed: &Bed, leases: bool) -> (Arc<Client>, Arc<Way>) {
    let connector = Connector::new();
    for (name, service) in bed.services() {
        connector.register_local(&name, service);
    }
    let (stopped, goes_on) = (Semaphore::new(0), Semaphore::new(0));
    let way = Arc::new(Way { to: bed.mrc.clone(), stops: Mutex::default(), stopped, goes_on });
    connector.register_local("mrc", way.clone());
    let dirs = vec![bed.addr("dir").to_owned()];
    let config = ClientConfig { connector, leases, ..ClientConfig::new(dirs, "late") };
    (Client::connect(config).await.unwrap(), way)
}

/// What is written without a lease nobody waits for: a snapshot that was asked for after the write did not have it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_is_not_used_before_its_leases_are_there() {
    let bed = Bed::start(1).await;
    let (client, way) = client(&bed, true).await;
    *way.stops.lock() = Some(AwaitRecalls::NUMBER);
    let volume = tokio::spawn(async move { client.volume("v").await.unwrap() });
    way.stopped.acquire().await.unwrap().forget();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!volume.is_finished(), "nobody knows yet whether it may keep anything");
    way.goes_on.add_permits(1);
    let (volume, root) = (volume.await.unwrap(), Creds::root());
    volume.create_exclusive(&root, "/log", b"", 0o644).await.unwrap();
    let writer = volume.open_path(&root, "/log", true).await.unwrap();
    writer.write_buffered(0, &pattern(0, 5000)).await.unwrap();
    let other = bed.volume("other").await;
    let info = other.snapshot(&root, 1, b"s").await.unwrap();
    assert_eq!(other.past(info.id).read_file(&root, "/log").await.unwrap(), pattern(0, 5000));
    drop((writer, volume));
    bed.stop().await;
}

/// The size that `ask` finds after a write, when its answer leaves the MRC before the write is reported, and arrives after
/// the file was closed.
async fn size_in_a_late_answer<M, F>(ask: impl Fn(Arc<Volume>, u64) -> F) -> u64
where
    M: Method,
    F: Future<Output = u64> + Send + 'static,
{
    let bed = Bed::start(1).await;
    let ((volume, way), root) = (volume(&bed).await, Creds::root());
    volume.create_exclusive(&root, "/file", b"", 0o644).await.unwrap();
    let file = volume.open_path(&root, "/file", true).await.unwrap();
    file.write_at(0, pattern(0, 1000)).await.unwrap();
    *way.stops.lock() = Some(M::NUMBER);
    let asking = tokio::spawn(ask(volume.clone(), file.ino()));
    timeout(Duration::from_secs(10), way.stopped.acquire()).await.expect("it asks").unwrap().forget();
    file.close().await.unwrap();
    drop(file);
    // The round of reports that has it in hand passes too.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    way.goes_on.add_permits(1);
    let size = asking.await.unwrap();
    drop((volume, way));
    bed.stop().await;
    size
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_opened_while_its_size_is_reported_has_it() {
    let open = |volume: Arc<Volume>, ino| async move {
        let file = volume.open(&Creds::root(), ino, false).await.unwrap();
        let size = file.size();
        assert_eq!(file.read_at(0, 2000).await.unwrap().len() as u64, size);
        size
    };
    assert_eq!(size_in_a_late_answer::<Open, _>(open).await, 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attributes_that_are_asked_for_while_a_size_is_reported_have_it() {
    let getattr =
        |volume: Arc<Volume>, ino| async move { volume.getattr(&Creds::root(), ino).await.unwrap().size };
    assert_eq!(size_in_a_late_answer::<GetAttr, _>(getattr).await, 1000);
    let lookup =
        |volume: Arc<Volume>, _| async move { volume.lookup(&Creds::root(), 1, b"file").await.unwrap().size };
    assert_eq!(size_in_a_late_answer::<Lookup, _>(lookup).await, 1000);
}

/// The way to an OSD on which the next write gets stuck: its sender is told that the connection broke.
struct Stuck {
    to: Arc<dyn Service>,
    sticks: Mutex<bool>,
    stuck: Mutex<Option<(Peer, Request)>>,
}

impl Service for Stuck {
    fn call(
        self: Arc<Self>,
        peer: Peer,
        request: Request,
    ) -> BoxFuture<'static, Result<Response, WireError>> {
        if request.method == Write::NUMBER && std::mem::take(&mut *self.sticks.lock()) {
            *self.stuck.lock() = Some((peer, request));
            let broken = WireError::new(Code::Unavailable, "the connection broke");
            return Box::pin(async move { Err(broken) });
        }
        self.to.clone().call(peer, request)
    }
}

async fn holder(bed: &Bed, name: &str) -> (Arc<Volume>, Arc<Stuck>) {
    let connector = Connector::new();
    let mut ways = Vec::new();
    for (name, to) in bed.services() {
        let way = Arc::new(Stuck { to, sticks: Mutex::default(), stuck: Mutex::default() });
        connector.register_local(&name, way.clone());
        ways.push(way);
    }
    connector.register_local("mrc", bed.mrc.clone());
    let config = ClientConfig { connector, ..ClientConfig::new(vec![bed.addr("dir").to_owned()], name) };
    let volume = Client::connect(config).await.unwrap().volume("v").await.unwrap();
    keeps_leases(&volume).await;
    (volume, ways.pop().expect("an OSD"))
}

/// What is there when an attempt that `a` gave up and repeated arrives after the next write, which is `by_another` client's.
async fn after_a_late_attempt(by_another: bool) -> (Code, bool) {
    let bed = Bed::start(1).await;
    let ((a, way), (b, _), root) = (holder(&bed, "a").await, holder(&bed, "b").await, Creds::root());
    a.create_exclusive(&root, "/file", b"", 0o644).await.unwrap();
    let file = a.open_path(&root, "/file", true).await.unwrap();
    *way.sticks.lock() = true;
    file.write_at(0, vec![1; 5000]).await.unwrap();
    let (peer, request) = way.stuck.lock().take().expect("the first attempt");
    let other = if by_another { b.open_path(&root, "/file", true).await.unwrap() } else { file.clone() };
    other.write_at(1000, vec![2; 1000]).await.unwrap();
    let late = way.to.clone().call(peer, request).await;
    let content = b.read_file(&root, "/file").await.unwrap();
    let right = content.len() == 5000 && content[1000..2000].iter().all(|byte| *byte == 2);
    file.close().await.unwrap();
    other.close().await.unwrap();
    drop((a, b, file, other));
    bed.stop().await;
    (late.expect_err("it is too late").code, right)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_was_given_up_does_not_come_over_what_was_written_since() {
    assert_eq!(after_a_late_attempt(false).await, (Code::Superseded, true));
    assert_eq!(after_a_late_attempt(true).await, (Code::Superseded, true));
}
