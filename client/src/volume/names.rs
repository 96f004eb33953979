//! Names: find, make, remove, move, list.

use proto::limits::READDIR_ENTRIES_MAX;
use proto::mrc::{
    Attr, DirEntry, EntryRequest, InoRequest, Link, LinkRequest, Lookup, MakeRequest, MkDir, MkNod, ReadDir,
    ReadDirReply, ReadDirRequest, ReadLink, RemoveEntry, Rename, RenameRequest, RmDir, Symlink, Unlink,
};
use proto::rpc::Method;

use super::Volume;
use crate::config::Creds;
use crate::error::Result;

/// A move, as rename2(2) and the spool want it.
#[derive(Debug, Clone, Copy)]
pub struct Move<'a> {
    /// From directory.
    pub parent: u64,
    /// From name.
    pub name: &'a [u8],
    /// To directory.
    pub new_parent: u64,
    /// To name.
    pub new_name: &'a [u8],
    /// `RENAME_NOREPLACE`, `RENAME_EXCHANGE` or 0.
    pub flags: u32,
    /// Refuse with `WouldBlock` while anybody has the moved file open for writing.
    pub only_if_no_writer: bool,
}

impl Volume {
    /// Finds a name in a directory.
    pub async fn lookup(&self, creds: &Creds, parent: u64, name: &[u8]) -> Result<Attr> {
        let request = EntryRequest { head: self.head(creds), parent, name: name.to_vec() };
        let reply = self.session().call::<Lookup>(&request).await?;
        Ok(self.shown(reply.attr))
    }

    /// Makes a directory; the umask has been applied to `mode`.
    pub async fn mkdir(&self, creds: &Creds, parent: u64, name: &[u8], mode: u32) -> Result<Attr> {
        let mode = libc::S_IFDIR | (mode & 0o7777);
        self.make::<MkDir>(creds, MakeRequest { parent, name: name.to_vec(), mode, ..MakeRequest::default() })
            .await
    }

    /// Makes a file, fifo, socket or device node without opening it.
    pub async fn mknod(&self, creds: &Creds, parent: u64, name: &[u8], mode: u32, rdev: u32) -> Result<Attr> {
        let make = MakeRequest { parent, name: name.to_vec(), mode, rdev, ..MakeRequest::default() };
        self.make::<MkNod>(creds, make).await
    }

    /// Makes a symlink.
    pub async fn symlink(&self, creds: &Creds, parent: u64, name: &[u8], target: &[u8]) -> Result<Attr> {
        let (name, target) = (name.to_vec(), target.to_vec());
        let mode = libc::S_IFLNK | 0o777;
        self.make::<Symlink>(creds, MakeRequest { parent, name, mode, target, ..MakeRequest::default() })
            .await
    }

    async fn make<M>(&self, creds: &Creds, what: MakeRequest) -> Result<Attr>
    where
        M: Method<Request = MakeRequest, Reply = proto::mrc::AttrReply>,
    {
        let head = self.head(creds);
        let reply = self.session().mutate::<M>(|origin| MakeRequest { head, origin, ..what }).await?;
        Ok(reply.attr)
    }

    /// A symlink's target.
    pub async fn readlink(&self, creds: &Creds, ino: u64) -> Result<Vec<u8>> {
        let request = InoRequest { head: self.head(creds), ino };
        Ok(self.session().call::<ReadLink>(&request).await?.target)
    }

    /// Another name for a file.
    pub async fn link(&self, creds: &Creds, ino: u64, parent: u64, name: &[u8]) -> Result<Attr> {
        let (head, name) = (self.head(creds), name.to_vec());
        let reply =
            self.session().mutate::<Link>(|origin| LinkRequest { head, origin, ino, parent, name }).await?;
        Ok(self.shown(reply.attr))
    }

    /// Removes a name of anything but a directory.
    pub async fn unlink(&self, creds: &Creds, parent: u64, name: &[u8]) -> Result<()> {
        let (head, name) = (self.head(creds), name.to_vec());
        self.session()
            .mutate::<Unlink>(|origin| RemoveEntry { head, origin, parent, name, ..RemoveEntry::default() })
            .await
            .map(|_| ())
    }

    /// Removes an empty directory.
    pub async fn rmdir(&self, creds: &Creds, parent: u64, name: &[u8]) -> Result<()> {
        let (head, name) = (self.head(creds), name.to_vec());
        self.session()
            .mutate::<RmDir>(|origin| RemoveEntry { head, origin, parent, name, ..RemoveEntry::default() })
            .await
            .map(|_| ())
    }

    /// Moves a name, atomically.
    pub async fn rename(&self, creds: &Creds, what: Move<'_>) -> Result<()> {
        let head = self.head(creds);
        let make = |origin| RenameRequest {
            head,
            origin,
            parent: what.parent,
            name: what.name.to_vec(),
            new_parent: what.new_parent,
            new_name: what.new_name.to_vec(),
            flags: what.flags,
            only_if_no_writer: what.only_if_no_writer,
            ..RenameRequest::default()
        };
        self.session().mutate::<Rename>(make).await.map(|_| ())
    }

    /// A page of a directory after the entry with cookie `after` (0: from the start). `.` and `..` are not in it.
    pub async fn readdir(
        &self,
        creds: &Creds,
        ino: u64,
        after: u64,
        limit: u32,
        with_attrs: bool,
    ) -> Result<ReadDirReply> {
        let limit = limit.clamp(1, READDIR_ENTRIES_MAX);
        let request = ReadDirRequest { head: self.head(creds), ino, after, limit, with_attrs };
        let mut page = self.session().call::<ReadDir>(&request).await?;
        for entry in &mut page.entries {
            if let Some(attr) = entry.attr.take() {
                entry.attr = Some(self.shown(attr));
            }
        }
        Ok(page)
    }

    /// All entries of a directory.
    pub async fn entries(&self, creds: &Creds, ino: u64, with_attrs: bool) -> Result<Vec<DirEntry>> {
        let mut all: Vec<DirEntry> = Vec::new();
        loop {
            let after = all.last().map_or(0, |entry| entry.cookie);
            let page = self.readdir(creds, ino, after, 1024, with_attrs).await?;
            let done = page.end || page.entries.is_empty();
            all.extend(page.entries);
            if done {
                return Ok(all);
            }
        }
    }
}
