//! OSDs without room under a mount: what was acknowledged is kept, everybody hears of it, and nothing is sent without end.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use client::fuse::MountOptions;
use client::{Code, Creds};
use proto::error::WireError;
use proto::osd::Write;
use proto::rpc::Method;
use rt::rpc::{BoxFuture, Peer, Request, Response, Service};

use super::bed::{Bed, pattern};
use super::mount::{Mount, errno, possible};

/// An OSD that can be full: then it takes no data.
struct Full {
    inner: Arc<dyn Service>,
    full: AtomicBool,
    /// Bytes of writes that came while it was full.
    refused: AtomicU64,
}

impl Service for Full {
    fn call(
        self: Arc<Self>,
        peer: Peer,
        request: Request,
    ) -> BoxFuture<'static, Result<Response, WireError>> {
        Box::pin(async move {
            if request.method == Write::NUMBER && self.full.load(Ordering::SeqCst) {
                self.refused.fetch_add(request.payload.len() as u64, Ordering::SeqCst);
                return Err(WireError::new(Code::NoSpace, "the OSD is full"));
            }
            self.inner.clone().call(peer, request).await
        })
    }
}

struct Scene {
    bed: Bed,
    osd: Arc<Full>,
    mount: Mount,
    _place: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        let bed = Bed::start(1).await;
        let inner: Arc<dyn Service> = bed.osds[0].clone();
        let osd = Arc::new(Full { inner, full: AtomicBool::new(false), refused: AtomicU64::new(0) });
        bed.connector.register_local("osd-0", osd.clone());
        let place = tempfile::tempdir_in("/tmp").unwrap();
        let options = MountOptions { stage: Some(place.path().join("stage")), ..MountOptions::default() };
        let mount = Mount::new(bed.patient_volume("mount").await, options).await;
        Self { bed, osd, mount, _place: place }
    }

    fn set_full(&self, full: bool) {
        self.osd.full.store(full, Ordering::SeqCst);
    }

    async fn end(self) {
        self.mount.end().await;
        self.bed.stop().await;
    }
}

/// Tries until it works, as a program would that waits for room.
fn until_it_works<T>(mut what: impl FnMut() -> std::io::Result<T>) -> T {
    let begun = Instant::now();
    loop {
        match what() {
            Ok(done) => return done,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(20), "it still fails: {error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn create(at: &Path, name: &str) -> File {
    OpenOptions::new().read(true).write(true).create_new(true).open(at.join(name)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_kept_until_there_is_room() {
    if !possible() {
        return;
    }
    let scene = Scene::new().await;
    let file = scene.mount.with(|at| create(at, "f")).await;
    file.write_all_at(&pattern(0, 10_000), 0).unwrap();
    file.sync_all().unwrap();
    scene.set_full(true);
    let file = scene
        .mount
        .with(move |at| {
            // Acknowledged, for nobody knows yet; twice over the same bytes.
            file.write_all_at(&pattern(7, 6_000), 8_000).unwrap();
            assert_eq!(errno(file.sync_all()), libc::ENOSPC);
            assert_eq!(errno(file.sync_data()), libc::ENOSPC, "as long as it is so");
            assert_eq!(errno(file.write_all_at(b"more", 20_000)), libc::ENOSPC);
            // Another file of the same mount: its writer hears of it at once.
            let other = create(at, "other");
            assert_eq!(errno(other.write_all_at(&[1; 5_000], 0)), libc::ENOSPC);
            // Reads show what was acknowledged, through this handle and another one.
            for file in [&file, &File::open(at.join("f")).unwrap()] {
                let mut seen = vec![0; 14_000];
                file.read_exact_at(&mut seen, 0).unwrap();
                assert_eq!(
                    (&seen[..8_000], &seen[8_000..]),
                    (&pattern(0, 8_000)[..], &pattern(7, 6_000)[..])
                );
            }
            assert_eq!(file.metadata().unwrap().len(), 14_000);
            file
        })
        .await;
    let before = scene.osd.refused.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let sent = scene.osd.refused.load(Ordering::SeqCst) - before;
    assert!((1..=8 * 6_000).contains(&sent), "{sent} bytes were sent again in 3 s");
    scene.set_full(false);
    scene
        .mount
        .with(move |_| {
            until_it_works(|| file.sync_all());
            until_it_works(|| file.write_all_at(b"more", 14_000));
            file.sync_all().unwrap();
        })
        .await;
    let other = scene.bed.volume("other").await;
    let seen = other.read_file(&Creds::root(), "/f").await.unwrap();
    let wanted = [&pattern(0, 8_000)[..], &pattern(7, 6_000), b"more"].concat();
    assert_eq!(seen[..], wanted);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_room_can_be_cut_closed_and_removed() {
    if !possible() {
        return;
    }
    let scene = Scene::new().await;
    scene.set_full(true);
    scene
        .mount
        .with(|at| {
            let cut = create(at, "cut");
            cut.write_all_at(&[1; 9_000], 0).unwrap();
            assert_eq!(errno(cut.sync_all()), libc::ENOSPC);
            cut.set_len(0).unwrap();
            cut.sync_all().unwrap();
            assert_eq!(cut.metadata().unwrap().len(), 0);
        })
        .await;
    // The mount is wary for a while after a refusal: what is staged next is acknowledged again.
    tokio::time::sleep(Duration::from_millis(5_500)).await;
    scene
        .mount
        .with(|at| {
            let closed = create(at, "closed");
            closed.write_all_at(&[2; 9_000], 0).unwrap();
            assert_eq!(errno(nix::unistd::close(closed).map_err(std::io::Error::from)), libc::ENOSPC);
            assert_eq!(fs::read(at.join("closed")).unwrap(), [2; 9_000]);
            let reader = File::open(at.join("closed")).unwrap();
            assert_eq!(
                errno(nix::unistd::close(reader).map_err(std::io::Error::from)),
                0,
                "a reader's close"
            );
            fs::remove_file(at.join("closed")).unwrap();
        })
        .await;
    scene.set_full(false);
    tokio::time::sleep(Duration::from_secs(2)).await;
    scene
        .mount
        .with(|at| {
            until_it_works(|| fs::write(at.join("new"), pattern(3, 100_000)));
            assert_eq!(fs::read(at.join("new")).unwrap(), pattern(3, 100_000));
            assert_eq!(fs::metadata(at.join("cut")).unwrap().len(), 0);
        })
        .await;
    scene.end().await;
}

/// Rights and times that are set after what waits for room are told before it, and stay when it lands. Nothing that needs them told
/// waits for room: it would wait for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attributes_do_not_wait_for_what_waits_for_room() {
    if !possible() {
        return;
    }
    let scene = Scene::new().await;
    let then = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let file = scene.mount.with(|at| create(at, "f")).await;
    file.write_all_at(&[1; 5_000], 0).unwrap();
    file.sync_all().unwrap();
    scene.set_full(true);
    let held = scene.mount.with(move |at| {
        let cut = create(at, "cut");
        file.write_all_at(&[2; 5_000], 3_000).unwrap();
        cut.write_all_at(&[3; 5_000], 0).unwrap();
        for file in [&file, &cut] {
            assert_eq!(errno(file.sync_all()), libc::ENOSPC);
            file.set_permissions(PermissionsExt::from_mode(0o640)).unwrap();
            file.set_modified(then).unwrap();
            let seen = file.metadata().unwrap();
            assert_eq!((seen.mode() & 0o7777, seen.modified().unwrap()), (0o640, then));
        }
        // These ask the MRC about the file, which has to know the attributes.
        assert_eq!(errno(file.sync_all()), libc::ENOSPC);
        xattr(&file, "user.a", "b");
        cut.set_len(0).unwrap();
        assert_eq!(cut.metadata().unwrap().len(), 0);
        let asked = OpenOptions::new().write(true).open(at.join("f")).unwrap();
        assert_eq!(asked.metadata().unwrap().len(), 8_000);
        (file, cut)
    });
    let (file, cut) =
        tokio::time::timeout(Duration::from_secs(60), held).await.expect("nothing waits for ever");
    scene.set_full(false);
    scene
        .mount
        .with(move |_| {
            until_it_works(|| file.sync_all());
            cut.sync_all().unwrap();
            let seen = file.metadata().unwrap();
            assert_eq!((seen.mode() & 0o7777, seen.modified().unwrap(), seen.len()), (0o640, then, 8_000));
        })
        .await;
    let other = Mount::new(scene.bed.patient_volume("other").await, MountOptions::default()).await;
    other
        .with(move |at| {
            let seen = fs::metadata(at.join("f")).unwrap();
            assert_eq!((seen.mode() & 0o7777, seen.modified().unwrap(), seen.len()), (0o640, then, 8_000));
            assert_eq!(fs::read(at.join("f")).unwrap()[3_000..], [2; 5_000]);
        })
        .await;
    other.end().await;
    scene.end().await;
}

fn xattr(file: &File, name: &str, value: &str) {
    let name = std::ffi::CString::new(name).unwrap();
    // SAFETY: the pointers are valid for the lengths given.
    let done =
        unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// What has no room cannot be kept when others want the file: what they write must not be overwritten later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_client_gets_the_file_within_seconds() {
    if !possible() {
        return;
    }
    let scene = Scene::new().await;
    let file = scene.mount.with(|at| create(at, "f")).await;
    file.write_all_at(&[1; 5_000], 0).unwrap();
    file.sync_all().unwrap();
    scene.set_full(true);
    file.write_all_at(&[2; 5_000], 0).unwrap();
    let file = scene
        .mount
        .with(move |_| {
            assert_eq!(errno(file.sync_all()), libc::ENOSPC);
            file
        })
        .await;
    let other = scene.bed.volume("other").await;
    let begun = Instant::now();
    let seen = other.read_file(&Creds::root(), "/f").await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(seen[..], [1; 5_000]);
    scene.set_full(false);
    scene
        .mount
        .with(move |_| {
            assert_eq!(errno(file.sync_all()), libc::ENOSPC, "it is told that something was lost, once");
            file.sync_all().unwrap();
        })
        .await;
    scene.end().await;
}
