//! What a client does when services go away and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use client::{Client, ClientConfig, Code, Creds, Patience};
use proto::error::WireError;
use rt::rpc::{BoxFuture, Connector, Peer, Request, Response, Service};

use super::bed::{Bed, pattern};

/// Loses every `nth` answer of a service after it was done, as a broken connection does.
struct Lossy {
    inner: Arc<dyn Service>,
    calls: AtomicU32,
    nth: u32,
}

impl Service for Lossy {
    fn call(
        self: Arc<Self>,
        peer: Peer,
        request: Request,
    ) -> BoxFuture<'static, Result<Response, WireError>> {
        Box::pin(async move {
            let lost = self.calls.fetch_add(1, Ordering::Relaxed) % self.nth == self.nth - 1;
            let answer = self.inner.clone().call(peer, request).await;
            if lost { Err(WireError::new(Code::Unavailable, "the connection broke")) } else { answer }
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_change_nothing() {
    let bed = Bed::start(2).await;
    let connector = Connector::new();
    connector.register_local("dir", Arc::new(Remote(bed.connector.clone(), "local://dir")));
    let mrc: Arc<dyn Service> = bed.mrc.clone();
    connector.register_local("mrc", Arc::new(Lossy { inner: mrc, calls: AtomicU32::new(0), nth: 3 }));
    for (number, osd) in bed.osds.iter().enumerate() {
        let inner: Arc<dyn Service> = osd.clone();
        let lossy = Lossy { inner, calls: AtomicU32::new(0), nth: 4 };
        connector.register_local(&format!("osd-{number}"), Arc::new(lossy));
    }
    let config = ClientConfig { connector, ..ClientConfig::new(vec!["local://dir".into()], "lossy") };
    let volume = Client::connect(config).await.unwrap().volume("v").await.unwrap();
    let root = Creds::root();
    for number in 0..20u64 {
        let path = format!("/dir-{number}");
        volume.mkdir(&root, 1, &path.as_bytes()[1..], 0o755).await.unwrap();
        volume.create_exclusive(&root, &format!("{path}/f"), &pattern(number, 90_000), 0o644).await.unwrap();
        volume.rename_noreplace(&root, &format!("{path}/f"), &format!("{path}/g")).await.unwrap();
        assert_eq!(volume.read_file(&root, &format!("{path}/g")).await.unwrap(), pattern(number, 90_000));
        volume.remove(&root, &format!("{path}/g")).await.unwrap();
        volume.remove(&root, &path).await.unwrap();
    }
    assert!(volume.list(&root, "/").await.unwrap().is_empty());
    bed.stop().await;
}

/// A service reached through another connector.
struct Remote(Arc<Connector>, &'static str);

impl Service for Remote {
    fn call(self: Arc<Self>, _: Peer, request: Request) -> BoxFuture<'static, Result<Response, WireError>> {
        Box::pin(async move { self.0.channel(self.1)?.call(request).await })
    }
}

/// Nobody is there.
pub(crate) struct Away;

impl Service for Away {
    fn call(self: Arc<Self>, _: Peer, _: Request) -> BoxFuture<'static, Result<Response, WireError>> {
        Box::pin(async { Err(WireError::new(Code::Unavailable, "connection refused")) })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_stall_while_an_osd_is_away_and_then_go_on() {
    let bed = Bed::start(1).await;
    let (volume, root) = (bed.volume("a").await, Creds::root());
    volume.create_exclusive(&root, "/f", &pattern(0, 5000), 0o644).await.unwrap();
    let file = volume.open_path(&root, "/f", true).await.unwrap();
    bed.connector.register_local("osd-0", Arc::new(Away));
    let reading = {
        let file = file.clone();
        tokio::spawn(async move { file.read_at(0, 5000).await })
    };
    let writing = {
        let file = file.clone();
        tokio::spawn(async move { file.write_at(5000, pattern(5000, 10)).await })
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!reading.is_finished() && !writing.is_finished());
    bed.connector.register_local("osd-0", bed.osds[0].clone());
    let read = tokio::time::timeout(Duration::from_secs(5), reading).await.unwrap().unwrap().unwrap();
    assert_eq!(read[..5000], pattern(0, 5000));
    tokio::time::timeout(Duration::from_secs(5), writing).await.unwrap().unwrap().unwrap();
    assert_eq!(file.read_at(0, 9000).await.unwrap(), pattern(0, 5010));
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patience_ends_with_an_error_that_names_the_service() {
    let config = ClientConfig {
        patience: Patience::For(Duration::from_millis(300)),
        ..ClientConfig::new(vec!["local://nowhere".into()], "x")
    };
    let error = Client::connect(config).await.err().expect("there is no DIR");
    assert_eq!(error.code, Code::Unavailable);
    assert!(error.text.contains("DIR") && error.text.contains("local://nowhere"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_on_a_disk_is_an_error_and_not_data() {
    /// Flips a bit of every answer's payload.
    struct Flip(Arc<dyn Service>);
    impl Service for Flip {
        fn call(
            self: Arc<Self>,
            peer: Peer,
            request: Request,
        ) -> BoxFuture<'static, Result<Response, WireError>> {
            Box::pin(async move {
                let mut answer = self.0.clone().call(peer, request).await?;
                if !answer.payload.is_empty() {
                    let mut bytes = answer.payload.to_vec();
                    bytes[17] ^= 4;
                    answer.payload = bytes.into();
                }
                Ok(answer)
            })
        }
    }
    let bed = Bed::start(1).await;
    let (volume, root) = (bed.volume("a").await, Creds::root());
    volume.create_exclusive(&root, "/f", &pattern(0, 5000), 0o644).await.unwrap();
    bed.connector.register_local("osd-0", Arc::new(Flip(bed.osds[0].clone())));
    let error = volume.read_file(&root, "/f").await.unwrap_err();
    assert_eq!(error.code, Code::Corrupt, "{error}");
    bed.stop().await;
}
