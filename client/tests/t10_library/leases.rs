//! Leases: two clients see one another's changes in the next call, and what is kept is answered without one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use client::fuse::MountOptions;
use client::volume::attrs::Changes;
use client::volume::names::Move;
use client::{Client, ClientConfig, Code, Creds, Patience, Volume};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use proto::error::WireError;
use rt::rpc::{Connector, Peer, Request, Response, Service};

use super::bed::{Bed, STRIPE, pattern};
use super::mount::{Mount, errno, possible};

/// The way of one client to a service: counts calls, and can be cut.
struct Way {
    to: Arc<dyn Service>,
    cut: Arc<AtomicBool>,
    calls: Mutex<BTreeMap<u16, u64>>,
}

/// Calls that are made by themselves: renewals, waiting for recalls, returning them.
const BY_THEMSELVES: [u16; 4] = [
    <proto::mrc::SessionRenew as proto::rpc::Method>::NUMBER,
    <proto::mrc::SessionOpen as proto::rpc::Method>::NUMBER,
    <proto::mrc::AwaitRecalls as proto::rpc::Method>::NUMBER,
    <proto::mrc::ReturnLeases as proto::rpc::Method>::NUMBER,
];

impl Service for Way {
    fn call(
        self: Arc<Self>,
        peer: Peer,
        request: Request,
    ) -> BoxFuture<'static, Result<Response, WireError>> {
        *self.calls.lock().entry(request.method).or_default() += 1;
        if self.cut.load(Ordering::Relaxed) {
            let cut = WireError::new(Code::Unavailable, "the way is cut");
            return Box::pin(async move { Err(cut) });
        }
        let answer = self.to.clone().call(peer, request);
        Box::pin(async move {
            let answer = answer.await;
            if self.cut.load(Ordering::Relaxed) {
                return Err(WireError::new(Code::Unavailable, "the way was cut"));
            }
            answer
        })
    }
}

impl Way {
    fn calls(&self) -> u64 {
        let counted = self.calls.lock();
        counted.iter().filter(|(method, _)| !BY_THEMSELVES.contains(method)).map(|(_, calls)| calls).sum()
    }
}

/// A client whose calls to the MRC are counted; all its calls can be cut.
async fn counted(bed: &Bed, name: &str) -> (Arc<Volume>, Arc<Way>) {
    let (volume, way, _) = all_counted(bed, name).await;
    (volume, way)
}

/// Likewise with the ways to the OSDs.
async fn all_counted(bed: &Bed, name: &str) -> (Arc<Volume>, Arc<Way>, Vec<Arc<Way>>) {
    let connector = Connector::new();
    let cut = Arc::new(AtomicBool::new(false));
    let way = |to: Arc<dyn Service>| Arc::new(Way { to, cut: cut.clone(), calls: Mutex::default() });
    let mut osds = Vec::new();
    for (name, service) in bed.services() {
        let way = way(service);
        connector.register_local(&name, way.clone());
        if name.starts_with("osd") {
            osds.push(way);
        }
    }
    let way = way(bed.mrc.clone());
    connector.register_local("mrc", way.clone());
    let config = ClientConfig {
        connector,
        patience: Patience::For(Duration::from_secs(20)),
        ..ClientConfig::new(vec![bed.addr("dir").to_owned()], name)
    };
    let volume = Client::connect(config).await.unwrap().volume("v").await.unwrap();
    keeps_leases(&volume).await;
    (volume, way, osds)
}

/// Waits until the MRC gives leases to this client.
pub(super) async fn keeps_leases(volume: &Volume) {
    for _ in 0..200 {
        volume.getattr(&Creds::root(), 1).await.unwrap();
        if volume.session().leasing().held() > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("no lease was ever given");
}

/// After somebody else's change leases are not given for a moment.
async fn cool() {
    tokio::time::sleep(Duration::from_millis(2 * proto::limits::LEASE_COOL_MS)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_is_seen_by_the_next_call_of_another_client() {
    let bed = Bed::start(2).await;
    let ((a, _), (b, calls)) = (counted(&bed, "a").await, counted(&bed, "b").await);
    let root = Creds::root();
    for round in 0..20u32 {
        if round % 2 == 1 {
            cool().await;
        }
        let path = format!("/f{round}");
        assert_eq!(b.stat(&root, &path).await.unwrap_err().code, Code::NotFound);
        assert_eq!(b.stat(&root, &path).await.unwrap_err().code, Code::NotFound);
        a.create_exclusive(&root, &path, &pattern(0, 10_000), 0o600).await.unwrap();
        let seen = b.stat(&root, &path).await.unwrap();
        assert_eq!((seen.size, seen.mode & 0o777), (10_000, 0o600));
        let changes = Changes { mode: Some(0o640), ..Changes::default() };
        a.setattr(&root, seen.ino, changes).await.unwrap();
        assert_eq!(b.stat(&root, &path).await.unwrap().mode & 0o777, 0o640);
        let (writer, reader) =
            (a.open(&root, seen.ino, true).await.unwrap(), b.open(&root, seen.ino, false).await.unwrap());
        assert_eq!(reader.read_at(0, 4096).await.unwrap(), pattern(0, 4096));
        writer.write_at(0, vec![round as u8; 4096]).await.unwrap();
        assert_eq!(reader.read_at(0, 4096).await.unwrap(), vec![round as u8; 4096]);
        writer.write_at(10_000, vec![7u8; 100]).await.unwrap();
        assert_eq!(b.stat(&root, &path).await.unwrap().size, 10_100, "not reported by a flush");
        assert_eq!(reader.read_at(10_050, 100).await.unwrap(), vec![7u8; 50]);
        writer.truncate(5).await.unwrap();
        assert_eq!(b.getattr(&root, seen.ino).await.unwrap().size, 5);
        assert_eq!(reader.read_at(0, 100).await.unwrap().len(), 5);
        let moved = format!("m{round}");
        let what = Move {
            parent: 1,
            name: &path.as_bytes()[1..],
            new_parent: 1,
            new_name: moved.as_bytes(),
            flags: 0,
            only_if_no_writer: false,
        };
        a.rename(&root, what).await.unwrap();
        assert_eq!(b.stat(&root, &path).await.unwrap_err().code, Code::NotFound);
        assert_eq!(b.lookup(&root, 1, moved.as_bytes()).await.unwrap().ino, seen.ino);
        writer.close().await.unwrap();
        a.unlink(&root, 1, moved.as_bytes()).await.unwrap();
        assert_eq!(b.lookup(&root, 1, moved.as_bytes()).await.unwrap_err().code, Code::NotFound);
        assert_eq!(b.getattr(&root, seen.ino).await.unwrap().nlink, 0);
        assert_eq!(reader.read_at(0, 100).await.unwrap().len(), 5, "it lives as long as it is open");
        reader.close().await.unwrap();
    }
    assert!(calls.calls() > 0);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_was_ended_is_not_opened_again() {
    let bed = Bed::start(1).await;
    let (volume, way) = counted(&bed, "a").await;
    let root = Creds::root();
    volume.create_exclusive(&root, "/f", b"x", 0o644).await.unwrap();
    volume.session().end().await.unwrap();
    let opened = || way.calls.lock().get(&<proto::mrc::SessionOpen as proto::rpc::Method>::NUMBER).copied();
    let before = opened();
    // The waiting question for recalls hears that the session is unknown, and so does the next renewal.
    tokio::time::sleep(Duration::from_millis(proto::limits::LEASE_RENEW_MS + 500)).await;
    assert_eq!(opened(), before);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_is_answered_without_a_call() {
    let bed = Bed::start(2).await;
    let (volume, way) = counted(&bed, "a").await;
    let (root, user) = (Creds::root(), Creds::checked(1000, 1000));
    volume.create_exclusive(&root, "/f", &pattern(0, 5000), 0o644).await.unwrap();
    volume.symlink(&root, 1, b"l", b"f").await.unwrap();
    let ino = volume.stat(&root, "/f").await.unwrap().ino;
    let hot = async || {
        assert_eq!(volume.lookup(&user, 1, b"f").await.unwrap().size, 5000);
        assert_eq!(volume.getattr(&user, ino).await.unwrap().size, 5000);
        assert_eq!(volume.lookup(&user, 1, b"none").await.unwrap_err().code, Code::NotFound);
        let link = volume.lookup(&user, 1, b"l").await.unwrap().ino;
        assert_eq!(volume.readlink(&user, link).await.unwrap(), b"f");
        assert_eq!(volume.getxattr(&user, ino, b"user.x").await.unwrap_err().code, Code::NoAttribute);
        let file = volume.open(&user, ino, false).await.unwrap();
        assert_eq!(file.read_at(0, 10_000).await.unwrap(), pattern(0, 5000));
        file.close().await.unwrap();
    };
    hot().await;
    hot().await;
    // Handles that the MRC knows are told to be closed a moment later.
    cool().await;
    let before = way.calls();
    for _ in 0..100 {
        hot().await;
    }
    assert_eq!(way.calls() - before, 0, "{:?}", way.calls.lock());
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_file_of_a_mount_is_found_opened_and_read_without_a_call() {
    if !possible() {
        return;
    }
    let bed = Bed::start(2).await;
    let (volume, way, osds) = all_counted(&bed, "a").await;
    let mount = Mount::new(volume, MountOptions::default()).await;
    let hot = |at: &Path| {
        let path = at.join("d/f");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 5000);
        assert_eq!(std::fs::read(&path).unwrap(), pattern(0, 5000));
        assert_eq!(std::fs::metadata(at.join("d/none")).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    };
    mount
        .with(move |at| {
            std::fs::create_dir(at.join("d")).unwrap();
            std::fs::write(at.join("d/f"), pattern(0, 5000)).unwrap();
            hot(at);
            hot(at);
        })
        .await;
    cool().await;
    let calls = || way.calls() + osds.iter().map(|osd| osd.calls()).sum::<u64>();
    let before = calls();
    mount.with(move |at| (0..100).for_each(|_| hot(at))).await;
    let data: Vec<_> = osds.iter().map(|osd| osd.calls.lock().clone()).collect();
    assert_eq!(calls() - before, 0, "{:?} {data:?}", way.calls.lock());
    mount.end().await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_was_moved_is_not_believed_longer_than_names_of_its_new_directory() {
    if !possible() {
        return;
    }
    let bed = Bed::start(1).await;
    let ((a, _), (b, _)) = (counted(&bed, "a").await, counted(&bed, "b").await);
    let mount = Mount::new(a, MountOptions::default()).await;
    let root = Creds::root();
    mount
        .with(|at| {
            std::fs::create_dir(at.join("from")).unwrap();
            std::fs::create_dir(at.join("to")).unwrap();
        })
        .await;
    let to = b.stat(&root, "/to").await.unwrap().ino;
    for round in 0..5 {
        let name = format!("f{round}");
        let path = name.clone();
        mount
            .with(move |at| {
                std::fs::write(at.join("from").join(&path), "x").unwrap();
                std::fs::metadata(at.join("from").join(&path)).unwrap();
            })
            .await;
        // Another client has just changed the directory: its names are not leased to the mount.
        b.mkdir(&root, to, format!("d{round}").as_bytes(), 0o755).await.unwrap();
        let path = name.clone();
        mount
            .with(move |at| std::fs::rename(at.join("from").join(&path), at.join("to").join(&path)).unwrap())
            .await;
        let moved = format!("g{round}");
        let what = Move {
            parent: to,
            name: name.as_bytes(),
            new_parent: to,
            new_name: moved.as_bytes(),
            flags: 0,
            only_if_no_writer: false,
        };
        b.rename(&root, what).await.unwrap();
        let seen = mount.with(move |at| std::fs::metadata(at.join("to").join(&name)).map(drop)).await;
        assert_eq!(errno(seen), libc::ENOENT, "round {round}");
    }
    mount.end().await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_the_same_client_never_sees_what_a_truncation_has_cut_within_the_size() {
    let bed = Bed::start(2).await;
    let (volume, _) = counted(&bed, "a").await;
    let root = Creds::root();
    let len = 3 * STRIPE as usize;
    volume.create_exclusive(&root, "/f", &vec![1; len], 0o644).await.unwrap();
    let file = volume.open_path(&root, "/f", true).await.unwrap();
    let reader = volume.open_path(&root, "/f", false).await.unwrap();
    let over = AtomicBool::new(false);
    let write = async {
        for _ in 0..150 {
            file.truncate(0).await.unwrap();
            file.write_at(0, vec![1u8; len]).await.unwrap();
        }
        over.store(true, Ordering::Relaxed);
    };
    let read = async {
        while !over.load(Ordering::Relaxed) {
            let data = reader.read_at(0, len).await.unwrap();
            assert!(data.iter().all(|byte| *byte == 1), "zeroes of {} bytes that were written", data.len());
            // An empty file is read without waiting for anything.
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(write, read);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_of_two_clients_lose_no_record() {
    let bed = Bed::start(2).await;
    let ((a, _), (b, _)) = (counted(&bed, "a").await, counted(&bed, "b").await);
    let root = Creds::root();
    a.create_exclusive(&root, "/log", b"", 0o644).await.unwrap();
    let append = |volume: Arc<Volume>, name: u8| async move {
        let file = volume.open_path(&Creds::root(), "/log", true).await.unwrap();
        for number in 0..40u8 {
            let len = 50 + usize::from(number) % 7;
            let mut record = vec![name; len];
            record[0] = u8::try_from(len).unwrap();
            file.append(record).await.unwrap();
        }
        file.close().await.unwrap();
    };
    tokio::join!(append(a.clone(), b'a'), append(b.clone(), b'b'));
    let log = a.read_file(&root, "/log").await.unwrap();
    assert_eq!(log, b.read_file(&root, "/log").await.unwrap());
    let (mut at, mut counts) = (0, BTreeMap::new());
    while at < log.len() {
        let len = usize::from(log[at]);
        let record = &log[at + 1..at + len];
        assert!(record.iter().all(|byte| *byte == record[0]), "a record is whole");
        *counts.entry(record[0]).or_insert(0) += 1;
        at += len;
    }
    assert_eq!(counts, BTreeMap::from([(b'a', 40), (b'b', 40)]));
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_write_is_seen_whole_or_not_at_all() {
    const LEN: usize = 1 << 20;
    let bed = Bed::start(3).await;
    let ((a, _), (b, _)) = (counted(&bed, "a").await, counted(&bed, "b").await);
    let root = Creds::root();
    a.create_exclusive(&root, "/f", &vec![0; LEN], 0o644).await.unwrap();
    let (writer, reader) =
        (a.open_path(&root, "/f", true).await.unwrap(), b.open_path(&root, "/f", false).await.unwrap());
    let write = async {
        for round in 1..20u8 {
            writer.write_at(0, vec![round; LEN]).await.unwrap();
        }
    };
    let read = async {
        let mut last = 0;
        while last < 19 {
            let data = reader.read_at(0, LEN).await.unwrap();
            assert!(data.iter().all(|byte| *byte == data[0]), "torn");
            assert!(data[0] >= last, "back in time");
            last = data[0];
        }
    };
    tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(write, read) }).await.unwrap();
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_was_away_too_long_cannot_write_over_what_others_wrote() {
    let bed = Bed::start(2).await;
    let ((a, way), (b, _)) = (counted(&bed, "a").await, counted(&bed, "b").await);
    let root = Creds::root();
    a.create_exclusive(&root, "/f", &[1; 4096], 0o644).await.unwrap();
    let file = a.open_path(&root, "/f", true).await.unwrap();
    file.write_at(0, vec![2u8; 4096]).await.unwrap();
    file.write_buffered(0, &[3; 4096]).await.unwrap();
    way.cut.store(true, Ordering::Relaxed);
    let other = b.open_path(&root, "/f", true).await.unwrap();
    other.write_at(0, vec![4u8; 4096]).await.unwrap();
    way.cut.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(file.flush().await.unwrap_err().code, Code::Io, "what was acknowledged is lost, and told");
    assert_eq!(other.read_at(0, 4096).await.unwrap(), vec![4u8; 4096]);
    file.write_at(0, vec![5u8; 4096]).await.unwrap();
    assert_eq!(other.read_at(0, 4096).await.unwrap(), vec![5u8; 4096], "it works on with its new session");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rename_onto_another_name_of_the_same_file_leaves_both_known() {
    let bed = Bed::start(1).await;
    let (volume, _) = counted(&bed, "a").await;
    let root = Creds::root();
    let dir = volume.mkdir(&root, 1, b"d", 0o755).await.unwrap().ino;
    volume.create_exclusive(&root, "/d/x", b"", 0o644).await.unwrap();
    let ino = volume.lookup(&root, dir, b"x").await.unwrap().ino;
    volume.link(&root, ino, dir, b"y").await.unwrap();
    let what =
        Move { parent: dir, name: b"x", new_parent: dir, new_name: b"y", flags: 0, only_if_no_writer: false };
    volume.rename(&root, what).await.unwrap();
    for name in [b"x", b"y"] {
        assert_eq!(volume.lookup(&root, dir, name).await.unwrap().ino, ino);
    }
    bed.stop().await;
}
