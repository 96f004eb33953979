//! The store over the client library: no mount in between, and the metadata server knows who still writes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use client::error::errno;
use client::volume::attrs::Changes;
use client::volume::names::Move;
use client::volume::open::CreateOptions;
use client::{Code, Creds, File, Volume};
use parking_lot::Mutex;
use proto::mrc::{Attr, Time, kind};

use super::news::VolumeNews;
use super::{Entry, Kind, Op, Owner, Put, RenameMode, SpoolStore, SpoolWatch, Stat, StoreError};

/// The root directory of every volume.
const ROOT: u64 = proto::id::Ino::ROOT.0;
/// How long a directory's inode is taken from memory. Users may move their directories; exec's own writes then still
/// go to the directory that it looked at, as with an open descriptor.
const REMEMBER: Duration = Duration::from_secs(2);
/// Directories remembered at most.
const REMEMBERED_MAX: usize = 10_000;

/// A volume as a store.
pub struct VolumeStore {
    volume: Arc<Volume>,
    /// Directories by path; order: leaf.
    dirs: Mutex<HashMap<String, (u64, Instant)>>,
    /// Makes names of temporary files unique within the process.
    serial: AtomicU64,
    /// Tells temporary files of this process from those of others on other hosts.
    nonce: u64,
}

type Lib<T> = Result<T, client::Error>;

impl VolumeStore {
    /// The store over `volume`.
    pub fn new(volume: Arc<Volume>) -> Self {
        let nonce = volume.session().id();
        Self { volume, dirs: Mutex::default(), serial: AtomicU64::new(0), nonce }
    }

    fn run<'a, T, F>(&'a self, op: &'static str, path: &'a str, work: F) -> Op<'a, T>
    where
        F: Future<Output = Lib<T>> + Send + 'a,
    {
        Box::pin(async move {
            let result = work.await;
            if result
                .as_ref()
                .is_err_and(|e| matches!(e.code, Code::NotFound | Code::NotDirectory | Code::Stale))
            {
                // A directory may have been moved away or made anew.
                self.dirs.lock().clear();
            }
            result.map_err(|error| {
                let errno = match error.code {
                    // The writer that `only_if_no_writer` asks about.
                    Code::WouldBlock => libc::EBUSY,
                    code => errno(code),
                };
                StoreError::new(op, path, errno)
            })
        })
    }

    /// The inode of a directory, without following links.
    async fn dir(&self, path: &str) -> Lib<u64> {
        if path.is_empty() {
            return Ok(ROOT);
        }
        if let Some((ino, at)) = self.dirs.lock().get(path)
            && at.elapsed() < REMEMBER
        {
            return Ok(*ino);
        }
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = Box::pin(self.dir(above)).await?;
        let attr = self.volume.lookup(&creds(None), parent, name.as_bytes()).await?;
        if kind_of(&attr) != Kind::Directory {
            return Err(client::Error::new(Code::NotDirectory, format!("{path} is not a directory")));
        }
        let mut dirs = self.dirs.lock();
        if dirs.len() >= REMEMBERED_MAX {
            dirs.clear();
        }
        dirs.insert(path.to_string(), (attr.ino, Instant::now()));
        Ok(attr.ino)
    }

    /// The directory that holds `path`, and the name in it.
    async fn parent<'p>(&self, path: &'p str) -> Lib<(u64, &'p str)> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.dir(above).await?, name))
    }

    async fn put_at(&self, parent: u64, name: &str, bytes: &[u8], put: Put) -> Lib<()> {
        let creds = creds(put.owner);
        let options = CreateOptions { mode: put.mode, exclusive: false, write: true };
        let made = self.volume.create(&creds, parent, name.as_bytes(), options).await?;
        let written = async {
            if !made.created && made.attr.size > 0 {
                made.file.truncate(0).await?;
            }
            if !bytes.is_empty() {
                made.file.write_at(0, Bytes::copy_from_slice(bytes)).await?;
            }
            if put.sync { made.file.fsync().await } else { Ok(()) }
        };
        closing(&made.file, written.await).await
    }

    /// Writes a temporary file beside `path` and renames it there.
    async fn put_whole(&self, path: &str, bytes: &[u8], put: Put, flags: u32) -> Lib<()> {
        let (parent, name) = self.parent(path).await?;
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let temporary = format!(".{name}.{:x}.{serial}.tmp", self.nonce);
        let done = async {
            self.put_at(parent, &temporary, bytes, put).await?;
            let what = Move {
                parent,
                name: temporary.as_bytes(),
                new_parent: parent,
                new_name: name.as_bytes(),
                flags,
                only_if_no_writer: false,
            };
            self.volume.rename(&creds(None), what).await?;
            if put.sync { self.volume.sync_metadata(&creds(None)).await } else { Ok(()) }
        };
        let done = done.await;
        if done.is_err() {
            let _ = self.volume.unlink(&creds(None), parent, temporary.as_bytes()).await;
        }
        done
    }

    async fn append_at(&self, path: &str, bytes: &[u8], expected: u64, sync: bool) -> Lib<()> {
        let (parent, name) = self.parent(path).await?;
        let file = if expected == 0 {
            let options = CreateOptions { mode: 0o644, exclusive: false, write: true };
            self.volume.create(&creds(None), parent, name.as_bytes(), options).await?.file
        } else {
            let attr = self.volume.lookup(&creds(None), parent, name.as_bytes()).await?;
            self.volume.open(&creds(None), attr.ino, true).await?
        };
        let written = async {
            let size = file.attr().await?.size;
            if size != expected {
                let text = format!("{path} has {size} bytes, not {expected}");
                return Err(client::Error::new(Code::Stale, text));
            }
            file.write_at(expected, Bytes::copy_from_slice(bytes)).await?;
            if sync { file.fsync().await } else { Ok(()) }
        };
        closing(&file, written.await).await
    }

    async fn read_at_most(&self, path: &str, most: usize) -> Lib<Vec<u8>> {
        let (parent, name) = self.parent(path).await?;
        let attr = self.volume.lookup(&creds(None), parent, name.as_bytes()).await?;
        if kind_of(&attr) != Kind::File {
            return Err(client::Error::new(Code::IsDirectory, format!("{path} is not a regular file")));
        }
        if attr.size > most as u64 {
            return Err(client::Error::new(Code::FileTooLarge, format!("{path} has {} bytes", attr.size)));
        }
        if attr.size == 0 {
            return Ok(Vec::new());
        }
        let file = self.volume.open(&creds(None), attr.ino, false).await?;
        let read = file.read_at(0, most).await;
        closing(&file, read.map(|bytes| bytes.to_vec())).await
    }
}

async fn closing<T>(file: &Arc<File>, outcome: Lib<T>) -> Lib<T> {
    let closed = file.close().await;
    let value = outcome?;
    closed.map(|()| value)
}

/// exec acts for all users; what it makes for a user belongs to the user from the first moment.
fn creds(owner: Option<Owner>) -> Creds {
    owner.map_or_else(|| Creds::checked(0, 0), |owner| Creds::checked(owner.uid, owner.gid))
}

fn kind_of(attr: &Attr) -> Kind {
    match attr.mode & libc::S_IFMT {
        libc::S_IFREG => Kind::File,
        libc::S_IFDIR => Kind::Directory,
        libc::S_IFLNK => Kind::Symlink,
        _ => Kind::Other,
    }
}

fn nanos(time: Time) -> u64 {
    let seconds = u64::try_from(time.seconds).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::from(time.nanos))
}

fn stat_of(attr: &Attr) -> Stat {
    Stat {
        // Never handed out twice within a volume.
        file_id: attr.ino,
        kind: kind_of(attr),
        uid: attr.uid,
        gid: attr.gid,
        mode: attr.mode & 0o7777,
        size: attr.size,
        links: u64::from(attr.nlink),
        mtime_ns: nanos(attr.mtime),
    }
}

impl SpoolStore for VolumeStore {
    fn volume(&self) -> u64 {
        self.volume.id()
    }

    fn watch<'a>(&'a self, dir: &'a str) -> Op<'a, Option<Box<dyn SpoolWatch>>> {
        self.run("watch", dir, async move {
            let ino = self.dir(dir).await?;
            let stream = self.volume.changes(&creds(None), ino, None).await?;
            let news = VolumeNews::new(stream, self.volume.session().id(), dir);
            Ok(Some(Box::new(news) as Box<dyn SpoolWatch>))
        })
    }

    fn list<'a>(&'a self, dir: &'a str, most: usize) -> Op<'a, Vec<Entry>> {
        self.run("list", dir, async move {
            let ino = self.dir(dir).await?;
            let mut out = Vec::new();
            let mut after = 0;
            loop {
                let page = self.volume.readdir(&creds(None), ino, after, 1024, false).await?;
                let done = page.end || page.entries.is_empty();
                for entry in page.entries {
                    after = entry.cookie;
                    let kind = match entry.kind {
                        kind::FILE => Kind::File,
                        kind::DIR => Kind::Directory,
                        kind::SYMLINK => Kind::Symlink,
                        _ => Kind::Other,
                    };
                    out.push(Entry { name: String::from_utf8_lossy(&entry.name).into_owned(), kind });
                }
                if done || out.len() >= most {
                    out.truncate(most);
                    return Ok(out);
                }
            }
        })
    }

    fn stat<'a>(&'a self, path: &'a str) -> Op<'a, Stat> {
        self.run("stat", path, async move {
            let (parent, name) = self.parent(path).await?;
            Ok(stat_of(&self.volume.lookup(&creds(None), parent, name.as_bytes()).await?))
        })
    }

    fn read<'a>(&'a self, path: &'a str, most: usize) -> Op<'a, Vec<u8>> {
        self.run("read", path, self.read_at_most(path, most))
    }

    fn replace<'a>(&'a self, path: &'a str, bytes: &'a [u8], put: Put) -> Op<'a, ()> {
        self.run("replace", path, self.put_whole(path, bytes, put, 0))
    }

    fn write<'a>(&'a self, path: &'a str, bytes: &'a [u8], put: Put) -> Op<'a, ()> {
        self.run("write", path, async move {
            let (parent, name) = self.parent(path).await?;
            self.put_at(parent, name, bytes, put).await
        })
    }

    fn create_once<'a>(&'a self, path: &'a str, bytes: &'a [u8], put: Put) -> Op<'a, bool> {
        self.run("create", path, async move {
            match self.put_whole(path, bytes, put, libc::RENAME_NOREPLACE).await {
                Ok(()) => Ok(true),
                Err(error) if error.code == Code::Exists => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    fn append<'a>(&'a self, path: &'a str, bytes: &'a [u8], expected: u64, sync: bool) -> Op<'a, ()> {
        self.run("append", path, self.append_at(path, bytes, expected, sync))
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str, mode: RenameMode) -> Op<'a, ()> {
        self.run("rename", from, async move {
            let (parent, name) = self.parent(from).await?;
            let (new_parent, new_name) = self.parent(to).await?;
            let flags = if mode == RenameMode::Replace { 0 } else { libc::RENAME_NOREPLACE };
            let what = Move {
                parent,
                name: name.as_bytes(),
                new_parent,
                new_name: new_name.as_bytes(),
                flags,
                only_if_no_writer: mode == RenameMode::NoReplaceIfNoWriter,
            };
            self.volume.rename(&creds(None), what).await?;
            // A directory (a bundle) may be remembered under its old name.
            self.dirs.lock().retain(|path, _| path != from && path != to);
            Ok(())
        })
    }

    fn remove<'a>(&'a self, path: &'a str) -> Op<'a, ()> {
        self.run("remove", path, async move {
            let (parent, name) = self.parent(path).await?;
            self.volume.unlink(&creds(None), parent, name.as_bytes()).await
        })
    }

    fn chmod<'a>(&'a self, path: &'a str, mode: u32) -> Op<'a, ()> {
        self.run("chmod", path, async move {
            let (parent, name) = self.parent(path).await?;
            let attr = self.volume.lookup(&creds(None), parent, name.as_bytes()).await?;
            let changes = Changes { mode: Some(mode), ..Changes::default() };
            self.volume.setattr(&creds(None), attr.ino, changes).await.map(|_| ())
        })
    }

    fn mkdir<'a>(&'a self, path: &'a str, mode: u32, owner: Option<Owner>) -> Op<'a, bool> {
        self.run("mkdir", path, async move {
            let (parent, name) = self.parent(path).await?;
            match self.volume.mkdir(&creds(owner), parent, name.as_bytes(), mode).await {
                Ok(_) => Ok(true),
                Err(error) if error.code == Code::Exists => Ok(false),
                Err(error) => Err(error),
            }
        })
    }
}
