//! Mount points: what is mounted where, what must be so before mounting, unmounting.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};

use crate::failure::Failure;

/// Type of our mounts in `/proc/self/mountinfo` starts so.
const FSTYPE: &str = "fuse";

/// A line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mounted {
    pub(crate) at: PathBuf,
    pub(crate) fstype: String,
    /// `xtfs://HOST:PORT/VOLUME` for ours.
    pub(crate) source: String,
}

/// Everything mounted here, in mounting order.
pub(crate) fn all() -> Vec<Mounted> {
    let text = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    text.split(|byte| *byte == b'\n').filter_map(parse).collect()
}

fn parse(line: &[u8]) -> Option<Mounted> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let dash = fields.iter().position(|field| *field == b"-")?;
    Some(Mounted {
        at: PathBuf::from(OsString::from_vec(unescape(fields.get(4)?))),
        fstype: String::from_utf8_lossy(fields.get(dash + 1)?).into_owned(),
        source: String::from_utf8_lossy(&unescape(fields.get(dash + 2)?)).into_owned(),
    })
}

/// `\040` and its like stand for blanks, tabs, line feeds and backslashes.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                out.push(byte);
                rest = &tail[3..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

/// What is mounted exactly there (the topmost).
pub(crate) fn exactly(at: &Path) -> Option<Mounted> {
    all().into_iter().rev().find(|mounted| mounted.at == at)
}

/// The mount that holds an absolute path.
pub(crate) fn holding(path: &Path) -> Option<Mounted> {
    all()
        .into_iter()
        .rev()
        .filter(|mounted| path.starts_with(&mounted.at))
        .max_by_key(|mounted| mounted.at.as_os_str().len())
}

/// Whether it is a volume of ours.
pub(crate) fn is_ours(mounted: &Mounted) -> bool {
    mounted.fstype.starts_with(FSTYPE) && mounted.source.starts_with("xtfs://")
}

/// Whether a FUSE mount has lost its process for good. Asked in a thread of its own: a mount that only stalls must
/// not hang the asker.
fn is_dead(at: &Path) -> bool {
    let at = at.to_owned();
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let dead =
            std::fs::metadata(&at).err().and_then(|error| error.raw_os_error()) == Some(libc::ENOTCONN);
        let _ = tell.send(dead);
    });
    told.recv_timeout(Duration::from_secs(1)).unwrap_or(false)
}

/// Makes sure that a volume can be mounted there: FUSE is available, the directory exists (it is made), is empty and
/// no mount point. What a killed process left mounted there is removed.
pub(crate) fn prepare(at: &Path) -> Result<PathBuf, Failure> {
    let what = || format!("mount point {}", at.display());
    check_fuse()?;
    if let Some(mounted) = exactly(at) {
        if !is_ours(&mounted) || !is_dead(at) {
            return Err(Failure::new(what(), format!("{} is mounted there already", mounted.source))
                .next(format!("xtfs umount {}", at.display())));
        }
        eprintln!("xtfs: {} was left behind by a process that was killed; unmounting it", at.display());
        detach(at)?;
    }
    std::fs::create_dir_all(at).map_err(|error| Failure::new(what(), error))?;
    let mut entries = std::fs::read_dir(at).map_err(|error| Failure::new(what(), error))?;
    if let Some(entry) = entries.next() {
        let name = entry.map(|entry| entry.file_name()).unwrap_or_default();
        return Err(Failure::new(what(), format!("the directory is not empty (it holds {name:?})"))
            .next("empty it, or mount elsewhere with --mount DIR"));
    }
    at.canonicalize().map_err(|error| Failure::new(what(), error))
}

/// FUSE works for this user. (fusermount3 opens the device with the user's rights, too.)
pub(crate) fn check_fuse() -> Result<(), Failure> {
    let root = nix::unistd::geteuid().is_root();
    let device = Path::new("/dev/fuse");
    std::fs::OpenOptions::new().read(true).write(true).open(device).map_err(|error| {
        let failure = Failure::new("opening /dev/fuse", &error);
        match error.kind() {
            std::io::ErrorKind::NotFound => {
                failure.next("load it with `modprobe fuse`; in a container start it with --device /dev/fuse")
            }
            std::io::ErrorKind::PermissionDenied if !root => failure.next(
                "let root run `chmod 666 /dev/fuse`, as most systems have it; or go on with --no-mount",
            ),
            _ => failure
                .next("in a container: --device /dev/fuse --cap-add SYS_ADMIN; or go on with --no-mount"),
        }
    })?;
    if !root && fusermount().is_none() {
        return Err(Failure::new("mounting as an ordinary user", "fusermount3 is missing")
            .next("apt-get install fuse3, or run as root"));
    }
    Ok(())
}

/// The helper that mounts for ordinary users.
fn fusermount() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    std::env::split_paths(&path).map(|dir| dir.join("fusermount3")).find(|file| file.is_file())
}

/// Unmounts; what is still busy is detached (it vanishes from the tree at once and ends with its last user), and
/// said so. Nothing mounted there is no error.
pub(crate) fn unmount(at: &Path) -> Result<(), Failure> {
    let end = Instant::now() + Duration::from_secs(2);
    while exactly(at).is_some() {
        match unmount_once(at, false) {
            Ok(()) => {}
            Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(50)),
            Err(why) => {
                eprintln!(
                    "xtfs: {} is in use ({why}); detaching it, its users see errors from now on",
                    at.display()
                );
                return detach(at);
            }
        }
    }
    Ok(())
}

/// Unmounts, or says who could not be disturbed.
pub(crate) fn unmount_if_idle(at: &Path) -> Result<(), Failure> {
    unmount_once(at, false).map_err(|why| {
        Failure::new(format!("unmounting {}", at.display()), why).next(format!(
            "end its users (`fuser -vm {0}` shows them), or `xtfs umount --lazy {0}`",
            at.display()
        ))
    })
}

/// Takes a mount out of the tree whatever its users do.
pub(crate) fn detach(at: &Path) -> Result<(), Failure> {
    unmount_once(at, true).map_err(|why| Failure::new(format!("detaching {}", at.display()), why))
}

fn unmount_once(at: &Path, lazy: bool) -> Result<(), String> {
    if nix::unistd::geteuid().is_root() {
        let mut flags = MntFlags::UMOUNT_NOFOLLOW;
        flags.set(MntFlags::MNT_DETACH, lazy);
        return umount2(at, flags).map_err(|errno| errno.desc().to_owned());
    }
    let program = fusermount().ok_or("fusermount3 is missing")?;
    let mut command = std::process::Command::new(program);
    command
        .arg(if lazy { "-uz" } else { "-u" })
        .arg("--")
        .arg(std::ffi::OsStr::from_bytes(at.as_os_str().as_bytes()));
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_is_understood() {
        let line = b"36 35 0:30 / /mnt/a\\040b rw,nosuid shared:1 - fuse.xtfs xtfs://h:1/v rw,user_id=0";
        let mounted = parse(line).unwrap();
        assert_eq!(mounted.at, Path::new("/mnt/a b"));
        assert_eq!((mounted.fstype.as_str(), mounted.source.as_str()), ("fuse.xtfs", "xtfs://h:1/v"));
        assert!(is_ours(&mounted));
        assert!(parse(b"garbage").is_none());
        assert!(!is_ours(&holding(Path::new("/")).unwrap()));
    }

    #[test]
    fn a_directory_with_files_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x"), "").unwrap();
        if check_fuse().is_ok() {
            assert!(prepare(dir.path()).unwrap_err().to_string().contains("not empty"));
        }
    }
}
