//! Names: find, make, remove, move, list.

use proto::error::{Code, WireError};
use proto::limits::{NAME_BYTES_MAX, READDIR_ENTRIES_MAX};
use proto::mrc::{
    Attr, ChangeReply, DirEntry, EntryRequest, InoRequest, Link, LinkRequest, Lookup, MakeRequest, MkDir,
    MkNod, RENAME_EXCHANGE, ReadDir, ReadDirReply, ReadDirRequest, ReadLink, RemoveEntry, Rename,
    RenameRequest, RmDir, Symlink, Unlink,
};
use proto::rpc::Method;

use super::Volume;
use crate::config::Creds;
use crate::error::Result;
use crate::remote::Telling;

/// Handles that the MRC hears of with a removal.
struct Told<'a> {
    volume: &'a Volume,
    count: u32,
    /// Closes of these handles are told after the removal was answered.
    _telling: Option<Telling<'a>>,
}

impl Told<'_> {
    /// When the removal failed, nobody knows whether they were counted: they are told again.
    async fn result<T>(self, result: Result<T>) -> Result<T> {
        if result.is_err() && self.count > 0 {
            self.volume.session().reopen().await?;
        }
        result
    }
}

/// All that an answer tells of inodes.
pub(super) fn all_of<'a>(attr: &'a Attr, changed: &'a [Attr]) -> Vec<&'a Attr> {
    std::iter::once(attr).chain(changed).collect()
}

/// Whether an entry of a directory may be called so; what else is asked for is the MRC's to answer or refuse.
pub(super) fn is_plain(name: &[u8]) -> bool {
    name != b"." && name != b".." && (1..=NAME_BYTES_MAX).contains(&name.len())
}

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
        let (dir, plain) = (self.key(parent), is_plain(name));
        if let Some(kept) = self.kept_name(creds, parent, name) {
            return kept;
        }
        let request = EntryRequest { head: self.head(creds), parent, name: name.to_vec() };
        let asked = self.leasing().ask();
        let reply = self.session().call::<Lookup>(&request).await;
        if plain && reply.as_ref().is_err_and(|error| error.code == Code::NotFound) {
            asked.learn_absent(dir, name);
        }
        let reply = reply?;
        asked.learn(self.id(), &reply.leases, [&reply.attr]);
        if plain {
            asked.learn_name(dir, name, Some(reply.attr.ino), &reply.leases);
        } else if name == b".." {
            asked.learn_parent(dir, reply.attr.ino, &reply.leases);
        }
        let shown = self.shown(reply.attr);
        // Not before: what was told meanwhile is measured against it.
        drop(asked);
        self.looked_up(creds, parent);
        Ok(shown)
    }

    /// What a name means, if that may be answered without a call.
    pub(super) fn kept_name(&self, creds: &Creds, parent: u64, name: &[u8]) -> Option<Result<Attr>> {
        if !creds.may_use_kept() || !is_plain(name) {
            return None;
        }
        let _asked = self.leasing().ask();
        let kept = self.leasing().name(self.key(parent), name)?;
        Some(match kept {
            Some(attr) => Ok(self.shown(attr)),
            None => Err(WireError::new(
                Code::NotFound,
                format!("no {:?} in ino-{parent}", String::from_utf8_lossy(name)),
            )),
        })
    }

    /// Makes a directory with `mode`, less [`Creds::umask`].
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
        self.must_be_present()?;
        let head = self.head(creds);
        let mut changing = self.leasing().change(self.id(), vec![(what.parent, Some(what.name.clone()))]);
        let make = |origin| MakeRequest { head, origin, umask: creds.umask, ..what };
        let reply = self.session().mutate::<M>(make).await?;
        changing.done(&reply.leases, &all_of(&reply.attr, &reply.changed), &[Some(reply.attr.ino)]);
        Ok(reply.attr)
    }

    /// A symlink's target.
    pub async fn readlink(&self, creds: &Creds, ino: u64) -> Result<Vec<u8>> {
        if let Some(target) = self.leasing().target(self.key(ino)) {
            return Ok(target);
        }
        let request = InoRequest { head: self.head(creds), ino };
        let asked = self.leasing().ask();
        let reply = self.session().call::<ReadLink>(&request).await?;
        asked.learn_target(self.key(ino), &reply.target);
        Ok(reply.target)
    }

    /// Another name for a file.
    pub async fn link(&self, creds: &Creds, ino: u64, parent: u64, name: &[u8]) -> Result<Attr> {
        self.must_be_present()?;
        let (head, name) = (self.head(creds), name.to_vec());
        let mut changing = self.leasing().change(self.id(), vec![(ino, None), (parent, Some(name.clone()))]);
        let make = |origin| LinkRequest { head, origin, ino, parent, name };
        let reply = self.session().mutate::<Link>(make).await?;
        changing.done(&reply.leases, &all_of(&reply.attr, &reply.changed), &[Some(ino)]);
        Ok(self.shown(reply.attr))
    }

    /// Removes a name of anything but a directory.
    pub async fn unlink(&self, creds: &Creds, parent: u64, name: &[u8]) -> Result<()> {
        self.remove_name::<Unlink>(creds, parent, name).await
    }

    /// Removes an empty directory.
    pub async fn rmdir(&self, creds: &Creds, parent: u64, name: &[u8]) -> Result<()> {
        self.remove_name::<RmDir>(creds, parent, name).await
    }

    async fn remove_name<M>(&self, creds: &Creds, parent: u64, name: &[u8]) -> Result<()>
    where
        M: Method<Request = RemoveEntry, Reply = ChangeReply>,
    {
        self.must_be_present()?;
        let (head, name) = (self.head(creds), name.to_vec());
        let victim = self.leasing().named(self.key(parent), &name);
        let mut what = vec![(parent, Some(name.clone()))];
        what.extend(victim.map(|ino| (ino, None)));
        let told = self.tell_victim(victim);
        let (victim, untold_handles) = (victim.unwrap_or(0), told.count);
        let mut changing = self.leasing().change(self.id(), what);
        let make = |origin| RemoveEntry { head, origin, parent, name, victim, untold_handles };
        let reply = told.result(self.session().removing(self.session().mutate::<M>(make)).await).await?;
        changing.done(&[], &reply.changed.iter().collect::<Vec<_>>(), &[None]);
        self.leasing().freed(self.id(), reply.freed);
        Ok(())
    }

    /// The MRC is about to hear of all handles of an inode that loses a name.
    fn tell_victim(&self, victim: Option<u64>) -> Told<'_> {
        let Some(ino) = victim else { return Told { volume: self, count: 0, _telling: None } };
        let ((reading, writing), telling) = self.session().tell((self.id(), ino));
        Told { volume: self, count: reading + writing, _telling: Some(telling) }
    }

    /// Moves a name, atomically.
    pub async fn rename(&self, creds: &Creds, what: Move<'_>) -> Result<()> {
        self.must_be_present()?;
        let head = self.head(creds);
        let moved = self.inode_to_move(creds, &what).await;
        let replaced = self.leasing().named(self.key(what.new_parent), what.new_name);
        let exchange = what.flags & RENAME_EXCHANGE != 0;
        let mut touched =
            vec![(what.parent, Some(what.name.to_vec())), (what.new_parent, Some(what.new_name.to_vec()))];
        touched.extend(moved.into_iter().chain(replaced).map(|ino| (ino, None)));
        let told = self.tell_victim(replaced.filter(|_| !exchange));
        let untold_handles = told.count;
        let make = |origin| RenameRequest {
            head,
            origin,
            parent: what.parent,
            name: what.name.to_vec(),
            new_parent: what.new_parent,
            new_name: what.new_name.to_vec(),
            flags: what.flags,
            only_if_no_writer: what.only_if_no_writer,
            victim: replaced.unwrap_or(0),
            untold_handles,
        };
        let mut changing = self.leasing().change(self.id(), touched);
        let reply = told.result(self.session().removing(self.session().mutate::<Rename>(make)).await).await?;
        match (changing.before(0), changing.before(1)) {
            // In the order of `touched`. Two names of one file both stay: rename(2) does nothing then.
            (Some(Some(moved)), Some(to)) if !exchange && to != Some(moved) => {
                changing.done(&[], &reply.changed.iter().collect::<Vec<_>>(), &[None, Some(moved)]);
            }
            _ => drop(changing),
        }
        self.leasing().freed(self.id(), reply.freed);
        Ok(())
    }

    /// The inode that is moved: its time changes, and what is kept of it must go. Asked for when it is not known and
    /// something is kept at all.
    async fn inode_to_move(&self, creds: &Creds, what: &Move<'_>) -> Option<u64> {
        let known = self.leasing().named(self.key(what.parent), what.name);
        if known.is_some() || self.leasing().held() == 0 {
            return known;
        }
        self.lookup(creds, what.parent, what.name).await.ok().map(|attr| attr.ino)
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
        if creds.may_use_kept() && !self.is_past() {
            if self.leasing().awaits_order(self.key(ino)) {
                self.session().creates().told().await;
            }
            let _asked = self.leasing().ask();
            if let Some(page) = self.leasing().page(self.key(ino), after, limit as usize, with_attrs) {
                return Ok(self.shown_page(page));
            }
        }
        let request = ReadDirRequest { head: self.head(creds), ino, after, limit, with_attrs };
        let asked = self.leasing().ask();
        let page = self.session().call::<ReadDir>(&request).await?;
        asked.learn(self.id(), &page.leases, page.entries.iter().filter_map(|entry| entry.attr.as_ref()));
        asked.learn_page(self.key(ino), after, &page);
        let shown = self.shown_page(page);
        drop(asked);
        Ok(shown)
    }

    /// With the sizes of files that are being written here.
    fn shown_page(&self, mut page: ReadDirReply) -> ReadDirReply {
        for entry in &mut page.entries {
            entry.attr = entry.attr.take().map(|attr| self.shown(attr));
        }
        page
    }

    /// Where `..` of a directory leads.
    pub(crate) async fn parent_of(&self, creds: &Creds, ino: u64) -> Result<u64> {
        if creds.may_use_kept()
            && !self.is_past()
            && let Some(parent) = self.leasing().parent(self.key(ino))
        {
            return Ok(parent);
        }
        self.lookup(creds, ino, b"..").await.map(|attr| attr.ino)
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
