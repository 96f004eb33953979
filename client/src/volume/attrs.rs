//! Attributes, extended attributes, totals, permission checks, locks, metadata sync.

use std::sync::Arc;

use proto::error::{Code, WireError};
use proto::find::{Find, FindReply, FindRequest};
use proto::mrc::{
    Access, AccessRequest, Attr, GetAttr, GetLayout, GetXattr, GetXattrRequest, InoRequest, LayoutReply,
    ListXattr, LockReply, LockRequest, MetadataSync, SetAttr, SetAttrRequest, SetXattr, SetXattrRequest,
    StatFs, StatFsReply, SyncMetadata, Time,
};
use proto::usage::{Usage, UsageReply};

use super::Volume;
use super::inode::kept::Setting;
use crate::config::Creds;
use crate::engine::kept;
use crate::error::Result;
use crate::stage::Stage;

/// What to change; absent fields stay.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Changes {
    /// Permission bits (07777).
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<NewTime>,
    /// Modification time.
    pub mtime: Option<NewTime>,
    /// Inode flags.
    pub flags: Option<u32>,
    /// Setuid and setgid go (the kernel asks for it).
    pub clear_setid: bool,
}

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewTime {
    /// The MRC's now.
    Now,
    /// This one.
    At(Time),
}

impl NewTime {
    fn parts(time: Option<Self>) -> (Option<Time>, bool) {
        match time {
            None => (None, false),
            Some(Self::Now) => (None, true),
            Some(Self::At(time)) => (Some(time), false),
        }
    }
}

impl Volume {
    /// Attributes, with what this client has written and not yet reported.
    pub async fn getattr(&self, creds: &Creds, ino: u64) -> Result<Attr> {
        let asked = self.leasing().ask();
        if let Some(attr) = self.leasing().attr(self.key(ino)) {
            return Ok(self.shown(attr));
        }
        let request = InoRequest { head: self.head(creds), ino };
        let reply = self.session().call::<GetAttr>(&request).await?;
        asked.learn(self.id(), &reply.leases, [&reply.attr]);
        Ok(self.shown(reply.attr))
    }

    /// Learns from attributes that the MRC sent, and adds what it does not know yet.
    pub(crate) fn shown(&self, mut attr: Attr) -> Attr {
        // In this order: a file that is not in use any more was told to the engine before.
        let inode = self.inode(attr.ino);
        self.leasing().newest(self.key(attr.ino), &mut attr);
        if let Some(inode) = inode {
            inode.learn_and_show(&mut attr);
        }
        attr
    }

    /// Like [`Volume::setattr`] for a kernel: rights and times of a file that is ours to write are answered at once.
    pub(crate) async fn setattr_behind(
        &self,
        creds: &Creds,
        ino: u64,
        changes: Changes,
        stage: Option<&Arc<Stage>>,
    ) -> Result<Attr> {
        if let Some(stage) = stage {
            let kept = match self.inode(ino) {
                Some(inode) => inode.keep(creds, Setting::Attributes(&changes), stage).await,
                None => self.set_directory_early(creds, ino, stage, |attr, now, epoch| {
                    kept::keep(attr, &changes, now, epoch)
                }),
            };
            if let Some(attr) = kept {
                return Ok(attr);
            }
        }
        self.setattr(creds, ino, changes).await
    }

    /// Like [`Volume::setxattr`] of an access control list for a kernel, if it is answered at once. False: it is not.
    pub(crate) async fn set_acl_behind(
        &self,
        creds: &Creds,
        ino: u64,
        value: &[u8],
        stage: Option<&Arc<Stage>>,
    ) -> bool {
        match (stage, self.inode(ino)) {
            (Some(stage), Some(inode)) => {
                inode.keep(creds, Setting::AccessList(value), stage).await.is_some()
            }
            (Some(stage), None) => {
                let set = |attr: &Attr, now, epoch| kept::keep_plain_acl(attr, value, now, epoch);
                self.set_directory_early(creds, ino, stage, set).is_some()
            }
            _ => false,
        }
    }

    /// What was answered here is told to the MRC before it is asked about rights.
    pub(super) async fn settle(&self, ino: u64) -> Result<()> {
        match self.inode(ino) {
            Some(inode) => inode.settle().await,
            None => Ok(()),
        }
    }

    /// Changes attributes. A smaller size cuts the objects first.
    pub async fn setattr(&self, creds: &Creds, ino: u64, changes: Changes) -> Result<Attr> {
        match changes.size {
            Some(size) => {
                let inode = self.acquire(creds, ino, true).await?;
                inode.resize(creds, size, changes).await
            }
            None => {
                // Written data has a time of its own; it must not overwrite an explicit one later.
                let inode = self.inode(ino);
                if let Some(inode) = &inode {
                    inode.report().await?;
                    inode.settle().await?;
                }
                let attr = self.setattr_raw(creds, ino, changes, None).await?;
                // What waits for room is written later.
                if let Some(inode) = inode.filter(|inode| changes.mtime.is_some() && inode.is_short()) {
                    inode.mtime_set(&attr);
                }
                Ok(self.shown(attr))
            }
        }
    }

    /// `blocks`: with a size, the allocated 512-byte units after the cut when they are known.
    pub(crate) async fn setattr_raw(
        &self,
        creds: &Creds,
        ino: u64,
        changes: Changes,
        blocks: Option<u64>,
    ) -> Result<Attr> {
        self.must_be_present()?;
        let head = self.head(creds);
        let (atime, atime_now) = NewTime::parts(changes.atime);
        let (mtime, mtime_now) = NewTime::parts(changes.mtime);
        let make = |origin| SetAttrRequest {
            head,
            origin,
            ino,
            mode: changes.mode,
            uid: changes.uid,
            gid: changes.gid,
            size: changes.size,
            atime,
            mtime,
            atime_now,
            mtime_now,
            flags: changes.flags,
            btime: None,
            clear_setid: changes.clear_setid,
            blocks,
        };
        let mut changing = self.leasing().change(self.id(), vec![(ino, None)]);
        let reply = self.session().mutate::<SetAttr>(make).await?;
        changing.done(&reply.leases, &[&reply.attr], &[]);
        Ok(reply.attr)
    }

    /// Whether the acting user may read (4), write (2), execute (1).
    pub async fn access(&self, creds: &Creds, ino: u64, mask: u32) -> Result<()> {
        self.settle(ino).await?;
        let request = AccessRequest { head: self.head(creds), ino, mask };
        self.session().call::<Access>(&request).await.map(|_| ())
    }

    /// Volume totals.
    pub async fn statfs(&self, creds: &Creds, ino: u64) -> Result<StatFsReply> {
        self.session().call::<StatFs>(&InoRequest { head: self.head(creds), ino }).await
    }

    /// What lies below a directory, without a walk; of a file what it takes.
    pub async fn usage(&self, creds: &Creds, ino: u64) -> Result<UsageReply> {
        self.session().call::<Usage>(&InoRequest { head: self.head(creds), ino }).await
    }

    /// A page of the files below a directory that match a query (with numbers for users and groups).
    pub async fn find(&self, creds: &Creds, subtree: u64, query: &str, after: u64) -> Result<FindReply> {
        let (head, query) = (self.head(creds), query.to_owned());
        self.session().call::<Find>(&FindRequest { head, subtree, query, after, limit: 0 }).await
    }

    /// Where a file's objects are and who has it open.
    pub async fn layout(&self, creds: &Creds, ino: u64) -> Result<LayoutReply> {
        self.session().call::<GetLayout>(&InoRequest { head: self.head(creds), ino }).await
    }

    /// An extended attribute.
    pub async fn getxattr(&self, creds: &Creds, ino: u64, name: &[u8]) -> Result<Vec<u8>> {
        let absent = || WireError::new(Code::NoAttribute, format!("no such attribute on ino-{ino}"));
        if creds.may_use_kept()
            && let Some(kept) = self.leasing().xattr(self.key(ino), name)
        {
            return kept.ok_or_else(absent);
        }
        if creds.may_use_kept() && self.is_bare(ino) {
            return Err(absent());
        }
        self.settle(ino).await?;
        let request = GetXattrRequest { head: self.head(creds), ino, name: name.to_vec() };
        let asked = self.leasing().ask();
        let reply = self.session().call::<GetXattr>(&request).await;
        match &reply {
            Ok(reply) => asked.learn_xattr(self.key(ino), name, Some(&reply.value)),
            Err(error) if error.code == Code::NoAttribute => asked.learn_xattr(self.key(ino), name, None),
            Err(_) => {}
        }
        Ok(reply?.value)
    }

    /// Whether there is surely nothing to ask for: neither extended attributes nor access control lists.
    pub(crate) fn is_bare(&self, ino: u64) -> bool {
        self.leasing().attr(self.key(ino)).is_some_and(|attr| attr.bare)
    }

    /// Names of extended attributes.
    pub async fn listxattr(&self, creds: &Creds, ino: u64) -> Result<Vec<Vec<u8>>> {
        if creds.may_use_kept() && self.is_bare(ino) {
            return Ok(Vec::new());
        }
        self.settle(ino).await?;
        Ok(self.session().call::<ListXattr>(&InoRequest { head: self.head(creds), ino }).await?.names)
    }

    /// Sets an extended attribute; without a value removes it. Flags as in setxattr(2).
    pub async fn setxattr(
        &self,
        creds: &Creds,
        ino: u64,
        name: &[u8],
        value: Option<&[u8]>,
        flags: u32,
    ) -> Result<()> {
        self.setxattr_with(creds, ino, name, value, flags, false).await
    }

    /// Like [`Volume::setxattr`]; with `clear_setgid` an access control list takes setgid away (a kernel knows when).
    pub async fn setxattr_with(
        &self,
        creds: &Creds,
        ino: u64,
        name: &[u8],
        value: Option<&[u8]>,
        flags: u32,
        clear_setgid: bool,
    ) -> Result<()> {
        self.must_be_present()?;
        self.settle(ino).await?;
        let (head, name, value) = (self.head(creds), name.to_vec(), value.map(<[u8]>::to_vec));
        let make = |origin| SetXattrRequest { head, origin, ino, name, value, flags, clear_setgid };
        let mut changing = self.leasing().change(self.id(), vec![(ino, None)]);
        self.session().mutate::<SetXattr>(make).await?;
        changing.done(&[], &[], &[]);
        Ok(())
    }

    /// Takes, frees or tests a lock; head of `lock` is filled in. Waits at most `lock.wait_ms`.
    pub async fn lock(&self, creds: &Creds, lock: LockRequest) -> Result<LockReply> {
        self.session().lock(&LockRequest { head: self.head(creds), ..lock }).await
    }

    /// Forces acknowledged metadata to disk on a majority.
    pub async fn sync_metadata(&self, creds: &Creds) -> Result<()> {
        let session = self.session();
        session.creates().told().await;
        let asked = self.leasing().ask();
        let covering = session.forced().lock().begin(asked.ticket());
        session.call::<MetadataSync>(&SyncMetadata { head: self.head(creds) }).await?;
        session.forced().lock().done(covering);
        Ok(())
    }

    /// Forces the names of a directory, and whatever else was acknowledged, unless it is known that a sync since has done that.
    pub(crate) async fn sync_directory(&self, creds: &Creds, ino: u64) -> Result<()> {
        self.session().creates().told().await;
        let held = self.leasing().alone_since(self.key(ino)).filter(|_| creds.may_use_kept());
        if held.is_some_and(|held| self.session().forced().lock().covers(held)) {
            return Ok(());
        }
        self.sync_metadata(creds).await
    }
}
