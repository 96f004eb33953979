//! A mount whose process is killed or asked to stop again and again while programs work on it: they notice nothing.

use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use client::fuse::{self, MountOptions};
use client::{Client, ClientConfig, Patience};
use tokio::signal::unix::SignalKind;

use super::bed::{Bed, pattern};

/// What a child process needs to serve the mount.
const DIR_ADDR: &str = "CLIENT_TEST_DIR_ADDR";
const FUSE_FD: &str = "CLIENT_TEST_FUSE_FD";
const STATE: &str = "CLIENT_TEST_STATE";
const STAGE: &str = "CLIENT_TEST_STAGE";
/// What a child process needs to use the mount.
const AT: &str = "CLIENT_TEST_AT";

fn options() -> MountOptions {
    MountOptions { survivable: true, ..MountOptions::default() }
}

/// Not a test: the mount process, started by the test below.
#[test]
#[ignore = "the child process of a_mount_process_that_ends_is_replaced"]
fn serve_the_mount() {
    let Ok(addr) = std::env::var(DIR_ADDR) else { return };
    let fd: i32 = std::env::var(FUSE_FD).unwrap().parse().unwrap();
    // SAFETY: the parent left this descriptor open for us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let predecessor = std::env::var(STATE).ok();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config = ClientConfig { patience: Patience::Forever, ..ClientConfig::new(vec![addr], "child") };
    let volume =
        runtime.block_on(async { Client::connect(config).await.unwrap().volume("v").await.unwrap() });
    let _inside = runtime.enter();
    let resumed = predecessor.is_some();
    let stage = std::env::var_os(STAGE).map(PathBuf::from);
    let options = MountOptions { predecessor, stage, ..options() };
    let mounted = fuse::serve(volume, fd, resumed, &options).unwrap();
    let served = mounted.volume().clone();
    let mut term = tokio::signal::unix::signal(SignalKind::terminate()).unwrap();
    println!("state={}", mounted.state());
    std::io::stdout().flush().unwrap();
    let (end, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || end.send(mounted.join()));
    drop(_inside);
    runtime.block_on(async {
        tokio::select! {
            end = ended => end.unwrap().unwrap(),
            _ = term.recv() => served.report_all().await,
        }
    });
    // As a mount process ends: what it has begun stops, while its threads still answer the kernel.
    std::mem::forget(runtime);
}

/// Starts a mount process; gives what it says of itself.
fn start(addr: &str, fd: &OwnedFd, memory: &Path, state: Option<&str>) -> (Child, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "takeover::serve_the_mount", "--ignored", "--nocapture"]);
    command.env(DIR_ADDR, addr).env(FUSE_FD, fd.as_raw_fd().to_string()).env(STAGE, memory);
    command.stdout(Stdio::piped());
    if let Some(state) = state {
        command.env(STATE, state);
    }
    let number = fd.as_raw_fd();
    // SAFETY: fcntl is async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            libc::fcntl(number, libc::F_SETFD, 0);
            Ok(())
        });
    }
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = lines.find_map(|line| line.unwrap().split_once("state=").map(|(_, state)| state.to_owned()));
    (child, said.expect("the mount process serves"))
}

/// Sets rights and time of a file to what only this round sets them to.
fn tag(file: &File, round: u32) {
    let (mode, time) = tag_of_round(round);
    file.set_times(FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(time))).unwrap();
    file.set_permissions(Permissions::from_mode(mode)).unwrap();
}

fn tag_of_round(round: u32) -> (u32, u64) {
    (0o600 | (round % 0o100), 1_000_000 + u64::from(round))
}

fn tag_of(path: &Path) -> (u32, u64) {
    let found = fs::metadata(path).unwrap();
    (found.mode() & 0o7777, found.modified().unwrap().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

/// Works on the mount until told to stop: any error, any lost byte fails the test.
fn work(at: &Path, number: u32, stop: &AtomicBool) -> u32 {
    let mut round = 0;
    let path = |name: &str| at.join(format!("{name}-{number}"));
    let log = OpenOptions::new().read(true).append(true).create(true).open(path("log")).unwrap();
    let mut big = OpenOptions::new().read(true).write(true).create_new(true).open(path("big")).unwrap();
    let mut model: Vec<u8> = Vec::new();
    let mut tagged = OpenOptions::new().write(true).create_new(true).open(path("tagged")).unwrap();
    while !stop.load(Ordering::Relaxed) {
        let (dir, file, moved) = (path("dir"), path("dir").join("f"), path("dir").join("g"));
        fs::create_dir(&dir).unwrap();
        let mut made = OpenOptions::new().write(true).create_new(true).open(&file).unwrap();
        made.write_all(&pattern(u64::from(round), 70_000)).unwrap();
        tag(&made, round);
        drop(made);
        assert_eq!(tag_of(&file), tag_of_round(round));
        fs::rename(&file, &moved).unwrap();
        fs::hard_link(&moved, &file).unwrap();
        assert_eq!(fs::read(&moved).unwrap(), pattern(u64::from(round), 70_000), "round {round}");
        fs::remove_file(&moved).unwrap();
        fs::remove_file(&file).unwrap();
        fs::remove_dir(&dir).unwrap();
        // Rights and times that were set outlive the mount process too, and do not hide a later write.
        tagged.write_all(&[7; 100]).unwrap();
        if round > 0 {
            assert!(tag_of(&path("tagged")).1 > tag_of_round(round).1, "the write was the last change");
            assert_eq!(tag_of(&path("tagged")).0, tag_of_round(round - 1).0);
        }
        tag(&tagged, round);
        (&log).write_all(format!("{round:07}\n").as_bytes()).unwrap();
        // Nothing of this is closed or synced: it was acknowledged, so it must outlive the mount process.
        for part in 0..20 {
            let more = pattern(u64::from(round * 20 + part), 9_000);
            big.write_all(&more).unwrap();
            model.extend_from_slice(&more);
        }
        let (over, at) = (pattern(u64::from(round) + 7, 5_000), model.len() / 3);
        big.write_all_at(&over, at as u64).unwrap();
        model[at..at + over.len()].copy_from_slice(&over);
        round += 1;
        assert_eq!(log.metadata().unwrap().len(), u64::from(round) * 8);
        assert_eq!(tag_of(&path("tagged")), tag_of_round(round - 1));
    }
    let read = BufReader::new(File::open(path("log")).unwrap());
    let lines: Vec<String> = read.lines().map(Result::unwrap).collect();
    assert_eq!(lines, (0..round).map(|at| format!("{at:07}")).collect::<Vec<_>>());
    let mut whole = vec![0; model.len()];
    big.read_exact_at(&mut whole, 0).unwrap();
    let differs = whole.iter().zip(&model).position(|(read, wrote)| read != wrote);
    assert_eq!(differs, None, "of {} bytes", model.len());
    assert_eq!(big.metadata().unwrap().len(), model.len() as u64);
    round
}

/// Not a test: the programs that use the mount, in a process of their own, so that a mount that hangs cannot hang the
/// process that holds its descriptor. They stop when their standard input ends.
#[test]
#[ignore = "a child process of a_mount_process_that_ends_is_replaced"]
fn use_the_mount() {
    let Ok(at) = std::env::var(AT) else { return };
    let at = PathBuf::from(at);
    let path = at.join("unlinked");
    let unlinked = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    unlinked.write_all_at(&pattern(0, 10_000), 0).unwrap();
    fs::remove_file(&path).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..3)
        .map(|number| {
            let (at, stop) = (at.clone(), stop.clone());
            std::thread::spawn(move || work(&at, number, &stop))
        })
        .collect();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    stop.store(true, Ordering::Relaxed);
    let rounds: Vec<u32> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
    assert!(rounds.iter().all(|rounds| *rounds > 3), "{rounds:?}");
    eprintln!("rounds of the workers: {rounds:?}");
    let mut data = vec![0; 10_000];
    unlinked.read_exact_at(&mut data, 0).unwrap();
    assert_eq!(data, pattern(0, 10_000), "the unlinked file outlived its mount processes");
}

/// What must go away whatever happens: first the mount, then its processes, at last (with this process) the descriptor.
struct Stage {
    at: PathBuf,
    /// Where acknowledged writes wait.
    memory: PathBuf,
    fd: OwnedFd,
    server: Option<Child>,
    user: Option<Child>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fuse::mount::detach(&self.at, true);
        for child in [&mut self.server, &mut self.user].into_iter().flatten() {
            let _ = child.kill();
        }
    }
}

fn all_rounds(mut stage: Stage, addr: &str) {
    let (server, mut state) = start(addr, &stage.fd, &stage.memory, None);
    stage.server = Some(server);
    let mut user = Command::new(std::env::current_exe().unwrap());
    user.args(["--exact", "takeover::use_the_mount", "--ignored", "--nocapture"]).env(AT, &stage.at);
    stage.user = Some(user.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap());
    for round in 0..12 {
        std::thread::sleep(Duration::from_millis(if round % 2 == 0 { 600 } else { 170 }));
        let mut server = stage.server.take().unwrap();
        // Killed, and asked to stop, in turn.
        let signal = if round % 2 == 0 { libc::SIGKILL } else { libc::SIGTERM };
        // SAFETY: our own child, which nobody has waited for.
        assert_eq!(unsafe { libc::kill(server.id().cast_signed(), signal) }, 0);
        server.wait().unwrap();
        let (server, said) = start(addr, &stage.fd, &stage.memory, Some(&state));
        (stage.server, state) = (Some(server), said);
    }
    std::thread::sleep(Duration::from_millis(300));
    let user = stage.user.as_mut().unwrap();
    drop(user.stdin.take());
    let end = Instant::now() + Duration::from_secs(20);
    let status = loop {
        if let Some(status) = user.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < end, "the programs hang on the mount");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "a program on the mount failed: {status}");
    fuse::mount::detach(&stage.at, false).unwrap();
    stage.server.take().unwrap().wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_process_that_ends_is_replaced() {
    if !super::mount::possible() {
        return;
    }
    let bed = Bed::start_with(2, true).await;
    let place = tempfile::tempdir_in("/tmp").unwrap();
    let at = place.path().join("mnt");
    fs::create_dir(&at).unwrap();
    let fd = fuse::mount::attach(&at, &options()).unwrap();
    let addr = bed.addr("dir").to_owned();
    let memory = place.path().join("stage");
    let stage = Stage { at, memory, fd, server: None, user: None };
    tokio::task::spawn_blocking(move || all_rounds(stage, &addr)).await.unwrap();
    bed.stop().await;
}
