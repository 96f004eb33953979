//! Erasure coding through the whole stack: encoding, reading with OSDs away, promotion, snapshots, refused commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use client::{Client, ClientConfig, Code, Creds, Volume};
use proto::error::WireError;
use proto::osd::Read;
use proto::rpc::Method;
use proto::stripe::Coding;
use rt::rpc::{BoxFuture, Connector, Peer, Request, Response, Service};

use super::bed::{Bed, STRIPE, pattern};
use super::failures::Away;

const CODE: Coding = Coding { data: 2, parity: 1 };
const LEN: usize = 3 * STRIPE as usize + 777;

/// The volume's files are to be encoded as `coding` says.
async fn policy(volume: &Arc<Volume>, coding: Coding) {
    let striping = volume.default_layout(&Creds::root(), 1).await.unwrap().striping;
    let striping = proto::stripe::Striping { coding: Some(coding), ..striping };
    volume.set_default_layout(&Creds::root(), 1, Some(striping)).await.unwrap();
}

async fn ino_of(volume: &Arc<Volume>, path: &str) -> u64 {
    volume.stat(&Creds::root(), path).await.unwrap().ino
}

async fn coding_of(volume: &Arc<Volume>, ino: u64) -> Option<Coding> {
    volume.layout(&Creds::root(), ino).await.unwrap().layout.coding
}

/// A file with this content, encoded.
async fn encoded(volume: &Arc<Volume>, path: &str, content: &[u8], coding: Coding) -> u64 {
    let root = Creds::root();
    volume.create_exclusive(&root, path, content, 0o644).await.unwrap();
    let ino = ino_of(volume, path).await;
    volume.encode(&root, ino, coding).await.unwrap();
    assert_eq!(coding_of(volume, ino).await, Some(coding));
    ino
}

/// Says where the first difference is instead of printing all.
fn same(read: &[u8], want: &[u8], what: &str) {
    let first = read.iter().zip(want).position(|(one, other)| one != other);
    assert!(
        read == want,
        "{what}: {} bytes for {}, the first difference at {first:?}",
        read.len(),
        want.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_encoded_read_with_osds_away_written_again_and_encoded_anew() {
    let bed = Bed::start(5).await;
    let (volume, other, root) = (bed.volume("a").await, bed.volume("b").await, Creds::root());
    let coding = Coding { data: 3, parity: 2 };
    policy(&volume, coding).await;
    let mut content = pattern(5, LEN);
    volume.create_exclusive(&root, "/f", &content, 0o644).await.unwrap();
    let before = other.open_path(&root, "/f", false).await.unwrap();
    same(&before.read_at(0, LEN).await.unwrap(), &content, "step 1");
    let page = volume.list_encodable(&root, 0, vec![], 0).await.unwrap();
    let ino = ino_of(&volume, "/f").await;
    assert_eq!((page.files.len(), page.files[0].ino, page.files[0].coding), (1, ino, coding));
    volume.encode(&root, ino, coding).await.unwrap();
    assert_eq!(volume.list_encodable(&root, 0, vec![], 0).await.unwrap().encoded, 1);
    same(&before.read_at(0, LEN).await.unwrap(), &content, "who had it open reads on");

    // Every pair of OSDs may be away.
    for (one, two) in (0..5).flat_map(|one| (0..one).map(move |two| (one, two))) {
        for away in [one, two] {
            bed.connector.register_local(&format!("osd-{away}"), Arc::new(Away));
        }
        let reader = bed.volume("reader").await;
        let file = reader.open_path(&root, "/f", false).await.unwrap();
        same(&file.read_at(0, LEN).await.unwrap(), &content, &format!("without {one} and {two}"));
        for (at, len) in [(0, 1), (STRIPE as usize - 3, 6), (LEN - 5, 100), (70_000, 60_001)] {
            let end = (at + len).min(LEN);
            assert_eq!(
                file.read_at(at as u64, len).await.unwrap(),
                content[at..end],
                "{at} without {one}, {two}"
            );
        }
        // Its handle would keep the file from being encoded until its session ends.
        file.close().await.unwrap();
        reader.client().shutdown().await;
        for back in [one, two] {
            bed.connector.register_local(&format!("osd-{back}"), bed.osds[back].clone());
        }
    }

    // Written in part, grown and cut: replicas on top of it.
    let file = volume.open_path(&root, "/f", true).await.unwrap();
    file.write_at(100_001, pattern(9, 5000)).await.unwrap();
    content[100_001..105_001].copy_from_slice(&pattern(9, 5000));
    assert_eq!(coding_of(&volume, ino).await, None);
    file.truncate(180_000).await.unwrap();
    file.truncate(200_000).await.unwrap();
    content.truncate(180_000);
    content.resize(200_000, 0);
    file.append(pattern(3, 10)).await.unwrap();
    content.extend(pattern(3, 10));
    file.close().await.unwrap();
    same(&before.read_at(0, 2 * LEN).await.unwrap(), &content, "step 4");
    volume.encode(&root, ino, coding).await.unwrap();
    assert_eq!(coding_of(&volume, ino).await, Some(coding));
    same(&before.read_at(0, 2 * LEN).await.unwrap(), &content, "step 5");
    same(&volume.read_file(&root, "/f").await.unwrap(), &content, "step 6");
    assert_eq!(volume.layers(&root, ino).await.unwrap(), 0, "nothing is left below");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_refused_when_the_file_was_opened_for_writing_meanwhile() {
    let bed = Bed::start(3).await;
    let (volume, other, root) = (bed.volume("a").await, bed.volume("b").await, Creds::root());
    volume.create_exclusive(&root, "/f", &pattern(1, LEN), 0o644).await.unwrap();
    let ino = ino_of(&volume, "/f").await;
    let writer = other.open_path(&root, "/f", true).await.unwrap();
    for when in 0..2 {
        let begun = volume.begin_encoding(&root, ino, CODE).await.unwrap();
        let data = begun.credentials.capability.ino;
        if when == 0 {
            writer.write_at(7, b"before".to_vec()).await.unwrap();
        }
        volume.write_encoded(&root, ino, begun).await.unwrap();
        if when == 1 {
            writer.write_at(70_000, b"after".to_vec()).await.unwrap();
        }
        let refused = volume.commit_encoding(&root, ino, data).await.unwrap_err();
        assert_eq!(refused.code, Code::Stale);
        assert_eq!(coding_of(&volume, ino).await, None);
    }
    let mut content = pattern(1, LEN);
    content[7..13].copy_from_slice(b"before");
    content[70_000..70_005].copy_from_slice(b"after");
    same(&volume.read_file(&root, "/f").await.unwrap(), &content, "step 7");
    // An open handle that does not write keeps nobody from it.
    volume.encode(&root, ino, CODE).await.unwrap();
    same(&volume.read_file(&root, "/f").await.unwrap(), &content, "step 8");
    writer.write_at(0, b"on".to_vec()).await.unwrap();
    content[..2].copy_from_slice(b"on");
    same(&volume.read_file(&root, "/f").await.unwrap(), &content, "step 9");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_and_clones_show_what_they_did() {
    let bed = Bed::start(3).await;
    let (volume, root) = (bed.volume("a").await, Creds::root());
    let old = pattern(1, LEN);
    let ino = encoded(&volume, "/f", &old, CODE).await;
    let first = volume.snapshot(&root, 1, b"encoded").await.unwrap();
    let file = volume.open_path(&root, "/f", true).await.unwrap();
    file.write_at(5, pattern(2, 90_000)).await.unwrap();
    file.close().await.unwrap();
    let mut new = old.clone();
    new[5..90_005].copy_from_slice(&pattern(2, 90_000));
    volume.create_exclusive(&root, "/clone", b"", 0o644).await.unwrap();
    let clone = ino_of(&volume, "/clone").await;
    volume.clone_data(&root, (ino, 0), clone).await.unwrap();
    let second = volume.snapshot(&root, 1, b"replicated").await.unwrap();
    volume.encode(&root, ino, CODE).await.unwrap();
    volume.encode(&root, clone, CODE).await.unwrap();
    bed.connector.register_local("osd-1", Arc::new(Away));
    for (path, want) in [("/f", &new), ("/clone", &new)] {
        same(&volume.read_file(&root, path).await.unwrap(), want, path);
    }
    bed.connector.register_local("osd-1", bed.osds[1].clone());
    for (id, want) in [(first.id, &old), (second.id, &new)] {
        let attr = volume.clone_data(&root, (ino, id), clone).await.unwrap();
        assert_eq!(attr.size, want.len() as u64);
        same(&volume.read_file(&root, "/clone").await.unwrap(), want, &format!("snapshot {id}"));
    }
    same(&volume.read_file(&root, "/f").await.unwrap(), &new, "step 12");
    bed.stop().await;
}

/// Counts the reads of an OSD.
struct Counting {
    inner: Arc<dyn Service>,
    reads: Arc<AtomicUsize>,
}

impl Service for Counting {
    fn call(
        self: Arc<Self>,
        peer: Peer,
        request: Request,
    ) -> BoxFuture<'static, Result<Response, WireError>> {
        if request.method == Read::NUMBER {
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
        self.inner.clone().call(peer, request)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_read_asks_one_osd() {
    let bed = Bed::start(3).await;
    let (volume, root) = (bed.volume("a").await, Creds::root());
    let content = pattern(4, LEN);
    encoded(&volume, "/f", &content, CODE).await;
    let reads = Arc::new(AtomicUsize::new(0));
    let connector = Connector::new();
    for (name, service) in bed.services() {
        let counted = Counting { inner: service, reads: reads.clone() };
        connector.register_local(&name, Arc::new(counted));
    }
    connector.register_local("mrc", bed.mrc.clone());
    let config = ClientConfig { connector, ..ClientConfig::new(vec!["local://dir".into()], "counts") };
    let counted = Client::connect(config).await.unwrap().volume("v").await.unwrap();
    let file = counted.open_path(&root, "/f", false).await.unwrap();
    for (nth, block) in [0usize, 40, 20, 47].into_iter().enumerate() {
        let at = block * 4096;
        same(&file.read_at(at as u64, 4096).await.unwrap(), &content[at..at + 4096], "step 13");
        assert_eq!(reads.load(Ordering::Relaxed), nth + 1, "block {block}");
    }
    bed.stop().await;
}

/// Flips a bit of all that is read.
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_gone_around_told_and_mended() {
    let bed = Bed::start(4).await;
    let (volume, root) = (bed.volume("a").await, Creds::root());
    policy(&volume, CODE).await;
    let content = pattern(4, LEN);
    let ino = encoded(&volume, "/f", &content, CODE).await;
    let columns = volume.layout(&root, ino).await.unwrap().layout.columns;
    // OSD numbers begin at 1.
    let bad = usize::try_from(columns[0].osds[0]).unwrap() - 1;
    bed.connector.register_local(&format!("osd-{bad}"), Arc::new(Flip(bed.osds[bad].clone())));
    same(&bed.volume("b").await.read_file(&root, "/f").await.unwrap(), &content, "with damage");
    let mut told = Vec::new();
    for _ in 0..200 {
        told = volume.list_encodable(&root, 0, vec![], 0).await.unwrap().files;
        if !told.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    assert!(told.len() == 1 && told[0].repair, "{told:?}");
    // The encoder goes around it, too.
    let mut done = volume.encode(&root, ino, CODE).await;
    for _ in 0..400 {
        if done.as_ref().err().is_none_or(|error| error.code != Code::WouldBlock) {
            break;
        }
        // The reader's handle is not closed yet.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        done = volume.encode(&root, ino, CODE).await;
    }
    done.unwrap();
    bed.connector.register_local(&format!("osd-{bad}"), bed.osds[bad].clone());
    same(&bed.volume("c").await.read_file(&root, "/f").await.unwrap(), &content, "encoded anew");
    bed.stop().await;
}

/// Has lost all objects, and does not know it.
struct Forgets(Arc<dyn Service>);

impl Service for Forgets {
    fn call(
        self: Arc<Self>,
        peer: Peer,
        request: Request,
    ) -> BoxFuture<'static, Result<Response, WireError>> {
        if request.method == Read::NUMBER {
            return Box::pin(async { Ok(Response::of(&proto::osd::ReadReply::default())) });
        }
        self.0.clone().call(peer, request)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_that_are_lost_without_a_word_are_not_taken_for_zeroes() {
    let bed = Bed::start(4).await;
    let (volume, root) = (bed.volume("a").await, Creds::root());
    let coding = Coding { data: 2, parity: 2 };
    let content = pattern(4, LEN);
    encoded(&volume, "/f", &content, coding).await;
    let mut sparse = vec![0; LEN];
    sparse[LEN - 3..].copy_from_slice(b"end");
    encoded(&volume, "/sparse", &sparse, coding).await;
    for lost in 0..4 {
        let away = (lost + 1) % 4;
        for also_away in [false, true] {
            bed.connector.register_local(&format!("osd-{lost}"), Arc::new(Forgets(bed.osds[lost].clone())));
            if also_away {
                bed.connector.register_local(&format!("osd-{away}"), Arc::new(Away));
            }
            for (path, want) in [("/f", &content), ("/sparse", &sparse)] {
                let what = format!("{path}: {lost} lost, {also_away}");
                let read = volume.read_file(&root, path).await;
                let now = coding_of(&volume, ino_of(&volume, path).await).await;
                let read = read.unwrap_or_else(|error| panic!("{what}, {now:?}: {error}"));
                same(&read, want, &what);
            }
            for back in [lost, away] {
                bed.connector.register_local(&format!("osd-{back}"), bed.osds[back].clone());
            }
        }
    }
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_lost_than_the_code_bears_is_an_error_and_no_bytes() {
    let bed = Bed::start(3).await;
    let (volume, root) = (bed.volume("a").await, Creds::root());
    let content = pattern(4, LEN);
    encoded(&volume, "/f", &content, CODE).await;
    let file = volume.open_path(&root, "/f", false).await.unwrap();
    for (osd, service) in bed.osds.iter().take(2).enumerate() {
        let service: Arc<dyn Service> =
            if osd == 0 { Arc::new(Away) } else { Arc::new(Flip(service.clone())) };
        bed.connector.register_local(&format!("osd-{osd}"), service);
    }
    let error = file.read_at(0, LEN).await.unwrap_err();
    assert!(matches!(error.code, Code::Unavailable | Code::Corrupt), "{error}");
    for (osd, service) in bed.osds.iter().enumerate() {
        bed.connector.register_local(&format!("osd-{osd}"), service.clone());
    }
    same(&file.read_at(0, LEN).await.unwrap(), &content, "all are back");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_encoder_that_went_away_had_begun_is_given_up() {
    let bed = Bed::start(3).await;
    let (volume, encoder, root) = (bed.volume("a").await, bed.volume("rms").await, Creds::root());
    let content = pattern(4, LEN);
    volume.create_exclusive(&root, "/f", &content, 0o644).await.unwrap();
    let ino = ino_of(&volume, "/f").await;
    let begun = encoder.begin_encoding(&root, ino, CODE).await.unwrap();
    let data = begun.credentials.capability.ino;
    encoder.write_encoded(&root, ino, begun).await.unwrap();
    volume.replica_states(&root, data).await.unwrap();
    encoder.client().shutdown().await;
    for _ in 0..400 {
        if volume.replica_states(&root, data).await.is_err() {
            let late = volume.commit_encoding(&root, ino, data).await.unwrap_err();
            assert_eq!(late.code, Code::Stale);
            same(&volume.read_file(&root, "/f").await.unwrap(), &content, "as it was");
            bed.stop().await;
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("data {data} is still there");
}
