//! Calls as system calls.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::bytes::{WORD, filled, meaning};
use crate::history::{
    Attributes, Cell, FileOp, Kind, LockKind, LockOp, LogOp, Object, Operation, Outcome, RenameMode, TreeOp,
    Value,
};
use crate::workload::Round;

/// Bytes of a log record: no divisor of a page.
const RECORD: usize = 15 * WORD;

/// Seconds after which a lock that is waited for counts as never granted.
const LOCK_SECONDS: u32 = 20;

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub(super) fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Modes are taken as asked, and an alarm interrupts a lock that is waited for.
pub(super) fn prepare() -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: the action is zeroed and filled in; the handler does nothing.
    unsafe {
        // Whoever ends the run ends its workers.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::umask(0);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        if libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

const FILES: [&str; 4] = ["fixed", "growing", "log", "locks"];

/// Makes the objects of a round.
pub(super) fn make(place: &Path) -> io::Result<()> {
    fs::create_dir(place)?;
    fs::create_dir(place.join("tree"))?;
    fs::set_permissions(place.join("tree"), fs::Permissions::from_mode(0o755))?;
    for name in FILES {
        File::create(place.join(name))?;
    }
    Ok(())
}

/// What a worker has open.
pub(super) struct Files {
    cell: usize,
    round: Option<Open>,
}

struct Open {
    number: Round,
    tree: PathBuf,
    directory: File,
    fixed: File,
    growing: File,
    growing_end: File,
    log: File,
    fcntl: File,
    flock: File,
    handles: BTreeMap<u16, File>,
}

impl Files {
    pub(super) fn new(cell: usize) -> Self {
        Self { cell, round: None }
    }

    /// Opens the objects of a round, which were made before.
    pub(super) fn open(&mut self, place: &Path, number: Round) -> io::Result<()> {
        let made = |name: &str, opened: io::Result<File>| {
            opened.map_err(|error| {
                let text = format!("{name} of round {}, made before by another worker: {error}", number.0);
                io::Error::new(error.kind(), text)
            })
        };
        let open = |name: &str, append: bool| {
            let options = OpenOptions::new().read(true).write(!append).append(append).open(place.join(name));
            made(name, options)
        };
        let tree = place.join("tree");
        self.round = Some(Open {
            number,
            directory: made("tree", File::open(&tree))?,
            tree,
            fixed: open("fixed", false)?,
            growing: open("growing", false)?,
            growing_end: open("growing", true)?,
            log: open("log", true)?,
            fcntl: open("locks", false)?,
            flock: open("locks", false)?,
            handles: BTreeMap::new(),
        });
        Ok(())
    }

    pub(super) fn close(&mut self) {
        self.round = None;
    }

    /// Makes the system call.
    pub(super) fn perform(&mut self, object: Object, operation: &Operation) -> Outcome {
        let cell = self.cell;
        let Some(open) = &mut self.round else { return Outcome::Unknown };
        let done = match operation {
            Operation::Tree(op) => open.tree_call(op),
            Operation::File(op) => {
                let end = &open.growing_end;
                let file = if object == open.number.fixed() { &open.fixed } else { &open.growing };
                file_call(file, end, cell, op)
            }
            Operation::Log(LogOp::Append { tag }) => whole(open.log.write(&filled(*tag, RECORD)), RECORD),
            Operation::Log(LogOp::Read) => read_log(&open.log),
            Operation::Lock(op) => lock_call(open, op),
        };
        match done {
            Ok(value) => Outcome::Ok(value),
            Err(error) => error.raw_os_error().map_or(Outcome::Unknown, Outcome::from_errno),
        }
    }
}

fn check(result: libc::c_int) -> io::Result<Value> {
    if result == 0 { Ok(Value::Nothing) } else { Err(io::Error::last_os_error()) }
}

/// A short write is neither done nor not.
fn whole(written: io::Result<usize>, len: usize) -> io::Result<Value> {
    match written? {
        got if got == len => Ok(Value::Nothing),
        _ => Err(io::Error::from_raw_os_error(libc::EIO)),
    }
}

fn in_cells(bytes: i64, cell: usize) -> Value {
    let cell = cell as i64;
    // A size that no call made: larger than all that were.
    Value::Offset(if bytes % cell == 0 { u32::try_from(bytes / cell).unwrap_or(u32::MAX) } else { u32::MAX })
}

fn file_call(file: &File, end: &File, cell: usize, op: &FileOp) -> io::Result<Value> {
    let place = |at: u32| i64::from(at) * cell as i64;
    match *op {
        FileOp::Write { at, count, tag } => {
            let bytes = filled(tag, count as usize * cell);
            whole(file.write_at(&bytes, place(at) as u64), bytes.len())
        }
        FileOp::Read { at, count } => {
            let mut bytes = vec![0; count as usize * cell];
            let got = file.read_at(&mut bytes, place(at) as u64)?;
            Ok(Value::Cells(bytes[..got].chunks(cell).map(meaning).collect()))
        }
        FileOp::Append { tag } => whole((&*end).write(&filled(tag, cell)), cell),
        FileOp::Truncate { size } => file.set_len(place(size) as u64).map(|()| Value::Nothing),
        FileOp::Allocate { at, count } => {
            // SAFETY: a call on a descriptor that is open.
            check(unsafe { libc::fallocate(file.as_raw_fd(), 0, place(at), place(count)) })
        }
        FileOp::Punch { at, count } => {
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            // SAFETY: a call on a descriptor that is open.
            check(unsafe { libc::fallocate(file.as_raw_fd(), mode, place(at), place(count)) })
        }
        FileOp::Size => Ok(in_cells(file.metadata()?.size() as i64, cell)),
        FileOp::SeekData { at } => seek(file, place(at), libc::SEEK_DATA, cell),
        FileOp::SeekHole { at } => seek(file, place(at), libc::SEEK_HOLE, cell),
        FileOp::Sync => file.sync_all().map(|()| Value::Nothing),
    }
}

fn seek(file: &File, at: i64, whence: libc::c_int, cell: usize) -> io::Result<Value> {
    // SAFETY: a call on a descriptor that is open.
    let found = unsafe { libc::lseek(file.as_raw_fd(), at, whence) };
    if found < 0 { Err(io::Error::last_os_error()) } else { Ok(in_cells(found, cell)) }
}

fn read_log(log: &File) -> io::Result<Value> {
    let (mut all, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        match log.read_at(&mut chunk, all.len() as u64)? {
            0 => break,
            got => all.extend_from_slice(&chunk[..got]),
        }
    }
    let record = |bytes: &[u8]| match meaning(bytes) {
        // The beginning of a record is a part of it.
        Cell::Tag(tag) if bytes.len() < RECORD => Cell::Torn(vec![tag, 0]),
        cell => cell,
    };
    Ok(Value::Cells(all.chunks(RECORD).map(record).collect()))
}

fn lock_call(open: &Open, op: &LockOp) -> io::Result<Value> {
    let (kind, at, count, mode, wait) = match *op {
        LockOp::Lock { kind, exclusive, at, count, wait } => (kind, at, count, Some(exclusive), wait),
        LockOp::Unlock { kind, at, count } => (kind, at, count, None, false),
    };
    // SAFETY: calls on descriptors that are open, with a structure that lives through the call.
    unsafe {
        if wait {
            libc::alarm(LOCK_SECONDS);
        }
        let result = match kind {
            LockKind::Flock => {
                let how = match mode {
                    None => libc::LOCK_UN,
                    Some(true) => libc::LOCK_EX,
                    Some(false) => libc::LOCK_SH,
                };
                libc::flock(
                    open.flock.as_raw_fd(),
                    if wait || mode.is_none() { how } else { how | libc::LOCK_NB },
                )
            }
            LockKind::Fcntl => {
                let mut lock: libc::flock = std::mem::zeroed();
                lock.l_type = match mode {
                    None => libc::F_UNLCK,
                    Some(true) => libc::F_WRLCK,
                    Some(false) => libc::F_RDLCK,
                } as libc::c_short;
                (lock.l_start, lock.l_len) = (i64::from(at), i64::from(count));
                libc::fcntl(
                    open.fcntl.as_raw_fd(),
                    if wait { libc::F_SETLKW } else { libc::F_SETLK },
                    &raw mut lock,
                )
            }
        };
        let done = check(result);
        libc::alarm(0);
        done
    }
}

impl Open {
    fn path(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.tree.clone() } else { self.tree.join(path) }
    }

    fn c_path(&self, path: &str) -> io::Result<CString> {
        Ok(CString::new(self.path(path).as_os_str().as_bytes())?)
    }

    fn handle(&self, handle: u16) -> io::Result<&File> {
        self.handles.get(&handle).ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }

    fn opened(&mut self, handle: u16, options: &OpenOptions, path: &str) -> io::Result<Value> {
        let file = options.open(self.path(path))?;
        // The caller never learns whether it is open if this fails.
        let ino = file.metadata().map_err(|_| io::Error::from_raw_os_error(libc::EIO))?.ino();
        self.handles.insert(handle, file);
        Ok(Value::Inode(ino))
    }

    fn tree_call(&mut self, op: &TreeOp) -> io::Result<Value> {
        let done = |()| Value::Nothing;
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_NOFOLLOW);
        match op {
            TreeOp::Mkdir { path, mode } => {
                let path = self.c_path(path)?;
                // SAFETY: a path that ends with 0.
                check(unsafe { libc::mkdir(path.as_ptr(), *mode) })
            }
            TreeOp::Rmdir { path } => fs::remove_dir(self.path(path)).map(done),
            TreeOp::Create { path, mode, exclusive, handle } => {
                options.mode(*mode).create(true).create_new(*exclusive);
                self.opened(*handle, &options, path)
            }
            TreeOp::Open { path, handle } => self.opened(*handle, &options, path),
            TreeOp::Close { handle } => {
                self.handles.remove(handle);
                Ok(Value::Nothing)
            }
            TreeOp::Unlink { path } => {
                let path = self.c_path(path)?;
                // SAFETY: a path that ends with 0.
                check(unsafe { libc::unlink(path.as_ptr()) })
            }
            TreeOp::Link { from, to } => fs::hard_link(self.path(from), self.path(to)).map(done),
            TreeOp::Symlink { target, path } => std::os::unix::fs::symlink(target, self.path(path)).map(done),
            TreeOp::Readlink { path } => {
                Ok(Value::Text(fs::read_link(self.path(path))?.to_string_lossy().into_owned()))
            }
            TreeOp::Rename { from, to, mode } => self.rename(from, to, *mode),
            TreeOp::Stat { path } => fs::symlink_metadata(self.path(path)).map(attributes),
            TreeOp::StatHandle { handle } => self.handle(*handle)?.metadata().map(attributes),
            TreeOp::List { path } => self.list(path),
            TreeOp::Chmod { path, mode } => {
                fs::set_permissions(self.path(path), fs::Permissions::from_mode(*mode)).map(done)
            }
            TreeOp::Put { handle, tag } => {
                whole(self.handle(*handle)?.write_at(&filled(*tag, WORD), 0), WORD)
            }
            TreeOp::Get { handle } => content(self.handle(*handle)?),
            TreeOp::GetPath { path } => {
                content(&OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(self.path(path))?)
            }
            TreeOp::Sync { handle } => self.handle(*handle)?.sync_all().map(done),
            TreeOp::SyncNames => self.directory.sync_all().map(done),
        }
    }

    fn rename(&self, from: &str, to: &str, mode: RenameMode) -> io::Result<Value> {
        let (from, to) = (self.c_path(from)?, self.c_path(to)?);
        let flags = match mode {
            RenameMode::Replace => 0,
            RenameMode::NoReplace => libc::RENAME_NOREPLACE,
            RenameMode::Exchange => libc::RENAME_EXCHANGE,
        };
        let here = libc::AT_FDCWD;
        // SAFETY: paths that end with 0.
        check(unsafe { libc::renameat2(here, from.as_ptr(), here, to.as_ptr(), flags) })
    }

    fn list(&self, path: &str) -> io::Result<Value> {
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let directory = OpenOptions::new().read(true).custom_flags(flags).open(self.path(path))?;
        let mut names = Vec::new();
        for entry in fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(Value::Names(names))
    }
}

fn content(file: &File) -> io::Result<Value> {
    let mut bytes = [0; WORD + 1];
    match file.read_at(&mut bytes, 0)? {
        0 => Ok(Value::Cells(Vec::new())),
        got => Ok(Value::Cells(bytes[..got].chunks(WORD).map(meaning).collect())),
    }
}

fn attributes(seen: fs::Metadata) -> Value {
    let kind = match seen.file_type() {
        kind if kind.is_dir() => Kind::Directory,
        kind if kind.is_symlink() => Kind::Symlink,
        _ => Kind::File,
    };
    Value::Attributes(Attributes {
        ino: seen.ino(),
        kind,
        links: u32::try_from(seen.nlink()).unwrap_or(u32::MAX),
        mode: seen.mode() & 0o7777,
        size: seen.size(),
        mtime: u64::try_from(seen.mtime()).unwrap_or(0) * 1_000_000_000 + seen.mtime_nsec() as u64,
    })
}
