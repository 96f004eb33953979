//! The store over a directory of this host: any local or mounted file system.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, RenameFlags, ResolveFlag, openat, openat2, renameat2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use super::{Entry, Kind, Op, Owner, Put, RenameMode, SpoolStore, Stat, StoreError};

/// Without knowledge of open writers, a file counts as complete when it did not change for so long, nanoseconds.
const SETTLE_NS: u64 = 2_000_000_000;

/// A directory as a store.
#[derive(Clone, Debug)]
pub struct LocalStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: OwnedFd,
    volume: u64,
    /// Leases tell of open writers only where the kernel knows all of them.
    leases: bool,
    /// Makes names of temporary files unique within the process.
    serial: AtomicU64,
}

type Sys<T> = Result<T, Errno>;

impl LocalStore {
    /// The directory `root` as the root of a volume with the given number.
    pub fn open(root: &Path, volume: u64) -> std::io::Result<Self> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_PATH | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(root, flags, Mode::empty())?;
        let kind = nix::sys::statfs::fstatfs(&root)?.filesystem_type();
        let leases = kind != nix::sys::statfs::FUSE_SUPER_MAGIC && kind != nix::sys::statfs::NFS_SUPER_MAGIC;
        let inner = Inner { root, volume, leases, serial: AtomicU64::new(0) };
        Ok(Self { inner: Arc::new(inner) })
    }

    fn run<'a, T, F>(&self, op: &'static str, path: &'a str, work: F) -> Op<'a, T>
    where
        T: Send + 'static,
        F: FnOnce(&Inner, &str) -> Sys<T> + Send + 'static,
    {
        let (inner, owned) = (self.inner.clone(), path.to_string());
        Box::pin(async move {
            let result = tokio::task::spawn_blocking(move || work(&inner, &owned)).await;
            match result {
                Ok(result) => result.map_err(|e| StoreError::new(op, path, e as i32)),
                // The runtime is going down.
                Err(_) => Err(StoreError::new(op, path, libc::EINTR)),
            }
        })
    }
}

impl Inner {
    fn resolve(&self, path: &str, flags: OFlag) -> Sys<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        openat2(self.root.as_fd(), path, how)
    }

    /// The directory that holds `path`, and the name in it.
    fn parent<'p>(&self, path: &'p str) -> Sys<(OwnedFd, &'p str)> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name.is_empty() || name == "." || name == ".." {
            return Err(Errno::EINVAL);
        }
        Ok((self.resolve(dir, OFlag::O_PATH | OFlag::O_DIRECTORY)?, name))
    }

    fn stat(&self, path: &str) -> Sys<Stat> {
        let (dir, name) = self.parent(path)?;
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        let name = std::ffi::CString::new(name).map_err(|_| Errno::EINVAL)?;
        // SAFETY: a zeroed statx is a valid value of the plain C struct; all pointers live through the call.
        let x = unsafe {
            let mut x: libc::statx = std::mem::zeroed();
            let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
            Errno::result(libc::statx(dir.as_raw_fd(), name.as_ptr(), flags.bits(), mask, &raw mut x))?;
            x
        };
        let kind = match u32::from(x.stx_mode) & libc::S_IFMT {
            libc::S_IFREG => Kind::File,
            libc::S_IFDIR => Kind::Directory,
            libc::S_IFLNK => Kind::Symlink,
            _ => Kind::Other,
        };
        Ok(Stat {
            file_id: file_id(x.stx_ino, x.stx_btime.tv_sec, x.stx_btime.tv_nsec),
            kind,
            uid: x.stx_uid,
            gid: x.stx_gid,
            mode: u32::from(x.stx_mode) & 0o7777,
            size: x.stx_size,
            links: u64::from(x.stx_nlink),
            mtime_ns: nanos(x.stx_mtime.tv_sec, x.stx_mtime.tv_nsec),
        })
    }

    fn list(&self, path: &str, most: usize) -> Sys<Vec<Entry>> {
        let fd = self.resolve(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        let mut dir = nix::dir::Dir::from_fd(fd)?;
        let mut out = Vec::new();
        for entry in dir.iter() {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == "." || name == ".." {
                continue;
            }
            let kind = match entry.file_type() {
                Some(nix::dir::Type::File) => Kind::File,
                Some(nix::dir::Type::Directory) => Kind::Directory,
                Some(nix::dir::Type::Symlink) => Kind::Symlink,
                Some(_) => Kind::Other,
                None => match self.stat(&format!("{path}/{name}")) {
                    Ok(stat) => stat.kind,
                    Err(_) => continue,
                },
            };
            out.push(Entry { name, kind });
            if out.len() >= most {
                break;
            }
        }
        Ok(out)
    }

    fn read(&self, path: &str, most: usize) -> Sys<Vec<u8>> {
        // Not blocking: a fifo put in the place of a file must not stop the manager.
        let file = File::from(self.resolve(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
        if !file.metadata().map_err(errno)?.is_file() {
            return Err(Errno::EISDIR);
        }
        let mut out = Vec::new();
        file.take(most as u64 + 1).read_to_end(&mut out).map_err(errno)?;
        if out.len() > most { Err(Errno::EFBIG) } else { Ok(out) }
    }

    /// Writes a new file under `name`, which must not be there.
    fn write_new(&self, dir: &OwnedFd, name: &str, bytes: &[u8], put: Put, exclusive: OFlag) -> Sys<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | exclusive;
        let fd = openat(dir, name, flags, Mode::from_bits_truncate(put.mode))?;
        let mut file = File::from(fd);
        file.write_all(bytes).map_err(errno)?;
        own(&file, put.owner)?;
        if put.sync {
            file.sync_all().map_err(errno)?;
        }
        Ok(())
    }

    /// Writes a temporary file beside `path` and renames it there.
    fn put(&self, path: &str, bytes: &[u8], put: Put, flags: RenameFlags) -> Sys<()> {
        let (dir, name) = self.parent(path)?;
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let temporary = format!(".{name}.{}.{serial}.tmp", std::process::id());
        let done = self
            .write_new(&dir, &temporary, bytes, put, OFlag::O_TRUNC)
            .and_then(|()| renameat2(&dir, temporary.as_str(), &dir, name, flags));
        if let Err(error) = done {
            let _ = unlinkat(&dir, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
            return Err(error);
        }
        if put.sync { sync_dir(&dir) } else { Ok(()) }
    }

    fn append(&self, path: &str, bytes: &[u8], expected: u64, sync: bool) -> Sys<()> {
        let (dir, name) = self.parent(path)?;
        let mut flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        if expected == 0 {
            flags |= OFlag::O_CREAT;
        }
        let mut file = File::from(openat(&dir, name, flags, Mode::from_bits_truncate(0o644))?);
        if file.metadata().map_err(errno)?.len() != expected {
            return Err(Errno::ESTALE);
        }
        file.write_all(bytes).map_err(errno)?;
        if sync {
            file.sync_data().map_err(errno)?;
            if expected == 0 {
                sync_dir(&dir)?;
            }
        }
        // Another writer may have come between the look and the write; the file's length tells.
        let length = file.metadata().map_err(errno)?.len();
        if length == expected + bytes.len() as u64 { Ok(()) } else { Err(Errno::ESTALE) }
    }

    fn rename(&self, from: &str, to: &str, mode: RenameMode) -> Sys<()> {
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        if mode == RenameMode::NoReplaceIfNoWriter {
            self.refuse_writers(from)?;
        }
        let flags = match mode {
            RenameMode::Replace => RenameFlags::empty(),
            RenameMode::NoReplace | RenameMode::NoReplaceIfNoWriter => RenameFlags::RENAME_NOREPLACE,
        };
        renameat2(&from_dir, from_name, &to_dir, to_name, flags)
    }

    /// `EBUSY` while somebody has the file open for writing. The kernel grants a read lease only when nobody has;
    /// where it cannot know, the file must have rested for a while.
    fn refuse_writers(&self, path: &str) -> Sys<()> {
        // Links and devices are not opened: they are moved as they are.
        if !matches!(self.stat(path)?.kind, Kind::File | Kind::Directory) {
            return Ok(());
        }
        let file = File::from(self.resolve(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
        let attributes = file.metadata().map_err(errno)?;
        if self.leases && attributes.is_file() {
            // SAFETY: plain fcntl on an open descriptor; the lease ends with it.
            let lease = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) };
            match Errno::result(lease) {
                Ok(_) => return Ok(()),
                Err(Errno::EAGAIN) => return Err(Errno::EBUSY),
                Err(_) => {}
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let changed = nanos(attributes.ctime(), u32::try_from(attributes.ctime_nsec()).unwrap_or(0));
        if now < u128::from(changed) + u128::from(SETTLE_NS) { Err(Errno::EBUSY) } else { Ok(()) }
    }

    fn mkdir(&self, path: &str, mode: u32, owner: Option<Owner>) -> Sys<bool> {
        let (dir, name) = self.parent(path)?;
        let made = match mkdirat(&dir, name, Mode::from_bits_truncate(mode)) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(error) => return Err(error),
        };
        if made {
            let fd =
                openat(&dir, name, OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
            own(&fd, owner)?;
            // The process's mask must not take bits away.
            nix::sys::stat::fchmod(&fd, Mode::from_bits_truncate(mode))?;
        }
        Ok(made)
    }
}

fn own(file: &impl AsFd, owner: Option<Owner>) -> Sys<()> {
    let Some(owner) = owner else { return Ok(()) };
    match fchown(file.as_fd(), Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid))) {
        // Without privilege there is one user only, who owns it already.
        Err(Errno::EPERM) if !Uid::effective().is_root() => Ok(()),
        other => other,
    }
}

fn sync_dir(dir: &OwnedFd) -> Sys<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    File::from(openat(dir, ".", flags, Mode::empty())?).sync_all().map_err(errno)
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

fn nanos(seconds: i64, nanos: u32) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(u64::from(nanos))
}

/// Local file systems use inode numbers again; together with the time of birth they identify (FNV-1a over both).
fn file_id(ino: u64, birth_s: i64, birth_ns: u32) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in ino.to_le_bytes().into_iter().chain(birth_s.to_le_bytes()).chain(birth_ns.to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^ hash >> 50
}

impl SpoolStore for LocalStore {
    fn volume(&self) -> u64 {
        self.inner.volume
    }

    fn list<'a>(&'a self, dir: &'a str, most: usize) -> Op<'a, Vec<Entry>> {
        self.run("list", dir, move |inner, path| inner.list(path, most))
    }

    fn stat<'a>(&'a self, path: &'a str) -> Op<'a, Stat> {
        self.run("stat", path, Inner::stat)
    }

    fn read<'a>(&'a self, path: &'a str, most: usize) -> Op<'a, Vec<u8>> {
        self.run("read", path, move |inner, path| inner.read(path, most))
    }

    fn replace<'a>(&'a self, path: &'a str, bytes: &'a [u8], put: Put) -> Op<'a, ()> {
        let bytes = bytes.to_vec();
        self.run("replace", path, move |inner, path| inner.put(path, &bytes, put, RenameFlags::empty()))
    }

    fn write<'a>(&'a self, path: &'a str, bytes: &'a [u8], put: Put) -> Op<'a, ()> {
        let bytes = bytes.to_vec();
        self.run("write", path, move |inner, path| {
            let (dir, name) = inner.parent(path)?;
            inner.write_new(&dir, name, &bytes, put, OFlag::O_TRUNC)
        })
    }

    fn create_once<'a>(&'a self, path: &'a str, bytes: &'a [u8], put: Put) -> Op<'a, bool> {
        let bytes = bytes.to_vec();
        self.run("create", path, move |inner, path| {
            match inner.put(path, &bytes, put, RenameFlags::RENAME_NOREPLACE) {
                Ok(()) => Ok(true),
                Err(Errno::EEXIST) => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    fn append<'a>(&'a self, path: &'a str, bytes: &'a [u8], expected: u64, sync: bool) -> Op<'a, ()> {
        let bytes = bytes.to_vec();
        self.run("append", path, move |inner, path| inner.append(path, &bytes, expected, sync))
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str, mode: RenameMode) -> Op<'a, ()> {
        let to = to.to_string();
        self.run("rename", from, move |inner, from| inner.rename(from, &to, mode))
    }

    fn remove<'a>(&'a self, path: &'a str) -> Op<'a, ()> {
        self.run("remove", path, |inner, path| {
            let (dir, name) = inner.parent(path)?;
            unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir)
        })
    }

    fn chmod<'a>(&'a self, path: &'a str, mode: u32) -> Op<'a, ()> {
        self.run("chmod", path, move |inner, path| {
            // Opened, so that a link is not followed.
            let fd = inner.resolve(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
            nix::sys::stat::fchmod(&fd, Mode::from_bits_truncate(mode))
        })
    }

    fn mkdir<'a>(&'a self, path: &'a str, mode: u32, owner: Option<Owner>) -> Op<'a, bool> {
        self.run("mkdir", path, move |inner, path| inner.mkdir(path, mode, owner))
    }
}
