//! The model: a tree in memory, with errors in Linux's order.

use std::collections::BTreeMap;

use super::{How, Node, Op, PATHS, Snapshot, content};

/// Where every symlink leads: nowhere.
pub(super) const TARGET: &str = "no-such-name";

/// The root's number.
const ROOT: usize = 0;

enum Body {
    Directory,
    File(Vec<u8>),
    Symlink,
}

struct Inode {
    body: Body,
    mode: u32,
}

/// A tree.
pub(super) struct Tree {
    inodes: Vec<Inode>,
    entries: BTreeMap<(usize, &'static str), usize>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { inodes: vec![Inode { body: Body::Directory, mode: 0o755 }], entries: BTreeMap::new() }
    }
}

type Place = (usize, &'static str);

impl Tree {
    fn is_directory(&self, inode: usize) -> bool {
        matches!(self.inodes[inode].body, Body::Directory)
    }

    /// The directory and the last name of a path.
    fn place(&self, path: usize) -> Result<Place, i32> {
        let Some((before, last)) = PATHS[path].split_once('/') else { return Ok((ROOT, PATHS[path])) };
        let directory = *self.entries.get(&(ROOT, before)).ok_or(libc::ENOENT)?;
        match self.inodes[directory].body {
            Body::Directory => Ok((directory, last)),
            Body::File(_) => Err(libc::ENOTDIR),
            // A walk follows it.
            Body::Symlink => Err(libc::ENOENT),
        }
    }

    fn find(&self, path: usize) -> Result<usize, i32> {
        self.entries.get(&self.place(path)?).copied().ok_or(libc::ENOENT)
    }

    /// The file that opening a path for writing gives.
    fn open(&mut self, path: usize) -> Result<&mut Vec<u8>, i32> {
        let inode = self.find(path)?;
        match &mut self.inodes[inode].body {
            Body::Directory => Err(libc::EISDIR),
            Body::Symlink => Err(libc::ENOENT),
            Body::File(bytes) => Ok(bytes),
        }
    }

    fn make(&mut self, path: usize, body: Body, mode: u32) -> Result<(), i32> {
        let place = self.place(path)?;
        if self.entries.contains_key(&place) {
            return Err(libc::EEXIST);
        }
        self.inodes.push(Inode { body, mode });
        self.entries.insert(place, self.inodes.len() - 1);
        Ok(())
    }

    fn is_empty(&self, directory: usize) -> bool {
        !self.entries.keys().any(|(parent, _)| *parent == directory)
    }

    fn is_above(&self, inode: usize, directory: usize) -> bool {
        let mut at = directory;
        while at != inode {
            match self.entries.iter().find(|(_, child)| **child == at) {
                Some(((parent, _), _)) => at = *parent,
                None => return false,
            }
        }
        true
    }

    /// Does an operation.
    pub(super) fn apply(&mut self, op: &Op) -> Result<(), i32> {
        match *op {
            Op::Mkdir(path) => self.make(path, Body::Directory, 0o755),
            Op::Symlink(path) => self.make(path, Body::Symlink, 0o777),
            Op::Create { path, len, byte } => self.make(path, Body::File(content(byte, len)), 0o644),
            Op::Rmdir(path) => {
                let (place, inode) = (self.place(path)?, self.find(path)?);
                if !self.is_directory(inode) {
                    return Err(libc::ENOTDIR);
                }
                if !self.is_empty(inode) {
                    return Err(libc::ENOTEMPTY);
                }
                self.entries.remove(&place);
                Ok(())
            }
            Op::Unlink(path) => {
                let (place, inode) = (self.place(path)?, self.find(path)?);
                if self.is_directory(inode) {
                    return Err(libc::EISDIR);
                }
                self.entries.remove(&place);
                Ok(())
            }
            Op::Link { from, to } => {
                let inode = self.find(from)?;
                let place = self.place(to)?;
                if self.entries.contains_key(&place) {
                    return Err(libc::EEXIST);
                }
                if self.is_directory(inode) {
                    return Err(libc::EPERM);
                }
                self.entries.insert(place, inode);
                Ok(())
            }
            Op::Chmod { path, mode } => {
                let inode = self.find(path)?;
                if matches!(self.inodes[inode].body, Body::Symlink) {
                    return Err(libc::ENOENT);
                }
                self.inodes[inode].mode = mode;
                Ok(())
            }
            Op::Rename { from, to, how } => self.rename(from, to, how),
            Op::Replace { path, len, byte } => {
                let place = self.place(path)?;
                if self.find(path).is_ok_and(|inode| self.is_directory(inode)) {
                    return Err(libc::EISDIR);
                }
                self.inodes.push(Inode { body: Body::File(content(byte, len)), mode: 0o644 });
                self.entries.insert(place, self.inodes.len() - 1);
                Ok(())
            }
            _ => self.change_data(op),
        }
    }

    fn change_data(&mut self, op: &Op) -> Result<(), i32> {
        match *op {
            Op::Write { path, at, len, byte } => {
                let (bytes, at) = (self.open(path)?, at as usize);
                if len > 0 {
                    bytes.resize(bytes.len().max(at + len), 0);
                    bytes[at..at + len].copy_from_slice(&content(byte, len));
                }
            }
            Op::Append { path, len, byte } => {
                if self.find(path) == Err(libc::ENOENT) && self.place(path).is_ok() {
                    return self.make(path, Body::File(content(byte, len)), 0o644);
                }
                let inode = self.find(path)?;
                match &mut self.inodes[inode].body {
                    Body::Directory => return Err(libc::EISDIR),
                    // It is created or opened, never what it leads to.
                    Body::Symlink => return Err(libc::ELOOP),
                    Body::File(bytes) => bytes.extend(content(byte, len)),
                }
            }
            Op::Truncate { path, size } => self.open(path)?.resize(size as usize, 0),
            Op::Punch { path, at, len } => {
                let bytes = self.open(path)?;
                let (from, to) = ((at as usize).min(bytes.len()), ((at + len) as usize).min(bytes.len()));
                bytes[from..to].fill(0);
            }
            Op::Allocate { path, at, len, keep } => {
                let bytes = self.open(path)?;
                if !keep {
                    bytes.resize(bytes.len().max((at + len) as usize), 0);
                }
            }
            _ => unreachable!("the others are names"),
        }
        Ok(())
    }

    fn rename(&mut self, from: usize, to: usize, how: How) -> Result<(), i32> {
        let (from, to) = (self.place(from)?, self.place(to)?);
        let source = *self.entries.get(&from).ok_or(libc::ENOENT)?;
        let target = self.entries.get(&to).copied();
        match how {
            How::NoReplace if target.is_some() => return Err(libc::EEXIST),
            How::Exchange if target.is_none() => return Err(libc::ENOENT),
            _ => {}
        }
        if self.is_directory(source) && self.is_above(source, to.0) {
            return Err(libc::EINVAL);
        }
        let Some(target) = target else {
            self.entries.remove(&from);
            self.entries.insert(to, source);
            return Ok(());
        };
        if self.is_directory(target) && self.is_above(target, from.0) {
            return Err(if how == How::Exchange { libc::EINVAL } else { libc::ENOTEMPTY });
        }
        if source == target {
            return Ok(());
        }
        if how == How::Exchange {
            self.entries.insert(from, target);
            self.entries.insert(to, source);
            return Ok(());
        }
        match (self.is_directory(source), self.is_directory(target)) {
            (true, false) => return Err(libc::ENOTDIR),
            (false, true) => return Err(libc::EISDIR),
            (true, true) if !self.is_empty(target) => return Err(libc::ENOTEMPTY),
            _ => {}
        }
        self.entries.remove(&from);
        self.entries.insert(to, source);
        Ok(())
    }

    /// Every node by path.
    pub(super) fn snapshot(&self) -> Snapshot {
        let mut out = Snapshot::new();
        self.visit(ROOT, "", &mut out);
        out
    }

    fn visit(&self, directory: usize, prefix: &str, out: &mut Snapshot) {
        for ((parent, name), inode) in &self.entries {
            if *parent != directory {
                continue;
            }
            let path = format!("{prefix}{name}");
            let Inode { body, mode } = &self.inodes[*inode];
            let node = match body {
                Body::Directory => Node::Directory { mode: *mode },
                Body::Symlink => Node::Symlink { target: TARGET.into() },
                Body::File(bytes) => {
                    let links = self.entries.values().filter(|one| *one == inode).count() as u32;
                    Node::File { mode: *mode, links, content: bytes.clone() }
                }
            };
            out.insert(path.clone(), node);
            if self.is_directory(*inode) {
                self.visit(*inode, &format!("{path}/"), out);
            }
        }
    }
}
