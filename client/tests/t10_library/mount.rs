//! The same instance through a real mount. Needs root and /dev/fuse; says so and passes without.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::Volume;
use client::fuse::{MountOptions, Mounted};

use super::bed::{Bed, pattern};

pub(crate) fn possible() -> bool {
    let possible = nix::unistd::geteuid().is_root() && File::open("/dev/fuse").is_ok();
    if !possible {
        eprintln!("skipped: mounting needs root and /dev/fuse");
    }
    possible
}

/// A mount that goes away with the test, also when it fails.
pub(crate) struct Mount {
    at: PathBuf,
    mounted: Option<Mounted>,
    _place: tempfile::TempDir,
}

impl Mount {
    pub(crate) async fn new(volume: Arc<Volume>, options: MountOptions) -> Self {
        let place = tempfile::tempdir_in("/tmp").unwrap();
        let at = place.path().join("mnt");
        fs::create_dir(&at).unwrap();
        let (runtime, to) = (tokio::runtime::Handle::current(), at.clone());
        let mounted = tokio::task::spawn_blocking(move || {
            let _inside = runtime.enter();
            client::fuse::mount(volume, to, &options).unwrap()
        });
        Self { at, mounted: Some(mounted.await.unwrap()), _place: place }
    }

    /// Runs something that uses the mount, off the runtime's threads.
    pub(crate) async fn with<T: Send + 'static>(&self, work: impl FnOnce(&Path) -> T + Send + 'static) -> T {
        let at = self.at.clone();
        tokio::task::spawn_blocking(move || work(&at)).await.unwrap()
    }

    pub(crate) async fn end(mut self) {
        let mounted = self.mounted.take().unwrap();
        tokio::task::spawn_blocking(move || mounted.unmount(false).unwrap()).await.unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.mounted.is_some() {
            let _ = client::fuse::mount::detach(&self.at, true);
        }
    }
}

fn shell(at: &Path, script: &str) -> String {
    let out = Command::new("sh").arg("-euc").arg(script).current_dir(at).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{script}: {said} {}", String::from_utf8_lossy(&out.stderr));
    said
}

pub(crate) fn errno(result: std::io::Result<impl Sized>) -> i32 {
    result.err().and_then(|error| error.raw_os_error()).unwrap_or(0)
}

/// Copies, moves, links, unpacks, cuts, lists and removes with the usual tools.
pub(crate) fn ordinary_programs(at: &Path) {
    let script = "
        mkdir -p a/b/c; echo hello > a/b/c/f; cat a/b/c/f
        dd if=/dev/urandom of=big bs=1M count=9 status=none; cp big copy; cmp big copy
        mv copy a/moved; cmp big a/moved; ln a/moved hard; ln -s moved a/soft; cmp big a/soft
        for i in $(seq 40); do echo $i > n$i; done; ls | wc -l
        tar cf ../client-mount-test.tar a; mkdir x; tar xf ../client-mount-test.tar -C x; diff -r a x/a
        truncate -s 5 n1; stat -c %s n1; chmod 600 n2; stat -c %a n2; touch -d 1969-12-31T23:59:58.5Z n3
        stat -c %Y n3; cat .xtfs/whoami; grep -q ^volume .xtfs/config; grep -q mkdir .xtfs/stats; ls -A | grep -c xtfs || true
        rm -rf a x n* big hard; ls -A | wc -l; rm -f ../client-mount-test.tar; df . | tail -1 | wc -l
    ";
    let said = shell(at, script);
    assert_eq!(
        said.split_whitespace().collect::<Vec<_>>(),
        ["hello", "43", "5", "600", "-2", "uid", "0", "gid", "0", "0", "0", "1"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ordinary_programs_work_on_a_mount() {
    if !possible() {
        return;
    }
    let bed = Bed::start(4).await;
    let mount = Mount::new(bed.volume("mount").await, MountOptions::default()).await;
    mount.with(ordinary_programs).await;
    let kind = mount.with(|at| {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        mounts.lines().find(|line| line.contains(at.to_str().unwrap())).unwrap().to_owned()
    });
    let kind = kind.await;
    assert!(kind.starts_with("xtfs ") && kind.contains(" fuse.xtfs "), "{kind}");
    mount.end().await;
    bed.stop().await;
}

/// `echo 1 > /sys/fs/fuse/connections/N/abort`, which administrators (and machines that clean up) write to end a mount.
fn abort_connection(at: &Path) {
    let number = nix::sys::stat::minor(fs::metadata(at).unwrap().dev());
    let control = tempfile::tempdir_in("/tmp").unwrap();
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(None::<&str>, control.path(), Some("fusectl"), flags, None::<&str>).unwrap();
    fs::write(control.path().join(number.to_string()).join("abort"), "1").unwrap();
    nix::mount::umount(control.path()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_whose_connection_is_aborted_ends_in_peace() {
    if !possible() {
        return;
    }
    let bed = Bed::start(1).await;
    let mount = Mount::new(bed.volume("mount").await, MountOptions::default()).await;
    mount.with(|at| fs::write(at.join("f"), "before").unwrap()).await;
    mount.with(abort_connection).await;
    mount.with(|at| assert_eq!(errno(fs::read(at.join("f"))), libc::ENOTCONN)).await;
    mount.end().await;
    let again = Mount::new(bed.volume("again").await, MountOptions::default()).await;
    again.with(|at| assert_eq!(fs::read_to_string(at.join("f")).unwrap(), "before")).await;
    again.end().await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn system_calls_answer_as_posix_says() {
    if !possible() {
        return;
    }
    let bed = Bed::start(2).await;
    let mount = Mount::new(bed.volume("mount").await, MountOptions::default()).await;
    mount
        .with(|at| {
            let path = at.join("f");
            let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
            assert_eq!(errno(OpenOptions::new().write(true).create_new(true).open(&path)), libc::EEXIST);
            file.write_all(&pattern(0, 300_000)).unwrap();
            assert_eq!(file.metadata().unwrap().len(), 300_000);
            assert_eq!(fs::read(&path).unwrap(), pattern(0, 300_000));
            file.write_all_at(b"XY", 299_999).unwrap();
            assert_eq!(file.metadata().unwrap().len(), 300_001);
            file.set_len(100).unwrap();
            file.set_len(1 << 20).unwrap();
            let mut all = Vec::new();
            file.seek(SeekFrom::Start(0)).unwrap();
            file.read_to_end(&mut all).unwrap();
            assert!(
                all.len() == 1 << 20
                    && all[..100] == pattern(0, 100)
                    && all[100..].iter().all(|byte| *byte == 0)
            );
            file.sync_all().unwrap();
            let fd = file.as_raw_fd();
            // SAFETY: plain system calls on an open descriptor.
            unsafe {
                assert_eq!(libc::lseek(fd, 0, libc::SEEK_HOLE), 100.max(libc::lseek(fd, 0, libc::SEEK_HOLE)));
                assert_eq!(libc::lseek(fd, 1 << 20, libc::SEEK_DATA), -1);
                assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ENXIO));
                let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                assert_eq!(libc::fallocate(fd, mode, 0, 50), 0);
                assert_eq!(libc::fallocate(fd, 0, 0, 2 << 20), 0);
            }
            let mut byte = [9; 60];
            file.read_exact_at(&mut byte, 0).unwrap();
            assert!(byte[..50].iter().all(|byte| *byte == 0) && byte[50..] == pattern(50, 10));
            assert_eq!(file.metadata().unwrap().len(), 2 << 20);
            fs::remove_file(&path).unwrap();
            assert_eq!(file.metadata().unwrap().nlink(), 0);
            file.read_exact_at(&mut byte, 0).unwrap();
            assert_eq!(errno(File::open(&path)), libc::ENOENT);
            assert_eq!(errno(fs::create_dir(at.join("x".repeat(256)))), libc::ENAMETOOLONG);
            fs::create_dir(at.join("d")).unwrap();
            fs::write(at.join("d/f"), "x").unwrap();
            assert_eq!(errno(fs::remove_dir(at.join("d"))), libc::ENOTEMPTY);
            assert_eq!(errno(fs::remove_file(at.join("d"))), libc::EISDIR);
            assert_eq!(errno(fs::read(at.join("d/f/g"))), libc::ENOTDIR);
            assert_eq!(errno(fs::write(at.join(".xtfs/stats"), "x")), libc::EPERM);
        })
        .await;
    mount.end().await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_mounts_see_one_another() {
    if !possible() {
        return;
    }
    let bed = Bed::start(2).await;
    let options = MountOptions { writeback: true, ..MountOptions::default() };
    let first = Mount::new(bed.volume("first").await, MountOptions::default()).await;
    let second = Mount::new(bed.volume("second").await, options).await;
    let other = second.at.clone();
    first
        .with(move |at| {
            fs::write(at.join("f"), "one").unwrap();
            assert_eq!(fs::read_to_string(other.join("f")).unwrap(), "one");
            fs::write(other.join("f"), "two, longer").unwrap();
            assert_eq!(fs::read_to_string(at.join("f")).unwrap(), "two, longer");
            // The same length: only the time tells.
            fs::write(at.join("f"), "TWO, LONGER").unwrap();
            assert_eq!(fs::read_to_string(other.join("f")).unwrap(), "TWO, LONGER");
            // Small writes are gathered on the second mount; its own reads see them, and others after fsync.
            let mut log = OpenOptions::new().append(true).create(true).open(other.join("log")).unwrap();
            for line in 0..1000 {
                writeln!(log, "line {line}").unwrap();
            }
            assert_eq!(fs::read_to_string(other.join("log")).unwrap().lines().count(), 1000);
            log.sync_all().unwrap();
            assert_eq!(fs::read_to_string(at.join("log")).unwrap().lines().last(), Some("line 999"));
            fs::rename(at.join("log"), at.join("moved")).unwrap();
            assert_eq!(errno(File::open(other.join("log"))), libc::ENOENT);
            locks_exclude(&at.join("f"), &other.join("f"));
            for path in [at.join("f"), at.join("moved")] {
                fs::remove_file(path).unwrap();
            }
            assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
        })
        .await;
    first.end().await;
    second.end().await;
    bed.stop().await;
}

fn locks_exclude(here: &Path, there: &Path) {
    let open = |path: &Path| OpenOptions::new().read(true).write(true).custom_flags(0).open(path).unwrap();
    let (mine, theirs) = (open(here), open(there));
    // flock and fcntl locks do not meet.
    mine.lock().unwrap();
    assert!(theirs.try_lock().is_err());
    let waiting = {
        let theirs = theirs.try_clone().unwrap();
        std::thread::spawn(move || theirs.lock().unwrap())
    };
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(!waiting.is_finished());
    mine.unlock().unwrap();
    waiting.join().unwrap();
    let lock = |file: &File, kind: i32| {
        let range = libc::flock { l_type: kind as i16, l_whence: 0, l_start: 0, l_len: 10, l_pid: 0 };
        // SAFETY: an open descriptor and a valid range.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &range) }
    };
    assert_eq!(lock(&mine, libc::F_WRLCK), 0);
    assert_eq!(lock(&theirs, libc::F_WRLCK), -1);
    assert_eq!(lock(&mine, libc::F_UNLCK), 0);
    assert_eq!(lock(&theirs, libc::F_WRLCK), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_programs_can_be_killed() {
    if !possible() {
        return;
    }
    let bed = Bed::start(1).await;
    let mount = Mount::new(bed.volume("mount").await, MountOptions::default()).await;
    mount
        .with(|at| {
            let path = at.join("f");
            let held = File::create(&path).unwrap();
            held.lock().unwrap();
            let waiter = |how: &str| Command::new("sh").arg("-c").arg(how).current_dir(at).spawn().unwrap();
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGKILL] {
                let mut child = waiter("exec flock f true");
                std::thread::sleep(Duration::from_millis(700));
                assert!(child.try_wait().unwrap().is_none(), "it waits");
                // SAFETY: a child that has not been waited for.
                unsafe { libc::kill(i32::try_from(child.id()).unwrap(), signal) };
                let end = Instant::now() + Duration::from_secs(5);
                while child.try_wait().unwrap().is_none() {
                    assert!(Instant::now() < end, "signal {signal} ends the wait");
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            held.unlock().unwrap();
            assert!(waiter("flock -n f true").wait().unwrap().success(), "nothing of the waiters is left");
        })
        .await;
    mount.end().await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_program_can_be_killed_and_the_others_go_on() {
    if !possible() {
        return;
    }
    let bed = Bed::start(1).await;
    let volume = bed.patient_volume("mount").await;
    let mount = Mount::new(volume, MountOptions::default()).await;
    mount.with(|at| fs::write(at.join("f"), pattern(0, 5000)).unwrap()).await;
    bed.connector.register_local("osd-0", Arc::new(super::failures::Away));
    let connector = bed.connector.clone();
    let osd = bed.osds[0].clone();
    mount
        .with(move |at| {
            let reader =
                || Command::new("cat").arg("f").current_dir(at).stdout(Stdio::null()).spawn().unwrap();
            let (mut killed, mut patient) = (reader(), reader());
            std::thread::sleep(Duration::from_millis(500));
            killed.kill().unwrap();
            let end = Instant::now() + Duration::from_secs(5);
            while killed.try_wait().unwrap().is_none() {
                assert!(Instant::now() < end, "the killed one ends although the OSD is away");
                std::thread::sleep(Duration::from_millis(20));
            }
            assert!(patient.try_wait().unwrap().is_none(), "the other one waits");
            connector.register_local("osd-0", osd);
            assert!(patient.wait().unwrap().success());
        })
        .await;
    mount.end().await;
    bed.stop().await;
}
