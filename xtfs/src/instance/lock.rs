//! One running `xtfs up` per data directory: a lock on a file that holds the pid.

use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;

use super::Home;
use crate::failure::Failure;

/// How long a process that was killed may take to let go: it may have gigabytes to give back.
const DYING: std::time::Duration = std::time::Duration::from_secs(10);

/// Held for the life of the process; the kernel lets go of it when the process dies.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: std::fs::File,
}

fn open(home: &Home) -> std::io::Result<std::fs::File> {
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(home.data.join("lock"))
}

/// Takes an exclusive lock; `false` when somebody holds it.
fn try_lock(file: &std::fs::File) -> std::io::Result<bool> {
    // SAFETY: flock on a descriptor that `file` keeps open.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    match std::io::Error::last_os_error() {
        error if error.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
        error => Err(error),
    }
}

/// Like [`try_lock`], but waits for a holder that was killed and that the kernel has not cleared away yet.
fn try_lock_soon(file: &mut std::fs::File) -> std::io::Result<bool> {
    let since = std::time::Instant::now();
    loop {
        if try_lock(file)? {
            return Ok(true);
        }
        if since.elapsed() > DYING || !read_pid(file).is_some_and(is_dying) {
            return Ok(false);
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Killed: gone, or only there until its last thread is.
fn is_dying(pid: i32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => {
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z') || rest.starts_with('X'))
        }
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Locks the directory for this process.
pub(crate) fn take(home: &Home) -> Result<Lock, Failure> {
    let failed = |error| Failure::new(format!("locking {}", home.data.display()), error);
    let mut file = open(home).map_err(failed)?;
    if !try_lock_soon(&mut file).map_err(failed)? {
        let pid =
            read_pid(&mut file).map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
        return Err(Failure::new(
            format!("instance in {}", home.data.display()),
            format!("{pid} runs it already"),
        )
        .next(format!("xtfs ps --data {0}   or   xtfs down --data {0}", home.data.display())));
    }
    let write = |file: &mut std::fs::File| -> std::io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(failed)?;
    Ok(Lock { _file: file })
}

/// The pid of the `xtfs up` that runs the directory; `None` when nobody holds the lock.
pub(crate) fn holder(home: &Home) -> Option<i32> {
    let mut file = std::fs::File::open(home.data.join("lock")).ok()?;
    if try_lock(&file).unwrap_or(true) {
        return None;
    }
    read_pid(&mut file)
}

fn read_pid(file: &mut std::fs::File) -> Option<i32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_and_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path()).unwrap();
        assert_eq!(holder(&home), None);
        let lock = take(&home).unwrap();
        let me = std::process::id();
        assert_eq!(holder(&home), i32::try_from(me).ok());
        assert!(take(&home).unwrap_err().to_string().contains(&format!("process {me} runs it already")));
        drop(lock);
        assert_eq!(holder(&home), None);
        drop(take(&home).unwrap());
    }

    #[test]
    fn a_holder_that_was_killed_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path()).unwrap();
        let mut killed = std::process::Command::new("true").spawn().unwrap();
        let lock = take(&home).unwrap();
        std::fs::write(home.data.join("lock"), format!("{}\n", killed.id())).unwrap();
        killed.wait().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let letting_go = std::thread::spawn(move || {
            told.recv().unwrap();
            drop(lock);
        });
        let again = std::thread::scope(|scope| {
            let taking = scope.spawn(|| take(&home));
            tell.send(()).unwrap();
            taking.join().unwrap()
        });
        letting_go.join().unwrap();
        drop(again.unwrap());
    }
}
