//! What the kernel door passes on: kinds of locks, signals, times of birth, what is not there.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant, SystemTime};

use client::fuse::{MountOptions, Uring};

use super::bed::{Bed, pattern};
use super::mount::{Mount, ordinary_programs, possible};

/// What a child process needs.
const FILE: &str = "CLIENT_TEST_LOCK_FILE";

fn posix_lock(file: &File, command: i32, kind: i32) -> i32 {
    let range = libc::flock { l_type: kind as i16, l_whence: 0, l_start: 0, l_len: 10, l_pid: 0 };
    // SAFETY: an open descriptor and a valid range.
    unsafe { libc::fcntl(file.as_raw_fd(), command, &range) }
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// Not a test: another process. Takes a POSIX lock although this file has a `flock` lock; waits for the second range
/// until a signal comes, and says with its exit code what it saw.
#[test]
#[ignore = "a child process of kinds_of_locks_are_independent_and_signals_end_waits"]
fn wait_for_a_lock() {
    let Some(path) = std::env::var_os(FILE).map(PathBuf::from) else { return };
    extern "C" fn ignore(_: libc::c_int) {}
    // SAFETY: a handler that does nothing, without SA_RESTART; the structure is plain data.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as *const () as usize;
        libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
    }
    let file = open(&path);
    let waited = posix_lock(&file, libc::F_SETLKW, libc::F_WRLCK);
    let error = std::io::Error::last_os_error().raw_os_error();
    assert_eq!((waited, error), (-1, Some(libc::EINTR)));
    // The flock lock of the other process is not in the way of what is not locked.
    let mut range =
        libc::flock { l_type: libc::F_WRLCK as i16, l_whence: 0, l_start: 100, l_len: 1, l_pid: 0 };
    // SAFETY: as above.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &mut range) }, 0);
    // And the POSIX lock is not in the way of a flock lock, but the other flock lock is.
    assert!(file.try_lock().is_err());
}

fn start_waiter(path: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "door::wait_for_a_lock", "--ignored", "--nocapture", "--test-threads", "1"]);
    command.env(FILE, path).spawn().unwrap()
}

/// The threads of a process.
fn threads(process: u32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kinds_of_locks_are_independent_and_signals_end_waits() {
    if !possible() {
        return;
    }
    let bed = Bed::start(1).await;
    let mount = Mount::new(bed.volume("mount").await, MountOptions::default()).await;
    mount
        .with(|at| {
            let path = at.join("f");
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
            file.lock().unwrap(); // flock
            assert_eq!(posix_lock(&file, libc::F_SETLK, libc::F_WRLCK), 0);
            let mut waiter = start_waiter(&path);
            std::thread::sleep(Duration::from_secs(1));
            assert!(waiter.try_wait().unwrap().is_none(), "it waits");
            let before = Instant::now();
            for thread in threads(waiter.id()) {
                // SAFETY: a signal that the child handles.
                unsafe { libc::syscall(libc::SYS_tgkill, waiter.id(), thread, libc::SIGUSR1) };
            }
            assert!(waiter.wait().unwrap().success());
            let took = before.elapsed();
            eprintln!("EINTR and the rest after {took:?}");
            assert!(took < Duration::from_secs(3), "{took:?}");
            // Nothing of the wait that was given up is left.
            assert_eq!(posix_lock(&file, libc::F_SETLK, libc::F_UNLCK), 0);
            let other = open(&path);
            assert_eq!(posix_lock(&other, libc::F_OFD_SETLK, libc::F_WRLCK), 0);
        })
        .await;
    mount.end().await;
    bed.stop().await;
}

fn birth(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().created().expect("the kernel knows times of birth")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_the_kernel_is_answered() {
    if !possible() {
        return;
    }
    let bed = Bed::start(1).await;
    let mount = Mount::new(bed.volume("mount").await, MountOptions::default()).await;
    mount
        .with(|at| {
            let path = at.join("f");
            fs::write(&path, "x").unwrap();
            let born = birth(&path);
            std::thread::sleep(Duration::from_millis(20));
            fs::write(&path, "y").unwrap();
            assert_eq!(birth(&path), born);
            assert!(fs::metadata(&path).unwrap().modified().unwrap() > born);
            OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(at).unwrap();
            let file = open(&path);
            file.sync_data().unwrap();
            file.sync_data().unwrap();
            // SAFETY: plain system calls on an open descriptor.
            unsafe {
                assert_eq!(libc::syncfs(file.as_raw_fd()), 0);
                let events = libc::POLLIN | libc::POLLOUT | libc::POLLPRI;
                let mut poll = libc::pollfd { fd: file.as_raw_fd(), events, revents: 0 };
                assert_eq!(libc::poll(&mut poll, 1, 1000), 1);
                assert_eq!(poll.revents, libc::POLLIN | libc::POLLOUT);
            }
            symlink("f", at.join("s")).unwrap();
            assert_eq!(fs::read_link(at.join("s")).unwrap(), Path::new("f"));
            let stats = fs::read_to_string(at.join(".xtfs/stats")).unwrap();
            assert!(stats.contains("statx done") && !stats.contains("unknown done"), "{stats}");
        })
        .await;
    mount.end().await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_inside_is_one_of_its_opening_however_small_the_pieces_are_in_which_it_is_read() {
    if !possible() {
        return;
    }
    let bed = Bed::start(1).await;
    let mount = Mount::new(bed.volume("mount").await, MountOptions::default()).await;
    mount
        .with(|at| {
            for round in 0..300 {
                fs::write(at.join(format!("f{round}")), "x").unwrap();
            }
            let (log, mut text) = (open(&at.join(".xtfs/accesslog")), Vec::new());
            for round in 0.. {
                fs::metadata(at.join(format!("none{round}"))).unwrap_err();
                let mut piece = [0; 600];
                match log.read_at(&mut piece, text.len() as u64).unwrap() {
                    0 => break,
                    read => text.extend_from_slice(&piece[..read]),
                }
            }
            let text = String::from_utf8(text).unwrap();
            let whole = |line: &str| line.split(' ').count() == 6 && line.contains(" us=");
            let (lines, distinct) = (text.lines().count(), text.lines().collect::<BTreeSet<_>>().len());
            assert!(text.lines().all(whole) && lines == distinct && lines > 100, "{text}");
        })
        .await;
    mount.end().await;
    bed.stop().await;
}

/// A lock of an open file itself (`F_OFD_SETLK`); false: another one is in the way.
fn ofd_lock(file: &File) -> bool {
    let range = libc::flock { l_type: libc::F_WRLCK as i16, l_whence: 0, l_start: 0, l_len: 10, l_pid: 0 };
    // SAFETY: a plain system call on an open descriptor.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &range) == 0 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_of_an_open_file_goes_with_its_last_descriptor() {
    if !possible() {
        return;
    }
    let bed = Bed::start(1).await;
    let mount = Mount::new(bed.volume("mount").await, MountOptions::default()).await;
    mount
        .with(|at| {
            let path = at.join("f");
            fs::write(&path, "x").unwrap();
            let (first, other) = (open(&path), open(&path));
            let copy = first.try_clone().unwrap();
            assert!(ofd_lock(&first) && !ofd_lock(&other));
            drop(first);
            assert!(!ofd_lock(&other), "a copy of the descriptor keeps it");
            drop(copy);
            // The last close is told to us without anybody waiting.
            let until = Instant::now() + Duration::from_secs(10);
            while !ofd_lock(&other) {
                assert!(Instant::now() < until, "the lock outlives its file");
                std::thread::sleep(Duration::from_millis(5));
            }
        })
        .await;
    mount.end().await;
    bed.stop().await;
}

/// Many programs that wait for one lock, more than a queue of the ring begins with, and one that frees it.
fn many_wait_for_one_lock(at: &Path) {
    let path = at.join("wanted");
    let held = File::create(&path).unwrap();
    held.lock().unwrap();
    let waiters: Vec<_> = (0..150)
        .map(|_| {
            let path = path.clone();
            std::thread::spawn(move || open(&path).lock().unwrap())
        })
        .collect();
    std::thread::sleep(Duration::from_secs(2));
    assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
    held.unlock().unwrap();
    waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
}

/// Large and small requests from several threads at once.
fn data_from_all_sides(at: &Path) {
    let workers: Vec<_> = (0..4u64)
        .map(|number| {
            let path = at.join(format!("data-{number}"));
            std::thread::spawn(move || {
                let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
                let all = pattern(number, 3 << 20);
                file.write_all_at(&all, 0).unwrap();
                for round in 0..200u64 {
                    let at = round * 7919 % (3 << 20);
                    file.write_all_at(&pattern(number + at, 1000), at).unwrap();
                    file.write_all_at(&all[at as usize..all.len().min(at as usize + 1000)], at).unwrap();
                }
                file.set_len(all.len() as u64).unwrap();
                file.sync_all().unwrap();
                assert_eq!(fs::read(&path).unwrap(), all);
                fs::remove_file(&path).unwrap();
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_come_over_io_uring() {
    const SWITCH: &str = "/sys/module/fuse/parameters/enable_uring";
    if !possible() {
        return;
    }
    let Ok(before) = fs::read_to_string(SWITCH) else {
        eprintln!("skipped: this kernel has no FUSE over io_uring");
        return;
    };
    let bed = Bed::start(2).await;
    let options = MountOptions { uring: Uring::On, ..MountOptions::default() };
    let mount = Mount::new(bed.volume("mount").await, options).await;
    fs::write(SWITCH, before).unwrap();
    mount
        .with(|at| {
            let config = fs::read_to_string(at.join(".xtfs/config")).unwrap();
            assert!(config.contains("transport io_uring"), "{config}");
            ordinary_programs(at);
            data_from_all_sides(at);
            many_wait_for_one_lock(at);
            let stats = fs::read_to_string(at.join(".xtfs/stats")).unwrap();
            assert!(!stats.contains("unknown done"), "{stats}");
        })
        .await;
    mount.end().await;
    bed.stop().await;
}
