//! The same operations on a local directory, by system calls.

use std::ffi::CString;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::tree::TARGET;
use super::{How, Node, Op, PATHS, Snapshot, content};

/// A local directory.
pub(super) struct Local(TempDir);

fn errno(result: io::Result<()>) -> Result<(), i32> {
    result.map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl Local {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir_in("/tmp").unwrap())
    }

    fn path(&self, path: usize) -> PathBuf {
        self.0.path().join(PATHS[path])
    }

    fn c_path(&self, path: usize) -> CString {
        CString::new(self.path(path).to_str().unwrap()).unwrap()
    }

    /// Does an operation.
    pub(super) fn apply(&self, op: &Op) -> Result<(), i32> {
        errno(self.done(op))
    }

    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(bytes)
    }

    fn done(&self, op: &Op) -> io::Result<()> {
        let open = |path| OpenOptions::new().write(true).open(self.path(path));
        match *op {
            Op::Mkdir(path) => {
                fs::create_dir(self.path(path))?;
                fs::set_permissions(self.path(path), Permissions::from_mode(0o755))
            }
            Op::Rmdir(path) => fs::remove_dir(self.path(path)),
            Op::Create { path, len, byte } => self.write_new(&self.path(path), &content(byte, len)),
            Op::Write { path, at, len, byte } => open(path)?.write_all_at(&content(byte, len), at),
            Op::Append { path, len, byte } => {
                let is_new = fs::symlink_metadata(self.path(path)).is_err();
                let mut options = OpenOptions::new();
                options.append(true).create(true).custom_flags(libc::O_NOFOLLOW);
                let mut file = options.open(self.path(path))?;
                if is_new {
                    file.set_permissions(Permissions::from_mode(0o644))?;
                }
                file.write_all(&content(byte, len))
            }
            Op::Replace { path, len, byte } => {
                let new = self.path(path).with_extension("new");
                self.write_new(&new, &content(byte, len))?;
                fs::rename(&new, self.path(path)).inspect_err(|_| drop(fs::remove_file(&new)))
            }
            Op::Truncate { path, size } => {
                // SAFETY: a path that ends with 0.
                checked(unsafe { libc::truncate(self.c_path(path).as_ptr(), size as i64) })
            }
            Op::Punch { path, at, len } => {
                self.allocate(path, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, at, len)
            }
            Op::Allocate { path, at, len, keep } => {
                self.allocate(path, if keep { libc::FALLOC_FL_KEEP_SIZE } else { 0 }, at, len)
            }
            Op::Unlink(path) => {
                // SAFETY: a path that ends with 0.
                checked(unsafe { libc::unlink(self.c_path(path).as_ptr()) })
            }
            Op::Link { from, to } => fs::hard_link(self.path(from), self.path(to)),
            Op::Symlink(path) => std::os::unix::fs::symlink(TARGET, self.path(path)),
            Op::Chmod { path, mode } => fs::set_permissions(self.path(path), Permissions::from_mode(mode)),
            Op::Rename { from, to, how } => {
                let flags = match how {
                    How::Replace => 0,
                    How::NoReplace => libc::RENAME_NOREPLACE,
                    How::Exchange => libc::RENAME_EXCHANGE,
                };
                let (from, to, here) = (self.c_path(from), self.c_path(to), libc::AT_FDCWD);
                // SAFETY: paths that end with 0.
                checked(unsafe { libc::renameat2(here, from.as_ptr(), here, to.as_ptr(), flags) })
            }
        }
    }

    fn allocate(&self, path: usize, mode: libc::c_int, at: u64, len: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.path(path))?;
        // SAFETY: a call on a descriptor that is open.
        checked(unsafe { libc::fallocate(file.as_raw_fd(), mode, at as i64, len as i64) })
    }

    /// Every node by path.
    pub(super) fn snapshot(&self) -> Snapshot {
        let mut out = Snapshot::new();
        visit(self.0.path(), "", &mut out);
        out
    }
}

fn visit(directory: &Path, prefix: &str, out: &mut Snapshot) {
    for entry in fs::read_dir(directory).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        let shown = format!("{prefix}{}", name.to_str().unwrap());
        let seen = fs::symlink_metadata(&path).unwrap();
        let mode = seen.mode() & 0o7777;
        let node = if seen.is_dir() {
            visit(&path, &format!("{shown}/"), out);
            Node::Directory { mode }
        } else if seen.is_symlink() {
            Node::Symlink { target: fs::read_link(&path).unwrap().to_str().unwrap().to_owned() }
        } else {
            Node::File { mode, links: seen.nlink() as u32, content: fs::read(&path).unwrap() }
        };
        out.insert(shown, node);
    }
}
