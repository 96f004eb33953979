//! Files of a unit, on the mount path: opened below the volume's root without following links that a user may have put.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, RenameFlags, ResolveFlag, openat, openat2, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use super::{Identity, Order};
use crate::engine::ExitRecord;

/// A directory of the job below the volume's root.
pub(super) fn open_dir(order: &Order, below: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open(order.mount.as_str(), flags, Mode::empty())?;
    let path = if below.is_empty() { order.job_dir.clone() } else { format!("{}/{below}", order.job_dir) };
    let how =
        OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(root.as_fd(), path.as_str(), how)
}

/// Makes `name` with its whole contents, durable, if it is free; of several callers one wins.
pub(super) fn create_once(dir: &OwnedFd, name: &str, bytes: &[u8]) -> Result<bool, Errno> {
    let temporary = format!(".{name}.{}.tmp", std::process::id());
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(dir, temporary.as_str(), flags, Mode::from_bits_truncate(0o644))?);
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    drop(file);
    let placed = match written {
        Ok(()) => match renameat2(dir, temporary.as_str(), dir, name, RenameFlags::RENAME_NOREPLACE) {
            // A file system without this flag has hard links, which are as exclusive.
            Err(Errno::EINVAL | Errno::ENOSYS) => {
                nix::unistd::linkat(dir, temporary.as_str(), dir, name, nix::fcntl::AtFlags::empty())
            }
            other => other,
        },
        Err(error) => Err(errno(&error)),
    };
    let won = match placed {
        Ok(()) => true,
        Err(Errno::EEXIST) => false,
        Err(error) => {
            let _ = unlinkat(dir, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
            return Err(error);
        }
    };
    let _ = unlinkat(dir, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    File::from(openat(dir, ".", flags, Mode::empty())?).sync_all().map_err(|e| errno(&e))?;
    Ok(won)
}

/// Appends to a file of the unit.
pub(super) fn append(dir: &OwnedFd, name: &str, bytes: &[u8]) -> Result<(), Errno> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(dir, name, flags, Mode::from_bits_truncate(0o644))?);
    file.write_all(bytes).map_err(|e| errno(&e))
}

/// Opens an output file in the job's directory and gives it to the user.
pub(super) fn open_sink(order: &Order, name: &str) -> Result<OwnedFd, Errno> {
    let dir = open_dir(order, "")?;
    // Not O_APPEND: the pump writes at known places, and again at the same after an error.
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = openat(&dir, name, flags, Mode::from_bits_truncate(0o644))?;
    if let Some(Identity { uid, gid, .. }) = order.identity {
        fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    Ok(fd)
}

/// Longest pause between two tries to write the exit record.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Writes `exit.json`, for ever if need be; while the file system is away a copy waits on the local disk.
pub(super) fn leave_exit_record(order: &Order, exit: &ExitRecord) {
    let bytes = serde_json::to_vec_pretty(exit).expect("exit records are plain data");
    let copy = local_copy_path(&order.data_dir, &order.job, order.unit, order.attempt);
    let mut pause = Duration::from_millis(100);
    let mut copied = false;
    loop {
        let done = open_dir(order, &order.unit_dir).and_then(|dir| create_once(&dir, "exit.json", &bytes));
        if done.is_ok() {
            break;
        }
        if !copied {
            let made = std::fs::create_dir_all(&order.data_dir).and_then(|()| std::fs::write(&copy, &bytes));
            copied = made.is_ok();
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
    if copied {
        let _ = std::fs::remove_file(&copy);
    }
}

/// Where the local copy of an exit record waits.
pub(super) fn local_copy_path(data_dir: &str, job: &str, unit: u32, attempt: u32) -> std::path::PathBuf {
    std::path::Path::new(data_dir).join(format!("{job}-{unit}-{attempt}.exit.json"))
}

/// The exit record that a supervisor left on the local disk, if it did.
pub(crate) fn local_copy(
    data_dir: &std::path::Path,
    job: &str,
    unit: u32,
    attempt: u32,
) -> Option<ExitRecord> {
    let path = local_copy_path(&data_dir.to_string_lossy(), job, unit, attempt);
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Reads a small file of this host.
pub(super) fn read_small(path: &str) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(1 << 16).read_to_string(&mut text).ok()?;
    Some(text)
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
