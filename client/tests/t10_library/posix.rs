//! What POSIX and Linux promise beyond reading and writing, through a mount: access control lists, files without a name,
//! allocated blocks, inode flags, far offsets, early and late times, names of any bytes.

use std::ffi::{CString, OsStr};
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use client::fuse::MountOptions;

use super::bed::Bed;
use super::mount::{Mount, errno, possible};

fn c_string(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) -> std::io::Result<()> {
    let (path, name) = (c_string(path), CString::new(name).unwrap());
    // SAFETY: both strings end in NUL, the value is as long as said.
    let done = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn get_xattr(path: &Path, name: &str) -> std::io::Result<Vec<u8>> {
    let (path, name) = (c_string(path), CString::new(name).unwrap());
    let mut value = vec![0u8; 4096];
    // SAFETY: both strings end in NUL, the buffer is as long as said.
    let length =
        unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(usize::try_from(length).map_err(|_| std::io::Error::last_os_error())?);
    Ok(value)
}

/// (tag, permissions, id) as acl(5) has them.
fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut out = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        out.extend_from_slice(&tag.to_le_bytes());
        out.extend_from_slice(&permissions.to_le_bytes());
        out.extend_from_slice(&id.to_le_bytes());
    }
    out
}

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";
const NOBODY: u32 = u32::MAX;

/// What another user gets when it opens a file for reading. The way to the mount is only for root, so it begins at the
/// file's directory.
fn read_as(uid: u32, path: &Path) -> i32 {
    let name = CString::new(path.file_name().unwrap().as_bytes()).unwrap();
    let directory = File::open(path.parent().unwrap()).unwrap();
    // SAFETY: the child only makes system calls and ends; the parent waits for it.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::setgroups(0, std::ptr::null());
            if libc::setgid(uid) != 0 || libc::setuid(uid) != 0 {
                libc::_exit(255);
            }
            let opened = libc::openat(directory.as_raw_fd(), name.as_ptr(), libc::O_RDONLY);
            libc::_exit(if opened >= 0 { 0 } else { *libc::__errno_location() });
        }
        let mut status = 0;
        libc::waitpid(child, &mut status, 0);
        libc::WEXITSTATUS(status)
    }
}

fn lists_decide_and_are_handed_down(at: &Path) {
    let dir = at.join("acl");
    fs::create_dir(&dir).unwrap();
    let path = dir.join("f");
    fs::write(&path, "x").unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(read_as(4711, &path), libc::EACCES);
    let mine = list(&[(1, 6, NOBODY), (2, 4, 4711), (4, 0, NOBODY), (16, 4, NOBODY), (32, 0, NOBODY)]);
    set_xattr(&path, ACCESS, &mine).unwrap();
    assert_eq!(get_xattr(&path, ACCESS).unwrap(), mine);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
    assert_eq!(read_as(4711, &path), 0);
    assert_eq!(read_as(4712, &path), libc::EACCES);
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(read_as(4711, &path), libc::EACCES, "the mask is empty");
    let unsound = list(&[(1, 6, NOBODY), (2, 4, 4711), (4, 0, NOBODY), (32, 0, NOBODY)]);
    assert_eq!(errno(set_xattr(&path, ACCESS, &unsound)), libc::EINVAL, "it has no mask");

    let default = list(&[(1, 7, NOBODY), (2, 5, 4711), (4, 5, NOBODY), (16, 5, NOBODY), (32, 0, NOBODY)]);
    set_xattr(&dir, DEFAULT, &default).unwrap();
    let inherits = dir.join("inherits");
    File::create(&inherits).unwrap();
    assert_eq!(fs::metadata(&inherits).unwrap().mode() & 0o777, 0o640);
    assert_eq!(read_as(4711, &inherits), 0);
    let sub = dir.join("sub");
    fs::create_dir(&sub).unwrap();
    assert_eq!(get_xattr(&sub, DEFAULT).unwrap(), default);
    assert_eq!(fs::metadata(&sub).unwrap().mode() & 0o777, 0o750);
}

fn files_without_a_name_can_get_one(at: &Path) {
    let make = || OpenOptions::new().write(true).read(true).custom_flags(libc::O_TMPFILE).open(at);
    let before = fs::read_dir(at).unwrap().count();
    let file = make().unwrap();
    file.write_all_at(b"nameless", 0).unwrap();
    assert_eq!((file.metadata().unwrap().nlink(), file.metadata().unwrap().len()), (0, 8));
    assert_eq!(fs::read_dir(at).unwrap().count(), before);
    let from = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    let to = c_string(&at.join("named"));
    // SAFETY: both strings end in NUL.
    let linked = unsafe {
        libc::linkat(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), libc::AT_SYMLINK_FOLLOW)
    };
    assert_eq!(linked, 0, "{}", std::io::Error::last_os_error());
    drop(file);
    assert_eq!(fs::read(at.join("named")).unwrap(), b"nameless");
    assert_eq!(fs::metadata(at.join("named")).unwrap().nlink(), 1);
}

fn blocks_of_holes_are_not_counted(at: &Path) {
    let path = at.join("sparse");
    let blocks = || fs::metadata(&path).unwrap().blocks();
    let file = File::create(&path).unwrap();
    file.set_len(100 << 20).unwrap();
    drop(file);
    assert_eq!(blocks(), 0);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[1; 8192], 50 << 20).unwrap();
    drop(file);
    assert_eq!(blocks(), 16);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: an open descriptor.
    assert_eq!(unsafe { libc::fallocate(file.as_raw_fd(), punch, 50 << 20, 4096) }, 0);
    drop(file);
    assert_eq!(blocks(), 8);
    fs::write(at.join("dense"), vec![1; 10_000]).unwrap();
    assert_eq!(fs::metadata(at.join("dense")).unwrap().blocks(), 24);
    // As rsync and cp write a sparse file: a hole behind what is still on its way.
    let file = File::create(at.join("skipped")).unwrap();
    file.write_all_at(&[1; 4096], 0).unwrap();
    file.write_all_at(&[2; 4096], 50 << 20).unwrap();
    drop(file);
    assert_eq!(fs::metadata(at.join("skipped")).unwrap().blocks(), 16);
}

/// `FS_IOC_SETFLAGS`.
fn set_flags(path: &Path, flags: libc::c_long) {
    let file = File::open(path).unwrap();
    // SAFETY: an open descriptor, and the flags are as long as the call wants them.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), 0x4008_6602, &flags) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

fn inode_flags_bind_root(at: &Path) {
    let path = at.join("flags");
    fs::write(&path, "abc").unwrap();
    set_flags(&path, 0x10);
    assert_eq!(errno(fs::remove_file(&path)), libc::EPERM);
    assert_eq!(errno(OpenOptions::new().write(true).open(&path)), libc::EPERM);
    assert_eq!(errno(fs::rename(&path, at.join("other"))), libc::EPERM);
    set_flags(&path, 0x20);
    assert_eq!(errno(OpenOptions::new().write(true).open(&path)), libc::EPERM);
    assert_eq!(errno(OpenOptions::new().append(true).truncate(false).open(&path)), 0);
    assert_eq!(errno(fs::remove_file(&path)), libc::EPERM);
    set_flags(&path, 0);
    fs::remove_file(&path).unwrap();
}

fn far_ends(at: &Path) {
    let path = at.join("far");
    let file = File::create(&path).unwrap();
    let last = i64::MAX as u64 - 1;
    file.write_all_at(b"z", last).unwrap();
    assert_eq!(file.metadata().unwrap().len(), last + 1);
    for seconds in [-2_147_483_648i64, -1, 15_032_385_535] {
        let base = Duration::from_secs(seconds.unsigned_abs());
        let base = if seconds < 0 { UNIX_EPOCH - base } else { UNIX_EPOCH + base };
        let time = base + Duration::from_nanos(999_999_999);
        file.set_modified(time).unwrap();
        drop(File::open(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), time);
    }
    let odd = at.join(OsStr::from_bytes(b"\n\t \xff\xfe*?"));
    fs::write(&odd, "x").unwrap();
    assert!(fs::read_dir(at).unwrap().any(|entry| entry.unwrap().path() == odd));
    let long = at.join("n".repeat(256));
    assert_eq!(errno(fs::metadata(&long)), libc::ENAMETOOLONG);
    assert_eq!(errno(File::create(&long)), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::metadata(at.join("n".repeat(255)))), libc::ENOENT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_keeps_what_linux_promises() {
    if !possible() {
        return;
    }
    let bed = Bed::start(2).await;
    let mount = Mount::new(bed.volume("mount").await, MountOptions::default()).await;
    mount.with(lists_decide_and_are_handed_down).await;
    mount.with(files_without_a_name_can_get_one).await;
    mount.with(blocks_of_holes_are_not_counted).await;
    mount.with(inode_flags_bind_root).await;
    mount.with(far_ends).await;
}
