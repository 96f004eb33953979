//! Data of files: open, create, read, write, flush, release, sync, space.

use std::sync::Arc;

use bytes::Bytes;
use proto::mrc::{Attr, LEASE_ATTR, LEASE_READ, LEASE_WRITE};

use super::door::Shared;
use super::inside;
use super::kernel::abi::fopen;
use super::kernel::answer::Opened;
use super::kernel::operation::Writing;
use super::kernel::operation::{Create, Place};
use crate::config::Creds;
use crate::error::{Code, Error, Result};
use crate::file::File;
use crate::parked;
use crate::volume::attrs::Changes;
use crate::volume::open::CreateOptions;
use crate::volume::snapshots::split_ino;

/// What to create.
pub(super) struct NewFile {
    pub(super) parent: u64,
    pub(super) name: Vec<u8>,
    pub(super) mode: u32,
    pub(super) flags: i32,
    pub(super) clear_setid: bool,
}

impl NewFile {
    pub(super) fn of(parent: u64, what: &Create<'_>) -> Self {
        Self {
            parent,
            name: what.name.to_vec(),
            mode: what.mode,
            flags: what.flags,
            clear_setid: what.clear_setid,
        }
    }
}

/// `fallocate` modes that are understood.
const KEEP_SIZE: i32 = libc::FALLOC_FL_KEEP_SIZE;
const PUNCH_HOLE: i32 = libc::FALLOC_FL_PUNCH_HOLE;
const ZERO_RANGE: i32 = libc::FALLOC_FL_ZERO_RANGE;

/// Bytes that one copy_file_range(2) copies at most.
const COPY_MAX: u64 = 64 << 20;
/// A copy of a whole file of this size or more shares its content.
const SHARED_MIN: u64 = 16 << 20;

fn wants_write(flags: i32) -> bool {
    flags & libc::O_ACCMODE != libc::O_RDONLY
}

/// Whether writes go to the end.
fn appends(flags: i32) -> bool {
    wants_write(flags) && flags & libc::O_APPEND != 0
}

impl Shared {
    pub(super) async fn open(&self, creds: Creds, ino: u64, flags: i32, clear_setid: bool) -> Result<Opened> {
        if inside::is_inside(ino) {
            let handle = self.texts.keep(inside::text(self, ino, &creds)?);
            return Ok(Opened { handle, flags: fopen::DIRECT_IO });
        }
        let append = flags & libc::O_APPEND != 0;
        let leased = self.has_data_lease(ino);
        let file = self.volume.open_with(&creds, ino, wants_write(flags), append).await?;
        if flags & libc::O_TRUNC != 0 {
            let changes = Changes { clear_setid, ..Changes::default() };
            file.inode().resize(&creds, 0, changes).await?;
        }
        Ok(self.opened(file, flags, leased))
    }

    /// Whether the kernel's pages of this inode are under a lease, with which they would have gone.
    fn has_data_lease(&self, ino: u64) -> bool {
        self.volume.leasing().bits((self.volume.id(), ino)) & (LEASE_READ | LEASE_WRITE) != 0
    }

    /// Whether nobody else changes this inode at the moment: then attributes are leased.
    fn is_quiet(&self, ino: u64) -> bool {
        self.volume.leasing().bits((self.volume.id(), ino)) & (LEASE_ATTR | LEASE_WRITE) != 0
    }

    /// Gives the attributes, and whether the file was made by this call.
    pub(super) async fn create(&self, creds: Creds, new: NewFile) -> Result<(Attr, bool, Opened)> {
        let exclusive = new.flags & libc::O_EXCL != 0;
        // A new file is writable by its maker whatever its mode; a capability for it costs nothing.
        let options = CreateOptions { mode: new.mode, exclusive, write: wants_write(new.flags) };
        let append = new.flags & libc::O_APPEND != 0;
        let made = {
            let (place, stage) = ((new.parent, &new.name[..]), self.stage.as_ref());
            self.volume.create_behind(&creds, place, options, append, stage).await?
        };
        let attr = if !made.created && new.flags & libc::O_TRUNC != 0 {
            let changes = Changes { clear_setid: new.clear_setid, ..Changes::default() };
            made.file.inode().resize(&creds, 0, changes).await?
        } else {
            made.attr
        };
        if made.created {
            self.volume.leasing().made((self.volume.id(), attr.ino));
            if self.resumed {
                self.handles.made(attr.ino);
            }
        }
        Ok((attr, made.created, self.opened(made.file, new.flags, false)))
    }

    pub(super) async fn tmpfile(&self, creds: Creds, new: NewFile) -> Result<(Attr, Opened)> {
        let exclusive = new.flags & libc::O_EXCL != 0;
        let options = CreateOptions { mode: new.mode, exclusive, write: true };
        let made = self.volume.tmpfile(&creds, new.parent, options).await?;
        Ok((made.attr, self.opened(made.file, new.flags, false)))
    }

    /// `leased`: its pages were under a lease already.
    fn opened(&self, file: Arc<File>, flags: i32, leased: bool) -> Opened {
        if flags & (libc::O_DSYNC | libc::O_DIRECT) != 0 {
            file.write_at_once();
        }
        let keep = leased || self.handles.is_unchanged(file.ino(), file.inode().change());
        let mut told = if keep { fopen::KEEP_CACHE } else { 0 };
        let written = wants_write(flags)
            || self.volume.session().writers(self.volume.id(), file.ino()) > file.inode().leaving();
        let shared = self.direct_mmap && (written || !self.is_quiet(file.ino()));
        if self.volume.leasing().is_on() && (shared || appends(flags)) {
            // A kernel shows what is written to its pages before we hear of it and have the lease (and an append goes
            // elsewhere than it believes); and it reads no further than the size that it believes, for which it drops
            // our newest answer when pages were dropped meanwhile. What several clients use at once it must not keep.
            told |= fopen::DIRECT_IO;
        }
        Opened { handle: self.handles.insert(file), flags: told }
    }

    pub(super) async fn read(
        &self,
        creds: Creds,
        ino: u64,
        handle: u64,
        offset: u64,
        len: u32,
        flags: i32,
    ) -> Result<Bytes> {
        if inside::is_inside(ino) {
            // A handle of an earlier process of this mount is not known here.
            let text = match self.texts.get(handle) {
                Some(text) => text,
                None => Bytes::from(inside::text(self, ino, &creds)?),
            };
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
            return Ok(text.slice(from..(from + len as usize).min(text.len())));
        }
        let file = self.file(&creds, ino, handle).await?;
        let len = len as usize;
        // The kernel has just asked for the size, except before direct reads.
        let sized = flags & libc::O_DIRECT == 0 && !self.volume.leasing().is_on();
        let data = file.read_for_kernel(offset, len, sized).await?;
        self.record.bytes(data.len() as u64, 0);
        Ok(data)
    }

    #[allow(clippy::too_many_arguments, reason = "what the kernel says about a write")]
    pub(super) async fn write(
        &self,
        creds: Creds,
        ino: u64,
        handle: u64,
        offset: u64,
        data: Bytes,
        flags: i32,
        how: Writing,
    ) -> Result<u32> {
        let file = self.file(&creds, ino, handle).await?;
        let len = u32::try_from(data.len()).expect("bounded by max_write");
        let sync = flags & (libc::O_SYNC | libc::O_DSYNC) != 0;
        let clear_setid = how.clear_setid;
        // Who asks for the device, or must be asked for rights, waits for the OSDs.
        let at_once = sync || clear_setid || flags & libc::O_DIRECT != 0;
        let behind = self.stage.as_ref().filter(|_| !at_once);
        if how.from_cache {
            file.write_back_for_kernel(offset, data).await?;
        } else if how.resent && appends(flags) && self.was_appended(&file, offset, &data).await? {
            tracing::debug!(ino, offset, "an append was done before the process died that it was sent to");
        } else if appends(flags) && self.volume.leasing().is_on() {
            let at = match behind {
                Some(stage) => file.append_behind(stage, data).await?,
                None => file.append_with(data, sync, clear_setid).await?,
            };
            if at != offset {
                self.forget_misplaced(ino);
            }
        } else if let Some(stage) = behind {
            file.write_behind(stage, offset, data).await?;
        } else {
            file.write_for_kernel(offset, data, sync, clear_setid).await?;
        }
        self.record.bytes(0, u64::from(len));
        Ok(len)
    }

    /// Whether what is to be appended stands where the kernel believed the end when it first asked.
    async fn was_appended(&self, file: &File, offset: u64, data: &Bytes) -> Result<bool> {
        Ok(file.read_for_kernel(offset, data.len(), false).await? == *data)
    }

    /// A handle that became one for appending after it was opened (`F_SETFL`): the kernel has put what was appended
    /// into its pages where it believed the end.
    fn forget_misplaced(&self, ino: u64) {
        let kernel = self.volume.kernel();
        self.volume.runtime().spawn_blocking(move || kernel.forget_pages(ino, 0, 0));
    }

    /// `close(2)` of one descriptor.
    pub(super) async fn flush(&self, creds: Creds, ino: u64, handle: u64, owner: u64) -> Result<()> {
        if inside::is_inside(ino) {
            return Ok(());
        }
        self.unlock_all(&creds, ino, owner, false).await?;
        self.handles.owner_closed(ino, owner);
        // A handle of an earlier process is re-opened even for this: its size may be unreported.
        self.file(&creds, ino, handle).await?.flush_behind(self.stage.as_ref()).await
    }

    /// The last descriptor is closed.
    pub(super) async fn release(
        self: &Arc<Self>,
        creds: Creds,
        ino: u64,
        handle: u64,
        flock: Option<u64>,
    ) -> Result<()> {
        if inside::is_inside(ino) {
            self.texts.forget(handle);
            return Ok(());
        }
        if let Some(owner) = flock {
            self.unlock_all(&creds, ino, owner, true).await?;
        }
        for owner in self.handles.locked_through(handle) {
            self.unlock_all(&creds, ino, owner, false).await?;
        }
        let file = self.file(&creds, ino, handle).await?;
        self.handles.remove(handle);
        let (shared, lands) = (self.clone(), file.lands_behind());
        let close = async move {
            let closed = file.close_behind().await;
            shared.handles.saw(ino, file.inode().change());
            if shared.resumed {
                shared.leave(&creds, ino).await;
            }
            closed
        };
        if !lands {
            return close.await;
        }
        // The kernel lets only so many of its requests of this kind wait for their answers, and nobody waits for this one.
        parked::begin(self.volume.runtime(), async move {
            if let Err(error) = close.await {
                tracing::warn!(ino, %error, "a file was not closed as it should be");
            }
        });
        Ok(())
    }

    pub(super) async fn fsync(&self, creds: Creds, ino: u64, handle: u64, data_only: bool) -> Result<()> {
        if inside::is_inside(ino) {
            return Ok(());
        }
        let file = self.file(&creds, ino, handle).await?;
        if data_only { file.fdatasync().await } else { file.fsync().await }
    }

    pub(super) async fn fallocate(
        &self,
        creds: Creds,
        ino: u64,
        handle: u64,
        offset: u64,
        len: u64,
        mode: i32,
    ) -> Result<()> {
        let file = self.file(&creds, ino, handle).await?;
        let keep_size = mode & KEEP_SIZE != 0;
        match mode & !KEEP_SIZE {
            0 => file.allocate(offset, len, keep_size).await,
            PUNCH_HOLE if keep_size => file.punch(offset, len).await,
            ZERO_RANGE => file.zero(offset, len, keep_size).await,
            other => Err(Error::new(
                Code::NotSupported,
                format!("fallocate mode {other:#x} is not supported on ino-{ino}"),
            )),
        }
    }

    /// The place of the next data or hole; `None` when there is none (`ENXIO`).
    pub(super) async fn lseek(
        &self,
        creds: Creds,
        ino: u64,
        handle: u64,
        offset: i64,
        whence: i32,
    ) -> Result<Option<u64>> {
        let file = self.file(&creds, ino, handle).await?;
        let Ok(from) = u64::try_from(offset) else { return Ok(None) };
        let found = match whence {
            libc::SEEK_DATA => file.seek_data(from).await?,
            libc::SEEK_HOLE => file.seek_hole(from).await?,
            other => return Err(Error::new(Code::InvalidArgument, format!("lseek whence {other}"))),
        };
        Ok(found.filter(|at| i64::try_from(*at).is_ok()))
    }

    /// Copies at most what one call may; the caller asks again for the rest.
    pub(super) async fn copy(&self, creds: Creds, from: Place, to: Place, len: u64) -> Result<u64> {
        let source = self.file(&creds, from.ino, from.handle).await?;
        let target = self.file(&creds, to.ino, to.handle).await?;
        if from.offset == 0
            && to.offset == 0
            && len >= SHARED_MIN
            && let Some(shared) = self.copy_shared(&creds, (&source, from.ino), &target, len).await?
        {
            return Ok(shared);
        }
        // The kernel has taken setuid away before it asks.
        let stage = self.stage.as_ref().filter(|_| !target.writes_at_once());
        target.copy_behind(&source, (from.offset, to.offset, len.min(COPY_MAX)), stage).await
    }

    /// A whole large file into an empty one that would get as many stripes and replicas: they share what they hold until one
    /// of them is written. `None`: it has to be copied.
    async fn copy_shared(
        &self,
        creds: &Creds,
        (source, shown): (&File, u64),
        target: &File,
        len: u64,
    ) -> Result<Option<u64>> {
        let shape = |file: &File| {
            let layout = file.inode().credentials().layout.clone();
            let replicas: Vec<usize> = layout.columns.iter().map(|column| column.osds.len()).collect();
            (layout.stripe_bytes, layout.replication, replicas)
        };
        let size = source.attr().await?.size;
        let whole = (SHARED_MIN..=len).contains(&size) && target.attr().await?.size == 0;
        if !whole || shape(source) != shape(target) {
            return Ok(None);
        }
        let (snapshot, ino) = split_ino(shown);
        match self.volume.clone_data(creds, (ino, snapshot), target.ino()).await {
            Ok(_) => Ok(Some(size)),
            // Who holds a file open may write it, whatever its mode says by now.
            Err(error) => {
                tracing::debug!(ino, to = target.ino(), %error, "copying what could not be shared");
                Ok(None)
            }
        }
    }
}
