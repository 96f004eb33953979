//! The same operations through the client library.

use std::sync::Arc;

use client::volume::attrs::Changes;
use client::{Code, Creds, Error, Volume};
use proto::mrc::{Attr, RENAME_EXCHANGE, RENAME_NOREPLACE};

use super::tree::TARGET;
use super::{How, Node, Op, PATHS, Snapshot, content};

/// A directory of a volume, as one client sees it.
pub(super) struct Remote {
    volume: Arc<Volume>,
    place: String,
    root: Creds,
}

fn errno(error: &Error) -> i32 {
    match error.code {
        Code::NotFound => libc::ENOENT,
        Code::Exists => libc::EEXIST,
        Code::NotDirectory => libc::ENOTDIR,
        Code::IsDirectory => libc::EISDIR,
        Code::NotEmpty => libc::ENOTEMPTY,
        Code::NotPermitted => libc::EPERM,
        Code::InvalidArgument => libc::EINVAL,
        Code::Loop => libc::ELOOP,
        _ => panic!("an error that no operation here should meet: {error}"),
    }
}

impl Remote {
    pub(super) fn new(volume: Arc<Volume>, place: &str) -> Self {
        Self { volume, place: place.to_owned(), root: Creds::root() }
    }

    pub(super) async fn make_root(&self) {
        self.volume.mkdir_all(&self.root, &self.place, 0o755).await.unwrap();
    }

    fn path(&self, path: usize) -> String {
        format!("{}/{}", self.place, PATHS[path])
    }

    /// Does an operation.
    pub(super) async fn apply(&self, op: &Op) -> Result<(), i32> {
        self.done(op).await.map_err(|error| errno(&error))
    }

    async fn done(&self, op: &Op) -> client::Result<()> {
        let (volume, root) = (&self.volume, &self.root);
        match *op {
            Op::Mkdir(path) => {
                let path = self.path(path);
                let (parent, name) = volume.resolve_parent(root, &path).await?;
                volume.mkdir(root, parent, name, 0o755).await.map(drop)
            }
            Op::Symlink(path) => {
                let path = self.path(path);
                let (parent, name) = volume.resolve_parent(root, &path).await?;
                volume.symlink(root, parent, name, TARGET.as_bytes()).await.map(drop)
            }
            Op::Rmdir(path) => {
                let path = self.path(path);
                let (parent, name) = volume.resolve_parent(root, &path).await?;
                volume.rmdir(root, parent, name).await
            }
            Op::Unlink(path) => {
                let path = self.path(path);
                let (parent, name) = volume.resolve_parent(root, &path).await?;
                volume.unlink(root, parent, name).await
            }
            Op::Link { from, to } => {
                let source = volume.resolve(root, &self.path(from), false).await?;
                let to = self.path(to);
                let (parent, name) = volume.resolve_parent(root, &to).await?;
                volume.link(root, source.ino, parent, name).await.map(drop)
            }
            Op::Rename { from, to, how } => {
                let flags = match how {
                    How::Replace => 0,
                    How::NoReplace => RENAME_NOREPLACE,
                    How::Exchange => RENAME_EXCHANGE,
                };
                volume.rename_path(root, &self.path(from), &self.path(to), flags, false).await
            }
            Op::Create { path, len, byte } => {
                volume.create_exclusive(root, &self.path(path), &content(byte, len), 0o644).await
            }
            Op::Replace { path, len, byte } => {
                volume.write_file_atomic(root, &self.path(path), &content(byte, len), 0o644).await
            }
            Op::Append { path, len, byte } => {
                volume.append(root, &self.path(path), &content(byte, len), 0o644).await
            }
            Op::Chmod { path, mode } => {
                let ino = volume.stat(root, &self.path(path)).await?.ino;
                volume.setattr(root, ino, Changes { mode: Some(mode), ..Changes::default() }).await.map(drop)
            }
            Op::Truncate { path, size } => {
                let ino = volume.stat(root, &self.path(path)).await?.ino;
                volume.setattr(root, ino, Changes { size: Some(size), ..Changes::default() }).await.map(drop)
            }
            Op::Write { .. } | Op::Punch { .. } | Op::Allocate { .. } => self.change_data(op).await,
        }
    }

    async fn change_data(&self, op: &Op) -> client::Result<()> {
        let (Op::Write { path, .. } | Op::Punch { path, .. } | Op::Allocate { path, .. }) = *op else {
            return Ok(());
        };
        let file = self.volume.open_path(&self.root, &self.path(path), true).await?;
        let done = match *op {
            Op::Write { at, len, byte, .. } => file.write_at(at, content(byte, len)).await,
            Op::Punch { at, len, .. } => file.punch(at, len).await,
            Op::Allocate { at, len, keep, .. } => file.allocate(at, len, keep).await,
            _ => Ok(()),
        };
        let closed = file.close().await;
        done.and(closed)
    }

    /// Every node by path, as this client sees it; listings and attributes by inode must agree.
    pub(super) async fn snapshot(&self) -> Result<Snapshot, String> {
        let mut out = Snapshot::new();
        let mut open = vec![(self.place.clone(), String::new())];
        while let Some((directory, prefix)) = open.pop() {
            let entries =
                self.volume.list(&self.root, &directory).await.map_err(|error| error.to_string())?;
            for entry in entries {
                let name = String::from_utf8(entry.name).unwrap();
                let attr = entry.attr.expect("a listing with attributes has them");
                let again =
                    self.volume.getattr(&self.root, attr.ino).await.map_err(|error| error.to_string())?;
                if again != attr {
                    return Err(format!("{prefix}{name}: listed as {attr:?}, but it is {again:?}"));
                }
                let (path, shown) = (format!("{directory}/{name}"), format!("{prefix}{name}"));
                let node = self.node(&path, &attr).await.map_err(|error| error.to_string())?;
                if matches!(node, Node::Directory { .. }) {
                    open.push((path, format!("{shown}/")));
                }
                if out.insert(shown.clone(), node).is_some() {
                    return Err(format!("{shown} was listed twice"));
                }
            }
        }
        Ok(out)
    }

    async fn node(&self, path: &str, attr: &Attr) -> client::Result<Node> {
        let (mode, kind) = (attr.mode & 0o7777, attr.mode & libc::S_IFMT);
        Ok(match kind {
            libc::S_IFDIR => Node::Directory { mode },
            libc::S_IFLNK => {
                let target = self.volume.readlink(&self.root, attr.ino).await?;
                Node::Symlink { target: String::from_utf8(target).unwrap() }
            }
            _ => {
                let content = self.volume.read_file(&self.root, path).await?.to_vec();
                assert_eq!(content.len() as u64, attr.size, "{path}");
                Node::File { mode, links: attr.nlink, content }
            }
        })
    }
}
