//! What services tell at their HTTP doors, read by tools: pages, metrics, and what follows from two looks.

pub(crate) mod flow;
pub(crate) mod prometheus;

use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use proto::dir::ServiceEntry;
use tokio::net::TcpStream;

use crate::cluster::Cluster;
use crate::failure::Failure;
use prometheus::Page;

/// Longest page that is read, bytes.
const PAGE_BYTES_MAX: usize = 16 << 20;
/// How long a service may take to tell.
const PATIENCE: Duration = Duration::from_secs(2);

/// A service that has an HTTP door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// `mrc-0`, `osd#1`.
    pub(crate) name: String,
    /// `mrc`, `osd`, `mount` and so on.
    pub(crate) role: String,
    /// Tells OSDs of one process apart.
    pub(crate) uuid: String,
    /// `host:port`.
    pub(crate) http: String,
}

/// What they told at one time.
#[derive(Debug)]
pub(crate) struct Look {
    /// When.
    pub(crate) at: Instant,
    /// Who, and what, or why not.
    pub(crate) pages: Vec<(Target, Result<Page, String>)>,
}

/// All services of a cluster that have an HTTP door, in the order in which `xtfs service ls` lists them.
pub(crate) async fn targets(cluster: &Cluster) -> Result<Vec<Target>, Failure> {
    let rank = |service: &ServiceEntry| match service.role.as_str() {
        "dir" => 0,
        "mrc" => 1,
        _ => 3,
    };
    let services = cluster.services().await?.services;
    let mut ranked: Vec<(u8, Target)> = services
        .into_iter()
        .filter(|service| service.role != "osd")
        .map(|service| {
            let ServiceEntry { name, role, uuid, http, .. } = service.clone();
            (rank(&service), Target { name, role, uuid, http })
        })
        .collect();
    let osds = cluster.map().await?.osds;
    ranked.extend(osds.into_iter().filter(|osd| osd.state() != proto::dir::OsdState::Out).map(|osd| {
        (
            2,
            Target {
                name: format!("osd#{}", osd.osd),
                role: "osd".to_owned(),
                uuid: osd.uuid,
                http: osd.http,
            },
        )
    }));
    ranked.retain(|(_, target)| !target.http.is_empty());
    ranked.sort_by_key(|(rank, _)| *rank);
    Ok(ranked.into_iter().map(|(_, target)| target).collect())
}

/// Asks all of them at once for their metrics.
pub(crate) async fn look(targets: &[Target]) -> Look {
    let at = Instant::now();
    let asked = targets.iter().map(|target| async {
        let page = get(&target.http, "/metrics").await;
        (target.clone(), page.map(|text| Page::parse(&text)))
    });
    Look { at, pages: futures::future::join_all(asked).await }
}

/// A page of a service; the error says why there is none.
pub(crate) async fn get(http: &str, path: &str) -> Result<String, String> {
    tokio::time::timeout(PATIENCE, ask(http, path))
        .await
        .unwrap_or_else(|_| Err(format!("{http} did not answer within {} s", PATIENCE.as_secs())))
}

async fn ask(http: &str, path: &str) -> Result<String, String> {
    let failed = |why: &dyn std::fmt::Display| format!("http://{http}{path}: {why}");
    let stream = TcpStream::connect(http).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let request = hyper::Request::get(path)
        .header(hyper::header::HOST, http)
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(&error))?;
    let answer = async move {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), PAGE_BYTES_MAX).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        Ok::<_, String>((status, String::from_utf8_lossy(&body).into_owned()))
    };
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    let (status, text) = tokio::select! {
        answer = &mut answer => answer,
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(error.to_string()),
        },
    }
    .map_err(|why| failed(&why))?;
    // A service that is not healthy says why with 503.
    if status.is_success() || status == hyper::StatusCode::SERVICE_UNAVAILABLE {
        Ok(text)
    } else {
        Err(failed(&format!("answered {status}")))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Answers one connection with these bytes.
    async fn server(answer: Vec<u8>) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = [0; 1024];
            let _ = stream.read(&mut seen).await;
            let _ = stream.write_all(&answer).await;
        });
        at
    }

    #[tokio::test]
    async fn pages_are_read_and_failures_say_where() {
        let at = server(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello".to_vec()).await;
        assert_eq!(get(&at, "/x").await.unwrap(), "hello");
        let at = server(b"HTTP/1.1 503 Busy\r\ncontent-length: 3\r\n\r\nwhy".to_vec()).await;
        assert_eq!(get(&at, "/healthz").await.unwrap(), "why");
        let at = server(b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
        let why = get(&at, "/none").await.unwrap_err();
        assert!(why.contains(&at) && why.contains("404"), "{why}");
        let at = server(b"nonsense".to_vec()).await;
        assert!(get(&at, "/").await.unwrap_err().contains(&at));
        let at = server(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut".to_vec()).await;
        assert!(get(&at, "/").await.is_err());
    }
}
