//! Opening: from an inode to a handle with rights and a layout.

use std::sync::Arc;

use proto::mrc::{Attr, Create, CreateRequest, MakeRequest, OpenReply, OpenRequest};

use super::Volume;
use super::inode::Inode;
use crate::config::Creds;
use crate::error::Result;
use crate::file::File;

/// How to create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreateOptions {
    /// Permission bits; the umask has been applied.
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
        let request = OpenRequest { head: self.head(creds), ino, write, renew: false };
        let reply = self.session().open(&request).await?;
        Ok(self.file(creds, reply, write))
    }

    /// Creates (or, unless exclusive, opens) a file.
    pub async fn create(
        &self,
        creds: &Creds,
        parent: u64,
        name: &[u8],
        options: CreateOptions,
    ) -> Result<Created> {
        let (head, name) = (self.head(creds), name.to_vec());
        let mode = libc::S_IFREG | (options.mode & 0o7777);
        let make = |origin| CreateRequest {
            make: MakeRequest { head, origin, parent, name, mode, ..MakeRequest::default() },
            exclusive: options.exclusive,
            write: options.write,
        };
        let reply = self.session().mutate_open::<Create>(self.id(), options.write, make).await?;
        let (attr, created) = (reply.attr.clone(), reply.created);
        let file = self.file(creds, reply, options.write);
        Ok(Created { file, attr: self.shown(attr), created })
    }

    /// A handle that an earlier process of this mount opened: the leader has counted it.
    pub(crate) async fn reopen(&self, creds: &Creds, ino: u64, write: bool) -> Result<Arc<File>> {
        let inode = self.acquire(creds, ino, write).await?;
        self.session().found_open(self.id(), ino, write);
        Ok(File::new(inode, creds.clone(), write))
    }

    fn file(&self, creds: &Creds, reply: OpenReply, write: bool) -> Arc<File> {
        File::new(self.adopt(reply, write), creds.clone(), write)
    }

    /// The shared state of the file of an open answer.
    fn adopt(&self, reply: OpenReply, write: bool) -> Arc<Inode> {
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
        let request = OpenRequest { head: self.head(creds), ino, write, renew: true };
        let reply = self.session().open(&request).await?;
        Ok(self.adopt(reply, write))
    }
}
