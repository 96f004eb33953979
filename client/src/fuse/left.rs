//! Files that programs have open since before this process took up the mount. The one before may have opened them without asking the MRC; nobody
//! else knows of them, so one that is removed now would be gone for those programs too. The kernel does not tell what is open, but `/proc` does,
//! without a call to the mount.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proto::mrc::CloseRequest;

use super::door::Shared;
use super::{inside, past};
use crate::config::Creds;

/// `O_PATH` and `O_DIRECTORY`: no file behind it.
const NO_FILE: u32 = (libc::O_PATH | libc::O_DIRECTORY) as u32;

/// What `/proc/self/mountinfo` numbers a mount point: the last one there.
fn mount_id(mountinfo: &str, at: &Path) -> Option<u64> {
    let at = at.to_str()?;
    let is_it = |line: &&str| line.split(' ').nth(4) == Some(at);
    mountinfo.lines().rfind(is_it)?.split(' ').next()?.parse().ok()
}

/// The inode of a file that is open on the mount, as `/proc/PID/fdinfo/FD` tells.
fn open_inode(fdinfo: &str, mount: u64) -> Option<u64> {
    let field = |name: &str| fdinfo.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let flags = u32::from_str_radix(field("flags:")?, 8).ok()?;
    let of_mount = field("mnt_id:")?.parse() == Ok(mount) && flags & NO_FILE == 0;
    field("ino:").filter(|_| of_mount)?.parse().ok()
}

/// Inodes of the files that any process of this host has open on the mount.
pub(super) fn open_files(at: &Path) -> BTreeSet<u64> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let Some(mount) = mount_id(&mountinfo, at) else { return BTreeSet::new() };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbered = processes.filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit());
    let descriptors =
        numbered.flat_map(|entry| fs::read_dir(entry.path().join("fdinfo")).into_iter().flatten().flatten());
    let inodes = descriptors.filter_map(|entry| open_inode(&fs::read_to_string(entry.path()).ok()?, mount));
    inodes.filter(|ino| !inside::is_inside(*ino) && !past::is_past(*ino)).collect()
}

impl Shared {
    /// Counts one handle more for each file that is open since before, of which the MRC hears when it has to know.
    pub(super) fn keep_left(&self, files: BTreeSet<u64>) {
        for ino in &files {
            self.volume.session().open_untold(self.volume.id(), *ino, false);
        }
        if !files.is_empty() {
            tracing::info!(files = files.len(), "files are open since before this process took up the mount");
        }
        *self.left.lock() = files;
    }

    /// A handle was closed. When no program has the file open since before any more, it is not counted any more.
    pub(super) async fn leave(&self, creds: &Creds, ino: u64) {
        let Some(at) = self.options.place.clone().filter(|_| self.left.lock().contains(&ino)) else { return };
        let open = tokio::task::spawn_blocking(move || open_files(&at)).await.unwrap_or_default();
        if open.contains(&ino) || !self.left.lock().remove(&ino) {
            return;
        }
        let request = CloseRequest { head: self.volume.head(creds), ino, write: false };
        if let Err(error) = self.volume.session().close(&request).await {
            tracing::warn!(ino, %error, "a handle of an earlier mount process was not closed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_tells_is_understood() {
        let mounts = "36 35 98:0 / /mnt1 rw,noatime master:1 - ext3 /dev/root rw\n\
            40 35 0:50 / /m rw - fuse.xtfs xtfs://a rw\n41 35 0:51 / /m rw - fuse.xtfs xtfs://a rw\n";
        assert_eq!((mount_id(mounts, Path::new("/m")), mount_id(mounts, Path::new("/n"))), (Some(41), None));
        let open = |flags: &str, mount: u64| {
            open_inode(&format!("pos:\t0\nflags:\t{flags}\nmnt_id:\t{mount}\nino:\t77\nlock:\t1\n"), 41)
        };
        assert_eq!((open("0100002", 41), open("0100002", 40)), (Some(77), None));
        assert_eq!((open("0300000", 41), open("012000000", 41)), (None, None), "a directory, a path");
        assert_eq!(open_inode("", 41), None);
    }

    #[test]
    fn own_files_are_found() {
        let at = tempfile::NamedTempFile::new().expect("a file");
        let info = fs::read_to_string(format!(
            "/proc/self/fdinfo/{}",
            std::os::fd::AsRawFd::as_raw_fd(at.as_file())
        ));
        let info = info.expect("it is open");
        let mount =
            info.lines().find_map(|line| line.strip_prefix("mnt_id:")).expect("a mount").trim().parse();
        let ino = std::os::unix::fs::MetadataExt::ino(&at.as_file().metadata().expect("it is there"));
        assert_eq!(open_inode(&info, mount.expect("a number")), Some(ino));
    }
}
