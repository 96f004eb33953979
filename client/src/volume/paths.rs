//! The volume by paths, for services that keep their state in files. Paths start at the root, with or without `/`.

use std::sync::Arc;

use bytes::Bytes;
use proto::error::{Code, WireError};
use proto::limits::FILE_BYTES_MAX;
use proto::mrc::{Attr, DirEntry, RENAME_NOREPLACE, Walk, WalkRequest, kind};

use super::Volume;
use super::names::Move;
use super::open::CreateOptions;
use crate::config::Creds;
use crate::error::Result;
use crate::file::File;

/// Symlinks followed in one path (as Linux does).
const SYMLINKS_MAX: u32 = 40;
/// Inode of the root.
const ROOT: u64 = 1;

/// Non-empty names of a path.
fn names(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty() && *name != ".")
}

fn is_kind(attr: &Attr, wanted: u32) -> bool {
    attr.mode >> 12 == wanted
}

/// Adds the path to what went wrong.
fn at(path: &str, error: WireError) -> WireError {
    WireError { text: format!("{path}: {}", error.text), ..error }
}

impl Volume {
    /// Attributes of what a path leads to; symlinks are followed, at the end only with `follow`.
    pub async fn resolve(&self, creds: &Creds, path: &str, follow: bool) -> Result<Attr> {
        self.walk(creds, path, follow).await.map_err(|error| at(path, error))
    }

    async fn walk(&self, creds: &Creds, path: &str, follow: bool) -> Result<Attr> {
        // Names still to be resolved, the next one last.
        let mut left: Vec<Vec<u8>> = names(path).rev().map(|name| name.as_bytes().to_vec()).collect();
        let mut here = self.getattr_root(creds, left.is_empty()).await?;
        let mut links = 0;
        while !left.is_empty() {
            let parent = here.ino;
            let mut found = self.walk_on(creds, parent, &left).await?;
            if found.is_empty() {
                let name = left.last().expect("not empty").clone();
                found.push(self.lookup(creds, parent, &name).await?);
            }
            left.truncate(left.len().saturating_sub(found.len()));
            let holder = found.len().checked_sub(2).map_or(here, |before| found[before].clone());
            here = found.pop().expect("not empty");
            if is_kind(&here, kind::SYMLINK) && (follow || !left.is_empty()) {
                links += 1;
                if links > SYMLINKS_MAX {
                    return Err(WireError::new(Code::Loop, format!("more than {SYMLINKS_MAX} symlinks")));
                }
                let target = self.readlink(creds, here.ino).await?;
                let from_root = target.first() == Some(&b'/');
                let pieces = target.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
                left.extend(pieces.rev().map(<[u8]>::to_vec));
                here = if from_root { self.getattr_root(creds, left.is_empty()).await? } else { holder };
            } else if !left.is_empty() && !is_kind(&here, kind::DIR) {
                return Err(WireError::new(
                    Code::NotDirectory,
                    format!("ino-{} is not a directory", here.ino),
                ));
            }
        }
        Ok(self.shown(here))
    }

    /// Attributes of the first names of `left` (the next one last), from what is kept or by a call.
    async fn walk_on(&self, creds: &Creds, parent: u64, left: &[Vec<u8>]) -> Result<Vec<Attr>> {
        let next = left.last().expect("not empty");
        if let Some(kept) = self.kept_name(creds, parent, next) {
            return kept.map(|attr| vec![attr]);
        }
        let names: Vec<Vec<u8>> = left.iter().rev().cloned().collect();
        let request = WalkRequest { head: self.head(creds), parent, names };
        let asked = self.leasing().ask();
        let reply = self.session().call::<Walk>(&request).await?;
        asked.learn(self.id(), &reply.leases, &reply.attrs);
        let mut dir = parent;
        for (name, attr) in request.names.iter().zip(&reply.attrs) {
            if name != b".." {
                asked.learn_name(self.key(dir), name, Some(attr.ino), &reply.leases);
            }
            dir = attr.ino;
        }
        Ok(reply.attrs)
    }

    /// The root; only its number when its attributes are not wanted.
    async fn getattr_root(&self, creds: &Creds, attrs: bool) -> Result<Attr> {
        if attrs {
            return self.getattr(creds, ROOT).await;
        }
        Ok(Attr { ino: ROOT, mode: libc::S_IFDIR, ..Attr::default() })
    }

    /// The directory that a path's last name is in, and that name.
    pub async fn resolve_parent<'a>(&self, creds: &Creds, path: &'a str) -> Result<(u64, &'a [u8])> {
        let trimmed = path.trim_end_matches('/');
        let (parent, name) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
        if name.is_empty() || name == "." || name == ".." {
            return Err(WireError::new(Code::InvalidArgument, format!("{path:?} does not end in a name")));
        }
        let attr = self.resolve(creds, parent, true).await?;
        if !is_kind(&attr, kind::DIR) {
            return Err(WireError::new(Code::NotDirectory, format!("{parent} is not a directory")));
        }
        Ok((attr.ino, name.as_bytes()))
    }

    /// Attributes of what a path leads to.
    pub async fn stat(&self, creds: &Creds, path: &str) -> Result<Attr> {
        self.resolve(creds, path, true).await
    }

    /// Opens a file.
    pub async fn open_path(&self, creds: &Creds, path: &str, write: bool) -> Result<Arc<File>> {
        let attr = self.resolve(creds, path, true).await?;
        if is_kind(&attr, kind::DIR) {
            return Err(WireError::new(Code::IsDirectory, format!("{path} is a directory")));
        }
        self.open(creds, attr.ino, write).await.map_err(|error| at(path, error))
    }

    /// The whole content of a file.
    pub async fn read_file(&self, creds: &Creds, path: &str) -> Result<Bytes> {
        let file = self.open_path(creds, path, false).await?;
        let size = usize::try_from(file.size().min(FILE_BYTES_MAX)).unwrap_or(usize::MAX);
        let data = file.read_at(0, size).await.map_err(|error| at(path, error));
        let closed = file.close().await;
        let data = data?;
        closed?;
        Ok(data)
    }

    /// Replaces a file's content: whoever reads it sees the old or the new one, also after a crash.
    pub async fn write_file_atomic(&self, creds: &Creds, path: &str, data: &[u8], mode: u32) -> Result<()> {
        let (parent, name) = self.resolve_parent(creds, path).await?;
        let temporary = self.temporary_name(name);
        self.make_file(creds, parent, &temporary, data, mode, true).await.map_err(|error| at(path, error))?;
        let what = Move {
            parent,
            name: &temporary,
            new_parent: parent,
            new_name: name,
            flags: 0,
            only_if_no_writer: false,
        };
        if let Err(error) = self.rename(creds, what).await {
            let _ = self.unlink(creds, parent, &temporary).await;
            return Err(at(path, error));
        }
        Ok(())
    }

    /// A hidden name that nobody else uses, short enough for any `name`.
    fn temporary_name(&self, name: &[u8]) -> Vec<u8> {
        let now = self.client().now();
        let unique = format!(".{:x}.{:x}.tmp", self.session().id(), now.as_nanos());
        let kept = &name[..name.len().min(255 - 1 - unique.len())];
        [b".", kept, unique.as_bytes()].concat()
    }

    /// Makes a file that must not exist, with this content. On an error it is not there.
    pub async fn create_exclusive(&self, creds: &Creds, path: &str, data: &[u8], mode: u32) -> Result<()> {
        let (parent, name) = self.resolve_parent(creds, path).await?;
        self.make_file(creds, parent, name, data, mode, false).await.map_err(|error| at(path, error))
    }

    async fn make_file(
        &self,
        creds: &Creds,
        parent: u64,
        name: &[u8],
        data: &[u8],
        mode: u32,
        sync: bool,
    ) -> Result<()> {
        let options = CreateOptions { mode, exclusive: true, write: true };
        let made = self.create(creds, parent, name, options).await?;
        let written = async {
            made.file.write_at(0, Bytes::copy_from_slice(data)).await?;
            if sync { made.file.fsync().await } else { Ok(()) }
        };
        let outcome = written.await;
        let closed = made.file.close().await;
        let outcome = outcome.and(closed);
        if outcome.is_err() {
            let _ = self.unlink(creds, parent, name).await;
        }
        outcome
    }

    /// Appends to a file, which is made when missing, and syncs it.
    pub async fn append(&self, creds: &Creds, path: &str, data: &[u8], mode: u32) -> Result<()> {
        let (parent, name) = self.resolve_parent(creds, path).await?;
        let options = CreateOptions { mode, exclusive: false, write: true };
        let made = self.create_with(creds, parent, name, options, true).await;
        let made = made.map_err(|error| at(path, error))?;
        let written = async {
            made.file.append(Bytes::copy_from_slice(data)).await?;
            made.file.fsync().await
        };
        let outcome = written.await;
        let closed = made.file.close().await;
        outcome.and(closed).map_err(|error| at(path, error))
    }

    /// Entries of a directory, with attributes.
    pub async fn list(&self, creds: &Creds, path: &str) -> Result<Vec<DirEntry>> {
        let attr = self.resolve(creds, path, true).await?;
        self.entries(creds, attr.ino, true).await.map_err(|error| at(path, error))
    }

    /// Makes a directory and those above it; what exists already stays as it is.
    pub async fn mkdir_all(&self, creds: &Creds, path: &str, mode: u32) -> Result<Attr> {
        let mut here = match self.resolve(creds, path, true).await {
            Ok(attr) => return Ok(attr),
            Err(error) if error.code == Code::NotFound => self.getattr(creds, ROOT).await?,
            Err(error) => return Err(error),
        };
        let mut so_far = String::new();
        for name in names(path) {
            so_far.push('/');
            so_far.push_str(name);
            here = match self.mkdir(creds, here.ino, name.as_bytes(), mode).await {
                Ok(attr) => attr,
                Err(error) if error.code == Code::Exists => self.resolve(creds, &so_far, true).await?,
                Err(error) => return Err(at(path, error)),
            };
        }
        Ok(here)
    }

    /// Removes a file, symlink or empty directory.
    pub async fn remove(&self, creds: &Creds, path: &str) -> Result<()> {
        let (parent, name) = self.resolve_parent(creds, path).await?;
        let removed = match self.unlink(creds, parent, name).await {
            Err(error) if error.code == Code::IsDirectory => self.rmdir(creds, parent, name).await,
            other => other,
        };
        removed.map_err(|error| at(path, error))
    }

    /// Moves a file or directory; refuses when the new name exists.
    pub async fn rename_noreplace(&self, creds: &Creds, from: &str, to: &str) -> Result<()> {
        self.rename_path(creds, from, to, RENAME_NOREPLACE, false).await
    }

    /// Moves a file or directory. Flags and `only_if_no_writer` as in [`Move`].
    pub async fn rename_path(
        &self,
        creds: &Creds,
        from: &str,
        to: &str,
        flags: u32,
        only_if_no_writer: bool,
    ) -> Result<()> {
        let (parent, name) = self.resolve_parent(creds, from).await?;
        let (new_parent, new_name) = self.resolve_parent(creds, to).await?;
        let what = Move { parent, name, new_parent, new_name, flags, only_if_no_writer };
        self.rename(creds, what).await.map_err(|error| at(from, error))
    }
}
