//! Opening: from an inode to a handle with rights and a layout.

use std::sync::Arc;

use proto::mrc::{
    Attr, Create, CreateRequest, FileCredentials, MakeRequest, Open, OpenReply, OpenRequest, TmpFile, kind,
};

use super::Volume;
use super::inode::Inode;
use super::names::all_of;
use crate::config::Creds;
use crate::error::Result;
use crate::file::File;

/// A capability with less than this left is not used for opening, milliseconds.
const RIGHTS_LEFT_MS: u64 = 120_000;
/// Files whose rights are kept at most.
const RIGHTS_MAX: usize = 16_384;

/// Likewise with what is in them, where that is at the MRC: 16 MiB.
const CONTENTS_MAX: usize = 4_096;

/// The right to a file's objects, kept for opening it under a lease.
#[derive(Clone)]
pub(super) struct Rights {
    credentials: Arc<FileCredentials>,
    write: bool,
    /// Before the last expulsion they are worth nothing.
    generation: u64,
}

/// How to create.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// Permission bits, before [`Creds::umask`].
    pub mode: u32,
    /// Refuse an existing name.
    pub exclusive: bool,
    /// Open for writing.
    pub write: bool,
}

/// What a create gave.
pub struct Created {
    /// The open file.
    pub file: Arc<File>,
    /// Its attributes.
    pub attr: Attr,
    /// Whether it was made by this call.
    pub created: bool,
}

impl Volume {
    /// Opens a file.
    pub async fn open(&self, creds: &Creds, ino: u64, write: bool) -> Result<Arc<File>> {
        self.open_with(creds, ino, write, false).await
    }

    /// Opens a file; with `append` every write will go to its end (`O_APPEND`), as append-only files want it.
    pub async fn open_with(&self, creds: &Creds, ino: u64, write: bool, append: bool) -> Result<Arc<File>> {
        if self.is_past() {
            return self.open_past(creds, ino, write).await;
        }
        if let Some(file) = self.open_under_lease(creds, ino, write) {
            return Ok(file);
        }
        self.settle(ino).await?;
        let request = OpenRequest { head: self.head(creds), ino, write, renew: false, append, exact: false };
        let asked = self.leasing().ask();
        let reply = self.session().open(&request).await?;
        asked.learn(self.id(), &reply.leases, [&reply.attr]);
        Ok(self.file(creds, reply, write))
    }

    /// Opens what a snapshot shows: nobody counts the handle.
    async fn open_past(&self, creds: &Creds, ino: u64, write: bool) -> Result<Arc<File>> {
        if write {
            self.must_be_present()?;
        }
        let request =
            OpenRequest { head: self.head(creds), ino, write, renew: false, append: false, exact: false };
        let reply = self.session().call::<Open>(&request).await?;
        let file = File::new(self.adopt(reply, false), creds.clone(), false);
        file.needs_no_close();
        Ok(file)
    }

    /// Opens without a call: attributes are kept, the caller's rights were checked by its kernel, and a capability that
    /// is good for a while is there. The MRC hears of the handle when it wants the lease back.
    fn open_under_lease(&self, creds: &Creds, ino: u64, write: bool) -> Option<Arc<File>> {
        if !creds.checked {
            return None;
        }
        let _asked = self.leasing().ask();
        let attr = self.leasing().attr(self.key(ino))?;
        let plain = attr.mode >> 12 == kind::FILE && attr.nlink > 0 && !(write && attr.flags != 0);
        let now_ms = u64::try_from(self.client().now().as_millis()).unwrap_or(u64::MAX);
        let generation = self.leasing().generation();
        let rights = self.rights.lock().get(&ino).cloned().filter(|rights| {
            let fresh = rights.credentials.capability.expires_ms > now_ms + RIGHTS_LEFT_MS;
            let of = &rights.credentials;
            let same = of.capability.ino == if attr.layer == 0 { ino } else { attr.layer }
                && (!of.show_a_size() || of.truncate_epoch == attr.truncate_epoch);
            fresh && same && rights.generation == generation && (rights.write || !write)
        });
        let credentials = FileCredentials::clone(&rights.filter(|_| plain)?.credentials);
        self.session().open_untold(self.id(), ino, write);
        // A recall that came in between may have told our handles without this one. (Or with it: then it stands.)
        if self.leasing().attr(self.key(ino)).is_none() && self.session().forget_untold(self.key(ino), write)
        {
            return None;
        }
        // Nobody has said how much may be written: where quotas are known, that is asked before the first new byte.
        let room = self.has_quota().then_some(0);
        let reply = OpenReply { attr, credentials, room, ..OpenReply::default() };
        Some(File::new(self.adopt(reply, write), creds.clone(), write))
    }

    /// Keeps the rights that an answer brought.
    pub(crate) fn keep_rights(&self, reply: &OpenReply, write: bool) {
        if !self.leasing().is_on() {
            return;
        }
        let generation = self.leasing().generation();
        let mut rights = self.rights.lock();
        if rights.len() >= RIGHTS_MAX {
            rights.clear();
        }
        let mut credentials = reply.credentials.clone();
        if rights.len() >= CONTENTS_MAX {
            // It is asked for when it is read.
            credentials.content.clear();
        }
        let now = Rights { credentials: Arc::new(credentials), write, generation };
        let better = rights.get(&reply.attr.ino).is_some_and(|kept| {
            kept.generation == generation
                && kept.write
                && !write
                && kept.credentials.layout == now.credentials.layout
                && kept.credentials.capability.ino == now.credentials.capability.ino
                && kept.credentials.truncate_epoch == now.credentials.truncate_epoch
        });
        if !better {
            rights.insert(reply.attr.ino, now);
        }
    }

    /// Creates (or, unless exclusive, opens) a file.
    pub async fn create(
        &self,
        creds: &Creds,
        parent: u64,
        name: &[u8],
        options: CreateOptions,
    ) -> Result<Created> {
        self.create_with(creds, parent, name, options, false).await
    }

    /// Like [`Volume::create`]; with `append` every write will go to the end (`O_APPEND`).
    pub async fn create_with(
        &self,
        creds: &Creds,
        parent: u64,
        name: &[u8],
        options: CreateOptions,
        append: bool,
    ) -> Result<Created> {
        self.must_be_present()?;
        let (head, name) = (self.head(creds), name.to_vec());
        let entry = name.clone();
        let mode = libc::S_IFREG | (options.mode & 0o7777);
        let make = |origin| CreateRequest {
            make: MakeRequest {
                head,
                origin,
                parent,
                name,
                mode,
                umask: creds.umask,
                ..MakeRequest::default()
            },
            exclusive: options.exclusive,
            write: options.write,
            append,
        };
        let mut changing = self.leasing().change(self.id(), vec![(parent, Some(entry))]);
        let reply = self.session().mutate_open::<Create>(self.id(), options.write, make).await?;
        changing.done(&reply.leases, &all_of(&reply.attr, &reply.changed), &[Some(reply.attr.ino)]);
        let (attr, created) = (reply.attr.clone(), reply.created);
        let file = self.file(creds, reply, options.write);
        Ok(Created { file, attr: self.shown(attr), created })
    }

    /// Creates a file without a name in a directory (`O_TMPFILE`): it is gone with its last close unless
    /// [`Volume::link`] gave it a name, which `exclusive` forbids.
    pub async fn tmpfile(&self, creds: &Creds, parent: u64, options: CreateOptions) -> Result<Created> {
        self.must_be_present()?;
        let head = self.head(creds);
        let mode = libc::S_IFREG | (options.mode & 0o7777);
        let make = |origin| CreateRequest {
            make: MakeRequest { head, origin, parent, mode, umask: creds.umask, ..MakeRequest::default() },
            exclusive: options.exclusive,
            write: options.write,
            append: false,
        };
        let reply = self.session().mutate_open::<TmpFile>(self.id(), options.write, make).await?;
        let attr = reply.attr.clone();
        let file = self.file(creds, reply, options.write);
        Ok(Created { file, attr: self.shown(attr), created: true })
    }

    /// A handle that an earlier process of this mount opened: the leader has counted it.
    pub(crate) async fn reopen(&self, creds: &Creds, ino: u64, write: bool) -> Result<Arc<File>> {
        let inode = self.acquire(creds, ino, write).await?;
        self.session().found_open(self.id(), ino, write);
        let file = File::new(inode, creds.clone(), write);
        // How it was opened nobody knows any more.
        file.write_at_once();
        Ok(file)
    }

    fn file(&self, creds: &Creds, reply: OpenReply, write: bool) -> Arc<File> {
        self.keep_rights(&reply, write);
        File::new(self.adopt(reply, write), creds.clone(), write)
    }

    /// The shared state of the file of an open answer.
    fn adopt(&self, reply: OpenReply, write: bool) -> Arc<Inode> {
        let mut attr = reply.attr.clone();
        let inode = self.adopt_answer(reply, write);
        // After it is in use: what is told from here on it hears itself.
        self.leasing().newest(self.key(attr.ino), &mut attr);
        inode.learn(&attr);
        inode
    }

    fn adopt_answer(&self, reply: OpenReply, write: bool) -> Arc<Inode> {
        let mut inodes = self.inodes.lock();
        if let Some(inode) = inodes.get(&reply.attr.ino).and_then(std::sync::Weak::upgrade) {
            drop(inodes);
            inode.adopt(reply, write);
            return inode;
        }
        let ino = reply.attr.ino;
        let inode = Inode::new(self.arc(), reply, write);
        inodes.insert(ino, Arc::downgrade(&inode));
        inode
    }

    /// Rights to a file's data without a handle (truncate by name, recovery of a mount's handles).
    pub(crate) async fn acquire(&self, creds: &Creds, ino: u64, write: bool) -> Result<Arc<Inode>> {
        if let Some(inode) = self.inode(ino)
            && (!write || inode.may_write())
        {
            return Ok(inode);
        }
        let request =
            OpenRequest { head: self.head(creds), ino, write, renew: true, append: false, exact: false };
        let asked = self.leasing().ask();
        let reply = self.session().open(&request).await?;
        asked.learn(self.id(), &reply.leases, [&reply.attr]);
        Ok(self.adopt(reply, write))
    }
}
